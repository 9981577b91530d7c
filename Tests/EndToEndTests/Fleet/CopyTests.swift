import Foundation
import HotKeyPeer
import HotKeyTestSupport
import Testing

extension EndToEnd.OnAFleet {
    @Suite struct Copies {
        /// Where the copies of a key lie, by name, as the nodes say.
        private func copies(_ fleet: Fleet, _ key: String = "*") async throws -> [String] {
            var names: [String] = []
            for cache in fleet.caches {
                let client = try await cache.client()
                let found = try await client.command("KEYS", "__hkcopy:*:\(key)").elements?.compactMap(\.string) ?? []
                names += found.map { "\($0)@\(cache.port)" }
                await client.close()
            }
            return names
        }

        private func metric(_ name: String, _ agent: Agent) async throws -> Double {
            try await agent.http("/metrics").body.split(separator: "\n")
                .first { $0.hasPrefix(name + " ") }.flatMap { $0.split(separator: " ").last.flatMap { Double($0) } }
                ?? 0
        }

        private func total(_ name: String, _ fleet: Fleet) async throws -> Double {
            var sum = 0.0
            for agent in fleet.agents { sum += try await metric(name, agent) }
            return sum
        }

        @Test func copiesAreThereBeforeTheyAreReadAndGoneAfterTheKeyHasCooled() async throws {
            let fleet = try await sharedFleet()
            let key = "copied:whole"
            let client = try await fleet.agents[0].client()
            try await client.command("SET", key, "value")
            let (reads, misses) = (
                try await total("hotkey_copy_reads_total", fleet), try await total("hotkey_copy_misses_total", fleet)
            )
            let load = Load.start(
                ports: fleet.appPorts, batch: Array(repeating: ["GET", key], count: 10), pauseMilliseconds: 5,
                isGood: { $0 == .text("value") })
            try await fleet.waitFor(key, "warming") { $0.copyState == "warming" && $0.copies == 2 }
            try await fleet.waitFor(key, "ready") { $0.copyState == "ready" && $0.copies == 2 }
            let places = Set(try await fleet.agents[1].route(key).copies.map(\.address))
            let home = try await fleet.home(of: key).server.address
            #expect(places.count == 2 && !places.contains(home))
            #expect(try await fleet.control("route", key).contains("(ready)"))
            #expect(try await fleet.control("get", key).contains("2 (ready)"))
            let leader = try await fleet.leader()
            #expect(try await metric("hotkey_copy_keys{state=\"ready\"}", leader) >= 1)
            try await eventually("two thousand reads are answered by copies") {
                try await total("hotkey_copy_reads_total", fleet) - reads >= 2_000
            }
            let (copyReads, copyMisses) = (
                try await total("hotkey_copy_reads_total", fleet) - reads,
                try await total("hotkey_copy_misses_total", fleet) - misses
            )
            // Each copy ends once a lifetime, and the next read of it fills it again.
            #expect(copyMisses <= copyReads * 0.05, "\(copyMisses) of \(copyReads)")
            figure("copies: \(Int(copyReads)) reads answered, \(Int(copyMisses)) found none there")
            #expect(await load.stop().failures == [])
            try await fleet.waitFor(key, "cold") { $0.state == "cold" }
            try await eventually("no copy is left") { try await copies(fleet, key).isEmpty }
            try await eventually("no record is left") {
                let leaving = try await metric("hotkey_copy_keys{state=\"leaving\"}", leader)
                return try await fleet.control("list", "--output", "json").contains(key) == false && leaving == 0
            }
            // Nor does any come back.
            let start = try await fleet.agents[0].status().reportSequence
            try await eventually("ten slices more") {
                #expect(try await copies(fleet, key) == [])
                return try await fleet.agents[0].status().reportSequence >= start + 10
            }
            await client.close()
        }

        @Test func aKeyHasAsManyCopiesAsItsHeatNeedsWhereTheRuleSaysSo() async throws {
            let fleet = try await sharedFleet()
            let key = "heated:little"
            let client = try await fleet.agents[0].client()
            try await client.command("SET", key, "value")
            // Never more than 400 a second: two places are enough, where the rule alone would fill all three nodes.
            let load = Load.start(
                ports: [fleet.appPorts[0]], batch: Array(repeating: ["GET", key], count: 16), pauseMilliseconds: 40,
                isGood: { $0 == .text("value") })
            try await fleet.waitFor(key, "ready") { $0.copyState == "ready" }
            #expect(try await fleet.agents[1].key(key).copies == 1)
            #expect(try await fleet.agents[1].route(key).copies.count == 1)
            #expect(await load.stop().failures == [])
            try await fleet.waitFor(key, "cold") { $0.state == "cold" }
            try await eventually("no copy is left") { try await copies(fleet, key).isEmpty }
            await client.close()
        }

        @Test func aNodeThatIsTakenAwayHasNoCopiesLeftAndTheOthersHaveThem() async throws {
            let fleet = try await sharedFleet()
            let key = "copied:moved"
            let client = try await fleet.agents[0].client()
            try await client.command("SET", key, "value")
            try await fleet.control("pin", key, "--copies", "1")
            try await fleet.waitFor(key, "ready") { $0.copyState == "ready" }
            let before = try await fleet.control("topology", "show", "--output", "json")
            let (home, place) = (
                try await fleet.home(of: key).server.address, try await fleet.agents[0].route(key).copies[0].address
            )
            let document = try #require(try JSONSerialization.jsonObject(with: Data(before.utf8)) as? [String: Any])
            var topology = try #require((document["topology"] ?? document) as? [String: Any])
            topology["nodes"] = (topology["nodes"] as? [[String: Any]])?.filter { $0["address"] as? String != place }
            let file = try fleet.file(
                "without.json", String(decoding: try JSONSerialization.data(withJSONObject: topology), as: UTF8.self))
            try await fleet.control("topology", "apply", file)
            let start = ContinuousClock.now
            for agent in fleet.agents {
                try await eventually("agent \(agent.id) has planned the copy anew") {
                    let route = try await agent.route(key)
                    return route.home.address == home && route.copies.count == 1 && route.copies[0].address != place
                }
            }
            figure("copies planned anew on all agents \(ContinuousClock.now - start) after the topology was applied")
            try await eventually("the copy is where it belongs and nowhere else") {
                try await copies(fleet, key).map { "127.0.0.1:" + ($0.split(separator: "@").last ?? "") }
                    == fleet.agents[1].route(key).copies.map(\.address)
            }
            try await fleet.control("topology", "apply", fleet.file("before.json", before))
            for agent in fleet.agents {
                try await eventually("agent \(agent.id) has all nodes again") {
                    try await agent.status().nodes.count == 3
                }
            }
            try await fleet.control("unpin", key)
            try await eventually("no copy is left") { try await copies(fleet, key).isEmpty }
            await client.close()
        }

        @Test func copiesOfAPinnedKeyComeAndGoWithThePin() async throws {
            let fleet = try await sharedFleet()
            let key = "copied:pinned"
            let client = try await fleet.agents[2].client()
            try await client.command("SET", key, "value")
            try await fleet.control("pin", key, "--copies", "1")
            try await eventually("one copy is there before anybody has read") {
                try await copies(fleet, key).count == 1
            }
            try await fleet.waitFor(key, "ready") { $0.state == "pinned" && $0.copyState == "ready" && $0.copies == 1 }
            // Another coordinator finds the state where it was.
            let leader = try await fleet.leader()
            await leader.kill()
            let others = fleet.agents.filter { $0 !== leader }
            _ = try await fleet.leader(among: others)
            try await leader.start()
            try await fleet.waitFor(key, "ready still") { $0.copyState == "ready" && $0.copies == 1 }
            try await fleet.control("unpin", key)
            try await fleet.waitFor(key, "cold") { $0.state == "cold" && $0.copyState == nil }
            try await eventually("no copy is left") { try await copies(fleet, key).isEmpty }
            try await eventually("no record is left") {
                try await fleet.control("list", "--output", "json").contains(key) == false
            }
            await client.close()
        }
    }
}
