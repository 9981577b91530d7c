import HotKeyTestSupport
import Testing
import ZooKeeper

@testable import HotKeyRegistry

extension WithServers {
    /// What a fleet asks of an ensemble that has just elected a leader: the moment at which it bears least.
    @Suite struct EnsembleElections {
        private static let agents = 200
        /// Five nodes are looked at; what changed meanwhile is read.
        private static let readsMax = 7

        private struct Following: Sendable {
            var store: ReadCountingStore
            var subscriber: RegistrySubscriber
        }

        @Test func aFleetAsksLittleAfterAnElection() async throws {
            try await ZooKeeperEnsemble.start(servers: 3).use { ensemble in
                let app = try await TestApp(address: ensemble.connectString)
                try await app.with(session: 20_000) { writer in
                    try await app.initialise(writer)
                    let hot = Guarded((0..<200).map { KeyName("item:\($0)") })
                    // It may lose its place with the ensemble's leader, and has to get it again.
                    try await running([{ try await coordinate(app, writer, hot) }]) {
                        try await withAgents(ensemble, app) { try await election(ensemble, app, writer, $0, hot) }
                    }
                }
            }
        }

        /// Publishes what should be hot, for as long as it leads.
        private func coordinate(_ app: TestApp, _ store: ZooKeeperClient, _ hot: Guarded<[KeyName]>) async throws {
            try await app.lead(store) { leadership in
                let publisher = try await app.openPublisher(store, leadership)
                try await running([publisher.run]) {
                    while true {
                        await publisher.submit(hot.with { $0 }.map { .set(record($0)) })
                        try await Task.sleep(for: .milliseconds(50))
                    }
                }
            }
        }

        private func withAgents(
            _ ensemble: ZooKeeperEnsemble, _ app: TestApp, _ body: ([ZooKeeperClient]) async throws -> Void
        ) async throws {
            let configuration = try ZooKeeperConfiguration(
                servers: ensemble.servers.map(\.connectString), sessionTimeoutMilliseconds: 20_000)
            let clients = (0..<Self.agents).map { _ in
                ZooKeeperClient(configuration: configuration, logger: app.logger)
            }
            for client in clients { client.start() }
            let outcome: Result<Void, any Error>
            do {
                outcome = .success(try await body(clients))
            } catch {
                outcome = .failure(error)
            }
            await withTaskGroup(of: Void.self) { group in
                for client in clients { group.addTask { await client.close() } }
            }
            try outcome.get()
        }

        private func election(
            _ ensemble: ZooKeeperEnsemble, _ app: TestApp, _ writer: ZooKeeperClient, _ clients: [ZooKeeperClient],
            _ hot: Guarded<[KeyName]>
        ) async throws {
            let fleet = clients.map { client in
                let store = ReadCountingStore(client)
                // Only the election makes them read again.
                let subscriber = RegistrySubscriber(
                    store: store, paths: app.paths, rereadMilliseconds: 3_600_000, logger: app.logger)
                return Following(store: store, subscriber: subscriber)
            }
            try await running(fleet.map { $0.subscriber.run }) {
                try await eventually("all agents have the hot set") {
                    fleet.allSatisfy { $0.subscriber.current.hot.count == 200 && $0.subscriber.current.view == .fresh }
                }
                let connections = fleet.map(\.subscriber.metrics.fullReads)
                for agent in fleet { agent.store.forget() }
                // Heat does not stand still meanwhile.
                hot.with { $0 += (0..<20).map { KeyName("new:\($0)") } }
                try await ensemble.leader().kill()
                // Nothing but a new connection makes them read everything within the hour.
                try await eventually("all agents were let go, and are fresh again") {
                    zip(fleet, connections).allSatisfy { agent, before in
                        agent.subscriber.metrics.fullReads > before && agent.subscriber.current.view == .fresh
                    }
                }
                let reads = fleet.map(\.store.reads).sorted()
                print(
                    "figure: election of the ensemble under \(Self.agents) agents: \(reads.first!) to \(reads.last!) "
                        + "reads an agent until all were fresh, \(Double(reads.reduce(0, +)) / Double(reads.count)) on average"
                )
                #expect(reads.allSatisfy { $0 <= Self.readsMax }, "\(reads)")
                try await app.makeOperator(writer).pin("item:42")
                try await eventually("all agents have what happened meanwhile") {
                    fleet.allSatisfy {
                        let current = $0.subscriber.current
                        return current.hot.count == 220 && current.pins?.pins.map(\.key) == ["item:42"]
                    }
                }
            }
        }
    }
}

/// Counts what is asked of the ensemble.
private struct ReadCountingStore: ForwardingStore {
    let store: any CoordinationStore
    private let count = Guarded(0)

    init(_ store: any CoordinationStore) { self.store = store }

    var reads: Int { count.with { $0 } }
    func forget() { count.with { $0 = 0 } }

    private func counted() -> any CoordinationStore {
        count.with { $0 += 1 }
        return store
    }

    func get(_ path: String) async throws -> NodeValue { try await counted().get(path) }
    func get(_ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void) async throws -> NodeValue {
        try await counted().get(path, onEvent: onEvent)
    }
    func exists(_ path: String) async throws -> NodeStat? { try await counted().exists(path) }
    func exists(_ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void) async throws -> NodeStat? {
        try await counted().exists(path, onEvent: onEvent)
    }
    func children(_ path: String) async throws -> NodeChildren { try await counted().children(path) }
    func children(_ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void) async throws -> NodeChildren {
        try await counted().children(path, onEvent: onEvent)
    }
    func sync(_ path: String) async throws { try await counted().sync(path) }
    func accessControl(_ path: String) async throws -> (acl: [AccessControl], stat: NodeStat) {
        try await counted().accessControl(path)
    }
}
