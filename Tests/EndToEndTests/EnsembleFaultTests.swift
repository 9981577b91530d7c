import Foundation
import HotKeyPeer
import HotKeyTestSupport
import NIOConcurrencyHelpers
import Testing

extension EndToEnd {
    /// Three ZooKeeper servers under a fleet whose heat moves: servers die and come back, apps and operators go on.
    @Suite struct EnsembleFaults {
        private static let killEvery = Duration.seconds(10)
        private static let serverAway = Duration.seconds(4)
        /// The promise is five seconds of a machine that is not busy with other tests.
        private static let equalWithin: Duration = Endurance.isLong ? .seconds(5) : .seconds(60)

        @Test func aLeaderThatDiesAgainAndAgainLosesNothing() async throws {
            try await withFleet("elections") { ensemble, fleet in
                let load = movingHeat(fleet)
                let views = ViewWatch(fleet.agents)
                let operators = Pinning(fleet)
                var kills = 0
                var lastKill = ContinuousClock.now
                let end = ContinuousClock.now + .seconds(Endurance.electionsSeconds)
                while ContinuousClock.now < end {
                    let server = try await ensemble.leader()
                    lastKill = .now
                    kills += 1
                    await server.kill()
                    // The schedule of the faults; nothing is waited for.
                    try await Task.sleep(until: lastKill + Self.serverAway)
                    try await server.start()
                    if ContinuousClock.now < end { try await Task.sleep(until: lastKill + Self.killEvery) }
                }
                // One more, so that what comes to rest comes from a fault, and nobody helps.
                lastKill = .now
                await (try await ensemble.leader()).kill()
                // Until the news arrive an agent does not know that it has lost anything.
                try await fleet.control("pin", "last")
                try await fleet.waitFor("last", "pinned") { $0.state == "pinned" }
                let equal = try await waitUntilEqual(fleet)
                figure(
                    "ensemble's leader killed \(kills + 1) times: all agents equal "
                        + "\((equal.at - lastKill).milliseconds) ms after the last")

                #expect(equal.at - lastKill <= Self.equalWithin)

                let pins = await operators.stop()
                try await fleet.control("pin", "rest")
                try await fleet.waitFor("rest", "pinned") { $0.state == "pinned" }
                let stored = try await storedPins(fleet)
                let lost = pins.acknowledged.filter { !stored.contains($0) }
                #expect(lost == [], "acknowledged and not there")
                for agent in fleet.agents {
                    let listed = Set(try await agent.list().keys.filter { $0.state == "pinned" }.map(\.key))
                    #expect(pins.acknowledged.allSatisfy { listed.contains(PeerKey(Array($0.utf8))) }, "\(agent.id)")
                }
                let seen = try await views.stop()
                #expect(seen.steps == [], "a view went backward")
                let tally = await load.stop()
                #expect(tally.failures == [])
                #expect(!pins.acknowledged.isEmpty && tally.replies > 0 && seen.looks > 0)
                figure(
                    "\(tally.replies) replies to clients, \(tally.failureCount) failures; \(pins.acknowledged.count) pins "
                        + "acknowledged, \(pins.refused) refused; \(seen.looks) looks at views, publications "
                        + "\(equal.view.epoch)/\(equal.view.version)")
            }
        }

        @Test func withoutAQuorumNothingGrows() async throws {
            try await withFleet("quorum") { ensemble, fleet in
                let load = movingHeat(fleet)
                try await fleet.waitUntilPublished("warm:steady")
                let before = try await fleet.agents[0].status().view
                let dead = [try await ensemble.leader(), try await ensemble.followers()[0]]
                for server in dead { await server.kill() }
                let gone = ContinuousClock.now
                for agent in fleet.agents {
                    try await eventually("agent \(agent.id) says that its view is stale") {
                        try await agent.status().view.state == "stale"
                    }
                }
                let refused = try await fleet.attempt(["pin", "refused"])
                #expect(refused.status == 1)
                #expect(refused.standardError.contains("ZooKeeper"), "\(refused)")

                // So long is the fault. What was warmed up after a third of it is what the rest is held against.
                let end = gone + .seconds(Endurance.outageSeconds)
                try await Task.sleep(until: gone + .seconds(Endurance.outageSeconds / 3))
                let early = try usage(fleet)
                let logged = fleet.agents.map { $0.log.utf8.count }
                try await Task.sleep(until: end)
                let late = try usage(fleet)
                for (index, agent) in fleet.agents.enumerated() {
                    let lines = agent.log.utf8.dropFirst(logged[index]).count { $0 == UInt8(ascii: "\n") }
                    figure(
                        "quorum gone for \(Endurance.outageSeconds) s: agent \(agent.id): \(early[index]) after a third, "
                            + "\(late[index]) at the end, \(lines) lines logged in between")
                    #expect(late[index].residentKilobytes < early[index].residentKilobytes + 16 << 10)
                    #expect(late[index].threads <= early[index].threads + 8)
                    #expect(late[index].descriptors <= early[index].descriptors + 8)
                }
                let during = try await fleet.agents[0].status().view
                #expect(during.state == "stale" && during.epoch == before.epoch)

                for server in dead { try await server.start() }
                let healed = ContinuousClock.now
                let equal = try await waitUntilEqual(fleet)
                figure("quorum back: all agents equal \((equal.at - healed).milliseconds) ms after")
                try await fleet.control("pin", "after")
                try await fleet.waitFor("after", "pinned") { $0.state == "pinned" }
                let tally = await load.stop()
                #expect(tally.failures == [])
                figure("\(tally.replies) replies to clients, \(tally.failureCount) failures")
            }
        }

        private func withFleet(
            _ app: String, _ body: (ZooKeeperEnsemble, Fleet) async throws -> Void
        ) async throws {
            try await ZooKeeperEnsemble.start(servers: 3).use { ensemble in
                let caches = [try await RedisServer.start(), try await RedisServer.start()]
                let fleet = try Fleet(
                    app: app, zookeeper: ensemble.servers[0], caches: caches,
                    agentIDs: ["host-1", "host-2", "host-3"], connectString: ensemble.connectString)
                try await fleet.use { fleet in
                    try await fleet.start()
                    try await fleet.control("rules", "apply", fleet.file("rules.yaml", testRules))
                    try await body(ensemble, fleet)
                }
                for cache in caches { await cache.stop() }
            }
        }

        /// At each agent: a key that stays hot, one that is hot for some seconds, and keys that are asked for once.
        private func movingHeat(_ fleet: Fleet) -> Load {
            Load.start(ports: fleet.appPorts, pauseMilliseconds: 20) { number in
                let steady = Array(repeating: ["GET", "warm:steady"], count: 10)
                let moving = Array(repeating: ["GET", "warm:moving-\(number / 150)"], count: 10)
                return steady + moving + (0..<5).map { ["GET", "once:\(number):\($0)"] }
            }
        }

        private func usage(_ fleet: Fleet) throws -> [ProcessUsage] {
            try fleet.agents.map { try #require(ProcessUsage(of: try $0.process.processIdentifier)) }
        }

        /// Waits until all agents are fresh and hold the same versions of everything at one moment.
        private func waitUntilEqual(
            _ fleet: Fleet
        ) async throws -> (view: AgentStatus.View, at: ContinuousClock.Instant) {
            let statuses = try await eventually("all agents are fresh and equal") {
                var statuses: [AgentStatus] = []
                for agent in fleet.agents { statuses.append(try await agent.status()) }
                return statuses
            } until: { statuses in
                Set(statuses.map(\.view)).count == 1 && Set(statuses.map(\.documents)).count == 1
                    && statuses[0].view.state == "fresh"
            }
            return (statuses[0].view, .now)
        }

        private func storedPins(_ fleet: Fleet) async throws -> Set<String> {
            struct Export: Decodable {
                struct Pins: Decodable {
                    struct Pin: Decodable { var key: String }
                    var pins: [Pin]
                }
                var pins: Pins
            }
            let text = try await fleet.control("export", "-")
            return Set(try JSONDecoder().decode(Export.self, from: Data(text.utf8)).pins.pins.map(\.key))
        }
    }
}

/// How long the tests of endurance last. Short by default; the environment makes them long.
enum Endurance {
    static let electionsSeconds = seconds("HOTKEY_ELECTIONS_SECONDS", 20)
    static let outageSeconds = seconds("HOTKEY_OUTAGE_SECONDS", 15)
    /// How long a key is served from the agents' memory.
    static let servedSeconds = seconds("HOTKEY_SERVED_SECONDS", 20)
    static let isLong = ProcessInfo.processInfo.environment["HOTKEY_ELECTIONS_SECONDS"] != nil
    /// Enough for the longest test.
    static let minutesMax = 5 + max(electionsSeconds, outageSeconds, servedSeconds) / 60

    private static func seconds(_ name: String, _ usual: Int) -> Int {
        ProcessInfo.processInfo.environment[name].flatMap(Int.init) ?? usual
    }
}

/// Looks at every agent again and again, and keeps the steps that went backward.
private final class ViewWatch: Sendable {
    struct Seen: Sendable {
        var looks = 0
        var steps: [String] = []
    }

    private let seen = NIOLockedValueBox(Seen())
    private let isStopping = NIOLockedValueBox(false)
    private let looking: Task<Void, any Error>

    init(_ agents: [Agent]) {
        let (seen, isStopping) = (seen, isStopping)
        looking = Task {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for agent in agents {
                    group.addTask {
                        try await agent.ask { client in
                            var last = try await client.status()
                            while !isStopping.withLockedValue({ $0 }) {
                                let next = try await client.status()
                                seen.withLockedValue {
                                    $0.looks += 1
                                    if next.isBehind(last) { $0.steps.append("\(agent.id): \(last), then \(next)") }
                                }
                                last = next
                                try await Task.sleep(for: .milliseconds(20))
                            }
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    func stop() async throws -> Seen {
        isStopping.withLockedValue { $0 = true }
        try await looking.value
        return seen.withLockedValue { $0 }
    }
}

extension AgentStatus {
    /// Whether anything that this agent goes by is older than at an earlier look.
    fileprivate func isBehind(_ earlier: AgentStatus) -> Bool {
        func versions(_ status: AgentStatus) -> [Int32] {
            let documents = status.documents
            return [documents?.control, documents?.rules, documents?.pins, documents?.topology].map { $0 ?? -1 }
        }
        return (view.epoch, view.version) < (earlier.view.epoch, earlier.view.version)
            || zip(versions(self), versions(earlier)).contains { $0 < $1 }
    }
}

/// An operator who pins one key after another, and keeps which of them were acknowledged.
private final class Pinning: Sendable {
    struct Tally: Sendable {
        var acknowledged: [String] = []
        var refused = 0
    }

    private let isStopping = NIOLockedValueBox(false)
    private let pinning: Task<Tally, Never>

    init(_ fleet: Fleet) {
        let isStopping = isStopping
        pinning = Task {
            var tally = Tally()
            var number = 0
            while !isStopping.withLockedValue({ $0 }) {
                number += 1
                let key = "pin:\(number)"
                if (try? await fleet.attempt(["pin", key]))?.status == 0 {
                    tally.acknowledged.append(key)
                } else {
                    tally.refused += 1
                }
                try? await Task.sleep(for: .milliseconds(250))
            }
            return tally
        }
    }

    func stop() async -> Tally {
        isStopping.withLockedValue { $0 = true }
        return await pinning.value
    }
}
