import Foundation
import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    @Suite struct Faults {
        private static func quick(_ configuration: inout ProxyConfiguration) {
            configuration.requestTimeoutMilliseconds = 300
            configuration.breaker.openNanoseconds = 200_000_000
            configuration.breaker.openNanosecondsMax = 400_000_000
        }

        @Test func aKilledNodeFailsAloneAndComesBack() async throws {
            let nodes = try await Rig.startNodes(3)
            try await Rig.with(nodes: nodes, configure: Self.quick) { rig in
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                let keys = (0..<3).map { rig.key(on: $0, "killed") }
                for key in keys { try await clients[0].command("SET", key, "v") }
                await nodes[1].kill()
                let name = "ERR cache node b (127.0.0.1:\(nodes[1].port)) "
                for client in clients {
                    let text = try await client.command("GET", keys[1]).errorMessage ?? ""
                    #expect(text.hasPrefix(name), "\(text)")
                    try await eventually("the breaker is open and nothing is sent") {
                        for other in [0, 2] { #expect(try await client.command("GET", keys[other]) == .text("v")) }
                        let text = try await client.command("GET", keys[1]).errorMessage ?? ""
                        return text.hasPrefix(name + "is down, nothing was sent; next try in ")
                    }
                }
                #expect(try await rig.breaker(1) != .closed)
                #expect(try await rig.breaker(0) == .closed)
                #expect(try await rig.server.statistics().breakerRejections > 0)
                try await nodes[1].start()
                // Found well again although no client asks for it.
                try await eventually("the breaker is closed on every loop") { try await rig.breaker(1) == .closed }
                for client in clients {
                    #expect(try await client.command("SET", keys[1], "w") == .ok)
                    #expect(try await client.command("MGET", keys[0], keys[1]) == .array([.text("v"), .text("w")]))
                    await client.close()
                }
            }
            for node in nodes { await node.stop() }
        }

        @Test func aHangingNodeIsGivenUpInTime() async throws {
            let nodes = try await Rig.startNodes(3)
            try await Rig.with(nodes: nodes, configure: Self.quick) { rig in
                let client = try await rig.client(onLoop: 0)
                let other = try await rig.client(onLoop: 0)
                let keys = (0..<3).map { rig.key(on: $0, "hang") }
                for key in keys { try await client.command("SET", key, "v") }
                nodes[2].suspend()
                let start = ContinuousClock.now
                try await client.send(raw: encode(["GET", keys[2]]) + encode(["GET", keys[0]]))
                for _ in 0..<20 { #expect(try await other.command("GET", keys[0]) == .text("v")) }
                let text = try await client.receive().errorMessage ?? ""
                #expect(
                    text
                        == "ERR cache node c (127.0.0.1:\(nodes[2].port)) did not answer in time; the command may or may not have "
                        + "been carried out")
                #expect(ContinuousClock.now - start > .milliseconds(300))
                #expect(ContinuousClock.now - start < .seconds(5))
                #expect(try await client.receive() == .text("v"))
                #expect(try await rig.server.statistics().nodes[2].timeouts > 0)
                nodes[2].resume()
                try await eventually("the node is used again") {
                    try await client.command("GET", keys[2]) == .text("v")
                }
                await client.close()
                await other.close()
            }
            for node in nodes { await node.stop() }
        }

        @Test func aReplyDoesNotWaitForASlowerNode() async throws {
            let nodes = try await Rig.startNodes(3)
            // Far off, so that a reply which waits for the node that hangs comes with an error behind it.
            try await Rig.with(nodes: nodes, configure: { $0.requestTimeoutMilliseconds = 10_000 }) { rig in
                let client = try await rig.client(onLoop: 0)
                let keys = (0..<3).map { rig.key(on: $0, "slower") }
                for key in keys { try await client.command("SET", key, "v") }
                nodes[2].suspend()
                try await client.send(raw: encode(["GET", keys[0]]) + encode(["GET", keys[2]]))
                #expect(try await client.receive() == .text("v"))
                nodes[2].resume()
                #expect(try await client.receive() == .text("v"))
                await client.close()
            }
            for node in nodes { await node.stop() }
        }

        @Test func aBlockingCommandOnADyingNodeEnds() async throws {
            let nodes = try await Rig.startNodes(2)
            try await Rig.with(nodes: nodes, configure: Self.quick) { rig in
                let key = rig.key(on: 1, "dying")
                let client = try await rig.client()
                try await client.send(raw: encode(["BLPOP", key, "0"]) + encode(["PING"]))
                try await eventually("the node holds it") {
                    try await rig.direct(1, "INFO", "clients").string?.contains("blocked_clients:1\r\n") == true
                }
                await nodes[1].kill()
                #expect(try await client.receive().errorMessage?.hasPrefix("ERR cache node b ") == true)
                #expect(try await client.receive() == .simple("PONG"))
                #expect(
                    try await client.command("BLPOP", key, "0").errorMessage?.hasPrefix("ERR cache node b ") == true)
                await client.close()
            }
            for node in nodes { await node.stop() }
        }

        // MARK: Hot keys

        @Test func aHotKeyIsAnsweredWhileItsHomeIsDead() async throws {
            let nodes = try await Rig.startNodes(3)
            try await Rig.with(nodes: nodes, configure: Self.quick) { rig in
                let keys = rig.keys(on: 0, "dead", count: 3)
                let (cached, capped, unread) = (keys[0], keys[1], keys[2])
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                for key in keys { try await clients[0].command("SET", key, "v") }
                try await rig.apply(
                    .mitigate,
                    [
                        hot(cached, .cache, capMilliseconds: 50, staleMilliseconds: 60_000),
                        hot(capped, .cache, capMilliseconds: 50),
                        hot(unread, .cache, staleMilliseconds: 60_000),
                    ])
                for client in clients {
                    for key in [cached, capped] { #expect(try await client.command("GET", key) == .text("v")) }
                }
                await nodes[0].kill()
                for client in clients {
                    for _ in 0..<100 {
                        #expect(try await client.command("GET", cached) == .text("v"))
                        #expect(
                            try await client.command("MGET", cached, rig.key(on: 1, "none")).elements?[0] == .text("v"))
                    }
                    try await eventually("a value without leave to be stale is given no more") {
                        try await client.command("GET", capped).errorMessage?.hasPrefix("ERR cache node a ") == true
                    }
                    // Nothing is known of these: the error says whose fault it is.
                    #expect(
                        try await client.command("GET", unread).errorMessage?.hasPrefix("ERR cache node a ") == true)
                    #expect(
                        try await client.command("SET", cached, "w").errorMessage?.hasPrefix("ERR cache node a ")
                            == true)
                    #expect(try await client.command("GET", cached) == .text("v"))
                }
                #expect(try await rig.server.statistics().staleAnswers > 100)
                try await nodes[0].start()
                try await rig.direct(0, "SET", cached, "back")
                for client in clients {
                    try await eventually("home is asked again") {
                        try await client.command("GET", cached) == .text("back")
                    }
                    await client.close()
                }
            }
            for node in nodes { await node.stop() }
        }

        @Test func copiesAnswerWhileTheHomeIsDead() async throws {
            let nodes = try await Rig.startNodes(3)
            try await Rig.with(nodes: nodes, configure: Self.quick) { rig in
                let key = rig.key(on: 0, "deadcopies")
                let client = try await rig.client(onLoop: 0)
                try await client.command("SET", key, "v")
                try await rig.apply(.mitigate, [hot(key, .copies, capMilliseconds: 1500)])
                try await HotKeys.waitForCopies(rig, key)
                // When each copy was last seen empty: its fill came later, and lives from then.
                let clock = ContinuousClock()
                var emptyAt = [clock.now, clock.now]
                try await eventually("both copies are filled") {
                    for number in 1...2 {
                        let asked = clock.now
                        let copy = try await rig.direct(rig.places(key)[number], "GET", "__hkcopy:\(number):\(key)")
                        if copy != .text("vv") { emptyAt[number - 1] = asked }
                    }
                    guard emptyAt.allSatisfy({ clock.now - $0 > .milliseconds(100) }) else {
                        for _ in 0..<5 { try await client.command("GET", key) }
                        return false
                    }
                    return true
                }
                await nodes[0].kill()
                let safeUntil = emptyAt.min()! + .milliseconds(1450)
                var answered = 0
                while true {
                    let reply = try await client.command("GET", key)
                    guard clock.now < safeUntil else { break }
                    #expect(reply == .text("v"))
                    answered += 1
                }
                #expect(answered > 10)
                try await eventually("and not for longer than their lifetime") {
                    try await client.command("GET", key).errorMessage?.hasPrefix("ERR cache node ") == true
                }
                await client.close()
            }
            for node in nodes { await node.stop() }
        }

        /// All slow at once: the cause is none of theirs, and to give all of them up would make it worse.
        @Test func slownessTakesNoMoreThanItsShareOfTheNodes() async throws {
            let nodes = try await SharedNodes.nodes()
            var slow: [FaultProxy] = []
            for node in nodes {
                let proxy = try await FaultProxy.start(to: node)
                try await proxy.delay(milliseconds: 50)
                slow.append(proxy)
            }
            try await Rig.with(
                nodes: nodes, ports: slow.map(\.port), loops: 1,
                configure: {
                    $0.breaker.slowCallNanoseconds = 20_000_000
                    $0.breaker.openNanosecondsMax = 60_000_000_000
                    $0.breaker.openNanoseconds = 60_000_000_000
                }
            ) { rig in
                let client = try await rig.client()
                let keys = (0..<3).map { rig.key(on: $0, "allslow") }
                for _ in 0..<10 {
                    _ = try await client.pipeline(keys.flatMap { Array(repeating: ["GET", $0], count: 10) })
                }
                let states = try await rig.server.statistics().nodes.map(\.breaker)
                #expect(states.filter { $0 == .open }.count == 1, "\(states)")
                let answers = try await client.pipeline(keys.map { ["GET", $0] })
                #expect(answers.filter { $0.errorMessage != nil }.count == 1)
                await client.close()
            }
            for proxy in slow { await proxy.stop() }
        }

        // MARK: Ending

        @Test func drainingAnswersWhatIsInFlight() async throws {
            let nodes = try await SharedNodes.nodes()
            let slow = try await FaultProxy.start(to: nodes[0])
            try await slow.delay(milliseconds: 100)
            try await Rig.with(nodes: nodes, ports: [slow.port, nodes[1].port, nodes[2].port]) { rig in
                let key = rig.key(on: 0, "drain")
                try await rig.direct(0, "SET", key, "v")
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                let idle = try await rig.client()
                #expect(try await idle.command("PING") == .simple("PONG"))
                for client in clients { try await rig.begin(client, ["GET", key], ["PING"]) }
                let start = ContinuousClock.now
                await rig.server.drain(graceMilliseconds: 20_000)
                #expect(ContinuousClock.now - start < .seconds(10))
                for client in clients {
                    #expect(try await client.receive() == .text("v"))
                    #expect(try await client.receive() == .simple("PONG"))
                    #expect(try await client.receiveRaw().isEmpty)
                    await client.close()
                }
                #expect(try await idle.receiveRaw().isEmpty)
                await #expect(throws: TestSupportError.self) { try await rig.client() }
                await idle.close()
            }
            await slow.stop()
        }

        /// A client that always has something in flight must not hold up the end until the grace is over.
        @Test func drainingEndsUnderLoad() async throws {
            let nodes = try await SharedNodes.nodes()
            let slow = try await FaultProxy.start(to: nodes[0])
            try await slow.delay(milliseconds: 5)
            try await Rig.with(nodes: nodes, ports: [slow.port, nodes[1].port, nodes[2].port]) { rig in
                let key = rig.key(on: 0, "drainload")
                let client = try await rig.client()
                try await client.command("SET", key, "0")
                let replies = Guarded(0)
                let pump = Task {
                    // Never empty: the next command leaves before the last reply is read.
                    var next = 1
                    do {
                        for _ in 0..<20 {
                            try await client.send(["INCR", key])
                        }
                        while true {
                            try await client.send(["INCR", key])
                            guard try await client.receive() == .integer(Int64(next)) else { return false }
                            next += 1
                            replies.with { $0 = next }
                        }
                    } catch let error as TestSupportError {
                        return error.code == .connectionClosed
                    }
                }
                try await eventually("the load runs") { replies.with { $0 } > 50 }
                let start = ContinuousClock.now
                await rig.server.drain(graceMilliseconds: 20_000)
                #expect(ContinuousClock.now - start < .seconds(5))
                #expect(try await pump.value, "a reply out of order, or another end than a closed connection")
                await client.close()
            }
            await slow.stop()
        }

        // MARK: Topology

        @Test func theTopologyChangesUnderLoad() async throws {
            let nodes = try await Rig.startNodes(4)
            try await Rig.with(nodes: nodes) { rig in
                let small = try Rig.topology(Array(nodes[0..<2]))
                let mixed = try Rig.topology([nodes[3], nodes[0], nodes[2]])
                let hotKey = "topology:hot"
                let stop = Guarded(false)
                try await withThrowingTaskGroup(of: Int.self) { group in
                    for worker in 0..<4 {
                        group.addTask {
                            let client = try await rig.client(onLoop: worker % 2)
                            var count = 0
                            while !stop.with({ $0 }) {
                                count += 1
                                let key = "topology:\(worker):\(count)"
                                // A key may be looked for where it did not use to be, but nothing fails.
                                for command in [
                                    ["SET", key, "\(count)"], ["GET", key], ["GET", hotKey], ["INCR", hotKey],
                                    ["MGET", key, hotKey, "topology:x"],
                                ] {
                                    let reply = try await client.command(command)
                                    if let text = reply.errorMessage { throw TestSupportError(.malformedReply, text) }
                                }
                            }
                            await client.close()
                            return count
                        }
                    }
                    for topology in [
                        small, mixed, rig.topology, small, rig.topology, mixed, small, mixed, rig.topology,
                    ] {
                        try await rig.apply(.mitigate, [hot(hotKey, .both, capMilliseconds: 50)], topology: topology)
                        let names = Set(topology.nodes.map(\.port))
                        try await eventually("the nodes that left are let go") {
                            try await Set(rig.server.statistics().nodes.map(\.node.port)) == names
                        }
                    }
                    stop.with { $0 = true }
                    for try await count in group { #expect(count > 0) }
                }
                // All of them are served again.
                let client = try await rig.client()
                for node in 0..<4 {
                    let key = rig.key(on: node, "topology:end")
                    #expect(try await client.command("SET", key, "v") == .ok)
                    #expect(try await rig.direct(node, "GET", key) == .text("v"))
                }
                await client.close()
            }
            for node in nodes { await node.stop() }
        }

        /// A node is often taken away because it hangs: what was sent to it must fail, not wait for ever.
        @Test func commandsOnANodeThatIsTakenAwayStillTimeOut() async throws {
            let nodes = try await Rig.startNodes(3)
            try await Rig.with(nodes: nodes, configure: Self.quick) { rig in
                let key = rig.key(on: 2, "away")
                let client = try await rig.client()
                #expect(try await client.command("SET", key, "v") == .ok)
                nodes[2].suspend()
                try await rig.begin(client, ["GET", key])
                try await rig.apply(.observe, topology: try Rig.topology(Array(nodes[0..<2])))
                #expect(try await client.receive().errorMessage?.hasPrefix("ERR cache node c ") == true)
                #expect(try await client.command("SET", key, "elsewhere") == .ok)
                nodes[2].resume()
                await client.close()
            }
            for node in nodes { await node.stop() }
        }

        /// Switching off must work while a node hangs.
        @Test func switchingOffDoesNotWaitForAHangingNode() async throws {
            let nodes = try await Rig.startNodes(3)
            try await Rig.with(nodes: nodes, configure: { $0.requestTimeoutMilliseconds = 20_000 }) { rig in
                let key = rig.key(on: 1, "switch")
                try await rig.apply(.mitigate, [hot(key, .cache)])
                let client = try await rig.client()
                try await client.command("SET", key, "v")
                nodes[1].suspend()
                try await rig.begin(client, ["SET", key, "w"])
                let start = ContinuousClock.now
                try await rig.apply(.off)
                #expect(ContinuousClock.now - start < .seconds(1))
                nodes[1].resume()
                #expect(try await client.receive() == .ok)
                await client.close()
            }
            for node in nodes { await node.stop() }
        }
    }
}
