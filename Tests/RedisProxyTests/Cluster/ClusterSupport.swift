import Foundation
import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

/// A cluster for every test that does not harm it. It ends with the test process.
actor SharedCluster {
    static let shared = SharedCluster()
    private var starting: Task<RedisCluster, any Error>?

    static func cluster() async throws -> RedisCluster { try await shared.get() }

    private func get() async throws -> RedisCluster {
        if starting == nil { starting = Task { try await RedisCluster.start() } }
        return try await starting!.value
    }
}

extension Rig {
    /// Runs `body` with a proxy before a cluster whose seeds are `seeds` of its nodes, by number.
    static func with(
        cluster: RedisCluster, seeds: [Int] = [0], loops: Int = 2, isTracking: Bool = false,
        configure: (inout ProxyConfiguration) -> Void = { _ in }, _ body: (Rig) async throws -> Void
    ) async throws {
        let topology = ProxyTopology(
            clusterSeeds: seeds.map {
                ProxyNode(name: "seed\($0)", host: "127.0.0.1", port: cluster.nodes[$0].port)
            })
        try await with(
            nodes: cluster.nodes, loops: loops, topology: topology, isTracking: isTracking,
            configure: { configuration in
                configuration.breaker.openNanoseconds = 100_000_000
                configuration.breaker.openNanosecondsMax = 200_000_000
                configure(&configuration)
            }, body)
    }

    /// Waits until every slot's owner is known.
    func knowsSlots(primaries: Int = 3) async throws {
        try await eventually("the slots are known") {
            try await server.statistics().nodes.count == primaries
        }
    }

    /// A key of a slot that a node owns.
    func key(ownedBy server: RedisServer, of cluster: RedisCluster, _ prefix: String) async throws -> String {
        let slots = try await cluster.members().first { $0.port == server.port }?.slots ?? []
        return (0...).lazy.map { "\(prefix):\($0)" }.first { key in
            let slot = Array(key.utf8).withUnsafeBytes { ClusterSlot.of($0) }
            return slots.contains { $0.contains(slot) }
        }!
    }
}

func clusterSlot(_ key: String) -> Int { Array(key.utf8).withUnsafeBytes { ClusterSlot.of($0) } }
