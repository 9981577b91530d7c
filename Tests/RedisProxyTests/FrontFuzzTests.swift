import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Broken clients on raw sockets before real nodes, while others work.
    @Suite struct FrontFuzz {
        private static let rounds = 400

        /// Streams of commands, changed at random, cut into pieces and ended in any manner. The proxy lives, what the others ask is
        /// answered with their own values, and nothing is left of the broken ones.
        @Test(arguments: [1, 2, 3] as [UInt64])
        func brokenClientsHarmNobody(seed: UInt64) async throws {
            try await Rig.with(configure: { $0.requestBytesMax = 256 << 10 }) { rig in
                let stop = Guarded(false)
                let checked = Guarded(0)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for worker in 0..<2 {
                        group.addTask { try await Self.watch(rig, worker, stop, checked) }
                    }
                    try await eventually("the others work") { checked.with { $0 } > 0 }
                    try await withThrowingTaskGroup(of: Void.self) { broken in
                        for worker in 0..<4 {
                            broken.addTask {
                                var random = SeededGenerator(seed: seed &* 1000 &+ UInt64(worker))
                                for _ in 0..<Self.rounds { try await Self.breakIn(rig.port, &random) }
                            }
                        }
                        try await broken.waitForAll()
                    }
                    stop.with { $0 = true }
                    try await group.waitForAll()
                }
                #expect(checked.with { $0 } > 20, "seed \(seed)")
                try await eventually("the broken clients are gone, seed \(seed)") {
                    try await rig.server.statistics().clientsConnected == 0
                }
                let client = try await rig.client()
                #expect(try await client.command("PING") == .simple("PONG"))
                await client.close()
                #expect(try await rig.server.statistics().protocolErrors > 0)
            }
        }

        /// Asks for values that name their key, and for nothing else may it be given.
        private static func watch(
            _ rig: Rig, _ worker: Int, _ stop: Guarded<Bool>, _ checked: Guarded<Int>
        ) async throws {
            let client = try await rig.client()
            let keys = (0..<3).map { rig.key(on: $0, "sound-\(worker)-\($0)") }
            var turn = 0
            while !stop.with({ $0 }) {
                turn += 1
                let values = keys.map { "\($0)=\(turn)" }
                let replies = try await client.pipeline(
                    zip(keys, values).map { ["SET", $0, $1] } + keys.map { ["GET", $0] } + [
                        ["ECHO", "\(worker).\(turn)"]
                    ])
                #expect(replies == keys.map { _ in .ok } + values.map { .text($0) } + [.text("\(worker).\(turn)")])
                checked.with { $0 += 1 }
            }
            await client.close()
        }

        private static func breakIn(_ port: Int, _ random: inout SeededGenerator) async throws {
            let bytes = stream(&random)
            let client = try await RedisTestClient.connect(port: port)
            try await client.setTimeout(.milliseconds(100))
            do {
                var start = 0
                while start < bytes.count {
                    let end = min(bytes.count, start + Int.random(in: 1...max(1, bytes.count / 2), using: &random))
                    try await client.send(raw: Array(bytes[start..<end]))
                    start = end
                }
                switch Int.random(in: 0..<4, using: &random) {
                case 0: await client.reset()
                case 1:
                    try await client.finishWriting()
                    _ = try await client.receiveRawToEnd()
                case 2: _ = try await client.receiveRaw()
                default: break
                }
            } catch let error as TestSupportError where [.connectionClosed, .timeout].contains(error.code) {
                // Let go, as it should be, before it had said everything; or it waits in vain for a reply to half a command.
            }
            await client.close()
        }

        /// Some commands, of which some bytes are changed, left out, doubled or put elsewhere.
        private static func stream(_ random: inout SeededGenerator) -> [UInt8] {
            let key = "fuzz:\(Int.random(in: 0..<20, using: &random))"
            let commands: [[String]] = [
                ["GET", key], ["SET", key, String(repeating: "x", count: Int.random(in: 0...5000, using: &random))],
                ["MGET", key, "fuzz:a", "fuzz:b", "fuzz:c"], ["DEL", key, "fuzz:a"], ["PING"], ["HELLO", "3"],
                ["MULTI"],
                ["INCR", key], ["EXEC"], ["SUBSCRIBE", "fuzz"], ["HK.ECHO", key], ["SCAN", "0"], ["WATCH", key],
                ["RESET"],
                ["BLPOP", key, "0.01"], ["CLIENT", "REPLY", "OFF"], ["LPUSH", key, "v"], ["QUIT"],
            ]
            var bytes: [UInt8] = []
            for _ in 0..<Int.random(in: 1...20, using: &random) {
                bytes += encode(commands.randomElement(using: &random)!)
            }
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                guard !bytes.isEmpty else { break }
                let place = Int.random(in: 0..<bytes.count, using: &random)
                let length = Int.random(in: 0...min(16, bytes.count - place), using: &random)
                switch Int.random(in: 0..<6, using: &random) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.removeSubrange(place..<place + length)
                case 2: bytes.insert(contentsOf: bytes[place..<place + length], at: place)
                case 3:
                    bytes.insert(
                        contentsOf: (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }, at: place)
                case 4:
                    let word = ["$", "*", "\r\n", "-1", "$999999999\r\n", "*1048577\r\n", "\"", "\0", "*-1\r\n"]
                    bytes.insert(contentsOf: word.randomElement(using: &random)!.utf8, at: place)
                default: bytes.removeLast(length)
                }
            }
            return bytes
        }
    }
}
