import Foundation

/// A real ZooKeeper server (Debian's package), alone or as a member of a ``ZooKeeperEnsemble``.
public final class ZooKeeperServer: ManagedServer {
    public struct Configuration: Sendable {
        /// ZooKeeper's unit of time; short, so that sessions may be short.
        public var tickTimeMilliseconds = 500
        public var minSessionTimeoutMilliseconds = 1000
        public var maxSessionTimeoutMilliseconds = 60_000
        /// How long a follower may take to join, and to stay in step.
        public var initLimitTicks = 20
        public var syncLimitTicks = 10
        /// Further lines of `zoo.cfg`; they win over the ones above.
        public var lines: [String: String] = [:]
        /// Java system properties, for instance `jute.maxbuffer`. `zookeeper.forceSync` is `no`: what a killed server wrote
        /// is in the kernel's cache, only a machine's crash would lose it.
        public var systemProperties: [String: String] = [:]

        public init() {}
    }

    public let lifecycle: ServerLifecycle
    /// The client port.
    public let port: Int
    /// Its number in the ensemble, from 1.
    public let id: Int
    private let directory: TemporaryDirectory
    var dataDirectory: String { directory.file("data") }

    /// What a client is given to connect to this server alone.
    public var connectString: String { address }

    /// Starts one server by itself and waits until it serves clients.
    public static func start(_ configuration: Configuration = Configuration()) async throws -> ZooKeeperServer {
        try await startWithFreePorts {
            let server = try ZooKeeperServer(id: 1, port: FreePort.next(), members: [], configuration: configuration)
            try await server.start()
            return server
        }
    }

    /// - Parameter members: the `server.N=` values of an ensemble, none for a server by itself.
    init(id: Int, port: Int, members: [String], configuration: Configuration) throws {
        let directory = try TemporaryDirectory(prefix: "hotkey-zk")
        self.directory = directory
        self.id = id
        self.port = port
        let data = directory.file("data")
        try FileManager.default.createDirectory(atPath: data, withIntermediateDirectories: true)

        var settings: [String: String] = [
            "tickTime": "\(configuration.tickTimeMilliseconds)",
            "minSessionTimeout": "\(configuration.minSessionTimeoutMilliseconds)",
            "maxSessionTimeout": "\(configuration.maxSessionTimeoutMilliseconds)",
            "initLimit": "\(configuration.initLimitTicks)",
            "syncLimit": "\(configuration.syncLimitTicks)",
            "dataDir": data,
            "clientPort": "\(port)",
            "clientPortAddress": "127.0.0.1",
            "maxClientCnxns": "0",
            "4lw.commands.whitelist": "*",
            "admin.enableServer": "false",
        ]
        for (index, member) in members.enumerated() { settings["server.\(index + 1)"] = member }
        settings.merge(configuration.lines) { _, new in new }
        let lines = settings.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)\n" }
        let file = try directory.write(lines.joined(), to: "zoo.cfg")
        try directory.write("\(id)\n", to: "data/myid")

        var properties = [
            "java.awt.headless": "true",
            "zookeeper.forceSync": "no",
            "zookeeper.extendedTypesEnabled": "true",
            "zookeeper.preAllocSize": "1024",
            "org.slf4j.simpleLogger.showDateTime": "true",
            "org.slf4j.simpleLogger.dateTimeFormat": "HH:mm:ss.SSS",
        ]
        properties.merge(configuration.systemProperties) { _, new in new }
        lifecycle = ServerLifecycle(
            name: "ZooKeeper \(id) on port \(port)",
            executable: try SystemTool.java(),
            arguments: [
                "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx256m", "-XX:-UsePerfData",
                "-XX:ErrorFile=\(directory.file("hs_err.log"))",
            ] + properties.sorted { $0.key < $1.key }.map { "-D\($0.key)=\($0.value)" } + [
                "-cp", try Self.classPath(), "org.apache.zookeeper.server.quorum.QuorumPeerMain", file,
            ],
            workingDirectory: directory.path,
            gate: .heavy,
            isReady: {
                // A word that arrives while the server is coming up may never be answered.
                let description = try await Self.ask("srvr", port: port, timeout: .milliseconds(500))
                return description.contains("Mode: ")
            })
    }

    /// ZooKeeper's jar names the others in its manifest, all but a logger.
    static func classPath() throws -> String {
        let jars = ["/usr/share/java/zookeeper.jar", "/usr/share/java/slf4j-simple.jar"]
        for jar in jars where !FileManager.default.fileExists(atPath: jar) {
            throw SystemTool.missing(jar, debianPackage: "zookeeper")
        }
        return jars.joined(separator: ":")
    }

    /// The answer to one of ZooKeeper's four-letter words (`ruok`, `srvr`, `mntr`, `wchs`, `wchp`, `cons`, `dump`, …).
    public func fourLetterWord(_ word: String) async throws -> String {
        try await Self.ask(word, port: port)
    }

    /// `mntr` as a dictionary, for instance `zk_watch_count`.
    public func monitor() async throws -> [String: String] {
        var values: [String: String] = [:]
        for line in try await fourLetterWord("mntr").split(separator: "\n") {
            let fields = line.split(separator: "\t", maxSplits: 1)
            if fields.count == 2 { values[String(fields[0])] = String(fields[1]) }
        }
        return values
    }

    /// `leader`, `follower`, `standalone`, or nil while the server serves no clients or does not answer within a second.
    public func mode() async -> String? {
        guard let description = try? await Self.ask("srvr", port: port, timeout: .seconds(1)) else { return nil }
        return description.split(separator: "\n").first { $0.hasPrefix("Mode: ") }.map { String($0.dropFirst(6)) }
    }

    private static func ask(
        _ word: String, port: Int, timeout: Duration = TestSupportLimits.socketTimeout
    ) async throws -> String {
        try await onOwnThread {
            let socket = try TestSocket(port: port, timeout: timeout)
            try socket.write(Array(word.utf8))
            var answer: [UInt8] = []
            while answer.count < TestSupportLimits.fourLetterAnswerBytesMax {
                let chunk = try socket.read(upTo: 64 << 10)
                if chunk.isEmpty { break }
                answer += chunk
            }
            return String(decoding: answer, as: UTF8.self)
        }
    }
}
