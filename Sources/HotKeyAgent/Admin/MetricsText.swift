import HotKeyDetection
import HotKeyMitigation
import HotKeyRegistry
import RedisProxy

/// Writes metrics in Prometheus' text format 0.0.4. Keys are never labels: there may be 10,000 of them, and they may be secret.
struct MetricsText {
    private(set) var text = ""

    mutating func counter(_ name: String, _ help: String, _ value: UInt64) {
        header(name, "counter", help)
        text += "\(name) \(value)\n"
    }

    mutating func gauge(_ name: String, _ help: String, _ value: some Numeric) {
        header(name, "gauge", help)
        text += "\(name) \(value)\n"
    }

    /// One line for each label value.
    mutating func labelled(
        _ name: String, _ type: String, _ help: String, label: String, _ values: [(label: String, value: UInt64)]
    ) {
        header(name, type, help)
        for (value, number) in values { text += "\(name){\(label)=\"\(Self.escaped(value))\"} \(number)\n" }
    }

    /// Durations in seconds.
    mutating func histogram(
        _ name: String, _ help: String, label: String, _ values: [(label: String, histogram: LatencyHistogram)]
    ) {
        header(name, "histogram", help)
        for (value, histogram) in values {
            let labelled = "\(label)=\"\(Self.escaped(value))\""
            var total: UInt64 = 0
            for bucket in 0..<LatencyHistogram.bucketCount {
                total += histogram.counts[bucket]
                let bound =
                    bucket == LatencyHistogram.bucketCount - 1
                    ? "+Inf" : "\(Double(LatencyHistogram.upperBoundNanoseconds(bucket)) / 1e9)"
                text += "\(name)_bucket{\(labelled),le=\"\(bound)\"} \(total)\n"
            }
            text += "\(name)_sum{\(labelled)} \(Double(histogram.sumNanoseconds) / 1e9)\n"
            text += "\(name)_count{\(labelled)} \(total)\n"
        }
    }

    /// Seconds, without a label.
    /// - Parameter boundsNanoseconds: of the buckets but the last; `counts` has one more.
    mutating func histogram(
        _ name: String, _ help: String, boundsNanoseconds: [UInt64], counts: [UInt64], sumNanoseconds: UInt64
    ) {
        header(name, "histogram", help)
        var total: UInt64 = 0
        for (bucket, count) in counts.enumerated() {
            total += count
            let bound = bucket < boundsNanoseconds.count ? "\(Double(boundsNanoseconds[bucket]) / 1e9)" : "+Inf"
            text += "\(name)_bucket{le=\"\(bound)\"} \(total)\n"
        }
        text += "\(name)_sum \(Double(sumNanoseconds) / 1e9)\n\(name)_count \(total)\n"
    }

    private mutating func header(_ name: String, _ type: String, _ help: String) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
    }

    private static func escaped(_ value: String) -> String {
        var escaped = ""
        // By scalars: as a `Character`, CR LF is one that is not equal to a line feed.
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\\": escaped += "\\\\"
            case "\"": escaped += "\\\""
            case "\n": escaped += "\\n"
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }
}

extension AgentView {
    func metricsText() async throws -> String {
        let statistics = try await proxy.statistics()
        let applied = acting.current
        let registry = subscriber.current
        var metrics = MetricsText()
        metrics.counter("hotkey_requests_total", "Commands of clients.", statistics.requests)
        metrics.counter(
            "hotkey_protocol_errors_total", "Connections ended for malformed input.", statistics.protocolErrors)
        metrics.counter("hotkey_local_hits_total", "Reads answered from the local cache.", statistics.localHits)
        metrics.counter(
            "hotkey_local_missing_hits_total", "Of these, answers that there is no value.", statistics.localMissingHits)
        metrics.counter("hotkey_fill_waits_total", "Reads that waited for another's fill.", statistics.fillWaits)
        metrics.counter("hotkey_copy_reads_total", "Reads of hot keys answered by a copy.", statistics.copyReads)
        metrics.counter(
            "hotkey_replica_reads_total", "Reads of hot keys answered by a replica of a Redis Cluster.",
            statistics.replicaReads)
        metrics.counter("hotkey_copy_misses_total", "Copies that had no value when read.", statistics.copyMisses)
        metrics.counter("hotkey_copy_fills_total", "Values stored in copies.", statistics.copyFills)
        metrics.counter(
            "hotkey_copies_removed_total", "Copies deleted because nobody reads them any more.",
            statistics.copiesRemoved)
        metrics.counter("hotkey_home_reads_total", "Reads of hot keys sent to their home.", statistics.hotHomeReads)
        metrics.counter(
            "hotkey_observed_hot_reads_total", "Reads of hot keys while the fleet only observes.",
            statistics.observedHotReads)
        metrics.labelled(
            "hotkey_observed_savings_total", "counter",
            "Of these, the reads that acting would have kept from their home, by what.", label: "by",
            [("local", statistics.observedLocalSavings), ("copy", statistics.observedCopySavings)])
        metrics.counter(
            "hotkey_stale_answers_total", "Reads answered with the last known value, the home being down.",
            statistics.staleAnswers)
        append(misses: statistics, to: &metrics)
        metrics.counter(
            "hotkey_hot_writes_total", "Writes that invalidated local values and copies.", statistics.hotWrites)
        metrics.counter(
            "hotkey_tombstone_failures_total", "Copies that could not be invalidated and were set aside.",
            statistics.tombstoneFailures)
        metrics.counter(
            "hotkey_breaker_rejections_total", "Commands refused because a node is down.", statistics.breakerRejections)
        metrics.counter(
            "hotkey_cluster_resends_total",
            "Commands sent again: redirected by a Redis Cluster, or while it failed over.",
            statistics.clusterResends)
        metrics.gauge("hotkey_clients", "Connected clients.", statistics.clientsConnected)
        metrics.counter("hotkey_clients_accepted_total", "Clients accepted.", statistics.clientsAccepted)
        metrics.counter(
            "hotkey_clients_refused_total", "Clients refused, too many being connected.", statistics.clientsRefused)
        metrics.counter(
            "hotkey_authentication_failures_total", "Passwords of clients and peers that were not accepted.",
            statistics.authenticationFailures)
        metrics.counter(
            "hotkey_commands_denied_total", "Commands that the configuration denies.", statistics.commandsDenied)
        metrics.gauge(
            "hotkey_security_files_refused", "Files of certificates or passwords that changed and cannot be used.",
            security.problems.count)
        metrics.gauge("hotkey_cache_bytes", "Bytes in the local cache.", statistics.cacheBytes)
        metrics.gauge("hotkey_cache_entries", "Replies in the local cache.", statistics.cacheEntries)
        let counted = reports.totals
        metrics.counter("hotkey_key_reads_total", "Reads counted, by key and request.", counted.reads)
        metrics.counter("hotkey_key_writes_total", "Writes counted, by key and request.", counted.writes)
        metrics.counter(
            "hotkey_key_misses_total", "Reads of one key whose reply said that there is no value.", counted.misses)
        metrics.gauge("hotkey_hot_keys", "Keys this agent acts on.", applied.plan.keys.count)
        metrics.labelled(
            "hotkey_hot_keys_by_kind", "gauge", "Keys this agent acts on, by what makes them hot.", label: "kind",
            HotKind.allCases.map { kind in
                (kind.rawValue, UInt64(applied.plan.keys.values.count { $0.kind == kind }))
            })
        metrics.gauge(
            "hotkey_local_hot_keys", "Keys hot by this agent's own traffic alone.", acting.localHotKeyCount)
        metrics.gauge(
            "hotkey_standalone", "Whether this agent runs by itself, without ZooKeeper.",
            configuration.standalone ? 1 : 0)
        append(statistics.tracking, to: &metrics)
        append(statistics.staleness, to: &metrics)
        appendNodes(statistics.nodes, to: &metrics)
        appendRegistry(registry, applied, to: &metrics)
        appendCoordinator(to: &metrics)
        return metrics.text
    }

    private func append(_ tracking: TrackingStatistics, to metrics: inout MetricsText) {
        metrics.gauge(
            "hotkey_tracking_connections", "Cache nodes that tell this agent of changes of hot keys.",
            tracking.connections)
        metrics.counter(
            "hotkey_tracking_invalidations_total", "Messages of nodes that hot keys have changed.",
            tracking.invalidations)
        metrics.labelled(
            "hotkey_tracking_flushes_total", "counter",
            "Times that all local values of a node were dropped, because nobody would have told of changes.",
            label: "cause", TrackingFlush.allCases.map { ($0.rawValue, tracking.flushes[$0] ?? 0) })
        metrics.labelled(
            "hotkey_fills_total", "counter", "Reads for the local cache, by whether the node tells of changes.",
            label: "tracked", [("yes", tracking.fillsTracked), ("no", tracking.fillsUntracked)])
    }

    private func append(misses statistics: ProxyStatistics, to metrics: inout MetricsText) {
        metrics.counter(
            "hotkey_misses_held_total",
            "Reads of hot keys held because the value was gone and another read was told so.",
            statistics.missesHeld)
        metrics.counter(
            "hotkey_miss_turns_total", "Reads of hot keys told that the value is gone, one an interval.",
            statistics.missTurns)
        metrics.counter(
            "hotkey_misses_let_go_total",
            "Reads that were held and let go without a value: their time was over, or their client did something else.",
            statistics.missesLetGo)
        metrics.counter(
            "hotkey_observed_misses_held_total", "Reads that acting would have held, while the fleet only observes.",
            statistics.observedMissesHeld)
    }

    private func append(_ staleness: ObservedStaleness, to metrics: inout MetricsText) {
        metrics.histogram(
            "hotkey_observed_staleness_seconds",
            "Local hits compared with home, by how long the value served can have been out of date at most: 0 where home had "
                + "the same, else the time since it was last known to be home's.",
            boundsNanoseconds: ObservedStaleness.boundsNanoseconds, counts: staleness.counts,
            sumNanoseconds: staleness.sumNanoseconds)
        metrics.gauge(
            "hotkey_observed_staleness_worst_seconds", "The most of these since the start.",
            Double(staleness.worstNanoseconds) / 1e9)
        metrics.counter(
            "hotkey_staleness_differing_total",
            "Local hits whose comparison found another value at home, changes between the two included.",
            staleness.differing)
        metrics.counter(
            "hotkey_staleness_violations_total",
            "Of these, values that were older than the key's staleness cap when they were served.", staleness.violations
        )
        metrics.counter(
            "hotkey_staleness_unanswered_total", "Comparisons that home did not answer.", staleness.unanswered)
    }

    private func appendNodes(_ nodes: [NodeStatistics], to metrics: inout MetricsText) {
        func each(_ value: (NodeStatistics) -> UInt64) -> [(label: String, value: UInt64)] {
            nodes.map { ($0.node.name, value($0)) }
        }
        metrics.labelled(
            "hotkey_node_requests_total", "counter", "Commands sent to a node.", label: "node", each { $0.requests })
        metrics.labelled(
            "hotkey_node_failures_total", "counter", "Commands a node did not answer.", label: "node",
            each { $0.failures })
        metrics.labelled(
            "hotkey_node_timeouts_total", "counter", "Of these, for lateness.", label: "node", each { $0.timeouts })
        metrics.labelled(
            "hotkey_node_in_flight", "gauge", "Commands under way.", label: "node", each { UInt64($0.inFlight) })
        metrics.labelled(
            "hotkey_breaker_state", "gauge", "0 closed, 1 half-open, 2 open.", label: "node",
            each { UInt64($0.breaker.rawValue) })
        metrics.labelled(
            "hotkey_node_tracking", "gauge", "Whether a node tells this agent of changes of hot keys.", label: "node",
            each { $0.tracking == .on ? 1 : 0 })
        let refusing = Set(proxy.upstreamProblems.map(\.node))
        metrics.labelled(
            "hotkey_node_refusing", "gauge", "Whether a node does not let the agent in: TLS, or its login.",
            label: "node", each { refusing.contains($0.node.name) ? 1 : 0 })
        metrics.histogram(
            "hotkey_upstream_latency_seconds", "From sending a command to a node to its reply.", label: "node",
            nodes.map { ($0.node.name, $0.latency) })
    }

    private func appendRegistry(
        _ registry: RegistrySnapshot, _ applied: ActingService.Applied, to metrics: inout MetricsText
    ) {
        let state: Int =
            switch registry.view {
            case .none: 0
            case .stale: 1
            case .fresh: 2
            }
        metrics.gauge("hotkey_view_state", "0 none, 1 stale, 2 fresh.", state)
        metrics.gauge(
            "hotkey_view_age_seconds", "How long ago the registry was last known to say what is applied.",
            Double(registry.ageMilliseconds() ?? 0) / 1000)
        metrics.gauge(
            "hotkey_detection_external", "Whether no agent decides what is hot.", registry.isDetectionExternal ? 1 : 0)
        metrics.gauge("hotkey_hot_epoch", "Epoch of the hot set applied.", applied.registry.position?.epoch ?? 0)
        metrics.gauge("hotkey_hot_version", "Version of the hot set applied.", applied.registry.position?.version ?? 0)
        let counted = subscriber.metrics
        metrics.counter("hotkey_watch_events_total", "Watches that fired.", UInt64(counted.watchEvents))
        metrics.counter(
            "hotkey_registry_full_reads_total", "Times everything was read again.", UInt64(counted.fullReads))
        metrics.counter(
            "hotkey_registry_failed_reads_total", "Reads of the registry that failed.", UInt64(counted.failedReads))
        metrics.counter(
            "hotkey_registry_watches_healed_total", "Changes that no watch had told of, found by reading again.",
            UInt64(counted.watchesHealed))
        metrics.gauge(
            "hotkey_clock_lead_seconds", "How far this host's clock is ahead of the ensemble's.",
            Double(acting.clock.hostLeadMilliseconds ?? 0) / 1000)
        metrics.counter(
            "hotkey_documents_refused_total", "Documents of the registry that were not valid.",
            UInt64(counted.documentsRefused))
        metrics.counter(
            "hotkey_backward_refused_total", "Publications older than the one applied.", UInt64(counted.backwardRefused)
        )
        metrics.counter("hotkey_reports_total", "Report frames made.", reports.lastSequence)
    }

    private func appendCoordinator(to metrics: inout MetricsText) {
        let coordinator = coordinator?.metrics ?? CoordinatorService.Metrics()
        metrics.gauge("hotkey_leader", "Whether this agent coordinates.", coordinator.isLeader ? 1 : 0)
        metrics.gauge("hotkey_agents_pulled", "Agents whose reports this one pulls.", coordinator.agentsPulled)
        metrics.gauge(
            "hotkey_agents_duplicate", "Of these, agents that answer as another one and are not counted again.",
            coordinator.agentsDuplicate)
        metrics.counter("hotkey_frames_merged_total", "Report frames merged.", UInt64(coordinator.framesMerged))
        metrics.counter(
            "hotkey_frames_missing_total", "Report frames that never came.", UInt64(coordinator.framesMissing))
        metrics.counter("hotkey_pull_failures_total", "Pulls that failed.", UInt64(coordinator.pullFailures))
        metrics.gauge(
            "hotkey_publications", "Publications in this leadership.", coordinator.publications)
        metrics.counter(
            "hotkey_changes_refused_total", "Changes that could not be published when they were decided.",
            UInt64(coordinator.changesRefused))
        metrics.gauge(
            "hotkey_keys_waiting", "Keys whose latest change is not published because there is no room.",
            coordinator.keysWaiting)
        metrics.gauge("hotkey_sources", "Documents of other sources that are in force.", coordinator.sources)
        metrics.gauge("hotkey_source_candidates", "Candidates in them.", coordinator.sourceCandidates)
        metrics.labelled(
            "hotkey_copy_keys", "gauge", "Keys that have copies on other nodes, by the copies' state.", label: "state",
            CopyLifecycle.State.allCases.map { ($0.rawValue, UInt64(coordinator.copyKeys[$0] ?? 0)) })
        metrics.labelled(
            "hotkey_node_capacity", "gauge",
            "Commands a second that a node can carry, where rules ask for it and it is known.",
            label: "node", coordinator.nodeCapacities)
    }

    /// What does not keep this agent from serving, and is to be known all the same.
    var readinessWarnings: [String] {
        let registry = subscriber.current
        var warnings = registry.isDetectionExternal ? [ActingService.externalDetectionWarning] : []
        if registry.isInitialised == false, acting.current.hasTopology {
            warnings.append(
                "the registry has no app '\(configuration.app)' any more: what was known stays in force, and nothing new is heard; "
                    + "run hkctl init or hkctl import")
        }
        for (node, problem) in proxy.upstreamProblems { warnings.append("cache node \(node): \(problem)") }
        for problem in security.problems { warnings.append("what was in use before stays in use: \(problem)") }
        return warnings
    }

    /// Why this agent is not ready; empty when it is.
    func unreadiness(isDraining: Bool) -> [String] {
        var reasons: [String] = []
        let applied = acting.current
        if isDraining { reasons.append("the agent is shutting down") }
        if !applied.hasTopology {
            let registry = subscriber.current
            if registry.isInitialised == false {
                reasons.append("the registry has no app '\(configuration.app)': run hkctl init")
            } else if let refusal = presence.refusal {
                reasons.append(
                    "\(refusal.message). The agent needs the role agent: "
                        + (configuration.zookeeper.credentials.map {
                            "it authenticates as \($0.user) (\($0.source))"
                        } ?? "it does not authenticate (set zookeeper.digestFile or \(DigestLogin.variable))"))
            } else if registry.view == .none {
                reasons.append(
                    "nothing is known of the registry: ZooKeeper \(configuration.zookeeper.connectString) has not been reached "
                        + "and the state directory holds no view")
            } else if registry.topology == nil {
                reasons.append("the registry has no topology for app '\(configuration.app)': run hkctl init")
            } else {
                reasons.append("the topology cannot be used: \(applied.problem ?? "not applied yet")")
            }
        }
        return reasons
    }
}
