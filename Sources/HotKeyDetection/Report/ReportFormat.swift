/// The frame of a report, version 2. docs/detection.md gives it byte for byte for readers in other languages.
enum ReportFormat {
    static let magic: [UInt8] = [0x48, 0x4B]
    static let version: UInt8 = 2
    /// Agents of the version before wrote it; it has no misses.
    static let versionWithoutMisses: UInt8 = 1

    /// Which of an entry's values are present; an absent one has its default.
    static let hasWrites: UInt8 = 1
    static let hasReplyBytes: UInt8 = 2
    static let hasError: UInt8 = 4
    static let hasSpan: UInt8 = 8
    static let hasMisses: UInt8 = 16
    static let knownFlags: UInt8 = 31
    /// Flags, key length, reads: the least an entry takes.
    static let entryBytesMin = 3
    /// Magic and version, six values of any size, and the duration and the count of entries, which are bounded.
    static let headerBytesMax = 3 + 6 * Varint.bytesMax + 2 * 3

    static func flags(of entry: Report.Entry) -> UInt8 {
        (entry.writes > 0 ? hasWrites : 0) | (entry.replyBytes > 0 ? hasReplyBytes : 0)
            | (entry.error > 0 ? hasError : 0) | (entry.sliceSpan != 1 ? hasSpan : 0)
            | (entry.misses > 0 ? hasMisses : 0)
    }

    static func encodedBytes(of entry: Report.Entry) -> Int {
        encodedBytes(
            keyLength: entry.key.count, reads: entry.reads, writes: entry.writes, replyBytes: entry.replyBytes,
            misses: entry.misses, error: entry.error, sliceSpan: entry.sliceSpan)
    }

    static func encodedBytes(
        keyLength: Int, reads: UInt64, writes: UInt64, replyBytes: UInt64, misses: UInt64, error: UInt64,
        sliceSpan: UInt32
    ) -> Int {
        1 + Varint.bytes(of: UInt64(keyLength)) + keyLength + Varint.bytes(of: reads)
            + (writes > 0 ? Varint.bytes(of: writes) : 0) + (replyBytes > 0 ? Varint.bytes(of: replyBytes) : 0)
            + (misses > 0 ? Varint.bytes(of: misses) : 0) + (error > 0 ? Varint.bytes(of: error) : 0)
            + (sliceSpan != 1 ? Varint.bytes(of: UInt64(sliceSpan)) : 0)
    }

    static func append(_ entry: Report.Entry, to frame: inout [UInt8]) {
        frame.append(flags(of: entry))
        Varint.append(UInt64(entry.key.count), to: &frame)
        frame.append(contentsOf: entry.key)
        Varint.append(entry.reads, to: &frame)
        if entry.writes > 0 { Varint.append(entry.writes, to: &frame) }
        if entry.replyBytes > 0 { Varint.append(entry.replyBytes, to: &frame) }
        if entry.error > 0 { Varint.append(entry.error, to: &frame) }
        if entry.sliceSpan != 1 { Varint.append(UInt64(entry.sliceSpan), to: &frame) }
        if entry.misses > 0 { Varint.append(entry.misses, to: &frame) }
    }
}

/// Unsigned LEB128: seven bits a byte, least significant first, the top bit set on all but the last byte.
enum Varint {
    static let bytesMax = 10

    static func bytes(of value: UInt64) -> Int {
        max(1, (UInt64.bitWidth - value.leadingZeroBitCount + 6) / 7)
    }

    static func append(_ value: UInt64, to frame: inout [UInt8]) {
        var rest = value
        while rest >= 0x80 {
            frame.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        frame.append(UInt8(rest))
    }
}

/// A validated frame, read in place.
///
/// Validation walks the whole frame once before anything is handed out, so that a caller applies all of a frame or
/// none of it. The bytes must stay where they are as long as the reader is used.
struct ReportReader {
    struct Entry {
        var key: UnsafeRawBufferPointer
        var reads: UInt64
        var writes: UInt64
        var replyBytes: UInt64
        var error: UInt64
        var sliceSpan: UInt32
        var misses: UInt64
    }

    let sequence: UInt64
    let durationMilliseconds: UInt32
    let totals: AccessTotals
    let unlistedBound: UInt64
    let entryCount: Int
    private let bytes: UnsafeRawBufferPointer
    private let entriesOffset: Int
    private let knownFlags: UInt8

    init(validating bytes: UnsafeRawBufferPointer) throws { try self.init(bytes, isValidated: false) }

    /// For bytes from which a reader was made before: the entries are not gone through once more.
    init(validated bytes: UnsafeRawBufferPointer) {
        guard let reader = try? Self(bytes, isValidated: true) else { preconditionFailure("a validated frame changed") }
        self = reader
    }

    private init(_ bytes: UnsafeRawBufferPointer, isValidated: Bool) throws {
        guard bytes.count <= DetectionLimits.reportFrameBytesMax else {
            throw DetectionError(
                .malformedReport,
                "report frame of \(bytes.count) bytes: expected at most \(DetectionLimits.reportFrameBytesMax)")
        }
        var cursor = Cursor(bytes: bytes)
        for (place, expected) in ReportFormat.magic.enumerated() {
            let byte = try cursor.byte("magic")
            guard byte == expected else {
                throw Cursor.error(at: place, "magic", "expected \(ReportFormat.magic), found \(byte)")
            }
        }
        let version = try cursor.byte("version")
        let hasMisses = version == ReportFormat.version
        guard hasMisses || version == ReportFormat.versionWithoutMisses else {
            throw Cursor.error(
                at: 2, "version",
                "expected \(ReportFormat.versionWithoutMisses) or \(ReportFormat.version), found \(version); the sender is newer "
                    + "or older")
        }
        knownFlags = hasMisses ? ReportFormat.knownFlags : ReportFormat.knownFlags & ~ReportFormat.hasMisses
        sequence = try cursor.varint("sequence")
        guard sequence > 0 else { throw Cursor.error(at: 3, "sequence", "expected 1 or more, found 0") }
        durationMilliseconds = UInt32(
            try cursor.varint("duration", in: 1...UInt64(DetectionLimits.reportDurationMillisecondsMax)))
        totals = AccessTotals(
            reads: try cursor.varint("total reads"), writes: try cursor.varint("total writes"),
            replyBytes: try cursor.varint("total reply bytes"),
            misses: hasMisses ? try cursor.varint("total misses") : 0)
        unlistedBound = try cursor.varint("unlisted bound")
        let entriesMax = UInt64(bytes.count / ReportFormat.entryBytesMin)
        entryCount = Int(try cursor.varint("entry count", in: 0...entriesMax))
        entriesOffset = cursor.offset
        self.bytes = bytes
        guard !isValidated else { return }
        for _ in 0..<entryCount { _ = try cursor.entry(knownFlags) }
        guard cursor.offset == bytes.count else {
            throw Cursor.error(at: cursor.offset, "end", "\(bytes.count - cursor.offset) bytes after the last entry")
        }
    }

    func forEachEntry(_ body: (Entry) -> Void) {
        var cursor = Cursor(bytes: bytes, offset: entriesOffset)
        for _ in 0..<entryCount {
            // init has read the same bytes without an error.
            guard let entry = try? cursor.entry(knownFlags) else { preconditionFailure("a validated frame changed") }
            body(entry)
        }
    }
}

extension ReportReader {
    private struct Cursor {
        let bytes: UnsafeRawBufferPointer
        var offset = 0

        static func error(at offset: Int, _ field: String, _ text: String) -> DetectionError {
            DetectionError(.malformedReport, "report frame, byte \(offset), \(field): \(text)")
        }

        mutating func byte(_ field: StaticString) throws -> UInt8 {
            guard offset < bytes.count else {
                throw Self.error(at: offset, "\(field)", "the frame ends here")
            }
            defer { offset &+= 1 }
            return bytes[offset]
        }

        mutating func varint(_ field: StaticString) throws -> UInt64 {
            let start = offset
            var value: UInt64 = 0
            var shift: UInt64 = 0
            while true {
                let next = try byte(field)
                if shift == 63, next > 1 {
                    throw Self.error(at: start, "\(field)", "expected at most 64 bits")
                }
                value |= UInt64(next & 0x7F) << shift
                if next < 0x80 {
                    // One value, one encoding: a reader that re-encodes gets the same bytes.
                    if next == 0, shift > 0 {
                        throw Self.error(at: start, "\(field)", "expected the shortest encoding")
                    }
                    return value
                }
                shift &+= 7
            }
        }

        mutating func varint(_ field: StaticString, in range: ClosedRange<UInt64>) throws -> UInt64 {
            let start = offset
            let value = try varint(field)
            guard range.contains(value) else {
                throw Self.error(
                    at: start, "\(field)", "expected \(range.lowerBound) to \(range.upperBound), found \(value)")
            }
            return value
        }

        mutating func entry(_ knownFlags: UInt8) throws -> Entry {
            let start = offset
            let flags = try byte("entry flags")
            guard flags & ~knownFlags == 0 else {
                throw Self.error(at: start, "entry flags", "unknown flags in \(flags)")
            }
            let length = Int(try varint("key length", in: 0...UInt64(DetectionLimits.keyBytesMax)))
            guard length <= bytes.count - offset else {
                throw Self.error(at: offset, "key", "expected \(length) bytes, \(bytes.count - offset) are left")
            }
            let key = UnsafeRawBufferPointer(rebasing: bytes[offset..<offset &+ length])
            offset &+= length
            let reads = try varint("reads")
            let writes = try optional(flags, ReportFormat.hasWrites, "writes")
            let replyBytes = try optional(flags, ReportFormat.hasReplyBytes, "reply bytes")
            let error = try optional(flags, ReportFormat.hasError, "error")
            let span =
                flags & ReportFormat.hasSpan == 0
                ? 1 : try varint("slice span", in: 2...UInt64(DetectionLimits.tailSlices))
            let misses = try optional(flags, ReportFormat.hasMisses, "misses")
            return Entry(
                key: key, reads: reads, writes: writes, replyBytes: replyBytes, error: error, sliceSpan: UInt32(span),
                misses: misses)
        }

        private mutating func optional(_ flags: UInt8, _ flag: UInt8, _ field: StaticString) throws -> UInt64 {
            guard flags & flag != 0 else { return 0 }
            return try varint(field, in: 1...UInt64.max)
        }
    }
}
