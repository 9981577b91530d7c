import Foundation
import HotKeyMitigation
import HotKeyTestSupport
import RESP
import RedisProxy
import Testing

extension ProxyTests {
    /// Commands that concern the client's own connection, before one node.
    @Suite struct BoundClients {
        // MARK: Pub/sub

        @Test(arguments: [2, 3])
        func channelsOfTheNodeStandBesideTheAgents(_ version: Int) async throws {
            try await Transparency.withOneNode { rig, server in
                let client = try await rig.client(onLoop: 1, version: version)
                let publisher = try await rig.client()
                func announced(_ parts: RedisTestValue...) -> RedisTestValue {
                    version == 3 ? .push(parts) : .array(parts)
                }
                try await client.send(["SUBSCRIBE", "news", "__hotkeys__", "weather"])
                // The agent's own first, then the node's.
                for (number, name) in ["__hotkeys__", "news", "weather"].enumerated() {
                    #expect(
                        try await client.receive()
                            == announced(.text("subscribe"), .text(name), .integer(Int64(number + 1))))
                }
                try await client.send(["PSUBSCRIBE", "n*"])
                #expect(try await client.receive() == announced(.text("psubscribe"), .text("n*"), .integer(4)))
                try await client.send(["SSUBSCRIBE", "shard"])
                #expect(try await client.receive() == announced(.text("ssubscribe"), .text("shard"), .integer(1)))

                #expect(try await publisher.command("PUBLISH", "news", "hello") == .integer(2))
                #expect(try await client.receive() == announced(.text("message"), .text("news"), .text("hello")))
                #expect(
                    try await client.receive()
                        == announced(.text("pmessage"), .text("n*"), .text("news"), .text("hello")))
                #expect(try await publisher.command("SPUBLISH", "shard", "part") == .integer(1))
                #expect(try await client.receive() == announced(.text("smessage"), .text("shard"), .text("part")))
                rig.server.publish(Array("hot".utf8))
                #expect(try await client.receive() == announced(.text("message"), .text("__hotkeys__"), .text("hot")))
                #expect(
                    try await publisher.command("PUBSUB", "NUMSUB", "news") == .array([.text("news"), .integer(1)]))

                if version == 2 {
                    #expect(
                        try await client.command("GET", "k").errorMessage?.hasPrefix("ERR Can't execute 'get'") == true)
                    #expect(try await client.command("PING") == .array([.text("pong"), .text("")]))
                } else {
                    #expect(try await client.command("GET", "k") == .null)
                }
                try await client.send(["UNSUBSCRIBE"])
                #expect(
                    try await client.receive() == announced(.text("unsubscribe"), .text("__hotkeys__"), .integer(3)))
                _ = try await client.receive()
                guard case .push(let last) = try await client.receive().asPush, last.count == 3 else {
                    Issue.record("no acknowledgement")
                    return
                }
                #expect(last[2] == .integer(1))
                for (command, name) in [("PUNSUBSCRIBE", "n*"), ("SUNSUBSCRIBE", "shard")] {
                    try await client.send([command])
                    #expect(
                        try await client.receive()
                            == announced(.text(command.lowercased()), .text(name), .integer(0)))
                }
                #expect(try await client.command("SET", "k", "v") == .ok)
                #expect(try await publisher.command("PUBLISH", "news", "nobody") == .integer(0))
                await client.close()
                await publisher.close()
            }
        }

        /// RESP3 has a type of its own for messages, and they may stand inside the reply to a transaction.
        @Test func whatLooksLikeAMessageIsAReply() async throws {
            try await Transparency.withOneNode { rig, server in
                let client = try await rig.client(onLoop: 0, version: 3)
                let direct = try await server.client()
                try await direct.command("HELLO", "3")
                for each in [client, direct] {
                    try await each.send(["SUBSCRIBE", "self"])
                    _ = try await each.receive()
                }
                let lines = [
                    "RPUSH l message self x", "LRANGE l 0 -1", "MULTI", "ECHO message", "ECHO self", "ECHO x", "EXEC",
                    "DEL l",
                ]
                #expect(try await client.lines(lines) == direct.lines(lines))
                await direct.close()
                // The message to itself comes in the middle of the array of two.
                let transaction = ["MULTI", "PUBLISH self hello", "ECHO a", "EXEC", "ECHO b"]
                try await client.send(
                    raw: transaction.flatMap { encode($0.split(separator: " ").map(String.init)) })
                let message = ">3\r\n$7\r\nmessage\r\n$4\r\nself\r\n$5\r\nhello\r\n"
                let bytes = "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n\(message):1\r\n$1\r\na\r\n$1\r\nb\r\n"
                #expect(try await client.receiveRaw(count: bytes.utf8.count) == Array(bytes.utf8))
                await client.close()
            }
        }

        /// Back-pressure reaches the node, which does with such a client what it does without the agent.
        @Test func aSubscriberOfTheNodeThatDoesNotReadIsTheNodesMatter() async throws {
            try await Transparency.withOneNode(["--client-output-buffer-limit", "pubsub", "8mb", "0", "0"]) {
                rig, server in
                let deaf = try await rig.client()
                let good = try await rig.client()
                for each in [deaf, good] { try await each.command("SUBSCRIBE", "flood") }
                let publisher = try await server.client()
                let message = String(repeating: "m", count: 256 << 10)
                for _ in 0..<200 {
                    try await publisher.command("PUBLISH", "flood", message)
                    #expect(try await good.receive().elements?.last?.bytes?.count == message.utf8.count)
                }
                try await eventually("the node has let the deaf one go") {
                    let listening = try await publisher.command("CLIENT", "LIST", "TYPE", "pubsub").string ?? ""
                    return listening.split(separator: "\n").count == 1
                }
                // It hears so once it reads, after what the kernel held for it.
                #expect(try await deaf.receiveRawToEnd().count < 200 * message.utf8.count)
                try await eventually("nothing is left of it") {
                    try await rig.server.statistics().clientsConnected == 1
                }
                for client in [deaf, good, publisher] { await client.close() }
            }
        }

        // MARK: CLIENT and its kin

        @Test func aClientIsKnownToTheNodeByItsId() async throws {
            try await Transparency.withOneNode { rig, server in
                let client = try await rig.client()
                let direct = try await server.client()
                try await client.command("CLIENT", "SETNAME", "known")
                let id = try #require(try await client.command("CLIENT", "ID").integer)
                #expect(try await client.command("CLIENT", "INFO").string?.contains("id=\(id) ") == true)
                #expect(
                    try await direct.command("CLIENT", "LIST", "ID", "\(id)").string?.contains("name=known") == true)
                try await client.send(["BLPOP", "none", "0"])
                try await Transparency.blocked(server, 1)
                #expect(try await direct.command("CLIENT", "UNBLOCK", "\(id)", "ERROR") == .integer(1))
                #expect(
                    try await client.receive().errorMessage
                        == "UNBLOCKED client unblocked via CLIENT UNBLOCK")
                #expect(try await direct.command("CLIENT", "KILL", "ID", "\(id)") == .integer(1))
                #expect(try await client.receiveRaw().isEmpty)
                await client.close()
                await direct.close()
            }
        }

        @Test func repliesCanBeSwitchedOff() async throws {
            try await Transparency.withOneNode { rig, _ in
                let client = try await rig.client()
                try await client.send(
                    raw: ["SET k 1", "CLIENT REPLY OFF", "INCR k", "NOSUCH", "GET k", "CLIENT REPLY ON", "GET k"]
                        .flatMap { encode($0.split(separator: " ").map(String.init)) })
                #expect(try await client.receive() == .ok)
                #expect(try await client.receive() == .ok)
                #expect(try await client.receive() == .text("2"))
                try await client.send(
                    raw: ["CLIENT REPLY SKIP", "INCR k", "INCR k", "CLIENT REPLY OFF", "QUIT"]
                        .flatMap { encode($0.split(separator: " ").map(String.init)) })
                #expect(try await client.receive() == .integer(4))
                #expect(try await client.receiveRaw().isEmpty)
                await client.close()
            }
        }

        @Test func theNodeTracksWhatAClientReads() async throws {
            try await Transparency.withOneNode { rig, server in
                try await rig.apply(.mitigate, [hot("k", .cache)])
                let client = try await rig.client(onLoop: 0, version: 3)
                let direct = try await server.client()
                try await client.command("SET", "k", "v")
                #expect(try await client.command("CLIENT", "TRACKING", "ON") == .ok)
                #expect(try await client.command("GET", "k") == .text("v"))
                try await direct.command("SET", "k", "w")
                #expect(try await client.nextPush() == .push([.text("invalidate"), .array([.text("k")])]))
                #expect(try await client.command("GET", "k") == .text("w"))

                // RESP2: told to another connection.
                let listener = try await rig.client()
                let id = try #require(try await listener.command("CLIENT", "ID").integer)
                try await listener.command("SUBSCRIBE", "__redis__:invalidate")
                let reader = try await rig.client()
                #expect(try await reader.command("CLIENT", "TRACKING", "ON", "REDIRECT", "\(id)") == .ok)
                #expect(try await reader.command("GET", "k") == .text("w"))
                try await direct.command("SET", "k", "x")
                #expect(
                    try await listener.receive()
                        == .array([.text("message"), .text("__redis__:invalidate"), .array([.text("k")])]))
                for each in [client, direct, listener, reader] { await each.close() }
            }
        }

        @Test func aMonitorSeesTheNode() async throws {
            try await Transparency.withOneNode { rig, server in
                let monitor = try await rig.client()
                #expect(try await monitor.command("MONITOR") == .ok)
                let direct = try await server.client()
                try await direct.command("SET", "seen", "v")
                try await eventually("the command is seen") {
                    guard case .simple(let line) = try await monitor.receive() else { return false }
                    return line.hasSuffix("\"SET\" \"seen\" \"v\"")
                }
                try await monitor.send(["RESET"])
                try await eventually("RESET is answered") { try await monitor.receive() == .simple("RESET") }
                #expect(try await monitor.command("SET", "k", "v") == .ok)
                await monitor.close()
                await direct.close()
            }
        }

        @Test func usersOfTheNodeAreItsOwn() async throws {
            try await Transparency.withOneNode { rig, server in
                let direct = try await server.client()
                try await direct.command(
                    "ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read", "+acl|whoami", "+hello")
                let client = try await rig.client()
                #expect(
                    try await client.command("AUTH", "reader", "wrong").errorMessage?.hasPrefix("WRONGPASS") == true)
                #expect(try await client.command("SET", "k", "v") == .ok)
                #expect(try await client.command("AUTH", "reader", "secret") == .ok)
                #expect(try await client.command("ACL", "WHOAMI") == .text("reader"))
                #expect(try await client.command("GET", "k") == .text("v"))
                #expect(try await client.command("SET", "k", "w").errorMessage?.hasPrefix("NOPERM") == true)
                let other = try await rig.client()
                #expect(
                    try await other.command("HELLO", "3", "AUTH", "reader", "secret", "SETNAME", "me")["proto"]
                        == .integer(3))
                #expect(try await other.command("SET", "k", "w").errorMessage?.hasPrefix("NOPERM") == true)
                #expect(try await other.command("GET", "none") == .null)
                for each in [direct, client, other] { await each.close() }
            }
        }

        /// `WAIT` concerns writes that went over a shared connection before.
        @Test func waitCountsReplicasThatHaveTheWrite() async throws {
            try await Transparency.withOneNode(["--repl-diskless-sync-delay", "0"]) { rig, server in
                let replica = try await RedisServer.start(
                    extraArguments: ["--replicaof", "127.0.0.1 \(server.port)"])
                let direct = try await server.client()
                try await eventually("the replica follows") {
                    try await direct.command("INFO", "replication").string?.contains("state=online") == true
                }
                let client = try await rig.client()
                try await client.command("SET", "k", "v")
                #expect(try await client.command("WAIT", "1", "10000") == .integer(1))
                replica.suspend()
                try await client.command("SET", "k", "w")
                #expect(try await client.command("WAIT", "1", "50") == .integer(0))
                replica.resume()
                #expect(try await client.command("WAIT", "1", "10000") == .integer(1))
                await client.close()
                await direct.close()
                await replica.stop()
            }
        }

        // MARK: What ends a connection

        @Test func theNodesEndIsSeenAsDirectly() async throws {
            try await Transparency.withOneNode { rig, server in
                let client = try await rig.client()
                #expect(try await client.command("SAVE") == .ok)
                try await client.send(["SHUTDOWN", "NOSAVE"])
                #expect(try await client.receiveRaw().isEmpty)
                await client.close()
            }
        }

        /// Commands that random streams cannot hold, and what is refused.
        @Test(arguments: [2, 3])
        func whatIsNotRandomIsTheSameToo(_ version: Int) async throws {
            let reference = try await RedisServer.start(extraArguments: ["--enable-debug-command", "local"])
            try await Transparency.withOneNode(["--enable-debug-command", "local"]) { rig, server in
                let expected = try await reference.client()
                let client = try await rig.client()
                let debugs = [
                    "string", "integer", "double", "null", "array", "set", "map", "attrib", "verbatim", "true", "false",
                ]
                for each in [expected, client] { try await each.command("HELLO", "\(version)") }
                var commands = debugs.map { "DEBUG PROTOCOL \($0)" }
                if version == 3 { commands += ["DEBUG PROTOCOL bignum"] }
                commands += [
                    "DEBUG SLEEP 0", "DEBUG ERROR it-is", "DEBUG JMAP", "BGREWRITEAOF x", "CLIENT PAUSE 1",
                    "CLIENT PAUSE x",
                    "CONFIG RESETSTAT", "SLOWLOG RESET", "LATENCY RESET", "ACL SETUSER u on nopass", "AUTH u x",
                    "ACL DELUSER nobody",
                    "MULTI", "NOSUCH", "EXEC", "MIGRATE 127.0.0.1 1 none 0 100", "MEMORY PURGE", "REPLICAOF NO ONE",
                    "PFSELFTEST x", "FAILOVER ABORT", "QUIT now",
                ]
                for command in commands {
                    #expect(try await client.line(command) == expected.line(command), "\(command)")
                }
                let other = try await rig.client()
                for command in ["SYNC", "PSYNC ? -1", "REPLCONF ack 1", "SCRIPT DEBUG YES"] {
                    let text = try await other.line(command).errorMessage
                    #expect(text?.contains("does not work through hkagent: ") == true, "\(command): \(text ?? "-")")
                }
                // A refusal is a mistake of the transaction, as Redis has it.
                #expect(try await other.line("MULTI") == .ok)
                #expect(try await other.line("CLIENT REPLY OFF").errorMessage?.contains("hkagent") == true)
                #expect(try await other.line("EXEC").errorMessage?.hasPrefix("EXECABORT") == true)
                #expect(try await other.command("HK.ECHO", "a") == .array([.text("a")]))
                for each in [expected, client, other] { await each.close() }
            }
            await reference.stop()
        }
    }
}

extension RedisTestValue {
    /// RESP2 has arrays for pushes.
    fileprivate var asPush: RedisTestValue {
        if case .array(let parts) = self { .push(parts) } else { self }
    }
}
