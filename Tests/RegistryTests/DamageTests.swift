import HotKeyTestSupport
import Testing
import ZooKeeper

@testable import HotKeyRegistry

extension WithServers {
    /// Rubbish by ZooKeeper's own command line under a running coordinator and a running agent.
    @Suite(.timeLimit(.minutes(5))) struct DamageTests {
        private let keys = ["a", "foobar", "item:42"] as [KeyName]

        /// A server, an operator's client, an agent that leads and has published, and one that follows.
        private func withFleet(
            _ body:
                @escaping @Sendable (ZooKeeperServer, TestApp, ZooKeeperClient, TestAgent, RegistrySubscriber)
                async throws -> Void
        ) async throws {
            let server = try await ZooKeeperServer.start()
            try await server.use { server in
                let app = try await TestApp(address: server.address)
                try await app.with { client in
                    try await app.initialise(client)
                    _ = try await app.makeOperator(client).pin("pinned", reason: "launch")
                    try await app.with { agentClient in
                        try await app.with { readerClient in
                            let agent = TestAgent(app, agentClient, id: "host-1", heat: keys.map { record($0) })
                            let reader = RegistrySubscriber(
                                store: readerClient, paths: app.paths, rereadMilliseconds: 2_000, logger: app.logger)
                            try await running([{ try await agent.run() }, { try await reader.run() }]) {
                                try await follow(reader, "the hot set") {
                                    $0.hot.count == 3 && $0.pins?.pins.count == 1
                                }
                                try await body(server, app, client, agent, reader)
                            }
                        }
                    }
                }
            }
        }

        @Test func rubbishInAnOperatorsDocumentIsToldAndPutRight() async throws {
            try await withFleet { server, app, client, agent, reader in
                let ann = try app.makeOperator(client)
                let paths = [app.paths.control, app.paths.rules, app.paths.pins, app.paths.topology]
                let before = reader.current
                let saved = try await ann.export()
                try await server.shell(paths.map { "set \($0) {rubbish" })
                try await follow(reader, "four problems") { Set($0.problems.map(\.path)) == Set(paths) }
                let during = reader.current
                #expect(during.control == before.control && during.rules == before.rules && during.pins == before.pins)
                #expect(during.topology == before.topology && during.hot == before.hot && during.view == .fresh)
                #expect(reader.metrics.documentsRefused == 4)
                for path in paths {
                    #expect(
                        app.lines.all.contains {
                            $0.hasPrefix("error") && $0.contains(path) && $0.contains("last good")
                        })
                }
                // Publishing goes on.
                agent.heat((keys + ["more"]).map { record($0) })
                try await follow(reader, "the next publication") { $0.hot.count == 4 }

                let refused = await #expect(throws: RegistryError.self) { try await ann.pin("k") }
                #expect(refused?.code == .badDocument && refused?.path == app.paths.pins)
                #expect(refused?.description.contains(app.paths.pins) == true)
                #expect(try await ann.setMode(.observe).changed)
                #expect(try await ann.applyRules(RulesDocument(rules: [Rule(pattern: "a*")])).changed)
                #expect(try await ann.applyTopology(TestApp.topology).changed)
                try await follow(reader, "three repairs") { $0.problems.map(\.path) == [app.paths.pins] }
                #expect(reader.current.mode == .observe && reader.current.rules?.rules.count == 1)
                #expect(try await ann.importAll(saved, isDryRun: false, reason: "rubbish in pins").changes.count == 3)
                try await follow(reader, "the pins") { $0.problems.isEmpty && $0.mode == .mitigate }
                #expect(try await ann.pin("k").changed)
                try await follow(reader, "the next pin") { $0.pins?.pins.map(\.key) == ["pinned", "k"] }
                #expect(try await ann.history().map(\.verb) == [.pin, .import, .pin])

                // Without an export: the node is deleted, and made anew with no pins.
                try await server.shell(["set \(app.paths.pins) {rubbish", "deleteall \(app.paths.pins)"])
                try await follow(reader, "the deletion") { $0.problems.map(\.reason) == ["the node does not exist"] }
                #expect(reader.current.pins?.pins.count == 2, "the last good ones")
                #expect(try await app.initialise(client).created == [app.paths.pins])
                try await follow(reader, "no pins") { $0.problems.isEmpty && $0.pins?.pins.isEmpty == true }
            }
        }

        @Test func theCoordinatorReplacesRubbishInTheHotSet() async throws {
            try await withFleet { server, app, client, agent, reader in
                let before = try #require(reader.current.position)
                let expected = reader.current.hot
                // The head: every agent is told of it and keeps what it has.
                try await server.shell(["set \(app.paths.hot) {rubbish"])
                try await eventually("the refusal") { reader.metrics.documentsRefused > 0 }
                #expect(reader.current.hot == expected)
                try await follow(reader, "the repair") {
                    $0.problems.isEmpty && $0.position != before && $0.view == .fresh
                }
                #expect(try #require(reader.current.position) > before && reader.current.hot == expected)
                #expect(agent.reigns == 2, "it read everything again")
                #expect(app.lines.all.contains { $0.hasPrefix("error") && $0.contains("cannot be read") })

                // A bucket: nobody is told, and nobody who holds its content reads it; the coordinator looks.
                let position = try #require(reader.current.position)
                try await server.shell(["set \(app.paths.bucket(0x0c)) {rubbish"])
                try await follow(reader, "the repair of the bucket") { $0.position != position && $0.hot == expected }
                // A key that only the bucket knew comes back with the coordinator's next decision.
                try await eventually("it can be read again") {
                    let hotSet = try await app.makeOperator(client).hotSet()
                    return hotSet.problems.isEmpty && hotSet.records == expected
                }
                try await app.with { client in
                    let late = RegistrySubscriber(store: client, paths: app.paths, logger: app.logger)
                    try await running([{ try await late.run() }]) {
                        try await follow(late, "everything") { $0.hot == expected && $0.problems.isEmpty }
                    }
                }
                // A bucket that is deleted is made again.
                try await server.shell(["deleteall \(app.paths.bucket(0x28))"])
                try await eventually("the bucket") {
                    let hotSet = try await app.makeOperator(client).hotSet()
                    return hotSet.problems.isEmpty && hotSet.records == expected
                }
            }
        }

        /// Valid, so that whoever reads it believes it: older than the head names, and of the very version that it names.
        @Test func theCoordinatorReplacesABucketThatSomebodyElseWrote() async throws {
            try await withFleet { server, app, client, agent, reader in
                let expected = reader.current.hot
                let ann = try app.makeOperator(client)
                for isOlder in [true, false] {
                    let (path, head, reigns) = (app.paths.bucket(0x0c), try await ann.hotSet().head, agent.reigns)
                    let foreign = HotBucket(
                        version: isOlder ? 0 : head.buckets[0x0c], keys: [record("a", .cooling, copies: 9)])
                    try await client.set(path, try RegistryCodec.encode(foreign, source: path), version: nil)
                    try await eventually("the coordinator begins anew") { agent.reigns > reigns }
                    let repaired = try await eventually(
                        "the bucket", value: { try await ann.hotSet() },
                        until: {
                            $0.problems.isEmpty && $0.records == expected && $0.head.buckets[0x0c] > head.buckets[0x0c]
                        })
                    #expect(repaired.head.position > head.position, "agents are told of it")
                    try await follow(reader, "the same") {
                        $0.hot == expected && $0.position ?? head.position > head.position
                    }
                    #expect(
                        app.lines.all.contains { $0.hasPrefix("error") && $0.contains("is not what was published") })
                }
                // Whoever begins now holds what everybody holds.
                try await app.with { lateClient in
                    let late = RegistrySubscriber(store: lateClient, paths: app.paths, logger: app.logger)
                    try await running([{ try await late.run() }]) {
                        try await follow(late, "the hot set") { $0.hot == expected && $0.problems.isEmpty }
                    }
                }
            }
        }

        @Test func rubbishThatACoordinatorFindsAtItsStartIsReplaced() async throws {
            let server = try await ZooKeeperServer.start()
            try await server.use { server in
                let app = try await TestApp(address: server.address)
                try await app.with { client in
                    try await app.initialise(client)
                    try await app.with { readerClient in
                        let reader = RegistrySubscriber(store: readerClient, paths: app.paths, logger: app.logger)
                        try await running([{ try await reader.run() }]) {
                            try await app.lead(client, id: "first") { leadership in
                                let publisher = try await app.openPublisher(client, leadership)
                                await publisher.submit(keys.map { .set(record($0)) })
                                try await publisher.flush()
                            }
                            try await follow(reader, "the hot set") { $0.hot.count == 3 }
                            let before = try #require(reader.current.position)
                            try await server.shell(["set \(app.paths.hot) {rubbish"])
                            try await follow(reader, "the problem") { !$0.problems.isEmpty }
                            let refused = await #expect(throws: RegistryError.self) {
                                try await app.makeOperator(client).hotSet()
                            }
                            #expect(refused?.code == .badDocument && refused?.path == app.paths.hot)
                            // Nothing is submitted: the repair alone is reason enough to publish.
                            try await app.lead(client, id: "second") { leadership in
                                let publisher = try await app.openPublisher(client, leadership)
                                #expect(await publisher.published.count == 3, "the buckets say what is published")
                                try await publisher.flush()
                            }
                            try await follow(reader, "the repair") { $0.problems.isEmpty && $0.coordinator == "second" }
                            #expect(
                                reader.current.hot.count == 3 && reader.current.position?.epoch ?? 0 >= before.epoch)
                            #expect(reader.current.position?.version ?? 0 > before.version)
                        }
                    }
                }
            }
        }

        /// The whole hot set deleted: no coordinator makes a registry by itself, `hkctl init` does, and everything goes on.
        @Test func aHotSetThatIsDeletedIsMadeAnewByAnOperator() async throws {
            try await withFleet { server, app, client, agent, reader in
                let expected = reader.current.hot
                try await server.shell(["deleteall \(app.paths.hot)"])
                try await follow(reader, "the problem") { $0.problems.map(\.path) == [app.paths.hot] }
                #expect(reader.current.hot == expected, "the last good one")
                try await eventually("the coordinator says so") {
                    app.lines.all.contains { $0.hasPrefix("warning") && $0.contains("hkctl init") }
                }
                try await app.initialise(client)
                try await follow(reader, "everything again") {
                    $0.hot == expected && $0.problems.isEmpty && $0.view == .fresh
                }
                #expect(agent.publisher != nil)
            }
        }
    }
}
