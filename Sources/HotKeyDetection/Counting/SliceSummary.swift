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

    mutating func add(_ other: AccessTotals, dividedBy divisor: UInt64) {
        reads &+= other.reads / divisor
        writes &+= other.writes / divisor
        replyBytes &+= other.replyBytes / divisor
    }
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

    /// The name of one of this summary's entries.
    public func key(of entry: Entry) -> [UInt8] {
        Array(keyBytes[Int(entry.keyOffset)..<Int(entry.keyOffset) + Int(entry.keyLength)])
    }

    /// Calls the body with the name of one of this summary's entries, without copying. The name is valid during the call only.
    func withKey<Result>(of entry: Entry, _ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
        try keyBytes.withUnsafeBytes { names in
            let start = Int(entry.keyOffset)
            return try body(UnsafeRawBufferPointer(rebasing: names[start..<start + Int(entry.keyLength)]))
        }
    }
}
