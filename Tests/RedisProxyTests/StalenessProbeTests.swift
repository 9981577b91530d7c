import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Local hits that are compared with home.
    @Suite struct StalenessProbes {
        private static func all(_ configuration: inout ProxyConfiguration) { configuration.cacheProbePermille = 1000 }

        private static func answered(_ rig: Rig, _ count: UInt64) async throws -> ObservedStaleness {
            try await eventually("\(count) comparisons") {
                try await rig.server.statistics().staleness.probes == count
            }
            return try await rig.server.statistics().staleness
        }

        private static func quiet(_ rig: Rig) async throws {
            try await eventually("nothing is under way") {
                try await rig.server.statistics().nodes.allSatisfy { $0.inFlight == 0 }
            }
        }

        @Test(arguments: [(2, false), (3, false), (2, true), (3, true)])
        func whatIsTheSameIsCurrent(_ version: Int, _ isTracking: Bool) async throws {
            try await Rig.with(isTracking: isTracking, configure: Self.all) { rig in
                let keys = rig.keys(on: 0, "probe\(version)\(isTracking)", count: 4)
                let (value, hash, absent, large) = (keys[0], keys[1], keys[2], keys[3])
                let client = try await rig.client(onLoop: 0, version: version)
                try await client.command("DEL", value, hash, absent)
                try await client.command("SET", value, "v")
                try await client.command("SET", large, String(repeating: "x", count: 300_000))
                try await client.command("HSET", hash, "f", "1")
                try await rig.apply(.mitigate, keys.map { hot($0, .cache) })
                if isTracking { try await Tracking.keep(rig, value, [client]) }
                let reads = [
                    ["GET", value], ["GET", absent], ["GET", large], ["HGET", hash, "f"], ["HMGET", hash, "f", "none"],
                    ["get", value], ["LRANGE", absent, "0", "-1"],
                ]
                // Time decides what these say, or the order of members.
                let others = [["TTL", value], ["HGETALL", hash], ["OBJECT", "ENCODING", value]]
                for _ in 0..<3 {
                    for words in reads + others { try await client.command(words) }
                }
                try await Self.quiet(rig)
                let before = try await rig.server.statistics()
                let counted = try await rig.counts(value)
                for _ in 0..<5 {
                    for words in reads + others { try await client.command(words) }
                }
                var after = before
                try await eventually("every hit that can be is compared") {
                    after = try await rig.server.statistics()
                    let hits = after.localHits - before.localHits
                    // Refreshes are hits, too. Fills are none.
                    return hits >= 45 && after.staleness.probes >= before.staleness.probes + 30
                        && after.nodes[0].inFlight == 0
                }
                #expect(after.staleness.probes - before.staleness.probes <= 35)
                #expect(after.staleness.differing == 0 && after.staleness.unanswered == 0)
                #expect(after.staleness.counts[0] == after.staleness.probes)
                #expect(after.staleness.worstNanoseconds == 0)
                // Comparisons are nobody's requests: `GET` and `get` five times each, TTL, OBJECT.
                #expect(after.requests - before.requests == 50)
                #expect(try await rig.counts(value).reads - counted.reads == 20)
                await client.close()
            }
        }

        @Test func aChangeNobodyToldOfIsFoundOut() async throws {
            try await Rig.with(configure: Self.all) { rig in
                let key = rig.key(on: 1, "changed")
                let client = try await rig.client(onLoop: 0)
                try await client.command("SET", key, "old")
                try await rig.apply(.mitigate, [hot(key, .cache)])
                let clock = ContinuousClock()
                let began = clock.now
                for _ in 0..<4 { #expect(try await client.command("GET", key) == .text("old")) }
                let same = try await Self.answered(rig, 3)
                let read = clock.now
                #expect(same.differing == 0)
                try await Task.sleep(for: .milliseconds(30))
                try await rig.direct(1, "SET", key, "new")
                #expect(try await client.command("GET", key) == .text("old"))
                let found = try await Self.answered(rig, 4)
                #expect(found.differing == 1 && found.violations == 0)
                // As long ago as the value was read, which is the most that can be said.
                let worst = Duration.nanoseconds(Int64(found.worstNanoseconds))
                #expect(worst >= .milliseconds(30) && worst <= clock.now - began, "\(worst), read by \(read - began)")
                // Of another type, and gone.
                try await rig.direct(1, "DEL", key)
                try await client.command("GET", key)
                #expect(try await Self.answered(rig, 5).differing == 2)
                try await rig.direct(1, "LPUSH", key, "e")
                try await client.command("GET", key)
                #expect(try await Self.answered(rig, 6).differing == 3)
                await client.close()
            }
        }

        @Test func noneWhenSwitchedOffAndFewByDefault() async throws {
            for (permille, range) in [(0, 0...0), (nil, 1...40)] as [(Int?, ClosedRange<UInt64>)] {
                try await Rig.with(
                    configure: {
                        $0.cacheProbePermille = permille ?? ProxyConfiguration(hashSeed: 0).cacheProbePermille
                    }
                ) { rig in
                    let key = rig.key(on: 2, "sample")
                    let client = try await rig.client(onLoop: 0)
                    try await client.command("SET", key, "v")
                    try await rig.apply(.mitigate, [hot(key, .cache)])
                    #expect(try await client.command("GET", key) == .text("v"))
                    for _ in 0..<100 {
                        _ = try await client.pipeline((0..<100).map { _ in ["GET", key] })
                    }
                    try await Self.quiet(rig)
                    let statistics = try await rig.server.statistics()
                    #expect(statistics.localHits == 10_000)
                    #expect(range.contains(statistics.staleness.probes), "\(statistics.staleness.probes)")
                    await client.close()
                }
            }
        }

        /// A home that hangs is not buried in comparisons, and one whose breaker is open is not asked.
        @Test func aHomeInTroubleIsLeftAlone() async throws {
            let nodes = try await Rig.startNodes(2)
            try await Rig.with(
                nodes: nodes,
                configure: {
                    Self.all(&$0)
                    $0.requestTimeoutMilliseconds = 500
                    $0.breaker.openNanoseconds = 60_000_000_000
                    $0.breaker.openNanosecondsMax = 60_000_000_000
                }
            ) { rig in
                let key = rig.key(on: 0, "trouble")
                let client = try await rig.client(onLoop: 0)
                try await client.command("SET", key, "v")
                try await rig.apply(.mitigate, [hot(key, .cache)])
                #expect(try await client.command("GET", key) == .text("v"))
                let before = try await rig.server.statistics().staleness
                nodes[0].suspend()
                let replies = try await client.pipeline((0..<1000).map { _ in ["GET", key] })
                #expect(replies.allSatisfy { $0 == .text("v") })
                // Beside the comparisons of one loop there may be a question for the clock on each.
                let asked = try await rig.server.statistics().nodes[0].inFlight
                #expect(asked <= 16 + 4, "\(asked) under way")
                try await eventually("the breaker is open") { try await rig.breaker(0) == .open }
                let open = try await rig.server.statistics()
                #expect((1...16).contains(open.staleness.unanswered - before.unanswered))
                for _ in 0..<100 { #expect(try await client.command("GET", key) == .text("v")) }
                let after = try await rig.server.statistics()
                #expect(after.staleness == open.staleness && after.localHits == open.localHits + 100)
                #expect(after.breakerRejections == open.breakerRejections)
                nodes[0].resume()
                await client.close()
            }
            for node in nodes { await node.stop() }
        }
    }
}
