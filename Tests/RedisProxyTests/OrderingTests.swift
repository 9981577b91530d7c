import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    @Suite struct Ordering {
        /// Slow and fast nodes, local answers, the agent's, errors, split and blocking commands: whatever comes back first, the
        /// client sees the order of its commands.
        @Test func repliesKeepTheOrderOfCommands() async throws {
            let nodes = try await SharedNodes.nodes()
            let slow = try await FaultProxy.start(to: nodes[1])
            try await slow.delay(milliseconds: 3)
            try await Rig.with(nodes: nodes, ports: [nodes[0].port, slow.port, nodes[2].port]) { rig in
                var random = SeededGenerator(printing: "order")
                let hotKey = rig.key(on: 1, "orderhot")
                try await rig.apply(.mitigate, [hot(hotKey, .cache)])
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                for (number, client) in clients.enumerated() {
                    let keys = (0..<3).map { rig.key(on: $0, "order\(number)") }
                    try await client.command(["MSET"] + keys.flatMap { [$0, "v\($0)"] } + [hotKey, "hot"])
                    var commands: [[String]] = []
                    var expected: [RedisTestValue] = []
                    for index in 0..<600 {
                        let key = keys.randomElement(using: &random)!
                        let (command, reply): ([String], RedisTestValue) =
                            switch Int.random(in: 0..<12, using: &random) {
                            case 0: (["PING"], .simple("PONG"))
                            case 1: (["ECHO", "\(index)"], .text("\(index)"))
                            case 2: (["GET", key], .text("v\(key)"))
                            case 3: (["GET", hotKey], .text("hot"))
                            case 4: (["NOSUCH"], .error("ERR unknown command 'NOSUCH', with args beginning with: "))
                            case 5: (["GET"], .error("ERR wrong number of arguments for 'get' command"))
                            case 6: (["MGET"] + keys, .array(keys.map { .text("v\($0)") }))
                            case 7: (["HK.SLOW", "\(index % 4)", "\(index)"], .text("\(index)"))
                            case 8: (["EXISTS", "none", key], .integer(1))
                            case 9: (["GETRANGE", key, "0", "0"], .text("v"))
                            case 10 where index % 5 == 0: (["BLPOP", "nothing\(number)", "0.001"], .nullArray)
                            case 11: (["STRLEN", hotKey], .integer(3))
                            default: (["LPUSH", key, "x"], .error(Self.wrongType))
                            }
                        commands.append(command)
                        expected.append(reply)
                    }
                    let replies = try await client.pipeline(commands)
                    for (index, (reply, expected)) in zip(replies, expected).enumerated() where reply != expected {
                        Issue.record("seed \(random.seed): \(commands[index]) got \(reply), not \(expected)")
                        break
                    }
                    await client.close()
                }
            }
            await slow.stop()
        }

        /// Replies are sent together where they are there together; one that is late keeps none from the client that come before it.
        @Test func aLateReplyKeepsNoEarlierOne() async throws {
            try await Rig.with { rig in
                let client = try await rig.client()
                let key = rig.key(on: 0, "early")
                try await client.command(["SET", key, "early"])
                let words = [["GET", key], ["HK.SLOW", "600000", "late"]].map { $0.map { Array($0.utf8) } }
                try await client.send(raw: words.flatMap(RedisTestConnection.encode))
                #expect(try await client.receive() == .text("early"))
                await client.close()
            }
        }

        private static let wrongType = "WRONGTYPE Operation against a key holding the wrong kind of value"

        /// One client's pipelined commands take effect in their order, as they do at Redis, hot keys and connections of their own
        /// notwithstanding.
        @Test(arguments: [MitigationKind.cache, .both])
        func aPipelineReadsItsOwnWrites(_ kind: MitigationKind) async throws {
            try await Rig.with { rig in
                let keys = (0..<3).map { rig.key(on: $0, "own\(kind)") }
                try await rig.apply(.mitigate, keys.map { hot($0, kind, capMilliseconds: 60_000) })
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                for round in 0..<50 {
                    for (number, client) in clients.enumerated() {
                        let value = "\(round).\(number)"
                        let replies = try await client.pipeline(
                            keys.flatMap { [["GET", $0], ["SET", $0, value], ["GET", $0], ["STRLEN", $0]] }
                                + [["MSET"] + keys.flatMap { [$0, "m\(value)"] }, ["MGET"] + keys, ["MGET", keys[0]]])
                        for index in keys.indices {
                            #expect(replies[index * 4 + 2] == .text(value), "round \(round)")
                            #expect(replies[index * 4 + 3] == .integer(Int64(value.utf8.count)))
                        }
                        #expect(replies[13] == .array(keys.map { _ in .text("m\(value)") }), "round \(round)")
                        #expect(replies[14] == .array([.text("m\(value)")]), "round \(round)")
                    }
                }
                for client in clients { await client.close() }
            }
        }

        /// Blocking commands go over another connection: they must not overtake what the same client asked before.
        @Test func aBlockingCommandDoesNotOvertake() async throws {
            let nodes = try await SharedNodes.nodes()
            let slow = try await FaultProxy.start(to: nodes[0])
            try await Rig.with(nodes: nodes, ports: [slow.port, nodes[1].port, nodes[2].port]) { rig in
                let client = try await rig.client()
                let key = rig.key(on: 0, "overtake")
                try await client.command("RPUSH", key, "old")
                for round in 0..<20 {
                    let replies = try await client.pipeline([
                        ["DEL", key], ["RPUSH", key, "\(round)", "x"], ["BLPOP", key, "5"], ["LLEN", key],
                        ["DEL", "s\(key)"], ["XADD", key + "s", "\(round + 1)-1", "f", "v"],
                        ["XREAD", "STREAMS", key + "s", "\(round)-1"], ["PING"],
                    ])
                    #expect(replies[2] == .array([.text(key), .text("\(round)")]))
                    #expect(replies[3] == .integer(1))
                    #expect(replies[6].elements?.count == 1, "\(replies[6])")
                    #expect(replies[7] == .simple("PONG"))
                }
                await client.close()
            }
            await slow.stop()
        }

        @Test func aBlockedClientHoldsUpNobody() async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 0, "queue")
                try await rig.direct(0, "DEL", key)
                let blocked = try await rig.client(onLoop: 0)
                try await blocked.send(["BLPOP", key, "0"])
                try await blocked.send(["PING"])
                try await eventually("the node holds a blocked client") {
                    try await rig.direct(0, "INFO", "clients").string?.contains("blocked_clients:1\r\n") == true
                }
                for loop in 0..<2 {
                    let other = try await rig.client(onLoop: loop)
                    for node in 0..<3 {
                        #expect(try await other.command("SET", rig.key(on: node, "free"), "v") == .ok)
                    }
                    #expect(try await other.command("BLPOP", rig.key(on: 0, "empty"), "0.01").isNull)
                    await other.close()
                }
                let other = try await rig.client(onLoop: 0)
                #expect(try await other.command("RPUSH", key, "element") == .integer(1))
                #expect(try await blocked.receive() == .array([.text(key), .text("element")]))
                #expect(try await blocked.receive() == .simple("PONG"))
                #expect(try await blocked.command("GET", rig.key(on: 1, "free")) == .text("v"))
                await blocked.close()
                await other.close()
            }
        }

        /// What a client that went away waited for must stay for others: Redis drops its blocked command, too.
        @Test(arguments: [false, true])
        func anElementIsNotLostToAClientThatLeft(_ byReset: Bool) async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 2, "left\(byReset)")
                let client = try await rig.client()
                try await client.send(["BLPOP", key, "0"])
                func blockedClients() async throws -> String? {
                    try await rig.direct(2, "INFO", "clients").string?.split(whereSeparator: \.isNewline)
                        .first { $0.hasPrefix("blocked_clients") }.map(String.init)
                }
                try await eventually("the node holds a blocked client", value: blockedClients) {
                    $0 == "blocked_clients:1"
                }
                if byReset { await client.reset() } else { await client.close() }
                try await eventually("the node holds none", timeout: .seconds(5), value: blockedClients) {
                    $0 == "blocked_clients:0"
                }
                #expect(try await rig.direct(2, "RPUSH", key, "element") == .integer(1))
                #expect(try await rig.direct(2, "LRANGE", key, "0", "-1") == .array([.text("element")]))
            }
        }
    }
}
