import Foundation
import HotKeyRegistry
import HotKeyTestSupport
import Logging
import Testing
import ZooKeeper

/// What the tests on real servers hang under: one after the other, so that a busy machine's delays stay small against
/// session timeouts.
@Suite(.serialized) struct WithServers {}

/// One server for every test that does not harm it. It ends with the test process.
actor SharedServer {
    static let shared = SharedServer()
    private var starting: Task<ZooKeeperServer, any Error>?

    func server() async throws -> ZooKeeperServer {
        if let starting { return try await starting.value }
        let task = Task { try await ZooKeeperServer.start() }
        starting = task
        return try await task.value
    }
}

/// Keeps what was logged, so that a test can ask for a warning.
struct RecordingLogHandler: LogHandler {
    // Unchecked: every access to `lines` is under the lock.
    final class Lines: @unchecked Sendable {
        private let lock = NSLock()
        private var lines: [String] = []
        func append(_ line: String) { lock.withLock { lines.append(line) } }
        var all: [String] { lock.withLock { lines } }
    }
    let lines: Lines
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.debug

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { lines.append("\(event.level): \(event.message) \(event.metadata ?? [:])") }
}

/// An app of its own on a real ZooKeeper, and clients to it.
struct TestApp: Sendable {
    let address: String
    let paths: RegistryPaths
    let lines = RecordingLogHandler.Lines()
    var logger: Logger {
        let lines = lines
        return Logger(label: "test") { _ in RecordingLogHandler(lines: lines) }
    }

    init(address: String? = nil, root: String? = nil) async throws {
        let shared = address == nil ? try await SharedServer.shared.server().address : ""
        self.address = address ?? shared
        paths = try RegistryPaths(root: root ?? "/t\(UInt64.random(in: 0 ... .max))/hotkeys", app: "shop")
    }

    @discardableResult
    func with<Result>(
        at other: String? = nil, session: Int = 10_000, operation: Int = 10_000,
        isolation: isolated (any Actor)? = #isolation, _ body: (ZooKeeperClient) async throws -> sending Result
    ) async throws -> sending Result {
        let configuration = try ZooKeeperConfiguration(
            servers: (other ?? address).split(separator: ",").map(String.init), sessionTimeoutMilliseconds: session,
            operationTimeoutMilliseconds: operation)
        return try await ZooKeeperClient.withClient(configuration, logger: logger, isolation: isolation, body)
    }

    func makeOperator(_ store: any CoordinationStore, author: String = "ann") throws -> RegistryOperator {
        try RegistryOperator(store: store, paths: paths, author: author, logger: logger)
    }

    static let topology = TopologyDocument(nodes: [
        .init(name: "a", address: "127.0.0.1:7001"), .init(name: "b", address: "127.0.0.1:7002"),
    ])

    @discardableResult
    func initialise(_ store: any CoordinationStore) async throws -> InitialiseReport {
        try await makeOperator(store).initialise(topology: Self.topology)
    }

    /// Stands for election and holds it while the body runs.
    func lead(
        _ store: any CoordinationStore, id: String = "host-1",
        _ body: @escaping @Sendable (Leadership) async throws -> Void
    ) async throws {
        let election = LeaderElection(store: store, paths: paths, id: try AgentID(id), logger: logger)
        try await election.run(body)
    }

    func openPublisher(
        _ store: any CoordinationStore, _ leadership: Leadership
    ) async throws -> HotSetPublisher {
        try await HotSetPublisher.open(
            store: store, paths: paths, leadership: leadership, coordinator: leadership.agent, logger: logger)
    }
}

/// Runs a service beside the body and ends it with the body.
func running<Result: Sendable>(
    _ services: [@Sendable () async throws -> Void], _ body: @Sendable () async throws -> Result
) async throws -> Result {
    try await withThrowingTaskGroup(of: Void.self) { group in
        for service in services { group.addTask { try await service() } }
        let result: Result
        do {
            result = try await body()
        } catch {
            group.cancelAll()
            throw error
        }
        group.cancelAll()
        try await group.waitForAll()
        return result
    }
}

let start = Timestamp("2026-11-22T10:00:00Z")!

/// More keys of one bucket, 5, than fit into it. Searched for once: it takes thousands of hashes of a kilobyte.
let keysThatOverfillABucket: [KeyName] = {
    let long = String(repeating: "k", count: 1_000)
    return Array((1_000...).lazy.map { KeyName("\(long)\($0)") }.filter { $0.bucket == 5 }.prefix(70))
}()

func record(
    _ key: KeyName, _ state: HotState = .hot, kind: HotKind = .read, reads: Double = 5_230, copies: Int? = 3
) -> HotRecord {
    HotRecord(
        key: key, state: state, kind: kind, readsPerSecond: reads, errorPerSecond: 12, copies: copies,
        sources: ["agents"], since: start)
}

extension Array where Element == UInt8 {
    var text: String { String(decoding: self, as: UTF8.self) }
}
