import HotKeyPeer
import HotKeyTestSupport
import Testing

extension EndToEnd.OnAFleet {
    @Suite struct Faults {
        @Test func aHotKeyOutlivesItsHome() async throws {
            let fleet = try await sharedFleet()
            let key = "warm:home"
            let value = "as it was"
            try await fleet.agents[0].client().command("SET", key, value)
            let home = try await fleet.home(of: key)
            var otherKey = ""
            for number in 0... {
                otherKey = "other:\(number)"
                if try await fleet.home(of: otherKey).server === home.server { break }
            }
            // Once the home is back it is empty, and says so. Until then only the value is right.
            let load = Load.start(
                ports: fleet.appPorts + fleet.appPorts, batch: [["GET", key]], pauseMilliseconds: 2,
                isGood: { $0 == .text(value) || $0.isNull && home.server.isRunning })
            try await fleet.waitUntilPublished(key)
            for agent in fleet.agents {
                try await eventually("agent \(agent.id) may read both copies") {
                    try await agent.route(key).readableCopies.count == 2
                }
            }
            var staleBefore: [UInt64] = []
            for agent in fleet.agents { staleBefore.append(try await agent.status().counters.staleAnswers) }
            await home.server.kill()
            // First from copies and local values; when these have had their time, with the last known value.
            for (agent, before) in zip(fleet.agents, staleBefore) {
                try await eventually("agent \(agent.id) answers with what it last knew") {
                    try await agent.status().counters.staleAnswers > before
                }
                try await eventually("the breaker of \(home.name) is open at agent \(agent.id)") {
                    try await agent.status().nodes.first { $0.name == home.name }?.breaker != "closed"
                }
            }
            #expect(load.current.failures == [])
            // Other keys of that node fail at once, with a reason, instead of queueing.
            let start = ContinuousClock.now
            let refused = try await fleet.agents[0].client().command("GET", otherKey)
            #expect(refused.errorMessage?.hasPrefix("ERR cache node \(home.name)") == true)
            #expect(ContinuousClock.now - start < .seconds(5))
            // Other nodes' keys work.
            let elsewhere = try await fleet.agents[0].client()
            for number in 0..<20 where try await fleet.home(of: "e:\(number)").server !== home.server {
                #expect(try await elsewhere.command("SET", "e:\(number)", "x") == .ok)
            }

            let returned = ContinuousClock.now
            try await home.server.start()
            for agent in fleet.agents {
                try await eventually("the breaker of \(home.name) is closed at agent \(agent.id)") {
                    try await agent.status().nodes.first { $0.name == home.name }?.breaker == "closed"
                }
            }
            figure("breakers closed \((ContinuousClock.now - returned).milliseconds) ms after the node's return began")
            try await fleet.agents[1].client().command("SET", key, value)
            #expect(try await fleet.agents[1].client().command("GET", key) == .text(value))
            let tally = await load.stop()
            #expect(tally.failures == [])
            figure(
                "home of a hot key killed: \(tally.replies) reads through three agents, \(tally.failureCount) failed")
        }

        @Test func anotherAgentTakesOverFromAKilledCoordinator() async throws {
            let fleet = try await sharedFleet()
            let key = "warm:takeover"
            let leader = try await fleet.leader()
            let others = fleet.agents.filter { $0 !== leader }
            try await leader.client().command("SET", key, "value")
            let load = Load.reading(
                key, expecting: "value", ports: others.map(\.appPort), batch: 5, pauseMilliseconds: 5)
            try await fleet.waitUntilPublished(key)
            let epoch = try await others[0].status().view.epoch

            let killed = ContinuousClock.now
            await leader.kill()
            // Until another leads, and beyond, the key is hot at every agent that is left.
            let next = try await eventually("another coordinator") { () -> Agent? in
                for agent in others {
                    let status = try await agent.key(key)
                    #expect(["hot", "cooling"].contains(status.state))
                }
                for agent in others where try await agent.status().leadership == "leader" { return agent }
                return nil
            } until: {
                $0 != nil
            }!
            figure(
                "coordinator killed: another led after \((ContinuousClock.now - killed).milliseconds) ms "
                    + "(session timeout \(Agent.sessionTimeoutMilliseconds))")
            #expect(next !== leader)

            // It works: it finds another key, and publishes that in an epoch of its own.
            let second = "warm:after"
            try await next.client().command("SET", second, "value")
            let secondLoad = Load.reading(
                second, expecting: "value", ports: others.map(\.appPort), batch: 5, pauseMilliseconds: 5)
            try await fleet.waitUntilPublished(second, at: others)
            for agent in others {
                let status = try await agent.status()
                #expect(status.coordinator == next.id)
                #expect(status.view.epoch > epoch)
                #expect(try await agent.key(key).state == "hot")
                #expect(try await agent.key(key).isLocalDecision == false)
            }

            // The killed agent returns under its name and learns both.
            try await leader.start()
            try await fleet.waitUntilPublished(key, at: [leader])
            try await fleet.waitUntilPublished(second, at: [leader])
            try await eventually("agent \(leader.id) is registered") { try await fleet.isRegistered(leader.id) }
            #expect(await load.stop().failures == [])
            #expect(await secondLoad.stop().failures == [])
        }

        @Test func aStoppedAgentAnswersWhatIsInFlightAndLeaves() async throws {
            let shared = try await sharedFleet()
            // A node of its own: it is going to hang, which the other agents must not see.
            let cache = try await RedisServer.start()
            let fleet = try Fleet(
                app: "leaving", zookeeper: shared.zookeeper, caches: [cache], agentIDs: ["leaver"],
                settings: [
                    "--upstream-request-timeout-milliseconds": "20000", "--shutdown-grace-milliseconds": "20000",
                ])
            try await fleet.start()
            let agent = fleet.agents[0]
            try await eventually("the agent is registered") { try await fleet.isRegistered(agent.id) }
            let client = try await agent.client()
            let idle = try await agent.client()
            #expect(try await client.command("SET", "k", "value") == .ok)
            #expect(try await idle.command("GET", "k") == .text("value"))

            cache.suspend()
            for _ in 0..<5 { try await client.send(["GET", "k"]) }
            try await eventually("five requests wait for the node") {
                try await agent.status().nodes[0].inFlight >= 5
            }
            try agent.process.signal(15)
            try await agent.process.waitForLine(containing: "stopping")
            try await eventually("new clients are refused") {
                do {
                    let client = try await agent.client()
                    await client.close()
                    return false
                } catch let error as TestSupportError where error.code == .connectionRefused {
                    return true
                }
            }
            #expect(try agent.process.isRunning)
            cache.resume()
            for _ in 0..<5 { #expect(try await client.receive() == .text("value")) }
            // Then both connections end in good order.
            #expect(try await client.receiveRawToEnd() == [])
            #expect(try await idle.receiveRawToEnd() == [])
            #expect(try await agent.process.waitForExit() == .exited(0))
            // It left; nobody has to wait for its session to expire.
            #expect(try await fleet.isRegistered(agent.id) == false)
            await cache.stop()
        }
    }
}
