import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    @Suite struct Connection {
        @Test func helloChoosesTheProtocol() async throws {
            try await Rig.with { rig in
                let client = try await rig.client()
                #expect(try await client.command("HGETALL", "none") == .array([]))
                let hello = try await client.command("HELLO", "3", "SETNAME", "me")
                #expect(hello["proto"] == .integer(3))
                #expect(hello["server"] == .text("redis"))
                #expect(hello["version"]?.string?.hasPrefix("7.0.") == true)
                #expect(hello["id"]?.integer ?? 0 > 0)
                #expect(try await client.command("CLIENT", "GETNAME") == .text("me"))
                #expect(try await client.command("GET", "none") == .null)
                #expect(try await client.command("HGETALL", "none") == .map([]))
                #expect(try await client.command("HK.MAP") == .map([.init(.text("a"), .null)]))
                #expect(try await client.command("HELLO")["proto"] == .integer(3))
                #expect(try await client.command("HELLO", "2").elements?.count == 14)
                #expect(try await client.command("GET", "none") == .nullBulk)
                #expect(try await client.command("HK.MAP") == .array([.text("a"), .nullBulk]))
                // Each reply of a pipeline speaks the protocol its command was sent under.
                let keys = (0..<3).map { rig.key(on: $0, "hello") }
                let replies = try await client.pipeline([
                    ["HK.SLOW", "5", "x"], ["HK.MAP"], ["MGET"] + keys, ["HELLO", "3"], ["MGET"] + keys, ["HK.MAP"],
                ])
                #expect(replies[1] == .array([.text("a"), .nullBulk]))
                #expect(replies[2] == .array([.nullBulk, .nullBulk, .nullBulk]))
                #expect(replies[4] == .array([.null, .null, .null]))
                #expect(replies[5] == .map([.init(.text("a"), .null)]))
                await client.close()
            }
        }

        @Test func theClientsOwnCommandsAreAnsweredHere() async throws {
            try await Rig.with { rig in
                let first = try await rig.client()
                let second = try await rig.client()
                let ids = [
                    try await first.command("CLIENT", "ID").integer, try await second.command("CLIENT", "ID").integer,
                ]
                #expect(ids[0] != nil && ids[0] != ids[1])
                #expect(try await first.command("CLIENT", "SETNAME", "first") == .ok)
                #expect(try await second.command("CLIENT", "GETNAME").isNull)
                #expect(try await first.command("CLIENT", "INFO").string?.contains("name=first") == true)
                #expect(try await first.command("CLIENT", "LIST").string?.contains("id=\(ids[0]!)") == true)
                #expect(try await first.command("CLIENT", "SETINFO", "LIB-NAME", "x") == .ok)
                #expect(try await first.command("CLIENT", "KILL", "ID", "1").errorMessage?.contains("hkagent") == true)
                #expect(try await first.command("CLIENT", "REPLY", "OFF").errorMessage?.contains("hkagent") == true)
                #expect(try await first.command("SELECT", "0") == .ok)
                #expect(
                    try await first.command("SELECT", "1").errorMessage?.hasPrefix("ERR DB index is out of range")
                        == true)
                #expect(try await first.command("PING", "hello") == .text("hello"))
                #expect(try await first.command("ECHO", "hello") == .text("hello"))
                #expect(try await first.command("INFO").string?.contains("redis_version:7.0") == true)
                #expect(try await first.command("INFO", "server").string?.contains("loading:0") == true)
                #expect(try await first.command("RESET") == .simple("RESET"))
                #expect(try await first.command("CLIENT", "GETNAME").isNull)
                #expect(try await first.command("QUIT") == .ok)
                #expect(try await first.receiveRaw().isEmpty)
                await first.close()
                await second.close()
            }
        }

        @Test func commandDescribesWhatRedisDescribes() async throws {
            try await Rig.with { rig in
                let reference = try await SharedNodes.reference().client()
                let client = try await rig.client()
                #expect(try await client.command("COMMAND", "COUNT") == reference.command("COMMAND", "COUNT"))
                for name in [
                    "get", "set", "mget", "mset", "rename", "eval", "xread", "ping", "blpop", "lcs", "zunionstore",
                ] {
                    let ours = try await client.command("COMMAND", "INFO", name).elements?[0].elements
                    let theirs = try await reference.command("COMMAND", "INFO", name).elements?[0].elements
                    #expect(ours?.count == theirs?.count)
                    #expect(ours?[0] == theirs?[0] && ours?[1] == theirs?[1], "\(name)")
                    #expect(ours?[3] == theirs?[3], "\(name): first key")
                }
                #expect(try await client.command("COMMAND", "INFO", "nosuch").elements?[0].isNull == true)
                #expect(
                    try await client.command("COMMAND").elements?.count
                        == reference.command("COMMAND", "COUNT").integer.map(Int.init))
                #expect(
                    try await client.command("COMMAND", "LIST").elements?.count
                        == reference.command("COMMAND", "LIST").elements?.count)
                #expect(try await client.command("COMMAND", "DOCS") == .array([]))
                await reference.close()
                await client.close()
            }
        }

        @Test func appsHearOfChangesOfTheHotSet() async throws {
            try await Rig.with { rig in
                let old = try await rig.client(onLoop: 0)
                let new = try await rig.client(onLoop: 1, version: 3)
                let acknowledged: [RedisTestValue] = [.text("subscribe"), .text("__hotkeys__"), .integer(1)]
                #expect(try await old.command("SUBSCRIBE", "__hotkeys__") == .array(acknowledged))
                try await new.send(["SUBSCRIBE", "__hotkeys__"])
                #expect(try await new.receive() == .push(acknowledged))
                // RESP2 allows little more in this state, RESP3 everything.
                #expect(
                    try await old.command("GET", "k").errorMessage?.hasPrefix(
                        "ERR Can't execute 'get': only (P|S)SUBSCRIBE") == true)
                #expect(try await old.command("PING") == .array([.text("pong"), .text("")]))
                #expect(try await new.command("PING") == .simple("PONG"))
                #expect(try await new.command("GET", "none") == .null)

                let message = [UInt8]("{\"key\":\"k\"}".utf8)
                rig.server.publish(message)
                let parts: [RedisTestValue] = [.text("message"), .text("__hotkeys__"), .bulk(message)]
                #expect(try await old.receive() == .array(parts))
                #expect(try await new.nextPush() == .push(parts))

                #expect(
                    try await old.command("UNSUBSCRIBE")
                        == .array([.text("unsubscribe"), .text("__hotkeys__"), .integer(0)]))
                #expect(try await old.command("UNSUBSCRIBE") == .array([.text("unsubscribe"), .nullBulk, .integer(0)]))
                #expect(
                    try await old.command("SUBSCRIBE", "other")
                        == .array([.text("subscribe"), .text("other"), .integer(1)]))
                #expect(try await old.command("UNSUBSCRIBE").elements?.last == .integer(0))
                rig.server.publish(message)
                #expect(try await new.nextPush() == .push(parts))
                #expect(try await old.command("PING") == .simple("PONG"))
                await old.close()
                await new.close()
            }
        }

        /// A subscriber that does not read must not make the agent keep every message for it.
        @Test func aSubscriberThatDoesNotReadIsLetGo() async throws {
            try await Rig.with(configure: { $0.outputBytesMax = 1 << 20 }) { rig in
                let deaf = try await rig.client()
                let good = try await rig.client()
                for each in [deaf, good] { try await each.command("SUBSCRIBE", "__hotkeys__") }
                // Far more than the kernel's buffers take.
                let message = [UInt8](repeating: 7, count: 256 << 10)
                for _ in 0..<100 {
                    rig.server.publish(message)
                    #expect(try await good.receive().elements?.last?.bytes?.count == message.count)
                }
                try await eventually("the proxy has let the deaf one go", timeout: .seconds(5)) {
                    try await rig.server.statistics().clientsConnected == 1
                }
                await deaf.close()
                await good.close()
            }
        }

        @Test func theAgentsCommandsReachTheAgent() async throws {
            try await Rig.with { rig in
                let client = try await rig.client()
                #expect(try await client.command("hk.echo", "a", "B") == .array([.text("a"), .text("B")]))
                #expect(try await client.command("HK.FAIL") == .error("ERR no such command"))
                try await rig.apply(.observe)
                #expect(try await client.command("HK.RECORD", "recorded") == .ok)
                #expect(try await client.command("HK.RECORD", "recorded", "5", "2") == .ok)
                #expect(try await rig.counts("recorded") == .init(reads: 6, writes: 2))
                for wrong in [
                    ["HK.RECORD"], ["HK.RECORD", "k", "x"], ["HK.RECORD", "k", "-1"],
                    ["HK.RECORD", "k", "1", "2", "3"],
                ] {
                    #expect(try await client.command(wrong).errorMessage?.hasPrefix("ERR ") == true, "\(wrong)")
                }
                await client.close()
            }
        }

        @Test func thePeerListenerServesTheAgentsCommandsAlone() async throws {
            try await Rig.with { rig in
                guard
                    case .tcp(_, let port) = try await rig.server.listen(
                        on: .tcp(host: "127.0.0.1", port: 0), role: .peer)
                else { return }
                let client = try await RedisTestClient.connect(port: port)
                #expect(try await client.command("HK.ECHO", "a") == .array([.text("a")]))
                #expect(try await client.command("PING") == .simple("PONG"))
                #expect(try await client.command("HELLO", "3")["proto"] == .integer(3))
                for command in [
                    ["GET", "k"], ["MGET", "k"], ["SET", "k", "v"], ["BLPOP", "k", "0"], ["OBJECT", "ENCODING", "k"],
                ] {
                    #expect(
                        try await client.command(command).errorMessage?.contains("peer listener") == true, "\(command)")
                }
                await client.close()
            }
        }

        @Test func listensOnUnixSocketsAndSaysWhyItCannotListen() async throws {
            try await Rig.with { rig in
                let directory = try TemporaryDirectory(prefix: "hotkey-listen")
                let path = directory.file("agent.sock")
                _ = try await rig.server.listen(on: .unixSocket(path: path), role: .app)
                let client = try await RedisTestClient.connect(unixPath: path)
                #expect(try await client.command("SET", "unix", "v") == .ok)
                #expect(try await client.command("CLIENT", "INFO").string?.contains("addr=unix") == true)
                await client.close()
                let error = await #expect(throws: RedisProxyError.self) {
                    try await rig.server.listen(on: .tcp(host: "127.0.0.1", port: rig.port), role: .app)
                }
                #expect(error?.code == .cannotListen)
                #expect(error?.message.contains("127.0.0.1:\(rig.port)") == true)
            }
        }

        @Test func aProxyThatWasShutDownSaysSo() async throws {
            try await Rig.with { rig in
                await rig.server.shutDown()
                let error = await #expect(throws: RedisProxyError.self) { try await rig.apply(.observe) }
                #expect(error?.code == .stopped)
                await #expect(throws: RedisProxyError.self) { try await rig.server.route(Array("k".utf8)) }
            }
        }
    }
}
