import Foundation
import HotKeyTestSupport
import Testing
import ZooKeeper

@testable import HotKeyRegistry

extension WithServers {
    /// What reading again costs, and what it heals.
    @Suite struct Rereads {
        private func subscriber(_ app: TestApp, _ store: any CoordinationStore, everyMilliseconds: Int)
            -> RegistrySubscriber
        {
            RegistrySubscriber(
                store: store, paths: app.paths, rereadMilliseconds: everyMilliseconds, logger: app.logger)
        }

        @Test func whatHasNotChangedIsNotReadAgain() async throws {
            let app = try await TestApp()
            try await app.with { store in
                try await app.initialise(store)
                let subscriber = subscriber(app, store, everyMilliseconds: 50)
                for id in ["host-1", "host-2"] {
                    try await store.create("\(app.paths.agents)/\(id)", mode: .ephemeral)
                }
                try await running([subscriber.run]) {
                    try await eventually("the agents are counted") { subscriber.metrics.agents == 2 }
                    try await eventually("everything was read again many times") {
                        subscriber.metrics.nodesUnchanged >= 50
                    }
                    #expect(subscriber.current.view == .fresh)
                    #expect(subscriber.metrics.watchesHealed == 0)
                    try await app.makeOperator(store).pin("item:42")
                    try await eventually("news come as before") {
                        subscriber.current.pins?.pins.map(\.key) == ["item:42"]
                    }
                    #expect(subscriber.metrics.watchesHealed == 0)
                }
            }
        }

        /// ZooKeeper uses a watch up without a word when its session may not read the changed node. Nothing but reading
        /// again brings that news.
        @Test func aLostWatchIsHealedAndCounted() async throws {
            let app = try await TestApp()
            try await app.with { store in
                try await app.initialise(store)
                try await app.with { writer in
                    let subscriber = subscriber(app, store, everyMilliseconds: 300)
                    try await running([subscriber.run]) {
                        try await eventually("the view is fresh") { subscriber.current.view == .fresh }
                        // A document that cannot be read is read again all the time, which is no lost watch.
                        try await writer.set(app.paths.rules, Array("rubbish".utf8), version: nil)
                        try await eventually("it is refused") { subscriber.metrics.documentsRefused == 1 }
                        let unchanged = subscriber.metrics.nodesUnchanged
                        try await eventually("everything was looked at again") {
                            subscriber.metrics.nodesUnchanged >= unchanged + 2 * WatchedNode.allCases.count
                        }
                        #expect(subscriber.metrics.watchesHealed == 0)
                        // Whoever may only write cannot be told of what was written.
                        try await writer.setAccessControl(
                            app.paths.control,
                            [AccessControl(permissions: [.write, .admin], scheme: "world", identity: "anyone")],
                            aclVersion: nil)
                        let document = ControlDocument(mode: .observe)
                        try await writer.set(
                            app.paths.control, try RegistryCodec.encode(document, source: "control"), version: nil)
                        try await writer.setAccessControl(
                            app.paths.control, AccessControl.openUnsafe, aclVersion: nil)
                        try await eventually("the change is found") { subscriber.current.mode == .observe }
                        #expect(subscriber.metrics.watchesHealed == 1)
                        #expect(app.lines.all.contains { $0.contains("no watch had told of") })
                    }
                }
            }
        }
    }
}

@Suite struct SpreadTests {
    @Test func aFleetSpreadsItsReads() {
        #expect(Reread.spread(agents: 3, reads: 1, random: 0.9) == nil)
        #expect(Reread.spread(agents: 1_000, reads: 1, random: 0) == .zero)
        #expect(Reread.spread(agents: 1_000, reads: 1, random: 0.5) == .milliseconds(10))
        #expect(Reread.spread(agents: 1_000, reads: 4, random: 0.5) == .milliseconds(40))
        #expect(Reread.spread(agents: 1_000_000, reads: 4, random: 0.5) == .milliseconds(250))
    }

    @Test func theEnsemblesTimeGoesOnByOurMonotonicClock() {
        var estimate = EnsembleClockEstimate()
        let now = ContinuousClock.now
        #expect(estimate.time(at: now) == nil)
        estimate.observe(serverMilliseconds: 1_000_000, sentAt: now, receivedAt: now + .milliseconds(20))
        #expect(estimate.time(at: now + .milliseconds(1_010))?.millisecondsSince1970 == 1_001_000)
        // A slow answer says less than what is known; a day later it says more.
        estimate.observe(serverMilliseconds: 5_000_000, sentAt: now, receivedAt: now + .seconds(10))
        #expect(estimate.time(at: now + .milliseconds(1_010))?.millisecondsSince1970 == 1_001_000)
        let later = now + .seconds(86_400)
        estimate.observe(serverMilliseconds: 5_000_000, sentAt: later, receivedAt: later + .seconds(10))
        #expect(estimate.time(at: later + .seconds(5))?.millisecondsSince1970 == 5_000_000)
    }
}
