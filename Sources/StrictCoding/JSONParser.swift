/// JSON text (RFC 8259) to a ``DocumentNode``, remembering where every value stands.
///
/// Foundation's decoder drops positions and keeps the last of two fields with one name; a YAML parser refuses the
/// surrogate pairs that other JSON writers emit (`"\ud83d\ude00"`). Hence our own. Time and memory are linear in the
/// input, the nesting is bounded by ``StrictCodingLimits/nestingMax``.
struct JSONParser {
    private let bytes: [UInt8]
    private let source: String
    private var offset = 0
    private var line: Int32 = 1
    /// Where the line would begin if every character before `offset` were one byte long.
    private var lineStart = 0
    private var depth = 0

    static func parse(_ bytes: [UInt8], source: String) throws(DocumentError) -> DocumentNode {
        var parser = JSONParser(bytes: bytes, source: source)
        parser.skipSpace()
        let node = try parser.value()
        parser.skipSpace()
        guard parser.offset == bytes.count else { throw parser.failure("the end of the document") }
        return node
    }

    private init(bytes: [UInt8], source: String) {
        self.bytes = bytes
        self.source = source
    }

    private var position: DocumentNode.Position {
        .init(line: line, column: Int32(truncatingIfNeeded: offset - lineStart + 1))
    }

    private var next: UInt8? { offset < bytes.count ? bytes[offset] : nil }

    private func failure(
        _ expected: String, code: DocumentError.Code = .syntax, found: String? = nil
    ) -> DocumentError {
        let shown: String
        if let found {
            shown = found
        } else if let next {
            shown = next > 0x20 && next < 0x7f ? "'\(Unicode.Scalar(next))'" : "byte 0x\(String(next, radix: 16))"
        } else {
            shown = "the end of the document"
        }
        return DocumentError(
            code, source: source, line: Int(position.line), column: Int(position.column), expected: expected,
            found: shown)
    }

    private mutating func skipSpace() {
        while offset < bytes.count {
            switch bytes[offset] {
            case 0x20, 0x09, 0x0d: offset += 1
            case 0x0a:
                offset += 1
                line += 1
                lineStart = offset
            default: return
            }
        }
    }

    private mutating func value() throws(DocumentError) -> DocumentNode {
        let start = position
        guard let next else { throw failure("a JSON value") }
        switch next {
        case UInt8(ascii: "{"): return DocumentNode(content: try mapping(), position: start)
        case UInt8(ascii: "["): return DocumentNode(content: try sequence(), position: start)
        case UInt8(ascii: "\""): return DocumentNode(content: .string(try string()), position: start)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"):
            return DocumentNode(content: .number(try number()), position: start)
        case UInt8(ascii: "t"):
            try word("true")
            return DocumentNode(content: .bool(true), position: start)
        case UInt8(ascii: "f"):
            try word("false")
            return DocumentNode(content: .bool(false), position: start)
        case UInt8(ascii: "n"):
            try word("null")
            return DocumentNode(content: .null, position: start)
        default: throw failure("a JSON value")
        }
    }

    private mutating func word(_ word: StaticString) throws(DocumentError) {
        let length = word.utf8CodeUnitCount
        let matches =
            offset + length <= bytes.count && bytes[offset..<offset + length].elementsEqual("\(word)".utf8)
        guard matches else { throw failure("\(word)") }
        offset += length
    }

    private mutating func enter() throws(DocumentError) {
        depth += 1
        guard depth <= StrictCodingLimits.nestingMax else {
            throw failure(
                "at most \(StrictCodingLimits.nestingMax) levels of nesting", code: .tooLarge, found: "more")
        }
        offset += 1
        skipSpace()
    }

    private mutating func leave() {
        depth -= 1
        offset += 1
    }

    private mutating func mapping() throws(DocumentError) -> DocumentNode.Content {
        try enter()
        var mapping = Mapping()
        if next == UInt8(ascii: "}") {
            leave()
            return .mapping(mapping)
        }
        while true {
            guard next == UInt8(ascii: "\"") else { throw failure("a field name in double quotes") }
            let start = position
            let name = try string()
            skipSpace()
            guard next == UInt8(ascii: ":") else { throw failure("':' after the field name") }
            offset += 1
            skipSpace()
            guard mapping.append(.init(name: name, position: start, value: try value())) else {
                throw DocumentError(
                    .duplicateField, source: source, line: Int(start.line), column: Int(start.column),
                    expected: "each field once", found: "\"\(DocumentNode.quoted(name))\" again")
            }
            skipSpace()
            switch next {
            case UInt8(ascii: ","):
                offset += 1
                skipSpace()
            case UInt8(ascii: "}"):
                leave()
                return .mapping(mapping)
            default: throw failure("',' or '}'")
            }
        }
    }

    private mutating func sequence() throws(DocumentError) -> DocumentNode.Content {
        try enter()
        var elements: [DocumentNode] = []
        if next == UInt8(ascii: "]") {
            leave()
            return .sequence(elements)
        }
        while true {
            elements.append(try value())
            skipSpace()
            switch next {
            case UInt8(ascii: ","):
                offset += 1
                skipSpace()
            case UInt8(ascii: "]"):
                leave()
                return .sequence(elements)
            default: throw failure("',' or ']'")
            }
        }
    }

    private mutating func digits() throws(DocumentError) {
        let start = offset
        while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { offset += 1 }
        guard offset > start else { throw failure("a digit") }
    }

    private mutating func number() throws(DocumentError) -> String {
        let start = offset
        if next == UInt8(ascii: "-") { offset += 1 }
        let leadsWithZero = next == UInt8(ascii: "0")
        let integerStart = offset
        try digits()
        guard !leadsWithZero || offset == integerStart + 1 else { throw failure("a number without leading zeros") }
        if next == UInt8(ascii: ".") {
            offset += 1
            try digits()
        }
        if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
            offset += 1
            if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { offset += 1 }
            try digits()
        }
        return String(decoding: bytes[start..<offset], as: UTF8.self)
    }

    /// The input was checked to be UTF-8 as a whole, so that slices between ASCII bytes are UTF-8 too.
    private mutating func string() throws(DocumentError) -> String {
        offset += 1
        var start = offset
        var result = ""
        while let byte = next {
            switch byte {
            case UInt8(ascii: "\""):
                let tail = String(decoding: bytes[start..<offset], as: UTF8.self)
                offset += 1
                return result.isEmpty ? tail : result + tail
            case UInt8(ascii: "\\"):
                result += String(decoding: bytes[start..<offset], as: UTF8.self)
                result.unicodeScalars.append(try escape())
                start = offset
            case 0..<0x20: throw failure("no control character inside a string")
            default:
                if byte & 0xc0 == 0x80 { lineStart += 1 }
                offset += 1
            }
        }
        throw failure("'\"' at the end of the string")
    }

    private mutating func escape() throws(DocumentError) -> Unicode.Scalar {
        offset += 1
        guard let byte = next else { throw failure("an escape sequence") }
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"):
            offset += 1
            return Unicode.Scalar(byte)
        case UInt8(ascii: "b"): return simple("\u{8}")
        case UInt8(ascii: "f"): return simple("\u{c}")
        case UInt8(ascii: "n"): return simple("\n")
        case UInt8(ascii: "r"): return simple("\r")
        case UInt8(ascii: "t"): return simple("\t")
        case UInt8(ascii: "u"):
            let high = try codeUnit()
            if let scalar = Unicode.Scalar(high) { return scalar }
            guard high < 0xdc00, next == UInt8(ascii: "\\"), offset + 1 < bytes.count,
                bytes[offset + 1] == UInt8(ascii: "u")
            else { throw failure("the second half of a surrogate pair") }
            offset += 1
            let low = try codeUnit()
            guard (0xdc00...0xdfff).contains(low),
                let scalar = Unicode.Scalar(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
            else { throw failure("the second half of a surrogate pair") }
            return scalar
        default: throw failure("one of \" \\ / b f n r t u after '\\'")
        }
    }

    private mutating func simple(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
        offset += 1
        return scalar
    }

    /// From the `u` of `\uXXXX` to behind its last digit.
    private mutating func codeUnit() throws(DocumentError) -> UInt32 {
        offset += 1
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw failure("four hexadecimal digits")
            }
            value = value << 4 | UInt32(digit)
            offset += 1
        }
        return value
    }
}
