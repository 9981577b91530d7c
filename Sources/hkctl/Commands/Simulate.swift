import ArgumentParser
import HotKeyMitigation
import HotKeyRegistry
import HotKeyRules
import HotKeySimulation

struct Simulate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "What would have been hot in a trace, when, and the load taken off each node.",
        discussion: """
            The trace is what 'redis-cli MONITOR' printed, or CSV whose first line names its columns: time (seconds) and key, \
            and as wanted op (read, write or a Redis command), count, bytes (of replies) and misses (of the reads). It is read line by line and must \
            be sorted by time. The agents' own code counts, reports and decides; nothing is changed anywhere.

            What is not given is asked of the registry; with --rules, and --nodes or --topology, ZooKeeper is not needed.
            """)

    @Option(help: ArgumentHelp("The trace; '-' reads standard input.", valueName: "file"))
    var trace: String

    @Option(
        help: ArgumentHelp(
            "Rules, JSON or YAML; '-' reads standard input. (default: the registry's)", valueName: "file"))
    var rules: String?

    @Option(help: ArgumentHelp("monitor or csv. (default: told from the first line)", valueName: "form"))
    var format: TraceFormat?

    @Option(help: ArgumentHelp("Agents that share each key's requests in turn.", valueName: "n"))
    var agents = 1

    @Option(
        help: ArgumentHelp(
            "The cache nodes, placed as 'init' does by default. (default: the registry's topology)",
            valueName: "name=host:port[:weight],…"))
    var nodes: [String] = []

    @Option(help: ArgumentHelp("A file with the cache nodes, as 'topology apply' takes it.", valueName: "file"))
    var topology: String?

    @Option(
        help: ArgumentHelp(
            "What each node can carry, in commands a second, for rules with a thresholdShareOfNode.", valueName: "n"))
    var nodeCapacity: Double?

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func validate() throws {
        let range = SimulationLimits.agentsRange
        guard range.contains(agents) else {
            throw ValidationError("--agents: \(range.lowerBound) to \(range.upperBound).")
        }
        if let nodeCapacity, !SimulationLimits.nodeCapacityRange.contains(nodeCapacity) {
            throw ValidationError("--node-capacity: 1 to \(Int(SimulationLimits.nodeCapacityRange.upperBound)).")
        }
        guard nodes.isEmpty || topology == nil else {
            throw ValidationError("--nodes and --topology: give one of them.")
        }
        guard [trace, rules, topology].count(where: { $0 == "-" }) < 2 else {
            throw ValidationError("Standard input can be one of --trace, --rules and --topology only.")
        }
        _ = try namedNodes()
    }

    func run() async throws {
        let book = try await ruleBook()
        let document = try await placedNodes()
        let placement = try explaining(global) { try Placement(registry: document) }
        let simulation = Simulation(
            rules: book, placement: placement, agentCount: agents,
            fleetCapMilliseconds: ControlDocument().stalenessCapMilliseconds, seed: Self.seed,
            nodeCapacityPerSecond: nodeCapacity)
        var reading = TraceReading(file: trace)
        try reading.run(TraceReader(format: format), into: simulation)
        let result = try simulation.finish()
        try global.print(
            SimulationReport(reading, result, book, document, agents: agents, nodeCapacityPerSecond: nodeCapacity))
    }

    /// Two runs of one trace print the same.
    private static let seed: UInt64 = 0x5EED

    private func ruleBook() async throws -> RuleBook {
        guard let rules else {
            let document = try await global.withSession { try await $0.registry.rules().document }
            return try explaining(global) { try RuleBook(document) }
        }
        return try explaining(global) { try RuleBook(InputFile.document(RulesDocument.self, in: rules)) }
    }

    private func namedNodes() throws -> TopologyDocument? {
        guard !nodes.isEmpty else { return nil }
        let document = TopologyDocument(nodes: try NodeList.parse(nodes.joined(separator: ",")))
        try NodeList.validate(document)
        return document
    }

    private func placedNodes() async throws -> TopologyDocument {
        var document = try namedNodes()
        if document == nil, let topology {
            document = try explaining(global) { try InputFile.document(TopologyDocument.self, in: topology) }
        }
        let found: TopologyDocument
        if let document {
            found = document
        } else {
            found = try await global.withSession { try await $0.registry.topology().document }
        }
        guard found.kind == .nodes else {
            throw Failure(
                .failed, "The topology is a Redis Cluster: which node has which slots is known to the cluster alone.",
                "Give --nodes or --topology with nodes that keys are placed on by their hashes, to see about what load is taken off."
            )
        }
        return found
    }
}

/// Reads a trace into a simulation and counts what it passed over.
struct TraceReading {
    let file: String
    private(set) var name = ""
    private(set) var format: TraceFormat?
    private(set) var lines = 0
    private(set) var withoutKeys = 0
    private(set) var ofScripts = 0
    private(set) var unknownCommands = 0
    /// The file ended in the middle of a line that means nothing so.
    private(set) var hasUnfinishedLine = false

    init(file: String) { self.file = file }

    /// Throws ``Failure`` with file and line for the first line that cannot be used.
    mutating func run(_ reader: TraceReader, into simulation: Simulation) throws {
        var reader = reader
        let source = try LineFile(file, lineBytesMax: SimulationLimits.lineBytesMax)
        name = source.name
        while let line = try source.next() {
            lines = line.number
            do {
                switch try reader.read(line.bytes, isCut: line.isCut) {
                case .request(let request): try simulation.add(request)
                case .blank: break
                case .withoutKeys: withoutKeys += 1
                case .ofScript: ofScripts += 1
                case .unknownCommand: unknownCommands += 1
                }
            } catch let error as TraceError {
                // What records a trace is ended while it writes.
                if line.isUnfinished, line.number > 1 {
                    hasUnfinishedLine = true
                    break
                }
                throw Failure(.failed, "\(name):\(line.number): \(error).", "Nothing was simulated.")
            }
        }
        format = reader.format
        guard format != nil else {
            throw Failure(.failed, "\(name): expected a trace, found nothing.", "Nothing was simulated.")
        }
    }
}
