import ArgumentParser
import HotKeyRegistry
import HotKeyScan

struct Scan: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Find hot keys on the cache nodes by Redis's LFU counters.",
        discussion: """
            Looks at every key of each node's database 0 with SCAN and OBJECT FREQ, which changes nothing there. Needs a \
            maxmemory-policy of allkeys-lfu or volatile-lfu. Rates are estimates for steady traffic; '≥' marks a counter that is \
            full. Exits 1 when no node could be scanned.
            """)

    @Option(
        help: ArgumentHelp(
            "The nodes to scan. (default: those of the topology; of a Redis Cluster its masters)",
            valueName: "name=host:port,…"))
    var nodes: String?

    @Option(help: ArgumentHelp("Keys of each node that are looked at in a second at most.", valueName: "keys"))
    var rate = ScanLimits.keysPerSecondDefault

    @Option(help: ArgumentHelp("How many keys to show, and to publish.", valueName: "keys"))
    var top = ScanLimits.topDefault

    @Flag(help: "Write what was found to sources/scan, where the coordinator takes it for a proposal.")
    var publish = false

    @Option(help: ArgumentHelp("With --publish: how long it counts.", valueName: "time"))
    var expires = TimeSpan(milliseconds: 600_000)

    @Flag(help: "Tell on standard error how far it is, also when that is no terminal.")
    var progress = false

    @OptionGroup(title: "Node Options") var access: NodeOptions
    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func validate() throws {
        guard ScanLimits.keysPerSecondRange.contains(rate) else {
            throw ValidationError(
                "--rate: \(ScanLimits.keysPerSecondRange.lowerBound) to \(ScanLimits.keysPerSecondRange.upperBound) keys a second."
            )
        }
        guard ScanLimits.topRange.contains(top) else {
            throw ValidationError("--top: \(ScanLimits.topRange.lowerBound) to \(ScanLimits.topRange.upperBound) keys.")
        }
        _ = try given()
    }

    func run() async throws {
        var configuration = KeyspaceScan.Configuration()
        configuration.keysPerSecondMax = rate
        configuration.topMax = top
        configuration.timeoutMilliseconds = global.timeoutMilliseconds
        try access.apply(to: &configuration)
        let scan = KeyspaceScan(configuration)
        let showsProgress = progress || Terminal.isStandardErrorTerminal
        let result: ScanResult
        do {
            result = try await scan.run(try await targets(scan)) { progress in
                if showsProgress { Console.complain(Self.text(progress)) }
            }
        } catch {
            throw Failure.explain(error, at: global.place)
        }
        var report = ScanReport(result)
        let scanned = result.nodes.contains(where: \.wasScanned)
        if publish, scanned { report.published = try await write(result) }
        try global.print(report)
        let problems = result.nodes.compactMap(\.problem).map { "\($0)" }
        guard scanned else {
            var failure = Failure(.failed, "No node could be scanned.")
            failure.lines += problems
            throw failure
        }
        for problem in problems { Console.complain("Warning: \(DisplayText.escaped(problem))") }
    }

    private func given() throws -> [ScanNode]? {
        guard let nodes else { return nil }
        return try NodeList.parse(nodes).map { node in
            guard let target = ScanNode(node) else {
                throw ValidationError("--nodes: '\(node.address)' is not HOST:PORT.")
            }
            return target
        }
    }

    /// No session is held while nodes are scanned: that may take an hour.
    private func targets(_ scan: KeyspaceScan) async throws -> [ScanNode] {
        if let given = try given() { return given }
        let topology = try await global.withSession { try await $0.registry.topology().document }
        let nodes = topology.nodes.compactMap { ScanNode($0) }
        guard topology.kind == .cluster else { return nodes }
        do {
            return try await scan.clusterMasters(nodes)
        } catch let problem as ScanProblem {
            throw Failure(.failed, "The masters of the cluster are not known: \(problem.message).", problem.remedy)
        }
    }

    private func write(_ result: ScanResult) async throws -> ScanReport.Published {
        let expires = expires
        return try await global.withSession { session in
            // By the ensemble's clock, which decides when it ends.
            let offset = try await session.registry.clockOffset()
            let expiresAt = Timestamp.now.advanced(by: expires.duration)
                .advanced(byMilliseconds: offset?.milliseconds ?? 0)
            let name = try AgentID(ScanResult.sourceName)
            let document = result.document(expiresAt: expiresAt)
            let outcome = try await session.registry.putSource(name, document)
            return ScanReport.Published(
                path: outcome.path, candidates: document.candidates.count, expiresAt: expiresAt)
        }
    }

    private static func text(_ progress: ScanProgress) -> String {
        let percent = progress.keysTotal > 0 ? min(100, progress.keysScanned * 100 / progress.keysTotal) : 100
        return "\(progress.node): \(progress.keysScanned) of about \(progress.keysTotal) keys (\(percent) %)"
    }
}

struct ScanReport: Report {
    struct Key: Encodable, Sendable {
        var key: KeyName
        var node: String
        /// 0 to 255.
        var counter: Int
        /// Whether the counter can rise no more: the rate is this or more.
        var isFull: Bool
        /// Nil where the node's settings tell no rate.
        var accessesPerSecond: Double?
        var errorPerSecond: Double?
    }

    struct Node: Encodable, Sendable {
        var name: String
        var address: String
        var policy: String?
        var logFactor: Int?
        var decayMinutes: Int?
        var keysScanned: Int
        var problem: String?
        var remedy: String?
    }

    struct Published: Encodable, Sendable {
        var path: String
        var candidates: Int
        var expiresAt: Timestamp
    }

    var keys: [Key]
    var nodes: [Node]
    var published: Published?

    init(_ result: ScanResult) {
        keys = result.keys.map { scanned in
            Key(
                key: KeyName(scanned.key), node: scanned.node, counter: scanned.counter,
                isFull: scanned.counter >= LFUSettings.counterMax,
                accessesPerSecond: scanned.estimate?.accessesPerSecond,
                errorPerSecond: scanned.estimate?.errorPerSecond)
        }
        nodes = result.nodes.map { scan in
            Node(
                name: scan.node.name, address: "\(scan.node.address)", policy: scan.policy,
                logFactor: scan.settings?.logFactor, decayMinutes: scan.settings?.decayMinutes,
                keysScanned: scan.keysScanned, problem: scan.problem?.message, remedy: scan.problem?.remedy)
        }
    }

    func text(_ terminal: Terminal) -> String {
        var table = Table(columns: [
            .key("KEY"), .text("NODE"), .number("COUNTER"), .number("ACCESSES/S"), .number("±"),
        ])
        for row in keys {
            table.add(
                row.key.description, row.node, "\(row.counter)",
                (row.isFull && row.accessesPerSecond != nil ? "≥" : "") + NumberText.rate(row.accessesPerSecond),
                NumberText.rate(row.errorPerSecond))
        }
        var text = keys.isEmpty ? "" : table.text(terminal) + "\n"
        for node in nodes { text += Self.line(node) + "\n" }
        if let published {
            text +=
                "Published \(NumberText.count(published.candidates, "candidate")) in \(published.path), until "
                + "\(published.expiresAt).\n"
        }
        return text
    }

    private static func line(_ node: Node) -> String {
        var words: [String] = []
        if node.problem == nil || node.keysScanned > 0 { words.append(NumberText.count(node.keysScanned, "key")) }
        if let policy = node.policy { words.append(policy) }
        if let factor = node.logFactor, let decay = node.decayMinutes {
            words.append("lfu-log-factor \(factor), lfu-decay-time \(decay)")
            if !LFUSettings(logFactor: factor, decayMinutes: decay).tellsRates {
                words.append("which tell no rates")
            }
        } else if node.problem == nil {
            words.append("lfu-log-factor and lfu-decay-time are not told, so rates are not known")
        }
        if node.problem != nil { words.append(node.keysScanned > 0 ? "broken off" : "not scanned") }
        return DisplayText.escaped("\(node.name) (\(node.address)): \(words.joined(separator: ", "))")
    }
}
