import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    @Suite struct Protocols {
        @Test func malformedInputLosesOnlyItsConnection() async throws {
            try await Rig.with { rig in
                let good = try await rig.client()
                let reference = try await SharedNodes.reference()
                let before = try await rig.server.statistics().protocolErrors
                let inputs = [
                    "*1\r\n:1\r\n", "*x\r\n", "*1\r\n$-1\r\n", "*2147483648\r\n", "GET \"\r\n", "PING\r\n*1\r\n$x\r\n",
                    String(repeating: "x", count: 70_000), "*1\r\n$\(String(repeating: "1", count: 70_000))",
                ]
                for input in inputs {
                    let client = try await rig.client()
                    try await client.send(raw: input)
                    let ours = try await client.receiveRawToEnd()
                    let other = try await reference.client()
                    try await other.send(raw: input)
                    #expect(try await ours == other.receiveRawToEnd(), "\(input.prefix(20))")
                    #expect(ours.starts(with: "-ERR Protocol error: ".utf8) || ours.starts(with: "+PONG".utf8))
                    await client.close()
                    await other.close()
                    #expect(try await good.command("PING") == .simple("PONG"))
                }
                #expect(try await rig.server.statistics().protocolErrors == before + UInt64(inputs.count))
                await good.close()
            }
        }

        /// Replies that are owed stand before the error.
        @Test func whatWasAskedBeforeTheErrorIsAnswered() async throws {
            try await Rig.with { rig in
                let client = try await rig.client()
                let keys = (0..<3).map { rig.key(on: $0, "owed") }
                try await client.send(
                    raw: keys.flatMap { encode(["SET", $0, "v"]) } + encode(["HK.SLOW", "20", "x"])
                        + Array("*1\r\nx\r\n".utf8))
                let all = String(decoding: try await client.receiveRawToEnd(), as: UTF8.self)
                #expect(all == "+OK\r\n+OK\r\n+OK\r\n$1\r\nx\r\n-ERR Protocol error: expected '$', got 'x'\r\n")
                await client.close()
            }
        }

        /// A web page can make a browser send this to a local port; Redis hangs up without carrying out what follows.
        @Test(arguments: ["POST / HTTP/1.1", "Host: 127.0.0.1:6380"])
        func aBrowserIsHungUpOn(_ line: String) async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 0, "browser")
                try await rig.direct(0, "DEL", key)
                let client = try await rig.client()
                try await client.send(raw: "\(line)\r\nSET \(key) stolen\r\nPING\r\n")
                let answer = try? await client.receiveRawToEnd()
                #expect(answer ?? [] == [])
                #expect(try await rig.direct(0, "GET", key).isNull)
                await client.close()
            }
        }

        @Test func inlineCommandsWork() async throws {
            try await Rig.with { rig in
                let client = try await rig.client()
                try await client.send(raw: "SET inline \"a b\"\r\n\r\nGET inline\r\n*0\r\nping\nMGET inline 'none'\r\n")
                #expect(try await client.receive() == .ok)
                #expect(try await client.receive() == .text("a b"))
                #expect(try await client.receive() == .simple("PONG"))
                #expect(try await client.receive() == .array([.text("a b"), .nullBulk]))
                await client.close()
            }
        }

        @Test func commandsMayArriveByteByByte() async throws {
            try await Rig.with { rig in
                let client = try await rig.client()
                for byte in encode(["SET", "drip", "v"]) + Array("GET drip\r\n".utf8)
                    + encode(["MGET", "drip", "x", "y"])
                {
                    try await client.send(raw: [byte])
                }
                #expect(try await client.receive() == .ok)
                #expect(try await client.receive() == .text("v"))
                #expect(try await client.receive().elements?.count == 3)
                await client.close()
            }
        }

        @Test func aHalfClosedClientGetsEveryReply() async throws {
            try await Rig.with { rig in
                let value = String(repeating: "v", count: 2000)
                let keys = (0..<3).map { rig.key(on: $0, "half") }
                let client = try await rig.client()
                try await client.command(["MSET"] + keys.flatMap { [$0, value] })
                // More than the kernel holds, so that the proxy must wait for the reader with commands still unread.
                let count = 15_000
                let request = (0..<count).flatMap { encode(["GET", keys[$0 % 3]]) }
                try await client.send(raw: request)
                try await client.finishWriting()
                let reply = Array("$2000\r\n\(value)\r\n".utf8)
                #expect(try await client.receiveRaw(count: count * reply.count).suffix(reply.count) == reply[...])
                #expect(try await client.receiveRaw().isEmpty)
                await client.close()
                // Half a command is no reason to wait.
                let other = try await rig.client()
                try await other.send(raw: "*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPI")
                try await other.finishWriting()
                #expect(try await other.receiveRawToEnd() == Array("+PONG\r\n".utf8))
                await other.close()
            }
        }

        @Test func aSlowReaderIsBounded() async throws {
            try await Rig.with(configure: {
                $0.pipelineDepthMax = 64
                $0.outputBytesMax = 256 << 10
            }) { rig in
                let client = try await rig.client(onLoop: 0)
                let other = try await rig.client(onLoop: 0)
                let key = rig.key(on: 0, "slow")
                let value = String(repeating: "s", count: 64 << 10)
                try await client.command("SET", key, value)
                let before = try await rig.calls("get", at: 0)
                let count = 800
                try await client.send(raw: (0..<count).flatMap { _ in encode(["GET", key]) })
                // The loop has come round many times by when these are answered.
                try await eventually("commands were sent on") { try await rig.calls("get", at: 0) > before }
                for _ in 0..<500 { #expect(try await other.command("STRLEN", key).integer == 64 << 10) }
                let seen = try await rig.calls("get", at: 0) - before
                // The kernel's buffers on both sides take some 10 MB of the 51.
                #expect(seen < 400, "\(seen) of \(count) replies wait for a client that does not read")
                let reply = Array("$65536\r\n\(value)\r\n".utf8)
                #expect(try await client.receiveRaw(count: count * reply.count).suffix(reply.count) == reply[...])
                #expect(try await client.command("PING") == .simple("PONG"))
                await client.close()
                await other.close()
            }
        }

        @Test func aPipelineOfAHundredThousandCommands() async throws {
            try await Rig.with { rig in
                let client = try await rig.client()
                let keys = (0..<3).map { rig.key(on: $0, "many") }
                try await client.command(["DEL"] + keys)
                let count = 100_000
                let increments = keys.map { encode(["INCR", $0]) }
                var request: [UInt8] = []
                for index in 0..<count { request += increments[index % 3] }
                try await client.send(raw: request)
                let expected = (0..<count).flatMap { Array(":\($0 / 3 + 1)\r\n".utf8) }
                #expect(try await client.receiveRaw(count: expected.count) == expected)
                await client.close()
            }
        }

        @Test func tooManyClientsAreToldSo() async throws {
            try await Rig.with(configure: { $0.clientsMax = 3 }) { rig in
                var clients: [RedisTestClient] = []
                for _ in 0..<3 {
                    clients.append(try await rig.client())
                    #expect(try await clients.last!.command("PING") == .simple("PONG"))
                }
                let refused = try await rig.client()
                #expect(try await refused.receiveRawToEnd() == Array("-ERR max number of clients reached\r\n".utf8))
                await refused.close()
                let statistics = try await rig.server.statistics()
                #expect(statistics.clientsRefused == 1)
                #expect(statistics.clientsConnected == 3)
                await clients.removeLast().close()
                try await eventually("a place is free again") {
                    let next = try await rig.client()
                    defer { clients.append(next) }
                    return try await next.command("PING") == .simple("PONG")
                }
                for client in clients { await client.close() }
            }
        }

        /// The event loop finds both at once, the end of a client first and then the reply it waited for.
        @Test func aReplyForAClientThatHasJustVanishedHarmsNobody() async throws {
            let nodes = try await SharedNodes.nodes()
            let slow = try await FaultProxy.start(to: nodes[0])
            try await slow.delay(milliseconds: 40)
            try await Rig.with(nodes: nodes, ports: [slow.port, nodes[1].port, nodes[2].port], loops: 1) { rig in
                let key = rig.key(on: 0, "vanished")
                let good = try await rig.client()
                for isHot in [false, true] {
                    try await rig.apply(.mitigate, isHot ? [hot(key, .copies)] : [])
                    let client = try await rig.client()
                    try await rig.begin(client, ["GET", key], ["SET", key, "v"], ["MGET", key, "x", "y"])
                    let stalls = AgentStub.stalls.with { $0 }
                    try await good.send(["HK.STALL", "300"])
                    try await eventually("the loop is held up") { AgentStub.stalls.with { $0 } > stalls }
                    await client.reset()
                    #expect(try await good.receive() == .ok)
                    #expect(try await good.command("GET", key) == .text("v"))
                }
                await good.close()
            }
            await slow.stop()
        }

        /// Clients that vanish with commands under way, again and again, while the replies come in.
        @Test func clientsThatVanishHarmNobody() async throws {
            try await Rig.with { rig in
                let value = String(repeating: "v", count: 3000)
                let keys = (0..<6).map { "vanish:\($0)" }
                let good = try await rig.client()
                try await good.command(["MSET"] + keys.flatMap { [$0, value] })
                try await rig.apply(.mitigate, [hot(keys[0], .cache)])
                let burst =
                    (0..<150).flatMap { encode(["GET", keys[$0 % 6]]) } + encode(["MGET"] + keys)
                    + encode(["BLPOP", "vanish:list", "0"])
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for worker in 0..<8 {
                        group.addTask {
                            for round in 0..<25 {
                                let client = try await rig.client()
                                try await client.send(raw: burst)
                                if (round + worker) % 3 == 0 { _ = try await client.receiveRaw() }
                                if (round + worker) % 2 == 0 { await client.reset() } else { await client.close() }
                            }
                        }
                    }
                    for _ in 0..<300 {
                        let reply = try await good.command("GET", keys[1])
                        if reply != .text(value) {
                            throw TestSupportError(.malformedReply, "the good client got \(reply)")
                        }
                    }
                    try await group.waitForAll()
                }
                try await eventually("only the good client is left") {
                    try await rig.server.statistics().clientsConnected == 1
                }
                try await eventually("no command is under way") {
                    try await rig.server.statistics().nodes.allSatisfy { $0.inFlight == 0 }
                }
                #expect(try await good.command("GET", keys[1]) == .text(value))
                await good.close()
            }
        }
    }
}
