import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Values that are passed on while they still arrive.
    @Suite struct LargeValues {
        /// Blocks of odd length that name the value and their place in it, so that what is lost, twice or another's is found.
        private static func value(_ name: String, count: Int) -> [UInt8] {
            let filler = [UInt8](repeating: UInt8(ascii: "."), count: 4_093)
            var value: [UInt8] = []
            value.reserveCapacity(count + filler.count + name.utf8.count + 16)
            while value.count < count { value += Array("<\(name)@\(value.count)>".utf8) + filler }
            return Array(value.prefix(count))
        }

        private static let megabyte = 1024 * 1024

        @Test(arguments: [1, 3], [2, 3])
        func theyPassUnchangedAmongOtherCommands(nodes: Int, version: Int) async throws {
            let servers = Array(try await SharedNodes.nodes().prefix(nodes))
            try await Rig.with(nodes: servers) { rig in
                let client = try await rig.client(onLoop: 0, version: version)
                let other = try await rig.client(onLoop: 0)
                for megabytes in [1, 3, 9] {
                    let key = "large:\(nodes):\(version):\(megabytes)"
                    let value = Self.value(key, count: megabytes * Self.megabyte + 17)
                    // Small ones before and behind, and one behind in the same pipeline that sees what the large one wrote.
                    var sent = encode(["SET", "\(key):before", "b"])
                    sent += encode(words: [Array("SET".utf8), Array(key.utf8), value])
                    sent += encode(["STRLEN", key]) + encode(["GET", "\(key):before"])
                    try await client.send(raw: sent)
                    #expect(try await other.command("PING") == .simple("PONG"))
                    #expect(try await client.receive() == .ok)
                    #expect(try await client.receive() == .ok)
                    #expect(try await client.receive() == .integer(Int64(value.count)))
                    #expect(try await client.receive() == .text("b"))
                    try await client.send(
                        raw: encode(["GET", "\(key):before"]) + encode(["GET", key]) + encode(["GET", "\(key):before"]))
                    #expect(try await client.receive() == .text("b"))
                    let reply = try await client.receive()
                    #expect(reply.bytes == value, "\(megabytes) MiB")
                    #expect(try await client.receive() == .text("b"))
                    #expect(try await other.command("DEL", key, "\(key):before") == .integer(2))
                }
                // A value with something behind it, and one that overwrites with options.
                let value = Self.value("append", count: 2 * Self.megabyte)
                let withOptions = ["SET", "large:options", "", "EX", "100"].map { Array($0.utf8) }
                try await client.send(
                    raw: encode(words: [withOptions[0], withOptions[1], value, withOptions[3], withOptions[4]]))
                #expect(try await client.receive() == .ok)
                #expect(try await client.command("TTL", "large:options") == .integer(100))
                try await client.send(raw: encode(words: [Array("APPEND".utf8), Array("large:options".utf8), value]))
                #expect(try await client.receive() == .integer(Int64(2 * value.count)))
                try await client.send(raw: encode(words: [Array("LPUSH".utf8), Array("large:options".utf8), value]))
                #expect(try await client.receive().errorMessage?.hasPrefix("WRONGTYPE") == true)
                #expect(try await client.command("DEL", "large:options") == .integer(1))
                await client.close()
                await other.close()
            }
        }

        /// Others do not wait for one that reads slowly, and it gets everything in the end.
        @Test func aSlowReaderHoldsUpNobody() async throws {
            let servers = Array(try await SharedNodes.nodes().prefix(1))
            let timeoutMilliseconds: Int64 = 500
            try await Rig.with(
                nodes: servers,
                configure: {
                    $0.outputBytesMax = 1024 * 1024
                    $0.requestTimeoutMilliseconds = timeoutMilliseconds
                }
            ) { rig in
                let slow = try await rig.client(onLoop: 0)
                let other = try await rig.client(onLoop: 0)
                let value = Self.value("slow", count: 40 * Self.megabyte)
                try await slow.send(raw: encode(words: [Array("SET".utf8), Array("slow:key".utf8), value]))
                #expect(try await slow.receive() == .ok)
                try await slow.send(raw: encode(["GET", "slow:key"]) + encode(["GET", "slow:other"]))
                // Once the reply has begun, what others ask takes another connection; before, it could stand behind the reply.
                var reply = try await slow.receiveRaw()
                for number in 0..<200 {
                    #expect(try await other.command("SET", "slow:other", "\(number)") == .ok)
                    #expect(try await other.command("GET", "slow:other") == .text("\(number)"))
                }
                // Longer than a node may take: only what this client asked itself waits behind what it does not read.
                try await Task.sleep(for: .milliseconds(4 * timeoutMilliseconds))
                let header = Array("$\(value.count)\r\n".utf8)
                while reply.count < header.count + value.count + 2 { reply += try await slow.receiveRaw() }
                #expect(reply.starts(with: header) && reply[header.count...].starts(with: value))
                #expect(try await other.command("DEL", "slow:key", "slow:other") == .integer(2))
                await slow.close()
                await other.close()
            }
        }

        /// What was asked before the large reply began stands behind it, and its client waits no longer than for a node.
        @Test func aClientThatReadsNothingIsLetGoOnceOthersHaveWaited() async throws {
            let nodes = try await Rig.startNodes(1)
            try await Rig.with(
                nodes: nodes, loops: 1,
                configure: {
                    $0.outputBytesMax = 1024 * 1024
                    $0.requestTimeoutMilliseconds = 2_000
                }
            ) { rig in
                let slow = try await rig.client()
                let other = try await rig.client()
                let value = Self.value("large", count: 40 * Self.megabyte)
                try await slow.send(raw: encode(words: [Array("SET".utf8), Array("large".utf8), value]))
                #expect(try await slow.receive() == .ok)
                #expect(try await other.command("SET", "small", "s") == .ok)
                nodes[0].suspend()
                let before = try await rig.server.statistics().requests
                try await slow.send(raw: encode(["GET", "large"]))
                try await eventually("the proxy has the large one first") {
                    try await rig.server.statistics().requests == before + 1
                }
                try await other.send(raw: encode(["GET", "small"]))
                try await eventually("the proxy has both") {
                    try await rig.server.statistics().requests == before + 2
                }
                nodes[0].resume()
                #expect(try await other.receive() == .text("s"))
                #expect(try await slow.receiveRawToEnd().count < value.count)
                await slow.close()
                await other.close()
            }
            for node in nodes { await node.stop() }
        }

        @Test func aClientThatGoesInTheMiddleHarmsNobody() async throws {
            let servers = Array(try await SharedNodes.nodes().prefix(1))
            try await Rig.with(nodes: servers) { rig in
                let other = try await rig.client(onLoop: 0)
                let value = Self.value("gone", count: 12 * Self.megabyte)
                #expect(try await other.command("SET", "gone:small", "s") == .ok)
                let writer = try await rig.client(onLoop: 0)
                try await writer.send(raw: encode(words: [Array("SET".utf8), Array("gone:key".utf8), value]))
                #expect(try await writer.receive() == .ok)
                await writer.close()
                for _ in 0..<3 {
                    let reader = try await rig.client(onLoop: 0)
                    try await reader.send(raw: encode(["GET", "gone:key"]))
                    #expect(try await other.command("GET", "gone:small") == .text("s"))
                    await reader.close()
                    let half = try await rig.client(onLoop: 0)
                    try await half.send(
                        raw: Array(
                            encode(words: [Array("SET".utf8), Array("gone:key".utf8), value]).prefix(5 * Self.megabyte))
                    )
                    #expect(try await other.command("GET", "gone:small") == .text("s"))
                    await half.close()
                    #expect(try await other.command("STRLEN", "gone:key") == .integer(Int64(value.count)))
                }
                try await eventually("everyone is gone but one") {
                    try await rig.server.statistics().clientsConnected == 1
                }
                #expect(try await other.command("DEL", "gone:key", "gone:small") == .integer(2))
                await other.close()
            }
        }

        /// A local value is dropped by a large one, too.
        @Test func aLargeWriteOfAHotKeyIsSeenAtOnce() async throws {
            try await Rig.with { rig in
                let client = try await rig.client(onLoop: 0)
                let reader = try await rig.client(onLoop: 1)
                try await rig.apply(.mitigate, [hot("large:hot", .cache)])
                #expect(try await client.command("SET", "large:hot", "old") == .ok)
                for _ in 0..<3 { #expect(try await reader.command("GET", "large:hot") == .text("old")) }
                let value = Self.value("hot", count: 2 * Self.megabyte)
                try await client.send(raw: encode(words: [Array("SET".utf8), Array("large:hot".utf8), value]))
                #expect(try await client.receive() == .ok)
                let reply = try await reader.command("GET", "large:hot")
                #expect(reply.bytes == value)
                #expect(try await client.command("DEL", "large:hot") == .integer(1))
                await client.close()
                await reader.close()
            }
        }

        @Test func whatMustBeHeldIsBounded() async throws {
            try await Rig.with(configure: {
                $0.heldRequestBytesMax = 2 * 1024 * 1024
                $0.requestBytesMax = 8 * 1024 * 1024
            }) { rig in
                func refusal(_ command: [UInt8]) async throws -> String? {
                    let client = try await rig.client()
                    try await client.send(raw: command)
                    let text = try await client.receive().errorMessage
                    await client.close()
                    return text
                }
                let three = Self.value("three", count: 3 * Self.megabyte)
                // Over several nodes it is taken apart, so it is held.
                let held = try await refusal(
                    encode(words: [Array("MSET".utf8), Array("a".utf8), three, Array("b".utf8), three]))
                #expect(
                    held
                        == "ERR Protocol error: command of more than 2097152 bytes, which hkagent has to hold as a whole"
                )
                let announced = Array("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1073741824\r\nxx".utf8)
                #expect(try await refusal(announced) == "ERR Protocol error: invalid bulk length")
                let tail =
                    Array("*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$3145728\r\n".utf8) + three + Array("\r\n$6000000\r\n".utf8)
                let texts = try await refusal(tail)
                #expect(texts?.contains("closed the connection") == true, "\(texts ?? "")")
                let client = try await rig.client()
                #expect(try await client.command("PING") == .simple("PONG"))
                await client.close()
            }
        }
    }
}
