/// Which recorded access it was, so that its reply can be added later.
///
/// A slot outlives its slice safely: once the slice was drained, or the key gave way to another, the reply goes to the
/// totals of the running slice only. So it does when `DetectionLimits.awaitedRepliesMax` accesses have been recorded since.
public struct CounterSlot: Sendable, Hashable {
    /// Of a write: a reply without a value is no miss then.
    private static let writeMark: UInt64 = 1 << 63
    /// For what is counted in the totals only.
    private static let unlistedNumber = UInt64.max & ~writeMark

    /// For carrying a slot through code that knows nothing of counting; never 0, which such code may use for "none".
    public let word: UInt64

    var number: UInt64 { word & ~Self.writeMark }
    var isUnlisted: Bool { number == Self.unlistedNumber }
    var isWrite: Bool { word & Self.writeMark != 0 }

    public init(word: UInt64) {
        self.word = word
    }

    /// - Parameter number: counts the accesses, from 1 on; `nil` for what is counted in the totals only.
    init(number: UInt64?, isWrite: Bool) {
        word = (number ?? Self.unlistedNumber) | (isWrite ? Self.writeMark : 0)
    }
}

/// Counts the keys of one event loop for one slice: reads, writes, reply bytes and misses apart.
///
/// Exact while the slice's distinct keys fit the table; beyond that Space-Saving (Metwally, Agrawal, El Abbadi:
/// "Efficient Computation of Frequent and Top-k Elements in Data Streams", ICDT 2005) with the filter of Homem and Carvalho
/// ("Finding top-k elements in data streams", Information Sciences 180, 2010): accesses of a key that is not in the table are
/// counted in a cell that keys share by their hash. Only when the cell passes the smallest count `m` of the table does the key
/// take that one's place, with what the cell had as its error; the cell of the key that goes is raised to `m`. Most keys of a
/// slice are asked for once, and cost one cell instead of a place. With N accesses counted and k places no error passes N/k, a
/// key with more than N/k accesses is always listed, and for each listed key
///
///     reads + writes  ≤  true accesses  ≤  reads + writes + error
///
/// where `reads` and `writes` are what was seen since the key came into the table. (Metwally's counter is our sum of the
/// three.) A key that is not listed had at most `unlistedBound` accesses. Should the names' bytes run out before the
/// places, keys are given up until the new one fits; the bounds then hold with k the fewest keys that stood in the table at any time
/// since.
///
/// The smallest count is found by a cursor that walks the entries and takes each that stands at the current level; the
/// level only rises, at most N/k times, and each rise costs one walk of k entries: constant time per access, amortised,
/// without the linked buckets of the paper, whose pointers each hit would have to mend.
///
/// Keys are looked up some at a time: one look-up alone waits for memory several times, those of a batch wait together.
/// What has been recorded and not looked up counts all the same, because whatever asks for counts looks it up first.
///
/// One event loop owns it; nothing here is safe to share. In steady state `record` allocates nothing.
public final class SliceCounter {
    private struct Counter {
        var reads: UInt64
        var writes: UInt64
        var replyBytes: UInt64
        var error: UInt64
        /// Which occupation of the entry this is. Wraps after 2^32 insertions, long after any reply has come.
        var generation: UInt32
        var misses: UInt32 = 0

        var weight: UInt64 { reads &+ writes &+ error }
    }

    private let table: KeyTable
    private var counters: UnsafeMutablePointer<Counter>
    private var counterCapacity: Int
    private var totals = AccessTotals()
    private var generation: UInt32 = 0
    private var batch = AccessBatch()
    /// The number of the access that comes next; an access's number is its slot. They begin with 1.
    private var nextAccess: UInt64 = 1
    /// Where the last accesses were counted, by their numbers: the entry below its generation.
    private let places: UnsafeMutablePointer<UInt64>
    private static let placesMask = UInt64(DetectionLimits.awaitedRepliesMax - 1)
    /// No entry has this number.
    private static let noPlace = UInt64.max

    /// What a key that is not in the table can have at most: the largest cell of ``filter`` that was written.
    private var floor: UInt64 = 0
    /// By hash, at least the accesses of each key that is not in the table. No cell passes ``level``.
    private let filter: UnsafeMutablePointer<UInt64>
    private let filterMask: Int
    /// Whether the table was full in this slice.
    private var isFiltering = false
    /// No present key weighs less than this.
    private var level: UInt64 = 0
    /// The smallest weight the cursor passed by since it last started from the front.
    private var nextLevel = UInt64.max
    private var cursor = 0

    /// - Parameters:
    ///   - keysMax: distinct keys counted exactly in one slice.
    ///   - arenaBytesMax: bytes of names kept for one slice.
    public init(
        keysMax: Int = DetectionLimits.counterKeysMax, arenaBytesMax: Int = DetectionLimits.counterArenaBytesMax
    ) {
        table = KeyTable(keyLimit: keysMax, arenaByteLimit: arenaBytesMax)
        counterCapacity = min(keysMax, 256)
        counters = .allocate(capacity: counterCapacity)
        places = .allocate(capacity: DetectionLimits.awaitedRepliesMax)
        var cells = 64
        while cells < keysMax { cells *= 2 }
        filter = .allocate(capacity: cells)
        filter.initialize(repeating: 0, count: cells)
        filterMask = cells - 1
    }

    deinit {
        counters.deallocate()
        places.deallocate()
        filter.deallocate()
    }

    /// Counts accesses of a key. Keys over `DetectionLimits.keyBytesMax` go to the totals only.
    ///
    /// - Parameter hash: 64 bits over the key's bytes, the same function and seed in all loops of the agent
    ///   (`KeyHash` does). Equal hashes of different keys cost time, not accuracy.
    public func record(key: UnsafeRawBufferPointer, hash: UInt64, reads: UInt32, writes: UInt32) -> CounterSlot {
        totals.reads &+= UInt64(reads)
        totals.writes &+= UInt64(writes)
        guard key.count <= DetectionLimits.keyBytesMax else { return CounterSlot(number: nil, isWrite: reads == 0) }
        if !batch.hasRoom(forKeyOf: key.count) { lookUpBatch() }
        batch.append(key, hash: hash, reads: reads, writes: writes)
        defer { nextAccess &+= 1 }
        return CounterSlot(number: nextAccess, isWrite: reads == 0)
    }

    /// Adds a reply to the key its access was counted for.
    /// - Parameter isMiss: the reply says that there is no value; counts for reads alone.
    public func addReply(_ slot: CounterSlot, bytes: Int, isMiss: Bool) {
        let added = UInt64(max(0, bytes))
        let misses: UInt32 = isMiss && !slot.isWrite ? 1 : 0
        totals.replyBytes &+= added
        totals.misses &+= UInt64(misses)
        let age = nextAccess &- slot.number
        guard !slot.isUnlisted, age > 0, age <= UInt64(DetectionLimits.awaitedRepliesMax) else { return }
        if age <= UInt64(batch.count) { return batch.addReply(bytes: added, misses: misses, age: Int(age)) }
        let place = places[Int(slot.number & Self.placesMask)]
        let entry = Int(place & 0xFFFF_FFFF)
        guard entry < table.highWater, UInt64(counters[entry].generation) == place >> 32, table.isPresent(entry) else {
            return
        }
        counters[entry].replyBytes &+= added
        counters[entry].misses &+= misses
    }

    private func lookUpBatch() {
        let count = batch.count
        table.load(batch.hashes, count: count)
        var number = nextAccess &- UInt64(count)
        for place in 0..<count {
            let (access, key) = batch.access(at: place)
            let hash = batch.hashes[place]
            var entry = table.find(key, hash: hash)
            if entry < 0 {
                entry = insert(key, hash: hash, weight: UInt64(access.reads) &+ UInt64(access.writes))
                guard entry >= 0 else {
                    places[Int(number & Self.placesMask)] = Self.noPlace
                    number &+= 1
                    continue
                }
            }
            let counter = counters + entry
            counter.pointee.reads &+= UInt64(access.reads)
            counter.pointee.writes &+= UInt64(access.writes)
            counter.pointee.replyBytes &+= access.replyBytes
            counter.pointee.misses &+= access.misses
            places[Int(number & Self.placesMask)] = UInt64(counter.pointee.generation) << 32 | UInt64(entry)
            number &+= 1
        }
        batch.removeAll()
    }

    /// Ends the slice: hands over what it counted and starts the next one empty.
    public func drain() -> SliceSummary {
        lookUpBatch()
        var entries: [SliceSummary.Entry] = []
        entries.reserveCapacity(table.count)
        for entry in 0..<table.highWater where table.isPresent(entry) {
            let reference = table.reference(at: entry)
            let counter = counters[entry]
            entries.append(
                SliceSummary.Entry(
                    hash: reference.hash, keyOffset: reference.offset, keyLength: UInt32(reference.length),
                    reads: counter.reads, writes: counter.writes, replyBytes: counter.replyBytes,
                    error: counter.error, misses: counter.misses))
        }
        let summary = SliceSummary(
            keyBytes: table.copyArena(), entries: entries, totals: totals, unlistedBound: floor)
        table.removeAll()
        totals = AccessTotals()
        floor = 0
        level = 0
        nextLevel = .max
        cursor = 0
        if isFiltering { filter.update(repeating: 0, count: filterMask &+ 1) }
        isFiltering = false
        return summary
    }

    /// Makes a place for a key that has none and counts nothing there yet. Returns -1 when the access was counted in the key's cell.
    private func insert(_ key: UnsafeRawBufferPointer, hash: UInt64, weight: UInt64) -> Int {
        if !isFiltering {
            let entry = table.insert(key, hash: hash)
            if entry >= 0 {
                startCounting(entry, error: 0, weight: weight)
                return entry
            }
            isFiltering = true
        }
        let cell = cell(of: hash)
        let error = filter[cell]
        let count = error &+ weight
        while true {
            // Also where a name would still fit: whoever comes in weighs more than the level, or it would be none.
            guard count > level else {
                filter[cell] = count
                floor = max(floor, count)
                return -1
            }
            let entry = table.insert(key, hash: hash)
            if entry >= 0 {
                startCounting(entry, error: error, weight: weight)
                return entry
            }
            giveUpOneAtLevel()
        }
    }

    @inline(__always)
    private func cell(of hash: UInt64) -> Int { Int(truncatingIfNeeded: hash >> 20) & filterMask }

    private func startCounting(_ entry: Int, error: UInt64, weight: UInt64) {
        if entry >= counterCapacity { growCounters() }
        // The cursor may have passed this place: without this the next level could come out above the new key's count.
        nextLevel = min(nextLevel, error &+ weight)
        generation &+= 1
        counters[entry] = Counter(reads: 0, writes: 0, replyBytes: 0, error: error, generation: generation)
    }

    /// Gives up a key that weighs as little as the level says, or, when the walk has come to its end without one, raises the level.
    private func giveUpOneAtLevel() {
        precondition(table.count > 0, "the arena holds at least two keys")
        let end = table.highWater
        while cursor < end {
            let entry = cursor
            cursor &+= 1
            guard table.isPresent(entry) else { continue }
            let weight = counters[entry].weight
            if weight <= level {
                // Should it come back, what it had is in its cell.
                let cell = cell(of: table.hash(at: entry))
                filter[cell] = max(filter[cell], weight)
                floor = max(floor, weight)
                table.remove(entry)
                return
            }
            nextLevel = min(nextLevel, weight)
        }
        // Counts seen on the way may have grown since, so the next level can be too low, never too high: then the
        // walk finds nothing, and the one after it has seen every count as it stands.
        cursor = 0
        level = nextLevel
        nextLevel = .max
    }

    private func growCounters() {
        let grown = min(table.keyLimit, counterCapacity * 2)
        let larger = UnsafeMutablePointer<Counter>.allocate(capacity: grown)
        larger.moveInitialize(from: counters, count: counterCapacity)
        counters.deallocate()
        counters = larger
        counterCapacity = grown
    }
}
