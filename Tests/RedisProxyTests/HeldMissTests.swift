import Foundation
import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Reads of hot keys whose value is gone.
    @Suite struct HeldMisses {
        /// Long enough that nothing but what a test does ends it.
        private static let long: UInt64 = 25_000

        private static func policy(_ key: String, interval: UInt64, hold: UInt64, cap: UInt64 = 60_000) -> HotKeyPolicy
        {
            hot(
                key, .cache, capMilliseconds: cap, missIntervalMilliseconds: interval, missHoldMilliseconds: hold)
        }

        /// Waits until so many reads are held.
        private static func awaitHeld(_ rig: Rig, _ key: String, _ count: UInt64) async throws {
            try await eventually("\(count) reads are held") {
                try await rig.server.missesHeld(of: Array(key.utf8)) == count
            }
        }

        /// A key whose value both loops have seen and is gone now, and whose turn somebody has had: every other read is held.
        private static func withLostKey(
            _ name: String, interval: UInt64 = long, hold: UInt64 = long, clients count: Int = 4,
            nodes: [RedisServer]? = nil, isTracking: Bool = false,
            _ body: (Rig, String, [RedisTestClient]) async throws -> Void
        ) async throws {
            try await Rig.with(nodes: nodes, isTracking: isTracking) { rig in
                let key = rig.key(on: 0, name)
                var clients: [RedisTestClient] = []
                for number in 0..<count { clients.append(try await rig.client(onLoop: number % 2)) }
                try await clients[0].command("SET", key, "old")
                try await rig.apply(.mitigate, [policy(key, interval: interval, hold: hold)])
                for client in clients { #expect(try await client.command("GET", key) == .text("old")) }
                #expect(try await clients[0].command("DEL", key) == .integer(1))
                #expect(try await clients[0].command("GET", key).isNull)
                #expect(try await rig.server.statistics().missTurns == 1)
                try await body(rig, key, clients)
                for client in clients { await client.close() }
            }
        }

        /// After the loss of everything many clients ask and ask, and one an interval is told, until somebody has made the value.
        @Test(arguments: [(false, false), (false, true), (true, false), (true, true)])
        func oneReadAnIntervalIsToldThatAValueIsGone(_ tracks: Bool, _ restarts: Bool) async throws {
            let interval: UInt64 = 150
            let nodes = try await Rig.startNodes(2)
            try await Rig.with(
                nodes: nodes, isTracking: tracks,
                configure: {
                    $0.breaker.openNanoseconds = 50_000_000
                    $0.breaker.openNanosecondsMax = 100_000_000
                }
            ) { rig in
                let key = rig.key(on: 0, "lost")
                try await rig.direct(0, "SET", key, "old")
                try await rig.apply(
                    .mitigate, [Self.policy(key, interval: interval, hold: Self.long, cap: 100)])
                var readers: [RedisTestClient] = []
                for number in 0..<16 {
                    readers.append(try await rig.client(onLoop: number % 2, version: 2 + number / 2 % 2))
                    #expect(try await readers[number].command("GET", key) == .text("old"))
                }
                if restarts {
                    await nodes[0].kill()
                    try await nodes[0].start()
                } else {
                    try await rig.direct(0, "FLUSHALL")
                }
                let since = ContinuousClock.now
                let told = try await withThrowingTaskGroup(of: Int.self) { group in
                    for reader in readers {
                        group.addTask {
                            var misses = 0
                            while true {
                                let reply = try await reader.command("GET", key)
                                if reply == .text("new") { return misses }
                                if reply.isNull { misses += 1 } else if reply == .text("old") { await Task.yield() }
                            }
                        }
                    }
                    group.addTask {
                        try await eventually("some have had their turns") {
                            try await rig.server.statistics().missTurns >= 4
                        }
                        // Past the agent in one case, through it in the other.
                        if restarts {
                            try await rig.direct(0, "SET", key, "new")
                        } else {
                            let writer = try await rig.client()
                            try await writer.command("SET", key, "new")
                            await writer.close()
                        }
                        return 0
                    }
                    return try await group.reduce(0, +)
                }
                let intervals = Int((ContinuousClock.now - since) / .milliseconds(Int64(interval)))
                let statistics = try await rig.server.statistics()
                #expect(told >= 4 && told <= intervals + 1, "\(told) misses in \(intervals) intervals")
                #expect(UInt64(told) == statistics.missTurns, "\(statistics)")
                #expect(statistics.missesHeld >= 15 && statistics.missesLetGo == 0)
                #expect(try await rig.server.missesHeld(of: Array(key.utf8)) == statistics.missesHeld)
                for reader in readers { await reader.close() }
            }
            for node in nodes { await node.stop() }
        }

        /// No read that was held is told what was known before a write that has been acknowledged since.
        @Test func aWriteAnswersAllWhoAreHeld() async throws {
            try await Self.withLostKey("written", clients: 8) { rig, key, clients in
                let (writer, readers) = (clients[0], Array(clients.dropFirst()))
                for round in 1...30 {
                    for reader in readers { try await reader.send(["GET", key]) }
                    try await Self.awaitHeld(rig, key, UInt64(readers.count * round))
                    #expect(try await writer.command("SET", key, "v\(round)") == .ok)
                    for reader in readers { #expect(try await reader.receive() == .text("v\(round)")) }
                    #expect(try await writer.command("DEL", key) == .integer(1))
                }
                let statistics = try await rig.server.statistics()
                #expect(statistics.missTurns == 1 && statistics.missesLetGo == 0)
            }
        }

        /// The first event loop says late whose turn it is; a write has changed the key meanwhile.
        @Test func aTurnThatComesLateTellsNothingOfBefore() async throws {
            try await Self.withLostKey("late", interval: 1) { rig, key, clients in
                let (reader, writer) = (clients[1], clients[3])
                let stalls = AgentStub.stalls.with { $0 }
                try await clients[0].send(["HK.STALL", "2000"])
                try await eventually("the first event loop is held up") { AgentStub.stalls.with { $0 } > stalls }
                let before = try await rig.calls("get", at: 0)
                try await reader.send(["GET", key])
                try await eventually("home has been asked") { try await rig.calls("get", at: 0) > before }
                try await writer.send(["SET", key, "v"])
                #expect(try await reader.receive() == .text("v"))
                #expect(try await writer.receive() == .ok)
                _ = try await clients[0].receive()
            }
        }

        /// A read that is carried out anew after a write does not join one that home may have answered before it (``TrackedFill``).
        @Test func whoWaitsForATrackedReadIsNotToldOfBeforeAWrite() async throws {
            let nodes = try await Rig.startNodes(2)
            try await Self.withLostKey("joined", clients: 8, nodes: nodes, isTracking: true) { rig, key, clients in
                let (held, writer, late) = (clients[1], clients[3], clients[5])
                for round in 1...8 {
                    if round > 1 { try await writer.command("DEL", key) }
                    try await held.send(["GET", key])
                    try await Self.awaitHeld(rig, key, UInt64(round))
                    // Home takes the owner's read first and then the write …
                    _ = try await rig.direct(0, "CLIENT", "PAUSE", "90", "ALL")
                    let reads = try await rig.server.statistics().hotHomeReads
                    try await clients[0].send(raw: encode(["GET", key]) + encode(["PING"]))
                    while try await rig.server.statistics().hotHomeReads == reads { await Task.yield() }
                    // … whose event loop hears of it while the owner is held up. It is held up once more before it sees what its read has
                    // brought, but not before it has taken note of the write. What must hold does so at any pace.
                    let stalls = AgentStub.stalls.with { $0 }
                    try await clients[2].send(["HK.STALL", "130"])
                    while AgentStub.stalls.with({ $0 }) == stalls { await Task.yield() }
                    try await clients[4].send(["HK.STALL", "150"])
                    try await writer.send(["SET", key, "v\(round)"])
                    #expect(try await writer.receive() == .ok)
                    try await late.send(raw: encode(["GET", key]) + encode(["PING"]))
                    #expect(try await late.receive() == .text("v\(round)"))
                    #expect(try await held.receive() == .text("v\(round)"))
                    _ = try await late.receive()
                    for _ in 0..<2 { _ = try await clients[0].receive() }
                    for client in [clients[2], clients[4]] { _ = try await client.receive() }
                }
            }
            for node in nodes { await node.stop() }
        }

        /// A delete is news, too, and nothing comes of it.
        @Test func whatIsNewsAndNoValueHoldsThemAgain() async throws {
            try await Self.withLostKey("news") { rig, key, clients in
                try await clients[1].send(["GET", key])
                try await Self.awaitHeld(rig, key, 1)
                for _ in 0..<20 { #expect(try await clients[0].command("DEL", key) == .integer(0)) }
                try await clients[0].command("SET", key, "v")
                #expect(try await clients[1].receive() == .text("v"))
                #expect(try await rig.server.missesHeld(of: Array(key.utf8)) == 1)
            }
        }

        @Test func aHeldReadIsLetGoWhenItsTimeIsOver() async throws {
            try await Self.withLostKey("bounded", hold: 300) { rig, key, clients in
                let since = ContinuousClock.now
                for client in clients.dropFirst() { try await client.send(["GET", key]) }
                for client in clients.dropFirst() { #expect(try await client.receive().isNull) }
                let waited = ContinuousClock.now - since
                // Not by the next turn, which is far off.
                #expect(waited >= .milliseconds(280) && waited < .milliseconds(Self.long / 2), "\(waited)")
                let statistics = try await rig.server.statistics()
                #expect(statistics.missesLetGo == 3 && statistics.missTurns == 1 && statistics.missesHeld == 3)
            }
        }

        /// What a client sends behind its read may be what everybody waits for, or have nothing to do with it.
        @Test(arguments: [
            ["SET KEY v"], ["SET other v"], ["PING"], ["GET other"], ["MULTI", "SET KEY v", "EXEC"], ["HELLO 3"],
            ["RESET"], ["BLPOP list 0.01"], ["WATCH KEY"], ["SUBSCRIBE channel"],
        ])
        func aClientIsNotHeldBehindWhatItSendsItself(_ behind: [String]) async throws {
            try await Self.withLostKey("own") { rig, key, clients in
                let commands = behind.map { $0.replacing("KEY", with: key).split(separator: " ").map(String.init) }
                // It comes while the read is held.
                try await clients[1].send(["GET", key])
                try await Self.awaitHeld(rig, key, 1)
                try await clients[1].send(raw: commands.flatMap { encode($0) })
                #expect(try await clients[1].receive().isNull)
                for _ in commands { _ = try await clients[1].receive() }
                #expect(try await rig.server.statistics().missesLetGo == 1)
            }
        }

        /// … in one go.
        @Test(
            arguments: [["SET KEY v", "GET KEY"], ["MULTI", "SET KEY v", "EXEC", "GET KEY"], ["HELLO 3"], ["QUIT"]],
            [0, 1])
        func aPipelineIsNotHeldBehindItself(_ behind: [String], _ number: Int) async throws {
            try await Self.withLostKey("pipelined") { rig, key, clients in
                let commands = behind.map { $0.replacing("KEY", with: key).split(separator: " ").map(String.init) }
                try await clients[2].send(["GET", key])
                try await Self.awaitHeld(rig, key, 1)
                // On the event loop where another is held already, and where none is.
                let client = clients[number]
                try await client.send(raw: encode(["GET", key]) + commands.flatMap { encode($0) })
                #expect(try await client.receive().isNull)
                for command in commands {
                    let reply = try await client.receive()
                    if command == ["GET", key] { #expect(reply == .text("v")) }
                }
                if behind.count > 1 { #expect(try await clients[2].receive() == .text("v")) }
            }
        }

        /// Of several commands in one go only the last may be held: the others would hold up what is behind them.
        @Test(arguments: [0, 1])
        func aPipelineIsNotHeld(_ number: Int) async throws {
            try await Self.withLostKey("together") { rig, key, clients in
                let other = rig.key(on: 1, "beside")
                try await clients[2].command("SET", other, "o")
                // On this one's event loop another is held already.
                try await clients[2].send(["GET", key])
                try await Self.awaitHeld(rig, key, 1)
                let client = clients[number]
                try await client.send(raw: encode(["GET", key]) + encode(["GET", other]))
                #expect(try await client.receive().isNull)
                #expect(try await client.receive() == .text("o"))
                #expect(try await rig.server.statistics().missTurns == 1)
                try await client.send(raw: encode(["GET", other]) + encode(["GET", key]))
                #expect(try await client.receive() == .text("o"))
                // Beside another one the first was held, too, until what is behind it was looked at.
                try await Self.awaitHeld(rig, key, number == 0 ? 3 : 2)
                try await clients[3].command("SET", key, "v")
                #expect(try await client.receive() == .text("v"))
                #expect(try await clients[2].receive() == .text("v"))
            }
        }

        /// Each would hold what the other waits for.
        @Test func partsOfAnMGETAreNotHeld() async throws {
            try await Self.withLostKey("split") { rig, key, clients in
                let other = rig.key(on: 1, "beside")
                try await clients[2].command("SET", other, "o")
                try await clients[2].send(["GET", key])
                try await Self.awaitHeld(rig, key, 1)
                for client in clients[0...1] {
                    #expect(try await client.command("MGET", key, other) == .array([.nullBulk, .text("o")]))
                    #expect(try await client.command("MGET", other, key) == .array([.text("o"), .nullBulk]))
                }
                try await clients[0].command("SET", key, "v")
                #expect(try await clients[2].receive() == .text("v"))
                let statistics = try await rig.server.statistics()
                #expect(statistics.missesHeld == 1 && statistics.missTurns == 1)
            }
        }

        /// A turn goes to somebody who is there.
        @Test func whoDisconnectsIsDropped() async throws {
            try await Self.withLostKey("gone", interval: 1_500, clients: 8) { rig, key, clients in
                for client in clients.dropFirst() { try await client.send(["GET", key]) }
                try await Self.awaitHeld(rig, key, 7)
                for client in clients[1...3] { await client.reset() }
                // This one only says that it sends no more: it is answered.
                try await clients[4].finishWriting()
                #expect(try await clients[4].receive().isNull)
                try await eventually("they are gone") { try await rig.server.statistics().clientsConnected <= 5 }
                try await eventually("somebody has had the next turn") {
                    try await rig.server.statistics().missTurns >= 2
                }
                try await clients[0].command("SET", key, "v")
                var replies: [RedisTestValue] = []
                for client in clients[5...7] { replies.append(try await client.receive()) }
                // Each turn after the first went to one of these.
                let told = try await rig.server.statistics().missTurns - 1
                #expect(replies.count { $0.isNull } == told, "\(replies)")
                #expect(replies.count { $0 == .text("v") } == 3 - told, "\(replies)")
            }
        }

        @Test func nobodyWaitsForWhatWasNeverThere() async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 0, "never")
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                try await clients[0].command("DEL", key)
                try await rig.apply(.mitigate, [Self.policy(key, interval: Self.long, hold: Self.long)])
                for client in clients { for _ in 0..<50 { #expect(try await client.command("GET", key).isNull) } }
                // What is there has parts that are not.
                try await clients[0].command("HSET", key, "field", "1")
                for client in clients {
                    #expect(try await client.command("HGET", key, "field") == .text("1"))
                    for _ in 0..<50 { #expect(try await client.command("HGET", key, "none").isNull) }
                }
                let statistics = try await rig.server.statistics()
                #expect(statistics.missesHeld == 0 && statistics.missTurns == 0)
                #expect(statistics.localMissingHits > 100)
                for client in clients { await client.close() }
            }
        }

        private enum End: String, CaseIterable {
            case rule, key, observe, off, switchedOff
        }

        @Test(arguments: ["rule", "key", "observe", "off", "switchedOff"])
        func theEndOfTheRuleLetsThemGo(_ name: String) async throws {
            let end = End(rawValue: name)!
            try await Self.withLostKey("ended") { rig, key, clients in
                for client in clients.dropFirst() { try await client.send(["GET", key]) }
                try await Self.awaitHeld(rig, key, 3)
                let policy = Self.policy(key, interval: Self.long, hold: Self.long)
                switch end {
                case .rule: try await rig.apply(.mitigate, [hot(key, .cache)])
                case .key: try await rig.apply(.mitigate, [])
                case .observe: try await rig.apply(.observe, [policy])
                case .off: try await rig.apply(.off, [policy])
                case .switchedOff: try await rig.server.switchOff()
                }
                for client in clients.dropFirst() { #expect(try await client.receive().isNull) }
                #expect(try await rig.server.statistics().missesLetGo == 3)
            }
        }

        /// Who is held when the home goes is told so.
        @Test func aHomeThatDiesEndsTheWait() async throws {
            let nodes = try await Rig.startNodes(2)
            try await Rig.with(nodes: nodes) { rig in
                let key = rig.key(on: 0, "dying")
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 0)]
                try await clients[0].command("SET", key, "old")
                try await rig.apply(.mitigate, [Self.policy(key, interval: 400, hold: Self.long)])
                #expect(try await clients[0].command("GET", key) == .text("old"))
                try await clients[0].command("DEL", key)
                #expect(try await clients[0].command("GET", key).isNull)
                try await clients[1].send(["GET", key])
                try await Self.awaitHeld(rig, key, 1)
                await nodes[0].kill()
                // When its turn comes it finds nobody there.
                #expect(try await clients[1].receive().errorMessage != nil)
                for client in clients { await client.close() }
            }
            for node in nodes { await node.stop() }
        }

        @Test func observingCountsWhatActingWouldHold() async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 0, "observed")
                let client = try await rig.client(onLoop: 0)
                try await client.command("SET", key, "v")
                try await rig.apply(.observe, [Self.policy(key, interval: Self.long, hold: Self.long)])
                #expect(try await client.command("GET", key) == .text("v"))
                try await client.command("DEL", key)
                for _ in 0..<20 { #expect(try await client.command("GET", key).isNull) }
                let statistics = try await rig.server.statistics()
                #expect(statistics.observedMissesHeld == 19 && statistics.missesHeld == 0)
                await client.close()
            }
        }
    }
}
