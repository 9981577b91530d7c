import HotKeyPeer
import HotKeyTestSupport
import NIOConcurrencyHelpers

/// One `hkagent` process on ports and a state directory of its own, which it keeps when it is started again.
final class Agent: Sendable {
    /// Shorter than in production, so that a killed agent is missed within a test's patience; not so short that a busy machine
    /// loses sessions.
    static let sessionTimeoutMilliseconds: Int64 = 4_000

    let id: String
    let appPort: Int
    let peerPort: Int
    let adminPort: Int
    private let arguments: [String]
    private let state: TemporaryDirectory
    private let running = NIOLockedValueBox<SpawnedProcess?>(nil)

    /// - Parameter settings: further flags with their values, for instance `["--threads": "1"]`; they win.
    init(id: String, app: String, zookeeper: String, settings: [String: String] = [:]) throws {
        self.id = id
        appPort = try FreePort.next()
        peerPort = try FreePort.next()
        adminPort = try FreePort.next()
        state = try TemporaryDirectory(prefix: "hotkey-agent")
        var flags = [
            "--app": app, "--id": id, "--zookeeper": zookeeper, "--state-dir": state.path, "--threads": "2",
            "--listen": "127.0.0.1:\(appPort)", "--peer": "127.0.0.1:\(peerPort)", "--admin": "127.0.0.1:\(adminPort)",
            "--zookeeper-session-timeout-milliseconds": "\(Self.sessionTimeoutMilliseconds)",
            "--breaker-open-milliseconds": "300",
            "--breaker-open-milliseconds-max": "1000",
        ]
        flags.merge(settings) { _, new in new }
        arguments = ["run"] + flags.sorted { $0.key < $1.key }.flatMap { [$0.key, $0.value] }
    }

    // MARK: The process

    var process: SpawnedProcess {
        get throws {
            guard let process = running.withLockedValue({ $0 }) else {
                throw TestSupportError(.misuse, "agent \(id) was never started")
            }
            return process
        }
    }

    /// Starts the process, without waiting for anything.
    func launch() async throws {
        let process = try await SpawnedProcess.start(try BinaryLocator.path("hkagent"), arguments)
        running.withLockedValue { $0 = process }
    }

    /// Starts the process and waits until it says that it is ready.
    func start() async throws {
        try await launch()
        try await waitUntilReady()
    }

    func waitUntilReady() async throws {
        try await whileRunning("agent \(id) is ready") { try await self.http("/readyz").status == 200 }
    }

    /// As `eventually`, but at once over when the process has ended, and then with its log.
    func whileRunning(_ awaited: String, _ condition: () async throws -> Bool) async throws {
        let process = try process
        try await eventually(awaited) {
            guard process.isRunning else { return true }
            return try await condition()
        }
        guard process.isRunning else {
            throw TestSupportError(.process, "agent \(id) ended, awaited: \(awaited). Log:\n\(process.allOutput)")
        }
    }

    /// SIGTERM. nil when it was never started.
    func stop() async -> SpawnedProcess.Termination? {
        await running.withLockedValue { $0 }?.stop()
    }

    /// SIGKILL.
    func kill() async { await running.withLockedValue { $0 }?.kill() }

    var log: String { running.withLockedValue { $0?.allOutput ?? "" } }

    // MARK: What it says

    func client() async throws -> RedisTestClient { try await RedisTestClient.connect(port: appPort) }

    /// Over a connection to the peer listener that lasts for `body`.
    func ask<R: Sendable>(_ body: (PeerClient) async throws -> R) async throws -> R {
        let client = try await PeerClient.connect(host: "127.0.0.1", port: peerPort)
        do {
            let result = try await body(client)
            await client.close()
            return result
        } catch {
            await client.close()
            throw error
        }
    }

    func status() async throws -> AgentStatus { try await ask { try await $0.status() } }
    func list() async throws -> KeyList { try await ask { try await $0.list() } }
    func key(_ key: String) async throws -> KeyStatus { try await ask { try await $0.get(Array(key.utf8)) } }
    func route(_ key: String) async throws -> RouteStatus { try await ask { try await $0.route(Array(key.utf8)) } }

    /// Waits until the agent holds a key in a state, over one connection, and returns what it then says of it.
    @discardableResult
    func waitFor(
        _ name: String, _ awaited: String, where condition: @Sendable (KeyStatus) -> Bool
    ) async throws -> KeyStatus {
        try await ask { client in
            try await eventually("\(name) is \(awaited) at agent \(self.id)") {
                try await client.get(Array(name.utf8))
            } until: {
                condition($0)
            }
        }
    }

    func http(_ path: String) async throws -> HTTPReply { try await HTTPReply.get(path, port: adminPort) }
}
