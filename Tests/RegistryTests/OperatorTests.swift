import HotKeyRegistry
import HotKeyTestSupport
import Testing
import ZooKeeper

extension WithServers {
    @Suite struct OperatorTests {
        @Test func initialisingTwiceChangesNothingAndRepairs() async throws {
            let app = try await TestApp()
            try await app.with { client in
                let operators = try app.makeOperator(client)
                let empty = await #expect(throws: RegistryError.self) { try await operators.initialise(topology: nil) }
                #expect(empty?.code == .badArgument)
                #expect(try await client.exists(app.paths.root) == nil, "refused before anything was written")
                let first = try await app.initialise(client)
                #expect(first.created.count == 2 + 9 + 64 && first.damaged.isEmpty && first.rewritten.isEmpty)
                #expect(try await operators.hotSet().head.version == 0)
                try await operators.applyRules(RulesDocument(rules: [Rule(pattern: "mine:*")]))
                let other = TopologyDocument(nodes: [.init(name: "z", address: "127.0.0.1:9")])
                let second = try await operators.initialise(topology: other)
                #expect(second.created.isEmpty && second.topologyDiffers)
                #expect(try await operators.rules().document.rules.map(\.pattern) == ["mine:*"])
                #expect(try await operators.topology().document == TestApp.topology)

                try await client.delete(app.paths.bucket(7), version: nil)
                try await client.delete(app.paths.pins, version: nil)
                try await client.set(app.paths.bucket(9), Array("garbage".utf8), version: nil)
                try await client.set(app.paths.rules, Array("{}".utf8), version: nil)
                let third = try await operators.initialise(topology: nil)
                #expect(Set(third.created) == [app.paths.bucket(7), app.paths.pins])
                #expect(third.rewritten == [app.paths.bucket(9), app.paths.hot])
                #expect(third.damaged.map(\.path) == [app.paths.rules])
                #expect(try await operators.hotSet().problems.isEmpty)
            }
        }

        @Test func severalInitialisingAtOnceAgree() async throws {
            let app = try await TestApp()
            try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        try await app.with { client in try await app.initialise(client).created.count }
                    }
                }
                let created = try await group.reduce(0, +)
                #expect(created >= 9 + 64 && created <= 2 + 9 + 64 + 6, "every node once, but for the parents' races")
            }
        }

        /// Pins expire by the ensemble's clock, and a host with a wrong one takes nobody's decision away.
        @Test(arguments: [Int64(-7_200_000), 7_200_000])
        func anOperatorsWrongClockChangesNothing(_ leadMilliseconds: Int64) async throws {
            let app = try await TestApp()
            try await app.with { store in
                try await app.initialise(store)
                let right = try app.makeOperator(store)
                try await right.pin("other", ttl: .seconds(3_600))
                let wrong = try RegistryOperator(
                    store: store, paths: app.paths, author: "bob", logger: app.logger,
                    clock: { Timestamp.now.advanced(byMilliseconds: leadMilliseconds) })
                try await wrong.pin("item:42", ttl: .seconds(600), reason: "launch")
                try await wrong.deny("item:7", ttl: .seconds(60))
                try await wrong.pin("for:ever")
                let stored = try await right.pins()
                let document = stored.document
                #expect(document.pins.map(\.key).sorted() == ["for:ever", "item:42", "other"])
                let now = stored.stat.modifiedAtMilliseconds
                for (entry, seconds) in [
                    (document.pins.first { $0.key == "item:42" }, 600), (document.denies.first, 60),
                ] {
                    let left = (entry?.expiresAt?.millisecondsSince1970 ?? 0) - now
                    #expect(abs(left - Int64(seconds) * 1_000) < 30_000, "\(left) ms")
                }
                // Each decision stands once in the history, the corrected one in the place of the first.
                #expect(document.history.map(\.key) == ["for:ever", "item:7", "item:42", "other"])
                #expect(app.lines.all.contains { $0.contains("this host's clock is not the ensemble's") })
            }
        }

        @Test func aMissingAppIsSaidSo() async throws {
            let app = try await TestApp()
            try await app.with { client in
                let error = await #expect(throws: RegistryError.self) { try await app.makeOperator(client).pin("k") }
                #expect(error?.code == .notInitialised)
                #expect(error?.description.contains("hkctl init") == true)
            }
        }

        @Test func pinsAndDeniesReplaceEachOtherAndAreRemembered() async throws {
            let app = try await TestApp()
            try await app.with { client in
                try await app.initialise(client)
                let ann = try app.makeOperator(client)
                let pinned = try await ann.pin("k", copies: 2, ttl: .seconds(600), reason: "launch")
                #expect(pinned.changed && pinned.version == 1)
                #expect(try await ann.deny("k").version == 2)
                #expect(try await ann.unpin("k").changed == false)
                #expect(try await ann.undeny("k").changed)
                let pins = try await ann.pins()
                #expect(pins.document.pins.isEmpty && pins.document.denies.isEmpty && pins.version == 3)
                #expect(try await ann.history().map(\.verb) == [.undeny, .deny, .pin])
                #expect(try await ann.history().last?.reason == "launch")

                #expect(try await ann.setMode(.observe, reason: "drill").changed)
                #expect(try await ann.setMode(.observe).changed == false)
                #expect(try await ann.applyRules(RulesDocument(rules: [Rule(pattern: "a")])).changed)
                #expect(try await ann.applyTopology(TestApp.topology).changed == false)
                #expect(try await ann.control().document.mode == .observe)
                let history = try await ann.history()
                #expect(history.map(\.verb).prefix(2) == [.rules, .mode])
                #expect(history[1].detail == "mitigate to observe" && history[1].reason == "drill")

                let refused = await #expect(throws: RegistryError.self) { try await ann.pin("k", copies: 99) }
                #expect(refused?.code == .badArgument && refused?.description.contains("copies") == true)
                await #expect(throws: RegistryError.self) { try await ann.pin("k", ttl: .zero) }
                await #expect(throws: RegistryError.self) {
                    try await ann.pin(KeyName([UInt8](repeating: 1, count: 1_025)))
                }
            }
        }

        @Test func anImportStandsInTheHistoryAndOneThatChangesNothingDoesNot() async throws {
            let app = try await TestApp()
            try await app.with { client in
                try await app.initialise(client)
                let ann = try app.makeOperator(client)
                _ = try await ann.pin("k", reason: "launch")
                let saved = try await ann.export()
                #expect(try await ann.importAll(saved, isDryRun: false).changes.isEmpty)
                #expect(try await ann.history().map(\.verb) == [.pin])

                _ = try await ann.setMode(.off)
                let bob = try app.makeOperator(client, author: "bob")
                #expect(try await bob.importAll(saved, isDryRun: true).changes.count == 2)
                #expect(try await ann.control().document.mode == .off)
                let before = Timestamp.now
                let report = try await bob.importAll(saved, isDryRun: false, reason: "wrong switch")
                #expect(
                    report.changes.map(\.path) == [app.paths.control, app.paths.pins], "with the history of the file")
                let history = try await ann.history()
                #expect(history.map(\.verb) == [.import, .pin] && history.map(\.author) == ["bob", "ann"])
                #expect(history[0].reason == "wrong switch" && history[0].at >= before && history[0].key == nil)
                #expect(history[0].detail?.hasPrefix("control, pins of shop as exported 20") == true)
                #expect(
                    try await bob.importAll(saved, isDryRun: false).changes.isEmpty, "its own entry is no difference")

                // A document alone: the history tells of it although no pin changes.
                var other = saved
                other.rules = RulesDocument(rules: [Rule(pattern: "a")])
                #expect(try await bob.importAll(other, isDryRun: false).changes.map(\.path) == [app.paths.rules])
                #expect(try await ann.history().map(\.verb) == [.import, .import, .pin])
                #expect(try await ann.history()[0].detail?.hasPrefix("rules of shop") == true)

                // A registry that is made by an import says so too.
                let fresh = try await TestApp()
                let carl = try fresh.makeOperator(client, author: "carl")
                #expect(try await carl.importAll(saved, isDryRun: false).isNew)
                #expect(try await carl.history().map(\.author) == ["carl", "ann"])
            }
        }

        @Test func theModeCanBeSwitchedWhileThePinsAreDamaged() async throws {
            let app = try await TestApp()
            try await app.with { client in
                try await app.initialise(client)
                let ann = try app.makeOperator(client)
                try await client.set(app.paths.pins, Array("{".utf8), version: nil)
                #expect(try await ann.setMode(.off).changed)
                #expect(try await ann.control().document.mode == .off)
                let error = await #expect(throws: RegistryError.self) { try await ann.pin("k") }
                #expect(error?.code == .badDocument)
            }
        }

        @Test func twentyPinsAtOnceBySeparateClientsLoseNothing() async throws {
            let app = try await TestApp()
            try await app.with { client in try await app.initialise(client) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<20 {
                    group.addTask {
                        try await app.with { client in
                            let outcome = try await app.makeOperator(client, author: "author-\(index)")
                                .pin(KeyName("key-\(index)"))
                            #expect(outcome.changed)
                        }
                    }
                }
                try await group.waitForAll()
            }
            try await app.with { client in
                let pins = try await app.makeOperator(client).pins()
                #expect(Set(pins.document.pins.map(\.key)) == Set((0..<20).map { KeyName("key-\($0)") }))
                #expect(Set(pins.document.history.map(\.author)).count == 20)
                #expect(pins.version == 20, "one write a pin")
            }
        }

        /// Three requests that are cut off are taken for too large, but not before the last of them has been looked for.
        @Test(arguments: [false, true]) func anEditThatIsCutOffThriceIsReadBackBeforeItIsGivenUp(
            isLastWritten: Bool
        ) async throws {
            let app = try await TestApp()
            try await app.with { client in
                try await app.initialise(client)
                let writes = Guarded(0)
                let store = FaultingStore(store: client) {
                    let isLast = writes.with {
                        $0 += 1
                        return $0 == 3
                    }
                    return isLast && isLastWritten ? .afterwards(largeRequestCutOff) : .instead(largeRequestCutOff)
                }
                let ann = try app.makeOperator(store)
                if isLastWritten {
                    #expect(try await ann.setMode(.off).changed)
                    #expect(try await ann.control().document.mode == .off)
                    #expect(try await ann.history().count == 1)
                } else {
                    let error = await #expect(throws: RegistryError.self) { try await ann.setMode(.off) }
                    #expect(error?.code == .requestDropped)
                    #expect(try await ann.control().version == 0)
                }
                #expect(writes.with { $0 } == 3)
            }
        }

        @Test func anEditAcrossABrokenConnectionIsMadeOnce() async throws {
            let app = try await TestApp()
            try await app.with { client in try await app.initialise(client) }
            let server = try await SharedServer.shared.server()
            let proxy = try await FaultProxy.start(to: server)
            try await app.with { observer in
                try await app.with(at: proxy.address, session: 10_000, operation: 10_000) { client in
                    let ann = try app.makeOperator(client)
                    for round in 1...3 {
                        // The write arrives, its answer does not: it is on its way back when the connection breaks.
                        try await proxy.delay(milliseconds: 400)
                        async let outcome = ann.pin(KeyName("key-\(round)"))
                        try await eventually("write \(round) has arrived") {
                            try await observer.get(app.paths.pins).stat.version == round
                        }
                        try await proxy.resetConnections()
                        try await proxy.heal()
                        #expect(try await outcome.changed)
                    }
                    for round in 4...5 {
                        // Not even the request arrives.
                        try await proxy.stop(.clientToServer)
                        async let outcome = ann.pin(KeyName("key-\(round)"))
                        try await proxy.resetConnections()
                        try await proxy.heal()
                        #expect(try await outcome.changed)
                    }
                    let pins = try await ann.pins()
                    #expect(pins.document.pins.count == 5)
                    #expect(pins.document.history.count == 5, "each edit stands once in the history")
                    #expect(pins.version == 5, "and was written once")
                }
            }
            await proxy.stop()
        }
    }
}
