import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Primaries of a Redis Cluster that tell of changes.
    @Suite struct ClusterTracking {
        /// Writes at whoever owns the key's slot now, past the proxy.
        private static func write(_ key: String, _ value: String, in cluster: RedisCluster) async throws {
            let client = try await cluster.owner(ofSlot: clusterSlot(key)).server.client()
            #expect(try await client.command("SET", key, value) == .ok)
            await client.close()
        }

        @Test func aSlotThatMovesIsToldOfByItsNewOwner() async throws {
            let cluster = try await SharedCluster.cluster()
            try await Rig.with(cluster: cluster, isTracking: true) { rig in
                try await rig.knowsSlots()
                let key = "{tracked}k"
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                try await Self.write(key, "0", in: cluster)
                try await rig.apply(.mitigate, [hot(key, .cache)])
                try await Tracking.keep(rig, key, clients)
                try await Self.write(key, "1", in: cluster)
                try await Tracking.expectSoon(clients, key, .text("1"), "before the slot moves")
                let slot = clusterSlot(key)
                let from = try await cluster.owner(ofSlot: slot).server
                let other = try await cluster.members().first { $0.isPrimary && $0.port != from.port }!
                let to = cluster.nodes.first { $0.port == other.port }!
                try await cluster.beginMoving(slot: slot, to: to)
                try await cluster.move([key], to: to, from: from)
                try await cluster.endMoving(slot: slot, from: from, to: to)
                try await Tracking.expectSoon(clients, key, .text("1"), "it has moved")
                try await Self.write(key, "2", in: cluster)
                try await Tracking.expectSoon(clients, key, .text("2"), "the new owner has it")
                try await Tracking.keep(rig, key, clients)
                try await Self.write(key, "3", in: cluster)
                try await Tracking.expectSoon(clients, key, .text("3"), "told of by the new owner")
                for client in clients { await client.close() }
            }
        }

        @Test func aReplicaThatTakesOverTellsOfChanges() async throws {
            let cluster = try await RedisCluster.start()
            try await Rig.with(cluster: cluster, isTracking: true) { rig in
                try await rig.knowsSlots()
                let key = "k"
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                #expect(try await clients[0].command("SET", key, "0") == .ok)
                try await rig.apply(.mitigate, [hot(key, .cache)])
                try await Tracking.keep(rig, key, clients)
                let old = try await cluster.owner(ofSlot: clusterSlot(key)).server
                let heir = try await cluster.replica(of: old)
                try await eventually("the replica has the key") {
                    let client = try await heir.client()
                    _ = try await client.command("READONLY")
                    let value = try await client.command("GET", key)
                    await client.close()
                    return value == .text("0")
                }
                await old.kill()
                let direct = try await heir.client()
                try await eventually("it takes over") { try await direct.command("SET", key, "1") == .ok }
                try await Tracking.expectSoon(clients, key, .text("1"), "taken over")
                try await Tracking.keep(rig, key, clients)
                try await direct.command("SET", key, "2")
                try await Tracking.expectSoon(clients, key, .text("2"), "told of by who took over")
                await direct.close()
                for client in clients { await client.close() }
            }
            await cluster.stop()
        }
    }
}
