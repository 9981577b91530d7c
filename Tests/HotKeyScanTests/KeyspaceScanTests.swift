import HotKeyPeer
import HotKeyRegistry
import HotKeyTestSupport
import Testing

@testable import HotKeyScan

@Suite struct KeyspaceScanTests {
    private func withNode(_ arguments: [String], _ body: (RedisServer, ScanNode) async throws -> Void) async throws {
        try await RedisServer.start(extraArguments: arguments).use { server in
            try await body(server, ScanNode(name: "a", address: .tcp(host: "127.0.0.1", port: server.port)))
        }
    }

    private func scan(
        _ nodes: [ScanNode], rate: Int = 1_000_000, top: Int = 3,
        onProgress: @escaping @Sendable (ScanProgress) -> Void = { _ in }
    ) async throws -> ScanResult {
        var configuration = KeyspaceScan.Configuration()
        configuration.keysPerSecondMax = rate
        configuration.topMax = top
        // A busy machine is no node that does not answer.
        configuration.timeoutMilliseconds = 60_000
        return try await KeyspaceScan(configuration).run(nodes, onProgress: onProgress)
    }

    @Test func theKeysThatAreAskedForMostAreFound() async throws {
        try await withNode(["--maxmemory-policy", "allkeys-lfu"]) { server, node in
            let client = try await server.client()
            _ = try await client.pipeline((0..<2_000).map { ["SET", "k\($0)", "v"] })
            // Copies, however hot, are this system's own; a key of over 1 KiB cannot be published.
            let long = String(repeating: "x", count: 1_025)
            for key in ["__hkcopy:1:hot", long] { _ = try await client.command("SET", key, "v") }
            for (key, reads) in [
                ("k1", 9_000), ("k2", 3_000), ("k3", 1_000), ("__hkcopy:1:hot", 20_000), (long, 9_000),
            ] {
                _ = try await client.pipeline(Array(repeating: ["GET", key], count: reads))
            }
            let told = Guarded<[ScanProgress]>([])
            let result = try await scan([node]) { progress in told.with { $0.append(progress) } }
            #expect(result.keys.map { String(decoding: $0.key, as: UTF8.self) } == ["k1", "k2", "k3"])
            #expect(result.keys.allSatisfy { $0.node == "a" && $0.counter > 5 && $0.estimate != nil })
            #expect(result.nodes[0].policy == "allkeys-lfu" && result.nodes[0].settings == LFUSettings())
            #expect(result.nodes[0].problem == nil && result.nodes[0].keysScanned >= 2_002)
            #expect(
                told.with { $0.last }
                    == ScanProgress(node: "a", keysScanned: result.nodes[0].keysScanned, keysTotal: 2_002))
            // Looking raises nothing; a minute may have ended since, which takes one away.
            let counter = try #require(try await client.command("OBJECT", "FREQ", "k1").integer)
            #expect((result.keys[0].counter - 2...result.keys[0].counter).contains(Int(counter)))
            let document = result.document(expiresAt: Timestamp(millisecondsSince1970: 1_800_000_000_000))
            #expect(document.grade == .estimate && document.candidates.map(\.key) == ["k1", "k2", "k3"])
            try document.validate()
            await client.close()
        }
    }

    @Test func aScanKeepsToItsRate() async throws {
        try await withNode(["--maxmemory-policy", "volatile-lfu"]) { server, node in
            let client = try await server.client()
            _ = try await client.pipeline((0..<600).map { ["SET", "k\($0)", "v"] })
            let clock = ContinuousClock()
            var keys = 0
            let time = try await clock.measure { keys = try await scan([node], rate: 400).nodes[0].keysScanned }
            #expect(keys >= 600)
            // The last batch of 20 is not waited for.
            #expect(time >= .seconds(Double(keys - 40) / 400))
            await client.close()
        }
    }

    @Test func aNodeWithoutCountersSaysSo() async throws {
        try await withNode(["--maxmemory-policy", "noeviction"]) { server, node in
            let result = try await scan([node])
            let problem = try #require(result.nodes[0].problem)
            #expect(problem.code == .notLFU && !result.nodes[0].wasScanned && result.keys.isEmpty)
            #expect(problem.message.contains("its maxmemory-policy is noeviction"))
            #expect(problem.remedy.contains("CONFIG SET maxmemory-policy allkeys-lfu"))
        }
    }

    @Test func oneNodeThatCannotBeScannedDoesNotEndTheOthers() async throws {
        try await withNode(["--maxmemory-policy", "allkeys-lfu"]) { server, node in
            let client = try await server.client()
            _ = try await client.command("SET", "k", "v")
            let nobody = ScanNode(name: "b", address: .tcp(host: "127.0.0.1", port: try FreePort.next()))
            let result = try await scan([nobody, node])
            #expect(result.nodes.map(\.node.name) == ["b", "a"])
            #expect(result.nodes[0].problem?.code == .unreachable && result.nodes[1].problem == nil)
            #expect(result.keys.map(\.key) == [Array("k".utf8)])
            _ = try await client.command("CONFIG", "SET", "requirepass", "secret")
            let refused = try await scan([node])
            #expect(refused.nodes[0].problem?.code == .refused && !refused.nodes[0].wasScanned)
            await client.close()
        }
    }

    @Test func aNodeThatKeepsItsSettingsToItselfTellsCountersOnly() async throws {
        try await withNode(["--maxmemory-policy", "allkeys-lfu", "--rename-command", "CONFIG", ""]) { server, node in
            let client = try await server.client()
            _ = try await client.command("SET", "k", "v")
            let result = try await scan([node])
            #expect(result.nodes[0].policy == "allkeys-lfu" && result.nodes[0].settings == nil)
            #expect(result.keys.map(\.counter) == [5] && result.keys[0].estimate == nil)
            // A counter alone is no rate: nothing to publish.
            #expect(result.document(expiresAt: .now).candidates.isEmpty)
            await client.close()
        }
    }
}
