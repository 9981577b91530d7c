import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    @Suite struct Split {
        @Test(arguments: [2, 3])
        func isJoinedToWhatOneServerWouldSay(_ version: Int) async throws {
            try await Rig.with { rig in
                let reference = try await SharedNodes.reference().client()
                let client = try await rig.client()
                for each in [reference, client] { try await each.command("HELLO", "\(version)") }
                let keys = (0..<3).flatMap { rig.keys(on: $0, "split\(version)", count: 20) }
                let all = keys.joined(separator: " ")
                let values = keys.map { "\($0) v\($0)" }.joined(separator: " ")
                for command in [
                    "DEL \(all)", "MSET \(values)", "MGET \(all)", "EXISTS \(all)", "TOUCH \(all) none",
                    "MGET none \(all) none",
                    "DEL \(keys[0]) \(keys[1]) \(keys[0])", "UNLINK \(keys[2]) \(keys[3]) none",
                    "EXISTS \(all) \(keys[5]) \(keys[5])",
                    "MGET \(keys[5]) \(keys[0]) \(keys[5])", "MSET \(keys[0]) 1 \(keys[7]) 2 \(keys[0]) 3",
                    "MGET \(keys[0]) \(keys[7])",
                    "DEL \(keys[0])", "LPUSH \(keys[0]) x", "MGET \(all)", "MGET \(keys[0])", "EXISTS \(keys[0])",
                    "MSET \(keys[0]) v",
                    "UNLINK \(all)", "MGET \(all)", "EXISTS \(all)",
                ] {
                    #expect(try await client.line(command) == reference.line(command), "\(command.prefix(60))")
                }
                await reference.close()
                await client.close()
            }
        }

        @Test func emptyAndLargeValuesComeBackInOrder() async throws {
            try await Rig.with { rig in
                let client = try await rig.client()
                let sizes = [0, 1, 70_000, 3, 200_000, 0, 16_385]
                var words = ["MSET"]
                for (index, size) in sizes.enumerated() {
                    words += ["sizes:\(index)", String(repeating: "\(index)", count: size)]
                }
                #expect(try await client.command(words) == .ok)
                let values = try await client.command(["MGET"] + sizes.indices.map { "sizes:\($0)" }).elements
                #expect(values?.map { $0.bytes?.count } == sizes)
                await client.close()
            }
        }

        @Test func hotKeysAmongOthersAreReadLocally() async throws {
            try await Rig.with { rig in
                let client = try await rig.client(onLoop: 0)
                let keys = (0..<3).flatMap { rig.keys(on: $0, "mix", count: 3) }
                try await client.command(["MSET"] + keys.flatMap { [$0, "v\($0)"] })
                try await client.command("DEL", keys[1])
                try await rig.apply(.mitigate, [hot(keys[0], .cache), hot(keys[4], .cache), hot(keys[1], .cache)])
                let expected: [RedisTestValue] = keys.enumerated().map {
                    $0.offset == 1 ? .nullBulk : .text("v\($0.element)")
                }
                for _ in 0..<5 { #expect(try await client.command(["MGET"] + keys).elements == expected) }
                #expect(try await rig.server.statistics().localHits == 12)
                #expect(try await client.command(["EXISTS"] + keys).integer == 8)

                // A write of several keys drops what is kept of the hot ones.
                let other = try await rig.client(onLoop: 1)
                #expect(try await other.command(["MGET"] + keys).elements == expected)
                #expect(try await client.command(["MSET"] + keys.flatMap { [$0, "w\($0)"] }) == .ok)
                for each in [client, other] {
                    #expect(try await each.command(["MGET"] + keys).elements == keys.map { .text("w\($0)") })
                }
                #expect(try await other.command(["DEL"] + keys).integer == 9)
                #expect(try await client.command(["MGET"] + keys).elements?.allSatisfy(\.isNull) == true)

                // GET of a list is an error; MGET says nil.
                try await client.command("RPUSH", keys[0], "a")
                #expect(try await client.command("MGET", keys[0], keys[4]).elements == [.nullBulk, .nullBulk])
                await client.close()
                await other.close()
            }
        }

        @Test func oneFailingNodeIsTheAnswer() async throws {
            let nodes = try await Rig.startNodes(3)
            try await Rig.with(nodes: nodes) { rig in
                let client = try await rig.client()
                let keys = (0..<3).map { rig.key(on: $0, "fail") }
                #expect(try await client.command(["MSET"] + keys.flatMap { [$0, "v"] }) == .ok)
                await nodes[1].kill()
                for command in [
                    ["MGET"] + keys, ["DEL"] + keys, ["MSET"] + keys.flatMap { [$0, "w"] }, ["EXISTS"] + keys,
                ] {
                    let text = try await client.command(command).errorMessage ?? "no error"
                    #expect(text.hasPrefix("ERR cache node b (127.0.0.1:\(nodes[1].port))"), "\(command): \(text)")
                }
                #expect(try await client.command("MGET", keys[0], keys[2]) == .array([.text("w"), .text("w")]))
                await client.close()
            }
            for node in nodes { await node.stop() }
        }
    }
}
