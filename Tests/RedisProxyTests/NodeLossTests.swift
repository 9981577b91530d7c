import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Nodes that come back as others, and replies that never end.
    @Suite struct NodeLoss {
        /// A home that lost its memory has no old value any more: what was kept of it is served up to the staleness cap, and then
        /// never again, although nobody has written the key.
        @Test(arguments: [MitigationKind.cache, .copies, .both])
        func aHomeThatComesBackEmptyIsSeenWithinTheCap(kind: MitigationKind) async throws {
            let nodes = try await Rig.startNodes(3)
            let cap = 2_500
            try await Rig.with(
                nodes: nodes,
                configure: {
                    $0.breaker.openNanoseconds = 100_000_000
                    $0.breaker.openNanosecondsMax = 200_000_000
                }
            ) { rig in
                let key = rig.key(on: 0, "lost")
                let client = try await rig.client(onLoop: 0)
                try await client.command("SET", key, "v")
                try await rig.apply(.mitigate, [hot(key, kind, capMilliseconds: UInt64(cap))])
                try await eventually("it is kept elsewhere than at home") {
                    #expect(try await client.command("GET", key) == .text("v"))
                    let home = try await rig.calls("get", at: 0)
                    for _ in 0..<20 { #expect(try await client.command("GET", key) == .text("v")) }
                    return try await rig.calls("get", at: 0) < home + 20
                }
                let runID = try await rig.direct(0, "INFO", "server").string
                await nodes[0].kill()
                let lostAt = ContinuousClock.now
                try await nodes[0].start()
                #expect(try await rig.direct(0, "INFO", "server").string != runID)
                #expect(try await rig.direct(0, "EXISTS", key) == .integer(0))
                while true {
                    // Measured before asking: a reply that took long is not older for it.
                    let asked = ContinuousClock.now
                    let reply = try await client.command("GET", key)
                    guard asked - lostAt < .milliseconds(cap) else {
                        if asked - lostAt > .milliseconds(cap + 1500) { break }
                        #expect(reply == .nullBulk || reply.errorMessage != nil, "an old value after the cap: \(reply)")
                        continue
                    }
                    #expect(reply == .text("v") || reply == .nullBulk || reply.errorMessage != nil, "\(reply)")
                }
                try await eventually("the new home is read") { try await client.command("GET", key) == .nullBulk }
                #expect(try await client.command("SET", key, "w") == .ok)
                for _ in 0..<20 { #expect(try await client.command("GET", key) == .text("w")) }
                await client.close()
            }
            for node in nodes { await node.stop() }
        }

        /// What came of a reply whose rest never comes is no reply, and what stands in it is none of the next one's.
        @Test func aReplyThatBreaksOffIsAnErrorAndCrossesNothing() async throws {
            let broken = try await StandInNode.start(.breaksOff)
            let nodes = try await SharedNodes.nodes()
            try await Rig.with(
                nodes: nodes, ports: [broken.port, nodes[1].port, nodes[2].port],
                configure: {
                    $0.breaker.consecutiveFailures = 1_000_000; $0.breaker.failureRatio = 1
                }
            ) { rig in
                let bad = rig.key(on: 0, "broken")
                let good = rig.keys(on: 1, "whole", count: 2)
                for loop in 0..<2 {
                    let client = try await rig.client(onLoop: loop)
                    for key in good { #expect(try await client.command("SET", key, key) == .ok) }
                    for _ in 0..<50 {
                        let replies = try await client.pipeline([
                            ["GET", good[0]], ["GET", bad], ["GET", good[1]], ["GET", bad], ["ECHO", "end"],
                        ])
                        #expect(
                            replies[0] == .text(good[0]) && replies[2] == .text(good[1]) && replies[4] == .text("end"))
                        for reply in [replies[1], replies[3]] {
                            #expect(reply.errorMessage?.hasPrefix("ERR cache node a ") == true, "\(reply)")
                        }
                    }
                    await client.close()
                }
            }
            await broken.stop()
        }

        /// A large reply's header may come in two pieces; what follows the reply is found where it begins.
        @Test func aLargeReplyWhoseHeaderIsSplitIsFollowedByTheNextOne() async throws {
            let node = try await StandInNode.start(.splitsHeaders)
            let nodes = try await SharedNodes.nodes()
            try await Rig.with(nodes: nodes, ports: [node.port, nodes[1].port, nodes[2].port]) { rig in
                let key = rig.key(on: 0, "split")
                let client = try await rig.client(onLoop: 0)
                for _ in 0..<5 {
                    let replies = try await client.pipeline([
                        ["GET", key], ["SET", key, "x"], ["GET", key], ["SET", key, "y"], ["SET", key, "z"],
                    ])
                    for number in [0, 2] { #expect(replies[number].bytes?.count == 2 * 1024 * 1024) }
                    for number in [1, 3, 4] { #expect(replies[number] == .ok) }
                }
                await client.close()
            }
            await node.stop()
        }
    }
}
