/// All accesses of a slice, listed keys or not.
public struct AccessTotals: Sendable, Hashable {
    public var reads: UInt64
    public var writes: UInt64
    public var replyBytes: UInt64

    public init(reads: UInt64 = 0, writes: UInt64 = 0, replyBytes: UInt64 = 0) {
        self.reads = reads
        self.writes = writes
        self.replyBytes = replyBytes
    }

    public var accesses: UInt64 { reads &+ writes }
}

/// What was counted in one slice by one event loop, or by several once merged.
///
/// For each entry `reads + writes ≤ true accesses ≤ reads + writes + error`; a key without an entry has at most
/// `unlistedBound` accesses (keys over the length limit excepted). `replyBytes` is a lower bound.
public struct SliceSummary: Sendable {
    /// One key's counts. Its name is read through the summary, which keeps all names in one piece of memory.
    public struct Entry: Sendable {
        public let hash: UInt64
        let keyOffset: UInt32
        let keyLength: UInt32
        public var reads: UInt64
        public var writes: UInt64
        public var replyBytes: UInt64
        /// Accesses that may be missing from `reads` and `writes` together.
        public var error: UInt64

        public var accesses: UInt64 { reads &+ writes }
    }

    let keyBytes: [UInt8]
    public let entries: [Entry]
    public let totals: AccessTotals
    public let unlistedBound: UInt64

    init(keyBytes: [UInt8], entries: [Entry], totals: AccessTotals, unlistedBound: UInt64) {
        self.keyBytes = keyBytes
        self.entries = entries
        self.totals = totals
        self.unlistedBound = unlistedBound
    }

    public static let empty = SliceSummary(keyBytes: [], entries: [], totals: AccessTotals(), unlistedBound: 0)

    /// The name of one of this summary's entries.
    public func key(of entry: Entry) -> [UInt8] {
        Array(keyBytes[Int(entry.keyOffset)..<Int(entry.keyOffset) + Int(entry.keyLength)])
    }

    /// Calls the body with each entry and its name, without copying. The name is valid during the call only.
    public func forEach(_ body: (Entry, UnsafeRawBufferPointer) throws -> Void) rethrows {
        try keyBytes.withUnsafeBytes { names in
            for entry in entries {
                let start = Int(entry.keyOffset)
                try body(entry, UnsafeRawBufferPointer(rebasing: names[start..<start + Int(entry.keyLength)]))
            }
        }
    }

    /// Adds summaries of disjoint parts of a stream: loops of one agent, or slices that follow each other.
    ///
    /// Bounds stay bounds, and errors add up to no more than the sum of the parts' bounds, which is what makes
    /// Space-Saving a mergeable summary (Agarwal, Cormode, Huang, Phillips, Wei, Yi: "Mergeable Summaries", PODS 2012).
    /// A key that a part does not list may have had up to that part's `unlistedBound` there, so that much is added to
    /// its error. Nothing is pruned here: with N accesses and k places a part the error stays at most N/k, and what is
    /// left out of a report later shows in the report's bound.
    public static func merged(_ parts: [SliceSummary]) -> SliceSummary {
        let parts = parts.filter { !$0.entries.isEmpty || $0.totals != AccessTotals() || $0.unlistedBound > 0 }
        guard parts.count > 1 else { return parts.first ?? .empty }
        let keyCount = parts.reduce(0) { $0 + $1.entries.count }
        // A name takes whole stretches in the table's arena, hence the allowance for each key.
        let nameBytes = parts.reduce(0) { $0 + $1.keyBytes.count } + 16 * keyCount
        let table = KeyTable(
            keyLimit: max(1, keyCount), arenaByteLimit: max(2 * DetectionLimits.keyBytesMax, nameBytes))
        var counts: [(counted: AccessTotals, error: UInt64, listedBounds: UInt64)] = []
        var totals = AccessTotals()
        var bounds: UInt64 = 0
        for part in parts {
            totals.reads &+= part.totals.reads
            totals.writes &+= part.totals.writes
            totals.replyBytes &+= part.totals.replyBytes
            bounds &+= part.unlistedBound
            part.forEach { entry, key in
                var position = table.find(key, hash: entry.hash)
                if position < 0 {
                    position = table.insert(key, hash: entry.hash)
                    precondition(position == counts.count, "the table has room for every key of every part")
                    counts.append((AccessTotals(), 0, 0))
                }
                counts[position].counted.reads &+= entry.reads
                counts[position].counted.writes &+= entry.writes
                counts[position].counted.replyBytes &+= entry.replyBytes
                counts[position].error &+= entry.error
                counts[position].listedBounds &+= part.unlistedBound
            }
        }
        let entries = counts.indices.map { position in
            let reference = table.reference(at: position)
            let count = counts[position]
            return Entry(
                hash: reference.hash, keyOffset: reference.offset, keyLength: UInt32(reference.length),
                reads: count.counted.reads, writes: count.counted.writes, replyBytes: count.counted.replyBytes,
                error: count.error &+ (bounds &- count.listedBounds))
        }
        return SliceSummary(keyBytes: table.copyArena(), entries: entries, totals: totals, unlistedBound: bounds)
    }
}
