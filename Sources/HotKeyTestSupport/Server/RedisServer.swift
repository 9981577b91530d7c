/// A real Redis server that keeps nothing on disk. What it held is gone when it is stopped.
public final class RedisServer: ManagedServer {
    public let lifecycle: ServerLifecycle
    public let port: Int
    /// The address of its Unix socket.
    public let unixSocketPath: String
    private let directory: TemporaryDirectory

    /// Starts a server and waits until it answers.
    ///
    /// - Parameter extraArguments: as on redis-server's command line, for instance `["--maxmemory", "10mb"]`.
    public static func start(extraArguments: [String] = []) async throws -> RedisServer {
        try await startWithFreePorts {
            let server = try RedisServer(port: FreePort.next(), extraArguments: extraArguments)
            try await server.start()
            return server
        }
    }

    private init(port: Int, extraArguments: [String]) throws {
        let directory = try TemporaryDirectory(prefix: "hotkey-redis")
        let unixSocketPath = directory.file("s")
        self.directory = directory
        self.port = port
        self.unixSocketPath = unixSocketPath
        lifecycle = ServerLifecycle(
            name: "Redis on port \(port)",
            executable: try SystemTool.redisServer(),
            arguments: [
                "--port", "\(port)", "--bind", "127.0.0.1", "--unixsocket", unixSocketPath, "--save", "",
                "--appendonly", "no", "--daemonize", "no", "--dir", directory.path, "--logfile", "",
            ] + extraArguments,
            workingDirectory: directory.path,
            isReady: { try await pingIsAnswered(port: port) })
    }

    /// A connection to this server for the test itself.
    public func client() async throws -> RedisTestClient {
        try await RedisTestClient.connect(port: port)
    }
}

/// Whether a RESP server answers PING with anything but "I am loading": an error such as NOAUTH shows that it serves.
func pingIsAnswered(port: Int) async throws -> Bool {
    try await onOwnThread {
        let connection = try RedisTestConnection(port: port, timeout: .seconds(1))
        let reply = try connection.command(["PING"])
        return reply.errorMessage?.hasPrefix("LOADING") != true
    }
}
