import HotKeyTestSupport
import Testing
import ZooKeeper

@testable import HotKeyRegistry

extension WithServers {
    /// An ensemble whose data is set back to a backup under a running fleet.
    @Suite(.timeLimit(.minutes(5))) struct RestoredEnsembleTests {
        private func heat(_ keys: [KeyName], _ agents: [TestAgent]) {
            for agent in agents { agent.heat(keys.map { record($0) }) }
        }

        /// A registry on a server of its own, an operator, and the clients of two agents.
        private func onOneServer(
            _ body: (ZooKeeperServer, TestApp, RegistryOperator, ZooKeeperClient, ZooKeeperClient) async throws -> Void
        ) async throws {
            let server = try await ZooKeeperServer.start()
            try await server.use { server in
                let app = try await TestApp(address: server.address)
                try await app.with(session: 3_000) { operatorClient in
                    try await app.initialise(operatorClient)
                    let ann = try app.makeOperator(operatorClient)
                    try await app.with(session: 3_000) { one in
                        try await app.with(session: 3_000) { two in try await body(server, app, ann, one, two) }
                    }
                }
            }
        }

        /// - Parameter isCoordinatorNew: the agent that leads afterwards has seen nothing of what is lost.
        @Test(arguments: [false, true])
        func aBackupPutBackIsToldAndFollowedByEveryone(isCoordinatorNew: Bool) async throws {
            try await onOneServer { server, app, ann, one, two in
                let follower = RegistrySubscriber(
                    store: two, paths: app.paths, rereadMilliseconds: 2_000, logger: app.logger)
                try await running([{ try await follower.run() }]) {
                    try await lead(server, app, ann, one, follower, isCoordinatorNew: isCoordinatorNew)
                }
            }
        }

        /// What was lost is operators' edits alone: the head is as the backup has it, nothing is hot that was not, and nobody would
        /// ever publish. What an operator then orders is below the edits that were lost.
        @Test func anOperatorIsFollowedAfterABackupAlthoughNoKeyChanges() async throws {
            try await onOneServer { server, app, ann, one, two in
                let agents = [TestAgent(app, one, id: "host-1"), TestAgent(app, two, id: "host-2")]
                heat(["a"], agents)
                try await running(agents.map { agent in { try await agent.run() } }) {
                    try await loseEdits(server, app, ann, agents)
                }
            }
        }

        private func loseEdits(
            _ server: ZooKeeperServer, _ app: TestApp, _ ann: RegistryOperator, _ agents: [TestAgent]
        ) async throws {
            func everyone(_ what: String, _ condition: (RegistrySnapshot) -> Bool) async throws {
                for agent in agents {
                    try await follow(agent.subscriber, what) {
                        $0.view == .fresh && $0.hot.map(\.key) == ["a"] && condition($0)
                    }
                }
            }
            try await everyone("the hot set") { _ in true }
            await server.stop()
            let copy = try server.copyData()
            try await server.start()
            for round in 0..<40 { _ = try await ann.pin(KeyName("lost-\(round)")) }
            try await ann.setMode(.observe)
            try await everyone("what will be lost") { $0.mode == .observe && $0.pins?.pins.count == 40 }
            await server.stop()
            try server.putBack(copy)
            try await server.start()
            let before = try await app.with { try await app.makeOperator($0).hotSet().head.position }
            try await app.with { _ = try await app.makeOperator($0).setMode(.off) }
            let began = ContinuousClock.now
            try await everyone("switched off") {
                $0.mode == .off && $0.pins?.pins.isEmpty == true && !$0.isRegistryOlder
            }
            print("after a backup without edits: off \(ContinuousClock.now - began) after the order")
            let head = try await ann.hotSet().head
            #expect(
                head.position.epoch > before.epoch
                    && agents.allSatisfy { $0.subscriber.current.position == head.position })
            // Nobody goes on publishing.
            try await ann.setMode(.mitigate)
            try await everyone("the next order") { $0.mode == .mitigate }
            #expect(try await ann.hotSet().head.position == head.position)
        }

        private func lead(
            _ server: ZooKeeperServer, _ app: TestApp, _ ann: RegistryOperator, _ one: ZooKeeperClient,
            _ follower: RegistrySubscriber, isCoordinatorNew: Bool
        ) async throws {
            let old = TestAgent(app, one, id: "host-1", heat: [record("a"), record("x")])
            let backup = Guarded<TemporaryDirectory?>(nil)
            try await running([{ try await old.run() }]) {
                _ = try await ann.pin("kept")
                try await follow(follower, "before the backup") { $0.hot.count == 2 && $0.pins?.pins.count == 1 }
                await server.stop()
                let copy = try server.copyData()
                backup.with { $0 = copy }
                try await server.start()
                // What the backup does not have: another epoch or more, buckets written again, pins, rules.
                try await follow(follower, "the server is back") { $0.view == .fresh }
                for round in 0..<30 {
                    old.heat([record("a", round.isMultiple(of: 2) ? .hot : .cooling), record("lost"), record("foobar")])
                    let version = follower.current.position?.version ?? 0
                    try await follow(follower, "publication \(round)") { ($0.position?.version ?? 0) > version }
                }
                for round in 0..<10 { _ = try await ann.pin(KeyName("lost-\(round)")) }
                try await ann.applyRules(RulesDocument(rules: [Rule(pattern: "lost:*")]))
                try await follow(follower, "what will be lost") {
                    $0.hot["lost"] != nil && $0.pins?.pins.count == 11 && $0.rules?.rules.count == 1
                }
                if isCoordinatorNew { return }
                try await setBack(server, app, ann, follower, [old], copy)
            }
            guard isCoordinatorNew, let copy = backup.with({ $0 }) else { return }
            try await app.with(session: 3_000) { client in
                // Connects once the backup has been put back: it knows nothing of the lost time.
                let new = TestAgent(app, client, id: "host-2", heat: [])
                let isBack = Guarded(false)
                try await running([
                    {
                        try? await eventually("the backup is back") { isBack.with { $0 } }
                        try await new.run()
                    }
                ]) {
                    try await setBack(server, app, ann, follower, [new], copy) { isBack.with { $0 = true } }
                }
            }
        }

        private func setBack(
            _ server: ZooKeeperServer, _ app: TestApp, _ ann: RegistryOperator, _ follower: RegistrySubscriber,
            _ agents: [TestAgent], _ copy: TemporaryDirectory, _ isBack: () -> Void = {}
        ) async throws {
            let before = follower.current
            await server.stop()
            try server.putBack(copy)
            // Nobody leads for now, so that what agents do by themselves can be seen.
            try await server.start()
            if agents[0].id == "host-2" {
                try await eventually("the older state is refused") { follower.metrics.backwardRefused > 0 }
                #expect(follower.current.position == before.position && follower.current.hot == before.hot)
                #expect(
                    follower.current.pins == before.pins && follower.current.view != .fresh, "not backward in silence")
                #expect(app.lines.all.contains { $0.hasPrefix("warning") && $0.contains("older than what is applied") })
                // An operator's edit alone is not followed either: it stands on documents that are older.
                _ = try await ann.pin("edited")
                #expect(follower.current.pins == before.pins)
            }
            isBack()
            heat(["a", "b"], agents)
            let pins = try await app.with {
                _ = try await app.makeOperator($0).pin("edited"); return try await app.makeOperator($0).pins()
            }
            #expect(Set(pins.document.pins.map(\.key)) == ["kept", "edited"])
            let everyone = [follower] + agents.map(\.subscriber)
            for subscriber in everyone {
                try await follow(subscriber, "the restored registry and what came after") {
                    $0.view == .fresh && Set($0.hot.map(\.key)) == ["a", "b"]
                        && Set($0.pins?.pins.map(\.key) ?? []) == ["kept", "edited"] && $0.rules == RulesDocument()
                }
            }
            #expect(try #require(follower.current.position) > before.position!, "forward, by a new epoch")
            let hotSet = try await app.with { try await app.makeOperator($0).hotSet() }
            for subscriber in everyone {
                #expect(subscriber.current.hot == hotSet.records && subscriber.current.position == hotSet.head.position)
            }
            // And on from there.
            heat(["a", "b", "c"], agents)
            try await ann.setMode(.observe)
            for subscriber in everyone {
                try await follow(subscriber, "the next changes") { $0.hot.count == 3 && $0.mode == .observe }
            }
        }
    }
}
