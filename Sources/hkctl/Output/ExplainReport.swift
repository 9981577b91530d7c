import HotKeyDetection
import HotKeyPeer
import HotKeyRegistry
import HotKeyRules

/// Why a key is hot or not, and what comes of it: the registry's word, the coordinator's, and each agent's.
struct ExplainReport: Report {
    struct Agent: Encodable, Sendable {
        var id: String
        var address: String
        var answer: KeyStatus?
        var route: RouteStatus?
        /// Why there is no answer, or no route.
        var problem: String?
    }
    /// Of one key, what an agent does with it.
    fileprivate struct Doing: Sendable {
        var status: KeyStatus
        var route: Result<RouteStatus, PeerError>
    }

    var app: String
    var znode: String
    var mode: ControlDocument.Mode
    /// In sentences, the most weighty first.
    var why: [String]
    var record: KeyRow
    /// As the coordinator sees it now; nil when it could not be asked.
    var live: LiveKey?
    var share: Double?
    var coordinator: String?
    var liveProblem: String?
    /// The rule that applies, with those that match beside it.
    var rules: RulesExplainReport
    var agents: [Agent]
    var readAt: Timestamp

    init(_ name: KeyName, _ session: Session) async throws {
        async let pins = session.registry.pins().document
        async let hot = session.registry.hotSet()
        async let rules = session.registry.rules().document
        async let control = session.registry.control().document
        async let coordinator = session.askCoordinator { try await $0.heat(of: name.bytes) }
        let registered = try await session.agents()
        let answers = await session.ask(registered) { client in
            let status = try await client.get(name.bytes)
            do {
                return Doing(status: status, route: .success(try await client.route(name.bytes)))
            } catch let error as PeerError where error.code == .refused {
                return Doing(status: status, route: .failure(error))
            }
        }
        let (decisions, set, book) = (try await pins, try await hot, try RuleBook(try await rules))
        readAt = .now
        app = session.app
        znode = session.paths.bucket(name.bucket)
        mode = try await control.mode
        record = KeyRow(
            key: name, record: set.records[name], pin: KeyRow.active(decisions.pins, readAt)[name],
            deny: KeyRow.active(decisions.denies, readAt)[name])
        self.rules = RulesExplainReport(name, book)
        agents = answers.map(Agent.init)
        why = []
        let answer = try await coordinator
        switch answer {
        case .success(let status):
            live = status.keys.first
            self.coordinator = status.id
            let all = status.readsPerSecond + status.writesPerSecond
            share = live.flatMap { all > 0 ? min(1, $0.accessesPerSecond / all) : nil }
        case .failure(let failure):
            liveProblem = failure.lines[0]
        }
        if let rule = self.rules.rule, rule.thresholdShareOfNode > 0 {
            self.rules.threshold = ThresholdReport(rule, answer.map { $0.keys.first })
        }
        why = HeatReason(self).sentences
    }

    func text(_ terminal: Terminal) -> String {
        var fields = Fields()
        fields.add("key", record.key.description)
        fields.add("state", record.stateText)
        for (index, sentence) in why.enumerated() { fields.add(index == 0 ? "why" : "", sentence) }
        fields.add("kind", record.kind?.rawValue ?? live?.kind)
        if let live {
            fields.add(
                "now",
                Self.rates(
                    live.readsPerSecond, live.writesPerSecond, live.errorPerSecond, live.bytesPerSecond,
                    live.missesPerSecond ?? 0)
                    + (share.map { ", \(TopReport.percent($0)) of all" } ?? "") + ", says \(coordinator ?? "?")")
        } else {
            fields.add("now", "not known: \(liveProblem ?? "")")
        }
        if let reads = record.readsPerSecond {
            fields.add(
                "when published",
                Self.rates(
                    reads, record.writesPerSecond ?? 0, record.errorPerSecond ?? 0, record.bytesPerSecond ?? 0,
                    record.missesPerSecond ?? 0))
        }
        fields.add("since", record.since.map { "\($0) (\(TimeText.age($0, now: readAt)))" })
        fields.add("sources", record.sources.isEmpty ? nil : record.sources.joined(separator: ", "))
        fields.add("pinned", record.pin.map { "\($0.at) \($0.summary(now: readAt))" })
        fields.add("denied", record.deny.map { "\($0.at) \($0.summary(now: readAt))" })
        fields.add("mode", mode.rawValue)
        fields.add("znode", znode)
        return fields.text(terminal) + "\n" + rules.text(terminal) + "\n" + agentsText(terminal)
    }

    private static func rates(
        _ reads: Double, _ writes: Double, _ error: Double, _ bytes: Double, _ misses: Double
    ) -> String {
        "\(NumberText.rate(reads)) reads/s, \(NumberText.rate(writes)) writes/s (±\(NumberText.rate(error)))"
            + (bytes > 0 ? ", \(NumberText.rate(bytes)) bytes/s" : "")
            + (misses > 0 ? ", \(NumberText.rate(misses)) misses/s" : "")
    }

    private func agentsText(_ terminal: Terminal) -> String {
        guard !agents.isEmpty else { return "No agent is registered: nobody does anything with it.\n" }
        var table = Table(columns: [
            .text("AGENT"), .text("STATE"), .text("ACTION"), .text("A READ GOES TO"), .number("COPIES"), .text("HOME"),
            .freeText("NOTE"),
        ])
        for agent in agents {
            guard let status = agent.answer else {
                table.add(agent.id, "?", "?", "?", "-", "?", "no answer: \(agent.problem ?? "")")
                continue
            }
            let copies = agent.route.map { "\($0.readableCopies.count) of \($0.copies.count)" } ?? "\(status.copies)"
            let note = status.isLocalDecision ? "by its own counts" : agent.problem ?? status.reason ?? ""
            table.add(
                agent.id, status.state, status.action, agent.route?.reading ?? "?", copies,
                agent.route?.home.name ?? "?", note)
        }
        return table.text(terminal)
    }
}

extension ExplainReport.Agent {
    fileprivate init(_ answer: AgentAnswer<ExplainReport.Doing>) {
        id = answer.id.description
        address = answer.document.peer
        switch answer.result {
        case .success(let doing):
            self.answer = doing.status
            switch doing.route {
            case .success(let route): self.route = route
            case .failure(let error): problem = error.message
            }
        case .failure(let error):
            problem = error.message
        }
    }
}

/// Puts into sentences what makes a key hot, keeps it so, or does not. Pure.
struct HeatReason {
    let sentences: [String]

    init(_ report: ExplainReport) {
        var sentences: [String] = []
        let record = report.record
        if let pin = record.pin {
            sentences.append("pinned by \(pin.author): hot whatever its load")
        } else if let deny = record.deny {
            sentences.append("denied by \(deny.author): never treated as hot, whatever its load")
        }
        if let rule = report.rules.rule, let place = report.rules.matches.first?.place {
            sentences += Self.load(report, rule, "rule \(place) (\(rule.pattern))")
        } else {
            sentences.append("no rule matches it, so detection never finds it hot")
        }
        let local = report.agents.filter { $0.answer?.isLocalDecision == true }.map(\.id)
        if !local.isEmpty {
            sentences.append(
                "hot by its own traffic alone at \(local.prefix(ControlLimits.listedMax).joined(separator: ", ")), before the coordinator has spoken"
            )
        }
        if report.mode != .mitigate { sentences.append("nothing is done with it: the mode is \(report.mode.rawValue)") }
        self.sentences = sentences
    }

    private struct Rates {
        var reads: Double
        var writes: Double
        var bytes: Double
        var error: Double
        var accesses: Double { reads + writes }
    }

    private static func load(_ report: ExplainReport, _ rule: Rule, _ name: String) -> [String] {
        let record = report.record
        let now = report.live.map {
            Rates(
                reads: $0.readsPerSecond, writes: $0.writesPerSecond, bytes: $0.bytesPerSecond, error: $0.errorPerSecond
            )
        }
        let published = record.readsPerSecond.map {
            Rates(
                reads: $0, writes: record.writesPerSecond ?? 0, bytes: record.bytesPerSecond ?? 0,
                error: record.errorPerSecond ?? 0)
        }
        let namers = record.sources.filter { $0 != SourceFusion.agentsName }
        if !namers.isEmpty, namers == record.sources, let detected = record.detected, detected != .candidate,
            let published
        {
            return named(
                by: namers, published, now,
                threshold: report.rules.threshold?.accessesPerSecond ?? rule.thresholdPerSecond,
                name)
        }
        guard let rates = now ?? published else {
            return ["its load is not known: not published, and no coordinator answers"]
        }
        let bytesHeat = rates.bytes / Double(rule.thresholdBytesPerSecond)
        let threshold = report.rules.threshold?.accessesPerSecond ?? rule.thresholdPerSecond
        let accessHeat = rates.accesses / Double(threshold)
        let what: String
        if bytesHeat > accessHeat {
            what =
                "\(NumberText.rate(rates.bytes)) reply bytes/s are \(TopReport.hundredths(bytesHeat)) times the "
                + "\(rule.thresholdBytesPerSecond)/s"
        } else {
            what =
                "\(NumberText.rate(rates.accesses)) accesses/s (±\(NumberText.rate(rates.error))) are "
                + "\(TopReport.hundredths(accessHeat)) times the \(threshold)/s"
        }
        var sentences = ["\(what) of \(name)" + (now == nil ? ", when it was published" : "")]
        let detected = report.live?.detected ?? record.detected?.rawValue ?? "cold"
        if let stay = Self.stay(detected, heat: max(bytesHeat, accessHeat), rule) { sentences.append(stay) }
        switch record.kind ?? report.live?.kind.flatMap(HotKind.init(rawValue:)) {
        case .write:
            sentences.append(
                "write-hot: writes pass \(TopReport.percent(rule.writeHotRatio)) of the reads, so it is neither cached nor copied"
            )
        case .big: sentences.append("hot by its bytes: kept on the hosts, not copied")
        case .missing:
            sentences.append(
                "missing-hot: from \(TopReport.percent(rule.missingHotRatio)) of the reads on that find nothing; that it is not there "
                    + "is kept on the hosts for a moment, and not copied")
        case .read, nil: break
        }
        return sentences
    }

    /// What others count is theirs to say; the agents' own counts may be far below it, or nothing.
    private static func named(
        by namers: [String], _ published: Rates, _ now: Rates?, threshold: Int, _ name: String
    ) -> [String] {
        let who = namers.joined(separator: ", ")
        var sentences = [
            "\(who) \(namers.count == 1 ? "names" : "name") it: \(NumberText.rate(published.accesses)) accesses/s are "
                + "\(TopReport.hundredths(published.accesses / Double(threshold))) times the \(threshold)/s of \(name), "
                + "when it was published",
            "it cools when that is no longer said",
        ]
        if let now { sentences.append("the agents themselves count \(NumberText.rate(now.accesses)) accesses/s") }
        return sentences
    }

    /// What keeps its state where the load of this moment alone would say otherwise.
    private static func stay(_ state: String, heat: Double, _ rule: Rule) -> String? {
        func span(_ seconds: Double) -> String { TimeText.span(Int64((seconds * 1_000).rounded())) }
        let leave = TopReport.hundredths(rule.leaveRatio)
        switch state {
        case "hot" where heat >= 1: return nil
        case "hot" where heat >= rule.leaveRatio: return "it stays hot while it is over \(leave) times the threshold"
        case "hot", "cooling":
            guard heat < rule.leaveRatio else { return "cooling: it is hot again at the threshold" }
            return
                "it is cold after \(span(rule.coolDownSeconds)) under \(leave) times the threshold, and at least \(span(rule.minimumHotSeconds)) hot"
        case "candidate": return "over in a slice, not yet in \(rule.confirmSlices) of \(rule.confirmOfSlices)"
        default: return heat >= 1 ? "about to be judged" : "cold: it is under the threshold"
        }
    }
}
