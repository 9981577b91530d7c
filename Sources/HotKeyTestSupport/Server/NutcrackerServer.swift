/// A real twemproxy (Debian's `nutcracker`) before some cache nodes: what placement is compared with.
public final class NutcrackerServer: ManagedServer {
    /// A cache node as twemproxy's configuration names it.
    public struct Node: Sendable {
        public var port: Int
        public var weight: Int
        /// What stands on the ring; nil: twemproxy uses `127.0.0.1:PORT:WEIGHT`'s host and port.
        public var name: String?

        public init(port: Int, weight: Int = 1, name: String? = nil) {
            self.port = port
            self.weight = weight
            self.name = name
        }
    }

    public let lifecycle: ServerLifecycle
    public let port: Int
    private let directory: TemporaryDirectory

    /// Starts twemproxy and waits until it answers.
    ///
    /// - Parameters:
    ///   - hash, distribution, hashTag: as in twemproxy's configuration.
    ///   - settings: further settings of the pool, for instance `["timeout": "400"]`; they win.
    public static func start(
        nodes: [Node], hash: String = "fnv1a_64", distribution: String = "ketama", hashTag: String? = nil,
        settings: [String: String] = [:]
    ) async throws -> NutcrackerServer {
        try await startWithFreePorts {
            var pool = ["hash": hash, "distribution": distribution]
            pool["hash_tag"] = hashTag.map { "\"\($0)\"" }
            pool.merge(settings) { _, new in new }
            let server = try NutcrackerServer(port: FreePort.next(), nodes: nodes, pool: pool)
            try await server.start()
            return server
        }
    }

    private init(port: Int, nodes: [Node], pool: [String: String]) throws {
        let directory = try TemporaryDirectory(prefix: "hotkey-nutcracker")
        self.directory = directory
        self.port = port
        var text = "pool:\n  listen: 127.0.0.1:\(port)\n  redis: true\n"
        for (name, value) in pool.sorted(by: { $0.key < $1.key }) { text += "  \(name): \(value)\n" }
        text += "  servers:\n"
        for node in nodes {
            text += "    - 127.0.0.1:\(node.port):\(node.weight)\(node.name.map { " \($0)" } ?? "")\n"
        }
        let file = try directory.write(text, to: "nutcracker.yml")
        lifecycle = ServerLifecycle(
            name: "nutcracker on port \(port)",
            executable: try SystemTool.nutcracker(),
            // Its statistics port would otherwise be open on every interface.
            arguments: [
                "--conf-file=\(file)", "--stats-addr=127.0.0.1", "--stats-port=\(try FreePort.next())",
                "--output=/dev/stderr", "--pid-file=\(directory.file("pid"))",
            ],
            workingDirectory: directory.path,
            isReady: { try await pingIsAnswered(port: port) })
    }
}
