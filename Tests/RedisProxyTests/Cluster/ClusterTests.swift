import Foundation
import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Before a Redis Cluster that nothing happens to.
    @Suite struct Cluster {
        @Test func slotsAreAsTheServerReckonsThem() async throws {
            let cluster = try await SharedCluster.cluster()
            let client = try await cluster.nodes[0].client()
            var random = SeededGenerator(printing: "cluster slots")
            var keys = ["", "{}", "{", "}", "a{", "a{}b{c}", "{a}b", "x{a}{b}", "{{a}}", "}{a}", "123456789"].map {
                Array($0.utf8)
            }
            for _ in 0..<2000 {
                keys.append(
                    (0..<Int.random(in: 0...24, using: &random)).map { _ in
                        Bool.random(using: &random)
                            ? UInt8.random(in: .min ... .max, using: &random)
                            : Array("{}ab".utf8).randomElement(using: &random)!
                    })
            }
            for key in keys {
                let expected = try await client.command(bytes: [Array("CLUSTER".utf8), Array("KEYSLOT".utf8), key])
                    .integer
                #expect(Int64(key.withUnsafeBytes { ClusterSlot.of($0) }) == expected, "\(key)")
            }
            await client.close()
        }

        @Test(arguments: [2, 3])
        func everyKeyIsFoundWhereItIs(_ version: Int) async throws {
            let cluster = try await SharedCluster.cluster()
            try await Rig.with(cluster: cluster, seeds: [4]) { rig in
                let client = try await rig.client()
                try await client.command("HELLO", "\(version)")
                // At once, while the slots are being asked for: in order all the same.
                let keys = (0..<300).map { "found\(version):\($0)" }
                #expect(try await client.pipeline(keys.map { ["SET", $0, $0] }).allSatisfy { $0 == .ok })
                #expect(try await client.pipeline(keys.map { ["GET", $0] }) == keys.map { .text($0) })
                try await rig.knowsSlots()
                for key in keys.prefix(40) {
                    let home = try await rig.server.route(Array(key.utf8))
                    #expect(home.slot == clusterSlot(key))
                    let owner = try await cluster.owner(ofSlot: clusterSlot(key))
                    #expect(home.home.port == owner.server.port && home.copies.isEmpty)
                }
                // The name of a seed stays; another node is called by its address.
                let names = try await rig.server.statistics().nodes.map(\.node)
                #expect(names.allSatisfy { $0.name == "127.0.0.1:\($0.port)" || $0.name.hasPrefix("seed") })
                await client.close()
            }
        }

        @Test func keysOfManySlotsAreSplitAndJoined() async throws {
            let cluster = try await SharedCluster.cluster()
            try await Rig.with(cluster: cluster) { rig in
                let client = try await rig.client()
                let keys = (0..<200).map { "split:\($0)" }
                #expect(try await client.command(["MSET"] + keys.flatMap { [$0, $0] }) == .ok)
                #expect(
                    try await client.command(["MGET"] + keys + ["split:none"])
                        == .array(keys.map { .text($0) } + [.nullBulk]))
                #expect(try await client.command(["EXISTS"] + keys + keys) == .integer(400))
                #expect(try await client.command(["TOUCH"] + keys) == .integer(200))
                #expect(try await client.command(["UNLINK"] + keys.prefix(50)) == .integer(50))
                #expect(try await client.command(["DEL"] + keys) == .integer(150))
                #expect(try await client.command("SUNION", "{a}1", "{a}2") == .array([]))
                let refused = try await client.command("SUNION", "ka", "kb").errorMessage ?? ""
                #expect(
                    refused.contains("'ka' is in slot \(clusterSlot("ka"))")
                        && refused.contains("'kb' in slot \(clusterSlot("kb"))"))
                // One node, two slots.
                let owner = try await cluster.owner(ofSlot: clusterSlot("ka")).server
                let near = try await rig.key(ownedBy: owner, of: cluster, "near")
                #expect(try await client.command("RENAME", "ka", near).errorMessage?.contains("in slot") == true)
                await client.close()
            }
        }

        @Test func itLooksLikeASingleServer() async throws {
            let cluster = try await SharedCluster.cluster()
            try await Rig.with(cluster: cluster) { rig in
                let client = try await rig.client()
                for line in ["CLUSTER INFO", "CLUSTER SLOTS", "CLUSTER SHARDS", "READONLY", "READWRITE", "ASKING"] {
                    #expect(
                        try await client.line(line) == .error("ERR This instance has cluster support disabled"),
                        "\(line)")
                }
                let moves = try await client.line("MOVE {l}k 1").errorMessage ?? ""
                #expect(moves.contains("there is database 0 alone"), "\(moves)")
                for line in ["COPY {l}k {l}m DB 1", "SORT {l}k BY w*", "SORT {l}k GET v*"] {
                    let refusal = try await client.line(line).errorMessage ?? ""
                    #expect(refusal.lowercased().contains("in cluster mode"), "\(line): \(refusal)")
                }
                #expect(try await client.command("INFO").string?.contains("redis_mode:standalone") == true)
                #expect(try await client.command("HELLO")["mode"] == .text("standalone"))
                #expect(try await client.command("SELECT", "0") == .ok)
                #expect(try await client.command("SELECT", "1").errorMessage?.contains("database 0") == true)
                await client.close()
            }
        }

        /// A script may answer with the words of a redirection.
        @Test func aRedirectionToAStrangerIsNotFollowed() async throws {
            let cluster = try await SharedCluster.cluster()
            let stranger = try await SharedNodes.reference()
            let watching = try await stranger.client()
            func connections() async throws -> Int64? {
                try await watching.command("INFO", "stats").string?.split(whereSeparator: \.isNewline)
                    .first { $0.hasPrefix("total_connections_received:") }.flatMap { Int64($0.dropFirst(27)) }
            }
            let before = try await connections()
            try await Rig.with(cluster: cluster, configure: { $0.requestTimeoutMilliseconds = 300 }) { rig in
                try await rig.knowsSlots()
                let client = try await rig.client()
                for (word, slot) in [("MOVED", clusterSlot("{st}")), ("ASK", clusterSlot("{st}")), ("MOVED", 1)] {
                    let text = "\(word) \(slot) 127.0.0.1:\(stranger.port)"
                    let reply = try await client.command("EVAL", "return redis.error_reply(ARGV[1])", "1", "{st}", text)
                    #expect(reply == .error(text))
                }
                let text = "MOVED \(clusterSlot("{st}")) nowhere:x"
                #expect(
                    try await client.command("EVAL", "return redis.error_reply(ARGV[1])", "1", "{st}", text)
                        == .error(text))
                #expect(try await client.command("SET", "{st}", "v") == .ok)
                await client.close()
            }
            #expect(try await connections() == before)
            await watching.close()
        }

        @Test func transactionsScriptsAndBlockingCommandsWorkInOneSlot() async throws {
            let cluster = try await SharedCluster.cluster()
            try await Rig.with(cluster: cluster) { rig in
                let client = try await rig.client()
                try await client.command("DEL", "{tx}a", "{tx}b", "{tx}l", "{tx}m", "{tx}x")
                #expect(
                    try await client.lines(["WATCH {tx}a", "GET {tx}a", "MULTI", "SET {tx}a 1", "INCR {tx}a", "EXEC"])
                        == [.ok, .nullBulk, .ok, .simple("QUEUED"), .simple("QUEUED"), .array([.ok, .integer(2)])])
                let apart = try await client.lines(["MULTI", "SET {tx}a 9", "SET other 9", "EXEC", "GET {tx}a"])
                #expect(apart[2].errorMessage?.contains("in slot") == true)
                #expect(apart[3].errorMessage?.hasPrefix("EXECABORT") == true && apart[4] == .text("2"))
                #expect(
                    try await client.command(
                        "EVAL", "return redis.call('get',KEYS[1])..redis.call('incr',KEYS[2])", "2", "{tx}a", "{tx}b")
                        == .text("21"))
                let waiter = try await rig.client()
                try await rig.begin(waiter, ["BLPOP", "{tx}l", "{tx}m", "0"])
                #expect(try await client.command("RPUSH", "{tx}m", "v") == .integer(1))
                #expect(try await waiter.receive() == .array([.text("{tx}m"), .text("v")]))
                #expect(try await waiter.command("XADD", "{tx}x", "1-1", "f", "v") == .text("1-1"))
                #expect(try await waiter.command("XREAD", "BLOCK", "5", "STREAMS", "{tx}x", "$").isNull)
                for each in [client, waiter] { await each.close() }
            }
        }

        @Test func hotKeysAreServedAndInvalidated() async throws {
            let cluster = try await SharedCluster.cluster()
            try await Rig.with(cluster: cluster) { rig in
                try await rig.knowsSlots()
                let keys = (0..<30).map { "chot:\($0)" }
                try await rig.apply(.mitigate, keys.map { hot($0, .both) })
                let writer = try await rig.client(onLoop: 0)
                let readers = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                for round in 0..<3 {
                    for key in keys {
                        #expect(try await writer.command("SET", key, "\(key)=\(round)") == .ok)
                        for reader in readers {
                            for _ in 0..<2 { #expect(try await reader.command("GET", key) == .text("\(key)=\(round)")) }
                        }
                    }
                    #expect(
                        try await writer.command(["MSET"] + keys.flatMap { [$0, "m\(round)"] }) == .ok)
                    #expect(
                        try await readers[1].command(["MGET"] + keys) == .array(keys.map { _ in .text("m\(round)") }))
                }
                let statistics = try await rig.server.statistics()
                #expect(statistics.localHits > 100)
                for each in readers + [writer] { await each.close() }
            }
        }

        @Test func theTopologyBecomesAClusterAndBack() async throws {
            let cluster = try await SharedCluster.cluster()
            let nodes = try await SharedNodes.nodes()
            try await Rig.with(nodes: nodes) { rig in
                let seeds = ProxyTopology(
                    clusterSeeds: [ProxyNode(name: "s", host: "127.0.0.1", port: cluster.nodes[1].port)])
                let client = try await rig.client()
                for round in 0..<3 {
                    #expect(try await client.command("SET", "back", "nodes\(round)") == .ok)
                    try await rig.apply(.mitigate, [], topology: seeds)
                    #expect(try await client.command("SET", "back", "cluster\(round)") == .ok)
                    #expect(try await client.command("GET", "back") == .text("cluster\(round)"))
                    try await rig.knowsSlots()
                    #expect(try await rig.server.route(Array("back".utf8)).slot == clusterSlot("back"))
                    // Other seeds of the same cluster.
                    let other = ProxyTopology(
                        clusterSeeds: [ProxyNode(name: "o", host: "127.0.0.1", port: cluster.nodes[5].port)])
                    try await rig.apply(.mitigate, [], topology: other)
                    #expect(try await client.command("GET", "back") == .text("cluster\(round)"))
                    try await rig.apply(.mitigate, [], topology: rig.topology)
                    #expect(try await client.command("GET", "back") == .text("nodes\(round)"))
                    #expect(try await rig.server.statistics().nodes.map(\.node.name) == ["a", "b", "c"])
                }
                await client.close()
            }
        }

        @Test func redisPyAndRedisCLIFindASingleServer() async throws {
            let cluster = try await SharedCluster.cluster()
            try await Rig.with(cluster: cluster) { rig in
                let script = """
                    import sys, threading, redis
                    r = redis.Redis(port=int(sys.argv[1]), decode_responses=True)
                    r.delete('{l}n', *['cp%d' % i for i in range(100)])
                    def bump(pipe):
                        value = int(pipe.get('{l}n') or 0)
                        pipe.multi()
                        pipe.set('{l}n', value + 1)
                    threads = [threading.Thread(target=lambda: [r.transaction(bump, '{l}n') for _ in range(25)]) for _ in range(4)]
                    [t.start() for t in threads]; [t.join() for t in threads]
                    assert r.get('{l}n') == '100', r.get('{l}n')
                    p = r.pipeline(transaction=False)
                    for i in range(100): p.set('cp%d' % i, i)
                    assert p.execute() == [True] * 100
                    assert r.mget(['cp%d' % i for i in range(100)]) == [str(i) for i in range(100)]
                    threading.Timer(0.1, lambda: redis.Redis(port=int(sys.argv[1])).rpush('cq', 'e')).start()
                    assert r.blpop('cq', timeout=10) == ('cq', 'e')
                    r.delete('cx'); r.xadd('cx', {'f': 'v'}); r.xgroup_create('cx', 'g', 0)
                    assert r.xreadgroup('g', 'c', {'cx': '>'}, block=10)[0][1][0][1] == {'f': 'v'}
                    print('all is well')
                    """
                let result = try await SpawnedProcess.run(try SystemTool.python(), ["-c", script, "\(rig.port)"])
                #expect(result.standardOutput.contains("all is well"), "\(result.standardError)")
                let lines = (0..<200).map { "SET cpipe:\($0) v\r\n" }.joined()
                let piped = try await SpawnedProcess.run(
                    try SystemTool.redisCLI(), ["-p", "\(rig.port)", "--pipe"], standardInput: Array(lines.utf8))
                #expect(piped.standardOutput.contains("errors: 0, replies: 200"), "\(piped)")
            }
        }
    }
}
