import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Copies whose places change.
    @Suite struct CopyPlaces {
        private static func warming(_ key: String, capMilliseconds: UInt64 = 30_000) -> HotKeyPolicy {
            var policy = hot(key, .copies, capMilliseconds: capMilliseconds)
            policy.readsCopies = false
            return policy
        }

        private static func copies(_ nodes: [RedisServer], of key: String) async throws -> [String: Int] {
            var found: [String: Int] = [:]
            for (number, node) in nodes.enumerated() {
                let client = try await node.client()
                for name in try await client.command("KEYS", "__hkcopy:*:\(key)").elements ?? [] {
                    found[name.string ?? "?"] = number
                }
                await client.close()
            }
            return found
        }

        @Test(arguments: [true, false])
        func copiesThatATopologyChangeLeavesBehindAreDeletedByTheAgentThatManagesThem(_ manages: Bool) async throws {
            try await Rig.with { rig in
                // Home stays; one of the copies lies on the node that goes.
                let key = rig.key(on: 0, "left\(manages)")
                try await rig.direct(0, "SET", key, "value")
                try await rig.apply(.mitigate, [Self.warming(key)])
                try await eventually("the copies are filled") { try await rig.server.fillCopies(of: Array(key.utf8)) }
                let before = try await Self.copies(rig.nodes, of: key)
                #expect(Set(before.values) == [1, 2])
                if manages { #expect(try await rig.server.manageCopies().nodes == 3) }
                let two = try Rig.topology(Array(rig.nodes.prefix(2)))
                try await rig.apply(.mitigate, [Self.warming(key)], topology: two)
                #expect(try await rig.server.route(Array(key.utf8)).copies.map(\.name) == ["b"])
                if manages {
                    try await eventually("nothing is left on the node that went") {
                        try await !Self.copies(rig.nodes, of: key).values.contains(2)
                    }
                } else {
                    #expect(try await Self.copies(rig.nodes, of: key) == before)
                    for (name, node) in before { try await rig.direct(node, "DEL", name) }
                }
                try await rig.apply(.mitigate, [])
                _ = try await rig.server.removeCopies(1...2, of: Array(key.utf8))
                #expect(try await Self.copies(rig.nodes, of: key).isEmpty || !manages)
                try await rig.direct(0, "DEL", key)
            }
        }

        @Test func copiesInARedisClusterLieOnOtherPrimaries() async throws {
            let cluster = try await SharedCluster.cluster()
            try await Rig.with(cluster: cluster) { rig in
                try await rig.knowsSlots()
                let client = try await rig.client()
                let primaries = try await Self.primaries(of: cluster)
                for key in (0..<8).map({ "spread:copied:\($0)" }) + ["}odd{"] {
                    #expect(try await client.command("SET", key, "v1") == .ok)
                    try await rig.apply(.mitigate, [Self.warming(key)])
                    try await eventually("the copies are filled") {
                        try await rig.server.fillCopies(of: Array(key.utf8))
                    }
                    let home = try await cluster.owner(ofSlot: clusterSlot(key)).server.port
                    let found = try await Self.copies(primaries, of: key)
                    let ports = Set(found.values.map { primaries[$0].port })
                    #expect(found.count == 2 && ports.count == 2 && !ports.contains(home), "\(found)")
                    #expect(
                        Set(try await rig.server.route(Array(key.utf8)).copies.map(\.port)) == ports)
                    // A write leaves its tombstones before it is answered.
                    #expect(try await client.command("SET", key, "v2") == .ok)
                    for (name, node) in found {
                        let direct = try await primaries[node].client()
                        #expect(try await direct.command("GET", name) == .text("t"))
                        await direct.close()
                    }
                    #expect(try await rig.server.removeCopies(1...2, of: Array(key.utf8)))
                    #expect(try await Self.copies(primaries, of: key).isEmpty)
                }
                await client.close()
            }
        }

        @Test func copiesInARedisClusterAreReadAndNeverOlderThanAnAcknowledgedWrite() async throws {
            let cluster = try await SharedCluster.cluster()
            try await Rig.with(cluster: cluster) { rig in
                try await rig.knowsSlots()
                let key = "read:copied"
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                #expect(try await clients[0].command("SET", key, "0") == .ok)
                try await rig.apply(.mitigate, [hot(key, .copies, capMilliseconds: 200)])
                for round in 1...4 {
                    let before = try await rig.server.statistics().copyReads
                    try await eventually("copies answer in round \(round)") {
                        for client in clients {
                            #expect(try await client.command("GET", key) == .text("\(round - 1)"))
                        }
                        return try await rig.server.statistics().copyReads >= before + 50
                    }
                    #expect(try await clients[round % 2].command("SET", key, "\(round)") == .ok)
                }
                for client in clients { await client.close() }
            }
        }

        @Test func aSlotThatTakesACopyAwayIsNoticedAndTheCopyPlannedAnew() async throws {
            try await RedisCluster.start(replicasEach: 0).use { cluster in
                try await Rig.with(cluster: cluster) { rig in
                    try await rig.knowsSlots()
                    let client = try await rig.client()
                    let key = "replanned"
                    #expect(try await client.command("SET", key, "v1") == .ok)
                    try await rig.apply(.mitigate, [Self.warming(key)])
                    try await eventually("the copies are filled") {
                        try await rig.server.fillCopies(of: Array(key.utf8))
                    }
                    let primaries = try await Self.primaries(of: cluster)
                    let before = try await Self.copies(primaries, of: key)
                    let (name, place) = try #require(before.first { $0.key.hasPrefix("__hkcopy:1:") })
                    let home = try await cluster.owner(ofSlot: clusterSlot(key)).server
                    let changes = try await rig.server.manageCopies().changes
                    // The copy's slot goes to the key's home, and the copy with it.
                    let slot = clusterSlot(name)
                    try await cluster.beginMoving(slot: slot, to: home)
                    try await cluster.move([name], to: home, from: primaries[place])
                    try await cluster.endMoving(slot: slot, from: primaries[place], to: home)
                    // Nobody tells the agent: its write's tombstone is redirected.
                    #expect(try await client.command("SET", key, "v2") == .ok)
                    try await eventually("the copy lies elsewhere") {
                        let now = try await rig.server.manageCopies().changes
                        let places = try await rig.server.route(Array(key.utf8)).copies.map(\.port)
                        return now > changes && places.count == 2 && !places.contains(home.port)
                    }
                    try await eventually("what was moved is deleted", timeout: .seconds(10)) {
                        try await Self.copies(primaries, of: key)[name] == nil
                    }
                    #expect(try await client.command("GET", key) == .text("v2"))
                    await client.close()
                }
            }
        }

        private static func primaries(of cluster: RedisCluster) async throws -> [RedisServer] {
            let members = try await cluster.members()
            return cluster.nodes.filter { node in members.contains { $0.port == node.port && $0.isPrimary } }
        }
    }
}
