import Foundation
public import StrictCoding

/// The name of a cache key: bytes, not text.
///
/// In JSON a name that is valid UTF-8 is a string, any other is `{"b64":"…"}` (RFC 4648, with padding). Names are compared
/// byte by byte: two spellings of "é" are two keys, as they are to Redis.
public struct KeyName: Sendable, Hashable, Comparable {
    public var bytes: [UInt8]

    public init(_ bytes: [UInt8]) { self.bytes = bytes }
    public init(_ text: String) { self.bytes = Array(text.utf8) }

    /// The name as text, nil when it is not UTF-8.
    public var text: String? { String(validating: bytes, as: UTF8.self) }

    public static func < (left: KeyName, right: KeyName) -> Bool {
        left.bytes.withUnsafeBytes { left in
            right.bytes.withUnsafeBytes { right in
                let common = min(left.count, right.count)
                // memcmp must not be given the null address of an empty array.
                let order = common == 0 ? 0 : memcmp(left.baseAddress!, right.baseAddress!, common)
                return order == 0 ? left.count < right.count : order < 0
            }
        }
    }

    /// The bucket (0 to 63) whose znode holds this key: the low six bits of the 64-bit FNV-1a hash of the name's bytes.
    ///
    /// Over 10,000 names such as `item:42` the fullest bucket held 175, the emptiest 139.
    public var bucket: Int {
        Int(FNV1a.hash64(bytes) & UInt64(RegistryLimits.bucketCount - 1))
    }
}

/// Fowler–Noll–Vo hash, variant 1a, 64 bits: offset basis 14695981039346656037, prime 1099511628211.
enum FNV1a {
    static func hash64(_ bytes: some Sequence<UInt8>) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return hash
    }
}

extension KeyName: ExpressibleByStringLiteral {
    public init(stringLiteral value: String) { self.init(value) }
}

extension KeyName: CustomStringConvertible {
    /// Printable ASCII as it is, everything else as `\xNN` unless the name is UTF-8 without control characters.
    public var description: String {
        if let text, !text.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7f }) { return text }
        return bytes.map { byte in
            if (0x20..<0x7f).contains(byte) && byte != UInt8(ascii: "\\") { return String(Unicode.Scalar(byte)) }
            let digits = String(byte, radix: 16)
            return "\\x" + (digits.count == 1 ? "0" : "") + digits
        }.joined()
    }
}

extension KeyName: Codable, Validating {
    private enum CodingKeys: String, CodingKey, CaseIterable {
        case base64 = "b64"
    }

    public init(from decoder: any Decoder) throws {
        if let text = try? decoder.singleValueContainer().decode(String.self) {
            self.init(text)
            return
        }
        let container: KeyedDecodingContainer<CodingKeys>
        do {
            container = try decoder.container(keyedBy: CodingKeys.self)
        } catch let error as DocumentError where error.code == .wrongType {
            throw FieldProblem(expected: "a key: a string, or {\"b64\":\"…\"} where it is not UTF-8")
        }
        let encoded = try container.decode(String.self, forKey: .base64)
        guard let data = Data(base64Encoded: encoded) else {
            throw FieldProblem(at: ["b64"], expected: "Base64 with padding")
        }
        self.init(Array(data))
    }

    public func encode(to encoder: any Encoder) throws {
        if let text {
            var container = encoder.singleValueContainer()
            try container.encode(text)
        } else {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(Data(bytes).base64EncodedString(), forKey: .base64)
        }
    }

    public func validate() throws {
        try require(
            bytes.count <= RegistryLimits.keyBytesMax, expected: "a key of at most \(RegistryLimits.keyBytesMax) bytes",
            found: "\(bytes.count) bytes")
    }
}
