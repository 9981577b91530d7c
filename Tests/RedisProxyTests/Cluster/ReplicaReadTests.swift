import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Reads of hot keys at the replicas of a Redis Cluster.
    @Suite struct ReplicaReading {
        private static func policy(_ key: String, _ kind: MitigationKind, capMilliseconds: UInt64) -> HotKeyPolicy {
            var policy = hot(key, kind, capMilliseconds: capMilliseconds)
            policy.readsReplicas = true
            return policy
        }

        private static func replicaReads(_ rig: Rig) async throws -> UInt64 {
            try await rig.server.statistics().replicaReads
        }

        private static func breakLink(of replica: RedisTestClient) async throws {
            #expect(try await replica.command("CONFIG", "SET", "masteruser", "nobody", "masterauth", "x") == .ok)
            _ = try await replica.command("CLIENT", "KILL", "TYPE", "master")
        }

        private static func mendLink(of replica: RedisTestClient) async throws {
            #expect(try await replica.command("CONFIG", "SET", "masteruser", "", "masterauth", "") == .ok)
        }

        @Test(arguments: [2, 3])
        func getsGoToReplicasWhereTheRuleSaysSo(_ version: Int) async throws {
            let cluster = try await SharedCluster.cluster()
            try await Rig.with(cluster: cluster) { rig in
                try await rig.knowsSlots()
                let keys = (0..<6).map { "replicas\(version):\($0)" }
                let client = try await rig.client(onLoop: 0, version: version)
                for key in keys { #expect(try await client.command("SET", key, key) == .ok) }
                try await rig.apply(.mitigate, keys.map { hot($0, .copies, capMilliseconds: 2_000) })
                for key in keys { #expect(try await client.command("GET", key) == .text(key)) }
                #expect(try await Self.replicaReads(rig) == 0)
                try await rig.apply(
                    .mitigate, keys.map { Self.policy($0, .copies, capMilliseconds: 2_000) })
                try await eventually("replicas are read") {
                    for key in keys { #expect(try await client.command("GET", key) == .text(key)) }
                    return try await Self.replicaReads(rig) > 100
                }
                // The primaries have their share, and answer alone what is not there and what is no GET.
                #expect(try await rig.server.statistics().hotHomeReads > 20)
                #expect(try await client.command("DEL", keys[0]) == .integer(1))
                #expect(try await client.command("LPUSH", keys[0], "a") == .integer(1))
                for _ in 0..<20 {
                    #expect(try await client.command("LRANGE", keys[0], "0", "-1") == .array([.text("a")]))
                    #expect(try await client.command("GET", keys[0]).errorMessage?.hasPrefix("WRONGTYPE") == true)
                }
                #expect(try await client.command("DEL", keys[0]) == .integer(1))
                for _ in 0..<20 { #expect(try await client.command("GET", keys[0]).isNull) }
                for key in keys.dropFirst() { #expect(try await client.command("DEL", key) == .integer(1)) }
                await client.close()
            }
        }

        /// What is wrong with one key is that key's: the others of the same nodes are read at the replica all the same.
        @Test func aMistakeTakesNoReplicaAway() async throws {
            let cluster = try await SharedCluster.cluster()
            try await Rig.with(cluster: cluster) { rig in
                try await rig.knowsSlots()
                let client = try await rig.client(onLoop: 0)
                // One slot, so one primary and its replica.
                let keys = ["{mistake}text", "{mistake}list"]
                #expect(try await client.command("SET", keys[0], "v") == .ok)
                #expect(try await client.command("LPUSH", keys[1], "a") == .integer(1))
                try await rig.apply(.mitigate, keys.map { Self.policy($0, .copies, capMilliseconds: 30_000) })
                try await eventually("the replica is read") {
                    #expect(try await client.command("GET", keys[0]) == .text("v"))
                    return try await Self.replicaReads(rig) > 5
                }
                let (readBefore, homeBefore) = (
                    try await Self.replicaReads(rig), try await rig.server.statistics().hotHomeReads
                )
                for _ in 0..<300 {
                    #expect(try await client.command("GET", keys[1]).errorMessage?.hasPrefix("WRONGTYPE") == true)
                    #expect(try await client.command("GET", keys[0]) == .text("v"))
                }
                let read = try await Self.replicaReads(rig) - readBefore
                let home = try await rig.server.statistics().hotHomeReads - homeBefore
                // Each was answered once, by one of the two; nothing went to home after the replica had answered.
                #expect(read + home == 600, "\(read) and \(home)")
                // Which of the two answers is drawn by their latency. Out of use for 200 ms after each mistake it answered, the replica
                // would come to a handful.
                #expect(read > 40, "\(read) and \(home)")
                for key in keys { #expect(try await client.command("DEL", key) == .integer(1)) }
                await client.close()
            }
        }

        @Test(arguments: [MitigationKind.copies, .both])
        func aReplicaThatIsBehindIsNotReadPastTheCap(_ kind: MitigationKind) async throws {
            let cluster = try await RedisCluster.start()
            try await cluster.use { cluster in
                let cap: UInt64 = 1_500
                try await Rig.with(cluster: cluster) { rig in
                    try await rig.knowsSlots()
                    let primary = cluster.nodes[0]
                    let key = try await rig.key(ownedBy: primary, of: cluster, "behind")
                    let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                    #expect(try await clients[0].command("SET", key, "0") == .ok)
                    try await rig.apply(.mitigate, [Self.policy(key, kind, capMilliseconds: cap)])
                    try await eventually("replicas are read") {
                        for client in clients { #expect(try await client.command("GET", key) == .text("0")) }
                        return try await Self.replicaReads(rig) > 5
                    }
                    // While it follows: every write is seen by the next read, on both loops, and the replica is read again in between.
                    for number in 289...300 {
                        #expect(try await clients[number % 2].command("SET", key, "\(number)") == .ok)
                        let before = try await Self.replicaReads(rig)
                        try await eventually("replicas are read after write \(number)") {
                            for client in clients {
                                #expect(try await client.command("GET", key) == .text("\(number)"))
                            }
                            return try await Self.replicaReads(rig) > before
                        }
                    }
                    let replica = try await cluster.replica(of: primary).client()
                    let direct = try await primary.client()
                    // It loses its primary's stream, cannot get it back, and somebody else writes.
                    try await Self.breakLink(of: replica)
                    #expect(try await direct.command("SET", key, "elsewhere") == .ok)
                    let writtenAt = ContinuousClock.now
                    var seen = 0
                    while ContinuousClock.now - writtenAt < .milliseconds(2 * Int(cap)) {
                        for client in clients {
                            let asked = ContinuousClock.now
                            let value = try await client.command("GET", key)
                            if value == .text("elsewhere") {
                                seen += 1
                            } else {
                                #expect(value == .text("300"))
                                #expect(asked - writtenAt < .milliseconds(Int(cap)), "older than the cap")
                            }
                        }
                    }
                    #expect(seen > 0)
                    #expect(try await replica.command("GET", key).errorMessage?.hasPrefix("MOVED") == true)
                    try await Self.mendLink(of: replica)
                    let before = try await Self.replicaReads(rig)
                    try await eventually("it has caught up and is read") {
                        for client in clients { #expect(try await client.command("GET", key) == .text("elsewhere")) }
                        return try await Self.replicaReads(rig) > before + 5
                    }
                    // The same again, and this agent writes: seen at once, although the replica was in time a moment ago.
                    try await Self.breakLink(of: replica)
                    for number in 301...400 {
                        #expect(try await clients[number % 2].command("SET", key, "\(number)") == .ok)
                        for client in clients { #expect(try await client.command("GET", key) == .text("\(number)")) }
                    }
                    try await Self.mendLink(of: replica)
                    for client in clients + [replica, direct] { await client.close() }
                }
            }
        }

        /// A read that comes back from a replica that hangs is not answered with what its client wrote after it.
        @Test func whatAClientAsksStaysInOrder() async throws {
            try await RedisCluster.start().use { cluster in
                try await Rig.with(cluster: cluster, configure: { $0.requestTimeoutMilliseconds = 500 }) { rig in
                    try await rig.knowsSlots()
                    let primary = cluster.nodes[0]
                    let key = try await rig.key(ownedBy: primary, of: cluster, "order")
                    let client = try await rig.client(onLoop: 0)
                    #expect(try await client.command("SET", key, "0") == .ok)
                    try await rig.apply(.mitigate, [Self.policy(key, .copies, capMilliseconds: 30_000)])
                    let replica = try await cluster.replica(of: primary)
                    var count: Int64 = 0
                    for round in 0..<4 {
                        try await eventually("replicas are read in round \(round)") {
                            let before = try await Self.replicaReads(rig)
                            #expect(try await client.command("GET", key) == .text("\(count)"))
                            return try await Self.replicaReads(rig) > before
                        }
                        replica.suspend()
                        for _ in 0..<8 {
                            let replies = try await client.pipeline([
                                ["GET", key], ["GET", key], ["INCR", key], ["GET", key],
                            ])
                            #expect(replies[0] == .text("\(count)") && replies[1] == .text("\(count)"), "\(replies)")
                            count += 1
                            #expect(replies[2] == .integer(count) && replies[3] == .text("\(count)"), "\(replies)")
                        }
                        replica.resume()
                    }
                    await client.close()
                }
            }
        }

        @Test func theTopologyMayLeaveTheClusterWhileAReplicaIsAsked() async throws {
            let nodes = try await SharedNodes.nodes()
            try await RedisCluster.start().use { cluster in
                try await Rig.with(cluster: cluster, configure: { $0.requestTimeoutMilliseconds = 500 }) { rig in
                    try await rig.knowsSlots()
                    let primary = cluster.nodes[0]
                    let key = try await rig.key(ownedBy: primary, of: cluster, "leave")
                    let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 0)]
                    #expect(try await clients[0].command("SET", key, "v") == .ok)
                    let policies = [Self.policy(key, .copies, capMilliseconds: 30_000)]
                    try await rig.apply(.mitigate, policies)
                    try await eventually("replicas are read") {
                        #expect(try await clients[0].command("GET", key) == .text("v"))
                        return try await Self.replicaReads(rig) > 5
                    }
                    let replica = try await cluster.replica(of: primary)
                    replica.suspend()
                    try await clients[0].send(
                        raw: Array((0..<20).map { _ in encode(["GET", key]) }.joined()))
                    try await rig.apply(.mitigate, policies, topology: try Rig.topology(Array(nodes.prefix(1))))
                    for _ in 0..<20 { _ = try await clients[0].receive() }
                    #expect(try await clients[1].command("PING") == .simple("PONG"))
                    replica.resume()
                    for client in clients { await client.close() }
                }
            }
        }
    }
}
