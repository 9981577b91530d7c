import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Before one node alone: what a client carries with its connection, and what must hold for hot keys all the same.
    @Suite struct Transparency {
        // MARK: Hot keys

        /// However a value is changed through the agent, the next read through it sees the change.
        @Test(arguments: [
            "MULTI|SET k new|EXEC", "WATCH k|MULTI|GET k|SET k new|EXEC",
            "EVAL return(redis.call('set',KEYS[1],'new')) 1 k",
            "SELECT 1|SET k new|SWAPDB 0 1|SELECT 0", "SELECT 1|SET k new|COPY k k DB 0 REPLACE", "FLUSHALL", "FLUSHDB",
            "MULTI|FLUSHALL|EXEC", "CLIENT REPLY OFF|SET k new|CLIENT REPLY ON", "CLIENT REPLY SKIP|SET k new|PING",
            "CLIENT ID|SET k new", "CLIENT TRACKING ON NOLOOP|SET k new", "SUBSCRIBE c|SET k new",
            "SELECT 1|SET k new|MOVE k 0", "RESTORE k 0 DUMP REPLACE", "DEBUG SET-ACTIVE-EXPIRE 1|GETSET k new",
            "AUTH default x|SET k new", "FUNCTION LOAD REPLACE LIB|FCALL put 1 k new",
            "MULTI|EVAL LUA 1 k|DISCARD|GETDEL k",
            "RPUSH list new|MULTI|BLMOVE list k LEFT LEFT 0|DEL k|EXEC",
        ])
        func aWriteIsSeenByTheNextRead(_ script: String) async throws {
            let server = try await RedisServer.start(extraArguments: ["--enable-debug-command", "local"])
            try await Rig.with(nodes: [server]) { rig in
                try await rig.apply(.mitigate, [hot("k", .cache, capMilliseconds: 60_000)])
                let readers = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                let writer = try await rig.client(onLoop: 0, version: 3)
                let direct = try await server.client()
                for round in 0..<3 {
                    // Behind the agent's back, into a database of its own: nothing of it is invalidated.
                    try await writer.command("RESET")
                    try await writer.command("HELLO", "3")
                    try await writer.command("FLUSHALL")
                    try await writer.command("SET", "k", "old\(round)")
                    try await direct.command("SET", "dumped", "new")
                    let dump = try await direct.command("DUMP", "dumped").bytes ?? []
                    // MOVE needs room.
                    if script.contains("MOVE k") { try await writer.command("DEL", "k") }
                    for reader in readers {
                        _ = try await reader.command("GET", "k")
                        _ = try await reader.command("GET", "k")
                    }
                    for line in script.split(separator: "|") {
                        let words = line.split(separator: " ").map { word -> [UInt8] in
                            switch word {
                            case "DUMP": dump
                            case "LIB":
                                Array(
                                    "#!lua name=l\nredis.register_function('put',function(k,a) return redis.call('set',k[1],a[1]) end)"
                                        .utf8)
                            case "LUA": Array("return redis.call('set',KEYS[1],'new')".utf8)
                            default: Array(word.utf8)
                            }
                        }
                        if line.hasPrefix("CLIENT REPLY O") && line.hasSuffix("F") || line.hasSuffix("SKIP") {
                            try await writer.send(raw: RedisTestConnection.encode(words))
                        } else if script.contains("CLIENT REPLY"), line.hasPrefix("SET") {
                            try await writer.send(raw: RedisTestConnection.encode(words))
                        } else if line.hasPrefix("SUBSCRIBE") {
                            try await writer.send(raw: RedisTestConnection.encode(words))
                            _ = try await writer.receive()
                        } else {
                            let reply = try await writer.command(bytes: words)
                            if let error = reply.errorMessage { Issue.record("\(line): \(error)") }
                        }
                    }
                    for reader in readers {
                        #expect(try await reader.command("GET", "k") == direct.command("GET", "k"), "round \(round)")
                    }
                }
                for client in readers + [writer, direct] { await client.close() }
            }
            await server.stop()
        }

        @Test func anotherDatabaseIsNeverServedWithLocalValues() async throws {
            try await Self.withOneNode { rig, _ in
                try await rig.apply(.mitigate, [hot("k", .cache)])
                let client = try await rig.client()
                try await client.command("SET", "k", "zero")
                for _ in 0..<3 { #expect(try await client.command("GET", "k") == .text("zero")) }
                let hits = try await rig.server.statistics().localHits
                #expect(hits > 0)
                let counted = try await rig.counts("k").reads
                let replies = try await client.pipeline([
                    ["SELECT", "2"], ["GET", "k"], ["SET", "k", "two"], ["GET", "k"], ["MGET", "k"], ["SELECT", "0"],
                    ["GET", "k"], ["SELECT", "2"], ["GET", "k"], ["SELECT", "0"],
                ])
                #expect(replies[1].isNull)
                #expect(replies[3] == .text("two"))
                #expect(replies[4] == .array([.text("two")]))
                #expect(replies[6] == .text("zero"))
                #expect(replies[8] == .text("two"))
                // Only the read of database 0 was one of this hot key.
                #expect(try await rig.counts("k").reads == counted + 1)
                // Back on the shared connections, and at the local cache.
                for _ in 0..<3 { #expect(try await client.command("GET", "k") == .text("zero")) }
                #expect(try await rig.server.statistics().localHits > hits)
                await client.close()
            }
        }

        // MARK: Connections

        @Test func aConnectionIsGivenBackAndUsedAgain() async throws {
            try await Self.withOneNode { rig, server in
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 0)]
                for round in 0..<50 {
                    for (number, client) in clients.enumerated() {
                        try await client.command("CLIENT", "SETNAME", "client\(number)")
                        let replies = try await client.pipeline([
                            ["MULTI"], ["SET", "n\(number)", "\(round)"], ["CLIENT", "GETNAME"], ["EXEC"],
                            ["GET", "n\(number)"],
                        ])
                        #expect(replies[3] == .array([.ok, .text("client\(number)")]))
                        #expect(replies[4] == .text("\(round)"))
                        #expect(try await client.command("BLPOP", "none", "0.001").isNull)
                    }
                }
                let direct = try await server.client()
                let accepted = try await direct.command("INFO", "stats").string ?? ""
                let count = accepted.split(whereSeparator: \.isNewline).first {
                    $0.hasPrefix("total_connections_received:")
                }
                // The proxy's own, the tests' and a few: not two hundred.
                #expect(Int(count?.split(separator: ":")[1] ?? "") ?? 1000 < 20)
                for client in clients + [direct] { await client.close() }
            }
        }

        @Test func aLongTransactionWithLargeValuesGoesThrough() async throws {
            try await Self.withOneNode { rig, _ in
                let client = try await rig.client()
                let value = String(repeating: "v", count: 4096)
                let commands =
                    [["MULTI"]] + (0..<5000).map { ["APPEND", "k\($0 % 7)", value] } + [["EXEC"], ["STRLEN", "k0"]]
                let replies = try await client.pipeline(commands)
                #expect(replies[5001].elements?.count == 5000)
                #expect(replies[5002] == .integer(715 * 4096))
                await client.close()
            }
        }

        @Test func aTransactionThatLosesItsNodeEndsTheClient() async throws {
            let server = try await RedisServer.start()
            try await Rig.with(nodes: [server]) { rig in
                let client = try await rig.client()
                let other = try await rig.client()
                #expect(try await client.command("MULTI") == .ok)
                #expect(try await client.command("SET", "k", "v") == .simple("QUEUED"))
                #expect(try await other.command("BLPOP", "k", "0.001").isNull)
                await server.kill()
                // What comes behind must not be carried out outside of the transaction.
                #expect(try await client.receiveRaw().isEmpty)
                #expect(try await other.command("PING") == .simple("PONG"))
                await client.close()
                await other.close()
            }
        }

        @Test func aBlockingCommandOnANodeThatHangsIsTold() async throws {
            let server = try await RedisServer.start()
            try await Rig.with(
                nodes: [server],
                configure: {
                    $0.requestTimeoutMilliseconds = 300
                    $0.connectTimeoutMilliseconds = 300
                }
            ) { rig in
                let clients = [try await rig.client(), try await rig.client(), try await rig.client()]
                try await clients[0].send(["BLPOP", "k", "0"])
                try await clients[1].send(["BLPOP", "k", "1"])
                #expect(try await clients[2].command("MULTI") == .ok)
                try await Self.blocked(server, 2)
                server.suspend()
                try await clients[2].send(["SET", "k", "v"])
                for client in clients {
                    let reply = try await client.receive()
                    #expect(reply.errorMessage?.contains("did not answer in time") == true, "\(reply)")
                }
                server.resume()
                #expect(try await clients[2].receiveRaw().isEmpty)
                // They carried nothing.
                try await eventually("the node is used again") {
                    try await clients[0].command("SET", "again", "v") == .ok
                }
                for client in clients { await client.close() }
            }
            await server.stop()
        }

        @Test func aTopologyOfSeveralNodesEndsWhatIsCarried() async throws {
            let nodes = Array(try await SharedNodes.nodes()[0..<2])
            try await Rig.with(nodes: nodes) { rig in
                let client = try await rig.client()
                let free = try await rig.client()
                try await rig.apply(.observe, topology: try Rig.topology([nodes[0]]))
                #expect(try await client.command("SELECT", "1") == .ok)
                #expect(try await free.command("CONFIG", "GET", "port").elements?.count == 2)
                try await rig.apply(.observe)
                #expect(try await client.receiveRaw().isEmpty)
                #expect(try await free.command("CONFIG", "GET", "port").errorMessage != nil)
                #expect(try await free.command("PING") == .simple("PONG"))
                await client.close()
                await free.close()
            }
        }

        // MARK: Support

        static func withOneNode(
            _ arguments: [String] = [], _ body: (Rig, RedisServer) async throws -> Void
        ) async throws {
            let server = try await RedisServer.start(extraArguments: arguments)
            try await Rig.with(nodes: [server]) { rig in
                try await rig.apply(.observe)
                try await body(rig, server)
            }
            await server.stop()
        }

        static func blocked(_ server: RedisServer, _ count: Int) async throws {
            let direct = try await server.client()
            try await eventually("the node holds \(count) blocked clients") {
                try await direct.command("INFO", "clients").string?.contains("blocked_clients:\(count)\r\n") == true
            }
            await direct.close()
        }
    }
}
