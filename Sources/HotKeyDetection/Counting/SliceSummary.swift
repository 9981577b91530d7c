/// All accesses of a slice, listed keys or not.
public struct AccessTotals: Sendable, Hashable {
    public var reads: UInt64
    public var writes: UInt64
    public var replyBytes: UInt64
    /// Of the reads: those whose reply said that there is no value.
    public var misses: UInt64

    public init(reads: UInt64 = 0, writes: UInt64 = 0, replyBytes: UInt64 = 0, misses: UInt64 = 0) {
        self.reads = reads
        self.writes = writes
        self.replyBytes = replyBytes
        self.misses = misses
    }

    public var accesses: UInt64 { reads &+ writes }

    public mutating func add(_ other: AccessTotals, dividedBy divisor: UInt64 = 1) {
        reads &+= other.reads / divisor
        writes &+= other.writes / divisor
        replyBytes &+= other.replyBytes / divisor
        misses &+= other.misses / divisor
    }
}

/// What was counted in one slice by one event loop, or by several once merged.
///
/// For each entry `reads + writes ≤ true accesses ≤ reads + writes + error`; a key without an entry has at most
/// `unlistedBound` accesses (keys over the length limit excepted). `replyBytes` and `misses` are lower bounds.
public struct SliceSummary: Sendable {
    /// One key's counts. Its name is read through the summary, which keeps all names in one piece of memory.
    public struct Entry: Sendable {
        public let hash: UInt64
        let keyOffset: UInt32
        let keyLength: UInt32
        public var reads: UInt64
        public var writes: UInt64
        public var replyBytes: UInt64
        // An error of 2^32 would take that many accesses times the counter's places: together with the misses it has the room
        // of one number, and an entry stays as small as the caches want it.
        private let errorBits: UInt32
        /// Of the reads: those whose reply said that there is no value.
        public let misses: UInt32

        init(
            hash: UInt64, keyOffset: UInt32, keyLength: UInt32, reads: UInt64, writes: UInt64, replyBytes: UInt64,
            error: UInt64, misses: UInt32
        ) {
            self.hash = hash
            self.keyOffset = keyOffset
            self.keyLength = keyLength
            self.reads = reads
            self.writes = writes
            self.replyBytes = replyBytes
            errorBits = UInt32(clamping: error)
            self.misses = misses
        }

        /// Accesses that may be missing from `reads` and `writes` together.
        public var error: UInt64 { UInt64(errorBits) }
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
