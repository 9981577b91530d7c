import HotKeyTestSupport
import NIOCore
import RESP
import Testing

@Suite struct CommandParserTests {
    static let pipelines: [[UInt8]] = [
        encode(["GET", "key"]),
        encode(["SET", "", "a\r\nb\0c"]) + encode(["PING"]),
        "PING\r\n\r\n*0\r\n*-1\r\n  \r\nSET k \"a b\\x41\\n\" 'it\\'s'\nGET k\r\n".bytes + encode(["ECHO", "$3\r\nx"]),
        encode(["MSET"] + (0..<20).flatMap { ["k\($0)", String(repeating: "v", count: $0)] }),
        "*2\r\n$4\r\nECHO\r\n$1\r\naXY*1\r\n$4\r\nPING\r\n".bytes,
        encode(["A"]) + "*2\r\n$1\r\nB\r\n$x\r\n".bytes,
        encode(["A"]) + "SET 'unbalanced\r\n".bytes,
    ]

    @Test(arguments: pipelines)
    func findsTheSameCommandsHoweverTheBytesArrive(_ wire: [UInt8]) {
        let whole = ParserFeed.parse(wire)
        #expect(!whole.isEmpty)
        for first in 0...wire.count {
            for second in stride(from: first, through: wire.count, by: 1 + wire.count / 40) {
                var feed = ParserFeed()
                feed.feed(wire[..<first])
                feed.feed(wire[first..<second])
                feed.feed(wire[second...])
                guard feed.parsed == whole else {
                    Issue.record("split at \(first) and \(second): \(feed.parsed) instead of \(whole)")
                    return
                }
            }
        }
        var dripped = ParserFeed()
        for byte in wire { dripped.feed([byte]) }
        #expect(dripped.parsed == whole)
    }

    @Test func takesCommandsApart() {
        #expect(
            ParserFeed.parse(Self.pipelines[2]) == [
                .inline(["PING".bytes]), .inline(["SET".bytes, "k".bytes, "a bA\n".bytes, "it's".bytes]),
                .inline(["GET".bytes, "k".bytes]), .command(["ECHO".bytes, "$3\r\nx".bytes]),
            ])
        #expect(
            ParserFeed.parse(Self.pipelines[1]) == [
                .command(["SET".bytes, [], "a\r\nb\0c".bytes]), .command(["PING".bytes]),
            ])
        // As Redis, what stands between an argument and the next header is skipped by length.
        #expect(
            ParserFeed.parse(Self.pipelines[4]) == [.command(["ECHO".bytes, "a".bytes]), .command(["PING".bytes])])
    }

    // MARK: Errors

    /// Lines that Redis refuses.
    static let malformed: [[UInt8]] = {
        var inputs = [
            "*abc\r\n", "*99999999999999999999\r\n", "*3147483647\r\n", "*+1\r\n", "*01\r\n", "* 1\r\n", "*1 \r\n",
            "*-\r\n", "*\r\n",
            "*-0\r\n", "*1\r\n$abc\r\n", "*1\r\n$-1\r\n", "*1\r\n$-5\r\n", "*1\r\n$\r\n", "*1\r\n$+3\r\n",
            "*1\r\n$03\r\n",
            "*1\r\n$536870913\r\n", "*1\r\n$9223372036854775808\r\n", "*2\r\n$3\r\nGET\r\n:1\r\n", "*1\r\n\r\n",
            "*1\r\n\n\r\n",
            "SET \"a\r\n", "SET 'a\r\n", "SET \"a\"b\r\n", "SET 'a'b c\r\n", "\"\r\n", "SET k \"a\\\"\r\n",
        ].map(\.bytes)
        for byte in UInt8(0x20)...0x7E where byte != UInt8(ascii: "$") {
            inputs.append("*1\r\n".bytes + [byte] + "3\r\nGET\r\n".bytes)
        }
        let long = [UInt8](repeating: UInt8(ascii: "1"), count: 70_000)
        inputs += [long, "*".bytes + long, "*1\r\n$".bytes + long]
        return inputs
    }()

    @Test func errorsAreRedissOwn() async throws {
        for input in Self.malformed {
            let client = try await SharedRedis.client()
            try await client.send(raw: input)
            let theirs = String(decoding: try await client.receiveRawToEnd(), as: UTF8.self)
            await client.close()
            guard case .error(let ours)? = ParserFeed.parse(input).last else {
                Issue.record("\(String(decoding: input.prefix(40), as: UTF8.self)): accepted, Redis says \(theirs)")
                continue
            }
            #expect(Self.reply(ours) == theirs, "\(String(decoding: input.prefix(40), as: UTF8.self))")
        }
    }

    private static func reply(_ message: String) -> String {
        var buffer = ByteBuffer()
        RESPWriter.writeError("ERR Protocol error: \(message)", to: &buffer)
        return String(buffer: buffer)
    }

    @Test(arguments: [("", 0), ("*", 1), ("*1\r\n$", 1)])
    func headersMayBeAsLongAsRediss(_ start: String, _ headerBytes: Int) async throws {
        let longest = start.bytes + [UInt8](repeating: UInt8(ascii: "1"), count: RESPLimits.lineBytesMax - headerBytes)
        #expect(ParserFeed.parse(longest).isEmpty)
        #expect(ParserFeed.parse(longest + [UInt8(ascii: "1")]).count == 1)

        let client = try await SharedRedis.client()
        try await client.send(raw: longest)
        let other = try await SharedRedis.client()
        try await eventually("Redis holds a header of the longest kind and has not refused it") {
            let clients = try await other.command("CLIENT", "LIST").string ?? ""
            return clients.split(separator: " ").contains {
                $0.hasPrefix("qbuf=") && (Int($0.dropFirst(5)) ?? 0) >= RESPLimits.lineBytesMax
            }
        }
        await other.close()
        try await client.send(raw: [UInt8(ascii: "1")])
        let reply = String(decoding: try await client.receiveRawToEnd(), as: UTF8.self)
        guard case .error(let ours)? = ParserFeed.parse(longest + [UInt8(ascii: "1")]).last else {
            Issue.record("no error")
            return
        }
        #expect(reply == Self.reply(ours))
    }

    @Test func boundsWhatItAsksToBuffer() {
        #expect(ParserFeed.parse("*\(RESPLimits.argumentsMax + 1)\r\n".bytes) == [.error("invalid multibulk length")])
        #expect(ParserFeed.parse("*\(RESPLimits.argumentsMax)\r\n".bytes).isEmpty)

        var small = ParserFeed(CommandParser(bulkBytesMax: 10, commandBytesMax: 64))
        small.feed("*1\r\n$11\r\n".bytes)
        #expect(small.parsed == [.error("invalid bulk length")])

        var whole = ParserFeed(CommandParser(bulkBytesMax: 50, commandBytesMax: 64))
        whole.feed("*3\r\n$40\r\n".bytes + [UInt8](repeating: 0, count: 40) + "\r\n$20\r\n".bytes)
        #expect(whole.parsed == [.error("command larger than 64 bytes")])
    }

    // MARK: Against Redis and chance

    /// Redis keeps the arguments of an inline RPUSH, so it can be asked how it took the line apart.
    @Test func splitsInlineCommandsAsRedis() async throws {
        var random = SeededGenerator(printing: "inline")
        let alphabet = "ab \"'\\xn4F\t".bytes
        var client = try await SharedRedis.client()
        var compared = 0
        for _ in 0..<600 {
            let text = (0..<Int.random(in: 1...14, using: &random)).map { _ in alphabet.randomElement(using: &random)! }
            let line = "RPUSH inline ".bytes + text + "\r\n".bytes
            let ours = ParserFeed.parse(line)
            try await client.send(raw: line)
            let reply = try await client.receive()
            switch ours.first {
            case .inline(let words)? where words.count > 2:
                let stored = try await client.command("LRANGE", "inline", "0", "-1")
                #expect(stored.elements?.compactMap(\.bytes) == Array(words.dropFirst(2)), "\(text): \(reply)")
                try await client.command("DEL", "inline")
                compared += 1
            case .inline: #expect(reply.errorMessage?.contains("wrong number of arguments") == true, "\(text)")
            case .error(let message)?:
                #expect(reply == .error("ERR Protocol error: \(message)"), "\(text)")
                await client.close()
                client = try await SharedRedis.client()
            default: Issue.record("\(text): \(ours)")
            }
        }
        await client.close()
        #expect(compared > 100)
    }

    @Test func survivesRubbishAndFindsTheSameInEveryPiece() {
        var random = SeededGenerator(printing: "parser fuzz")
        for _ in 0..<4000 {
            var wire = Self.pipelines.randomElement(using: &random)! + Self.pipelines.randomElement(using: &random)!
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                let place = Int.random(in: 0..<wire.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: wire[place] = UInt8.random(in: .min ... .max, using: &random)
                case 1: wire.remove(at: place)
                default: wire.insert("*$-\r\n019\"".bytes.randomElement(using: &random)!, at: place)
                }
            }
            let whole = ParserFeed.parse(wire)
            var pieces = ParserFeed()
            var start = 0
            while start < wire.count {
                let end = min(wire.count, start + Int.random(in: 1...9, using: &random))
                pieces.feed(wire[start..<end])
                start = end
            }
            guard pieces.parsed == whole else {
                Issue.record("seed \(random.seed), \(wire): \(pieces.parsed) in pieces, \(whole) at once")
                return
            }
        }
    }
}
