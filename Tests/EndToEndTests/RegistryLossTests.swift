import HotKeyPeer
import HotKeyTestSupport
import Testing

extension EndToEnd {
    /// Somebody removes the whole registry under running agents, and makes it anew.
    @Suite struct RegistryLoss {
        @Test func theRootIsRemovedAndMadeAnewUnderAgents() async throws {
            let zookeeper = try await ZooKeeperServer.start()
            let cache = try await RedisServer.start()
            let fleet = try Fleet(
                app: "anew", zookeeper: zookeeper, caches: [cache], agentIDs: ["host-1", "host-2"])
            try await fleet.use(removeAndMakeAnew)
            await cache.stop()
            await zookeeper.stop()
        }

        private func removeAndMakeAnew(_ fleet: Fleet) async throws {
            try await fleet.start()
            try await fleet.control("rules", "apply", fleet.file("rules.yaml", testRules))
            try await fleet.agents[0].client().command("SET", "warm:steady", "value")
            let load = Load.reading(
                "warm:steady", expecting: "value", ports: fleet.appPorts, batch: 5, pauseMilliseconds: 5)
            try await fleet.waitUntilPublished("warm:steady")

            try await Python.run(Self.deleteRoot, fleet.zookeeper.connectString, "/hotkeys")
            for agent in fleet.agents {
                try await eventually("agent \(agent.id) says so") {
                    try await agent.http("/readyz").body.contains("hkctl init")
                }
            }
            // What was known is still acted upon.
            for agent in fleet.agents { #expect(try await agent.key("warm:steady").state == "hot") }

            try await fleet.control("init", "--nodes", fleet.nodeList)
            try await fleet.control("rules", "apply", fleet.file("rules.yaml", testRules))
            try await fleet.control("pin", "after")
            for agent in fleet.agents {
                try await eventually("agent \(agent.id) is registered") { try await fleet.isRegistered(agent.id) }
            }
            try await fleet.waitFor("after", "pinned") { $0.state == "pinned" }
            _ = try await fleet.leader()
            try await fleet.waitUntilPublished("warm:steady")
            try await fleet.waitUntilHealthy()
            #expect(await load.stop().failures == [])
        }

        private static let deleteRoot = """
            import sys
            from kazoo.client import KazooClient
            from kazoo.exceptions import NotEmptyError

            zk = KazooClient(hosts=sys.argv[1])
            zk.start(timeout=30)
            # An agent may register again in between.
            while zk.exists(sys.argv[2]):
                try:
                    zk.delete(sys.argv[2], recursive=True)
                except NotEmptyError:
                    pass
            """
    }
}
