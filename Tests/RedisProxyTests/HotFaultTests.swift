import Foundation
import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// What hot keys do when nodes, placements or rules change under them.
    @Suite struct HotFaults {
        private static func quick(_ configuration: inout ProxyConfiguration) {
            configuration.breaker.openNanoseconds = 200_000_000
            configuration.breaker.openNanosecondsMax = 400_000_000
        }

        private static func topology(_ rig: Rig, node: Int, port: Int) -> ProxyTopology {
            var topology = rig.topology
            topology.nodes[node].port = port
            return topology
        }

        /// A replica that lost its primary answers every command with an error, which is no answer of the key's.
        @Test func aNodeThatServesNobodyIsNoHome() async throws {
            let nodes = try await Rig.startNodes(2)
            try await Rig.with(nodes: nodes, configure: Self.quick) { rig in
                let keys = rig.keys(on: 0, "nobody", count: 2)
                let (known, other) = (keys[0], keys[1])
                let client = try await rig.client(onLoop: 0)
                for key in keys { try await client.command("SET", key, "v") }
                try await rig.apply(.mitigate, [hot(known, .cache, capMilliseconds: 50, staleMilliseconds: 60_000)])
                #expect(try await client.command("GET", known) == .text("v"))
                let nowhere = 1
                try await rig.direct(0, "CONFIG", "SET", "replica-serve-stale-data", "no")
                try await rig.direct(0, "REPLICAOF", "127.0.0.1", "\(nowhere)")
                let first = try await client.command("GET", other)
                #expect(first.errorMessage?.hasPrefix("MASTERDOWN ") == true, "\(first)")
                // A write that was not carried out leaves what is known of the key.
                #expect(try await client.command("SET", known, "w").errorMessage?.hasPrefix("READONLY ") == true)
                try await eventually("the breaker is open") {
                    #expect(try await client.command("GET", known) == .text("v"))
                    return try await rig.breaker(0) != .closed
                }
                for _ in 0..<50 { #expect(try await client.command("GET", known) == .text("v")) }
                #expect(try await rig.server.statistics().staleAnswers > 0)
                try await rig.direct(0, "REPLICAOF", "NO", "ONE")
                try await eventually("the breaker is closed") { try await rig.breaker(0) == .closed }
                #expect(try await client.command("GET", other) == .text("v"))
                await client.close()
            }
            for node in nodes { await node.stop() }
        }

        /// The rule lets values past their lifetime stand in for a home that cannot be reached, not for one that answers
        /// nonsense.
        @Test func rubbishFromHomeIsToldNotHidden() async throws {
            let rubbish = try await StandInNode.start(.rubbish)
            try await Rig.with { rig in
                let key = rig.key(on: 1, "rubbish")
                let client = try await rig.client(onLoop: 0)
                try await client.command("SET", key, "v")
                let policy = hot(key, .cache, capMilliseconds: 50, staleMilliseconds: 60_000)
                try await rig.apply(.mitigate, [policy])
                #expect(try await client.command("GET", key) == .text("v"))
                try await rig.apply(.mitigate, [policy], topology: Self.topology(rig, node: 1, port: rubbish.port))
                let reply = try await eventually(
                    "home is asked", value: { try await client.command("GET", key) }, until: { $0 != .text("v") })
                #expect(reply.errorMessage?.contains("sent a reply that is not RESP") == true, "\(reply)")
                await client.close()
            }
            await rubbish.stop()
        }

        /// A node that hangs is full before it is late.
        @Test func aFullNodeThatDoesNotAnswerIsNotReached() async throws {
            let nodes = try await Rig.startNodes(1)
            try await Rig.with(nodes: nodes, loops: 1, configure: { $0.breaker.slowCallNanoseconds = 100_000_000 }) {
                rig in
                let client = try await rig.client()
                let writer = try await rig.client()
                try await client.command("SET", "known", "v")
                try await rig.apply(.mitigate, [hot("known", .cache, capMilliseconds: 50, staleMilliseconds: 60_000)])
                #expect(try await client.command("GET", "known") == .text("v"))
                // Small enough that each goes over the shared connection as a whole.
                let fillCount = 160
                let fill = encode(["SET", "fill", String(repeating: "x", count: 1 << 19)])
                var fills: [UInt8] = []
                for _ in 0..<fillCount { fills += fill }
                nodes[0].suspend()
                let before = try await rig.server.statistics().requests
                try await writer.send(raw: fills)
                try await eventually("the proxy has taken the commands") {
                    try await rig.server.statistics().requests == before + UInt64(fillCount)
                }
                try await eventually("the old value stands in") {
                    try await client.command("GET", "known") == .text("v")
                }
                #expect(try await rig.server.statistics().staleAnswers > 0)
                #expect(try await rig.server.statistics().nodes[0].timeouts == 0, "it must not have been the timeout")
                nodes[0].resume()
                for _ in 0..<fillCount { _ = try await writer.receive() }
                await client.close()
                await writer.close()
            }
            for node in nodes { await node.stop() }
        }

        /// One reset connection, however much was on it, is one failure.
        @Test func oneResetOpensNoBreaker() async throws {
            let nodes = try await SharedNodes.nodes()
            let proxy = try await FaultProxy.start(to: nodes[0])
            try await Rig.with(nodes: nodes, ports: [proxy.port, nodes[1].port, nodes[2].port]) { rig in
                let key = rig.key(on: 0, "reset")
                let client = try await rig.client(onLoop: 0)
                try await client.command("SET", key, "v")
                try await proxy.hang()
                let before = try await rig.server.statistics().requests
                try await client.send(raw: Array((0..<50).map { _ in encode(["GET", key]) }.joined()))
                try await eventually("the proxy has taken the commands") {
                    try await rig.server.statistics().requests == before + 50
                }
                try await proxy.heal()
                try await proxy.resetConnections()
                for _ in 0..<50 {
                    let reply = try await client.receive()
                    // What got through before the reset is answered.
                    #expect(reply == .text("v") || reply.errorMessage?.contains("closed the connection") == true)
                }
                #expect(try await rig.breaker(0) == .closed)
                #expect(try await client.command("GET", key) == .text("v"))
                await client.close()
            }
            await proxy.stop()
        }

        // MARK: Copies

        @Test func aMissingKeyIsAnsweredByCopies() async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 0, "missing")
                let clients = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1, version: 3)]
                try await clients[0].command("DEL", key)
                try await rig.apply(.mitigate, [hot(key, .copies, capMilliseconds: 400)])
                try await HotKeys.waitForCopies(rig, key)
                try await eventually("copies have answered that there is nothing") {
                    for client in clients { #expect(try await client.command("GET", key).isNull) }
                    return try await rig.server.statistics().copyReads > 20
                }
                #expect(try await rig.server.statistics().copyFills > 0)
                for client in clients {
                    #expect(try await client.command("SET", key, "v") == .ok)
                    for _ in 0..<20 {
                        for other in clients { #expect(try await other.command("GET", key) == .text("v")) }
                    }
                    try await client.command("DEL", key)
                    for _ in 0..<20 { for other in clients { #expect(try await other.command("GET", key).isNull) } }
                }
                for client in clients { await client.close() }
            }
        }

        /// Another weight moves copies as another node does, and their old places got no tombstones.
        @Test func anotherPlacementFencesTheCopies() async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 0, "weights")
                let policy = hot(key, .copies, capMilliseconds: 400)
                try await rig.apply(.mitigate, [policy])
                try await HotKeys.waitForCopies(rig, key)
                // The same topology again changes nothing.
                try await rig.apply(.mitigate, [policy])
                #expect(try await rig.server.route(policy.key).readableCopies.count == 2)
                let old = rig.topology
                var nodes = old.placement!.nodes
                nodes[0].weight = 3
                let placement = try Placement(nodes: nodes, hash: .fnv1a_64, distribution: .ketama, hashTag: nil)
                try await rig.apply(
                    .mitigate, [policy], topology: ProxyTopology(nodes: old.nodes, placement: placement))
                #expect(try await rig.server.route(policy.key).readableCopies.isEmpty)
                try await HotKeys.waitForCopies(rig, key)
            }
        }

        /// A clock set back lets copies live on past the cap; so they are overwritten and left alone.
        @Test func copiesOnANodeWhoseClockWasSetAreRetracted() async throws {
            let node = try await StandInNode.start(.clock)
            try await Rig.with(loops: 1) { rig in
                let key = rig.key(on: 0, "clock")
                let places = rig.places(key)
                let topology = Self.topology(rig, node: places[1], port: node.port)
                let policy = hot(key, .copies, copies: 1, capMilliseconds: 1000)
                let client = try await rig.client()
                try await client.command("SET", key, "v")
                try await rig.apply(.mitigate, [policy], topology: topology)
                let copy = "__hkcopy:1:\(key)"
                try await eventually("the copy is filled") {
                    _ = try await client.command("GET", key)
                    return node.value(copy) == "vv"
                }
                #expect(try await rig.server.route(policy.key).readableCopies.count == 1)
                node.setClock(offsetSeconds: -3600)
                try await eventually("a tombstone is in its place") { node.value(copy) == "t" }
                #expect(try await rig.server.route(policy.key).readableCopies.isEmpty)
                try await eventually("a lifetime later it may be read again") {
                    try await rig.server.route(policy.key).readableCopies.count == 1
                }
                await client.close()
            }
            await node.stop()
        }

        @Test func copiesAreNoKeysOfTheApps() async throws {
            try await Rig.with { rig in
                let client = try await rig.client()
                try await rig.apply(.observe)
                _ = try await client.command("GET", "__hkcopy:1:x")
                _ = try await client.command("GET", "__hkcopy")
                #expect(try await rig.counts("__hkcopy:1:x").reads == 0)
                #expect(try await rig.counts("__hkcopy").reads == 1)
                await client.close()
            }
        }

        // MARK: Changes while a node hangs

        @Test func switchingOffEndsAChangeThatWaits() async throws {
            let nodes = try await SharedNodes.nodes()
            let proxy = try await FaultProxy.start(to: nodes[0])
            try await Rig.with(nodes: nodes, ports: [proxy.port, nodes[1].port, nodes[2].port]) { rig in
                let (hanging, served) = (rig.key(on: 0, "hanging"), rig.key(on: 1, "served"))
                let client = try await rig.client(onLoop: 0)
                try await client.command("SET", hanging, "v")
                try await proxy.hang()
                try await rig.begin(client, ["SET", hanging, "w"])
                // Only the home of what becomes hot is waited for.
                let mark = rig.server.switchOffMark
                try await rig.apply(.mitigate, [hot(served, .cache)])
                #expect(try await rig.server.route(Array(served.utf8)).isHot)
                let both = ProxySnapshot(
                    mode: .mitigate, topology: rig.topology,
                    table: HotKeyTable([hot(served, .cache), hot(hanging, .cache)], seed: Rig.hashSeed))
                let change = Task { try await rig.server.apply(both, since: mark) }
                for _ in 0..<100 { #expect(try await !rig.server.route(Array(hanging.utf8)).isHot) }
                try await rig.server.switchOff()
                #expect(try await !change.value)
                for key in [hanging, served] { #expect(try await !rig.server.route(Array(key.utf8)).isHot) }
                // What was decided before it was switched off comes too late.
                let late = ProxySnapshot(
                    mode: .mitigate, topology: rig.topology,
                    table: HotKeyTable([hot(served, .cache)], seed: Rig.hashSeed))
                #expect(try await !rig.server.apply(late, since: mark))
                #expect(try await !rig.server.route(Array(served.utf8)).isHot)
                #expect(try await rig.server.apply(late, since: rig.server.switchOffMark))
                #expect(try await rig.server.route(Array(served.utf8)).isHot)
                try await proxy.heal()
                #expect(try await client.receive() == .ok)
                await client.close()
            }
            await proxy.stop()
        }

        /// A blocking command that loses its node may have been carried out, so what is kept may be old.
        @Test func aBlockingCommandWhoseReplyIsLostExpiresWhatIsKept() async throws {
            let nodes = try await SharedNodes.nodes()
            let proxy = try await FaultProxy.start(to: nodes[0])
            try await Rig.with(nodes: nodes, ports: [proxy.port, nodes[1].port, nodes[2].port]) { rig in
                let key = rig.key(on: 0, "lost")
                let client = try await rig.client(onLoop: 0)
                let reader = try await rig.client(onLoop: 1)
                try await client.command("DEL", key)
                try await client.command("RPUSH", key, "a", "b")
                try await rig.apply(.mitigate, [hot(key, .cache)])
                #expect(try await reader.command("LRANGE", key, "0", "-1") == .array([.text("a"), .text("b")]))
                try await proxy.stop(.serverToClient)
                try await rig.begin(client, ["BLPOP", key, "0"])
                try await eventually("the node has done it") {
                    try await rig.direct(0, "LLEN", key) == .integer(1)
                }
                try await proxy.heal()
                try await proxy.resetConnections()
                let reply = try await client.receive()
                // The reply may have slipped through between the two calls; then the write is acknowledged.
                #expect(reply.errorMessage != nil || reply == .array([.text(key), .text("a")]))
                try await eventually("the reader sees what the node holds") {
                    try await reader.command("LRANGE", key, "0", "-1") == .array([.text("b")])
                }
                await client.close()
                await reader.close()
            }
            await proxy.stop()
        }

        /// The node is taken away, or it stays and its keys move: then as well nobody pushes there any more.
        @Test(arguments: [true, false])
        func aBlockingCommandWhoseKeysMoveIsTold(_ isNodeTakenAway: Bool) async throws {
            let nodes = try await SharedNodes.nodes()
            try await Rig.with(nodes: nodes) { rig in
                let small = try Rig.topology(Array(nodes[0..<2]))
                // Begins in the topology of two nodes or of three; the key's home is another one in the other.
                let (before, after) = isNodeTakenAway ? (rig.topology, small) : (small, rig.topology)
                let key = rig.key(on: 2, "leaves\(isNodeTakenAway)")
                try await rig.apply(.observe, topology: before)
                let home = Array(key.utf8).withUnsafeBytes { before.placement!.home($0) }
                let client = try await rig.client()
                let other = try await rig.client()
                let staying = Array((0...).lazy.map { "stays:\($0)" }.filter { rig.home($0) == 0 }.prefix(1))[0]
                try await client.send(raw: encode(["BLPOP", key, "0"]) + encode(["PING"]))
                try await other.send(["BLPOP", staying, "0"])
                for (node, count) in [(home, home == 0 ? 2 : 1), (0, home == 0 ? 2 : 1)] {
                    try await eventually("the nodes hold them") {
                        try await rig.direct(node, "INFO", "clients").string?.contains(
                            "blocked_clients:\(count)\r\n") == true
                    }
                }
                try await rig.apply(.observe, topology: after)
                let reply = try await client.receive()
                #expect(reply.errorMessage?.hasPrefix("UNBLOCKED the topology changed") == true, "\(reply)")
                #expect(try await client.receive() == .simple("PONG"))
                try await rig.direct(0, "RPUSH", staying, "v")
                #expect(try await other.receive() == .array([.text(staying), .text("v")]))
                await client.close()
                await other.close()
            }
        }

        /// Two protocol versions are two connections to the node, and the second must not overtake the first.
        @Test func anotherProtocolVersionWaitsForWhatIsOut() async throws {
            try await Rig.with { rig in
                let key = rig.key(on: 0, "versions")
                let client = try await rig.client()
                for round in 0..<20 {
                    // Large, so that it takes its time.
                    let value = String(repeating: "\(round % 10)", count: 2_000_000)
                    let replies = try await client.pipeline([
                        ["SET", key, value], ["HELLO", "3"], ["GETRANGE", key, "0", "0"], ["SET", key, value + "x"],
                        ["HELLO", "2"], ["STRLEN", key], ["RESET"], ["PING"],
                    ])
                    #expect(replies[0] == .ok)
                    #expect(replies[2] == .text("\(round % 10)"))
                    #expect(replies[5] == .integer(2_000_001))
                    #expect(replies[7] == .simple("PONG"))
                }
                await client.close()
            }
        }
    }
}
