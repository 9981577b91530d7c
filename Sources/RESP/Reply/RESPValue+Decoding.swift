public import NIOCore

extension RESPValue {
    /// Decodes one whole reply and nothing else. Allocates no more than the bytes that are there justify: depth is bounded by
    /// ``RESPLimits/depthMax`` and arrays grow with their elements, not with their headers.
    public init(decoding bytes: ByteBuffer) throws(RESPError) {
        let contents = Array(bytes.readableBytesView)
        self = try RESPValue(decoding: contents)
    }

    public init(decoding bytes: [UInt8]) throws(RESPError) {
        var decoder = Decoder(bytes: bytes)
        self = try decoder.value(depth: 0)
        guard decoder.position == bytes.count else {
            throw RESPError(.malformedReply, "\(bytes.count - decoder.position) bytes behind the end of a reply")
        }
    }

    private struct Decoder {
        let bytes: [UInt8]
        var position = 0

        mutating func value(depth: Int) throws(RESPError) -> RESPValue {
            guard depth <= RESPLimits.depthMax else {
                throw RESPError(.replyTooLarge, "a reply nested deeper than \(RESPLimits.depthMax) levels")
            }
            guard position < bytes.count else { throw Self.truncated }
            let type = bytes[position]
            position += 1
            switch type {
            case UInt8(ascii: "+"): return .simpleString(try text())
            case UInt8(ascii: "-"): return .error(try text())
            case UInt8(ascii: ":"): return .integer(try number())
            case UInt8(ascii: "("): return .bigNumber(try text())
            case UInt8(ascii: "_"):
                _ = try line()
                return .null
            case UInt8(ascii: "#"):
                let flag = try text()
                guard flag == "t" || flag == "f" else { throw RESPError(.malformedReply, "a boolean is t or f") }
                return .boolean(flag == "t")
            case UInt8(ascii: ","):
                let digits = try text()
                guard let value = Double(digits) else { throw RESPError(.malformedReply, "a double that is no number") }
                return .double(value)
            case UInt8(ascii: "$"): return try bulk().map(RESPValue.bulk) ?? .null
            case UInt8(ascii: "!"): return .error(String(decoding: try bulk() ?? [], as: UTF8.self))
            case UInt8(ascii: "="):
                let contents = try bulk() ?? []
                guard contents.count >= 4, contents[3] == UInt8(ascii: ":"),
                    let format = String(validating: contents[..<3], as: UTF8.self)
                else {
                    throw RESPError(.malformedReply, "a verbatim string without a format of three letters")
                }
                return .verbatim(format: format, Array(contents[4...]))
            case UInt8(ascii: "*"): return try elements(depth).map(RESPValue.array) ?? .null
            case UInt8(ascii: "~"): return .set(try elements(depth) ?? [])
            case UInt8(ascii: ">"):
                let parts = try elements(depth) ?? []
                // Inside another value it is none of its elements.
                return depth == 0 ? .push(parts) : try value(depth: depth + 1)
            case UInt8(ascii: "%"): return .map(try pairs(depth))
            case UInt8(ascii: "|"):
                _ = try pairs(depth)
                return try value(depth: depth + 1)
            default: throw RESPError(.malformedReply, "a reply starts with byte \(type), which is no RESP type")
            }
        }

        private static var truncated: RESPError { RESPError(.malformedReply, "a reply ends in the middle") }

        private mutating func line() throws(RESPError) -> Range<Int> {
            guard let end = bytes[position...].firstIndex(of: UInt8(ascii: "\r")), end + 1 < bytes.count,
                bytes[end + 1] == UInt8(ascii: "\n")
            else { throw Self.truncated }
            defer { position = end + 2 }
            return position..<end
        }

        private mutating func text() throws(RESPError) -> String {
            String(decoding: bytes[try line()], as: UTF8.self)
        }

        private mutating func number() throws(RESPError) -> Int64 {
            let range = try line()
            guard
                let value = bytes.withUnsafeBytes({ WireNumber.parse($0, from: range.lowerBound, to: range.upperBound) }
                )
            else { throw RESPError(.malformedReply, "an integer that is no number") }
            return value
        }

        private mutating func bulk() throws(RESPError) -> [UInt8]? {
            let length = try number()
            guard length >= 0 else { return nil }
            guard length <= RESPLimits.bulkBytesMax, bytes.count - position >= Int(length) + 2 else {
                throw Self.truncated
            }
            defer { position += Int(length) + 2 }
            return Array(bytes[position..<position + Int(length)])
        }

        private mutating func elements(_ depth: Int) throws(RESPError) -> [RESPValue]? {
            let count = try number()
            guard count >= 0 else { return nil }
            guard count <= RESPLimits.elementsMax else {
                throw RESPError(.replyTooLarge, "an aggregate of more than \(RESPLimits.elementsMax) elements")
            }
            var values: [RESPValue] = []
            for _ in 0..<count { values.append(try value(depth: depth + 1)) }
            return values
        }

        private mutating func pairs(_ depth: Int) throws(RESPError) -> [Pair] {
            let count = try number()
            guard count <= RESPLimits.elementsMax else {
                throw RESPError(.replyTooLarge, "an aggregate of more than \(RESPLimits.elementsMax) elements")
            }
            var pairs: [Pair] = []
            for _ in 0..<max(0, count) {
                pairs.append(Pair(try value(depth: depth + 1), try value(depth: depth + 1)))
            }
            return pairs
        }
    }
}
