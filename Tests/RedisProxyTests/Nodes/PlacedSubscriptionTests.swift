import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Pub/sub before several nodes: a channel lives where a key of its name would.
    @Suite struct PlacedSubscriptions {
        /// Acknowledgements of one command come together, whatever nodes they are from.
        @Test(arguments: [2, 3])
        func acknowledgementsCountAsOneServersDo(_ version: Int) async throws {
            try await AllNodes.with { rig, _ in
                let reference = try await RedisServer.start()
                let expected = try await reference.client()
                let client = try await rig.client()
                for each in [expected, client] { try await each.command("HELLO", "\(version)") }
                let c = (0..<3).map { rig.key(on: $0, "chan") }
                let steps: [(line: String, replies: Int)] = [
                    ("SUBSCRIBE \(c[0]) \(c[1]) \(c[0])", 3), ("PSUBSCRIBE chan* x", 2), ("SUBSCRIBE \(c[2])", 1),
                    ("SSUBSCRIBE \(c[0]) \(c[1])", 2), ("PING", 1), ("PING text", 1), ("GET k", 1),
                    ("OBJECT ENCODING k", 1),
                    ("NOSUCH", 1), ("GET", 1), ("OBJECT NOSUCH", 1), ("UNSUBSCRIBE \(c[0]) nosuch", 2),
                    ("PUNSUBSCRIBE x", 1),
                    ("SUNSUBSCRIBE \(c[1])", 1), ("SUNSUBSCRIBE", 1), ("SUNSUBSCRIBE", 1), ("UNSUBSCRIBE \(c[1])", 1),
                    ("UNSUBSCRIBE", 1), ("PUNSUBSCRIBE", 1), ("PUNSUBSCRIBE", 1), ("UNSUBSCRIBE", 1), ("GET k", 1),
                    ("SUBSCRIBE", 1), ("SUBSCRIBE \(c[0])", 1), ("RESET", 1), ("GET k", 1), ("PING", 1),
                ]
                for step in steps {
                    for each in [expected, client] {
                        try await each.send(step.line.split(separator: " ").map(String.init))
                    }
                    for _ in 0..<step.replies {
                        #expect(try await client.receive() == expected.receive(), "\(step.line)")
                    }
                }
                for each in [expected, client] { await each.close() }
                await reference.stop()
            }
        }

        @Test(arguments: [2, 3])
        func messagesOfAllNodesComeTogether(_ version: Int) async throws {
            try await AllNodes.with { rig, nodes in
                let client = try await rig.client()
                let publisher = try await rig.client()
                try await client.command("HELLO", "\(version)")
                let c = (0..<3).map { rig.key(on: $0, "news") }
                func message(_ parts: [String]) -> RedisTestValue {
                    version == 3 ? .push(parts.map { .text($0) }) : .array(parts.map { .text($0) })
                }
                try await client.send(["SUBSCRIBE"] + c)
                for _ in c { _ = try await client.receive() }
                try await client.send(["PSUBSCRIBE", "news*", "__hot*"])
                for _ in 0..<2 { _ = try await client.receive() }
                try await client.send(["SSUBSCRIBE"] + c)
                for _ in c { _ = try await client.receive() }
                for (node, channel) in c.enumerated() {
                    #expect(try await publisher.command("PUBLISH", channel, "m\(node)") == .integer(2))
                    #expect(try await client.receive() == message(["message", channel, "m\(node)"]))
                    #expect(try await client.receive() == message(["pmessage", "news*", channel, "m\(node)"]))
                    #expect(try await publisher.command("SPUBLISH", channel, "s\(node)") == .integer(1))
                    #expect(try await client.receive() == message(["smessage", channel, "s\(node)"]))
                    // Past the agent, at the channel's own node.
                    try await rig.direct(node, "PUBLISH", channel, "direct")
                    #expect(try await client.receive() == message(["message", channel, "direct"]))
                    #expect(try await client.receive() == message(["pmessage", "news*", channel, "direct"]))
                }
                #expect(
                    Set(try await publisher.line("PUBSUB CHANNELS news*").elements?.compactMap(\.string) ?? [])
                        == Set(c))
                #expect(try await publisher.line("PUBSUB SHARDCHANNELS").elements?.count == 3)
                #expect(try await publisher.line("PUBSUB NUMPAT") == .integer(2))
                #expect(
                    try await publisher.line("PUBSUB NUMSUB \(c[0]) nosuch \(c[2])")
                        == .array([.text(c[0]), .integer(1), .text("nosuch"), .integer(0), .text(c[2]), .integer(1)]))
                // A client that goes away is heard of by the nodes.
                await client.close()
                try await eventually("nobody listens") {
                    let replies = try await publisher.lines(["PUBSUB CHANNELS", "PUBSUB NUMPAT"])
                    return replies == [.array([]), .integer(0)]
                }
                #expect(try await publisher.command("PUBLISH", c[0], "nobody") == .integer(0))
                await publisher.close()
            }
        }

        /// What a node has to do for a channel does not grow with its listeners.
        @Test func listenersShareOneConnectionOfEachLoop() async throws {
            try await AllNodes.with { rig, nodes in
                let channel = rig.key(on: 1, "crowd")
                var listeners: [RedisTestClient] = []
                for number in 0..<100 {
                    let client = try await rig.client()
                    if number % 2 == 1 { try await client.command("HELLO", "3") }
                    try await client.send(["SUBSCRIBE", channel])
                    _ = try await client.receive()
                    listeners.append(client)
                }
                let publisher = try await rig.client()
                #expect(try await rig.direct(1, "PUBSUB", "NUMSUB", channel).elements?[1].integer == 2)
                for number in 0..<20 {
                    #expect(try await publisher.command("PUBLISH", channel, "\(number)") == .integer(2))
                }
                for client in listeners {
                    for number in 0..<20 {
                        #expect(try await client.receive().elements?.last == .text("\(number)"))
                    }
                }
                // The others stay when one leaves.
                for client in listeners.dropLast() { await client.close() }
                try await eventually("one loop listens") {
                    try await publisher.command("PUBLISH", channel, "last") == .integer(1)
                }
                await publisher.close()
                await listeners.last?.close()
            }
        }

        /// Subscribed again while the node still has to answer that it was left: the acknowledgement must be that of the second time.
        @Test func leavingAndComingBackLosesNothing() async throws {
            try await AllNodes.with { rig, nodes in
                let channel = rig.key(on: 0, "flutter")
                let publisher = try await nodes[0].client()
                for version in [2, 3] {
                    let client = try await rig.client()
                    try await client.command("HELLO", "\(version)")
                    for round in 0..<50 {
                        try await client.send(
                            raw: encode(["SUBSCRIBE", channel]) + encode(["UNSUBSCRIBE", channel])
                                + encode(["SUBSCRIBE", channel]))
                        for _ in 0..<3 { _ = try await client.receive() }
                        try await publisher.command("PUBLISH", channel, "\(round)")
                        #expect(try await client.receive().elements?.last == .text("\(round)"))
                        let brief = try await rig.client()
                        try await brief.send(["SUBSCRIBE", channel])
                        await brief.close()
                    }
                    await client.close()
                }
                await publisher.close()
            }
        }

        @Test func aLostNodeLetsGoWhoListensThere() async throws {
            try await AllNodes.with { rig, nodes in
                let channels = (0..<3).map { rig.key(on: $0, "lost") }
                func listener(_ verb: String, _ names: [String]) async throws -> RedisTestClient {
                    let client = try await rig.client()
                    try await client.send([verb] + names)
                    for _ in names { _ = try await client.receive() }
                    return client
                }
                let stays = try await listener("SUBSCRIBE", [channels[0], channels[2]])
                let goes = [
                    try await listener("SUBSCRIBE", channels), try await listener("PSUBSCRIBE", ["x*"]),
                    try await listener("SSUBSCRIBE", [channels[1]]),
                ]
                await nodes[1].kill()
                for client in goes { #expect(try await client.receiveRawToEnd().isEmpty) }
                let publisher = try await rig.client()
                #expect(try await publisher.command("PUBLISH", channels[2], "still") == .integer(1))
                #expect(try await stays.receive().elements?.last == .text("still"))
                let text = try await publisher.command("PUBLISH", channels[1], "x").errorMessage
                #expect(text?.hasPrefix("ERR cache node b") == true)
                #expect(
                    try await publisher.command("SUBSCRIBE", channels[1]).errorMessage?.hasPrefix("ERR cache node b")
                        == true)
                // It is no subscriber, so everything is open to it.
                #expect(try await publisher.command("GET", channels[0]).isNull)
                try await nodes[1].restart()
                try await eventually("the node is used again") {
                    try await publisher.command("SUBSCRIBE", channels[1]).errorMessage == nil
                }
                try await rig.direct(1, "PUBLISH", channels[1], "again")
                #expect(try await publisher.receive().elements?.last == .text("again"))
                for client in goes + [stays, publisher] { await client.close() }
            }
        }

        /// A hung node sends nothing, and neither does a channel on which nothing is said.
        @Test func aNodeThatHangsIsFoundOut() async throws {
            try await AllNodes.with(configure: { $0.requestTimeoutMilliseconds = 500 }) { rig, nodes in
                let client = try await rig.client()
                let channel = rig.key(on: 2, "hangs")
                _ = try await client.command("SUBSCRIBE", channel)
                nodes[2].suspend()
                #expect(try await client.receiveRawToEnd().isEmpty)
                nodes[2].resume()
                await client.close()
            }
        }

        @Test func aTopologyThatMovesAChannelLetsItsListenersGo() async throws {
            try await AllNodes.with(4) { rig, nodes in
                let three = try Rig.topology(Array(nodes[0..<3]))
                try await rig.apply(.observe, topology: three)
                let names = (0..<5000).map { "move:\($0 &* 2_654_435_761)" }
                func port(_ name: String, _ topology: ProxyTopology) -> Int {
                    Array(name.utf8).withUnsafeBytes { topology.nodes[topology.placement!.home($0)].port }
                }
                let moved = try #require(names.first { port($0, three) != port($0, rig.topology) })
                let kept = try #require(names.first { port($0, three) == port($0, rig.topology) })
                let clients = [try await rig.client(), try await rig.client(), try await rig.client()]
                try await clients[0].command("SUBSCRIBE", moved)
                try await clients[1].command("SUBSCRIBE", kept)
                try await clients[2].command("PSUBSCRIBE", "*")
                try await rig.apply(.observe)
                #expect(try await clients[0].receiveRawToEnd().isEmpty)
                #expect(try await clients[2].receiveRawToEnd().isEmpty)
                let publisher = try await rig.client()
                #expect(try await publisher.command("PUBLISH", kept, "kept") == .integer(1))
                #expect(try await clients[1].receive().elements?.last == .text("kept"))
                // At the new place it works.
                let again = try await rig.client()
                try await again.command("SUBSCRIBE", moved)
                #expect(try await publisher.command("PUBLISH", moved, "m") == .integer(1))
                #expect(try await again.receive().elements?.last == .text("m"))
                // With one node alone subscriptions are of another kind.
                try await rig.apply(.observe, topology: try Rig.topology([nodes[0]]))
                #expect(try await again.receiveRawToEnd().isEmpty)
                for client in clients + [publisher, again] { await client.close() }
            }
        }

        @Test func aSubscriberOfSeveralNodesThatDoesNotReadIsLetGo() async throws {
            try await AllNodes.with(configure: { $0.outputBytesMax = 1 << 20 }) { rig, nodes in
                let channel = rig.key(on: 0, "flood")
                let deaf = try await rig.client()
                let good = try await rig.client()
                for each in [deaf, good] { try await each.command("SUBSCRIBE", channel) }
                let publisher = try await rig.client()
                let message = String(repeating: "m", count: 256 << 10)
                for _ in 0..<120 {
                    try await publisher.command("PUBLISH", channel, message)
                    #expect(try await good.receive().elements?.last?.bytes?.count == message.utf8.count)
                }
                try await eventually("the deaf one is gone") { try await rig.server.statistics().clientsConnected == 2 }
                #expect(try await deaf.receiveRawToEnd().count < 120 * message.utf8.count)
                for client in [deaf, good, publisher] { await client.close() }
            }
        }

        @Test func inRESP3ASubscriberDoesEverythingElseToo() async throws {
            try await AllNodes.with { rig, _ in
                let client = try await rig.client()
                try await client.command("HELLO", "3")
                let keys = (0..<3).map { rig.key(on: $0, "busy") }
                try await client.send(["SUBSCRIBE", keys[0], "__hotkeys__"])
                #expect(try await client.nextPush() == .push([.text("subscribe"), .text(keys[0]), .integer(1)]))
                #expect(try await client.nextPush() == .push([.text("subscribe"), .text("__hotkeys__"), .integer(2)]))
                #expect(try await client.command("SET", keys[1], "1") == .ok)
                let replies = try await client.lines([
                    "MULTI", "SET \(keys[0]) 1", "PUBLISH \(keys[0]) inside", "EXEC", "GET \(keys[1])",
                    "PUBLISH \(keys[0]) outside",
                ])
                #expect(replies[3] == .array([.simple("OK"), .integer(1)]))
                #expect(replies[4] == .text("1"))
                for text in ["inside", "outside"] {
                    #expect(try await client.nextPush() == .push([.text("message"), .text(keys[0]), .text(text)]))
                }
                rig.server.publish(Array("changed".utf8))
                #expect(
                    try await client.nextPush() == .push([.text("message"), .text("__hotkeys__"), .text("changed")]))
                let refused = try await client.lines(["MULTI", "SET \(keys[0]) 1", "PUBLISH \(keys[1]) x", "EXEC"])
                #expect(refused[2].errorMessage?.contains("'\(keys[1])' on node b") == true)
                #expect(refused[3].errorMessage?.hasPrefix("EXECABORT") == true)
                try await client.send(["UNSUBSCRIBE"])
                for count in [1, 0] { #expect(try await client.nextPush().elements?.last == .integer(Int64(count))) }
                await client.close()
            }
        }
    }
}
