/// A real Redis Cluster on 127.0.0.1: primaries, each with a replica or none, made by `redis-cli --cluster create`.
public final class RedisCluster: Stoppable {
    public static let slotCount = 16_384

    public let nodes: [RedisServer]
    /// Where the nodes talk to each other, by the port for clients.
    private let busPorts: [Int: Int]
    private let stateDirectory: TemporaryDirectory

    /// Starts the nodes and waits until all of them say that the cluster is well and every replica has its primary.
    ///
    /// - Parameters:
    ///   - nodeTimeoutMilliseconds: after which a silent node is taken for failed; a replica takes over soon after.
    ///   - spares: nodes that run in cluster mode but belong to nothing yet.
    public static func start(
        primaries: Int = 3, replicasEach: Int = 1, spares: Int = 0, nodeTimeoutMilliseconds: Int = 2000,
        extraArguments: [String] = []
    ) async throws -> RedisCluster {
        try await startWithFreePorts {
            let directory = try TemporaryDirectory(prefix: "hotkey-cluster")
            let count = primaries * (1 + replicasEach)
            let busPorts = try (0..<count + spares).map { _ in try FreePort.next() }
            let all = try await withThrowingTaskGroup(of: (Int, RedisServer).self) { group in
                for (number, busPort) in busPorts.enumerated() {
                    group.addTask {
                        let arguments = [
                            "--cluster-enabled", "yes", "--cluster-config-file", directory.file("nodes-\(number).conf"),
                            "--cluster-node-timeout", "\(nodeTimeoutMilliseconds)", "--cluster-port",
                            "\(busPort)", "--repl-diskless-sync-delay", "0", "--cluster-allow-replica-migration",
                            "no",
                        ]
                        return (number, try await RedisServer.start(extraArguments: arguments + extraArguments))
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }.sorted { $0.0 < $1.0 }.map(\.1)
            }
            let cluster = RedisCluster(
                nodes: all, busPorts: Dictionary(uniqueKeysWithValues: zip(all.map(\.port), busPorts)),
                stateDirectory: directory)
            do {
                try await cluster.command(
                    ["--cluster", "create"] + all.prefix(count).map { cluster.busAddress($0) } + [
                        "--cluster-replicas", "\(replicasEach)", "--cluster-yes",
                    ])
                try await cluster.waitUntilWell(Array(all.prefix(count)), replicas: primaries * replicasEach)
            } catch {
                await cluster.stop()
                throw error
            }
            return cluster
        }
    }

    private init(nodes: [RedisServer], busPorts: [Int: Int], stateDirectory: TemporaryDirectory) {
        self.nodes = nodes
        self.busPorts = busPorts
        self.stateDirectory = stateDirectory
    }

    /// `127.0.0.1:PORT@BUSPORT`, as `redis-cli --cluster` takes it.
    private func busAddress(_ node: RedisServer) -> String { "\(node.address)@\(busPorts[node.port]!)" }

    public func stop() async {
        await withTaskGroup(of: Void.self) { group in
            for node in nodes { group.addTask { await node.kill() } }
        }
    }

    /// Runs `redis-cli` with these arguments. Throws when it fails.
    @discardableResult
    public func command(_ arguments: [String]) async throws -> String {
        let outcome = try await SpawnedProcess.run(try SystemTool.redisCLI(), arguments)
        guard outcome.status == 0 else {
            throw TestSupportError(.process, "redis-cli \(arguments.joined(separator: " ")): \(outcome)")
        }
        return outcome.standardOutput
    }

    // MARK: Who is who

    public struct Member: Sendable, Hashable {
        public var id: String
        public var port: Int
        public var isPrimary: Bool
        /// Of a replica.
        public var primaryID: String?
        public var isFailing: Bool
        /// First and last.
        public var slots: [ClosedRange<Int>]
    }

    /// What one node that runs says of all of them.
    public func members(by asked: RedisServer? = nil) async throws -> [Member] {
        guard let node = asked ?? nodes.first(where: { $0.isRunning }) else {
            throw TestSupportError(.misuse, "no node of the cluster runs")
        }
        let client = try await node.client()
        let text = try await client.command("CLUSTER", "NODES").string ?? ""
        await client.close()
        return text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ").map(String.init)
            guard words.count >= 8, let port = Int(words[1].prefix { $0 != "@" }.split(separator: ":").last ?? "")
            else {
                return nil
            }
            let slots = words[8...].filter { !$0.hasPrefix("[") }.compactMap { part -> ClosedRange<Int>? in
                let ends = part.split(separator: "-").compactMap { Int($0) }
                return ends.isEmpty ? nil : ends[0]...ends[ends.count - 1]
            }
            return Member(
                id: words[0], port: port, isPrimary: words[2].contains("master"),
                primaryID: words[3] == "-" ? nil : words[3], isFailing: words[2].contains("fail"), slots: slots)
        }
    }

    /// The primary that serves a slot, and its id.
    public func owner(ofSlot slot: Int) async throws -> (server: RedisServer, id: String) {
        let members = try await members()
        guard let member = members.first(where: { $0.isPrimary && $0.slots.contains { $0.contains(slot) } }),
            let server = nodes.first(where: { $0.port == member.port })
        else { throw TestSupportError(.misuse, "nobody serves slot \(slot)") }
        return (server, member.id)
    }

    public func slot(of key: String) async throws -> Int {
        let client = try await nodes.first { $0.isRunning }!.client()
        let slot = try await client.command("CLUSTER", "KEYSLOT", key).integer ?? 0
        await client.close()
        return Int(slot)
    }

    public func replica(of primary: RedisServer) async throws -> RedisServer {
        let members = try await members()
        let id = members.first { $0.port == primary.port }?.id
        guard let port = members.first(where: { $0.primaryID == id && id != nil })?.port,
            let server = nodes.first(where: { $0.port == port })
        else { throw TestSupportError(.misuse, "\(primary.address) has no replica") }
        return server
    }

    /// Waits until these nodes agree that all is well.
    public func waitUntilWell(_ asked: [RedisServer]? = nil, replicas: Int? = nil) async throws {
        for node in asked ?? nodes.filter(\.isRunning) {
            try await eventually("node \(node.port) says that the cluster is well", timeout: .seconds(60)) {
                let client = try await node.client()
                let info = try await client.command("CLUSTER", "INFO").string ?? ""
                let replication = try await client.command("INFO", "replication").string ?? ""
                await client.close()
                guard info.contains("cluster_state:ok"), info.contains("cluster_slots_ok:\(Self.slotCount)") else {
                    return false
                }
                if replication.contains("role:slave") { return replication.contains("master_link_status:up") }
                guard let replicas else { return true }
                return try await self.members(by: node).filter { !$0.isPrimary }.count == replicas
            }
        }
    }

    // MARK: Moving slots

    /// Lets a node that belongs to nothing join.
    public func add(_ spare: RedisServer) async throws {
        try await command(["--cluster", "add-node", busAddress(spare), nodes[0].address])
        for node in nodes where node.isRunning {
            try await eventually("node \(node.port) knows the new one", timeout: .seconds(60)) {
                try await self.members(by: node).contains { $0.port == spare.port }
            }
        }
        // Until it knows of a majority it would refuse the keys that are moved to it.
        try await waitUntilWell()
    }

    /// Moves slots as `redis-cli --cluster reshard` does.
    public func reshard(_ count: Int, from: RedisServer, to: RedisServer) async throws {
        let members = try await members()
        func id(_ server: RedisServer) -> String { members.first { $0.port == server.port }?.id ?? "?" }
        try await command([
            "--cluster", "reshard", nodes.first { $0.isRunning }!.address, "--cluster-from", id(from), "--cluster-to",
            id(to), "--cluster-slots", "\(count)", "--cluster-yes", "--cluster-pipeline", "10",
        ])
    }

    /// The first half of moving one slot: from here on keys that are not at `from` are asked for at `to`.
    public func beginMoving(slot: Int, to: RedisServer) async throws {
        let owner = try await owner(ofSlot: slot)
        let id = try await members().first { $0.port == to.port }?.id ?? "?"
        for (server, words) in [
            (to, ["CLUSTER", "SETSLOT", "\(slot)", "IMPORTING", owner.id]),
            (owner.server, ["CLUSTER", "SETSLOT", "\(slot)", "MIGRATING", id]),
        ] {
            try await send(server, words)
        }
    }

    public func move(_ keys: [String], to: RedisServer, from: RedisServer) async throws {
        try await send(from, ["MIGRATE", "127.0.0.1", "\(to.port)", "", "0", "5000", "KEYS"] + keys)
    }

    /// The second half: the slot is `to`'s.
    public func endMoving(slot: Int, from: RedisServer, to: RedisServer) async throws {
        let id = try await members().first { $0.port == to.port }?.id ?? "?"
        for server in [to, from] { try await send(server, ["CLUSTER", "SETSLOT", "\(slot)", "NODE", id]) }
    }

    private func send(_ server: RedisServer, _ words: [String]) async throws {
        let client = try await server.client()
        let reply = try await client.command(words)
        await client.close()
        if let error = reply.errorMessage {
            throw TestSupportError(.process, "\(words.joined(separator: " ")): \(error)")
        }
    }
}
