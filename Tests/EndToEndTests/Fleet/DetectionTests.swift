import HotKeyPeer
import HotKeyTestSupport
import Testing

extension EndToEnd.OnAFleet {
    @Suite struct Detection {
        @Test func aKeyThatIsHotOnlyInSumIsListedByEveryAgent() async throws {
            let fleet = try await sharedFleet()
            let key = "warm:sum"
            let client = try await fleet.agents[0].client()
            try await client.command("SET", key, "value")
            // At most 250 a second at each agent, the rule's threshold being 300 over all.
            let load = Load.reading(key, expecting: "value", ports: fleet.appPorts, pauseMilliseconds: 4)
            let began = try await load.began()
            let delays = try await withThrowingTaskGroup(of: Int.self) { group in
                for agent in fleet.agents {
                    group.addTask {
                        try await agent.ask { peer in
                            try await eventually("agent \(agent.id) lists \(key)") {
                                try await peer.list().keys.contains { $0.key == PeerKey(Array(key.utf8)) }
                            }
                        }
                        return (ContinuousClock.now - began).milliseconds
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            for agent in fleet.agents {
                let status = try await agent.key(key)
                #expect(status.state == "hot")
                // No agent saw enough of it to decide for itself.
                #expect(status.isLocalDecision == false)
                #expect(status.sources == ["agents"])
                #expect(status.action == "both")
            }
            let tally = await load.stop()
            #expect(tally.failures == [])
            figure(
                "hot only in sum: listed by all three agents \(delays.sorted()) ms after the load's start (goal 1000)")
        }

        @Test func anAgentThatAloneIsOverTheThresholdActsAtOnce() async throws {
            let fleet = try await sharedFleet()
            let key = "warm:alone"
            let agent = fleet.agents[1]
            try await agent.client().command("SET", key, "value")
            let load = Load.reading(
                key, expecting: "value", ports: [agent.appPort, agent.appPort], batch: 20, pauseMilliseconds: 2)
            let began = try await load.began()
            let first = try await agent.waitFor(key, "hot") { $0.state == "hot" }
            figure(
                "hot at one agent: acted upon \((ContinuousClock.now - began).milliseconds) ms after the load's start "
                    + "(goal 200), \(first.isLocalDecision ? "its own decision" : "published already")")
            // It is then published, so that the others know it too.
            try await fleet.waitUntilPublished(key)
            try await eventually("reads are answered from the agent's memory") {
                try await agent.status().counters.localHits > 0
            }
            #expect(await load.stop().failures == [])
        }

        /// What a host answers itself is counted all the same: a key of which its home hears next to nothing stays hot for many
        /// cool-downs, without a publication. `HOTKEY_SERVED_SECONDS` says for how long.
        @Test func aKeyThatIsServedFromMemoryStaysHotWhileItIsAskedFor() async throws {
            let fleet = try await sharedFleet()
            let key = "served:steady"
            try await fleet.agents[0].client().command("SET", key, "value")
            let load = Load.reading(key, expecting: "value", ports: fleet.appPorts, batch: 4, pauseMilliseconds: 5)
            try await fleet.waitUntilPublished(key)
            let since = try await fleet.agents[0].key(key).since
            var hitsBefore: UInt64 = 0
            for agent in fleet.agents { hitsBefore += try await agent.status().counters.localHits }
            let repliesBefore = load.current.replies
            let end = ContinuousClock.now + .seconds(Endurance.servedSeconds)
            var looks = 0
            while .now < end {
                for agent in fleet.agents {
                    let status = try await agent.key(key)
                    try #require(status.state == "hot" && status.since == since, "\(status)")
                    looks += 1
                }
                try await Task.sleep(for: .milliseconds(50))
            }
            var hits: UInt64 = 0
            for agent in fleet.agents { hits += try await agent.status().counters.localHits }
            let share = Double(hits - hitsBefore) / Double(load.current.replies - repliesBefore)
            #expect(share > 0.95, "or it was not served from memory: \(share)")
            figure(
                "served from memory for \(Endurance.servedSeconds) s: \(Int(share * 100)) % of the reads, hot in \(looks) looks"
            )
            #expect(await load.stop().failures == [])
            try await fleet.waitFor(key, "cold") { $0.state == "cold" }
        }

        @Test func aDeniedKeyIsActedUponNoMoreWhateverItsLoad() async throws {
            let fleet = try await sharedFleet()
            let key = "warm:denied"
            try await fleet.agents[0].client().command("SET", key, "value")
            let load = Load.reading(
                key, expecting: "value", ports: fleet.appPorts, batch: 10, pauseMilliseconds: 5)
            try await fleet.waitUntilPublished(key)
            try await fleet.control("deny", key, "--reason", "too dear")
            try await fleet.waitFor(key, "denied") { $0.state == "denied" }
            // For two seconds of reports nobody, neither coordinator nor an agent for itself, brings it back.
            try await withThrowingTaskGroup(of: Void.self) { group in
                for agent in fleet.agents {
                    group.addTask { try await agent.ask { try await Self.staysDenied(key, at: agent.id, $0) } }
                }
                try await group.waitForAll()
            }
            try await fleet.control("undeny", key)
            try await fleet.waitFor(key, "hot again") { $0.state == "hot" }
            #expect(await load.stop().failures == [])
        }

        private static func staysDenied(_ key: String, at id: String, _ peer: PeerClient) async throws {
            let start = try await peer.status().reportSequence
            try await eventually("agent \(id) has reported twenty slices more") {
                let status = try await peer.get(Array(key.utf8))
                #expect(status.state == "denied")
                #expect(status.action == "none")
                #expect(status.reason == "too dear")
                #expect(try await !peer.list().keys.contains { $0.key == status.key })
                return try await peer.status().reportSequence >= start + 20
            }
        }
    }
}
