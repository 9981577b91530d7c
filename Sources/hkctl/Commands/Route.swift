import ArgumentParser
import HotKeyPeer
import HotKeyRegistry

struct Route: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Where a key lives: its home, its copies, and what a read does now.",
        discussion: "An agent is asked: the first that answers, or the one named with --agent.")

    @OptionGroup var key: KeyArgument

    @Option(help: ArgumentHelp("Ask this agent.", valueName: "id"))
    var agent: String?

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        let name = try key.name()
        let wanted = agent
        let options = global
        let report = try await global.withSession { session in
            var agents = try await session.agents()
            if let wanted {
                agents = agents.filter { $0.id.description == wanted }
                guard !agents.isEmpty else {
                    throw Failure(
                        .failed, "No agent \"\(wanted)\" is registered for \(session.app).",
                        "'\(options.place.hkctl) agents' lists them.")
                }
            }
            guard !agents.isEmpty else {
                throw Failure(
                    .failed, "No agent of \(session.app) is registered, so nobody can say where the key goes.",
                    "Start one: 'hkagent run --app \(session.app) …'.")
            }
            // A sample does: they all place keys by the same document.
            let asked = Array(agents.shuffled().prefix(ControlLimits.routeAgentsMax))
            let (answer, failures) = await session.askAny(asked) { try await $0.route(name.bytes) }
            guard let answer else {
                let reasons = failures.prefix(ControlLimits.listedMax).map(\.description).joined(separator: "; ")
                throw Failure(
                    .failed,
                    "No agent could say where the key goes (asked \(asked.count) of \(agents.count)): \(reasons)",
                    "'\(options.place.hkctl) agents' shows the state of each.")
            }
            return RouteReport(app: session.app, agent: answer.id.description, route: answer.value)
        }
        try global.print(report)
    }
}

struct RouteReport: Report {
    var app: String
    /// Who said so.
    var agent: String
    var route: RouteStatus

    func text(_ terminal: Terminal) -> String {
        func list(_ places: [RouteStatus.Place]) -> String {
            places.isEmpty ? "none" : places.map { "\($0.name) (\($0.address))" }.joined(separator: ", ")
        }
        var fields = Fields()
        fields.add("key", KeyName(route.key.bytes).description)
        fields.add("home", "\(route.home.name) (\(route.home.address))")
        if let slot = route.slot { fields.add("slot", "\(slot)") }
        fields.add("copies", list(route.copies) + (route.copyState.map { " (\($0))" } ?? ""))
        fields.add("readable now", list(route.readableCopies))
        fields.add("hot", route.isHot ? "yes" : "no")
        fields.add("a read goes to", route.reading)
        fields.add("says agent", agent)
        return fields.text(terminal)
    }
}
