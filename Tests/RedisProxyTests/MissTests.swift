import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Reads that find nothing, as the recorder of the agent is told of them.
    @Suite struct Misses {
        @Test(arguments: [2, 3])
        func areReadsOfOneKeyThatHasNoValue(_ version: Int) async throws {
            try await Rig.with { rig in
                try await rig.apply(.observe)
                let client = try await rig.client(onLoop: 0, version: version)
                let (absent, there) = (rig.key(on: 0, "absent\(version)"), rig.key(on: 0, "there\(version)"))
                try await client.command("DEL", absent, there)
                try await client.command("HSET", there, "f", "1")
                let before = try await rig.counts(absent)
                for words in [
                    ["GET", absent], ["HGET", absent, "f"], ["LINDEX", absent, "0"], ["ZSCORE", absent, "m"],
                    ["LPOS", absent, "e"],
                ] {
                    #expect(try await client.command(words).isNull, "\(words)")
                }
                // Nothing of these says that there is no value.
                for words in [["STRLEN", absent], ["LRANGE", absent, "0", "-1"], ["TYPE", absent], ["TTL", absent]] {
                    #expect(try await !client.command(words).isNull, "\(words)")
                }
                // A write is none, whatever it answers.
                #expect(try await client.command("GETDEL", absent).isNull)
                #expect(try await client.command("SET", absent, "x", "XX").isNull)
                let counts = try await rig.counts(absent)
                #expect(counts.misses == 5)
                #expect(counts.reads - before.reads == 9 && counts.writes - before.writes == 2)
                #expect(try await client.command("HGET", there, "f") == .text("1"))
                #expect(try await client.command("GET", there).errorMessage?.hasPrefix("WRONGTYPE") == true)
                #expect(try await rig.counts(there).misses == 0)
                // With a reply that is passed on while it arrives, which is told of by something shorter.
                let large = rig.key(on: 0, "large\(version)")
                try await client.command("SETRANGE", large, "\(3 << 20)", "x")
                #expect(try await client.command("GET", large).string?.utf8.count == (3 << 20) + 1)
                #expect(try await rig.counts(large).misses == 0)
                #expect(try await rig.counts(large).replyBytes > 3 << 20)
                try await client.command("DEL", large, there)
                await client.close()
            }
        }

        /// While a home hangs, and of a key that is not there.
        @Test func aKeyShowsHowManyReadsWereHeld() async throws {
            let nodes = try await Rig.startNodes(2)
            try await Rig.with(nodes: nodes) { rig in
                let keys = rig.keys(on: 0, "held", count: 2)
                let (absent, other) = (keys[0], keys[1])
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                func held(_ key: String) async throws -> UInt64? { try await rig.server.readsHeld(of: Array(key.utf8)) }
                #expect(try await held(absent) == nil)
                try await rig.apply(.mitigate, [hot(absent, .cache)])
                #expect(try await held(absent) == 0)
                nodes[0].suspend()
                for client in clients {
                    try await rig.begin(client, ["GET", absent], ["GET", absent], ["GET", absent])
                }
                // One of each event loop asks, the others wait for it.
                #expect(try await held(absent) == 4)
                #expect(try await rig.server.statistics().fillWaits == 4)
                nodes[0].resume()
                for client in clients { for _ in 0..<3 { #expect(try await client.receive().isNull) } }
                let missing = try await rig.server.statistics().localMissingHits
                for client in clients { for _ in 0..<20 { #expect(try await client.command("GET", absent).isNull) } }
                let told = try await rig.server.statistics().localMissingHits - missing
                #expect(told > 0)
                #expect(try await held(absent) == 4 + told)
                // A key stays with its count when others come and go before it, and begins anew when it comes anew.
                try await rig.apply(.mitigate, [hot(other, .cache), hot(absent, .cache)])
                #expect(try await held(absent) == 4 + told)
                #expect(try await held(other) == 0)
                // A value that is there is nothing that was held.
                try await clients[0].command("SET", other, "v")
                for _ in 0..<5 { #expect(try await clients[0].command("GET", other) == .text("v")) }
                #expect(try await held(other) == 0)
                try await rig.apply(.mitigate, [hot(other, .cache)])
                try await rig.apply(.mitigate, [hot(absent, .cache)])
                #expect(try await held(absent) == 0)
                for client in clients { await client.close() }
            }
            for node in nodes { await node.stop() }
        }

        @Test(arguments: [2, 3])
        func areCountedWhereTheHostAnswers(_ version: Int) async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 0, "nothing\(version)")
                let client = try await rig.client(onLoop: 0, version: version)
                try await client.command("DEL", key)
                try await rig.apply(.mitigate, [hot(key, .cache)])
                let hits = try await rig.server.statistics().localHits
                for _ in 0..<50 { #expect(try await client.command("GET", key).isNull) }
                #expect(try await rig.server.statistics().localHits - hits == 49)
                #expect(try await rig.counts(key).misses == 50)
                try await client.command("SET", key, "value")
                for _ in 0..<50 { #expect(try await client.command("GET", key) == .text("value")) }
                #expect(try await rig.counts(key).misses == 50)
                await client.close()
            }
        }

        /// Of many reads at once one asks home, and the others wait for what it brings.
        @Test func areCountedOfReadsThatWaitForAnothers() async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 0, "waited")
                let client = try await rig.client(onLoop: 0)
                try await client.command("DEL", key)
                try await rig.apply(.mitigate, [hot(key, .cache)])
                try await client.send(raw: (0..<40).flatMap { _ in encode(["GET", key]) })
                for _ in 0..<40 { #expect(try await client.receive().isNull) }
                #expect(try await rig.server.statistics().fillWaits > 0)
                #expect(try await rig.counts(key).misses == 40)
                #expect(try await rig.counts(key).replyBytes >= 40 * 5)
                await client.close()
            }
        }

        /// An empty copy says nothing of the key, and one that holds "missing" says that it has no value.
        @Test func areNotWhatAnEmptyCopyAnswers() async throws {
            try await Rig.with { rig in
                let (key, absent) = (rig.key(on: 0, "copied"), rig.key(on: 0, "uncopied"))
                let client = try await rig.client(onLoop: 0)
                try await client.command("DEL", absent)
                try await client.command("SET", key, "value")
                try await rig.apply(
                    .mitigate,
                    [
                        hot(key, .copies, capMilliseconds: 1_500), hot(absent, .copies, capMilliseconds: 1_500),
                    ])
                try await HotKeys.waitForCopies(rig, key)
                try await HotKeys.waitForCopies(rig, absent)
                try await eventually("copies were empty, and were read") {
                    for _ in 0..<20 {
                        #expect(try await client.command("GET", key) == .text("value"))
                        #expect(try await client.command("GET", absent).isNull)
                    }
                    let statistics = try await rig.server.statistics()
                    return statistics.copyMisses >= 2 && statistics.copyReads > 20
                }
                #expect(try await rig.counts(key).misses == 0)
                let counts = try await rig.counts(absent)
                #expect(counts.misses == counts.reads && counts.reads > 0)
                await client.close()
            }
        }
    }
}
