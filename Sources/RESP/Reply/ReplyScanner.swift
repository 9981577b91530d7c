/// Finds the end of one reply of a server, RESP2 or RESP3, without decoding it.
///
/// Like ``CommandParser`` it keeps its place between calls: the first byte passed must stay the reply's first byte.
/// A reply of n bytes that arrives in k pieces costs O(n + k).
public struct ReplyScanner {
    private var position = 0
    /// Values still to come until the reply is whole.
    private var valuesLeft = 1
    /// How far the end of the line at `position` has been looked for in vain.
    private var searched = 0

    public init() {}

    /// The length of the reply that starts at the first byte, `nil` when its end has not arrived yet.
    @inline(__always)
    public mutating func scan(_ bytes: UnsafeRawBufferPointer) throws(RESPError) -> Int? {
        while valuesLeft > 0 {
            guard position < bytes.count else { return nil }
            let type = bytes[position]
            guard let end = lineEnd(bytes, from: max(position + 1, searched)) else {
                let bytesMax = Self.isTextLine(type) ? RESPLimits.textLineBytesMax : RESPLimits.lineBytesMax
                guard bytes.count - position <= bytesMax else {
                    throw RESPError(.malformedReply, "a line of more than \(bytesMax) bytes")
                }
                searched = bytes.count - 1
                return nil
            }
            // Not only when the reply ends: whoever passes a large one on takes its bytes away from here on.
            searched = 0
            switch type {
            case UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: ":"), UInt8(ascii: "_"), UInt8(ascii: "#"),
                UInt8(ascii: ","), UInt8(ascii: "("):
                position = end + 2
            case UInt8(ascii: "$"), UInt8(ascii: "="), UInt8(ascii: "!"):
                let length = try number(bytes, end)
                if length >= 0 {
                    let next = end + 2 + length + 2
                    guard bytes.count >= next else { return nil }
                    position = next
                } else {
                    position = end + 2
                }
            case UInt8(ascii: "*"), UInt8(ascii: "~"):
                valuesLeft += max(0, try number(bytes, end))
                position = end + 2
            case UInt8(ascii: ">"):
                // Inside another value (a client that publishes to itself in a transaction) it stands beside the elements.
                valuesLeft += max(0, try number(bytes, end)) + (position > 0 ? 1 : 0)
                position = end + 2
            case UInt8(ascii: "%"):
                valuesLeft += 2 * max(0, try number(bytes, end))
                position = end + 2
            case UInt8(ascii: "|"):
                // An attribute precedes the value it belongs to and does not count as one.
                valuesLeft += 2 * max(0, try number(bytes, end)) + 1
                position = end + 2
            default:
                throw RESPError(.malformedReply, "a reply starts with byte \(type), which is no RESP type")
            }
            valuesLeft -= 1
        }
        let length = position
        position = 0
        valuesLeft = 1
        return length
    }

    /// Errors and simple strings are lines that may be long (a script's error text).
    private static func isTextLine(_ type: UInt8) -> Bool {
        type == UInt8(ascii: "+") || type == UInt8(ascii: "-") || type == UInt8(ascii: "(")
    }

    @inline(__always)
    private func lineEnd(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Int? {
        var index = start
        let limit = bytes.count - 1
        while index < limit {
            if bytes[index] == UInt8(ascii: "\r") { return index }
            index += 1
        }
        return nil
    }

    @inline(__always)
    private func number(_ bytes: UnsafeRawBufferPointer, _ end: Int) throws(RESPError) -> Int {
        guard let value = WireNumber.parse(bytes, from: position + 1, to: end), value >= -1,
            value <= RESPLimits.bulkBytesMax
        else {
            throw RESPError(.malformedReply, "a length that is no number between -1 and \(RESPLimits.bulkBytesMax)")
        }
        return Int(value)
    }
}
