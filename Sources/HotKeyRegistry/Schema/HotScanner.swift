import Foundation
import StrictCoding

/// Reads the nodes of the hot set as ``RegistryCodec`` writes them, byte after byte, without a tree in between.
///
/// Every agent of a fleet reads the head at every publication; by the strict decoder that costs most of what the whole change
/// costs. This takes exactly what our own encoder writes (sorted fields, no space, no escapes). For anything else it returns
/// nil, and the strict decoder has the word: it accepts what is right in another form, and names what is wrong.
struct HotScanner {
    private let bytes: UnsafeBufferPointer<UInt8>
    private var offset = 0
    private var sawOtherThanASCII = false

    private init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    /// The document that `body` reads, when it is the whole of `bytes` and these are UTF-8.
    private static func scan<Document: RegistryDocument>(
        _ bytes: [UInt8], _ body: (inout HotScanner) -> Document?
    ) -> Document? {
        guard bytes.count <= Document.bytesMax else { return nil }
        let (document, sawOtherThanASCII) = bytes.withUnsafeBufferPointer { buffer in
            var scanner = HotScanner(buffer)
            let document = body(&scanner)
            return (scanner.offset == buffer.count ? document : nil, scanner.sawOtherThanASCII)
        }
        if sawOtherThanASCII, String(validating: bytes, as: UTF8.self) == nil { return nil }
        guard let document, (try? document.validate()) != nil else { return nil }
        return document
    }

    static func head(_ bytes: [UInt8]) -> HotHead? {
        scan(bytes) { $0.head() }
    }

    static func bucket(_ bytes: [UInt8]) -> HotBucket? {
        scan(bytes) { $0.bucket() }
    }

    // MARK: - Documents

    private mutating func head() -> HotHead? {
        guard take("{\"buckets\":["), let buckets = list({ $0.integer() }), take(",\"changes\":["),
            let changes = list({ $0.change() }), take(",\"coordinator\":"), let coordinator = text(),
            take(",\"epoch\":"), let epoch = integer(), take(",\"publishedAt\":"), let publishedAt = timestamp(),
            take(",\"schema\":1,\"version\":"), let version = integer(), take("}")
        else { return nil }
        return HotHead(
            epoch: epoch, version: version, publishedAt: publishedAt, coordinator: coordinator, buckets: buckets,
            changes: changes)
    }

    private mutating func bucket() -> HotBucket? {
        guard take("{\"keys\":["), let keys = list({ $0.record() }), take(",\"schema\":1,\"version\":"),
            let version = integer(), take("}")
        else { return nil }
        return HotBucket(version: version, keys: keys)
    }

    private mutating func record() -> HotRecord? {
        guard let record = recordFields(), take("}") else { return nil }
        return record
    }

    /// A cold key has no fields but these three.
    private mutating func change() -> HotChange? {
        let start = offset
        if take("{\"key\":"), let key = key(), take(",\"state\":\"cold\",\"version\":"), let version = integer(),
            take("}")
        {
            return HotChange(version: version, key: key, record: nil)
        }
        offset = start
        guard let record = recordFields(), take(",\"version\":"), let version = integer(), take("}") else {
            return nil
        }
        return HotChange(version: version, key: record.key, record: record)
    }

    /// The fields of a record, from the brace that opens it; the last one is `state`.
    private mutating func recordFields() -> HotRecord? {
        guard take("{") else { return nil }
        var bytesPerSecond = 0.0
        var copies: Int64?
        var copyState: CopyState?
        var errorPerSecond = 0.0
        if take("\"bytesPerSecond\":") {
            guard let value = number(), take(",") else { return nil }
            bytesPerSecond = value
        }
        if take("\"copies\":") {
            guard let value = integer(), take(",") else { return nil }
            copies = value
        }
        if take("\"copyState\":") {
            guard let value = self.copyState(), take(",") else { return nil }
            copyState = value
        }
        if take("\"errorPerSecond\":") {
            guard let value = number(), take(",") else { return nil }
            errorPerSecond = value
        }
        guard take("\"key\":"), let key = key(), take(",\"kind\":"), let kind = kind() else { return nil }
        var missesPerSecond = 0.0
        if take(",\"missesPerSecond\":") {
            guard let value = number() else { return nil }
            missesPerSecond = value
        }
        guard take(",\"readsPerSecond\":"), let readsPerSecond = number(), take(",\"since\":"), let since = timestamp()
        else { return nil }
        var sources: [String] = []
        if take(",\"sources\":[") {
            guard let names = list({ $0.text() }), !names.isEmpty else { return nil }
            sources = names
        }
        guard take(",\"state\":"), let state = state() else { return nil }
        var writesPerSecond = 0.0
        if take(",\"writesPerSecond\":") {
            guard let value = number() else { return nil }
            writesPerSecond = value
        }
        let record = HotRecord(
            key: key, state: state, kind: kind, readsPerSecond: readsPerSecond, writesPerSecond: writesPerSecond,
            bytesPerSecond: bytesPerSecond, missesPerSecond: missesPerSecond, errorPerSecond: errorPerSecond,
            copies: copies.map(Int.init), copyState: copyState, sources: sources, since: since)
        guard (try? record.validate()) != nil else { return nil }
        return record
    }

    // MARK: - Values

    /// The elements of a list whose opening bracket has been taken, and its end.
    private mutating func list<Element>(_ element: (inout HotScanner) -> Element?) -> [Element]? {
        var elements: [Element] = []
        if take("]") { return elements }
        repeat {
            guard let next = element(&self) else { return nil }
            elements.append(next)
        } while take(",")
        return take("]") ? elements : nil
    }

    private mutating func key() -> KeyName? {
        let key: KeyName
        if take("{\"b64\":") {
            guard let encoded = string(), let data = Data(base64Encoded: Data(encoded)), take("}") else { return nil }
            key = KeyName(Array(data))
        } else {
            guard let name = string() else { return nil }
            key = KeyName(Array(name))
        }
        return (try? key.validate()) == nil ? nil : key
    }

    private mutating func text() -> String? { string().map { String(decoding: $0, as: UTF8.self) } }

    private mutating func timestamp() -> Timestamp? { string().flatMap { Timestamp(utf8: $0) } }

    private mutating func kind() -> HotKind? {
        if take("\"read\"") { return .read }
        if take("\"write\"") { return .write }
        if take("\"big\"") { return .big }
        return take("\"missing\"") ? .missing : nil
    }

    private mutating func copyState() -> CopyState? {
        if take("\"ready\"") { return .ready }
        if take("\"warming\"") { return .warming }
        return take("\"leaving\"") ? .leaving : nil
    }

    private mutating func state() -> HotState? {
        if take("\"hot\"") { return .hot }
        if take("\"cooling\"") { return .cooling }
        return take("\"candidate\"") ? .candidate : nil
    }

    /// The bytes between two quotes; nil when one of them is written in another way than as itself.
    private mutating func string() -> Slice<UnsafeBufferPointer<UInt8>>? {
        guard offset < bytes.count, bytes[offset] == UInt8(ascii: "\"") else { return nil }
        var end = offset + 1
        while end < bytes.count {
            let byte = bytes[end]
            if byte == UInt8(ascii: "\"") {
                defer { offset = end + 1 }
                return bytes[(offset + 1)..<end]
            }
            if byte < 0x20 || byte == UInt8(ascii: "\\") { return nil }
            if byte >= 0x80 { sawOtherThanASCII = true }
            end += 1
        }
        return nil
    }

    /// A number of at most 18 digits without a sign.
    private mutating func integer() -> Int64? {
        let start = offset
        var value: Int64 = 0
        while offset < bytes.count, offset - start < 18, let digit = Self.digit(bytes[offset]) {
            value = value * 10 + digit
            offset += 1
        }
        let length = offset - start
        guard length > 0, length == 1 || bytes[start] != UInt8(ascii: "0"), isAtDelimiter else { return nil }
        return value
    }

    private mutating func number() -> Double? {
        let start = offset
        // Every whole number below 2⁵³ is a Double.
        if let whole = integer(), whole < 1 << 53 { return Double(whole) }
        offset = start
        while offset < bytes.count, !isAtDelimiter { offset += 1 }
        let text = bytes[start..<offset]
        guard Self.isPlainDecimal(text) else { return nil }
        return Double(String(decoding: text, as: UTF8.self))
    }

    /// `12.5`: digits, a point, digits, no zero in front of another digit.
    private static func isPlainDecimal(_ text: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
        guard let point = text.firstIndex(of: UInt8(ascii: ".")), let first = text.first, let last = text.last else {
            return false
        }
        let isShort = first != UInt8(ascii: "0") || point == text.startIndex + 1
        return isShort && digit(first) != nil && digit(last) != nil
            && text.indices.allSatisfy { $0 == point || digit(text[$0]) != nil }
    }

    private static func digit(_ byte: UInt8) -> Int64? {
        byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") ? Int64(byte - UInt8(ascii: "0")) : nil
    }

    private var isAtDelimiter: Bool {
        guard offset < bytes.count else { return false }
        return bytes[offset] == UInt8(ascii: ",") || bytes[offset] == UInt8(ascii: "}")
            || bytes[offset] == UInt8(ascii: "]")
    }

    /// Steps over `expected` when it stands here.
    @inline(__always)
    private mutating func take(_ expected: StaticString) -> Bool {
        let count = expected.utf8CodeUnitCount
        guard bytes.count - offset >= count else { return false }
        // The pointer of a static string is valid for ever; the range was checked above.
        guard memcmp(bytes.baseAddress! + offset, expected.utf8Start, count) == 0 else { return false }
        offset += count
        return true
    }
}
