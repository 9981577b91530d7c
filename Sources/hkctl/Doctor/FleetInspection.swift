import HotKeyPeer
import HotKeyRegistry

/// What is wrong with the agents, from what each of them answered. Pure.
struct FleetInspection {
    var mode: ControlDocument.Mode?
    var detection: ControlDocument.Detection?
    var position: HotPosition?
    var leader: String?
    var rules: RulesDocument?
    /// ZooKeeper's versions of the operators' documents, where they could be read.
    var documents = AgentStatus.Documents(control: nil, rules: nil, pins: nil, topology: nil)
    /// By how much the servers' clock is ahead of this host's; nil where it could not be told.
    var serverOffset: (milliseconds: Int64, errorMilliseconds: Int64)?

    func findings(_ agents: [AgentAnswer<TimedStatus>], app: String) -> [Finding] {
        var findings: [Finding] = []
        if let serverOffset {
            findings += skew(
                "the ZooKeeper servers", "this host's", milliseconds: serverOffset.milliseconds,
                error: serverOffset.errorMilliseconds)
        } else {
            findings.append(
                Finding(
                    .warning, .clockUnknown, "the ZooKeeper servers",
                    "their clock could not be compared: this session may not create the node by which it is told",
                    remedy: "run this with an operator's credential"))
        }
        guard !agents.isEmpty else {
            findings.append(
                Finding(
                    .warning, .agentsNone, app, "no agent is registered: nothing is found and nothing is done",
                    remedy: "start hkagent on each host of the app; its log says why it cannot register"))
            return findings
        }
        if leader == nil, detection != .external {
            findings.append(
                Finding(
                    .error, .leaderNone, app, "nobody coordinates: no new hot key is published",
                    remedy: "run an agent with coordinator auto or only, and look at the agents' logs for 'election'"))
        }
        for agent in agents { findings += self.findings(agent) }
        return findings
    }

    private func findings(_ agent: AgentAnswer<TimedStatus>) -> [Finding] {
        let id = agent.id.description
        let answer: TimedStatus
        switch agent.result {
        case .success(let timed): answer = timed
        case .failure(let error):
            return [
                Finding(
                    .error, .agentSilent, id,
                    "it is registered and does not answer at \(agent.document.peer): \(error.message)",
                    remedy: error.code == .notAdmitted
                        ? "give the fleet's password with --peer-password-file, and what its TLS needs with --peer-tls-ca-file "
                            + "(docs/security.md)"
                        : "see that hkagent runs there, and that this host and the coordinator reach its peer listener")
            ]
        }
        let status = answer.status
        var findings: [Finding] = []
        if status.view.state != "fresh" {
            // One that is merely asked later than the registry may know more, too; it would not be stale.
            let isAhead =
                position.map { (status.view.epoch, status.view.version) > ($0.epoch, $0.version) } == true
                || status.documents?.paired(with: documents).contains { $0.own > $0.other } == true
            let what =
                "its view is \(status.view.state) since \(TimeText.span(status.view.ageMilliseconds)): it acts on what it "
            findings.append(
                isAhead
                    ? Finding(
                        .error, .agentStale, id,
                        what + "knew then, which is newer than what is stored: the ensemble's data was set back",
                        remedy:
                            "the next publication brings it along, if its log says that it reaches ZooKeeper; see that an agent "
                            + "coordinates")
                    : Finding(
                        .error, .agentStale, id, what + "knew then",
                        remedy: "see that the host reaches every ZooKeeper server; its log says what it waits for"))
        }
        if let position, (status.view.epoch, status.view.version) < (position.epoch, position.version) {
            findings.append(
                Finding(
                    .warning, .agentBehind, id,
                    "it acts on hot set \(status.view.epoch)/\(status.view.version), published is \(position)",
                    remedy: "run this again; an agent that stays behind says why in its log"))
        }
        for (name, theirs, stored) in status.documents?.paired(with: documents) ?? [] where theirs < stored {
            findings.append(
                Finding(
                    .warning, .agentBehind, id, "it goes by version \(theirs) of \(name), stored is \(stored)",
                    remedy: "run this again; an agent that stays behind refuses what is stored, and its log says why"))
        }
        if let mode, status.mode != mode.rawValue {
            findings.append(
                Finding(
                    .warning, .agentModeDiffers, id, "it is in mode \(status.mode), the fleet's is \(mode.rawValue)",
                    remedy: "run this again; an agent that stays so says why in its log"))
        }
        for node in status.nodes {
            guard let tracking = node.tracking, tracking.hasPrefix("refused: ") else { continue }
            findings.append(
                Finding(
                    .warning, .agentUntracked, id,
                    "cache node \(node.name) (\(node.address)) does not tell it when hot keys change, so a value that was changed past "
                        + "the agents is served for up to a second more: \(tracking.dropFirst("refused: ".count))",
                    remedy:
                        "let the agent's user there run CLIENT (ACL +client), with a server of version 6 or later; or "
                        + "set upstream.trackHotKeys to false"))
        }
        if let staleness = status.staleness, staleness.violations > 0 {
            findings.append(
                Finding(
                    .warning, .agentServesStale, id,
                    "of \(staleness.probes) local hits that it compared with home since its start, \(staleness.violations) served a value "
                        + "older than the key's staleness cap; the oldest may have been out of date for "
                        + TimeText.span(Int64(staleness.worstMilliseconds.rounded())),
                    remedy:
                        "see that its host is not short of processor time and its clock is not stepped; keep what the agent logs "
                        + "and hotkey_observed_staleness_seconds, and report it"))
        }
        if status.cacheCapacityBytes == 0,
            let rule = rules?.rules.first(where: { $0.action == .cache || $0.action == .both })
        {
            findings.append(
                Finding(
                    .warning, .agentUncached, id,
                    "it has no local cache, and rule \(rule.pattern) has action \(rule.action.rawValue): its reads of such keys all go "
                        + "to cache nodes, and none are held when a value is gone",
                    remedy: "set localCache.capacityBytes there, or change the rule's action"))
        }
        if let theirs = status.now.flatMap({ Timestamp($0) }) {
            let (early, late) = (answer.asked.millisecondsSince1970, answer.answered.millisecondsSince1970)
            findings += skew(
                id, "this host's", milliseconds: theirs.millisecondsSince1970 - (early + late) / 2,
                error: (late - early + 1) / 2)
        }
        return findings
    }

    private func skew(_ whose: String, _ other: String, milliseconds: Int64, error: Int64) -> [Finding] {
        // What the round trip alone may account for is no skew.
        let certain = max(0, abs(milliseconds) - error)
        guard certain >= RegistryLimits.clockSkewWarningMilliseconds else { return [] }
        let isError = certain >= RegistryLimits.clockSkewErrorMilliseconds
        return [
            Finding(
                isError ? .error : .warning, .clockSkew, whose,
                "the clock is \(TimeText.span(abs(milliseconds))) \(milliseconds > 0 ? "ahead of" : "behind") \(other): pins, "
                    + "denies and candidates expire that much too \(milliseconds > 0 ? "early" : "late") there",
                remedy: "synchronise the clocks (chrony, systemd-timesyncd)")
        ]
    }
}

extension AgentStatus.Documents {
    /// The documents of which both sides have a version.
    fileprivate func paired(with other: Self) -> [(name: String, own: Int32, other: Int32)] {
        [
            ("control", control, other.control), ("rules", rules, other.rules), ("pins", pins, other.pins),
            ("topology", topology, other.topology),
        ].compactMap { name, own, other in
            guard let own, let other else { return nil }
            return (name, own, other)
        }
    }
}
