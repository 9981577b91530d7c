import HotKeyTestSupport
import Testing
import ZooKeeper

@testable import HotKeyRegistry

extension WithServers {
    /// Znodes that are deleted and made again under those who watch them.
    @Suite struct Recreations {
        @Test func aWatchedNodeIsDeletedAndMadeAgain() async throws {
            let app = try await TestApp()
            try await app.with { writer in
                try await app.initialise(writer)
                try await app.with { reader in
                    let subscriber = RegistrySubscriber(store: reader, paths: app.paths, logger: app.logger)
                    try await running([subscriber.run]) {
                        try await eventually("the view is fresh") { subscriber.current.view == .fresh }
                        let mode = try RegistryCodec.encode(ControlDocument(mode: .observe), source: "control")
                        let pins = PinsDocument(
                            pins: [PinEntry(key: "again", author: "ann", at: start)], denies: [], history: [])
                        for (path, data) in [
                            (app.paths.control, mode),
                            (app.paths.pins, try RegistryCodec.encode(pins, source: "pins")),
                        ] {
                            try await writer.delete(path, version: nil)
                            try await eventually("it is missed") {
                                subscriber.current.problems.contains { $0.path == path }
                            }
                            // The last good one stays in force.
                            #expect(subscriber.current.control != nil && subscriber.current.pins != nil)
                            try await writer.create(path, data)
                        }
                        try await eventually("both are in force") {
                            subscriber.current.mode == .observe
                                && subscriber.current.pins?.pins.map(\.key) == ["again"]
                        }
                        // And are watched again.
                        try await app.makeOperator(writer).pin("watched")
                        try await eventually("news of the new node") {
                            subscriber.current.pins?.pins.map(\.key).contains("watched") == true
                        }
                        #expect(subscriber.metrics.watchesHealed == 0)
                    }
                }
            }
        }

        @Test func theRootIsRemovedAndMadeAnewUnderSubscribers() async throws {
            let app = try await TestApp()
            try await app.with { writer in
                try await app.initialise(writer)
                try await app.makeOperator(writer).pin("before")
                let hot = Guarded(KeyName("before"))
                try await running([{ try await coordinate(app, writer, hot) }]) {
                    try await app.with { reader in
                        let subscriber = RegistrySubscriber(store: reader, paths: app.paths, logger: app.logger)
                        try await running([subscriber.run]) {
                            try await eventually("the hot set is there") { subscriber.current.hot["before"] != nil }
                            hot.with { $0 = "after" }
                            try await deleteAll(writer, app.paths.appNode)
                            try await eventually("the app is gone") { subscriber.current.isInitialised == false }
                            // What is known stays in force.
                            #expect(subscriber.current.hot["before"] != nil && subscriber.current.topology != nil)
                            let topology = TopologyDocument(nodes: [.init(name: "c", address: "127.0.0.1:7003")])
                            _ = try await app.makeOperator(writer).initialise(topology: topology)
                            try await app.makeOperator(writer).pin("after")
                            try await eventually("the new registry is in force") {
                                let current = subscriber.current
                                return current.view == .fresh && current.topology == topology
                                    && current.hot.map(\.key) == ["after"]
                                    && current.pins?.pins.map(\.key) == ["after"]
                            }
                        }
                    }
                }
            }
        }

        /// Publishes one key for as long as it leads, whatever becomes of the registry.
        private func coordinate(_ app: TestApp, _ store: ZooKeeperClient, _ hot: Guarded<KeyName>) async throws {
            try await app.lead(store) { leadership in
                let publisher = try await app.openPublisher(store, leadership)
                try await running([publisher.run]) {
                    while true {
                        await publisher.submit([.set(record(hot.with { $0 }))])
                        try await Task.sleep(for: .milliseconds(20))
                    }
                }
            }
        }

        private func deleteAll(_ store: ZooKeeperClient, _ path: String) async throws {
            while true {
                do {
                    for name in try await store.children(path).names { try await deleteAll(store, "\(path)/\(name)") }
                    return try await store.delete(path, version: nil)
                } catch let error as StoreError where error.code == .notEmpty {
                    // Somebody who runs has made a node in between.
                } catch let error as StoreError where error.code == .noNode {
                    return
                }
            }
        }
    }
}
