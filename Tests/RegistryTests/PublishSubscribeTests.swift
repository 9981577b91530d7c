import Foundation
import HotKeyRegistry
import HotKeyTestSupport
import Logging
import Testing
import ZooKeeper

extension WithServers {
    @Suite struct PublishSubscribeTests {
        private func follow(
            _ subscriber: RegistrySubscriber, _ awaited: String, _ condition: (RegistrySnapshot) -> Bool
        ) async throws {
            do {
                try await eventually(awaited) { condition(subscriber.current) }
            } catch {
                Issue.record("\(error); \(subscriber.current)")
                throw error
            }
        }

        @Test func whatIsPublishedReachesASubscriberByDeltasAndInFull() async throws {
            let app = try await TestApp()
            try await app.with { writer in
                try await app.initialise(writer)
                try await app.with { reader in
                    let early = RegistrySubscriber(store: reader, paths: app.paths, logger: app.logger)
                    try await running([{ try await early.run() }]) {
                        try await follow(early, "the empty registry") { $0.view == .fresh }
                        #expect(early.current.control?.mode == .mitigate && early.current.topology != nil)
                        try await app.lead(writer) { leadership in
                            let publisher = try await app.openPublisher(writer, leadership)
                            #expect(await publisher.published.isEmpty)
                            let before = await publisher.position
                            try await running([{ try await publisher.run() }]) {
                                await publisher.submit([.set(record("item:42")), .set(record("x", .candidate))])
                                try await follow(early, "the first change") { $0.hot.count == 2 }
                                let position = try #require(early.current.position)
                                #expect(position.epoch > before.epoch && position.version == 1)
                                #expect(early.current.coordinator == "host-1")
                                #expect(Set(early.current.effectiveHotSet().keys) == ["item:42"])
                                await publisher.submit([.remove("x"), .set(record("item:42", .cooling))])
                                try await follow(early, "the second change") { $0.hot.count == 1 }
                                #expect(early.current.hot["item:42"]?.state == .cooling)
                                #expect(early.metrics.deltasApplied == 2 && early.metrics.bucketsRead == 0)

                                // Too much for the head: the buckets are read.
                                await publisher.replaceAll((0..<2_000).map { record(KeyName("key-\($0)")) })
                                try await follow(early, "a large change") { $0.hot.count == 2_000 }
                                #expect(early.metrics.bucketsRead == 64)
                                await publisher.submit([.remove("key-7")])
                                try await follow(early, "a delta on top") { $0.hot.count == 1_999 }
                                #expect(early.metrics.bucketsRead == 64)
                                #expect(await publisher.metrics.publications == 4)
                            }
                        }
                        try await app.with { reader in
                            let late = RegistrySubscriber(store: reader, paths: app.paths, logger: app.logger)
                            try await running([{ try await late.run() }]) {
                                try await follow(late, "everything") { $0.view == .fresh }
                                #expect(late.current.hot == early.current.hot)
                                #expect(late.current.position == early.current.position)
                            }
                        }
                        let hotSet = try await app.makeOperator(writer).hotSet()
                        #expect(hotSet.records == early.current.hot && hotSet.problems.isEmpty)
                    }
                }
            }
        }

        @Test func nothingToChangeNothingWritten() async throws {
            let app = try await TestApp()
            try await app.with { client in
                try await app.initialise(client)
                try await app.lead(client) { leadership in
                    let publisher = try await app.openPublisher(client, leadership)
                    try await publisher.flush()
                    await publisher.submit([.remove("nobody")])
                    try await publisher.flush()
                    #expect(try await client.get(app.paths.hot).stat.version == 0)
                    await publisher.submit([.set(record("a"))])
                    try await publisher.flush()
                    await publisher.submit([.set(record("a", reads: 1))])
                    try await publisher.flush()
                    #expect(try await client.get(app.paths.hot).stat.version == 1)
                    #expect(try await client.get(app.paths.bucket(0x0c)).stat.version == 1)
                    #expect(try await client.get(app.paths.bucket(0x0d)).stat.version == 0)
                }
            }
        }

        @Test func aKeyWithoutRoomIsPublishedWhenAnotherLeaves() async throws {
            let app = try await TestApp()
            try await app.with { client in
                try await app.initialise(client)
                let subscriber = RegistrySubscriber(store: client, paths: app.paths, logger: app.logger)
                try await app.lead(client) { leadership in
                    let publisher = try await app.openPublisher(client, leadership)
                    try await running([{ try await subscriber.run() }, { try await publisher.run() }]) {
                        let keys = keysThatOverfillABucket
                        let refused = await publisher.submit(keys.map { .set(record($0)) })
                        #expect(!refused.isEmpty && refused.allSatisfy(\.reason.isForLackOfRoom))
                        #expect(await publisher.metrics.waiting == refused.count)
                        try await follow(subscriber, "those that fit") { $0.hot.count == keys.count - refused.count }
                        #expect(app.lines.all.contains { $0.hasPrefix("warning") && $0.contains("it waits for room") })
                        let taken = keys.filter { key in !refused.contains { $0.key == key } }
                        await publisher.submit(taken.map(HotUpdate.remove))
                        try await follow(subscriber, "those that waited") {
                            Set($0.hot.map(\.key)) == Set(refused.map(\.key))
                        }
                        #expect(await publisher.metrics.waiting == 0)
                        #expect(app.lines.all.contains { $0.hasPrefix("notice") && $0.contains("room again") })
                    }
                }
            }
        }

        @Test func aDeposedPublishersTransactionFailsAsAWhole() async throws {
            let app = try await TestApp()
            try await app.with { client in
                try await app.initialise(client)
                try await app.with { other in
                    // Two publishers, as when a stopped process wakes up and does not know what has happened.
                    let path = try await other.create(
                        app.paths.candidate("candidate-old-"), [], mode: .ephemeralSequential)
                    let stat = try #require(try await other.exists(path))
                    let old = try await app.openPublisher(
                        client,
                        Leadership(
                            path: path, createdTransaction: stat.createdTransaction, sessionID: stat.ephemeralOwner,
                            agent: try AgentID("old")))
                    await old.submit([.set(record("a"))])
                    try await old.flush()
                    await old.submit([.set(record("foobar")), .remove("a")])
                    try await other.delete(path, version: nil)
                    let before = try await app.makeOperator(client).hotSet()
                    let error = await #expect(throws: RegistryError.self) { try await old.flush() }
                    #expect(error?.code == .deposed)
                    let after = try await app.makeOperator(client).hotSet()
                    #expect(after.head == before.head && after.records == before.records)
                    let again = await #expect(throws: RegistryError.self) { try await old.flush() }
                    #expect(again?.code == .deposed, "and never tries again")
                }
            }
        }

        @Test func aForeignWriteIsToldFromADeposition() async throws {
            let app = try await TestApp()
            try await app.with { client in
                try await app.initialise(client)
                let path = try await client.create(
                    app.paths.candidate("candidate-x-"), [], mode: .ephemeralSequential)
                let stat = try #require(try await client.exists(path))
                let publisher = try await app.openPublisher(
                    client,
                    Leadership(
                        path: path, createdTransaction: stat.createdTransaction, sessionID: stat.ephemeralOwner,
                        agent: try AgentID("x")))
                try await client.set(app.paths.hot, try await client.get(app.paths.hot).data, version: nil)
                await publisher.submit([.set(record("a"))])
                let error = await #expect(throws: RegistryError.self) { try await publisher.flush() }
                #expect(error?.code == .conflictingWriter)
            }
        }

        @Test func aPublicationAcrossABrokenConnectionIsMadeOnce() async throws {
            let app = try await TestApp()
            let server = try await SharedServer.shared.server()
            let proxy = try await FaultProxy.start(to: server)
            try await app.with { holder in
                try await app.initialise(holder)
                let path = try await holder.create(
                    app.paths.candidate("candidate-x-"), [], mode: .ephemeralSequential)
                let stat = try #require(try await holder.exists(path))
                try await app.with(at: proxy.address, operation: 4_000) { client in
                    let publisher = try await app.openPublisher(
                        client,
                        Leadership(
                            path: path, createdTransaction: stat.createdTransaction, sessionID: stat.ephemeralOwner,
                            agent: try AgentID("x")))
                    for round in 1...5 {
                        await publisher.submit([.set(record(KeyName("key-\(round)")))])
                        // In the first rounds the transaction arrives and its answer does not, then not even that.
                        let isAnswerLost = round <= 3
                        try await proxy.stop(isAnswerLost ? .serverToClient : .clientToServer)
                        async let done: Void = publisher.flush()
                        if isAnswerLost {
                            try await eventually("transaction \(round) has arrived") {
                                try await holder.get(app.paths.hot).stat.version == round
                            }
                        }
                        try await proxy.resetConnections()
                        try await proxy.heal()
                        try await done
                        #expect(try await client.get(app.paths.hot).stat.version == round)
                    }
                    #expect(await publisher.metrics.retries > 0, "or nothing was tested")
                }
            }
            await proxy.stop()
        }

        @Test func aBadDocumentKeepsTheLastGoodOneAndPlainForeignJSONIsApplied() async throws {
            let app = try await TestApp()
            try await app.with { client in
                try await app.initialise(client)
                let subscriber = RegistrySubscriber(store: client, paths: app.paths, logger: app.logger)
                try await running([{ try await subscriber.run() }]) {
                    try await follow(subscriber, "the registry") { $0.view == .fresh }
                    try await client.set(
                        app.paths.rules, Array(#"{"schema":1,"rules":[{"pattern":"*","copys":1}]}"#.utf8), version: nil)
                    try await follow(subscriber, "the refusal") { !$0.problems.isEmpty }
                    #expect(subscriber.current.rules == RulesDocument() && subscriber.current.view == .fresh)
                    #expect(subscriber.current.problems[0].description.contains("rules[0].copys"))
                    try await eventually("it is logged") {
                        app.lines.all.contains { $0.contains("error") && $0.contains("copys") }
                    }
                    #expect(subscriber.metrics.documentsRefused == 1)

                    let foreign = #"""
                        { "schema": 1,
                          "rules": [ {"pattern": "\u00fc*", "thresholdPerSecond": 50} ] }
                        """#
                    try await client.set(app.paths.rules, Array(foreign.utf8), version: nil)
                    try await follow(subscriber, "the repair") { $0.problems.isEmpty }
                    #expect(subscriber.current.rules?.rules == [Rule(pattern: "ü*", thresholdPerSecond: 50)])
                    try await client.set(
                        app.paths.pins,
                        Array(#"{"pins":[{"key":"k","author":"me","at":"2026-11-22T10:00:00Z"}],"schema":1}"#.utf8),
                        version: nil)
                    try await follow(subscriber, "the foreign pin") { $0.effectiveHotSet()["k"] != nil }

                    // A head and buckets written by hand are applied too, a damaged head is not.
                    let bucket = HotBucket(version: 5, keys: [record("a")])
                    try await client.set(
                        app.paths.bucket(0x0c), try RegistryCodec.encode(bucket, source: ""), version: nil)
                    var head = try await app.makeOperator(client).hotSet().head
                    head.version = 5
                    head.buckets[0x0c] = 5
                    try await client.set(app.paths.hot, try RegistryCodec.encode(head, source: ""), version: nil)
                    try await follow(subscriber, "the hand-written hot set") { $0.hot["a"] != nil }
                    try await client.set(app.paths.hot, Array("{}".utf8), version: nil)
                    try await follow(subscriber, "the damaged head") { !$0.problems.isEmpty }
                    #expect(subscriber.current.hot["a"] != nil)
                    head.version = 4
                    head.buckets[0x0c] = 4
                    try await client.set(app.paths.hot, try RegistryCodec.encode(head, source: ""), version: nil)
                    try await eventually("the older head is refused") { subscriber.metrics.backwardRefused > 0 }
                    #expect(subscriber.current.position?.version == 5 && subscriber.current.view != .fresh)
                    head.version = 6
                    try await client.set(app.paths.hot, try RegistryCodec.encode(head, source: ""), version: nil)
                    try await follow(subscriber, "the way forward") { $0.position?.version == 6 && $0.view == .fresh }
                }
            }
        }

        @Test func aPinDoesNotWaitForANodeThatIsReadAgainAndAgain() async throws {
            let app = try await TestApp()
            try await app.with { client in
                try await app.initialise(client)
                let subscriber = RegistrySubscriber(store: client, paths: app.paths, logger: app.logger)
                try await running([{ try await subscriber.run() }]) {
                    try await follow(subscriber, "the registry") { $0.view == .fresh }
                    // A head that is older than what is applied is read again after 50 ms, 100 ms, 200 ms, … up to 5 s.
                    var head = try await app.makeOperator(client).hotSet().head
                    head.epoch -= 1
                    try await client.set(app.paths.hot, try RegistryCodec.encode(head, source: ""), version: nil)
                    let attempts = 8
                    try await eventually("a long pause") { subscriber.metrics.backwardRefused == attempts }
                    _ = try await app.makeOperator(client).pin("urgent")
                    try await follow(subscriber, "the pin") { $0.effectiveHotSet()["urgent"] != nil }
                    #expect(subscriber.metrics.backwardRefused == attempts, "applied within the pause")
                    // The head is not given up for it.
                    try await eventually("the next attempt") { subscriber.metrics.backwardRefused > attempts }
                    head.epoch += 2
                    try await client.set(app.paths.hot, try RegistryCodec.encode(head, source: ""), version: nil)
                    try await follow(subscriber, "the way forward") { $0.view == .fresh }
                }
            }
        }

        @Test func anAppThatIsNotThereYetIsWaitedFor() async throws {
            let app = try await TestApp()
            try await app.with { client in
                let subscriber = RegistrySubscriber(store: client, paths: app.paths, logger: app.logger)
                try await running([{ try await subscriber.run() }]) {
                    try await follow(subscriber, "the state") { $0.isInitialised == false }
                    let reads = subscriber.metrics.failedReads
                    #expect(subscriber.current.view == .none && reads == 0)
                    try await app.initialise(client)
                    try await follow(subscriber, "the app") { $0.view == .fresh && $0.isInitialised == true }
                    #expect(subscriber.current.topology == TestApp.topology && subscriber.current.problems.isEmpty)
                }
            }
        }

        @Test func anAgentKeepsFiveWatches() async throws {
            let server = try await ZooKeeperServer.start()
            try await server.use { server in
                let app = try await TestApp(address: server.address)
                try await app.with { writer in
                    try await app.initialise(writer)
                    try await app.with { reader in
                        let subscriber = RegistrySubscriber(
                            store: reader, paths: app.paths, rereadMilliseconds: 100, logger: app.logger)
                        try await running([{ try await subscriber.run() }]) {
                            try await follow(subscriber, "the registry") { $0.view == .fresh }
                            for round in 0..<5 {
                                _ = try await app.makeOperator(writer).pin(KeyName("k\(round)"))
                                try await follow(subscriber, "pin \(round)") { $0.pins?.pins.count == round + 1 }
                                // A periodic read may have brought the pin before its event: the next one would find no watch.
                                try await eventually("event \(round)") { subscriber.metrics.watchEvents > round }
                                try await eventually(
                                    "five watches", value: { try await server.monitor()["zk_watch_count"] },
                                    until: { $0 == "5" })
                            }
                            try await eventually("many periodic reads") { subscriber.metrics.fullReads > 5 }
                            try await eventually(
                                "five watches", value: { try await server.monitor()["zk_watch_count"] },
                                until: { $0 == "5" })
                            #expect(subscriber.metrics.watchEvents == 5, "one event a pin, however often it was read")
                        }
                    }
                }
            }
        }

        /// For less and for more than a session's life: the watches survive the one and are lost with the other.
        @Test(arguments: [300, 3_500] as [Int64])
        func theViewGoesStaleAndComesBackFreshWithWhatHappenedMeanwhile(milliseconds: Int64) async throws {
            let app = try await TestApp()
            let server = try await SharedServer.shared.server()
            let proxy = try await FaultProxy.start(to: server)
            try await app.with { writer in
                try await app.initialise(writer)
                try await app.with(at: proxy.address, session: 2_000) { reader in
                    let subscriber = RegistrySubscriber(store: reader, paths: app.paths, logger: app.logger)
                    try await running([{ try await subscriber.run() }]) {
                        try await follow(subscriber, "the registry") { $0.view == .fresh }
                        try await proxy.cut()
                        try await follow(subscriber, "stale") { $0.view != .fresh }
                        _ = try await app.makeOperator(writer).pin("meanwhile")
                        try await eventually("the age grows") {
                            (subscriber.current.ageMilliseconds() ?? 0) > milliseconds
                        }
                        #expect(subscriber.current.control != nil && subscriber.current.pins?.pins.isEmpty == true)
                        try await proxy.heal()
                        try await follow(subscriber, "fresh") { $0.view == .fresh }
                        #expect(subscriber.current.effectiveHotSet()["meanwhile"] != nil)
                        // And its watches stand again.
                        _ = try await app.makeOperator(writer).pin("later")
                        try await follow(subscriber, "the next pin") { $0.effectiveHotSet()["later"] != nil }
                    }
                    #expect(subscriber.current.view != .fresh, "nobody follows any more")
                }
            }
            await proxy.stop()
        }

        @Test func theLastViewIsWhatARestartBeginsWith() async throws {
            let app = try await TestApp()
            let directory = try TemporaryDirectory()
            let state = directory.file("state")
            try await app.with { client in
                try await app.initialise(client)
                let first = RegistrySubscriber(
                    store: client, paths: app.paths, stateDirectory: state, logger: app.logger)
                #expect(first.current.view == .none)
                try await running([{ try await first.run() }]) {
                    try await app.lead(client) { leadership in
                        let publisher = try await app.openPublisher(client, leadership)
                        await publisher.submit([.set(record("a")), .set(record(KeyName([0xff])))])
                        try await publisher.flush()
                    }
                    _ = try await app.makeOperator(client).pin("k")
                    try await follow(first, "all of it") { $0.hot.count == 2 && $0.pins?.pins.count == 1 }
                }
                #expect(first.metrics.viewsSaved > 0 && first.metrics.viewSavesFailed == 0)

                // Started while ZooKeeper is down: a client that never connects.
                let unreachable = ZooKeeperClient(
                    configuration: try ZooKeeperConfiguration(servers: ["127.0.0.1:1"]), logger: app.logger)
                let second = RegistrySubscriber(
                    store: unreachable, paths: app.paths, stateDirectory: state, logger: app.logger)
                #expect(second.current.hot == first.current.hot && second.current.pins == first.current.pins)
                #expect(second.current.position == first.current.position)
                guard case .stale = second.current.view else {
                    Issue.record("\(second.current.view)")
                    return
                }
                #expect(second.current.ageMilliseconds() ?? -1 >= 0)

                // With the registry set back behind it, it does not go backward; a newer epoch it follows.
                let head = HotHead(epoch: try #require(first.current.position).epoch - 1, publishedAt: .now)
                try await client.set(app.paths.hot, try RegistryCodec.encode(head, source: ""), version: nil)
                let third = RegistrySubscriber(
                    store: client, paths: app.paths, stateDirectory: state, logger: app.logger)
                try await running([{ try await third.run() }]) {
                    try await eventually("the refusal") { third.metrics.backwardRefused > 0 }
                    #expect(third.current.hot.count == 2)
                    let newer = HotHead(epoch: head.epoch + 2, publishedAt: .now)
                    try await client.set(app.paths.hot, try RegistryCodec.encode(newer, source: ""), version: nil)
                    try await follow(third, "the newer epoch") { $0.hot.isEmpty && $0.view == .fresh }
                }

                // A damaged file is said and ignored.
                let file = try #require(try FileManager.default.contentsOfDirectory(atPath: state).first)
                try Data("damaged".utf8).write(to: URL(fileURLWithPath: "\(state)/\(file)"))
                let fourth = RegistrySubscriber(
                    store: client, paths: app.paths, stateDirectory: state, logger: app.logger)
                #expect(fourth.current.view == .none)
                #expect(app.lines.all.contains { $0.contains("without the saved view") })
            }
        }

        @Test func aRegistryOnNewServersIsNewerThanAnySavedView() async throws {
            let directory = try TemporaryDirectory()
            let state = directory.file("state")
            let root = "/hotkeys"
            let old = try await ZooKeeperServer.start()
            let epoch = try await old.use { old in
                let app = try await TestApp(address: old.address, root: root)
                return try await app.with { client in
                    try await app.initialise(client)
                    for round in 0..<30 { _ = try await app.makeOperator(client).pin(KeyName("k\(round)")) }
                    let subscriber = RegistrySubscriber(
                        store: client, paths: app.paths, stateDirectory: state, logger: app.logger)
                    try await running([{ try await subscriber.run() }]) {
                        try await follow(subscriber, "the old registry") { $0.pins?.pins.count == 30 }
                    }
                    return try #require(subscriber.current.position).epoch
                }
            }
            try await eventually("the next second") { Timestamp.now.millisecondsSince1970 / 1_000 > epoch }
            let new = try await ZooKeeperServer.start()
            try await new.use { new in
                let app = try await TestApp(address: new.address, root: root)
                try await app.with { client in
                    try await app.initialise(client)
                    let subscriber = RegistrySubscriber(
                        store: client, paths: app.paths, stateDirectory: state, logger: app.logger)
                    #expect(subscriber.current.pins?.pins.count == 30)
                    try await running([{ try await subscriber.run() }]) {
                        try await follow(subscriber, "the new registry") {
                            $0.pins?.pins.isEmpty == true && $0.view == .fresh
                        }
                    }
                }
            }
        }
    }
}
