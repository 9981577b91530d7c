import ArgumentParser
import HotKeyPeer
import HotKeyRegistry

struct Get: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "One key: what was detected and what was decided about it.")

    @OptionGroup var key: KeyArgument

    @Flag(help: "Ask every agent what it does with the key.")
    var agents = false

    @Flag(help: "Say why it is hot or not: rates now, threshold, rule, sources, and what every agent does with it.")
    var explain = false

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        let name = try key.name()
        if explain {
            try global.print(try await global.withSession { try await ExplainReport(name, $0) })
            return
        }
        let asksAgents = agents
        let report = try await global.withSession { session in
            async let pins = session.registry.pins().document
            async let hot = session.registry.hotSet()
            let (decisions, set) = (try await pins, try await hot)
            let now = Timestamp.now
            let row = KeyRow(
                key: name, record: set.records[name], pin: KeyRow.active(decisions.pins, now)[name],
                deny: KeyRow.active(decisions.denies, now)[name])
            var answers: [GetReport.Agent]?
            if asksAgents {
                answers = await session.ask(try await session.agents()) { try await $0.get(name.bytes) }
                    .map(GetReport.Agent.init)
            }
            return GetReport(
                app: session.app, znode: session.paths.bucket(name.bucket), record: row, agents: answers, readAt: now)
        }
        try global.print(report)
    }
}

struct GetReport: Report {
    struct Agent: Encodable, Sendable {
        var id: String
        var address: String
        var answer: KeyStatus?
        var problem: String?

        init(_ answer: AgentAnswer<KeyStatus>) {
            id = answer.id.description
            address = answer.document.peer
            switch answer.result {
            case .success(let status): self.answer = status
            case .failure(let error): problem = error.message
            }
        }
    }
    var app: String
    var znode: String
    var record: KeyRow
    var agents: [Agent]?
    var readAt: Timestamp

    func text(_ terminal: Terminal) -> String {
        var fields = Fields()
        fields.add("key", record.key.description)
        fields.add("state", record.stateText)
        fields.add("kind", record.kind?.rawValue)
        if record.readsPerSecond != nil {
            let bound = NumberText.rate(record.errorPerSecond)
            fields.add("reads/s", NumberText.rate(record.readsPerSecond) + (bound == "0" ? "" : " (±\(bound))"))
            fields.add("writes/s", NumberText.rate(record.writesPerSecond))
            if let misses = record.missesPerSecond, misses > 0 { fields.add("misses/s", NumberText.rate(misses)) }
            if let bytes = record.bytesPerSecond, bytes > 0 { fields.add("bytes/s", NumberText.rate(bytes)) }
        }
        fields.add(
            "copies", record.copies.map { copies in "\(copies)" + (record.copyState.map { " (\($0.rawValue))" } ?? "") }
        )
        fields.add("sources", record.sources.isEmpty ? nil : record.sources.joined(separator: ", "))
        fields.add("since", record.since.map { "\($0) (\(TimeText.age($0, now: readAt)))" })
        fields.add("pinned", record.pin.map { "\($0.at) \($0.summary(now: readAt))" })
        fields.add("denied", record.deny.map { "\($0.at) \($0.summary(now: readAt))" })
        fields.add("znode", znode)
        return fields.text(terminal) + agentsText(terminal)
    }

    private func agentsText(_ terminal: Terminal) -> String {
        guard let agents else { return "" }
        guard !agents.isEmpty else { return "\nNo agent is registered.\n" }
        var table = Table(columns: [
            .text("AGENT"), .text("STATE"), .text("ACTION"), .number("COPIES"), .number("READS/S"),
            .number("MISSES HELD"),
            .freeText("NOTE"),
        ])
        for agent in agents {
            if let status = agent.answer {
                table.add(
                    agent.id, status.state, status.action, "\(status.copies)", NumberText.rate(status.readsPerSecond),
                    status.missesHeld.map { "\($0)" } ?? "-",
                    status.isLocalDecision ? "by its own counts" : status.reason ?? "")
            } else {
                table.add(agent.id, "?", "?", "-", "-", "-", "no answer: \(agent.problem ?? "")")
            }
        }
        return "\n" + table.text(terminal)
    }
}
