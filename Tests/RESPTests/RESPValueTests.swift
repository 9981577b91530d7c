import HotKeyTestSupport
import NIOCore
import RESP
import Testing

@Suite struct RESPValueTests {
    /// Only the outermost value is a push: inside another one it would stand beside the elements.
    private static let depthMax = 4

    /// Written again, replacement characters would be longer than what the header says.
    @Test func refusesAVerbatimStringWithoutAFormat() {
        for wire in ["=5\r\n".bytes + [0xFF] + "xy:a\r\n".bytes, "=3\r\ntxt\r\n".bytes, "=5\r\ntxt a\r\n".bytes] {
            #expect(throws: RESPError.self) { try RESPValue(decoding: wire) }
        }
    }

    private static func random(_ random: inout SeededGenerator, depth: Int) -> RESPValue {
        func text() -> String {
            String((0..<Int.random(in: 0...6, using: &random)).map { _ in "aé€ 1\\".randomElement(using: &random)! })
        }
        func bytes() -> [UInt8] {
            (0..<Int.random(in: 0...20, using: &random)).map { _ in .random(in: .min ... .max, using: &random) }
        }
        func values() -> [RESPValue] {
            (0..<Int.random(in: 0...3, using: &random)).map { _ in Self.random(&random, depth: depth - 1) }
        }
        switch Int.random(in: 0..<(depth > 0 ? 13 : 9), using: &random) {
        case 0: return .simpleString(text())
        case 1: return .error("ERR \(text())")
        case 2: return .integer(.random(in: .min ... .max, using: &random))
        case 3: return .bulk(bytes())
        case 4: return .null
        case 5: return .double(.random(in: -1e9...1e9, using: &random))
        case 6: return .boolean(Bool.random(using: &random))
        case 7: return .bigNumber("-123456789012345678901234567890")
        case 8: return .verbatim(format: "txt", bytes())
        case 9: return .array(values())
        case 10: return .set(values())
        case 11 where depth == depthMax: return .push(values())
        default: return .map(zip(values(), values()).map { .init($0, $1) })
        }
    }

    @Test func comesBackAsItWas() throws {
        var random = SeededGenerator(printing: "values")
        for _ in 0..<2000 {
            let value = Self.random(&random, depth: Self.depthMax)
            let wire = value.encoded(.resp3)
            #expect(try RESPValue(decoding: wire) == value)
            #expect(ScannerFeed.scan(wire).lengths == [wire.count])
            // RESP2 has fewer types: the frame must hold, the value may be another.
            let old = value.encoded(.resp2)
            #expect(ScannerFeed.scan(old).lengths == [old.count])
            let first = try RESPValue(decoding: old)
            #expect(try RESPValue(decoding: first.encoded(.resp2)) == first)
        }
    }

    @Test func becomesInRESP2WhatRedisSendsThere() {
        #expect(RESPValue.null.encoded(.resp2) == "$-1\r\n".bytes)
        #expect(RESPValue.boolean(true).encoded(.resp2) == ":1\r\n".bytes)
        #expect(RESPValue.double(1.5).encoded(.resp2) == "$3\r\n1.5\r\n".bytes)
        #expect(RESPValue.map([.init(.bulk("a"), .integer(1))]).encoded(.resp2) == "*2\r\n$1\r\na\r\n:1\r\n".bytes)
        #expect(RESPValue.set([.integer(1)]).encoded(.resp2) == "*1\r\n:1\r\n".bytes)
        #expect(RESPValue.verbatim(format: "txt", "a".bytes).encoded(.resp2) == "$1\r\na\r\n".bytes)
        #expect(RESPValue.bigNumber("12").encoded(.resp2) == "$2\r\n12\r\n".bytes)
    }

    @Test func noTextBreaksTheFrame() throws {
        for value in [RESPValue.error("ERR a\r\n+OK\r\nb"), .simpleString("a\r\n:1\r\n"), .bigNumber("1\r\n2")] {
            for version in [ProtocolVersion.resp2, .resp3] {
                let wire = value.encoded(version)
                #expect(ScannerFeed.scan(wire).lengths == [wire.count], "\(value)")
            }
        }
    }

    @Test func refusesEveryTruncation() throws {
        for reply in ReplyScannerTests.replies {
            let wire = reply.bytes
            _ = try RESPValue(decoding: wire)
            for end in 0..<wire.count {
                #expect(throws: RESPError.self, "\(reply.debugDescription) cut at \(end)") {
                    try RESPValue(decoding: Array(wire[..<end]))
                }
            }
            #expect(throws: RESPError.self) { try RESPValue(decoding: wire + "+OK\r\n".bytes) }
        }
    }

    @Test func boundsDepthAndClaims() throws {
        func nested(_ levels: Int) -> [UInt8] { String(repeating: "*1\r\n", count: levels).bytes + ":1\r\n".bytes }
        _ = try RESPValue(decoding: nested(RESPLimits.depthMax))
        for wire in [
            nested(RESPLimits.depthMax + 1), String(repeating: "|0\r\n", count: 100_000).bytes,
            String(repeating: "*1\r\n", count: 100_000).bytes, "*\(RESPLimits.elementsMax + 1)\r\n".bytes,
            "%\(RESPLimits.elementsMax + 1)\r\n".bytes,
        ] {
            let error = #expect(throws: RESPError.self) { try RESPValue(decoding: wire) }
            #expect(error?.code == .replyTooLarge)
        }
        #expect(throws: RESPError.self) { try RESPValue(decoding: "*1048576\r\n".bytes) }
        #expect(throws: RESPError.self) { try RESPValue(decoding: "$536870912\r\n".bytes) }
        #expect(throws: RESPError.self) { try RESPValue(decoding: "$9223372036854775807\r\n".bytes) }
    }

    @Test func writesEveryCount() throws {
        for count in [0, 1, 9, 10, 99, 100, 12_345, Int.max, -1, -10, Int.min] {
            var buffer = ByteBuffer()
            RESPWriter.writeHeader(UInt8(ascii: ":"), count, to: &buffer)
            #expect(String(buffer: buffer) == ":\(count)\r\n")
            #expect(try RESPValue(decoding: buffer) == .integer(Int64(count)))
        }
    }

    @Test(arguments: ["01", "+1", "-0", "", "-", "1 ", " 1", "9223372036854775808", "-9223372036854775809", "1e3"])
    func refusesNumbersThatRedisRefuses(_ digits: String) {
        #expect(throws: RESPError.self) { try RESPValue(decoding: ":\(digits)\r\n".bytes) }
    }
}
