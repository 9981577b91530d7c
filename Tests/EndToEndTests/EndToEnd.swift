import HotKeyTestSupport
import Testing

/// The built programs against real servers. One test after the other: each has processes of its own and measures time.
@Suite(.serialized, .timeLimit(.minutes(Endurance.minutesMax))) enum EndToEnd {}

extension EndToEnd {
    /// What needs a whole fleet that is well: one ZooKeeper, three cache nodes, three agents, shared by all tests in it. A
    /// test that breaks something mends it.
    @Suite(.fleet) enum OnAFleet {}
}

/// Starts a fleet for a suite and stops it afterwards.
struct FleetTrait: SuiteTrait, TestScoping {
    @TaskLocal static var fleet: Fleet?

    func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        let zookeeper = try await ZooKeeperServer.start()
        var caches: [RedisServer] = []
        for _ in 0..<3 { caches.append(try await RedisServer.start()) }
        let fleet = try Fleet(
            app: "shop", zookeeper: zookeeper, caches: caches, agentIDs: ["host-1", "host-2", "host-3"])
        do {
            try await fleet.start()
            try await fleet.control("rules", "apply", fleet.file("rules.yaml", testRules))
            try await Self.$fleet.withValue(fleet) { try await function() }
        } catch {
            await fleet.stopAgents()
            throw error
        }
        await fleet.stopAgents()
        for cache in caches { await cache.stop() }
        await zookeeper.stop()
    }
}

extension Trait where Self == FleetTrait {
    static var fleet: FleetTrait { FleetTrait() }
}

/// The fleet of the suite that the running test belongs to, once it is well.
func sharedFleet() async throws -> Fleet {
    let fleet = try #require(FleetTrait.fleet)
    try await fleet.waitUntilHealthy()
    return fleet
}
