/// A map from key bytes to small dense entry numbers, bounded in keys and in bytes.
///
/// What it promises: lookup, insertion and removal in expected constant time; no allocation once it has grown to what
/// its use needs; never more than `keyLimit` keys nor `arenaByteLimit` bytes of names (twice that while compacting).
/// Owners keep their counters in arrays of their own, indexed by entry number.
///
/// Open addressing with linear probing and backward-shift deletion (Knuth, TAOCP 3, 6.4, algorithm R), load at most
/// one half. An index cell holds 32 bits of the mixed hash, so most misses end without touching a key. Names live in
/// one arena; a removed entry keeps its stretch for the next key that fits, and what is lost to misfits is won back by
/// compaction once an eighth of the arena can be freed, so that compaction stays rare.
///
/// Not thread-safe: one owner, one thread at a time.
final class KeyTable {
    struct Reference {
        var hash: UInt64
        var offset: UInt32
        /// `freeMark` for an entry without a key.
        var length: UInt16
        /// Bytes reserved at `offset`.
        var capacity: UInt16
    }

    private static let freeMark = UInt16.max
    private static let stretchBytes = 16
    private static let initialKeys = 256
    private static let initialArenaBytes = 16 << 10

    let keyLimit: Int
    let arenaByteLimit: Int
    /// Keys present.
    private(set) var count = 0
    /// All entry numbers in use are below this.
    private(set) var highWater = 0

    private var capacity: Int
    private var references: UnsafeMutablePointer<Reference>
    /// Numbers below `highWater` that hold no key; a stack.
    private var freeEntries: UnsafeMutablePointer<UInt32>
    private var freeCount = 0
    /// Zero is empty; else 32 bits of mixed hash above entry number plus one.
    private var index: UnsafeMutablePointer<UInt64>
    private var indexMask: Int
    private var indexShift: UInt64
    private var arena: UnsafeMutableRawPointer
    private var arenaCapacity: Int
    private var arenaUsed = 0
    /// Bytes reserved by entries that hold a key.
    private var liveBytes = 0
    /// The other half of a compaction at full size, kept so that compacting again does not allocate.
    private var spare: UnsafeMutableRawPointer?
    /// Makes the compiler keep the loads of ``load(_:count:)``.
    private var loaded: UInt32 = 0

    init(keyLimit: Int, arenaByteLimit: Int) {
        precondition(keyLimit > 0 && keyLimit < 1 << 30, "a table holds 1 to 2^30 keys")
        precondition(
            arenaByteLimit >= 2 * DetectionLimits.keyBytesMax && arenaByteLimit <= Int(UInt32.max),
            "an arena holds at least two of the longest keys and less than 4 GiB")
        self.keyLimit = keyLimit
        self.arenaByteLimit = arenaByteLimit
        capacity = min(keyLimit, Self.initialKeys)
        references = .allocate(capacity: capacity)
        references.initialize(to: Reference(hash: 0, offset: 0, length: Self.freeMark, capacity: 0))
        freeEntries = .allocate(capacity: capacity)
        let cells = Self.indexCells(for: capacity)
        index = .allocate(capacity: cells)
        index.initialize(repeating: 0, count: cells)
        indexMask = cells - 1
        indexShift = Self.shift(for: cells)
        arenaCapacity = min(arenaByteLimit, Self.initialArenaBytes)
        arena = .allocate(byteCount: arenaCapacity, alignment: Self.stretchBytes)
        arena.storeBytes(of: 0, as: UInt8.self)
    }

    deinit {
        references.deallocate()
        freeEntries.deallocate()
        index.deallocate()
        arena.deallocate()
        spare?.deallocate()
    }

    /// The entry number of a key, or -1.
    @inline(__always)
    func find(_ key: UnsafeRawBufferPointer, hash: UInt64) -> Int {
        let tag = Self.tag(of: hash)
        var position = Int(truncatingIfNeeded: tag >> indexShift)
        while true {
            let cell = index[position]
            if cell == 0 { return -1 }
            if cell >> 32 == tag {
                let entry = Int(truncatingIfNeeded: cell & 0xFFFF_FFFF) &- 1
                let reference = references[entry]
                if reference.hash == hash, Int(reference.length) == key.count,
                    bytesAreEqual(
                        arena + Int(reference.offset), key.baseAddress ?? UnsafeRawPointer(arena), count: key.count)
                {
                    return entry
                }
            }
            position = (position &+ 1) & indexMask
        }
    }

    /// Loads what looking up these hashes needs, so that look-ups that follow find it in the nearest cache.
    ///
    /// One look-up after the other waits for memory several times each; here the waits for all of them are one. So no step
    /// branches on what it is the first to load: a branch that was guessed wrong would wait for that one load.
    func load(_ hashes: UnsafePointer<UInt64>, count: Int) {
        withUnsafeTemporaryAllocation(of: Int.self, capacity: count) { entries in
            for place in 0..<count {
                let cell = index[Int(truncatingIfNeeded: Self.tag(of: hashes[place]) >> indexShift)]
                entries[place] = Int(truncatingIfNeeded: cell & 0xFFFF_FFFF)
            }
            // Entry 0 stands for none: it can be read in an empty table too, because `init` has made it, and what it once named
            // stays inside the arena.
            for place in 0..<count {
                entries[place] -= entries[place] == 0 ? 0 : 1
                loaded &+= references[entries[place]].offset
            }
            for place in 0..<count {
                loaded &+= UInt32((arena + Int(references[entries[place]].offset)).load(as: UInt8.self))
            }
        }
    }

    /// Adds a key that is not present. Returns its entry number, or -1 when the keys or their bytes are used up.
    func insert(_ key: UnsafeRawBufferPointer, hash: UInt64) -> Int {
        precondition(key.count <= DetectionLimits.keyBytesMax, "keys over the limit are not tabled")
        guard count < keyLimit else { return -1 }
        if freeCount == 0, highWater == capacity { growEntries() }
        let reuses = freeCount > 0
        let entry = reuses ? Int(freeEntries[freeCount - 1]) : highWater
        var reference = reuses ? references[entry] : Reference(hash: 0, offset: 0, length: Self.freeMark, capacity: 0)
        if Int(reference.capacity) < key.count || reference.capacity == 0 {
            let needed = max(1, (key.count + Self.stretchBytes - 1) / Self.stretchBytes) * Self.stretchBytes
            guard let offset = reserve(needed) else { return -1 }
            reference.offset = UInt32(offset)
            reference.capacity = UInt16(needed)
        }
        if reuses { freeCount -= 1 } else { highWater += 1 }
        if let base = key.baseAddress, key.count > 0 {
            (arena + Int(reference.offset)).copyMemory(from: base, byteCount: key.count)
        }
        reference.hash = hash
        reference.length = UInt16(key.count)
        references[entry] = reference
        liveBytes += Int(reference.capacity)
        count += 1
        link(entry, hash: hash)
        return entry
    }

    func remove(_ entry: Int) {
        precondition(isPresent(entry), "only a present key can be removed")
        unlink(entry)
        liveBytes -= Int(references[entry].capacity)
        references[entry].length = Self.freeMark
        freeEntries[freeCount] = UInt32(entry)
        freeCount += 1
        count -= 1
    }

    func removeAll() {
        index.update(repeating: 0, count: indexMask + 1)
        count = 0
        highWater = 0
        freeCount = 0
        arenaUsed = 0
        liveBytes = 0
    }

    @inline(__always)
    func isPresent(_ entry: Int) -> Bool {
        entry < highWater && references[entry].length != Self.freeMark
    }

    @inline(__always)
    func hash(at entry: Int) -> UInt64 { references[entry].hash }

    func reference(at entry: Int) -> Reference { references[entry] }

    /// The bytes of a present key: valid until the next insertion.
    func key(at entry: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: arena + Int(references[entry].offset), count: Int(references[entry].length))
    }

    /// All bytes of names; references' offsets point into them.
    func copyArena() -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: arenaUsed) { buffer, count in
            if arenaUsed > 0, let base = buffer.baseAddress {
                UnsafeMutableRawPointer(base).copyMemory(from: arena, byteCount: arenaUsed)
            }
            count = arenaUsed
        }
    }

    // MARK: Index

    /// Fibonacci hashing: a caller's hash with weak low or high bits still spreads over the cells.
    @inline(__always)
    private static func tag(of hash: UInt64) -> UInt64 { (hash &* 0x9E37_79B9_7F4A_7C15) >> 32 }

    private static func indexCells(for capacity: Int) -> Int {
        var cells = 16
        while cells < 2 * capacity { cells *= 2 }
        return cells
    }

    private static func shift(for cells: Int) -> UInt64 { UInt64(32 - cells.trailingZeroBitCount) }

    private func link(_ entry: Int, hash: UInt64) {
        let tag = Self.tag(of: hash)
        var position = Int(truncatingIfNeeded: tag >> indexShift)
        while index[position] != 0 { position = (position &+ 1) & indexMask }
        index[position] = tag << 32 | UInt64(entry &+ 1)
    }

    private func unlink(_ entry: Int) {
        let wanted = UInt64(entry &+ 1)
        var hole = Int(truncatingIfNeeded: Self.tag(of: references[entry].hash) >> indexShift)
        while index[hole] & 0xFFFF_FFFF != wanted { hole = (hole &+ 1) & indexMask }
        var next = (hole &+ 1) & indexMask
        while index[next] != 0 {
            // A cell may move back into the hole unless its home lies behind the hole.
            let home = Int(truncatingIfNeeded: (index[next] >> 32) >> indexShift)
            if (next &- home) & indexMask >= (next &- hole) & indexMask {
                index[hole] = index[next]
                hole = next
            }
            next = (next &+ 1) & indexMask
        }
        index[hole] = 0
    }

    private func growEntries() {
        let grown = min(keyLimit, capacity * 2)
        let newReferences = UnsafeMutablePointer<Reference>.allocate(capacity: grown)
        newReferences.moveInitialize(from: references, count: highWater)
        references.deallocate()
        references = newReferences
        freeEntries.deallocate()
        freeEntries = .allocate(capacity: grown)
        capacity = grown
        let cells = Self.indexCells(for: grown)
        guard cells != indexMask + 1 else { return }
        index.deallocate()
        index = .allocate(capacity: cells)
        index.initialize(repeating: 0, count: cells)
        indexMask = cells - 1
        indexShift = Self.shift(for: cells)
        for entry in 0..<highWater where isPresent(entry) { link(entry, hash: references[entry].hash) }
    }

    // MARK: Arena

    /// Finds room for a name, compacting or growing when that helps.
    private func reserve(_ bytes: Int) -> Int? {
        if arenaUsed + bytes > arenaCapacity {
            if arenaCapacity < arenaByteLimit {
                moveArena(to: min(arenaByteLimit, arenaCapacity * 2))
            } else if liveBytes + bytes <= arenaCapacity - arenaCapacity / 8 {
                moveArena(to: arenaCapacity)
            }
            guard arenaUsed + bytes <= arenaCapacity else { return nil }
        }
        let offset = arenaUsed
        arenaUsed += bytes
        return offset
    }

    private func moveArena(to newCapacity: Int) {
        let target: UnsafeMutableRawPointer
        if newCapacity == arenaCapacity, let spare {
            target = spare
            self.spare = nil
        } else {
            target = .allocate(byteCount: newCapacity, alignment: Self.stretchBytes)
        }
        var used = 0
        for entry in 0..<highWater {
            guard isPresent(entry) else {
                references[entry].capacity = 0
                continue
            }
            (target + used).copyMemory(
                from: arena + Int(references[entry].offset), byteCount: Int(references[entry].length))
            references[entry].offset = UInt32(used)
            used += Int(references[entry].capacity)
        }
        if newCapacity == arenaCapacity { spare = arena } else { arena.deallocate() }
        arena = target
        arenaCapacity = newCapacity
        arenaUsed = used
    }
}
