import HotKeyPeer
import HotKeyTestSupport
import Testing

extension EndToEnd.OnAFleet {
    /// The agent's HTTP side, and what it says before it can serve.
    @Suite struct Admin {
        @Test func metricsAreWhatPrometheusReadsAndNameNoKey() async throws {
            let fleet = try await sharedFleet()
            let key = "warm:metrics"
            let agent = fleet.agents[0]
            try await agent.client().command("SET", key, "value")
            let load = Load.reading(key, expecting: "value", ports: fleet.appPorts, batch: 5, pauseMilliseconds: 5)
            try await fleet.waitUntilPublished(key)
            try await eventually("a local hit") { try await agent.status().counters.localHits > 0 }
            #expect(await load.stop().failures == [])

            let reply = try await agent.http("/metrics")
            #expect(reply.status == 200)
            #expect(reply.headers["content-type"]?.hasPrefix("text/plain; version=0.0.4") == true)
            #expect(!reply.body.contains("warm:"))
            let metrics = try PrometheusText(reply.body)
            #expect(try metrics.value("hotkey_requests_total") > 0)
            #expect(try metrics.value("hotkey_local_hits_total") > 0)
            #expect(try metrics.value("hotkey_staleness_violations_total") == 0)
            #expect(try metrics.value("hotkey_hot_keys") >= 1)
            #expect(try metrics.value("hotkey_view_state") == 2)
            #expect(try metrics.value("hotkey_view_age_seconds") == 0)
            #expect(try metrics.value("hotkey_reports_total") > 0)
            let nodes = Set(try await agent.status().nodes.map(\.name))
            for name in ["hotkey_node_requests_total", "hotkey_breaker_state", "hotkey_upstream_latency_seconds"] {
                #expect(Set(metrics.families[name]?.samples.compactMap { $0.sample.labels["node"] } ?? []) == nodes)
            }
            // Nothing but a node's name, a bucket's bound and a kind of hot key is ever a label.
            for family in metrics.families.values {
                for (sample, _) in family.samples {
                    #expect(
                        Set(sample.labels.keys).isSubset(of: ["node", "le", "kind", "by", "cause", "tracked", "state"]))
                }
            }
            let kinds = metrics.families["hotkey_hot_keys_by_kind"]?.samples ?? []
            #expect(Set(kinds.compactMap { $0.sample.labels["kind"] }) == ["read", "write", "big", "missing"])
            #expect(kinds.reduce(0) { $0 + $1.value } == (try metrics.value("hotkey_hot_keys")))
            #expect(try metrics.value("hotkey_key_reads_total") > 0)
            // One of the three coordinates, and what it published is counted a moment later.
            try await eventually("one agent leads and has published") {
                var leaders = 0.0
                var publications = 0.0
                for agent in fleet.agents {
                    let metrics = try PrometheusText(try await agent.http("/metrics").body)
                    leaders += try metrics.value("hotkey_leader")
                    publications += try metrics.value("hotkey_publications")
                }
                return leaders == 1 && publications > 0
            }

            #expect(try await agent.http("/healthz").status == 200)
            #expect(try await agent.http("/readyz").status == 200)
            #expect(try await agent.http("/nothing").status == 404)
        }

        @Test func anAgentWaitsForItsAppAndSaysSo() async throws {
            let fleet = try await sharedFleet()
            let late = try Fleet(
                app: "late", zookeeper: fleet.zookeeper, caches: [fleet.caches[0]], agentIDs: ["early"])
            let agent = late.agents[0]
            try await agent.launch()
            try await agent.whileRunning("the agent has found no app") {
                try await agent.http("/readyz").body.contains("hkctl init")
            }
            let unready = try await agent.http("/readyz")
            #expect(unready.status == 503)
            #expect(unready.body == "not ready: the registry has no app 'late': run hkctl init\n")
            #expect(try await agent.http("/healthz").status == 200)
            _ = try PrometheusText(try await agent.http("/metrics").body)
            // Apps are not let in, tools are.
            await #expect(throws: TestSupportError.self) { try await agent.client() }
            #expect(try await agent.status().nodes.isEmpty)
            await #expect(throws: PeerError.self) { _ = try await agent.route("k") }

            try await late.control("init", "--nodes", late.nodeList)
            try await agent.waitUntilReady()
            #expect(try await agent.client().command("SET", "late:key", "value") == .ok)
            #expect(try await fleet.caches[0].client().command("GET", "late:key") == .text("value"))
            await late.stopAgents()
        }

        @Test func anAgentThatReachesNoZooKeeperSaysSo() async throws {
            let nobody = "127.0.0.1:\(try FreePort.next())"
            let agent = try Agent(id: "lonely", app: "shop", zookeeper: nobody)
            try await agent.launch()
            try await agent.whileRunning("the agent says why it is not ready") {
                try await agent.http("/readyz").status == 503
            }
            let reason = try await agent.http("/readyz").body
            #expect(reason.contains("ZooKeeper \(nobody) has not been reached"))
            #expect(try await agent.status().view.state == "none")
            #expect(await agent.stop() == .exited(0))
        }
    }
}
