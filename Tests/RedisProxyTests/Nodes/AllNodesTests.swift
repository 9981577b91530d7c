import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Commands that concern all nodes.
    @Suite struct AllNodes {
        /// Nodes of its own: others' keys would be counted, and its own flushes would empty theirs.
        static func with(
            _ count: Int = 3, configure: (inout ProxyConfiguration) -> Void = { _ in },
            _ body: (Rig, [RedisServer]) async throws -> Void
        ) async throws {
            let nodes = try await Rig.startNodes(count)
            try await Rig.with(nodes: nodes, configure: configure) { try await body($0, nodes) }
            for node in nodes { await node.stop() }
        }

        static func fill(_ client: RedisTestClient, _ count: Int, _ prefix: String = "k") async throws -> Set<String> {
            let keys = (0..<count).map { "\(prefix):\($0)" }
            #expect(try await client.command(["MSET"] + keys.flatMap { [$0, "v\($0)"] }) == .ok)
            return Set(keys)
        }

        /// - Parameter between: called after each step with its number.
        static func scan(
            _ client: RedisTestClient, _ options: String = "COUNT 7", between: (Int) async throws -> Void = { _ in }
        ) async throws -> [String] {
            var found: [String] = []
            var cursor = "0"
            var steps = 0
            repeat {
                let parts = try #require(try await client.line("SCAN \(cursor) \(options)").elements)
                cursor = try #require(parts[0].string)
                found += try #require(parts[1].elements).compactMap(\.string)
                steps += 1
                try await between(steps)
            } while cursor != "0" && steps < 10_000
            return found
        }

        @Test(arguments: [2, 3])
        func theyAnswerForAllNodes(_ version: Int) async throws {
            try await Self.with { rig, nodes in
                let client = try await rig.client()
                try await client.command("HELLO", "\(version)")
                #expect(try await client.line("DBSIZE") == .integer(0))
                #expect(try await client.line("RANDOMKEY").isNull)
                #expect(try await client.line("KEYS *") == .array([]))
                #expect(try await Self.scan(client) == [])
                let keys = Set((0..<3).flatMap { rig.keys(on: $0, "k", count: 100) })
                try await client.command(["MSET"] + keys.flatMap { [$0, "v"] })
                try await client.command("RPUSH", "list", "a")
                #expect(try await client.line("DBSIZE") == .integer(301))
                #expect(Set(try #require(try await client.line("KEYS k:*").elements).compactMap(\.string)) == keys)
                #expect(try await client.line("KEYS k:*").elements?.count == 300)
                #expect(try await client.line("KEYS nothing*") == .array([]))
                #expect(try await client.line("KEYS") == .error("ERR wrong number of arguments for 'keys' command"))
                for options in ["COUNT 7", "", "COUNT 1000", "COUNT 20 TYPE string"] {
                    let found = try await Self.scan(client, options).filter { $0 != "list" }
                    #expect(Set(found) == keys && found.count == 300, "\(options): \(found.count)")
                }
                #expect(try await Self.scan(client, "TYPE list") == ["list"])
                #expect(
                    Set(try await Self.scan(client, "MATCH k:1?"))
                        == keys.filter { $0.hasPrefix("k:1") && $0.count == 4 })
                var drawn: Set<String> = []
                for _ in 0..<300 { drawn.insert(try #require(try await client.line("RANDOMKEY").string)) }
                #expect(drawn.isSubset(of: keys.union(["list"])) && drawn.count > 120)
                #expect(Set(drawn.map(rig.home)) == [0, 1, 2])
                // In order with what the client asks before and after.
                let replies = try await client.lines([
                    "SET k:0 x", "DBSIZE", "FLUSHALL", "GET k:0", "SET one 1", "DBSIZE",
                ])
                #expect(
                    replies.map(\.description) == [
                        "+OK", "301", "+OK", version == 2 ? "null($-1)" : "null", "+OK", "1",
                    ])
                for how in ["", " ASYNC", " SYNC"] {
                    _ = try await Self.fill(client, 50)
                    #expect(try await client.line("FLUSHDB\(how)") == .ok)
                    #expect(try await client.line("DBSIZE") == .integer(0))
                }
                await client.close()
            }
        }

        @Test func mistakesAreAnsweredAsByRedis() async throws {
            try await Rig.with { rig in
                let reference = try await SharedNodes.reference().client()
                let client = try await rig.client()
                for line in [
                    "SCAN x", "SCAN 1x", "SCAN 18446744073709551616", "SCAN 0 COUNT", "SCAN 0 COUNT 0",
                    "SCAN 0 COUNT x",
                    "SCAN 0 NOSUCH 1", "SCAN 0 MATCH", "SCAN", "KEYS", "KEYS a b", "DBSIZE x", "RANDOMKEY x",
                    "FLUSHALL NOSUCH", "FLUSHDB SYNC x", "SCRIPT LOAD", "SCRIPT NOSUCH", "SCRIPT FLUSH NOSUCH",
                    "FUNCTION LOAD rubbish", "FUNCTION DELETE nosuch", "FUNCTION LIST NOSUCH", "PUBLISH c", "WAIT x 0",
                    "WAIT 0 -1", "WAIT 1", "PUBSUB NOSUCH", "PUBSUB", "OBJECT HELP", "SCRIPT HELP", "PUBSUB HELP",
                    "MEMORY HELP", "FUNCTION HELP", "SCRIPT KILL", "FUNCTION KILL", "COMMAND GETKEYS GET a",
                    "COMMAND GETKEYS NOSUCH a", "COMMAND NOSUCH",
                ] {
                    #expect(try await client.line(line) == reference.line(line), "\(line)")
                }
                await reference.close()
                await client.close()
            }
        }

        /// A key that is there all the time and whose home stays is found, whatever comes and goes.
        @Test func aScanBearsChangesOfTheTopology() async throws {
            var random = SeededGenerator(printing: "scan")
            try await Self.with(4) { rig, nodes in
                let topologies = try [[0, 1, 2, 3], [0, 1, 2], [1, 2, 3], [2, 1, 0], [3, 0, 1, 2]].map { members in
                    try Rig.topology(members.map { nodes[$0] })
                }
                let client = try await rig.client()
                try await rig.apply(.observe)
                let keys = try await Self.fill(client, 400)
                for _ in 0..<10 {
                    try await rig.apply(.observe)
                    var lasting = keys
                    let found = try await Self.scan(client, "COUNT 10") { step in
                        guard Int.random(in: 0..<6, using: &random) == 0 else { return }
                        let next = topologies.randomElement(using: &random)!
                        try await rig.apply(.observe, topology: next)
                        lasting = lasting.filter { key in
                            let home = Array(key.utf8).withUnsafeBytes { next.nodes[next.placement!.home($0)] }
                            return home.port == nodes[rig.home(key)].port
                        }
                    }
                    #expect(lasting.subtracting(found).isEmpty)
                    #expect(!lasting.isEmpty)
                }
                await client.close()
            }
        }

        /// Neither copies of hot keys nor what an earlier topology left behind are keys of the app.
        @Test func onlyKeysOfTheAppAreListed() async throws {
            try await Self.with { rig, nodes in
                let client = try await rig.client()
                let key = rig.key(on: 0, "hot")
                try await client.command("SET", key, "v")
                for copy in 1...2 {
                    let name = CopyCodec.name(key: Array(key.utf8), copy: copy)
                    try await rig.direct(copy, "SET", String(decoding: name, as: UTF8.self), "vv")
                }
                try await rig.direct(1, "SET", rig.key(on: 2, "stray"), "left behind")
                #expect(try await client.line("KEYS *") == .array([.text(key)]))
                #expect(try await Self.scan(client) == [key])
                for _ in 0..<50 { #expect(try await client.line("RANDOMKEY") == .text(key)) }
                await client.close()
            }
        }

        @Test func aFlushIsSeenByTheNextReadOfEveryLoop() async throws {
            try await Self.with { rig, _ in
                let keys = (0..<3).map { rig.key(on: $0, "flush") }
                try await rig.apply(.mitigate, keys.map { hot($0, .both) })
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                for round in 0..<20 {
                    for key in keys {
                        try await clients[0].command("SET", key, "\(round)")
                        for client in clients {
                            for _ in 0..<3 { #expect(try await client.command("GET", key) == .text("\(round)")) }
                        }
                    }
                    #expect(try await clients[round % 2].line(round % 3 == 0 ? "FLUSHDB" : "FLUSHALL") == .ok)
                    for client in clients {
                        for key in keys { #expect(try await client.command("GET", key).isNull) }
                    }
                }
                #expect(try await rig.server.statistics().localHits > 0)
                for client in clients { await client.close() }
            }
        }

        @Test(arguments: [2, 3])
        func scriptsAndFunctionsAreOnEveryNode(_ version: Int) async throws {
            try await Self.with { rig, nodes in
                let client = try await rig.client()
                try await client.command("HELLO", "\(version)")
                let sha = try #require(
                    try await client.command("SCRIPT", "LOAD", "return redis.call('get',KEYS[1])").string)
                let keys = (0..<3).map { rig.key(on: $0, "script") }
                for key in keys {
                    try await client.command("SET", key, "v\(key)")
                    #expect(try await client.command("EVALSHA", sha, "1", key) == .text("v\(key)"))
                }
                #expect(try await client.line("SCRIPT EXISTS \(sha) nosuch") == .array([.integer(1), .integer(0)]))
                // Who asks whether it has to load a script wants to hear so when one node lacks it.
                try await rig.direct(1, "SCRIPT", "FLUSH")
                #expect(try await client.line("SCRIPT EXISTS \(sha)") == .array([.integer(0)]))
                #expect(try await client.line("SCRIPT FLUSH") == .ok)
                #expect(
                    try await client.command("EVALSHA", sha, "1", keys[0]).errorMessage?.hasPrefix("NOSCRIPT") == true)

                let library =
                    "#!lua name=lib\nredis.register_function('look', function(keys) return redis.call('get', keys[1]) end)"
                #expect(try await client.command("FUNCTION", "LOAD", library) == .text("lib"))
                for key in keys { #expect(try await client.command("FCALL", "look", "1", key) == .text("v\(key)")) }
                let listed = try #require(try await client.command("FUNCTION", "LIST").elements)
                #expect(listed.count == 1 && listed[0]["library_name"] == .text("lib"))
                #expect(
                    try await client.command("FUNCTION", "LOAD", library).errorMessage
                        == "ERR Library 'lib' already exists")
                let dump = try #require(try await client.command("FUNCTION", "DUMP").bytes)
                #expect(try await client.command("FUNCTION", "FLUSH") == .ok)
                #expect(try await client.command("FUNCTION", "LIST") == .array([]))
                #expect(try await client.command(bytes: [Array("FUNCTION".utf8), Array("RESTORE".utf8), dump]) == .ok)
                #expect(try await client.command("FCALL", "look", "1", keys[2]) == .text("v\(keys[2])"))
                try await rig.direct(2, "FUNCTION", "DELETE", "lib")
                #expect(try await client.command("FUNCTION", "LIST") == .array([]))
                await client.close()
            }
        }

        @Test func aFailingNodeIsNamedAndAPartIsNeverTheWhole() async throws {
            try await Self.with { rig, nodes in
                let client = try await rig.client()
                _ = try await Self.fill(client, 100)
                await nodes[1].kill()
                for line in [
                    "KEYS *", "DBSIZE", "RANDOMKEY", "FLUSHALL", "FLUSHDB", "SCRIPT LOAD x", "SCRIPT EXISTS x",
                    "FUNCTION LIST", "WAIT 0 10", "PUBSUB CHANNELS", "PSUBSCRIBE x*",
                ] {
                    let text = try await client.line(line).errorMessage ?? "no error"
                    #expect(text.hasPrefix("ERR cache node b (127.0.0.1:\(nodes[1].port))"), "\(line): \(text)")
                }
                var cursor = "0"
                var text: String?
                for _ in 0..<100 where text == nil {
                    let reply = try await client.line("SCAN \(cursor)")
                    text = reply.errorMessage
                    cursor = reply.elements?[0].string ?? cursor
                }
                #expect(text?.hasPrefix("ERR cache node b (127.0.0.1:\(nodes[1].port))") == true, "\(text ?? "none")")
                #expect(try await client.line("TIME").elements?.count == 2)
                #expect(try await client.line("PING") == .simple("PONG"))
                await client.close()
            }
        }

        @Test func whatIsGatheredIsBounded() async throws {
            try await Self.with(configure: { $0.outputBytesMax = 20_000 }) { rig, _ in
                let client = try await rig.client()
                _ = try await Self.fill(client, 600, String(repeating: "n", count: 50))
                let text = try await client.line("KEYS *").errorMessage
                #expect(
                    text
                        == "ERR 'keys' found more than 20000 bytes on the cache nodes together; ask for less, or use SCAN"
                )
                #expect(try await client.line("DBSIZE") == .integer(600))
                #expect(try await Self.scan(client, "COUNT 50").count == 600)
                await client.close()
            }
        }

        /// The fewest replicas that any node has brought up to date.
        @Test func waitIsForTheReplicasOfEveryNode() async throws {
            let quick = ["--repl-diskless-sync-delay", "0"]
            let nodes = [
                try await RedisServer.start(extraArguments: quick), try await RedisServer.start(extraArguments: quick),
            ]
            var replicas: [RedisServer] = []
            try await Rig.with(nodes: nodes) { rig in
                let client = try await rig.client()
                for node in nodes {
                    #expect(try await client.line("WAIT 1 1") == .integer(0))
                    let replica = try await RedisServer.start()
                    let direct = try await replica.client()
                    try await direct.command("REPLICAOF", "127.0.0.1", "\(node.port)")
                    try await eventually("the replica follows", timeout: .seconds(30)) {
                        try await direct.command("INFO", "replication").string?.contains("master_link_status:up")
                            == true
                    }
                    await direct.close()
                    replicas.append(replica)
                }
                try await client.command("MSET", rig.key(on: 0, "w"), "1", rig.key(on: 1, "w"), "1")
                #expect(try await client.line("WAIT 1 20000") == .integer(1))
                #expect(try await client.line("WAIT 2 1") == .integer(1))
                await client.close()
            }
            for server in replicas + nodes { await server.stop() }
        }

        @Test func whatConcernsOneServerIsRefusedWithTheReason() async throws {
            try await Rig.with { rig in
                let client = try await rig.client()
                let (key, elsewhere) = (rig.key(on: 0, "refuse"), rig.key(on: 1, "refuse"))
                for (line, reason) in [
                    ("MOVE \(key) 1", "database 0 alone"), ("SWAPDB 0 1", "database 0 alone"),
                    ("COPY \(key) \(key) DB 1", "database 0 alone"),
                    ("SORT \(key) BY w_*", "'w_*'"), ("SORT \(key) GET # GET o_*->f", "'o_*->f'"),
                    ("SORT_RO \(key) BY {\(elsewhere)}*", "'{\(elsewhere)}*'"),
                    ("SORT \(key) BY *{\(key)}", "hash tag"),
                ] {
                    let text = try await client.line(line).errorMessage ?? "no error"
                    #expect(text.hasPrefix("ERR '") && text.contains(reason), "\(line): \(text)")
                }
                #expect(try await client.line("SELECT 1").errorMessage?.contains("hkagent serves database 0") == true)
                try await client.lines(["DEL {s}l", "RPUSH {s}l 2 1", "SET {s}w1 9", "SET {s}w2 5", "SET {s}o1 x"])
                    .forEach {
                        #expect($0.errorMessage == nil)
                    }
                #expect(
                    try await client.line("SORT {s}l BY {s}w* GET # GET {s}o*")
                        == .array([.text("2"), .nullBulk, .text("1"), .text("x")]))
                #expect(try await client.line("SORT {s}l BY nosort GET #") == .array([.text("2"), .text("1")]))
                #expect(try await client.line("COPY {s}w1 {s}w3 DB 0") == .integer(1))
                await client.close()
            }
        }

        /// What follows a transaction may mean any node, also in one batch with it.
        @Test func aTransactionInAPipelineTiesNothingBehindIt() async throws {
            try await Rig.with { rig in
                let client = try await rig.client()
                let keys = (0..<3).map { rig.key(on: $0, "tied") }
                let replies = try await client.lines([
                    "MULTI", "SET \(keys[0]) 1", "EXEC", "SET \(keys[1]) 2", "MULTI", "INCR \(keys[2])",
                    "DEL \(keys[2])", "EXEC",
                    "MGET \(keys[0]) \(keys[1]) \(keys[2])", "WATCH \(keys[1])", "UNWATCH", "GET \(keys[0])",
                    "WATCH \(keys[0])", "MULTI", "GET \(keys[0])", "EXEC", "DBSIZE", "MULTI", "SET \(keys[2]) 1",
                    "DISCARD",
                    "DEL \(keys[0])",
                ])
                #expect(replies.allSatisfy { $0.errorMessage == nil }, "\(replies)")
                #expect(replies[8] == .array([.text("1"), .text("2"), .nullBulk]))
                #expect(replies[15] == .array([.text("1")]))
                await client.close()
            }
        }
    }
}
