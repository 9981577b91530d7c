import HotKeyTestSupport
import RESP
import Testing

@Suite struct ReplyScannerTests {
    static let replies: [String] = [
        "+OK\r\n", "+\r\n", "-ERR no\r\n", ":0\r\n", ":-12\r\n", "$0\r\n\r\n", "$-1\r\n", "$5\r\na\r\nbc\r\n", "*0\r\n",
        "*-1\r\n",
        "*2\r\n$1\r\na\r\n:1\r\n", "_\r\n", "#t\r\n", "#f\r\n", ",1.5\r\n", ",inf\r\n",
        "(123456789012345678901234567890\r\n",
        "!10\r\nERR a\r\nbcd\r\n", "=8\r\ntxt:a\r\nb\r\n", "%0\r\n", "%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n",
        "~2\r\n+a\r\n+b\r\n",
        ">3\r\n+message\r\n+c\r\n$2\r\nhi\r\n", "|1\r\n+ttl\r\n:3\r\n+OK\r\n",
        "|1\r\n+a\r\n%1\r\n+b\r\n+c\r\n*1\r\n|0\r\n:1\r\n",
        "*1\r\n*1\r\n*1\r\n*2\r\n$3\r\nabc\r\n*-1\r\n", "*3\r\n*2\r\n:1\r\n:2\r\n%1\r\n+k\r\n~1\r\n$-1\r\n#t\r\n",
        // A push that stands inside another value is not one of its elements.
        "*2\r\n+a\r\n>2\r\n+message\r\n*1\r\n:5\r\n:1\r\n",
    ]

    @Test(arguments: replies)
    func findsTheEndHoweverTheBytesArrive(_ reply: String) {
        let wire = reply.bytes
        for next in ["", "+", "$5\r\nhello\r\n"] {
            let all = wire + next.bytes
            for split in 0...all.count {
                var feed = ScannerFeed()
                feed.feed(all[..<split])
                if split < wire.count { #expect(feed.lengths.isEmpty, "\(reply.debugDescription) ended at \(split)") }
                feed.feed(all[split...])
                #expect(feed.lengths.first == wire.count, "\(reply.debugDescription) split at \(split)")
                #expect(feed.error == nil)
            }
        }
        var dripped = ScannerFeed()
        for byte in wire + wire { dripped.feed([byte]) }
        #expect(dripped.lengths == [wire.count, wire.count])
    }

    @Test(arguments: [
        "x\r\n", "\0\r\n", "$a\r\n", "$-2\r\n", "$\r\n", "$536870913\r\n", "*x\r\n", "*-2\r\n", "%1x\r\n",
        "*1\r\n?\r\n", "\r\n\r\n",
        "*99999999999999999999\r\n",
    ])
    func refusesWhatIsNotRESP(_ text: String) {
        #expect(ScannerFeed.scan(text.bytes).error?.code == .malformedReply)
    }

    /// Looked at once, not again for each piece: that would be 17 billion bytes.
    @Test(.timeLimit(.minutes(1))) func aLongLineInManyPiecesIsReadOnce() {
        let line = "-".bytes + [UInt8](repeating: UInt8(ascii: "e"), count: 2 * 1024 * 1024) + "\r\n".bytes
        var scanner = ReplyScanner()
        line.withUnsafeBytes { bytes in
            for count in stride(from: 128, to: bytes.count, by: 128) {
                let found = try? scanner.scan(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
                #expect(found == .some(nil))
            }
            #expect((try? scanner.scan(bytes)) == bytes.count)
        }
    }

    @Test func boundsTextLines() {
        let line = "+".bytes + [UInt8](repeating: UInt8(ascii: "x"), count: RESPLimits.textLineBytesMax)
        #expect(ScannerFeed.scan(line).error?.code == .malformedReply)
    }

    @Test func boundsHeadersButNotErrorTexts() {
        let long = String(repeating: "1", count: RESPLimits.lineBytesMax + 10)
        for type in [":", "$", "*", "%", "_", "#"] {
            #expect(ScannerFeed.scan("\(type)\(long)".bytes).error?.code == .malformedReply, "\(type)")
        }
        for type in ["+", "-", "("] {
            #expect(ScannerFeed.scan("\(type)\(long)\r\n".bytes).lengths == [long.utf8.count + 3], "\(type)")
        }
    }

    /// Whatever arrives, the scanner never reads behind it (a debug build traps there) and never claims more than there is.
    @Test func survivesRubbish() {
        var random = SeededGenerator(printing: "scanner fuzz")
        for _ in 0..<20_000 {
            var wire: [UInt8] = []
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                wire += Self.replies.randomElement(using: &random)!.bytes
            }
            for _ in 0..<Int.random(in: 0...3, using: &random) {
                let place = Int.random(in: 0..<wire.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: wire[place] = UInt8.random(in: .min ... .max, using: &random)
                case 1: if wire.count > 1 { wire.remove(at: place) }
                default: wire.insert("*$|%-\r\n09".bytes.randomElement(using: &random)!, at: place)
                }
            }
            let whole = ScannerFeed.scan(wire)
            let claimed = whole.lengths.reduce(0, +)
            var pieces = ScannerFeed()
            var start = 0
            while start < wire.count {
                let end = min(wire.count, start + Int.random(in: 1...5, using: &random))
                pieces.feed(wire[start..<end])
                start = end
            }
            guard claimed + whole.rest.count == wire.count, whole.lengths.allSatisfy({ $0 > 0 }),
                pieces.lengths == whole.lengths, pieces.error == whole.error
            else {
                Issue.record("seed \(random.seed): \(wire)")
                return
            }
            // The decoder sees the same bytes and must not trap either; it may refuse what the scanner let pass.
            _ = try? RESPValue(decoding: wire)
        }
    }

    /// Every type that Redis can be made to send, in one pipeline.
    @Test func takesApartWhatRedisSends() async throws {
        let client = try await SharedRedis.client()
        let types = [
            "string", "integer", "double", "null", "array", "set", "map", "attrib", "verbatim", "true", "false",
            "bignum",
        ]
        var commands = [["HELLO", "3"]] + types.map { ["DEBUG", "PROTOCOL", $0] }
        commands += [
            ["COMMAND"], ["COMMAND", "DOCS", "get", "set"], ["INFO"], ["GET"],
            ["ZRANGE", "none", "0", "-1", "WITHSCORES"],
            ["CONFIG", "GET", "*"], ["ECHO", "end"],
        ]
        try await client.send(raw: commands.flatMap { encode($0) })
        var feed = ScannerFeed()
        var bytes: [UInt8] = []
        while feed.lengths.count < commands.count, feed.error == nil {
            let chunk = try await client.receiveRaw()
            #expect(!chunk.isEmpty)
            bytes += chunk
            feed.feed(chunk)
        }
        await client.close()
        #expect(feed.error == nil)
        #expect(feed.rest.isEmpty)
        var start = 0
        var values: [RESPValue] = []
        for length in feed.lengths {
            values.append(try RESPValue(decoding: Array(bytes[start..<start + length])))
            start += length
        }
        #expect(values.last == .bulk("end"))
        #expect(values.contains(.boolean(true)))
        #expect(values.contains(.bigNumber("1234567999999999999999999999999999999")))
        #expect(values.contains(.verbatim(format: "txt", "This is a verbatim\nstring".bytes)))
    }
}
