import HotKeyPeer
import HotKeyTestSupport
import Testing

extension EndToEnd.OnAFleet {
    /// An existing twemproxy cluster's keys are found where they are.
    @Suite struct PlacementBesideTwemproxy {
        struct Combination: Sendable, CustomTestStringConvertible {
            var hash: String
            var distribution: String
            var hashTag: String?
            var weights: [Int] = [1, 1, 1]
            var keyCount: Int

            var testDescription: String { "\(hash), \(distribution), tag \(hashTag ?? "none"), \(keyCount) keys" }
        }

        @Test(arguments: [
            Combination(hash: "fnv1a_64", distribution: "ketama", keyCount: 10_000),
            Combination(hash: "fnv1a_64", distribution: "ketama", hashTag: "{}", keyCount: 400),
            Combination(hash: "murmur", distribution: "ketama", weights: [1, 2, 5], keyCount: 400),
            Combination(hash: "md5", distribution: "modula", keyCount: 400),
            Combination(hash: "crc16", distribution: "modula", hashTag: "<>", weights: [3, 1, 1], keyCount: 400),
        ])
        func keysAreFoundBothWays(_ combination: Combination) async throws {
            let fleet = try await sharedFleet()
            let nutcracker = try await NutcrackerServer.start(
                nodes: zip(fleet.caches, combination.weights).map { .init(port: $0.port, weight: $1) },
                hash: combination.hash, distribution: combination.distribution, hashTag: combination.hashTag)
            // Names of their own, so that it shows when an agent acts on this topology.
            let name =
                "\(combination.hash)-\(combination.distribution)-\(combination.weights[0])\(combination.keyCount)"
            let nodes = zip(fleet.caches, combination.weights).enumerated().map { index, node in
                "  - {name: \(name)-\(index), address: \"\(node.0.address)\", weight: \(node.1)}\n"
            }
            let file = try fleet.file(
                "topology.yaml",
                "schema: 1\nhash: \(combination.hash)\ndistribution: \(combination.distribution)\n"
                    + "hashTag: \"\(combination.hashTag ?? "")\"\nnodes:\n" + nodes.joined())
            try await fleet.control("topology", "apply", file)
            for agent in fleet.agents {
                try await eventually("agent \(agent.id) acts on \(name)") {
                    try await agent.status().nodes.first?.name == "\(name)-0"
                }
            }

            let twemproxy = try await RedisTestClient.connect(port: nutcracker.port)
            for cache in fleet.caches { try await cache.client().command("FLUSHALL") }
            let tag = combination.hashTag.map(Array.init)
            func keys(_ prefix: String) -> [String] {
                (0..<combination.keyCount).map { number in
                    // Some with a tag, some with an empty or an open one, which are none.
                    switch (tag, number % 4) {
                    case (let tag?, 0): "\(prefix):\(tag[0])\(number % 50)\(tag[1]):\(number)"
                    case (let tag?, 1): "\(prefix):\(tag[0])\(tag[1]):\(number)"
                    case (let tag?, 2): "\(prefix):\(tag[0])\(number)"
                    default: "\(prefix):\(number)"
                    }
                }
            }
            let agent = try await fleet.agents[0].client()
            let ways = [("twemproxy", twemproxy, agent), ("agent", agent, twemproxy)]
            for (writerName, writer, reader) in ways {
                let keys = keys("\(name):by-\(writerName)")
                var found = 0
                for start in stride(from: 0, to: keys.count, by: 200) {
                    let part = keys[start..<min(start + 200, keys.count)]
                    let written = try await writer.pipeline(part.map { ["SET", $0, "value of \($0)"] })
                    #expect(written.allSatisfy { $0 == .ok })
                    let read = try await reader.pipeline(part.map { ["GET", $0] })
                    found += zip(part, read).count { $1 == .text("value of \($0)") }
                }
                #expect(found == keys.count, "written by \(writerName)")
                if combination.keyCount >= 10_000 {
                    figure("\(found) of \(keys.count) keys written through \(writerName) found by the other")
                }
            }
            // They were spread, or nothing would have been shown.
            for cache in fleet.caches {
                #expect(try #require(try await cache.client().command("DBSIZE").integer) > 0)
            }
            await nutcracker.stop()
        }
    }
}
