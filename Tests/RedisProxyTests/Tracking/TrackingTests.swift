import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Nodes that tell of changes. The staleness cap is a minute everywhere, so what is seen sooner was told of.
    @Suite struct Tracking {
        /// Far below the cap, and above what a busy machine needs.
        static let soon: Duration = .seconds(15)

        /// Reads a key until every client's event loop keeps a value that the node tells of. One that it does not tell of is gone by
        /// the second look.
        static func keep(_ rig: Rig, _ key: String, _ clients: [RedisTestClient]) async throws {
            try await eventually("values of \(key) are kept that the node tells of") {
                let before = try await rig.server.statistics()
                for client in clients { try await client.command("GET", key) }
                try await Task.sleep(for: .milliseconds(150))
                for client in clients { try await client.command("GET", key) }
                let after = try await rig.server.statistics()
                return after.tracking.fillsUntracked == before.tracking.fillsUntracked
                    && after.localHits >= before.localHits + UInt64(clients.count)
            }
        }

        static func expectSoon(
            _ clients: [RedisTestClient], _ key: String, _ value: RedisTestValue, _ what: String
        ) async throws {
            for client in clients {
                try await eventually("\(what): \(value)", timeout: soon) {
                    try await client.command("GET", key) == value
                }
            }
        }

        /// The connections of a node that it tracks keys for.
        static func trackedConnections(_ node: RedisServer) async throws -> [String] {
            let client = try await node.client()
            let list = try await client.command("CLIENT", "LIST").string ?? ""
            await client.close()
            return list.split(whereSeparator: \.isNewline).filter { line in
                line.split(separator: " ").contains { $0.hasPrefix("flags=") && $0.contains("t") }
            }.compactMap { line in
                line.split(separator: " ").first { $0.hasPrefix("id=") }.map { String($0.dropFirst(3)) }
            }
        }

        @Test(arguments: [MitigationKind.cache, .both], [2, 3])
        func aChangePastTheAgentIsSeenAtOnce(_ kind: MitigationKind, _ version: Int) async throws {
            try await Rig.with(loops: 3, isTracking: true) { rig in
                let key = rig.key(on: 0, "told\(kind)\(version)")
                var clients: [RedisTestClient] = []
                for loop in 0..<3 { clients.append(try await rig.client(onLoop: loop, version: version)) }
                try await clients[0].command("SET", key, "0")
                try await rig.apply(.mitigate, [hot(key, kind)])
                try await Self.keep(rig, key, clients)
                for round in 1...30 {
                    try await rig.direct(0, "SET", key, "\(round)")
                    try await Self.expectSoon(clients, key, .text("\(round)"), "changed")
                }
                try await rig.direct(0, "DEL", key)
                for client in clients {
                    try await eventually("removed", timeout: Self.soon) { try await client.command("GET", key).isNull }
                }
                try await rig.direct(0, "SET", key, "there")
                try await Self.expectSoon(clients, key, .text("there"), "made")
                let tracking = try await rig.server.statistics().tracking
                #expect(tracking.invalidations >= 31 && tracking.flushes.isEmpty)
                // One connection for all event loops.
                #expect(tracking.connections == 1)
                #expect(try await Self.trackedConnections(rig.nodes[0]).count == 1)
                #expect(try await rig.server.statistics().nodes[0].tracking == .on)
                for client in clients { await client.close() }
            }
        }

        /// Nobody reads home for a key that is copied only, but for who fills a copy.
        @Test func copiesAreTakenBackWhenTheirHomeChanges() async throws {
            try await Rig.with(isTracking: true) { filling in
                try await Rig.with(isTracking: true) { reading in
                    let key = filling.key(on: 0, "copied")
                    let cap: UInt64 = 8_000
                    let fillers = [try await filling.client(onLoop: 0), try await filling.client(onLoop: 1)]
                    let readers = [try await reading.client(onLoop: 0), try await reading.client(onLoop: 1)]
                    try await fillers[0].command("SET", key, "old")
                    for rig in [filling, reading] {
                        try await rig.apply(.mitigate, [hot(key, .copies, capMilliseconds: cap)])
                    }
                    for rig in [filling, reading] { try await HotKeys.waitForCopies(rig, key) }
                    try await eventually("both copies are filled") {
                        for client in fillers { try await client.command("GET", key) }
                        return try await filling.server.statistics().copyFills >= 2
                    }
                    try await eventually("copies are read by who did not fill them") {
                        for client in readers { #expect(try await client.command("GET", key) == .text("old")) }
                        return try await reading.server.statistics().copyReads > 20
                    }
                    let clock = ContinuousClock()
                    let changed = clock.now
                    try await filling.direct(0, "SET", key, "new")
                    for node in 1...2 {
                        let copy = CopyCodec.name(key: Array(key.utf8), copy: filling.places(key).firstIndex(of: node)!)
                        let client = try await filling.nodes[node].client()
                        try await eventually("node \(node) holds no old value") {
                            let held = try await client.command(bytes: [Array("GET".utf8), copy])
                            return held.isNull || held.bytes == CopyCodec.tombstone
                        }
                        await client.close()
                    }
                    #expect(clock.now - changed < .seconds(5), "they would have expired by themselves")
                    for _ in 0..<50 {
                        for client in readers + fillers {
                            #expect(try await client.command("GET", key) == .text("new"))
                        }
                    }
                    for client in readers + fillers { await client.close() }
                }
            }
        }

        /// The announcement of this change reaches nobody.
        @Test func aConnectionThatIsKilledTakesItsValuesAlong() async throws {
            try await Rig.with(isTracking: true) { rig in
                let key = rig.key(on: 1, "killed")
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                try await clients[0].command("SET", key, "old")
                try await rig.apply(.mitigate, [hot(key, .cache)])
                try await Self.keep(rig, key, clients)
                let killer = try await rig.nodes[1].client()
                for id in try await Self.trackedConnections(rig.nodes[1]) {
                    _ = try await killer.pipeline([["CLIENT", "KILL", "ID", id], ["SET", key, "new"]])
                }
                try await Self.expectSoon(clients, key, .text("new"), "killed")
                #expect(try await rig.server.statistics().tracking.flushes == [.lost: 1])
                try await Self.keep(rig, key, clients)
                try await rig.direct(1, "SET", key, "newer")
                try await Self.expectSoon(clients, key, .text("newer"), "tracked again")
                await killer.close()
                for client in clients { await client.close() }
            }
        }

        /// Nothing comes over the connection any more, and nothing says so.
        @Test func aConnectionThatIsCutSilentlyIsFoundOut() async throws {
            let node = try await RedisServer.start()
            let proxy = try await FaultProxy.start(to: node)
            try await Rig.with(nodes: [node], ports: [proxy.port], isTracking: true) { rig in
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                try await clients[0].command("SET", "k", "old")
                try await rig.apply(.mitigate, [hot("k", .cache)])
                try await Self.keep(rig, "k", clients)
                #expect(try await proxy.silence(connectionsThatSent: "TRACKING") == 1)
                try await rig.direct(0, "SET", "k", "new")
                try await Self.expectSoon(clients, "k", .text("new"), "cut")
                #expect(try await rig.server.statistics().tracking.flushes == [.silent: 1])
                // Another connection takes its place.
                try await Self.keep(rig, "k", clients)
                try await rig.direct(0, "SET", "k", "newer")
                try await Self.expectSoon(clients, "k", .text("newer"), "tracked again")
                for client in clients { await client.close() }
            }
            await proxy.stop()
            await node.stop()
        }

        @Test func aNodeThatIsEmptiedTakesEverythingAlong() async throws {
            let node = try await RedisServer.start()
            try await Rig.with(nodes: [node], isTracking: true) { rig in
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                try await clients[0].command("MSET", "a", "1", "b", "2")
                try await rig.apply(.mitigate, [hot("a", .cache), hot("b", .cache)])
                for key in ["a", "b"] { try await Self.keep(rig, key, clients) }
                try await rig.direct(0, "FLUSHALL")
                for key in ["a", "b"] {
                    for client in clients {
                        try await eventually("\(key) is gone", timeout: Self.soon) {
                            try await client.command("GET", key).isNull
                        }
                    }
                }
                #expect(try await rig.server.statistics().tracking.flushes == [.emptied: 1])
                #expect(try await rig.server.statistics().tracking.connections == 1)
                for client in clients { await client.close() }
            }
            await node.stop()
        }

        @Test func aNodeThatIsStartedAgainTracksAgain() async throws {
            let node = try await RedisServer.start()
            try await Rig.with(nodes: [node], isTracking: true) {
                $0.breaker.openNanoseconds = 50_000_000
                $0.breaker.openNanosecondsMax = 100_000_000
            } _: { rig in
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                try await clients[0].command("SET", "k", "old")
                try await rig.apply(.mitigate, [hot("k", .cache)])
                try await Self.keep(rig, "k", clients)
                try await node.restart()
                for client in clients {
                    try await eventually("what it held is gone", timeout: Self.soon) {
                        try await client.command("GET", "k").isNull
                    }
                }
                try await rig.direct(0, "SET", "k", "new")
                try await Self.expectSoon(clients, "k", .text("new"), "started again")
                try await Self.keep(rig, "k", clients)
                try await rig.direct(0, "SET", "k", "newer")
                try await Self.expectSoon(clients, "k", .text("newer"), "tracked again")
                for client in clients { await client.close() }
            }
            await node.stop()
        }

        /// The agent's user may not ask for it, or the server does not speak RESP3: values live shortly, and the agent says why.
        @Test(arguments: ["-client", "-client|caching", "no hello"])
        func whereTrackingIsNotToBeHadValuesLiveShortly(_ right: String) async throws {
            let isWithoutHello = right == "no hello"
            let node = try await RedisServer.start(
                extraArguments: isWithoutHello ? ["--rename-command", "HELLO", ""] : [])
            let admin = try await node.client()
            if !isWithoutHello {
                try await admin.command("ACL", "SETUSER", "default", "on", "nopass", "~*", "&*", "+@all", right)
            }
            try await Rig.with(nodes: [node], isTracking: true) { rig in
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                try await clients[0].command("SET", "k", "0")
                try await rig.apply(.mitigate, [hot("k", .cache)])
                let refused = try await eventually("the node refuses") {
                    for client in clients { try await client.command("GET", "k") }
                    return try await rig.server.statistics().nodes[0].tracking
                } until: {
                    if case .refused = $0 { true } else { false }
                }
                #expect("\(refused)".contains(isWithoutHello ? "RESP3" : "client"), "\(refused)")
                let hits = try await rig.server.statistics().localHits
                for _ in 0..<20 { for client in clients { try await client.command("GET", "k") } }
                #expect(try await rig.server.statistics().localHits > hits + 20, "kept all the same")
                try await admin.command("SET", "k", "1")
                try await Self.expectSoon(clients, "k", .text("1"), "the short cap")
                let tracking = try await rig.server.statistics().tracking
                #expect(tracking.connections == 0 && tracking.fillsTracked == 0)
                for client in clients { await client.close() }
            }
            await admin.close()
            await node.stop()
        }

        /// Changes come while reads are on their way, again and again. One that was kept although it had changed would stay for a
        /// minute.
        @Test func aChangeBetweenReadingAndKeepingIsNotMissed() async throws {
            let node = try await RedisServer.start()
            let proxy = try await FaultProxy.start(to: node)
            try await proxy.delay(milliseconds: 2)
            try await Rig.with(nodes: [node], ports: [proxy.port], loops: 3, isTracking: true) { rig in
                var clients: [RedisTestClient] = []
                for loop in 0..<3 { clients.append(try await rig.client(onLoop: loop, version: 2 + loop % 2)) }
                let keys = (0..<4).map { "race:\($0)" }
                let writer = try await node.client()
                _ = try await writer.pipeline(keys.map { ["SET", $0, "0"] })
                try await rig.apply(.mitigate, keys.map { hot($0, .cache) })
                for key in keys { try await Self.keep(rig, key, clients) }
                for round in 1...150 {
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        for client in clients {
                            group.addTask {
                                for _ in 0..<4 { _ = try await client.pipeline(keys.map { ["GET", $0] }) }
                            }
                        }
                        for part in 1...3 {
                            _ = try await writer.pipeline(keys.map { ["SET", $0, "\(round).\(part)"] })
                        }
                        try await group.waitForAll()
                    }
                    for key in keys { try await Self.expectSoon(clients, key, .text("\(round).3"), "round \(round)") }
                }
                let statistics = try await rig.server.statistics()
                #expect(statistics.tracking.fillsTracked > 300 && statistics.tracking.flushes.isEmpty)
                await writer.close()
                for client in clients { await client.close() }
            }
            await proxy.stop()
            await node.stop()
        }

        /// Of the reads of one key on all event loops at once one goes to the node.
        @Test func oneReadAKeyFillsEveryEventLoop() async throws {
            let node = try await RedisServer.start()
            let proxy = try await FaultProxy.start(to: node)
            try await Rig.with(nodes: [node], ports: [proxy.port], loops: 4, isTracking: true) { rig in
                var clients: [RedisTestClient] = []
                for loop in 0..<4 { clients.append(try await rig.client(onLoop: loop)) }
                let keys = (0..<20).map { "once:\($0)" }
                try await rig.apply(.mitigate, (keys + ["k"]).map { hot($0, .cache) })
                try await Self.keep(rig, "k", clients)
                _ = try await clients[0].pipeline(keys.map { ["SET", $0, "v"] })
                try await proxy.delay(milliseconds: 40)
                let before = try await rig.calls("get", at: 0)
                for key in keys {
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        for client in clients {
                            group.addTask {
                                let value = try await client.command("GET", key)
                                #expect(value == .text("v"))
                            }
                        }
                        try await group.waitForAll()
                    }
                }
                // On a busy machine one client or another comes when the others have been answered.
                let asked = try await rig.calls("get", at: 0) - before
                #expect(asked < 2 * keys.count, "\(asked) reads")
                for client in clients { await client.close() }
            }
            await proxy.stop()
            await node.stop()
        }

        /// A read that is on its way when a write is acknowledged is joined by none that comes after it.
        @Test func aReadFromBeforeAWriteIsNotJoinedAfterIt() async throws {
            let node = try await RedisServer.start()
            let proxy = try await FaultProxy.start(to: node)
            try await Rig.with(nodes: [node], ports: [proxy.port], loops: 3, isTracking: true) { rig in
                var clients: [RedisTestClient] = []
                for loop in 0..<3 { clients.append(try await rig.client(onLoop: loop)) }
                let keys = (0..<20).map { "join:\($0)" }
                try await rig.apply(.mitigate, (keys + ["k"]).map { hot($0, .cache) })
                try await Self.keep(rig, "k", clients)
                _ = try await clients[0].pipeline(keys.map { ["SET", $0, "old"] })
                for key in keys {
                    let calls = try await rig.calls("get", at: 0)
                    #expect(
                        try await proxy.silence(connectionsThatSent: "TRACKING", [.serverToClient]) > 0)
                    try await clients[1].send(["GET", key])
                    try await eventually("the node has read") { try await rig.calls("get", at: 0) > calls }
                    #expect(try await clients[0].command("SET", key, "new") == .ok)
                    try await clients[2].send(["GET", key])
                    try await proxy.heal()
                    #expect(try await clients[2].receive() == .text("new"), "\(key)")
                    let first = try await clients[1].receive()
                    #expect(first == .text("old") || first == .text("new"))
                    for client in clients { #expect(try await client.command("GET", key) == .text("new"), "\(key)") }
                }
                for client in clients { await client.close() }
            }
            await proxy.stop()
            await node.stop()
        }

        /// What a client gets does not show which protocol the value was fetched with.
        @Test(arguments: [2, 3])
        func repliesAreTheNodesOwn(_ version: Int) async throws {
            let node = try await RedisServer.start()
            try await Rig.with(nodes: [node], isTracking: true) { rig in
                let direct = try await node.client()
                try await direct.command("HELLO", "\(version)")
                _ = try await direct.lines([
                    "SET s value", "HSET h f 1 g 2 h 3", "RPUSH l a b c", "SADD e a b c d", "ZADD z 1.5 a 2 b 3e20 c",
                    "SETBIT b 7 1", "GEOADD g 13.36 38.11 p 15.08 37.5 q", "PFADD p a b c",
                ])
                let keys = ["s", "h", "l", "e", "z", "b", "g", "p", "none"]
                try await rig.apply(.mitigate, keys.map { hot($0, .cache) })
                let client = try await rig.client(onLoop: 1, version: version)
                try await Self.keep(rig, "s", [client])
                for line in [
                    "GET s", "GET none", "GETRANGE s 1 3", "STRLEN s", "GETBIT b 7", "BITCOUNT b", "TYPE h", "MGET s",
                    "HGETALL h", "HGET h f", "HGET h x", "HMGET h f x g", "HKEYS h", "HVALS h", "HLEN h", "HEXISTS h f",
                    "HSTRLEN h f", "LRANGE l 0 -1", "LINDEX l 1", "LINDEX l 9", "LLEN l", "SMEMBERS e", "SISMEMBER e a",
                    "SMISMEMBER e a x", "SCARD e", "ZCARD z", "ZSCORE z a", "ZSCORE z x", "ZMSCORE z a x", "ZRANK z b",
                    "ZRANK z x", "ZRANGE z 0 -1", "ZRANGE z 0 -1 WITHSCORES", "ZRANGEBYSCORE z 0 5 WITHSCORES",
                    "ZCOUNT z 0 9", "GEOPOS g p x", "GEOHASH g p", "GEODIST g p q", "LPOS l z", "LPOS l b COUNT 0",
                    "PFCOUNT p", "GET h", "HGETALL none", "SMEMBERS none", "LRANGE none 0 -1",
                ] {
                    let expected = try await direct.line(line)
                    for _ in 0..<3 { #expect(try await client.line(line) == expected, "\(line)") }
                }
                #expect(try await rig.server.statistics().tracking.fillsTracked > 20)
                await direct.close()
                await client.close()
            }
            await node.stop()
        }

        /// A write through the agent is seen by the next read, on every event loop, while reads of others are joined.
        @Test func aWriteThroughTheAgentIsSeenByTheNextRead() async throws {
            try await Rig.with(loops: 3, isTracking: true) { rig in
                let keys = [MitigationKind.cache, .both].enumerated().map { ($1, rig.key(on: $0, "own")) }
                var clients: [RedisTestClient] = []
                for loop in 0..<3 { clients.append(try await rig.client(onLoop: loop, version: 2 + loop % 2)) }
                var readers: [RedisTestClient] = []
                for loop in 0..<3 { readers.append(try await rig.client(onLoop: loop, version: 2 + (loop + 1) % 2)) }
                try await rig.apply(.mitigate, keys.map { hot($1, $0) })
                for (_, key) in keys { try await Self.keep(rig, key, clients) }
                let isOver = Guarded(false)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for reader in readers {
                        group.addTask {
                            while !isOver.with({ $0 }) { _ = try await reader.pipeline(keys.map { ["GET", $0.1] }) }
                        }
                    }
                    for round in 0..<200 {
                        for (_, key) in keys {
                            #expect(try await clients[round % 3].command("SET", key, "\(round)") == .ok)
                            for client in clients {
                                #expect(try await client.command("GET", key) == .text("\(round)"), "\(key) \(round)")
                            }
                        }
                    }
                    isOver.with { $0 = true }
                    try await group.waitForAll()
                }
                for client in clients + readers { await client.close() }
            }
        }

        /// That there is no value is kept for a quarter of a second at most, and counted apart.
        @Test func thatNothingIsThereIsKeptBriefly() async throws {
            try await Rig.with { rig in
                let (absent, there) = (rig.key(on: 0, "brief"), rig.key(on: 0, "lasting"))
                let client = try await rig.client(onLoop: 0)
                try await client.command("DEL", absent)
                try await client.command("SET", there, "old")
                try await rig.apply(.mitigate, [hot(absent, .cache), hot(there, .cache)])
                for _ in 0..<20 {
                    #expect(try await client.command("GET", absent).isNull)
                    try await client.command("GET", there)
                }
                let statistics = try await rig.server.statistics()
                #expect(statistics.localMissingHits > 5 && statistics.localMissingHits < statistics.localHits)
                try await rig.direct(0, "SET", absent, "new")
                try await rig.direct(0, "SET", there, "new")
                try await Self.expectSoon([client], absent, .text("new"), "made")
                #expect(
                    try await client.command("GET", there) == .text("old"), "without tracking the minute's cap holds")
                await client.close()
            }
        }

        /// Keys that get another home are told of by that one; the old one's connection ends with its place in the topology.
        @Test func aTopologyThatMovesKeysMovesTheirTracking() async throws {
            let nodes = try await Rig.startNodes(2)
            try await Rig.with(nodes: nodes, isTracking: true) { rig in
                let keys = [rig.key(on: 0, "moves"), rig.key(on: 1, "stays")]
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                for (number, key) in keys.enumerated() { try await rig.direct(number, "SET", key, "old") }
                try await rig.direct(1, "SET", keys[0], "of its new home")
                try await rig.apply(.mitigate, keys.map { hot($0, .cache) })
                for key in keys { try await Self.keep(rig, key, clients) }
                #expect(try await rig.server.statistics().tracking.connections == 2)
                // Both nodes stay, and tell of changes; yet each holds what was the other's.
                try await rig.direct(0, "SET", keys[1], "of its new home")
                let swapped = ProxyTopology(
                    nodes: rig.topology.nodes,
                    placement: try Placement(
                        nodes: nodes.reversed().map { PlacementNode(ringName: $0.address, weight: 1) }, hash: .fnv1a_64,
                        distribution: .ketama, hashTag: (UInt8(ascii: "{"), UInt8(ascii: "}"))))
                try await rig.apply(.mitigate, keys.map { hot($0, .cache) }, topology: swapped)
                for key in keys { try await Self.expectSoon(clients, key, .text("of its new home"), "swapped") }
                try await rig.apply(.mitigate, keys.map { hot($0, .cache) })
                for key in keys {
                    try await Self.expectSoon(clients, key, .text("old"), "swapped back")
                    try await Self.keep(rig, key, clients)
                }
                let alone = ProxyTopology(
                    nodes: [rig.topology.nodes[1]],
                    placement: try Placement(
                        nodes: [PlacementNode(ringName: nodes[1].address, weight: 1)], hash: .fnv1a_64,
                        distribution: .ketama, hashTag: nil))
                try await rig.apply(.mitigate, keys.map { hot($0, .cache) }, topology: alone)
                try await Self.expectSoon(clients, keys[0], .text("of its new home"), "moved")
                try await eventually("the old connection ends") { try await Self.trackedConnections(nodes[0]).isEmpty }
                #expect(try await rig.server.statistics().tracking.connections == 1)
                for key in keys {
                    try await Self.keep(rig, key, clients)
                    try await rig.direct(1, "SET", key, "new")
                    try await Self.expectSoon(clients, key, .text("new"), "told of by its home")
                }
                // Plain again, it needs none.
                try await rig.apply(.off)
                try await eventually("no connection is left") { try await Self.trackedConnections(nodes[1]).isEmpty }
                for client in clients { await client.close() }
            }
            for node in nodes { await node.stop() }
        }
    }
}
