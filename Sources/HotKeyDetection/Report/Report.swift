/// One agent's counts for one slice, as far as its budget let it tell them.
public struct Report: Sendable, Hashable {
    /// One key's counts over the last `sliceSpan` slices, this one included, none of which an earlier report counted.
    public struct Entry: Sendable, Hashable {
        public var key: [UInt8]
        public var reads: UInt64
        public var writes: UInt64
        public var replyBytes: UInt64
        /// Of the reads: those whose reply said that there is no value. A lower bound, as the bytes are.
        public var misses: UInt64
        /// Accesses that may be missing from `reads` and `writes` together, over the slices spanned.
        public var error: UInt64
        /// 1 for a key of the head; up to `DetectionLimits.tailSlices` for one whose counts were saved up.
        public var sliceSpan: UInt32

        public init(
            key: [UInt8], reads: UInt64, writes: UInt64 = 0, replyBytes: UInt64 = 0, misses: UInt64 = 0,
            error: UInt64 = 0, sliceSpan: UInt32 = 1
        ) {
            self.key = key
            self.reads = reads
            self.writes = writes
            self.replyBytes = replyBytes
            self.misses = misses
            self.error = error
            self.sliceSpan = sliceSpan
        }
    }

    /// Counts up by one with every slice from the agent's start; the first is 1.
    public var sequence: UInt64
    public var durationMilliseconds: UInt32
    /// The slice's totals, whether listed or not.
    public var totals: AccessTotals
    /// The most accesses that a key can have had in this slice if neither this report nor a later one that spans this
    /// slice lists it.
    public var unlistedBound: UInt64
    public var entries: [Entry]

    public init(
        sequence: UInt64, durationMilliseconds: UInt32 = UInt32(DetectionLimits.sliceMilliseconds),
        totals: AccessTotals = AccessTotals(), unlistedBound: UInt64 = 0, entries: [Entry] = []
    ) {
        self.sequence = sequence
        self.durationMilliseconds = durationMilliseconds
        self.totals = totals
        self.unlistedBound = unlistedBound
        self.entries = entries
    }
}

extension Report {
    /// The report as a frame of the documented format (docs/detection.md).
    ///
    /// Throws when a value is out of the format's range or the frame would pass `DetectionLimits.reportFrameBytesMax`.
    public func encoded() throws -> [UInt8] {
        var frame: [UInt8] = []
        frame.reserveCapacity(64 + entries.reduce(0) { $0 + ReportFormat.encodedBytes(of: $1) })
        frame.append(contentsOf: ReportFormat.magic)
        frame.append(ReportFormat.version)
        for value in [
            sequence, UInt64(durationMilliseconds), totals.reads, totals.writes, totals.replyBytes, totals.misses,
            unlistedBound, UInt64(entries.count),
        ] {
            Varint.append(value, to: &frame)
        }
        for entry in entries { ReportFormat.append(entry, to: &frame) }
        // The reader's checks are the format's: what it refuses is not sent.
        _ = try frame.withUnsafeBytes { try ReportReader(validating: $0) }
        return frame
    }

    /// Reads a frame of this version or the one before it, which knows no misses. Throws `malformedReport` naming the byte and what was expected there; allocates no more than the
    /// frame's own size calls for.
    public init(decoding frame: [UInt8]) throws {
        self = try frame.withUnsafeBytes { bytes in
            let reader = try ReportReader(validating: bytes)
            var report = Report(
                sequence: reader.sequence, durationMilliseconds: reader.durationMilliseconds, totals: reader.totals,
                unlistedBound: reader.unlistedBound)
            report.entries.reserveCapacity(reader.entryCount)
            reader.forEachEntry { entry in
                report.entries.append(
                    Entry(
                        key: Array(entry.key), reads: entry.reads, writes: entry.writes, replyBytes: entry.replyBytes,
                        misses: entry.misses, error: entry.error, sliceSpan: entry.sliceSpan))
            }
            return report
        }
    }
}
