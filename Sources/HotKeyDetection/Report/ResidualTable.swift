/// What an agent has counted of each key and not told yet.
///
/// 64 bytes: one line of the cache.
struct Residual {
    private static let watchedMark: UInt16 = 1 << 15

    var hash: UInt64
    var reads: UInt64 = 0
    var writes: UInt64 = 0
    var replyBytes: UInt64 = 0
    /// Errors of the parts in which the counter listed the key, less the counter's bounds of those parts.
    var errorBeyondBounds: Int64 = 0
    /// The accesses of the last slice touched and their error, less the counter's bounds of the parts that list the key.
    var sliceBeyondBounds: Int64 = 0
    var nameOffset: UInt32
    var misses: UInt32 = 0
    /// With whether it is watched in the top bit: names are far shorter.
    private var nameLengthAndMark: UInt16
    // Slices by the low 16 bits of their number: no record outlives `DetectionLimits.tailSlices` slices.
    /// The first slice with a count that was not told.
    var firstSlice: UInt16
    /// The last slice with a count.
    var touchedSlice: UInt16
    /// The last slice that told the key.
    var toldSlice: UInt16

    /// Of a key without counts.
    init(hash: UInt64, nameOffset: UInt32, nameLength: UInt16, slice: UInt16) {
        self.hash = hash
        self.nameOffset = nameOffset
        nameLengthAndMark = nameLength
        firstSlice = slice
        touchedSlice = slice &- 1
        toldSlice = slice &- 1
    }

    var nameLength: UInt16 { nameLengthAndMark & ~Self.watchedMark }
    var isWatched: Bool { nameLengthAndMark & Self.watchedMark != 0 }
    var accesses: UInt64 { reads &+ writes }
    /// Whether everything of it has been told.
    var isTold: Bool { reads | writes | replyBytes | UInt64(misses) == 0 }

    mutating func watch() { nameLengthAndMark |= Self.watchedMark }

    @inline(__always)
    mutating func add(_ entry: SliceSummary.Entry) {
        reads &+= entry.reads
        writes &+= entry.writes
        replyBytes &+= entry.replyBytes
        // A key's misses of a second: far below where they would wrap, and then they stand too low.
        misses &+= entry.misses
    }

    mutating func clearCounts() {
        reads = 0
        writes = 0
        replyBytes = 0
        misses = 0
    }
}

/// The residuals of the keys of the last second, in groups that end as a whole.
///
/// Each key belongs to one of ten groups by its hash, and each group is emptied in one slice of ten: nothing is looked
/// for in the other nine, no entry is taken out singly. An eleventh group, emptied in every slice, holds the keys for which
/// no other room is left, so that the bound for what is not told stays that of single keys, and a key that is large at
/// once can be told at once.
///
/// What it promises: `keysMax` keys and `namesBytesMax` bytes of names in the ten groups, `sliceKeysMax` and
/// `sliceNamesBytesMax` in the eleventh; lookup and insertion in expected constant time; no allocation once the indexes
/// have grown to what their use needs. Records and names stand in blocks that the groups share; pages of blocks that were
/// never needed cost no memory.
///
/// A slice touches tens of thousands of keys, each in three places that are in no near cache: a cell of an index (open
/// addressing, linear probing, at most half full, 32 bits of hash in a cell), a record of 64 bytes, a name. `find` looks
/// up a batch at a time, first all cells, then all records, then all names, so that these waits overlap instead of
/// adding up.
///
/// Not thread-safe: one owner, one thread at a time.
final class ResidualTable {
    static let turns = DetectionLimits.tailSlices
    static let batchEntries = 32
    private static let sliceGroup = turns
    private static let blockRecords = 64
    private static let blockNameBytes = 16 << 10
    private static let initialCells = 256

    private struct Group {
        var index: UnsafeMutablePointer<UInt64>
        var cells: Int
        var shift: UInt64
        var count = 0
        var recordBlocks: [UInt32] = []
        var nameBlocks: [UInt32] = []
        var nextRecord = 0
        var nextName = 0
        var namesEnd = 0
    }

    let records: UnsafeMutablePointer<Residual>
    /// Records there can be.
    let recordsMax: Int
    private let names: UnsafeMutableRawPointer
    private let groups: UnsafeMutablePointer<Group>
    private var freeRecordBlocks: [UInt32]
    private var freeNameBlocks: [UInt32]
    // Of the batch that is looked up: the first cells, the records, the places of those that may be there.
    private let cells: UnsafeMutablePointer<UInt64>
    private let found: UnsafeMutablePointer<Int>
    private let matches: UnsafeMutablePointer<Int>
    private let keysMax: Int
    private let sliceKeysMax: Int
    private let nameBlocksMax: Int
    /// Keys and blocks of names in the ten groups.
    private(set) var count = 0
    private var nameBlocksUsed = 0

    init(keysMax: Int, namesBytesMax: Int, sliceKeysMax: Int, sliceNamesBytesMax: Int) {
        self.keysMax = keysMax
        self.sliceKeysMax = sliceKeysMax
        // Each group leaves part of its last block unused.
        let recordBlocks = (keysMax + sliceKeysMax) / Self.blockRecords + Self.turns + 2
        nameBlocksMax = namesBytesMax / Self.blockNameBytes + Self.turns
        let nameBlocks = nameBlocksMax + max(1, sliceNamesBytesMax / Self.blockNameBytes)
        precondition(
            recordBlocks * Self.blockRecords < 1 << 31 && nameBlocks * Self.blockNameBytes <= Int(UInt32.max),
            "records and names are numbered by 32 bits")
        recordsMax = recordBlocks * Self.blockRecords
        // `allocate(capacity:)` aligns to 16 bytes: then every record would lie in two lines of the cache.
        records = UnsafeMutableRawPointer.allocate(
            byteCount: recordsMax * MemoryLayout<Residual>.stride, alignment: MemoryLayout<Residual>.stride
        ).bindMemory(to: Residual.self, capacity: recordsMax)
        names = .allocate(byteCount: nameBlocks * Self.blockNameBytes, alignment: 64)
        groups = .allocate(capacity: Self.turns + 1)
        for number in 0...Self.turns {
            let index = UnsafeMutablePointer<UInt64>.allocate(capacity: Self.initialCells)
            index.initialize(repeating: 0, count: Self.initialCells)
            (groups + number).initialize(
                to: Group(index: index, cells: Self.initialCells, shift: Self.shift(for: Self.initialCells)))
        }
        // Taken from the end: the blocks used last are in the nearest cache, and those never needed stay untouched.
        freeRecordBlocks = (0..<UInt32(recordBlocks)).reversed()
        freeNameBlocks = (0..<UInt32(nameBlocks)).reversed()
        cells = .allocate(capacity: Self.batchEntries)
        found = .allocate(capacity: Self.batchEntries)
        matches = .allocate(capacity: Self.batchEntries)
    }

    deinit {
        for number in 0...Self.turns { groups[number].index.deallocate() }
        groups.deinitialize(count: Self.turns + 1)
        groups.deallocate()
        records.deallocate()
        names.deallocate()
        cells.deallocate()
        found.deallocate()
        matches.deallocate()
    }

    func key(of record: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            start: names + Int(records[record].nameOffset), count: Int(records[record].nameLength))
    }

    /// Calls the body with each entry and the number of its record, which is made when there is none; -1 when there is no
    /// room for it.
    ///
    /// - Parameter sequence: of the running slice; stands in a new record as the first one and as neither touched nor told.
    @inline(__always)
    func forEachRecord(
        of summary: SliceSummary, sequence: UInt64, _ body: (SliceSummary.Entry, Int) -> Void
    ) {
        summary.keyBytes.withUnsafeBytes { names in
            summary.entries.withUnsafeBufferPointer { entries in
                var start = 0
                while start < entries.count {
                    let end = min(entries.count, start &+ Self.batchEntries)
                    let batch = UnsafeBufferPointer(rebasing: entries[start..<end])
                    find(batch, names: names)
                    for place in 0..<batch.count {
                        let entry = batch[place]
                        var record = found[place]
                        if record < 0 {
                            let name = UnsafeRawBufferPointer(
                                rebasing: names[
                                    Int(entry.keyOffset)..<Int(entry.keyOffset) &+ Int(entry.keyLength)])
                            record = findOrInsert(
                                name, hash: entry.hash, isAbsent: record == Self.absent, sequence: sequence)
                        }
                        body(entry, record)
                    }
                    start = end
                }
            }
        }
    }

    private static let absent = -1
    /// Another key has the same 32 bits of hash; a look-up of its own decides.
    private static let undecided = -2

    /// Fills `found` with the entries' records.
    ///
    /// No step branches on what it is the first to load: a branch that was guessed wrong would wait for that one load, and
    /// the loads behind it with it.
    private func find(_ entries: UnsafeBufferPointer<SliceSummary.Entry>, names given: UnsafeRawBufferPointer) {
        for place in 0..<entries.count {
            let hash = entries[place].hash
            let group = groups + Self.turn(of: hash)
            cells[place] = group.pointee.index[Int(truncatingIfNeeded: Self.tag(of: hash) >> group.pointee.shift)]
        }
        var candidates = 0
        for place in 0..<entries.count {
            let hash = entries[place].hash
            let tag = Self.tag(of: hash)
            var cell = cells[place]
            if cell != 0, cell >> 32 != tag {
                // Further cells mostly stand in the same line of the cache.
                let group = groups + Self.turn(of: hash)
                var position = Int(truncatingIfNeeded: tag >> group.pointee.shift)
                repeat {
                    position = (position &+ 1) & (group.pointee.cells &- 1)
                    cell = group.pointee.index[position]
                } while cell != 0 && cell >> 32 != tag
            }
            found[place] = Int(truncatingIfNeeded: cell & 0xFFFF_FFFF) &- 1
            matches[candidates] = place
            candidates &+= cell == 0 ? 0 : 1
        }
        for candidate in 0..<candidates {
            let place = matches[candidate]
            let record = records + found[place]
            if record.pointee.hash != entries[place].hash
                || UInt32(record.pointee.nameLength) != entries[place].keyLength
            {
                found[place] = Self.undecided
            }
        }
        guard let base = given.baseAddress else { return }
        for candidate in 0..<candidates {
            let place = matches[candidate]
            guard found[place] >= 0 else { continue }
            let name = names + Int(records[found[place]].nameOffset)
            let isEqual = bytesAreEqual(
                name, base + Int(entries[place].keyOffset), count: Int(entries[place].keyLength))
            if !isEqual { found[place] = Self.undecided }
        }
    }

    /// - Parameter isAbsent: the key is known not to be in its group.
    private func findOrInsert(_ key: UnsafeRawBufferPointer, hash: UInt64, isAbsent: Bool, sequence: UInt64) -> Int {
        let turn = Self.turn(of: hash)
        if !isAbsent {
            let record = find(key, hash: hash, group: turn)
            if record >= 0 { return record }
        }
        if groups[Self.sliceGroup].count > 0 {
            let record = find(key, hash: hash, group: Self.sliceGroup)
            if record >= 0 { return record }
        }
        if count < keysMax {
            let record = insert(key, hash: hash, sequence: sequence, group: turn)
            if record >= 0 {
                count &+= 1
                return record
            }
        }
        guard groups[Self.sliceGroup].count < sliceKeysMax else { return -1 }
        return insert(key, hash: hash, sequence: sequence, group: Self.sliceGroup)
    }

    private func find(_ key: UnsafeRawBufferPointer, hash: UInt64, group number: Int) -> Int {
        let (index, mask) = (groups[number].index, groups[number].cells &- 1)
        let tag = Self.tag(of: hash)
        var position = Int(truncatingIfNeeded: tag >> groups[number].shift)
        while true {
            let cell = index[position]
            if cell == 0 { return -1 }
            if cell >> 32 == tag {
                let record = Int(truncatingIfNeeded: cell & 0xFFFF_FFFF) &- 1
                let length = Int(records[record].nameLength)
                if records[record].hash == hash, length == key.count {
                    let name = names + Int(records[record].nameOffset)
                    if bytesAreEqual(name, key.baseAddress ?? UnsafeRawPointer(names), count: length) { return record }
                }
            }
            position = (position &+ 1) & mask
        }
    }

    private func insert(_ key: UnsafeRawBufferPointer, hash: UInt64, sequence: UInt64, group number: Int) -> Int {
        let group = groups + number
        guard let offset = reserveName(key.count, in: group, isSlices: number == Self.sliceGroup) else { return -1 }
        if group.pointee.count % Self.blockRecords == 0 {
            guard let block = freeRecordBlocks.popLast() else { preconditionFailure("blocks for every record") }
            group.pointee.recordBlocks.append(block)
            group.pointee.nextRecord = Int(block) &* Self.blockRecords
        }
        let record = group.pointee.nextRecord
        group.pointee.nextRecord &+= 1
        if let base = key.baseAddress, key.count > 0 {
            (names + offset).copyMemory(from: base, byteCount: key.count)
        }
        let slice = UInt16(truncatingIfNeeded: sequence)
        (records + record).initialize(
            to: Residual(hash: hash, nameOffset: UInt32(offset), nameLength: UInt16(key.count), slice: slice))
        group.pointee.count &+= 1
        if 2 &* group.pointee.count > group.pointee.cells {
            grow(group)
        } else {
            Self.link(record, hash: hash, in: group)
        }
        return record
    }

    private func reserveName(_ bytes: Int, in group: UnsafeMutablePointer<Group>, isSlices: Bool) -> Int? {
        precondition(bytes <= DetectionLimits.keyBytesMax, "keys over the limit are not tabled")
        if group.pointee.nextName &+ bytes > group.pointee.namesEnd {
            guard isSlices || nameBlocksUsed < nameBlocksMax, let block = freeNameBlocks.popLast() else { return nil }
            nameBlocksUsed &+= isSlices ? 0 : 1
            group.pointee.nameBlocks.append(block)
            group.pointee.nextName = Int(block) &* Self.blockNameBytes
            group.pointee.namesEnd = group.pointee.nextName &+ Self.blockNameBytes
        }
        defer { group.pointee.nextName &+= bytes }
        return group.pointee.nextName
    }

    // MARK: Turns

    /// Marks what has this hash among the keys whose turn the slice is.
    func watch(hash: UInt64, sequence: UInt64) {
        let group = groups[Int(sequence % UInt64(Self.turns))]
        let tag = Self.tag(of: hash)
        var position = Int(truncatingIfNeeded: tag >> group.shift)
        while group.index[position] != 0 {
            let cell = group.index[position]
            let record = records + (Int(truncatingIfNeeded: cell & 0xFFFF_FFFF) &- 1)
            if cell >> 32 == tag, record.pointee.hash == hash { record.pointee.watch() }
            position = (position &+ 1) & (group.cells &- 1)
        }
    }

    /// The records of the keys whose turn the slice is.
    @inline(__always)
    func forEachDue(sequence: UInt64, _ body: (Int) -> Void) {
        let group = groups + Int(sequence % UInt64(Self.turns))
        var left = group.pointee.count
        for block in group.pointee.recordBlocks {
            let first = Int(block) &* Self.blockRecords
            for record in first..<first &+ min(left, Self.blockRecords) { body(record) }
            left &-= Self.blockRecords
        }
    }

    /// Forgets the keys whose turn the slice is, and those that had room in it alone.
    func endSlice(sequence: UInt64) {
        let due = groups + Int(sequence % UInt64(Self.turns))
        count &-= due.pointee.count
        nameBlocksUsed &-= due.pointee.nameBlocks.count
        empty(due)
        empty(groups + Self.sliceGroup)
    }

    private func empty(_ group: UnsafeMutablePointer<Group>) {
        guard group.pointee.count > 0 else { return }
        group.pointee.index.update(repeating: 0, count: group.pointee.cells)
        group.pointee.count = 0
        freeRecordBlocks.append(contentsOf: group.pointee.recordBlocks)
        freeNameBlocks.append(contentsOf: group.pointee.nameBlocks)
        group.pointee.recordBlocks.removeAll(keepingCapacity: true)
        group.pointee.nameBlocks.removeAll(keepingCapacity: true)
        group.pointee.nextName = 0
        group.pointee.namesEnd = 0
    }

    // MARK: Index

    @inline(__always)
    static func turn(of hash: UInt64) -> Int { Int(truncatingIfNeeded: hash % UInt64(turns)) }

    /// Fibonacci hashing: a caller's hash with weak low or high bits still spreads over the cells.
    @inline(__always)
    private static func tag(of hash: UInt64) -> UInt64 { (hash &* 0x9E37_79B9_7F4A_7C15) >> 32 }

    private static func shift(for cells: Int) -> UInt64 { UInt64(32 - cells.trailingZeroBitCount) }

    private static func link(_ record: Int, hash: UInt64, in group: UnsafeMutablePointer<Group>) {
        let tag = tag(of: hash)
        let mask = group.pointee.cells &- 1
        var position = Int(truncatingIfNeeded: tag >> group.pointee.shift)
        while group.pointee.index[position] != 0 { position = (position &+ 1) & mask }
        group.pointee.index[position] = tag << 32 | UInt64(record &+ 1)
    }

    private func grow(_ group: UnsafeMutablePointer<Group>) {
        let cells = 2 * group.pointee.cells
        group.pointee.index.deallocate()
        group.pointee.index = .allocate(capacity: cells)
        group.pointee.index.initialize(repeating: 0, count: cells)
        group.pointee.cells = cells
        group.pointee.shift = Self.shift(for: cells)
        var left = group.pointee.count
        for block in group.pointee.recordBlocks {
            let first = Int(block) * Self.blockRecords
            for record in first..<first + min(left, Self.blockRecords) {
                Self.link(record, hash: records[record].hash, in: group)
            }
            left -= Self.blockRecords
        }
    }
}
