/// One ZooKeeper server, or three that elect a leader.
public final class ZooKeeperEnsemble: Stoppable {
    public let servers: [ZooKeeperServer]

    private init(servers: [ZooKeeperServer]) {
        self.servers = servers
    }

    /// Starts `count` servers (odd, at least 1) and waits until all of them serve clients.
    public static func start(
        servers count: Int = 1, _ configuration: ZooKeeperServer.Configuration = .init()
    ) async throws -> ZooKeeperEnsemble {
        precondition(count > 0 && count % 2 == 1, "an ensemble has an odd number of servers")
        guard count > 1 else { return ZooKeeperEnsemble(servers: [try await .start(configuration)]) }
        return try await startWithFreePorts {
            let members = try (0..<count).map { _ in
                "127.0.0.1:\(try FreePort.next()):\(try FreePort.next())"
            }
            let ensemble = ZooKeeperEnsemble(
                servers: try (1...count).map { id in
                    try ZooKeeperServer(id: id, port: FreePort.next(), members: members, configuration: configuration)
                })
            try await ensemble.start()
            return ensemble
        }
    }

    /// Starts every server that is not running and waits until all serve clients.
    public func start() async throws {
        // Together: one of several alone is not ready before the others are there.
        try await StartGate.heavy.run {
            for server in servers where !server.isRunning { try await server.lifecycle.launch() }
            try await waitUntilReady()
        }
    }

    /// Waits until every running server serves clients; that needs a majority.
    public func waitUntilReady() async throws {
        for server in servers where server.isRunning { try await server.lifecycle.waitUntilReady() }
    }

    /// What a client is given to connect to any of the servers.
    public var connectString: String { servers.map(\.connectString).joined(separator: ",") }

    /// The server that leads (or stands alone) now; waits for an election that is under way.
    public func leader() async throws -> ZooKeeperServer {
        var leader: ZooKeeperServer?
        try await eventually("a ZooKeeper leader") {
            for server in servers where server.isRunning {
                if let mode = await server.mode(), mode == "leader" || mode == "standalone" {
                    leader = server
                    return true
                }
            }
            return false
        }
        return leader!
    }

    /// The running servers that follow now.
    public func followers() async throws -> [ZooKeeperServer] {
        let leader = try await leader()
        return servers.filter { $0 !== leader && $0.isRunning }
    }

    /// Stops every server.
    public func stop() async {
        await withTaskGroup(of: Void.self) { group in
            for server in servers { group.addTask { await server.stop() } }
        }
    }

    /// Kills every server at once.
    public func kill() async {
        await withTaskGroup(of: Void.self) { group in
            for server in servers { group.addTask { await server.kill() } }
        }
    }

    /// Suspends or resumes every server: a coordination service that is there and does not answer.
    public func suspend() { for server in servers { server.suspend() } }
    public func resume() { for server in servers { server.resume() } }
}
