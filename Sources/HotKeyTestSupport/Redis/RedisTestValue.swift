/// A RESP2 or RESP3 value as it stood on the wire. Written without the project's own codec, so that it can contradict it.
public indirect enum RedisTestValue: Sendable, Equatable, CustomStringConvertible {
    case simple(String)
    /// `-…`, the whole line.
    case error(String)
    case integer(Int64)
    case bulk([UInt8])
    /// RESP2 `$-1`
    case nullBulk
    /// RESP2 `*-1`
    case nullArray
    /// RESP3 `_`
    case null
    case array([RedisTestValue])
    case double(Double)
    case boolean(Bool)
    case bigNumber(String)
    case bulkError([UInt8])
    case verbatim(format: String, [UInt8])
    case map([Pair])
    case set([RedisTestValue])
    case push([RedisTestValue])
    /// A value with the attributes that stood before it.
    case attributed([Pair], RedisTestValue)

    /// An entry of a map, in the order of the wire.
    public struct Pair: Sendable, Equatable {
        public var key: RedisTestValue
        public var value: RedisTestValue
        public init(_ key: RedisTestValue, _ value: RedisTestValue) {
            self.key = key
            self.value = value
        }
    }

    public static let ok = RedisTestValue.simple("OK")
    /// A bulk of this text.
    public static func text(_ text: String) -> RedisTestValue { .bulk(Array(text.utf8)) }

    /// Any of the three forms of null.
    public var isNull: Bool { self == .nullBulk || self == .nullArray || self == .null }

    /// Simple, bulk and verbatim strings as text.
    public var string: String? {
        switch self {
        case .simple(let text), .bigNumber(let text): text
        case .bulk(let bytes), .verbatim(_, let bytes): String(decoding: bytes, as: UTF8.self)
        default: nil
        }
    }

    /// The bytes of a bulk or verbatim string.
    public var bytes: [UInt8]? {
        switch self {
        case .bulk(let bytes), .verbatim(_, let bytes): bytes
        default: nil
        }
    }

    public var integer: Int64? { if case .integer(let number) = self { number } else { nil } }

    /// The elements of an array, set or push.
    public var elements: [RedisTestValue]? {
        switch self {
        case .array(let elements), .set(let elements), .push(let elements): elements
        default: nil
        }
    }

    /// The text of an error of either form.
    public var errorMessage: String? {
        switch self {
        case .error(let text): text
        case .bulkError(let bytes): String(decoding: bytes, as: UTF8.self)
        default: nil
        }
    }

    /// A value of a map (RESP3), or of an array of keys and values in turn (RESP2), by its key's text.
    public subscript(key: String) -> RedisTestValue? {
        switch self {
        case .map(let pairs):
            return pairs.first { $0.key.string == key }?.value
        case .array(let elements):
            return stride(from: 0, to: elements.count - 1, by: 2)
                .first { elements[$0].string == key }.map { elements[$0 + 1] }
        default:
            return nil
        }
    }

    public var description: String {
        func list(_ values: [RedisTestValue]) -> String { values.map(\.description).joined(separator: ", ") }
        func list(_ pairs: [Pair]) -> String { pairs.map { "\($0.key): \($0.value)" }.joined(separator: ", ") }
        func quote(_ bytes: [UInt8]) -> String { String(reflecting: String(decoding: bytes, as: UTF8.self)) }
        return switch self {
        case .simple(let text): "+\(text)"
        case .error(let text): "-\(text)"
        case .integer(let number): "\(number)"
        case .bulk(let bytes): quote(bytes)
        case .nullBulk: "null($-1)"
        case .nullArray: "null(*-1)"
        case .null: "null"
        case .array(let values): "[\(list(values))]"
        case .double(let number): "\(number)"
        case .boolean(let flag): "\(flag)"
        case .bigNumber(let text): "(\(text)"
        case .bulkError(let bytes): "!\(quote(bytes))"
        case .verbatim(let format, let bytes): "=\(format):\(quote(bytes))"
        case .map(let pairs): "{\(list(pairs))}"
        case .set(let values): "~[\(list(values))]"
        case .push(let values): ">[\(list(values))]"
        case .attributed(let pairs, let value): "|{\(list(pairs))} \(value)"
        }
    }
}
