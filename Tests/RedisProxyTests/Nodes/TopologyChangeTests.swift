import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// A topology that changes under load: what was sent is finished where it was sent.
    @Suite struct TopologyChanges {
        private struct Outcome {
            var commands = 0
            var values = 0
            var transactions = 0
        }

        /// Nodes come and go every few milliseconds; one of them is slow, so that replies are always on their way. No client sees an
        /// error, and every value names its key.
        @Test func nodesComeAndGoUnderPipelinedLoad() async throws {
            let seed = SeededGenerator(printing: "topology under load").seed
            let nodes = try await Rig.startNodes(4)
            var proxies: [FaultProxy] = []
            for node in nodes { proxies.append(try await FaultProxy.start(to: node)) }
            try await proxies[3].delay(milliseconds: 4)
            try await proxies[1].delay(milliseconds: 2)
            let ports = proxies.map(\.port)
            try await Rig.with(nodes: nodes, ports: ports) { rig in
                let topologies = try [[0, 1, 2, 3], [0, 1, 2], [0, 2, 3], [0, 3], [3, 2, 1, 0]].map { members in
                    try Rig.topology(members.map { nodes[$0] }, ports: members.map { ports[$0] })
                }
                let end = ContinuousClock.now + .seconds(4)
                let outcome = try await withThrowingTaskGroup(of: Outcome.self) { group in
                    for worker in 0..<6 {
                        group.addTask {
                            try await Self.work(worker, rig, until: end, SeededGenerator(seed: seed &+ UInt64(worker)))
                        }
                    }
                    group.addTask {
                        var random = SeededGenerator(seed: seed &+ 100)
                        while ContinuousClock.now < end {
                            try await rig.apply(.observe, topology: topologies.randomElement(using: &random)!)
                            try await Task.sleep(for: .milliseconds(Int.random(in: 1...30, using: &random)))
                        }
                        return Outcome()
                    }
                    return try await group.reduce(into: Outcome()) {
                        $0.commands += $1.commands
                        $0.values += $1.values
                        $0.transactions += $1.transactions
                    }
                }
                print("topology under load: \(outcome)")
                #expect(outcome.commands > 2000 && outcome.values > 200 && outcome.transactions > 20)
            }
            for proxy in proxies { await proxy.stop() }
            for node in nodes { await node.stop() }
        }

        private static func work(
            _ worker: Int, _ rig: Rig, until end: ContinuousClock.Instant, _ seeded: SeededGenerator
        ) async throws -> Outcome {
            var random = seeded
            var outcome = Outcome()
            let client = try await rig.client(onLoop: worker % 2, version: 2 + worker / 2 % 2)
            let keys = (0..<20).map { "load:\(worker):\($0)" }
            var round = 0
            while ContinuousClock.now < end {
                var commands: [[String]] = []
                var expected: [[String]] = []
                for _ in 0..<30 {
                    let key = keys.randomElement(using: &random)!
                    let other = keys.randomElement(using: &random)!
                    round += 1
                    switch Int.random(in: 0..<5, using: &random) {
                    case 0, 1:
                        commands.append(["SET", key, "\(key)=\(round)"])
                        expected.append([])
                    case 2:
                        commands.append(["GET", key])
                        expected.append([key])
                    case 3:
                        commands.append(["MGET", key, other])
                        expected.append([key, other])
                    default:
                        commands += [
                            ["MULTI"], ["SET", "{\(key)}x", "{\(key)}x=\(round)"], ["GET", "{\(key)}x"], ["EXEC"],
                        ]
                        expected += [[], [], [], ["{\(key)}x"]]
                        outcome.transactions += 1
                    }
                }
                let replies = try await client.pipeline(commands)
                outcome.commands += commands.count
                for (index, reply) in replies.enumerated() {
                    try #require(reply.errorMessage == nil, "\(commands[index]) got \(reply)")
                    let values =
                        commands[index][0] == "EXEC"
                        ? Array(reply.elements?.dropFirst() ?? [])
                        : reply.elements ?? [reply]
                    guard !expected[index].isEmpty else { continue }
                    try #require(values.count == expected[index].count, "\(commands[index]) got \(reply)")
                    for (value, key) in zip(values, expected[index]) where !value.isNull {
                        outcome.values += 1
                        try #require(value.string?.hasPrefix(key + "=") == true, "\(commands[index]) got \(reply)")
                    }
                }
            }
            await client.close()
            return outcome
        }

        /// A transaction goes on where it was begun, also when its node leaves; a watched key would no longer tell of writes.
        @Test func aTransactionIsFinishedWhereItWasBegun() async throws {
            try await AllNodes.with { rig, nodes in
                let two = try Rig.topology(Array(nodes[0..<2]))
                let key = rig.key(on: 2, "moving")
                let client = try await rig.client()
                #expect(
                    try await client.lines(["MULTI", "SET \(key) old", "GET \(key)"])
                        == [.ok, .simple("QUEUED"), .simple("QUEUED")])
                let watcher = try await rig.client()
                try await watcher.command("WATCH", key)
                try await rig.apply(.observe, topology: two)
                #expect(try await watcher.receiveRawToEnd().isEmpty)
                let replies = try await client.lines(["APPEND \(key) er", "EXEC", "GET \(key)", "PING"])
                #expect(
                    replies == [
                        .simple("QUEUED"), .array([.ok, .text("old"), .integer(5)]), .nullBulk, .simple("PONG"),
                    ])
                #expect(try await rig.direct(2, "GET", key) == .text("older"))
                try await eventually("nothing is connected to the node that left") {
                    let clients = try await rig.direct(2, "CLIENT", "LIST").string ?? ""
                    return clients.split(separator: "\n").count == 1
                }
                for each in [client, watcher] { await each.close() }
            }
        }
    }
}
