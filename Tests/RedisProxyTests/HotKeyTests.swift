import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    @Suite struct HotKeys {
        @Test func areAnsweredFromMemory() async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 0, "local")
                let cold = rig.key(on: 0, "cold")
                let clients = [
                    try await rig.client(onLoop: 0), try await rig.client(onLoop: 1),
                    try await rig.client(onLoop: 0, version: 3),
                ]
                try await clients[0].command("MSET", key, "value", cold, "c")
                try await rig.apply(.mitigate, [hot(key, .cache)])
                let before = try await rig.calls("get", at: 0)
                let hits = try await rig.server.statistics().localHits
                for _ in 0..<100 {
                    for client in clients { #expect(try await client.command("GET", key) == .text("value")) }
                }
                // One fill for each event loop and each protocol version that asked.
                #expect(try await rig.calls("get", at: 0) - before == 3)
                #expect(try await rig.server.statistics().localHits - hits == 297)
                for _ in 0..<10 { #expect(try await clients[0].command("GET", cold) == .text("c")) }
                #expect(try await rig.calls("get", at: 0) - before == 13)
                // Counted at the front: a key that is answered here must stay visible.
                #expect(
                    try await rig.counts(key)
                        == .init(reads: 300, writes: 0, replyBytes: 300 * "$5\r\nvalue\r\n".utf8.count))
                for client in clients { await client.close() }
            }
        }

        @Test func everyReadingCommandOfAHotKeyIsKept() async throws {
            try await Rig.with { rig in
                let client = try await rig.client(onLoop: 0)
                let (hash, list) = (rig.key(on: 1, "hothash"), rig.key(on: 1, "hotlist"))
                try await client.command("DEL", hash, list)
                try await rig.apply(.mitigate, [hot(hash, .cache), hot(list, .both)])
                try await client.command("HSET", hash, "f", "1", "g", "2")
                try await client.command("RPUSH", list, "a", "b")
                for _ in 0..<3 {
                    #expect(try await client.command("HGET", hash, "f") == .text("1"))
                    #expect(try await client.command("HGETALL", hash).elements?.count == 4)
                    #expect(try await client.command("LRANGE", list, "0", "-1") == .array([.text("a"), .text("b")]))
                    #expect(try await client.command("TYPE", list) == .simple("list"))
                    #expect(try await client.command("GET", list).errorMessage?.hasPrefix("WRONGTYPE") == true)
                }
                #expect(try await rig.server.statistics().localHits == 8)
                try await client.command("HSET", hash, "f", "9")
                #expect(try await client.command("HGET", hash, "f") == .text("9"))
                try await client.command("LPOP", list)
                #expect(try await client.command("LRANGE", list, "0", "-1") == .array([.text("b")]))
                #expect(try await client.command("BLPOP", list, "1") == .array([.text(list), .text("b")]))
                #expect(try await client.command("LRANGE", list, "0", "-1") == .array([]))
                // What is to differ from call to call is not kept.
                let set = rig.key(on: 1, "hotset")
                try await client.command(["SADD", set] + (0..<50).map(String.init))
                try await rig.apply(.mitigate, [hot(set, .cache)])
                var members: Set<String> = []
                for _ in 0..<20 { members.insert(try await client.command("SRANDMEMBER", set).string ?? "") }
                #expect(members.count > 1)
                await client.close()
            }
        }

        /// A change past the agent shows within the cap, however often the key is read meanwhile.
        @Test(arguments: [MitigationKind.cache, .copies, .both])
        func noValueOutlivesTheStalenessCap(_ kind: MitigationKind) async throws {
            try await Rig.with { rig in
                let cap: UInt64 = 250
                let key = rig.key(on: 0, "cap\(kind)")
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                try await clients[0].command("SET", key, "0")
                try await rig.apply(.mitigate, [hot(key, kind, capMilliseconds: cap)])
                if kind.usesCopies { try await Self.waitForCopies(rig, key) }
                let clock = ContinuousClock()
                var oldValues = 0
                for round in 1...5 {
                    for _ in 0..<20 { for client in clients { try await client.command("GET", key) } }
                    try await rig.direct(0, "SET", key, "\(round)")
                    let changed = clock.now
                    while true {
                        let asked = clock.now
                        let values = [
                            try await clients[0].command("GET", key).string,
                            try await clients[1].command("GET", key).string,
                        ]
                        let isNew = values == ["\(round)", "\(round)"]
                        if !isNew { oldValues += 1 }
                        if asked - changed > .milliseconds(cap) {
                            #expect(isNew, "\(values) \(asked - changed) after \(round) was set")
                            break
                        }
                    }
                }
                #expect(oldValues > 0, "nothing was kept, so nothing was shown")
                for client in clients { await client.close() }
            }
        }

        static func waitForCopies(_ rig: Rig, _ key: String) async throws {
            try await eventually("the copies may be read") {
                try await rig.server.route(Array(key.utf8)).readableCopies.count == 2
            }
        }

        @Test func aWriteIsSeenByTheNextReadOnEveryConnection() async throws {
            try await Rig.with { rig in
                let keys = [(MitigationKind.cache, 0), (.copies, 1), (.both, 2)].map {
                    ($0.0, rig.key(on: $0.1, "seen"))
                }
                try await rig.apply(.mitigate, keys.map { hot($0.1, $0.0, capMilliseconds: 400) })
                for (_, key) in keys.dropFirst() { try await Self.waitForCopies(rig, key) }
                let clients = [
                    try await rig.client(onLoop: 0), try await rig.client(onLoop: 1),
                    try await rig.client(onLoop: 0, version: 3),
                    try await rig.client(onLoop: 1, version: 3),
                ]
                for round in 0..<60 {
                    for (_, key) in keys {
                        #expect(try await clients[round % 4].command("SET", key, "\(round)") == .ok)
                        for client in clients + clients {
                            #expect(try await client.command("GET", key) == .text("\(round)"))
                        }
                    }
                }
                let statistics = try await rig.server.statistics()
                #expect(statistics.localHits > 200)
                #expect(statistics.hotWrites == 180)
                #expect(statistics.tombstoneFailures == 0)
                for client in clients { await client.close() }
            }
        }

        /// A write that left before its key became hot invalidates nothing when it is answered. So nothing may be kept before.
        @Test func aKeyIsNotServedHotBeforeEarlierWritesAreAnswered() async throws {
            let nodes = try await SharedNodes.nodes()
            let proxy = try await FaultProxy.start(to: nodes[0])
            try await Rig.with(nodes: nodes, ports: [proxy.port, nodes[1].port, nodes[2].port]) { rig in
                let key = rig.key(on: 0, "earlier")
                let writer = try await rig.client(onLoop: 0)
                let reader = try await rig.client(onLoop: 1)
                try await writer.command("SET", key, "old")
                try await proxy.hang()
                try await rig.begin(writer, ["SET", key, "new"])
                let change = Task { try await rig.apply(.mitigate, [hot(key, .cache)]) }
                for _ in 0..<200 { #expect(try await !rig.server.route(Array(key.utf8)).isHot) }
                try await proxy.heal()
                try await change.value
                #expect(try await writer.receive() == .ok)
                for _ in 0..<3 { #expect(try await reader.command("GET", key) == .text("new")) }
                #expect(try await rig.server.route(Array(key.utf8)).isHot)
                await writer.close()
                await reader.close()
            }
            await proxy.stop()
        }

        // MARK: Copies

        @Test func copiesAreFilledReadAndGoByThemselves() async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 0, "copied")
                let places = rig.places(key)
                let client = try await rig.client()
                try await client.command("SET", key, "value")
                try await rig.apply(.mitigate, [hot(key, .copies, capMilliseconds: 400)])
                let route = try await rig.server.route(Array(key.utf8))
                #expect(route.isHot && route.reading == .copies && route.home.name == Rig.names[places[0]])
                #expect(route.copies.map(\.name) == places.dropFirst().map { Rig.names[$0] })
                #expect(route.readableCopies.isEmpty, "fills from before this agent's tombstones may still be there")
                try await Self.waitForCopies(rig, key)
                try await eventually("every place has answered") {
                    for _ in 0..<20 { #expect(try await client.command("GET", key) == .text("value")) }
                    let statistics = try await rig.server.statistics()
                    return statistics.copyReads > 50 && statistics.copyFills >= 2
                }
                for (number, node) in places.enumerated().dropFirst() {
                    let name = "__hkcopy:\(number):\(key)"
                    let copy = try await eventually(
                        "copy \(number) is there",
                        value: {
                            _ = try await client.command("GET", key)
                            return try await rig.direct(node, "GET", name)
                        }, until: { !$0.isNull })
                    #expect(copy == .text("vvalue"))
                    // Never without an end, and never beyond its lifetime.
                    let left = try await rig.direct(node, "PTTL", name).integer ?? 0
                    #expect(left == -2 || (0...400).contains(left), "\(left) ms")
                }
                // The key cools: nothing is read or filled any more, and the copies expire.
                try await rig.apply(.mitigate, [])
                let fills = try await rig.server.statistics().copyFills
                for _ in 0..<20 { #expect(try await client.command("GET", key) == .text("value")) }
                for (number, node) in places.enumerated().dropFirst() {
                    try await eventually("copy \(number) is gone", timeout: .seconds(5)) {
                        try await rig.direct(node, "EXISTS", "__hkcopy:\(number):\(key)") == .integer(0)
                    }
                }
                #expect(try await rig.server.statistics().copyFills == fills)
                await client.close()
            }
        }

        @Test func copiesThatAreNotReadyGetTombstonesAndNoReads() async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 0, "warming")
                let places = rig.places(key)
                let client = try await rig.client()
                try await client.command("SET", key, "value")
                var policy = hot(key, .copies, capMilliseconds: 300)
                policy.readsCopies = false
                try await rig.apply(.mitigate, [policy])
                try await client.command("SET", key, "newer")
                for (number, node) in places.enumerated().dropFirst() {
                    #expect(try await rig.direct(node, "GET", "__hkcopy:\(number):\(key)") == .text("t"))
                }
                // A tombstone's lifetime and more.
                let start = ContinuousClock.now
                while ContinuousClock.now - start < .milliseconds(700) {
                    #expect(try await client.command("GET", key) == .text("newer"))
                }
                let statistics = try await rig.server.statistics()
                #expect(statistics.copyReads == 0 && statistics.copyMisses == 0 && statistics.copyFills == 0)
                await client.close()
            }
        }

        @Test func copiesAreFilledAndDeletedOnRequest() async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 2, "managed")
                let places = rig.places(key)
                func copies() async throws -> [RedisTestValue] {
                    var found: [RedisTestValue] = []
                    for (number, node) in places.enumerated().dropFirst() {
                        found.append(try await rig.direct(node, "GET", "__hkcopy:\(number):\(key)"))
                    }
                    return found
                }
                try await rig.direct(places[0], "SET", key, "value")
                #expect(try await rig.server.fillCopies(of: Array(key.utf8)) == false, "nobody leaves tombstones there")
                var policy = hot(key, .copies, capMilliseconds: 30_000)
                policy.readsCopies = false
                try await rig.apply(.mitigate, [policy])
                try await eventually("the nodes' clocks are known, and the copies filled") {
                    try await rig.server.fillCopies(of: Array(key.utf8))
                }
                #expect(try await copies() == [.text("vvalue"), .text("vvalue")])
                // What is there stays.
                try await rig.direct(places[0], "SET", key, "newer")
                #expect(try await rig.server.fillCopies(of: Array(key.utf8)))
                #expect(try await copies() == [.text("vvalue"), .text("vvalue")])
                #expect(try await rig.server.removeCopies(2...2, of: Array(key.utf8)))
                #expect(try await copies() == [.text("vvalue"), .nullBulk])
                try await rig.apply(.mitigate, [])
                #expect(try await rig.server.removeCopies(1...7, of: Array(key.utf8)))
                #expect(try await copies() == [.nullBulk, .nullBulk])
                #expect(try await rig.server.statistics().copiesRemoved == 2)
                try await rig.direct(places[0], "DEL", key)
            }
        }

        @Test func aWriteLeavesTombstonesBeforeItIsAnswered() async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 1, "tomb")
                let places = rig.places(key)
                let client = try await rig.client()
                try await rig.apply(.mitigate, [hot(key, .copies, capMilliseconds: 300)])
                for command in [
                    ["SET", key, "v"], ["APPEND", key, "w"], ["DEL", key], ["MSET", key, "x", "tomb:other", "y"],
                    ["EVAL", "return redis.call('set',KEYS[1],'z')", "1", key], ["RESTORE", key, "0", "rubbish"],
                ] {
                    _ = try await client.command(command)
                    for (number, node) in places.enumerated().dropFirst() {
                        #expect(
                            try await rig.direct(node, "GET", "__hkcopy:\(number):\(key)") == .text("t"),
                            "\(command[0])")
                        // Longer than any fill that may be on its way.
                        let left = try await rig.direct(node, "PTTL", "__hkcopy:\(number):\(key)").integer ?? 0
                        #expect((300...501).contains(left), "\(left) ms")
                        try await rig.direct(node, "DEL", "__hkcopy:\(number):\(key)")
                    }
                }
                await client.close()
            }
        }

        /// A node that takes no tombstone: the write is answered, and its copy is not read until nothing old can be there.
        @Test func aCopyWhoseTombstoneFailedIsLeftAlone() async throws {
            let nodes = try await Rig.startNodes(3)
            try await Rig.with(nodes: nodes, configure: { $0.requestTimeoutMilliseconds = 200 }) { rig in
                let key = rig.key(on: 0, "quarantine")
                let second = rig.places(key)[1]
                let client = try await rig.client()
                try await client.command("SET", key, "old")
                try await rig.apply(.mitigate, [hot(key, .copies, capMilliseconds: 2000)])
                try await Self.waitForCopies(rig, key)
                try await eventually("the copy holds the old value") {
                    _ = try await client.command("GET", key)
                    return try await rig.direct(second, "GET", "__hkcopy:1:\(key)") == .text("vold")
                }
                nodes[second].suspend()
                #expect(try await client.command("SET", key, "new") == .ok)
                #expect(try await rig.server.statistics().tombstoneFailures == 1)
                nodes[second].resume()
                for _ in 0..<100 { #expect(try await client.command("GET", key) == .text("new")) }
                let readable = try await rig.server.route(Array(key.utf8)).readableCopies.map(\.name)
                #expect(!readable.contains(Rig.names[second]))
                await client.close()
            }
            for node in nodes { await node.stop() }
        }

        /// A node that is short of memory gives tombstones up before their time, and a late fill finds nothing in its way.
        @Test func aWriteIsSeenAlthoughItsTombstonesAreEvicted() async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 0, "evicted")
                let client = try await rig.client()
                try await rig.apply(.mitigate, [hot(key, .copies, capMilliseconds: 2000)])
                try await Self.waitForCopies(rig, key)
                #expect(try await client.command("SET", key, "new") == .ok)
                for (number, node) in rig.places(key).enumerated().dropFirst() {
                    let name = "__hkcopy:\(number):\(key)"
                    #expect(try await rig.direct(node, "DEL", name) == .integer(1))
                    // As of another agent that had read home before the write.
                    #expect(try await rig.direct(node, "SET", name, "vold", "NX", "PX", "1500") == .ok)
                }
                for _ in 0..<100 { #expect(try await client.command("GET", key) == .text("new")) }
                await client.close()
            }
        }

        /// With more copies than before, the new ones got no tombstones from this agent yet.
        @Test(arguments: [hot("", .copies, copies: 1, capMilliseconds: 400), hot("", .cache)])
        func copiesThatARuleAddsAreNotReadAtOnce(_ before: HotKeyPolicy) async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 0, "wider")
                let after = hot(key, .copies, copies: 2, capMilliseconds: 400)
                var policy = before
                policy.key = after.key
                policy.copyLifetimeNanoseconds = after.copyLifetimeNanoseconds
                // Nothing is to be seen of a gate that nothing reads. This one was made in the same moment, for as long.
                let clock = hot("wider:clock", .copies, copies: 1, capMilliseconds: 400)
                try await rig.apply(.mitigate, [policy, clock])
                try await eventually("the time of both gates has passed") {
                    try await rig.server.route(clock.key).readableCopies.count == 1
                }
                if policy.copies == 1 { #expect(try await rig.server.route(after.key).readableCopies.count == 1) }
                try await rig.apply(.mitigate, [after])
                #expect(try await rig.server.route(after.key).readableCopies.isEmpty)
                try await Self.waitForCopies(rig, key)
            }
        }

        // MARK: Modes

        @Test func offIsAPlainProxyAndObserveOnlyCounts() async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 2, "mode")
                let client = try await rig.client(onLoop: 0)
                try await client.command("SET", key, "v")
                for mode in [ProxySnapshot.Mode.off, .observe] {
                    try await rig.apply(mode, [hot(key, .both, capMilliseconds: 60_000)])
                    let (calls, counts) = (try await rig.calls("get", at: 2), try await rig.counts(key))
                    for _ in 0..<20 { #expect(try await client.command("GET", key) == .text("v")) }
                    try await client.command("SET", key, "v")
                    #expect(try await rig.calls("get", at: 2) - calls == 20, "\(mode)")
                    #expect(try await rig.counts(key).reads - counts.reads == (mode == .off ? 0 : 20))
                    #expect(try await rig.counts(key).writes - counts.writes == (mode == .off ? 0 : 1))
                    let route = try await rig.server.route(Array(key.utf8))
                    #expect(!route.isHot && route.copies.isEmpty && route.home.name == "c")
                }
                let statistics = try await rig.server.statistics()
                #expect(statistics.localHits == 0 && statistics.hotWrites == 0 && statistics.cacheEntries == 0)
                // Its first read would have filled the cache, from a copy.
                #expect(statistics.observedHotReads == 20 && statistics.observedLocalSavings == 19)
                #expect(statistics.observedCopySavings == 1)
                try await rig.apply(.mitigate, [hot(key, .cache)])
                for _ in 0..<10 { try await client.command("GET", key) }
                #expect(try await rig.server.statistics().localHits == 9)
                try await rig.apply(.off, [hot(key, .cache)])
                #expect(try await rig.server.statistics().cacheEntries == 0)
                #expect(try await rig.server.statistics().localHits == 9)
                await client.close()
            }
        }

        @Test func keysAreCountedOnceForEachCommand() async throws {
            try await Rig.with { rig in
                try await rig.apply(.observe)
                let client = try await rig.client()
                try await client.command("SET", "{n}a", "12345")
                for command in [
                    "GET {n}a", "MGET {n}a {n}b", "MSET {n}a 1 {n}b 2", "DEL {n}b {n}c", "RENAME {n}a {n}b",
                    "EVAL return{} 1 {n}b",
                    "EXISTS {n}b", "SINTER {n}s {n}t", "BLPOP {n}l 0.01", "XREAD STREAMS {n}x 0",
                    "OBJECT ENCODING {n}b", "PING",
                ] { _ = try await client.line(command) }
                #expect(try await rig.counts("{n}a") == .init(reads: 2, writes: 3, replyBytes: 5 + 11))
                #expect(try await rig.counts("{n}b").reads == 3)
                #expect(try await rig.counts("{n}b").writes == 4)
                for (key, reads, writes) in [
                    ("{n}c", 0, 1), ("{n}s", 1, 0), ("{n}t", 1, 0), ("{n}l", 0, 1), ("{n}x", 1, 0),
                ] {
                    let counts = try await rig.counts(key)
                    #expect(counts.reads == reads && counts.writes == writes, "\(key)")
                }
                await client.close()
            }
        }
    }
}
