import Foundation
import HotKeyTestSupport
import Testing

/// hkctl scan against real cache nodes.
@Suite struct ScanTests {
    private func heated(_ server: RedisServer, _ reads: (key: String, count: Int)...) async throws {
        let client = try await server.client()
        _ = try await client.pipeline((0..<200).map { ["SET", "cold\($0)", "v"] })
        for (key, count) in reads {
            _ = try await client.command("SET", key, "v")
            _ = try await client.pipeline(Array(repeating: ["GET", key], count: count))
        }
        await client.close()
    }

    @Test func hotKeysOfEveryNodeAreShownAndPublished() async throws {
        let hkctl = try await HKCtl()
        try await RedisServer.start(extraArguments: ["--maxmemory-policy", "allkeys-lfu"]).use { first in
            try await RedisServer.start(
                extraArguments: ["--maxmemory-policy", "volatile-lfu", "--lfu-log-factor", "0"]
            ).use { second in
                try await hkctl.done("init", "--nodes", "a=127.0.0.1:\(first.port),b=127.0.0.1:\(second.port)")
                try await heated(first, ("item:42", 9_000), ("item:7", 2_000))
                try await heated(second, ("only-counted", 100))
                let outcome = try await hkctl.run("scan", "--top", "3", "--publish", "--progress", "--expires", "1h")
                #expect(outcome.status == 0, "\(outcome)")
                let lines = outcome.standardOutput.split(separator: "\n").map(String.init)
                #expect(lines[0].hasPrefix("KEY") && lines[0].hasSuffix("COUNTER  ACCESSES/S    ±"), "\(outcome)")
                #expect(
                    lines[1].hasPrefix("only-counted") && lines[2].hasPrefix("item:42") && lines[3].hasPrefix("item:7"))
                // Without a factor a counter is no rate.
                #expect(lines[1].hasSuffix(" -    -"))
                #expect(
                    lines.contains(
                        "a (127.0.0.1:\(first.port)): 202 keys, allkeys-lfu, lfu-log-factor 10, lfu-decay-time 1"))
                #expect(lines.contains { $0.hasPrefix("b ") && $0.hasSuffix("which tell no rates") })
                #expect(
                    lines.last?.hasPrefix("Published 2 candidates in \(hkctl.root)/shop/sources/scan, until ") == true)
                #expect(outcome.standardError.contains("a: 202 of about 202 keys (100 %)"))
                let document = try await JSON(
                    Kazoo(hkctl: hkctl).run(#"print(zk.get(app + "/sources/scan")[0].decode())"#))
                #expect(document["grade"] == "estimate")
                #expect(document["candidates"]?.items.map { $0["key"] } == ["item:42", "item:7"])
                #expect(try await hkctl.json("doctor")["healthy"] == true)

                // Another scan takes the place of the one before.
                try await hkctl.done("scan", "--top", "2", "--publish")
                let later = try await JSON(
                    Kazoo(hkctl: hkctl).run(#"print(zk.get(app + "/sources/scan")[0].decode())"#))
                #expect(later["candidates"]?.items.map { $0["key"] } == ["item:42"])
            }
        }
    }

    @Test func nodesThatCannotBeScannedAreTold() async throws {
        var hkctl = try await HKCtl()
        // Nodes that are named need no ZooKeeper.
        hkctl.environment["HOTKEY_ZOOKEEPER"] = "127.0.0.1:1"
        let nobody = try FreePort.next()
        try await RedisServer.start(extraArguments: ["--maxmemory-policy", "noeviction"]).use { plain in
            try await RedisServer.start(extraArguments: ["--maxmemory-policy", "allkeys-lfu"]).use { counting in
                try await heated(counting, ("item:42", 1_000))
                let none = try await hkctl.run(
                    "scan", "--nodes", "a=127.0.0.1:\(plain.port),c=127.0.0.1:\(nobody)")
                #expect(none.status == 1)
                #expect(none.standardError.hasPrefix("Error: No node could be scanned.\n"))
                #expect(
                    none.standardError.contains(
                        "a (127.0.0.1:\(plain.port)) keeps no access counters: its maxmemory-policy is noeviction"))
                #expect(
                    none.standardError.contains(
                        "Set one of these on the node (CONFIG SET maxmemory-policy allkeys-lfu)"))
                #expect(none.standardError.contains("c (127.0.0.1:\(nobody)) could not be scanned: connection refused"))

                let some = try await hkctl.run(
                    "scan", "--output", "json", "--nodes", "a=127.0.0.1:\(plain.port),b=127.0.0.1:\(counting.port)")
                #expect(
                    some.status == 0 && some.standardError.hasPrefix("Warning: a (127.0.0.1:\(plain.port)) keeps no"))
                let report = try JSON(some.standardOutput)
                #expect(report["keys"]?[0]?["key"] == "item:42" && report["keys"]?[0]?["node"] == "b")
                #expect(report["keys"]?[0]?["isFull"] == false && report["published"] == nil)
                #expect(report["nodes"]?[0]?["policy"] == "noeviction" && report["nodes"]?[0]?["keysScanned"] == 0)
                #expect(report["nodes"]?[0]?["remedy"] != nil && report["nodes"]?[1]?["logFactor"] == 10)
            }
        }
        for wrong in [["--rate", "1"], ["--top", "0"], ["--nodes", "x"], ["--expires", "5"]] {
            #expect(try await hkctl.run(["scan"] + wrong).status == 2)
        }
    }

    @Test func theMastersOfAClusterAreScanned() async throws {
        let hkctl = try await HKCtl()
        try await RedisCluster.start(replicasEach: 0, extraArguments: ["--maxmemory-policy", "allkeys-lfu"]).use {
            cluster in
            let seed = "\(cluster.nodes[1].port)"
            for key in 0..<12 { try await cluster.command(["-c", "-p", seed, "set", "k\(key)", "v"]) }
            try await cluster.command(["-c", "-p", seed, "-r", "300", "get", "k7"])
            try await hkctl.done("init", "--nodes", "seed=127.0.0.1:\(seed)")
            let topology = #"{"schema":1,"kind":"cluster","nodes":[{"name":"seed","address":"127.0.0.1:\#(seed)"}]}"#
            try await hkctl.done("topology", "apply", "-", input: topology)
            let report = try await hkctl.json("scan", "--top", "12")
            #expect(report["keys"]?[0]?["key"] == "k7" && report["keys"]?.items.count == 12)
            let nodes = Set(report["nodes"]?.items.compactMap { $0["address"]?.text } ?? [])
            #expect(nodes == Set(cluster.nodes.map { "127.0.0.1:\($0.port)" }))
        }
    }

    private func write(_ text: String, to file: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: file))
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: file)
    }

    @Test func aNodeThatWantsALogin() async throws {
        var hkctl = try await HKCtl()
        hkctl.environment["HOTKEY_ZOOKEEPER"] = "127.0.0.1:1"
        let directory = try TemporaryDirectory(prefix: "hkctl-scan")
        let file = directory.file("logins")
        try await RedisServer.start(
            extraArguments: ["--maxmemory-policy", "allkeys-lfu", "--requirepass", "open sesame"]
        ).use { server in
            let nodes = "a=127.0.0.1:\(server.port)"
            let refused = try await hkctl.run("scan", "--nodes", nodes)
            #expect(refused.status == 1 && refused.standardError.contains("NOAUTH"))
            try write("default:open sesame\n", to: file)
            #expect(try await hkctl.done("scan", "--nodes", nodes, "--node-credentials-file", file).contains("0 keys"))
            try write("default:wrong\n", to: file)
            let wrong = try await hkctl.run("scan", "--nodes", nodes, "--node-credentials-file", file)
            #expect(wrong.status == 1 && wrong.standardError.contains("WRONGPASS"))
            #expect(!wrong.standardError.contains("wrong\n"))
        }
    }
}
