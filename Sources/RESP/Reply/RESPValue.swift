public import NIOCore

/// One value of RESP2 or RESP3, decoded. For the agent's own commands and for tools; the data path never decodes.
public indirect enum RESPValue: Sendable, Hashable {
    case simpleString(String)
    case error(String)
    case integer(Int64)
    case bulk([UInt8])
    case null
    case array([RESPValue])
    case map([Pair])
    case set([RESPValue])
    case push([RESPValue])
    case double(Double)
    case boolean(Bool)
    case bigNumber(String)
    case verbatim(format: String, [UInt8])

    public struct Pair: Sendable, Hashable {
        public var key: RESPValue
        public var value: RESPValue

        public init(_ key: RESPValue, _ value: RESPValue) {
            self.key = key
            self.value = value
        }
    }

    public static func bulk(_ text: String) -> RESPValue { .bulk(Array(text.utf8)) }

    /// The text of a string of any kind, `nil` for other types and for bytes that are not UTF-8.
    public var string: String? {
        switch self {
        case .simpleString(let text): text
        case .bulk(let bytes), .verbatim(_, let bytes): String(validating: bytes, as: UTF8.self)
        default: nil
        }
    }

    /// Writes the value for a connection that speaks `version`. RESP2 has no maps, sets, pushes, doubles or booleans:
    /// they become what Redis itself sends there (flat arrays, strings, 0 and 1).
    public func write(to buffer: inout ByteBuffer, version: ProtocolVersion) {
        switch self {
        case .simpleString(let text): buffer.writeString("+\(Self.oneLine(text))\r\n")
        case .error(let text): buffer.writeString("-\(Self.oneLine(text))\r\n")
        case .integer(let value): buffer.writeString(":\(value)\r\n")
        case .bulk(let bytes): RESPWriter.writeBulk(bytes, to: &buffer)
        case .null: buffer.writeString(version == .resp2 ? "$-1\r\n" : "_\r\n")
        case .array(let values): Self.write("*", values, to: &buffer, version)
        case .set(let values): Self.write(version == .resp2 ? "*" : "~", values, to: &buffer, version)
        case .push(let values): Self.write(version == .resp2 ? "*" : ">", values, to: &buffer, version)
        case .map(let pairs):
            buffer.writeString(version == .resp2 ? "*\(pairs.count * 2)\r\n" : "%\(pairs.count)\r\n")
            for pair in pairs {
                pair.key.write(to: &buffer, version: version)
                pair.value.write(to: &buffer, version: version)
            }
        case .double(let value):
            if version == .resp2 {
                RESPWriter.writeBulk(Array("\(value)".utf8), to: &buffer)
            } else {
                buffer.writeString(",\(value)\r\n")
            }
        case .boolean(let value):
            buffer.writeString(version == .resp2 ? (value ? ":1\r\n" : ":0\r\n") : (value ? "#t\r\n" : "#f\r\n"))
        case .bigNumber(let digits):
            if version == .resp2 {
                RESPWriter.writeBulk(Array(digits.utf8), to: &buffer)
            } else {
                buffer.writeString("(\(Self.oneLine(digits))\r\n")
            }
        case .verbatim(let format, let bytes):
            if version == .resp2 {
                RESPWriter.writeBulk(bytes, to: &buffer)
            } else {
                buffer.writeString("=\(bytes.count + 4)\r\n\(format):")
                buffer.writeBytes(bytes)
                buffer.writeString("\r\n")
            }
        }
    }

    private static func write(
        _ type: String, _ values: [RESPValue], to buffer: inout ByteBuffer, _ version: ProtocolVersion
    ) {
        buffer.writeString("\(type)\(values.count)\r\n")
        for value in values { value.write(to: &buffer, version: version) }
    }

    /// A line break inside a line's text would end the reply early and shift every reply behind it. Code units, not
    /// characters: CR LF is one character in Swift and would slip through a comparison by character.
    static func oneLine(_ text: String) -> String {
        String(
            decoding: text.utf8.map { $0 == UInt8(ascii: "\r") || $0 == UInt8(ascii: "\n") ? UInt8(ascii: " ") : $0 },
            as: UTF8.self)
    }
}

/// Which dialect a connection speaks; a client chooses with `HELLO`.
public enum ProtocolVersion: UInt8, Sendable, Hashable {
    case resp2 = 2
    case resp3 = 3
}
