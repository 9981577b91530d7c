/// Counts of many keys over the last slices: what rates, and so decisions, are taken from.
///
/// One open-addressing table maps keys to entries; each entry has a ring of cells, one a slice, that is cleared lazily
/// when the entry is next touched. Adding is thus one lookup and one cell, a rate is a walk over ten neighbouring cells,
/// and time passing costs nothing for keys that nobody touches.
///
/// Bounded: `keyLimit` keys. When they are used up, a new key takes the place of the least counted of a few that are
/// looked at (of those not seen in the whole window first), or is itself left out; either way the count given up joins
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
        /// Bounds for unlisted keys that this addition replaces: it tells what they left open.
        var credit: UInt64 = 0
        /// The counts were saved up over several slices and say nothing about this one alone.
        var isSaved = false
    }

    private struct Cell {
        var reads: UInt32 = 0
        var writes: UInt32 = 0
        var saved: UInt32 = 0
        var error: UInt32 = 0
        var credit: UInt32 = 0
        var misses: UInt32 = 0
        /// 24 bits of precision are enough for a count of bytes that carries no error bound.
        var replyBytes: Float = 0

        var accesses: UInt64 { UInt64(reads) &+ UInt64(writes) }
    }

    private struct State {
        /// The newest slice whose cell is valid; older ones within the ring are too.
        var lastSlice: UInt64
        /// Counts before this slice may have been given up.
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
    private let table: KeyTable
    private var cells: UnsafeMutablePointer<Cell>
    private var states: UnsafeMutablePointer<State>
    private var capacity: Int
    /// The running slice.
    private(set) var currentSlice: UInt64
    private var bounds: [UInt64]
    private var overflows: [UInt64]
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
        cells = .allocate(capacity: capacity * ringSlices)
        states = .allocate(capacity: capacity)
        bounds = Array(repeating: 0, count: ringSlices)
        overflows = Array(repeating: 0, count: ringSlices)
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
            overflows[place] = 0
        }
        currentSlice = slice
        sweep()
    }

    func isOpen(_ slice: UInt64) -> Bool {
        slice <= currentSlice && slice + UInt64(ringSlices) > currentSlice
    }

    /// A slice's bound for keys that are not listed, added up over the agents.
    func addBound(_ bound: UInt64, slice: UInt64) {
        bounds[Int(slice % UInt64(ringSlices))] &+= bound
    }

    /// A count that was given up for lack of room: any one key may be missing that much.
    func addOverflow(_ count: UInt64, slice: UInt64) {
        overflows[Int(slice % UInt64(ringSlices))] &+= count
    }

    /// Counts a key in an open slice. Returns false when there is no room for the key: the caller adds the overflow, once
    /// for all keys of one frame, of which each can be missing only its own.
    func add(_ key: UnsafeRawBufferPointer, hash: UInt64, slice: UInt64, _ addition: Addition) -> Bool {
        var entry = table.find(key, hash: hash)
        if entry < 0 {
            entry = insert(key, hash: hash, slice: slice, weight: addition.reads &+ addition.writes)
            if entry < 0 { return false }
        }
        let state = states + entry
        let ring = cells + entry &* ringSlices
        if slice > state.pointee.lastSlice {
            state.pointee.accesses &-= clear(ring, after: state.pointee.lastSlice, through: slice)
            state.pointee.lastSlice = slice
        }
        let cell = ring + Int(truncatingIfNeeded: slice % UInt64(ringSlices))
        let reads = UInt32(clamping: addition.reads)
        let writes = UInt32(clamping: addition.writes)
        let before = cell.pointee.accesses
        cell.pointee.reads = Self.sum(cell.pointee.reads, reads)
        cell.pointee.writes = Self.sum(cell.pointee.writes, writes)
        state.pointee.accesses &+= cell.pointee.accesses &- before
        if addition.isSaved {
            cell.pointee.saved = Self.sum(cell.pointee.saved, Self.sum(reads, writes))
        }
        cell.pointee.error = Self.sum(cell.pointee.error, UInt32(clamping: addition.error))
        cell.pointee.credit = Self.sum(cell.pointee.credit, UInt32(clamping: addition.credit))
        cell.pointee.misses = Self.sum(cell.pointee.misses, UInt32(clamping: addition.misses))
        cell.pointee.replyBytes += Float(addition.replyBytes)
        if !state.pointee.isNoted, !state.pointee.isTracked,
            Double(cell.pointee.reads) + Double(cell.pointee.writes) >= noteworthy.accesses
                || Double(cell.pointee.replyBytes) >= noteworthy.bytes
        {
            state.pointee.isNoted = true
            noted.append(UInt32(truncatingIfNeeded: entry))
        }
        return true
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
        states[entry] = State(lastSlice: slice, insertedSlice: slice)
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
        addOverflow(least, slice: currentSlice)
        table.remove(victim)
        return true
    }

    /// At least what the ring still holds of an entry; from its state alone, because this is asked of many entries whose cells are
    /// in no cache.
    private func accessesAtMost(in entry: Int) -> UInt64 {
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
        let moreCells = UnsafeMutablePointer<Cell>.allocate(capacity: grown * ringSlices)
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

    /// What any key can be missing over the slices that end with `ending`: the bounds, and for a key that was not there
    /// all the time what was given up.
    func unlistedBound(ending: UInt64, slices: Int) -> UInt64 {
        sum(bounds, ending: ending, slices: slices) &+ sum(overflows, ending: ending, slices: slices)
    }

    /// The entries with the most accesses over the slices that end with `ending`, the busiest first.
    ///
    /// Looks at every entry's state, and at the cells of those alone that may be among the busiest. Whatever the order of the
    /// entries, each costs at most the logarithm of `count`.
    func busiest(_ count: Int, ending: UInt64, slices: Int) -> [Int] {
        guard count > 0 else { return [] }
        var heap = LeastHeap<Busy>()
        heap.reserveCapacity(count)
        for entry in 0..<table.highWater where table.isPresent(entry) {
            let isFull = heap.count == count
            if isFull, accessesAtMost(in: entry) <= heap.least.weight { continue }
            let accesses = accesses(in: entry, ending: ending, slices: slices)
            guard accesses > (isFull ? heap.least.weight : 0) else { continue }
            let busy = Busy(weight: accesses, number: entry)
            if isFull { heap.replaceLeast(with: busy) } else { heap.insert(busy) }
        }
        var entries: [Int] = []
        heap.takeSorted { entries.append($0.number) }
        return entries
    }

    /// An entry by its accesses.
    private struct Busy: Weighted {
        var weight: UInt64
        var number: Int
    }

    private func accesses(in entry: Int, ending: UInt64, slices: Int) -> UInt64 {
        let last = states[entry].lastSlice
        var sum: UInt64 = 0
        for age in 0..<UInt64(slices) {
            let slice = ending &- age
            guard slice <= last, slice &+ UInt64(ringSlices) > last else { continue }
            sum &+= cells[entry * ringSlices + Int(slice % UInt64(ringSlices))].accesses
        }
        return sum
    }

    private func sum(_ ring: [UInt64], ending: UInt64, slices: Int) -> UInt64 {
        var sum: UInt64 = 0
        for age in 0..<UInt64(slices) where isOpen(ending - age) {
            sum &+= ring[Int((ending - age) % UInt64(ringSlices))]
        }
        return sum
    }

    /// The sample of an entry, or of a key without one (-1), over the rule's window that ends with `ending`.
    func sample(at entry: Int, rule: DetectionRule, ending: UInt64) -> HeatSample {
        let slices = rule.windowMilliseconds / sliceMilliseconds
        guard entry >= 0 else {
            return HeatSample(
                rule: rule, sliceMilliseconds: sliceMilliseconds,
                error: Double(unlistedBound(ending: ending, slices: slices)),
                counts: { _ in SliceCounts() })
        }
        let ring = cells + entry * ringSlices
        let ringLength = UInt64(ringSlices)
        let last = states[entry].lastSlice
        func cell(_ age: Int) -> Cell {
            let slice = ending &- UInt64(age)
            // Beyond the last touch nothing was counted; before the ring's length cells hold other slices.
            guard slice <= last, slice &+ ringLength > last else { return Cell() }
            return ring[Int(truncatingIfNeeded: slice % ringLength)]
        }
        var error: UInt64 = 0
        var credit: UInt64 = 0
        // Sums of several slices that can reach back beyond the window: what of them is older is counted too much.
        var older: UInt64 = 0
        for age in 0..<slices {
            let cell = cell(age)
            error &+= UInt64(cell.error)
            credit &+= UInt64(cell.credit)
            if age + DetectionLimits.tailSlices > slices { older &+= UInt64(cell.saved) }
        }
        let open = sum(bounds, ending: ending, slices: slices)
        error &+= open > credit ? open &- credit : 0
        if states[entry].insertedSlice &+ UInt64(slices) > ending {
            error &+= sum(overflows, ending: ending, slices: slices)
        }
        return HeatSample(rule: rule, sliceMilliseconds: sliceMilliseconds, error: Double(max(error, older))) { age in
            let cell = cell(age)
            return SliceCounts(
                reads: Double(cell.reads), writes: Double(cell.writes), saved: Double(cell.saved),
                bytes: Double(cell.replyBytes), misses: Double(cell.misses))
        }
    }
}
