import Foundation
import HotKeyPeer
import HotKeyTestSupport
import NIOConcurrencyHelpers
import Testing

extension EndToEnd.OnAFleet {
    @Suite struct Operator {
        /// Hears on `__hotkeys__` when each key is in force at one agent.
        private final class Listener: Sendable {
            private let pinnedAt = NIOLockedValueBox<[String: Date]>([:])
            private let isStopping = NIOLockedValueBox(false)
            private let reading: Task<Void, any Error>

            init(_ agent: Agent) async throws {
                let client = try await agent.client()
                #expect(try await client.command("SUBSCRIBE", "__hotkeys__").elements?.count == 3)
                try await client.setTimeout(.seconds(120))
                let (pinnedAt, isStopping) = (pinnedAt, isStopping)
                reading = Task {
                    while !isStopping.withLockedValue({ $0 }) {
                        let message = try HotKeyMessage(pushed: try await client.receive())
                        let now = Date()
                        for change in message.changes where change.state == "pinned" {
                            pinnedAt.withLockedValue { $0[String(decoding: change.key.bytes, as: UTF8.self)] = now }
                        }
                    }
                    await client.close()
                }
            }

            func time(of key: String) -> Date? { pinnedAt.withLockedValue { $0[key] } }

            /// The next message is the last that is read.
            func stopAfterNext() { isStopping.withLockedValue { $0 = true } }
            func end() async throws { try await reading.value }
        }

        @Test func aPinIsInForceOnEveryAgentWithinMilliseconds() async throws {
            let fleet = try await sharedFleet()
            var listeners: [Listener] = []
            for agent in fleet.agents { listeners.append(try await Listener(agent)) }
            let keys = (1...20).map { "pin:\($0)" }
            var delays: [Double] = []
            var slow: [String] = []
            for key in keys {
                let started = Date()
                try await fleet.control("pin", key, "--copies", "1", "--reason", "test")
                let returned = Date()
                try await eventually("\(key) is in force everywhere") {
                    listeners.allSatisfy { $0.time(of: key) != nil }
                }
                // From the operator's decision, as it stands in the pin, to the last agent's acting on it.
                let since = try #require(try await fleet.agents[0].key(key).since)
                let decided = try #require(Self.date(since))
                let each = listeners.map { $0.time(of: key)!.timeIntervalSince(decided) * 1000 }
                delays.append(each.max()!)
                if each.max()! > 1_000 {
                    slow.append(
                        "\(key): decided at \(since), hkctl ran from \(started.timeIntervalSince(decided)) s to "
                            + "\(returned.timeIntervalSince(decided)) s, in force after \(each) ms")
                }
            }
            for agent in fleet.agents {
                let listed = try await agent.list().keys.filter { $0.state == "pinned" }
                #expect(Set(keys).isSubset(of: listed.map { String(decoding: $0.key.bytes, as: UTF8.self) }))
            }
            let sorted = delays.sorted().map { Int($0.rounded()) }
            figure(
                "pin to in force on all three agents, 20 pins: p50 \(sorted[10]) ms, p99 \(sorted[19]) ms "
                    + "(goal 50 over 200 pins)")
            for pin in slow { figure("slow pin, \(pin)") }
            #expect(sorted[10] < 1_000, "\(fleet.agents.map { $0.log.suffix(4_000) })")
            for listener in listeners { listener.stopAfterNext() }
            for key in keys { try await fleet.control("unpin", key) }
            for key in keys { try await fleet.waitFor(key, "cold") { $0.state == "cold" } }
            for listener in listeners { try await listener.end() }
        }

        private static func date(_ text: String) -> Date? {
            (try? Date(text, strategy: .iso8601.year().month().day().time(includingFractionalSeconds: true)))
                ?? (try? Date(text, strategy: .iso8601))
        }

        @Test func appsHearOfChangesInBothProtocols() async throws {
            let fleet = try await sharedFleet()
            let agent = fleet.agents[2]
            let old = try await agent.client()
            #expect(
                try await old.command("SUBSCRIBE", "__hotkeys__")
                    == .array([.text("subscribe"), .text("__hotkeys__"), .integer(1)]))
            let new = try await agent.client()
            #expect(try await new.command("HELLO", "3").errorMessage == nil)
            try await new.send(["SUBSCRIBE", "__hotkeys__"])
            #expect(
                try await new.nextPush() == .push([.text("subscribe"), .text("__hotkeys__"), .integer(1)]))
            let other = try await agent.client()
            #expect(
                try await other.command("SUBSCRIBE", "news")
                    == .array([.text("subscribe"), .text("news"), .integer(1)]))

            try await fleet.control("pin", "heard")
            try await fleet.control("unpin", "heard")
            for (client, isRESP3) in [(old, false), (new, true)] {
                var states: [String] = []
                while states.count < 2 {
                    let value = isRESP3 ? try await client.nextPush() : try await client.receive()
                    for change in try HotKeyMessage(pushed: value).changes
                    where change.key == PeerKey(Array("heard".utf8)) { states.append(change.state) }
                }
                #expect(states == ["pinned", "cold"])
            }
            // In RESP3 other commands go on beside the subscription.
            #expect(try await new.command("PING") == .simple("PONG"))
            #expect(try await old.command("GET", "x").errorMessage?.contains("only (P|S)SUBSCRIBE") == true)
        }

        @Test func theModeSwitchesTheWholeFleet() async throws {
            let fleet = try await sharedFleet()
            let key = "mode:key"
            try await fleet.agents[0].client().command("SET", key, "value")
            try await fleet.control("pin", key)
            try await fleet.waitFor(key, "pinned and served") { $0.state == "pinned" && $0.action == "both" }

            for (mode, action) in [("observe", "observe"), ("off", "none"), ("mitigate", "both")] {
                try await fleet.control("mode", mode)
                let start = ContinuousClock.now
                try await fleet.waitFor(key, "treated as in mode \(mode)") { $0.action == action }
                figure(
                    "mode \(mode): in force on all agents \((ContinuousClock.now - start).milliseconds) ms after hkctl "
                        + "returned (goal 1000)")
                for agent in fleet.agents {
                    #expect(try await agent.status().mode == mode)
                    #expect(try await agent.route(key).isHot == (mode == "mitigate"))
                    let hits = try await agent.status().counters.localHits
                    let client = try await agent.client()
                    for _ in 0..<50 { #expect(try await client.command("GET", key) == .text("value")) }
                    let newHits = try await agent.status().counters.localHits - hits
                    #expect(mode == "mitigate" ? newHits > 0 : newHits == 0)
                }
            }
            try await fleet.control("unpin", key)
        }

        @Test func wrongUsageIsToldFromFailure() async throws {
            let fleet = try await sharedFleet()
            try await fleet.control("mode", "perhaps", status: 2)
            let bad = try fleet.file("bad.yaml", "schema: 1\nrules:\n  - pattern: \"*\"\n    treshold: 5\n")
            try await fleet.control("rules", "apply", bad, status: 1)
        }
    }
}

extension HotKeyMessage {
    /// What came over a subscription: `message`, the channel, and JSON.
    init(pushed value: RedisTestValue) throws {
        guard let parts = value.elements, parts.count == 3, parts[0].string == "message",
            parts[1].string == "__hotkeys__", let json = parts[2].bytes
        else { throw TestSupportError(.malformedReply, "not a message on __hotkeys__: \(value)") }
        self = try JSONDecoder().decode(HotKeyMessage.self, from: Data(json))
    }
}
