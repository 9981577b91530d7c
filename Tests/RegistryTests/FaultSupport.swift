import HotKeyRegistry
import HotKeyTestSupport
import Testing
import ZooKeeper

/// Waits for a state of what a subscriber knows; a failure shows what it knew instead.
func follow(
    _ subscriber: RegistrySubscriber, _ awaited: String, fileID: String = #fileID, line: Int = #line,
    _ condition: (RegistrySnapshot) -> Bool
) async throws {
    do {
        try await eventually(awaited, fileID: fileID, line: line) { condition(subscriber.current) }
    } catch {
        let snapshot = subscriber.current
        Issue.record(
            """
            \(error); view \(snapshot.view), position \(String(describing: snapshot.position)), \(snapshot.hot.count) keys, \
            pins \(snapshot.pins?.pins.map(\.key.description) ?? []), problems \(snapshot.problems), \(subscriber.metrics)
            """)
        throw error
    }
}

/// An agent that follows the registry and stands for election, as `hkagent` puts them together: its publisher is fed with what
/// ``heat`` says.
final class TestAgent: Sendable {
    let app: TestApp
    let id: String
    let subscriber: RegistrySubscriber
    private let store: any CoordinationStore
    private let heat: Guarded<[HotRecord]>
    private let memory = PublisherMemory()
    private let reign = Guarded<(count: Int, publisher: HotSetPublisher?)>((0, nil))

    init(_ app: TestApp, _ store: any CoordinationStore, id: String, heat: [HotRecord] = []) {
        self.app = app
        self.id = id
        self.store = store
        self.heat = Guarded(heat)
        subscriber = RegistrySubscriber(store: store, paths: app.paths, rereadMilliseconds: 2_000, logger: app.logger)
    }

    /// How often it has led.
    var reigns: Int { reign.with { $0.count } }
    /// While it leads.
    var publisher: HotSetPublisher? { reign.with { $0.publisher } }

    func heat(_ records: [HotRecord]) { heat.with { $0 = records } }

    func run() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.subscriber.run() }
            group.addTask {
                try await self.app.lead(self.store, id: self.id) { try await self.lead($0) }
            }
            try await group.waitForAll()
        }
    }

    private func lead(_ leadership: Leadership) async throws {
        let publisher = try await HotSetPublisher.open(
            store: store, paths: app.paths, leadership: leadership, coordinator: leadership.agent,
            seen: subscriber.current.position, memory: memory, checkMilliseconds: 300, logger: app.logger)
        reign.with { $0 = ($0.count + 1, publisher) }
        defer { reign.with { $0.publisher = nil } }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await publisher.run() }
            group.addTask {
                while true {
                    await publisher.replaceAll(self.heat.with { $0 })
                    try await Task.sleep(for: .milliseconds(20))
                }
            }
            defer { group.cancelAll() }
            try await group.next()
        }
    }
}
