import HotKeyPeer
import HotKeyTestSupport
import Testing

extension EndToEnd {
    @Suite struct ZooKeeperOutage {
        @Test func appsNoticeNothing() async throws {
            let zookeeper = try await ZooKeeperServer.start()
            // The agents reach ZooKeeper over a path that can be cut while others still reach it.
            let path = try await FaultProxy.start(to: zookeeper)
            var caches: [RedisServer] = []
            for _ in 0..<2 { caches.append(try await RedisServer.start()) }
            let fleet = try Fleet(
                app: "outage", zookeeper: zookeeper, caches: caches, agentIDs: ["stays-1", "stays-2", "starts"],
                agentsConnectTo: path.address)
            try await fleet.use { try await outage($0, path) }
            await path.stop()
            for cache in caches { await cache.stop() }
            await zookeeper.stop()
        }

        private func outage(_ fleet: Fleet, _ path: FaultProxy) async throws {
            try await fleet.start()
            try await fleet.control("rules", "apply", fleet.file("rules.yaml", testRules))
            try await fleet.control("pin", "kept", "--reason", "before the outage")
            // With its copies, so that nothing more is published.
            try await fleet.waitFor("kept", "pinned, its copies ready") {
                $0.state == "pinned" && $0.copyState == "ready"
            }
            let (staying, starting) = (Array(fleet.agents[..<2]), fleet.agents[2])
            // Its state directory now holds what it knew.
            #expect(await starting.stop() == .exited(0))

            let client = try await staying[0].client()
            for (key, value) in [("kept", "value"), ("plain", "value"), ("warm:alone", "v")] {
                #expect(try await client.command("SET", key, value) == .ok)
            }
            let load = Load.start(
                ports: staying.map(\.appPort) + staying.map(\.appPort),
                batch: [
                    ["GET", "plain"], ["GET", "kept"], ["SET", "written", "x"], ["INCR", "counted"],
                    ["GET", "written"],
                ],
                pauseMilliseconds: 5)
            try await eventually("load") { load.current.replies > 100 }
            await fleet.zookeeper.stop()

            for agent in staying {
                try await eventually("agent \(agent.id) says that its view is stale") {
                    try await agent.status().view.state == "stale"
                }
            }
            // Longer than the session lasts.
            try await waitForAge(Agent.sessionTimeoutMilliseconds + 500, at: staying)
            for agent in staying {
                #expect(try await agent.key("kept").state == "pinned")
                #expect(try await agent.http("/readyz").status == 200)
                let metrics = try PrometheusText(try await agent.http("/metrics").body)
                #expect(try metrics.value("hotkey_view_state") == 1)
                #expect(try metrics.value("hotkey_view_age_seconds") >= 3)
            }
            // What an agent sees for itself it still acts upon.
            let alone = Load.reading(
                "warm:alone", expecting: "v", ports: [staying[0].appPort], batch: 20, pauseMilliseconds: 5)
            try await staying[0].waitFor("warm:alone", "hot by the agent's own counts") {
                $0.state == "hot" && $0.isLocalDecision
            }

            // An agent that starts now serves from what is on its disk.
            try await starting.start()
            #expect(try await starting.client().command("GET", "plain") == .text("value"))
            let fromDisk = try await starting.status()
            #expect(fromDisk.view.state == "stale")
            #expect(fromDisk.view.version == (try await staying[0].status().view.version))
            #expect(try await starting.key("kept").state == "pinned")
            #expect(try await starting.route("kept").isHot)

            // ZooKeeper comes back, for others first: somebody pins a key while the agents are still cut off.
            try await path.cut()
            try await fleet.zookeeper.start()
            try await Python.run(Python.pin, fleet.zookeeper.connectString, "/hotkeys/outage", "meanwhile")
            try await waitForAge(8_000, at: staying)
            for agent in fleet.agents {
                #expect(try await agent.key("meanwhile").state == "cold")
                #expect(try await agent.status().view.state == "stale")
            }
            let healed = ContinuousClock.now
            try await path.heal()
            try await fleet.waitFor("meanwhile", "pinned") { $0.state == "pinned" }
            figure("pinned during the outage: in force \((ContinuousClock.now - healed).milliseconds) ms after its end")
            for agent in fleet.agents {
                try await eventually("agent \(agent.id) says that its view is fresh") {
                    let view = try await agent.status().view
                    return view.state == "fresh" && view.ageMilliseconds == 0
                }
                try await eventually("agent \(agent.id) is registered") { try await fleet.isRegistered(agent.id) }
                #expect(try await agent.key("kept").state == "pinned")
            }
            // Somebody coordinates again, and publishes what was seen meanwhile.
            try await fleet.waitUntilPublished("warm:alone")
            #expect(await alone.stop().failures == [])
            let tally = await load.stop()
            #expect(tally.failures == [])
            figure("ZooKeeper gone for over 8 s: \(tally.replies) replies to clients, \(tally.failureCount) failures")
        }

        private func waitForAge(_ milliseconds: Int64, at agents: [Agent]) async throws {
            for agent in agents {
                try await eventually("the view of agent \(agent.id) is \(milliseconds) ms old") {
                    try await agent.status().view.ageMilliseconds >= milliseconds
                }
            }
        }
    }
}
