import Foundation
import HotKeyTestSupport
import Logging
import Testing
import ZooKeeper

/// What the tests that start servers hang under: one after the other, so that a busy machine's delays stay small
/// against session timeouts.
@Suite(.serialized) struct WithServers {}

/// One server for every test that does not harm it. It ends with the test process.
actor SharedServer {
    static let shared = SharedServer()
    private var starting: Task<ZooKeeperServer, any Error>?

    func server() async throws -> ZooKeeperServer {
        if starting == nil { starting = Task { try await ZooKeeperServer.start() } }
        return try await starting!.value
    }

    static func address() async throws -> String { try await shared.server().address }
}

/// Collects what every client of the tests logs, and what the C library logs through the first of them.
struct CapturingLogHandler: LogHandler {
    static let lines = Guarded<[(level: Logger.Level, text: String)]>([])
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        Self.lines.with { $0.append((event.level, "\(event.message) \(event.metadata ?? [:])")) }
    }
}

func testLogger(_ label: String = "test") -> Logger {
    Logger(label: label) { _ in CapturingLogHandler() }
}

/// Whatever callbacks on foreign threads say, in order.
final class Recorder<Element: Sendable>: Sendable {
    private let elements = Guarded<[Element]>([])
    var all: [Element] { elements.with { $0 } }
    func record(_ element: Element) { elements.with { $0.append(element) } }
    func eventually(_ awaited: String, _ condition: @Sendable ([Element]) -> Bool) async throws {
        try await HotKeyTestSupport.eventually(awaited, value: { self.all }, until: condition)
    }
}

func configuration(
    _ servers: String..., chroot: String? = nil, session: Int = 10_000, operation: Int = 10_000,
    authentication: [ZooKeeperCredential] = [], maxInFlight: Int = 1_024
) throws -> ZooKeeperConfiguration {
    try ZooKeeperConfiguration(
        servers: servers, chroot: chroot, sessionTimeoutMilliseconds: session, operationTimeoutMilliseconds: operation,
        authentication: authentication, maxInFlight: maxInFlight)
}

/// Connects, gives the body an own root node, closes.
func withClient<R>(
    _ configuration: ZooKeeperConfiguration? = nil, _ body: (ZooKeeperClient, _ root: String) async throws -> sending R
) async throws -> sending R {
    let fallback = try ZooKeeperConfiguration(
        servers: [try await SharedServer.address()], operationTimeoutMilliseconds: 20_000)
    return try await ZooKeeperClient.withClient(
        configuration ?? fallback, logger: testLogger(), connectTimeoutMilliseconds: 30_000
    ) { client in
        let root = try await client.create("/test-\(randomToken())", [], mode: .persistent)
        return try await body(client, root)
    }
}

/// Starts a client that need not connect, and closes it in every case.
func withStartedClient<R>(
    _ configuration: ZooKeeperConfiguration, random: @escaping @Sendable () -> Double = { 0.5 },
    _ body: (ZooKeeperClient) async throws -> R
) async throws -> R {
    let client = ZooKeeperClient(configuration: configuration, logger: testLogger(), random: random)
    client.start()
    do {
        let result = try await body(client)
        await client.close()
        return result
    } catch {
        await client.close()
        throw error
    }
}

func storeError<R>(_ body: () async throws -> R) async -> StoreError? {
    do {
        _ = try await body()
        return nil
    } catch {
        return error as? StoreError
    }
}

/// Closures stand outside of `#expect`: within another closure, Swift 6.3 confuses one inside the macro with the next
/// one outside, and calls the wrong one.
func expectError<R>(
    _ code: StoreError.Code, sourceLocation: SourceLocation = #_sourceLocation, _ body: () async throws -> R
) async {
    let error = await storeError(body)
    #expect(error?.code == code, "\(String(describing: error))", sourceLocation: sourceLocation)
}

func expectCancelled<R>(sourceLocation: SourceLocation = #_sourceLocation, _ body: () async throws -> R) async {
    do {
        _ = try await body()
        Issue.record("expected a cancellation", sourceLocation: sourceLocation)
    } catch {
        #expect(error is CancellationError, sourceLocation: sourceLocation)
    }
}

/// The session of a client that is connected.
func sessionID(_ client: ZooKeeperClient) throws -> Int64 {
    guard case .connected(let id) = client.connectionState else {
        throw TestFailure("expected a connected client, found \(client.connectionState)")
    }
    return id
}

struct TestFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
