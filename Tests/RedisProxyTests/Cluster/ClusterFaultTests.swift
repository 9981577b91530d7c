import Foundation
import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Before a Redis Cluster whose slots move and whose nodes die.
    @Suite struct ClusterFaults {
        // MARK: One slot that moves, step by step

        private struct Move {
            let cluster: RedisCluster
            let rig: Rig
            let from: RedisServer
            let to: RedisServer
            let slot: Int
        }

        /// Runs `body` when the slot of `{tag}` has begun to move and `stays` are still where they were. Ends the move afterwards.
        private func whileMoving(
            _ tag: String, stays: [String], in cluster: RedisCluster,
            _ body: (Move, RedisTestClient) async throws -> Void
        ) async throws {
            try await Rig.with(cluster: cluster) { rig in
                try await rig.knowsSlots()
                let client = try await rig.client()
                let slot = clusterSlot("{\(tag)}")
                let owner = try await cluster.owner(ofSlot: slot).server
                let other = try await cluster.members().first { $0.isPrimary && $0.port != owner.port }!
                let to = cluster.nodes.first { $0.port == other.port }!
                for key in stays { #expect(try await client.command("SET", key, "old") == .ok) }
                try await cluster.beginMoving(slot: slot, to: to)
                try await body(Move(cluster: cluster, rig: rig, from: owner, to: to, slot: slot), client)
                try await cluster.move(stays, to: to, from: owner)
                try await cluster.endMoving(slot: slot, from: owner, to: to)
                await client.close()
            }
        }

        @Test func keysOfAMovingSlotAreAskedForWhereTheyAre() async throws {
            let cluster = try await SharedCluster.cluster()
            try await whileMoving("ask", stays: ["{ask}a"], in: cluster) { move, client in
                #expect(try await client.command("GET", "{ask}a") == .text("old"))
                #expect(try await client.command("SET", "{ask}new", "1") == .ok)
                // It is there, and another client's command does not use up the ASKING of this one's.
                let replies = try await client.pipeline((0..<50).map { ["INCR", "{ask}\($0 % 5)"] })
                let expected: [Int64] = (0..<50).map { Int64($0 / 5 + 1) }
                #expect(replies.compactMap(\.integer) == expected)
                let other = try await move.rig.client()
                #expect(try await other.command("GET", "{ask}new") == .text("1"))
                let direct = try await move.to.client()
                #expect(
                    try await direct.pipeline([["ASKING"], ["GET", "{ask}4"]]) == [.ok, .text("10")])
                // A lookup of two keys of which one has gone waits until the other has, too.
                try await move.rig.begin(other, ["MGET", "{ask}a", "{ask}new"])
                try await eventually("it is tried again") { try await move.rig.server.statistics().clusterResends > 55 }
                try await move.cluster.move(["{ask}a"], to: move.to, from: move.from)
                #expect(try await other.receive() == .array([.text("old"), .text("1")]))
                for each in [other, direct] { await each.close() }
            }
            // The slot is the other's now, which no agent has been told.
            try await Rig.with(cluster: cluster) { rig in
                let client = try await rig.client()
                #expect(try await client.command("MGET", "{ask}a", "{ask}new") == .array([.text("old"), .text("1")]))
                await client.close()
            }
        }

        /// See ``ResendOrder``.
        @Test func aWriteThatALaterOneOvertookIsNotSentAgain() async throws {
            let cluster = try await SharedCluster.cluster()
            try await whileMoving("over", stays: ["{over}a", "{over}b"], in: cluster) { move, client in
                try await cluster.move(["{over}b"], to: move.to, from: move.from)
                // One key here and one there: tried again until both are there. The next command finds its key here.
                try await move.rig.begin(
                    client, ["MSET", "{over}a", "1", "{over}b", "1"], ["SET", "{over}a", "2"],
                    ["SET", "elsewhere", "3"])
                let direct = try await move.from.client()
                try await eventually("the second has been carried out") {
                    try await direct.command("GET", "{over}a") == .text("2")
                }
                await direct.close()
                // From here on the first could be, too.
                try await cluster.move(["{over}a"], to: move.to, from: move.from)
                #expect(try await client.receive().errorMessage?.hasPrefix("TRYAGAIN") == true)
                for _ in 0..<2 { #expect(try await client.receive() == .ok) }
                #expect(
                    try await client.command("MGET", "{over}a", "{over}b") == .array([.text("2"), .text("old")]))
                // Nothing overtakes it: it is carried out.
                #expect(try await client.command("MSET", "{over}a", "4", "{over}b", "4") == .ok)
            }
        }

        /// See ``ClusterState/adopt(_:)``.
        @Test func aLaterCommandDoesNotTakeTheNewWayFirst() async throws {
            try await RedisCluster.start(primaries: 3, replicasEach: 0, nodeTimeoutMilliseconds: 30_000).use {
                cluster in
                try await Rig.with(cluster: cluster, loops: 1) { rig in
                    try await rig.knowsSlots()
                    let key = try await rig.key(ownedBy: cluster.nodes[0], of: cluster, "way")
                    let other = try await rig.key(ownedBy: cluster.nodes[1], of: cluster, "way")
                    let client = try await rig.client()
                    let second = try await rig.client()
                    for (key, from) in [(key, cluster.nodes[0]), (other, cluster.nodes[1])] {
                        let slot = clusterSlot(key)
                        try await cluster.beginMoving(slot: slot, to: cluster.nodes[2])
                        try await cluster.endMoving(slot: slot, from: from, to: cluster.nodes[2])
                    }
                    cluster.nodes[0].suspend()
                    try await rig.begin(client, ["SET", key, "1"])
                    // Shows the agent that slots have moved.
                    #expect(try await second.command("SET", other, "v") == .ok)
                    try await eventually("the new owner is known") {
                        try await rig.server.route(Array(key.utf8)).home.port == cluster.nodes[2].port
                    }
                    try await client.send(["SET", key, "2"])
                    for _ in 0..<20 { #expect(try await second.command("GET", key).isNull) }
                    cluster.nodes[0].resume()
                    for _ in 0..<2 { #expect(try await client.receive() == .ok) }
                    #expect(try await second.command("GET", key) == .text("2"))
                    for each in [client, second] { await each.close() }
                }
            }
        }

        @Test func aCommandThatWaitsFollowsItsKeys() async throws {
            let cluster = try await SharedCluster.cluster()
            try await Rig.with(cluster: cluster) { rig in
                try await rig.knowsSlots()
                let slot = clusterSlot("{follow}")
                let from = try await cluster.owner(ofSlot: slot).server
                let other = try await cluster.members().first { $0.isPrimary && $0.port != from.port }!
                let to = cluster.nodes.first { $0.port == other.port }!
                let waiter = try await rig.client()
                let client = try await rig.client()
                try await rig.begin(waiter, ["BLPOP", "{follow}l", "0"])
                try await eventually("it waits at its node") {
                    try await Self.blocked(from) == 1
                }
                try await cluster.beginMoving(slot: slot, to: to)
                try await cluster.endMoving(slot: slot, from: from, to: to)
                try await eventually("it waits at the other") { try await Self.blocked(to) == 1 }
                #expect(try await client.command("RPUSH", "{follow}l", "v") == .integer(1))
                #expect(try await waiter.receive() == .array([.text("{follow}l"), .text("v")]))
                // Asked for at the old place, as by an agent that has not heard of it.
                #expect(try await waiter.command("BLPOP", "{follow}l", "0.05").isNull)
                #expect(try await waiter.command("SET", "{follow}s", "1") == .ok)
                for each in [waiter, client] { await each.close() }
            }
        }

        private static func blocked(_ server: RedisServer) async throws -> Int {
            let client = try await server.client()
            let info = try await client.command("INFO", "clients").string ?? ""
            await client.close()
            let line = info.split(whereSeparator: \.isNewline).first { $0.hasPrefix("blocked_clients:") }
            return line.flatMap { Int($0.dropFirst("blocked_clients:".count)) } ?? -1
        }

        @Test func aTransactionWhoseSlotHasMovedIsRefusedOnce() async throws {
            let cluster = try await SharedCluster.cluster()
            try await Rig.with(cluster: cluster) { rig in
                try await rig.knowsSlots()
                let client = try await rig.client()
                #expect(try await client.command("SET", "{txm}a", "1") == .ok)
                let slot = clusterSlot("{txm}")
                let from = try await cluster.owner(ofSlot: slot).server
                let other = try await cluster.members().first { $0.isPrimary && $0.port != from.port }!
                let to = cluster.nodes.first { $0.port == other.port }!
                try await cluster.beginMoving(slot: slot, to: to)
                try await cluster.move(["{txm}a"], to: to, from: from)
                try await cluster.endMoving(slot: slot, from: from, to: to)
                let lines = ["MULTI", "INCR {txm}a", "GET {txm}a", "EXEC", "PING"]
                let first = try await client.lines(lines)
                #expect(first[1].errorMessage?.hasPrefix("MOVED") == true)
                #expect(first[3].errorMessage?.hasPrefix("EXECABORT") == true && first[4] == .simple("PONG"))
                let second = try await client.lines(lines)
                #expect(second[3] == .array([.integer(2), .text("2")]))
                await client.close()
            }
        }

        // MARK: Under load

        /// One client with keys of its own, whose values it knows.
        private struct Worker {
            var random: SeededGenerator
            let client: RedisTestClient
            /// On the other event loop, for reading only.
            let reader: RedisTestClient
            let keys: [String]
            /// The last value written; two when it is not known whether the last write happened.
            var known: [String: Set<String?>] = [:]
            var sequence = 0
            var commands = 0
            var errors: [String] = []
            var wrong: [String] = []

            mutating func run(until isOver: () -> Bool, mayForget: Bool) async throws {
                while !isOver() {
                    var batch: [[String]] = []
                    var checks: [(inout Worker, RedisTestValue) -> Void] = []
                    let onlyReads = Int.random(in: 0..<4, using: &random) == 0
                    for _ in 0..<Int.random(in: 1...12, using: &random) {
                        let key = keys.randomElement(using: &random)!
                        sequence += 1
                        let value = "\(key)#\(sequence)"
                        switch Int.random(in: onlyReads ? 3..<6 : 0..<6, using: &random) {
                        case 0, 1:
                            batch.append(["SET", key, value])
                            checks.append { $0.wrote(key, value, $1, isDone: $1 == .ok) }
                        case 2:
                            batch.append(["GETDEL", key])
                            checks.append { worker, reply in
                                if reply.errorMessage == nil { worker.read(key, reply, mayForget) }
                                worker.wrote(key, nil, reply, isDone: reply.errorMessage == nil)
                            }
                        case 3:
                            let more = (0..<4).map { _ in keys.randomElement(using: &random)! }
                            batch.append(["MGET", key] + more)
                            checks.append { worker, reply in
                                guard let values = reply.elements else { return worker.failed(reply) }
                                for (key, value) in zip([key] + more, values) { worker.read(key, value, mayForget) }
                            }
                        default:
                            batch.append(["GET", key])
                            checks.append { worker, reply in
                                if reply.errorMessage == nil {
                                    worker.read(key, reply, mayForget)
                                } else {
                                    worker.failed(reply)
                                }
                            }
                        }
                    }
                    let replies = try await (onlyReads ? reader : client).pipeline(batch)
                    commands += batch.count
                    for (check, reply) in zip(checks, replies) { check(&self, reply) }
                }
            }

            private mutating func failed(_ reply: RedisTestValue) { errors.append("\(reply)") }

            private mutating func wrote(_ key: String, _ value: String?, _ reply: RedisTestValue, isDone: Bool) {
                if isDone {
                    known[key] = [value]
                } else {
                    failed(reply)
                    known[key] = (known[key] ?? [nil]).union([value])
                }
            }

            private mutating func read(_ key: String, _ reply: RedisTestValue, _ mayForget: Bool) {
                let value = reply.isNull ? nil : reply.string
                let isOwn = value.map { $0.hasPrefix("\(key)#") } ?? true
                // What was acknowledged may be lost when a primary dies before its replica has it: Redis promises no more.
                if !isOwn || !mayForget && !(known[key] ?? [nil]).contains(value) {
                    wrong.append("\(key): \(reply), not \(known[key] ?? [nil])")
                }
                known[key] = [value]
            }
        }

        private func underLoad(
            _ rig: Rig, _ name: String, mayForget: Bool, slots: [Range<Int>] = [],
            _ disturb: @escaping @Sendable () async throws -> Void
        ) async throws -> [Worker] {
            let random = SeededGenerator(printing: name)
            let isOver = Guarded(false)
            return try await withThrowingTaskGroup(of: Worker?.self) { group in
                for number in 0..<6 {
                    let client = try await rig.client(onLoop: number % 2, version: 2 + number / 2 % 2)
                    let reader = try await rig.client(onLoop: 1 - number % 2)
                    group.addTask {
                        var worker = Worker(
                            random: SeededGenerator(seed: random.seed &+ UInt64(number)), client: client,
                            reader: reader,
                            keys: (0..<50).map { "\(name):\(number):\($0)" }
                                + Self.keys("\(name):\(number):in:", of: slots))
                        try await worker.run(until: { isOver.with { $0 } }, mayForget: mayForget)
                        for each in [client, reader] { await each.close() }
                        return worker
                    }
                }
                group.addTask {
                    defer { isOver.with { $0 = true } }
                    try await disturb()
                    return nil
                }
                return try await group.reduce(into: []) { if let worker = $1 { $0.append(worker) } }
            }
        }

        /// A hundred keys of these slots.
        private static func keys(_ prefix: String, of slots: [Range<Int>]) -> [String] {
            guard !slots.isEmpty else { return [] }
            return Array(
                (0...).lazy.map { "\(prefix)\($0)" }.filter { key in
                    let slot = clusterSlot(key)
                    return slots.contains { $0.contains(slot) }
                }.prefix(100))
        }

        @Test func slotsMoveUnderLoad() async throws {
            try await RedisCluster.start(primaries: 3, replicasEach: 0, spares: 1).use { cluster in
                try await Rig.with(cluster: cluster) { rig in
                    try await rig.knowsSlots()
                    // Some of the keys are hot: what is served locally must be right all the same.
                    try await rig.apply(
                        .mitigate, (0..<6).flatMap { worker in (0..<20).map { hot("moving:\(worker):\($0)", .cache) } })
                    let workers = try await underLoad(rig, "moving", mayForget: false, slots: [0..<150, 5461..<5561]) {
                        let spare = cluster.nodes[3]
                        try await cluster.add(spare)
                        try await cluster.reshard(150, from: cluster.nodes[0], to: spare)
                        try await cluster.reshard(100, from: cluster.nodes[1], to: cluster.nodes[2])
                        try await cluster.reshard(100, from: spare, to: cluster.nodes[1])
                    }
                    let statistics = try await rig.server.statistics()
                    print(
                        "slots moved: \(workers.map(\.commands).reduce(0, +)) commands, \(statistics.clusterResends) sent again, \(statistics.localHits) answered locally"
                    )
                    #expect(workers.flatMap(\.wrong).prefix(5) == [])
                    #expect(workers.flatMap(\.errors).prefix(5) == [])
                    #expect(statistics.clusterResends > 10 && statistics.localHits > 10)
                    #expect(workers.allSatisfy { $0.commands > 200 })
                    try await rig.knowsSlots(primaries: 4)
                }
            }
        }

        @Test(arguments: [true, false])
        func aPrimaryDiesUnderLoad(_ isKilled: Bool) async throws {
            try await RedisCluster.start(nodeTimeoutMilliseconds: 1500).use { cluster in
                try await Rig.with(
                    cluster: cluster,
                    configure: { configuration in
                        // A node that hangs is given up sooner than a request.
                        if !isKilled { configuration.requestTimeoutMilliseconds = 3000 }
                    }
                ) { rig in
                    try await rig.knowsSlots()
                    let victim = cluster.nodes[0]
                    let key = try await rig.key(ownedBy: victim, of: cluster, "dies")
                    let workers = try await underLoad(rig, "dies", mayForget: true) {
                        try await Task.sleep(for: .milliseconds(300))
                        if isKilled { await victim.kill() } else { victim.suspend() }
                        let client = try await rig.client()
                        try await eventually("the replica has taken over", timeout: .seconds(60)) {
                            try await client.command("SET", key, "after") == .ok
                        }
                        await client.close()
                        try await Task.sleep(for: .milliseconds(300))
                    }
                    let errors = workers.flatMap(\.errors)
                    let statistics = try await rig.server.statistics()
                    print(
                        "failover: \(workers.map(\.commands).reduce(0, +)) commands, \(statistics.clusterResends) sent again, \(errors.count) errors: \(Set(errors))"
                    )
                    #expect(workers.flatMap(\.wrong).prefix(5) == [])
                    // What was on its way to the node that died: nobody knows whether it was carried out.
                    #expect(errors.filter { !$0.contains("may or may not have been carried out") }.prefix(5) == [])
                    if isKilled { #expect(statistics.clusterResends > 0) }
                    #expect(try await rig.server.route(Array(key.utf8)).home.port != victim.port)
                    #expect(try await rig.server.statistics().nodes.count == 3)
                    // It comes back as a replica, and nothing is asked of it.
                    if isKilled { try await victim.start() } else { victim.resume() }
                    let client = try await rig.client()
                    for _ in 0..<50 { #expect(try await client.command("GET", key) == .text("after")) }
                    await client.close()
                }
            }
        }

        @Test func aClusterWithoutAPrimarySaysSoInTime() async throws {
            try await RedisCluster.start(replicasEach: 0, nodeTimeoutMilliseconds: 1000).use { cluster in
                try await Rig.with(cluster: cluster, configure: { $0.requestTimeoutMilliseconds = 700 }) { rig in
                    try await rig.knowsSlots()
                    let key = try await rig.key(ownedBy: cluster.nodes[1], of: cluster, "gone")
                    let held = try await rig.key(ownedBy: cluster.nodes[1], of: cluster, "held")
                    let client = try await rig.client()
                    #expect(try await client.command("SET", held, "kept") == .ok)
                    try await rig.apply(.mitigate, [hot(held, .cache, capMilliseconds: 50, staleMilliseconds: 60_000)])
                    #expect(try await client.command("GET", held) == .text("kept"))
                    await cluster.nodes[1].kill()
                    let begin = ContinuousClock.now
                    let refused = try await client.command("SET", key, "v").errorMessage ?? ""
                    #expect(refused.contains("cache node") || refused.hasPrefix("CLUSTERDOWN"), "\(refused)")
                    #expect(ContinuousClock.now - begin < .seconds(10))
                    let elsewhere = try await rig.key(ownedBy: cluster.nodes[2], of: cluster, "elsewhere")
                    try await eventually("the cluster says it is down") {
                        try await client.command("SET", elsewhere, "v").errorMessage?.hasPrefix("CLUSTERDOWN") == true
                    }
                    // A hot key has its last value.
                    #expect(try await client.command("GET", held) == .text("kept"))
                    try await cluster.nodes[1].start()
                    try await cluster.waitUntilWell()
                    try await eventually("all is well") { try await client.command("SET", key, "v") == .ok }
                    await client.close()
                }
            }
        }

        @Test func seedsThatAreNoneAreToldAndPassedOver() async throws {
            let cluster = try await SharedCluster.cluster()
            let keys = (0..<60).map { "seeded:\($0)" }
            let dead = try FreePort.next()
            let plain = try await SharedNodes.reference()
            // The cluster calls the last one by another name.
            let seeds = [("127.0.0.1", dead), ("127.0.0.1", plain.port), ("localhost", cluster.nodes[2].port)]
                .enumerated().map { ProxyNode(name: "s\($0.offset)", host: $0.element.0, port: $0.element.1) }
            try await Rig.with(nodes: cluster.nodes, topology: ProxyTopology(clusterSeeds: seeds)) { rig in
                // At once: nothing may be carried out by the server that belongs to no cluster.
                let client = try await rig.client()
                #expect(try await client.command(["MSET"] + keys.flatMap { [$0, $0] }) == .ok)
                #expect(try await client.command(["MGET"] + keys) == .array(keys.map { .text($0) }))
                await client.close()
            }
            let stray = try await plain.client()
            #expect(try await stray.command(["EXISTS"] + keys) == .integer(0))
            // With nobody else to ask, it is said so.
            try await Rig.with(
                nodes: cluster.nodes, topology: ProxyTopology(clusterSeeds: Array(seeds.prefix(2))),
                configure: { $0.requestTimeoutMilliseconds = 500 }
            ) { rig in
                let client = try await rig.client()
                let lines = [
                    "SET seeded:0 v", "GET seeded:0", "MSET seeded:1 v seeded:2 v", "BLPOP seeded:3 0",
                    "WATCH seeded:4",
                    "MULTI", "SET seeded:5 v", "EXEC",
                ]
                let replies = try await client.lines(lines)
                for (line, reply) in zip(lines, replies) where line != "MULTI" && line != "EXEC" {
                    #expect(reply.errorMessage?.hasPrefix("CLUSTERDOWN no seed") == true, "\(line): \(reply)")
                }
                #expect(replies[7].errorMessage?.hasPrefix("EXECABORT") == true)
                await client.close()
            }
            #expect(try await stray.command(["EXISTS"] + keys) == .integer(0))
            await stray.close()
        }
    }
}
