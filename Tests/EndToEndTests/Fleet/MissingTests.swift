import Foundation
import HotKeyPeer
import HotKeyTestSupport
import Testing

extension EndToEnd.OnAFleet {
    @Suite struct Missing {
        @Test func aKeyThatIsNotThereIsHotAsMissingAndIsNotCopied() async throws {
            let fleet = try await sharedFleet()
            let key = "warm:missing"
            let client = try await fleet.agents[0].client()
            try await client.command("DEL", key)
            let load = Load.start(
                ports: fleet.appPorts, batch: Array(repeating: ["GET", key], count: 10), pauseMilliseconds: 5,
                isGood: { $0.isNull || $0 == .text("value") })
            try await fleet.waitUntilPublished(key)
            // On a busy machine replies may come a slice too late at first, and then it is read-hot for some seconds.
            try await fleet.waitFor(key, "missing") { $0.kind == "missing" && !$0.isLocalDecision }
            for agent in fleet.agents {
                let status = try await agent.key(key)
                #expect(status.action == "cache" && status.copies == 0, "\(status)")
            }
            let record = try #require(try await Self.record(fleet, key))
            #expect(record["kind"] as? String == "missing")
            #expect(record["missesPerSecond"] as? Double ?? 0 > 0, "\(record)")

            try await eventually("no copy is left of the first seconds") { try await Self.copies(fleet, key).isEmpty }
            let hits = try await fleet.agents[1].status().counters.localHits
            let start = try await fleet.agents[1].status().reportSequence
            try await eventually("twenty slices more") {
                #expect(try await Self.copies(fleet, key) == [])
                return try await fleet.agents[1].status().reportSequence >= start + 20
            }
            #expect(try await fleet.agents[1].status().counters.localHits > hits)
            let explained = try await fleet.control("get", key, "--explain")
            #expect(explained.contains("missing-hot: "), "\(explained)")

            // Nobody has to wait for long for what is there now; and it is a read-hot key then, with copies.
            try await client.command("SET", key, "value")
            for agent in fleet.agents {
                let other = try await agent.client()
                try await eventually("agent \(agent.id) has the value") {
                    try await other.command("GET", key) == .text("value")
                }
            }
            try await fleet.waitFor(key, "read-hot") { $0.kind == "read" && $0.action == "both" }
            #expect(await load.stop().failures == [])
        }

        private static func record(_ fleet: Fleet, _ key: String) async throws -> [String: Any]? {
            let text = try await fleet.control("get", key, "--output", "json")
            return (try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])?["record"]
                as? [String: Any]
        }

        private static func copies(_ fleet: Fleet, _ key: String) async throws -> [String] {
            var names: [String] = []
            for cache in fleet.caches {
                let client = try await cache.client()
                names += try await client.command("KEYS", "__hkcopy:*:\(key)").elements?.compactMap(\.string) ?? []
                await client.close()
            }
            return names
        }
    }
}
