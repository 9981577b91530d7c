import ArgumentParser
import HotKeyPeer
import HotKeyRegistry

struct Agents: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Every agent: what it has applied, its view, who leads.",
        discussion:
            "Asks all registered agents at the same time; one that does not answer within --timeout is shown as such.")

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        let report = try await global.withSession { session in
            async let candidates = session.registry.candidates()
            async let hot = session.registry.hotSet()
            let answers = await session.ask(try await session.agents()) { try await $0.status() }
            let head = try await hot.head
            return AgentsReport(
                app: session.app, epoch: head.epoch, version: head.version,
                leader: try await candidates.first?.agent, agents: answers.map(AgentsReport.Agent.init), readAt: .now)
        }
        try global.print(report)
    }
}

struct AgentsReport: Report {
    struct Agent: Encodable, Sendable {
        var id: String
        var address: String
        var version: String
        var startedAt: Timestamp
        var isReachable: Bool
        /// The agent's own answer, all of it; nil when there was none.
        var status: AgentStatus?
        var problem: String?

        init(_ answer: AgentAnswer<AgentStatus>) {
            id = answer.id.description
            address = answer.document.peer
            version = answer.document.version
            startedAt = answer.document.startedAt
            switch answer.result {
            case .success(let status):
                self.status = status
                isReachable = true
            case .failure(let error):
                problem = error.message
                isReachable = false
            }
        }
    }
    var app: String
    /// Of the published hot set.
    var epoch: Int64
    var version: Int64
    /// Who holds the first place in the election; nil when nobody stands.
    var leader: String?
    var agents: [Agent]
    var readAt: Timestamp

    func text(_ terminal: Terminal) -> String {
        guard !agents.isEmpty else {
            return "No agent of \(app) is registered. 'hkagent run --app \(app) …' starts one on each host.\n"
        }
        var table = Table(columns: [
            .key("AGENT"), .text("ADDRESS"), .text("APPLIED"), .text("VIEW"), .text("LEADERSHIP"), .text("MODE"),
            .number("HOT"), .number("UP"), .text("PROGRAM"),
        ])
        for agent in agents {
            let leads = agent.id == leader ? "leader" : "-"
            if let status = agent.status {
                let view = status.view
                let isBehind = (view.epoch, view.version) < (epoch, version)
                table.add(
                    agent.id, agent.address, "\(view.epoch)/\(view.version)" + (isBehind ? " (behind)" : ""),
                    view.state == "stale" ? "stale \(TimeText.span(view.ageMilliseconds))" : view.state,
                    status.leadership, status.mode, "\(status.hotKeys)", TimeText.span(status.uptimeSeconds * 1_000),
                    status.version + (status.isStandalone == true ? " (standalone)" : ""))
            } else {
                table.add(
                    agent.id, agent.address, "?", "no answer", leads, "?", "-",
                    TimeText.age(agent.startedAt, now: readAt),
                    agent.version)
            }
        }
        var text = table.text(terminal)
        let silent = agents.filter { !$0.isReachable }
        if !silent.isEmpty { text += "\n" }
        for agent in silent {
            text += DisplayText.escaped("\(agent.id) at \(agent.address) gave no answer: \(agent.problem ?? "")") + "\n"
        }
        return text
    }
}
