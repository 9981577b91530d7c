import HotKeyPeer
import HotKeyTestSupport
import Testing

extension EndToEnd.OnAFleet {
    /// A topology of kind `cluster`, from the operator's file to what apps see.
    @Suite struct ClusterTopology {
        private static func copies(_ cluster: RedisCluster) async throws -> [String] {
            var names: [String] = []
            for member in try await cluster.members() where member.isPrimary {
                let client = try await RedisTestClient.connect(port: member.port)
                names += try await client.command("KEYS", "__hkcopy:*").elements?.compactMap(\.string) ?? []
                await client.close()
            }
            return names
        }

        @Test func aRedisClusterIsServedFromItsSeeds() async throws {
            let fleet = try await sharedFleet()
            let before = try await fleet.control("topology", "show", "--output", "json")
            try await RedisCluster.start().use { cluster in
                let file = try fleet.file(
                    "cluster.yaml",
                    """
                    schema: 1
                    kind: cluster
                    nodes:
                      - {name: seed-a, address: "\(cluster.nodes[4].address)"}
                      - {name: seed-b, address: "\(cluster.nodes[1].address)"}
                    """)
                try await fleet.control("topology", "apply", file)
                #expect(
                    try await fleet.control("topology", "show").contains(
                        "a Redis Cluster, asked for its slots at 2 nodes"))
                let primaries = Set(try await cluster.members().filter(\.isPrimary).map { "127.0.0.1:\($0.port)" })
                for agent in fleet.agents {
                    try await eventually("agent \(agent.id) has found the primaries") {
                        Set(try await agent.status().nodes.map(\.address)) == primaries
                    }
                }
                let writer = try await fleet.agents[0].client()
                let reader = try await fleet.agents[1].client()
                let keys = (0..<50).map { "clustered:\($0)" }
                #expect(try await writer.command(["MSET"] + keys.flatMap { [$0, $0] }) == .ok)
                #expect(try await reader.command(["MGET"] + keys) == .array(keys.map { .text($0) }))
                for key in keys.prefix(5) {
                    let slot = try await cluster.slot(of: key)
                    let route = try await fleet.agents[2].route(key)
                    #expect(route.slot == slot && route.copies.isEmpty)
                    #expect(try await route.home.address == cluster.owner(ofSlot: slot).server.address)
                    let shown = try await fleet.control("route", key)
                    #expect(shown.contains("\(slot)") && shown.contains(route.home.address))
                }
                // Copies on the other primaries come and go with the pin.
                try await fleet.control("pin", keys[0], "--copies", "2")
                try await fleet.waitFor(keys[0], "ready") { $0.copyState == "ready" && $0.copies == 2 }
                let places = try await fleet.agents[1].route(keys[0])
                #expect(
                    Set(places.copies.map(\.address)).union([places.home.address]) == primaries
                        && places.copies.count == 2)
                try await eventually("both copies are there") { try await Self.copies(cluster).count == 2 }
                try await fleet.control("unpin", keys[0])
                try await eventually("no copy is left") { try await Self.copies(cluster).isEmpty }
                // A seed that is a primary keeps its name.
                let metrics = try PrometheusText(try await fleet.agents[0].http("/metrics").body)
                let named = try #require(metrics.families["hotkey_node_requests_total"]).samples
                #expect(
                    Set(named.compactMap { $0.sample.labels["node"] })
                        == Set(try await fleet.agents[0].status().nodes.map(\.name)))
                #expect(named.count == 3 && named.contains { $0.sample.labels["node"]?.hasPrefix("seed-") == true })
                #expect(try metrics.value("hotkey_cluster_resends_total") >= 0)
                for each in [writer, reader] { await each.close() }
                try await fleet.control("topology", "apply", fleet.file("before.json", before))
                for agent in fleet.agents {
                    try await eventually("agent \(agent.id) has left the cluster") {
                        Set(try await agent.status().nodes.map(\.address)) == Set(fleet.caches.map(\.address))
                    }
                }
            }
        }
    }
}
