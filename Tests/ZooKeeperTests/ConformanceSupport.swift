import HotKeyTestSupport
import Testing

@testable import ZooKeeper

/// The stores that have to keep the promises of ``CoordinationStore``.
enum StoreUnderTest: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case zooKeeper
    case inMemory

    var testDescription: String { rawValue }
}

/// One tree and the sessions that a test opens on it; all are closed at the end.
final class ConformanceWorld: Sendable {
    private let kind: StoreUnderTest
    private let address: String
    private let ensemble = InMemoryEnsemble()
    private let closers = Guarded<[@Sendable () async -> Void]>([])
    /// A node that is this test's alone.
    let root: String

    private init(_ kind: StoreUnderTest, address: String) {
        self.kind = kind
        self.address = address
        root = "/conformance-\(randomToken())"
    }

    static func with<R>(
        _ kind: StoreUnderTest, _ body: (ConformanceWorld, any CoordinationStore) async throws -> R
    ) async throws -> R {
        let address = kind == .zooKeeper ? try await SharedServer.address() : ""
        let world = ConformanceWorld(kind, address: address)
        do {
            let store = try await world.open()
            try await store.create(world.root)
            let result = try await body(world, store)
            await world.close()
            return result
        } catch {
            await world.close()
            throw error
        }
    }

    /// Another session on the same tree.
    func open(
        chroot: String? = nil, as credentials: ZooKeeperCredential...
    ) async throws -> any CoordinationStore {
        try await openClosable(chroot: chroot, as: credentials).store
    }

    func openClosable(
        chroot: String? = nil, as credentials: [ZooKeeperCredential] = []
    ) async throws -> (store: any CoordinationStore, close: @Sendable () async -> Void) {
        switch kind {
        case .zooKeeper:
            let client = ZooKeeperClient(
                configuration: try configuration(
                    address, chroot: chroot, operation: 20_000, authentication: credentials), logger: testLogger())
            client.start()
            closers.with { $0.append { await client.close() } }
            try await client.waitUntilConnected(timeoutMilliseconds: 30_000)
            return (client, { await client.close() })
        case .inMemory:
            let store = try InMemoryStore(ensemble: ensemble, chroot: chroot, authentication: credentials)
            closers.with { $0.append { await store.close() } }
            return (store, { await store.close() })
        }
    }

    private func close() async {
        for closer in closers.with({ $0 }) { await closer() }
    }
}

/// The session that a store is connected with.
func establishedSession(_ store: any CoordinationStore) async throws -> Int64 {
    for await case .connected(let id) in store.connectionStates { return id }
    throw TestFailure("the store was closed")
}

extension CoordinationStore {
    /// Every event of the session up to here has been delivered: a reply comes after them.
    func flushEvents() async throws { try await sync("/") }
}
