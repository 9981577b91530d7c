/// Counts of many keys over the last slices: what rates, and so decisions, are taken from.
///
/// One open-addressing table maps keys to entries; each entry has a ring of cells, one a slice, that is cleared lazily
/// when the entry is next touched. Adding is thus one lookup and one cell, a rate is a walk over ten neighbouring cells,
/// and time passing costs nothing for keys that nobody touches. A sum of several slices has one more cell to touch for each slice
/// whose bound it replaces, of the same ring.
///
/// Bounded: `keyLimit` keys. When they are used up, a new key takes the place of the least counted of a few that are
/// looked at (of those not seen in the whole window first), or is itself left out; either way what is given up joins
/// `overflow`, which is part of every error that it can concern.
///
/// Not thread-safe: one owner.
final class SlidingWindow {
    struct Addition {
        var reads: UInt64
        var writes: UInt64
        var replyBytes: UInt64
        var misses: UInt64 = 0
        /// Accesses that may be missing from reads and writes.
        var error: UInt64 = 0
        /// The slice's bound for unlisted keys that this addition replaces: it tells what that left open.
        var credit: UInt64 = 0
        /// The counts are a sum of several slices and say nothing about this one alone.
        var isSum = false
        /// Of a sum: the first slice that it tells of, where that is known.
        var startSlice: UInt64?
        /// The slices, up to the one it is added in, over which it is spread evenly, sum or not.
        var slices: UInt64 = 1
    }

    /// A slice before the one in which a sum is added that the sum tells of, and the slice's bound, which it replaces.
    struct Covered {
        var slice: UInt64
        var bound: UInt32
    }

    /// 32 bytes, so that two make a line of the cache.
    struct Cell {
        var reads: UInt32 = 0
        var writes: UInt32 = 0
        /// Of the reads and writes: those that sums brought.
        var sums: UInt32 = 0
        /// What sums brought that tell of no slice before this one; they stand in the cells in which they were added.
        var sumsFrom: UInt32 = 0
        var error: UInt32 = 0
        var credit: UInt32 = 0
        var misses: UInt32 = 0
        /// 24 bits of precision are enough for a count of bytes that carries no error bound.
        var replyBytes: Float = 0

        var accesses: UInt64 { UInt64(reads) &+ UInt64(writes) }
    }

    struct State {
        /// The newest slice whose cell is valid; older ones within the ring are too.
        var lastSlice: UInt64
        /// The running slice when the key was given its entry: what was counted of it until then may have been given up.
        var insertedSlice: UInt64
        /// Accesses in all cells of the ring, also in those that have become too old since the last touch.
        var accesses: UInt64 = 0
        var isNoted = false
        var isTracked = false
        /// Which rule applies, as of this generation of the rules. -1 for none.
        var ruleNumber: Int32 = -1
        var ruleGeneration: UInt32 = 0
    }

    let sliceMilliseconds: Int
    /// Slices in the longest window, the late ones and the running one.
    let ringSlices: Int
    let table: KeyTable
    private(set) var cells: UnsafeMutablePointer<Cell>
    private(set) var states: UnsafeMutablePointer<State>
    private var capacity: Int
    /// The running slice.
    private(set) var currentSlice: UInt64
    private(set) var bounds: [UInt64]
    /// Of the bounds: those of frames that tell of earlier slices too.
    private(set) var longBounds: [UInt64]
    private(set) var overflows: [UInt64]
    /// What the reporters have in a slice, by the newest slice that each has told of, and what those have who have told of a slice.
    private(set) var expected: UInt64 = 0
    private(set) var reported: [UInt64]
    /// Moves with whatever ``Outlook`` is made of.
    private(set) var revision: UInt64 = 0
    var lastOutlook: (ending: UInt64, slices: Int, revision: UInt64, outlook: Outlook)?
    private var evictionCursor = 0
    private var sweepCursor = 0
    private var noted: [UInt32] = []
    /// Counts in one slice that get an entry noted for the next decision.
    var noteworthy: (accesses: Double, bytes: Double) = (.infinity, .infinity)

    init(sliceMilliseconds: Int, keyLimit: Int, arenaByteLimit: Int) {
        self.sliceMilliseconds = sliceMilliseconds
        let windowSlices = DetectionLimits.windowMillisecondsRange.upperBound / sliceMilliseconds
        ringSlices = windowSlices + DetectionLimits.lateSlices + 1
        currentSlice = UInt64(ringSlices)
        table = KeyTable(keyLimit: keyLimit, arenaByteLimit: arenaByteLimit)
        capacity = min(keyLimit, 256)
        cells = Self.allocateCells(capacity * ringSlices)
        states = .allocate(capacity: capacity)
        bounds = Array(repeating: 0, count: ringSlices)
        longBounds = bounds
        overflows = bounds
        reported = bounds
    }

    /// `allocate(capacity:)` aligns to 16 bytes: then every other cell would lie in two lines of the cache.
    private static func allocateCells(_ count: Int) -> UnsafeMutablePointer<Cell> {
        UnsafeMutableRawPointer.allocate(byteCount: count * MemoryLayout<Cell>.stride, alignment: 64)
            .bindMemory(to: Cell.self, capacity: count)
    }

    deinit {
        cells.deallocate()
        states.deallocate()
    }

    var keyCount: Int { table.count }

    func slice(at nanoseconds: UInt64) -> UInt64 {
        // One ring's lead keeps every slice number above the ring's length, so that differences never wrap.
        nanoseconds / (UInt64(sliceMilliseconds) * 1_000_000) + UInt64(ringSlices)
    }

    // MARK: Adding

    /// Makes a slice the running one. Earlier ones stay open for late counts as long as the ring holds them.
    func advance(to slice: UInt64) {
        guard slice > currentSlice else { return }
        for step in 1...min(slice - currentSlice, UInt64(ringSlices)) {
            let place = Int((slice - step + 1) % UInt64(ringSlices))
            bounds[place] = 0
            longBounds[place] = 0
            overflows[place] = 0
            reported[place] = 0
        }
        currentSlice = slice
        revision &+= 1
        sweep()
    }

    func isOpen(_ slice: UInt64) -> Bool {
        slice <= currentSlice && slice + UInt64(ringSlices) > currentSlice
    }

    /// A slice's bound for keys that are not listed, added up over the agents.
    /// - Parameter isLong: what it bounds lies in earlier slices too.
    func addBound(_ bound: UInt64, slice: UInt64, isLong: Bool = false) {
        bounds[place(of: slice)] &+= bound
        if isLong { longBounds[place(of: slice)] &+= bound }
        revision &+= 1
    }

    /// A count that was given up for lack of room: any one key may be missing that much.
    func addOverflow(_ count: UInt64, slice: UInt64) {
        overflows[place(of: slice)] &+= count
        revision &+= 1
    }

    /// Somebody who has so many accesses a slice has told of all slices up to this one. Undone by ``withdraw(_:through:)``.
    func expect(_ accesses: UInt64, through slice: UInt64) {
        expected &+= accesses
        for told in oldestSlice..<max(oldestSlice, min(slice, currentSlice) + 1) {
            reported[place(of: told)] &+= accesses
        }
        revision &+= 1
    }

    func withdraw(_ accesses: UInt64, through slice: UInt64) {
        expected &-= accesses
        for told in oldestSlice..<max(oldestSlice, min(slice, currentSlice) + 1) {
            reported[place(of: told)] &-= accesses
        }
        revision &+= 1
    }

    /// The first slice that is open.
    var oldestSlice: UInt64 { currentSlice + 1 - UInt64(ringSlices) }

    @inline(__always)
    func place(of slice: UInt64) -> Int { Int(truncatingIfNeeded: slice % UInt64(ringSlices)) }

    /// Counts a key in an open slice. Returns its entry, or -1 when there is no room for the key: the caller adds the overflow,
    /// once for all keys of one frame, of which each can be missing only its own.
    func add(_ key: UnsafeRawBufferPointer, hash: UInt64, slice: UInt64, _ addition: Addition) -> Int {
        var entry = table.find(key, hash: hash)
        if entry < 0 {
            entry = insert(key, hash: hash, slice: slice, weight: addition.reads &+ addition.writes)
            if entry < 0 { return -1 }
        }
        let state = states + entry
        let ring = cells + entry &* ringSlices
        if slice > state.pointee.lastSlice {
            state.pointee.accesses &-= clear(ring, after: state.pointee.lastSlice, through: slice)
            state.pointee.lastSlice = slice
        }
        let cell = ring + place(of: slice)
        var part = addition
        if addition.isSum || addition.slices > 1 {
            let accesses = Self.sum(UInt32(clamping: addition.reads), UInt32(clamping: addition.writes))
            if addition.isSum, let start = addition.startSlice, start <= slice, isOpen(start) {
                let first = ring + place(of: start)
                first.pointee.sumsFrom = Self.sum(first.pointee.sumsFrom, accesses)
            }
            if addition.slices > 1 {
                part = spread(addition, over: ring, before: slice, state)
                // It may all have been in those of its slices that are in the window.
                part.error &+= UInt64(accesses) &- min(UInt64(accesses), part.reads &+ part.writes)
            }
        }
        Self.add(part, to: cell, state)
        cell.pointee.error = Self.sum(cell.pointee.error, UInt32(clamping: part.error))
        cell.pointee.credit = Self.sum(cell.pointee.credit, UInt32(clamping: part.credit))
        if !state.pointee.isNoted, !state.pointee.isTracked,
            Double(cell.pointee.reads) + Double(cell.pointee.writes) >= noteworthy.accesses
                || Double(cell.pointee.replyBytes) >= noteworthy.bytes
        {
            state.pointee.isNoted = true
            noted.append(UInt32(truncatingIfNeeded: entry))
        }
        return entry
    }

    @inline(__always)
    private static func add(
        _ addition: Addition, to cell: UnsafeMutablePointer<Cell>, _ state: UnsafeMutablePointer<State>
    ) {
        let reads = UInt32(clamping: addition.reads)
        let writes = UInt32(clamping: addition.writes)
        let before = cell.pointee.accesses
        cell.pointee.reads = sum(cell.pointee.reads, reads)
        cell.pointee.writes = sum(cell.pointee.writes, writes)
        state.pointee.accesses &+= cell.pointee.accesses &- before
        if addition.isSum { cell.pointee.sums = sum(cell.pointee.sums, sum(reads, writes)) }
        cell.pointee.misses = sum(cell.pointee.misses, UInt32(clamping: addition.misses))
        cell.pointee.replyBytes += Float(addition.replyBytes)
    }

    /// Adds their parts to the slices before the last one, as far as they are open. Returns the last one's.
    ///
    /// Parts differ by one at most, and together they are the whole: what does not go up into equal parts is spread evenly as well.
    /// In one slice the rest of a long stall, almost as much as slices passed, would look like a burst.
    private func spread(
        _ whole: Addition, over ring: UnsafeMutablePointer<Cell>, before slice: UInt64,
        _ state: UnsafeMutablePointer<State>
    ) -> Addition {
        let slices = whole.slices
        func part(_ count: UInt64, _ back: UInt64) -> UInt64 {
            let (each, rest) = count.quotientAndRemainder(dividingBy: slices)
            // The rest of the slices before this one, and with it. No product passes the square of the slices, of 50 ms at least.
            let passed = slices &- back &- 1
            return each &+ (rest &* (passed &+ 1) / slices &- rest &* passed / slices)
        }
        var addition = whole
        func setPart(_ back: UInt64) {
            addition.reads = part(whole.reads, back)
            addition.writes = part(whole.writes, back)
            addition.replyBytes = part(whole.replyBytes, back)
            addition.misses = part(whole.misses, back)
        }
        for back in 1..<min(slices, UInt64(ringSlices)) where isOpen(slice &- back) {
            setPart(back)
            Self.add(addition, to: ring + place(of: slice &- back), state)
        }
        setPart(0)
        return addition
    }

    /// The bounds of earlier slices that a sum, just added to an entry, replaces.
    @inline(__always)
    func cover(_ covered: UnsafeBufferPointer<Covered>, entry: Int) {
        let last = states[entry].lastSlice
        let ring = cells + entry &* ringSlices
        for one in covered where one.slice <= last && one.slice &+ UInt64(ringSlices) > last {
            let cell = ring + place(of: one.slice)
            cell.pointee.credit = Self.sum(cell.pointee.credit, one.bound)
        }
    }

    /// Counts stand below what was seen, never above: a sum that would not fit stays at the largest value.
    @inline(__always)
    private static func sum(_ left: UInt32, _ right: UInt32) -> UInt32 {
        let (value, overflow) = left.addingReportingOverflow(right)
        return overflow ? .max : value
    }

    /// Returns the accesses that stood in what it clears.
    @inline(__always)
    private func clear(_ ring: UnsafeMutablePointer<Cell>, after last: UInt64, through slice: UInt64) -> UInt64 {
        let count = min(slice &- last, UInt64(ringSlices))
        var place = Int(truncatingIfNeeded: slice % UInt64(ringSlices))
        var cleared: UInt64 = 0
        for _ in 0..<count {
            cleared &+= ring[place].accesses
            ring[place] = Cell()
            place = place == 0 ? ringSlices &- 1 : place &- 1
        }
        return cleared
    }

    private func insert(_ key: UnsafeRawBufferPointer, hash: UInt64, slice: UInt64, weight: UInt64) -> Int {
        var entry = table.insert(key, hash: hash)
        if entry < 0 {
            guard makeRoom(for: weight) else { return -1 }
            entry = table.insert(key, hash: hash)
            if entry < 0 { return -1 }
        }
        if entry >= capacity { grow() }
        states[entry] = State(lastSlice: slice, insertedSlice: currentSlice)
        (cells + entry * ringSlices).initialize(repeating: Cell(), count: ringSlices)
        return entry
    }

    /// Gives up the least counted of a few entries if it counts less than what needs the room.
    private func makeRoom(for weight: UInt64) -> Bool {
        var victim = -1
        var least = weight
        var looked = 0
        for _ in 0..<table.highWater {
            guard looked < DetectionLimits.evictionSampleEntries else { break }
            evictionCursor = evictionCursor + 1 < table.highWater ? evictionCursor + 1 : 0
            let entry = evictionCursor
            guard table.isPresent(entry), !states[entry].isTracked else { continue }
            looked += 1
            let counted = accessesAtMost(in: entry)
            if counted < least {
                victim = entry
                least = counted
            }
        }
        guard victim >= 0 else { return false }
        // The running slice: all that was counted, and missing, lies in it or before it.
        addOverflow(givenUp(in: victim), slice: currentSlice)
        table.remove(victim)
        return true
    }

    /// The most that an entry's key can have by what its cells tell.
    private func givenUp(in entry: Int) -> UInt64 {
        let last = states[entry].lastSlice
        var sum: UInt64 = 0
        for age in 0..<UInt64(ringSlices) where isOpen(last &- age) {
            let cell = cells[entry * ringSlices + place(of: last &- age)]
            sum &+= cell.accesses &+ UInt64(cell.error)
        }
        return sum
    }

    /// At least what the ring still holds of an entry; from its state alone, because this is asked of many entries whose cells are
    /// in no cache.
    func accessesAtMost(in entry: Int) -> UInt64 {
        isOpen(states[entry].lastSlice) ? states[entry].accesses : 0
    }

    /// Frees entries that nobody touched for a whole ring, a sixteenth of the table a slice.
    private func sweep() {
        let steps = table.highWater / 16 + 1
        for _ in 0..<min(steps, table.highWater) {
            sweepCursor = sweepCursor + 1 < table.highWater ? sweepCursor + 1 : 0
            let isGone = table.isPresent(sweepCursor) && !isOpen(states[sweepCursor].lastSlice)
            if isGone { table.remove(sweepCursor) }
        }
    }

    private func grow() {
        let grown = min(table.keyLimit, capacity * 2)
        let moreCells = Self.allocateCells(grown * ringSlices)
        moreCells.moveInitialize(from: cells, count: capacity * ringSlices)
        cells.deallocate()
        cells = moreCells
        let moreStates = UnsafeMutablePointer<State>.allocate(capacity: grown)
        moreStates.moveInitialize(from: states, count: capacity)
        states.deallocate()
        states = moreStates
        capacity = grown
    }

    // MARK: Asking

    func find(_ key: [UInt8], hash: UInt64) -> Int {
        key.withUnsafeBytes { table.find($0, hash: hash) }
    }

    func key(at entry: Int) -> UnsafeRawBufferPointer { table.key(at: entry) }

    func hash(at entry: Int) -> UInt64 { table.hash(at: entry) }

    /// The entries noted since the last call that are still there.
    func takeNoted() -> [Int] {
        let taken = notedEntries
        for entry in taken { states[entry].isNoted = false }
        noted.removeAll(keepingCapacity: true)
        return taken
    }

    var hasNoted: Bool { !noted.isEmpty }

    /// The entries that the next ``takeNoted()`` would return.
    var notedEntries: [Int] {
        noted.lazy.map { Int($0) }.filter { self.table.isPresent($0) && self.states[$0].isNoted }
    }

    /// Tracked entries are asked for each slice anyway: they are neither noted nor given up.
    func setTracked(_ isTracked: Bool, entry: Int) {
        states[entry].isTracked = isTracked
    }

    /// The rule's number for an entry, looked up once for each generation of the rules.
    func ruleNumber(at entry: Int, in rules: RuleSet, generation: UInt32) -> Int? {
        if states[entry].ruleGeneration != generation {
            states[entry].ruleGeneration = generation
            states[entry].ruleNumber = Int32(rules.number(for: table.key(at: entry)) ?? -1)
        }
        let number = Int(states[entry].ruleNumber)
        return number < 0 ? nil : number
    }
}
