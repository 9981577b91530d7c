/// A pattern over key bytes with the semantics of Redis's `KEYS`, compiled once.
///
/// `*` any bytes, `?` one byte, `[abc]` `[a-z]` `[^a]` one byte of (or not of) a set, `\x` the byte x itself. As in Redis
/// a range may stand in either order, an unclosed set ends with the pattern, and a lone backslash at the end stands for
/// itself. Unlike Redis's matcher, `*` also matches the empty key.
///
/// Matching takes at most key length × pattern length steps: only the last `*` is ever retried, which is enough because
/// an earlier one could not match later than it first did and gain anything.
public struct GlobPattern: Sendable, Hashable {
    private enum Token: Sendable, Hashable {
        case byte(UInt8)
        case any
        case run
        case set(ByteSet)

        var literal: UInt8? { if case .byte(let byte) = self { byte } else { nil } }
    }

    private struct ByteSet: Sendable, Hashable {
        var words: SIMD4<UInt64> = .zero

        func contains(_ byte: UInt8) -> Bool {
            words[Int(byte >> 6)] & (1 << UInt64(byte & 63)) != 0
        }

        mutating func insert(_ range: ClosedRange<UInt8>) {
            for byte in range { words[Int(byte >> 6)] |= 1 << UInt64(byte & 63) }
        }
    }

    /// How much a pattern pins down; the larger value is the more specific pattern.
    ///
    /// Compared in this order: more bytes given literally, more sets, more `?`, fewer `*`. A pattern without wildcards is
    /// thus more specific than any other that matches the same key.
    public struct Specificity: Sendable, Hashable, Comparable {
        public let literalBytes: Int
        public let sets: Int
        public let anyBytes: Int
        public let runs: Int

        public static func < (left: Self, right: Self) -> Bool {
            (left.literalBytes, left.sets, left.anyBytes, -left.runs)
                < (right.literalBytes, right.sets, right.anyBytes, -right.runs)
        }
    }

    /// The compiled pattern: 0 to 255 stand for that byte, then `?`, `*`, and the sets by their places.
    private enum Code {
        static let any: UInt16 = 256
        static let run: UInt16 = 257
        static let firstSet: UInt16 = 258
    }

    public let source: String
    public let specificity: Specificity
    /// What every key that matches has.
    let demands: KeyTraits
    private let codes: [UInt16]
    private let sets: [ByteSet]
    /// No key that is shorter matches.
    private let bytesMin: Int

    /// Throws `invalidRule` for an empty pattern or one over `DetectionLimits.patternBytesMax`.
    public init(_ source: String) throws {
        let bytes = Array(source.utf8)
        guard !bytes.isEmpty, bytes.count <= DetectionLimits.patternBytesMax else {
            throw DetectionError(
                .invalidRule,
                "pattern of \(bytes.count) bytes: expected 1 to \(DetectionLimits.patternBytesMax) bytes")
        }
        self.source = source
        let tokens = Self.compile(bytes)
        demands = KeyTraits(demandedBy: tokens.map(\.literal))
        var sets: [ByteSet] = []
        codes = tokens.map { token in
            switch token {
            case .byte(let byte): return UInt16(byte)
            case .any: return Code.any
            case .run: return Code.run
            case .set(let set):
                sets.append(set)
                return Code.firstSet + UInt16(sets.count - 1)
            }
        }
        self.sets = sets
        bytesMin = tokens.count { $0 != .run }
        var counts = (literals: 0, sets: 0, any: 0, runs: 0)
        for token in tokens {
            switch token {
            case .byte: counts.literals += 1
            case .set: counts.sets += 1
            case .any: counts.any += 1
            case .run: counts.runs += 1
            }
        }
        specificity = Specificity(
            literalBytes: counts.literals, sets: counts.sets, anyBytes: counts.any, runs: counts.runs)
    }

    public func matches(_ key: UnsafeRawBufferPointer) -> Bool {
        guard key.count >= bytesMin else { return false }
        return codes.withUnsafeBufferPointer { codes in
            var keyOffset = 0
            var codeOffset = 0
            var afterRun = -1
            var runEnd = 0
            while keyOffset < key.count {
                if codeOffset < codes.count {
                    let code = codes[codeOffset]
                    let isMatch: Bool
                    switch code {
                    case Code.run:
                        codeOffset += 1
                        if codeOffset == codes.count { return true }
                        afterRun = codeOffset
                        runEnd = keyOffset
                        continue
                    case Code.any: isMatch = true
                    case Code.firstSet...: isMatch = sets[Int(code - Code.firstSet)].contains(key[keyOffset])
                    default: isMatch = code == UInt16(key[keyOffset])
                    }
                    if isMatch {
                        keyOffset += 1
                        codeOffset += 1
                        continue
                    }
                }
                guard afterRun >= 0 else { return false }
                runEnd += 1
                keyOffset = runEnd
                codeOffset = afterRun
            }
            while codeOffset < codes.count, codes[codeOffset] == Code.run { codeOffset += 1 }
            return codeOffset == codes.count
        }
    }

    public func matches(_ key: [UInt8]) -> Bool {
        key.withUnsafeBytes { matches($0) }
    }

    private static func compile(_ bytes: [UInt8]) -> [Token] {
        var tokens: [Token] = []
        var offset = 0
        while offset < bytes.count {
            switch bytes[offset] {
            case UInt8(ascii: "*"):
                if tokens.last != .run { tokens.append(.run) }
            case UInt8(ascii: "?"):
                tokens.append(.any)
            case UInt8(ascii: "["):
                tokens.append(.set(compileSet(bytes, &offset)))
            case UInt8(ascii: "\\") where offset + 1 < bytes.count:
                offset += 1
                tokens.append(.byte(bytes[offset]))
            default:
                tokens.append(.byte(bytes[offset]))
            }
            offset += 1
        }
        return tokens
    }

    /// Starts at `[`, leaves the offset at the closing `]` or at the pattern's last byte.
    private static func compileSet(_ bytes: [UInt8], _ offset: inout Int) -> ByteSet {
        var set = ByteSet()
        offset += 1
        let isNegated = offset < bytes.count && bytes[offset] == UInt8(ascii: "^")
        if isNegated { offset += 1 }
        while offset < bytes.count, bytes[offset] != UInt8(ascii: "]") {
            if bytes[offset] == UInt8(ascii: "\\"), offset + 1 < bytes.count {
                offset += 1
                set.insert(bytes[offset]...bytes[offset])
            } else if offset + 2 < bytes.count, bytes[offset + 1] == UInt8(ascii: "-") {
                let ends = (bytes[offset], bytes[offset + 2])
                set.insert(min(ends.0, ends.1)...max(ends.0, ends.1))
                offset += 2
            } else {
                set.insert(bytes[offset]...bytes[offset])
            }
            offset += 1
        }
        if isNegated { set.words = ~set.words }
        return set
    }
}
