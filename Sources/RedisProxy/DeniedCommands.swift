import RESP

/// Commands that clients may not use, by name: `flushall`, or `config|set` for one subcommand. A command stands for all of its
/// subcommands.
///
/// What a script or a function does inside a node is not looked at: to keep clients from it, deny `eval` and its kin, or log in at
/// the nodes as a user that may not.
public struct DeniedCommands: Sendable, Hashable {
    /// As they were given, in lower case.
    public let names: [String]
    private let isDenied: [Bool]

    public init() {
        names = []
        isDenied = []
    }

    /// nil when one of the names is no command of Redis 7.0; see ``unknownName(in:)``.
    public init?(_ names: [String]) {
        guard Self.unknownName(in: names) == nil else { return nil }
        self.names = names.map { $0.lowercased() }
        let denied = Set(self.names)
        isDenied = denied.isEmpty ? [] : CommandTable.redis70.commands.map { denied.contains($0.name) }
    }

    /// The first name that no command has.
    public static func unknownName(in names: [String]) -> String? {
        names.first { !known.contains($0.lowercased()) }
    }

    private static let known = Set(CommandTable.redis70.commands.map(\.name))

    func contains(_ spec: CommandSpec) -> Bool { !isDenied.isEmpty && isDenied[spec.index] }

    /// The routes with the denials in them, so that what is allowed costs nothing more.
    func screening(_ routes: [CommandRoute]) -> [CommandRoute] {
        guard !isDenied.isEmpty else { return routes }
        let screened = Set(names.compactMap { name in name.firstIndex(of: "|").map { String(name[..<$0]) } })
        return CommandTable.redis70.commands.map { spec in
            if isDenied[spec.index] { return .denied }
            return screened.contains(spec.name) ? .screened : routes[spec.index]
        }
    }
}

extension FrontSession {
    /// - Parameters:
    ///   - first: the command itself.
    ///   - spec: its subcommand, or the same.
    @inline(__always)
    func isDenied(_ first: CommandSpec, _ spec: CommandSpec) -> Bool {
        loop.configuration.deniedCommands.contains(first) || loop.configuration.deniedCommands.contains(spec)
    }

    /// - Parameter bound: the connection of the client's own, if it has one.
    func deny(_ spec: CommandSpec, _ bound: BoundConnection? = nil) {
        loop.statistics.commandsDenied += 1
        if let bound, bound.takeSilence() { return bound.sendSilentlyInstead() }
        bound?.spoilTransaction()
        answer(
            error:
                "ERR command '\(spec.name)' is denied by the agent's configuration (denyCommands); ask the agent's operator, or "
                + "send it to a cache node itself")
    }

    /// A command of which some subcommands are denied.
    func handleScreened(_ container: CommandSpec, _ command: UnsafeRawBufferPointer) {
        if arguments.count > 1,
            let spec = CommandTable.redis70.find(container, subcommand: argument(1, of: command)),
            loop.configuration.deniedCommands.contains(spec)
        {
            deny(spec)
        } else {
            dispatch(container, loop.allowedRoutes[container.index], command)
        }
    }
}
