/// The hot keys of one snapshot, for one look-up per request.
///
/// Open addressing with linear probing at a load of at most one half; the slots hold the full hash, so a key that is not hot
/// is turned away after reading one or two slots and no key bytes. Immutable: a new snapshot is a new table.
public struct HotKeyTable: Sendable {
    private struct Slot: Sendable {
        var hash: UInt64
        var index: Int32
    }

    /// A table without keys.
    public static let empty = HotKeyTable([], seed: 0)

    /// The seed that `index(of:hash:)` expects its hash to be made with.
    public let seed: UInt64
    private let policies: [HotKeyPolicy]
    private let slots: [Slot]
    private let mask: Int

    /// Builds the table. Where a key stands twice, its last policy counts. Give the same seed to every table of a process:
    /// hashes kept elsewhere stay good.
    public init(_ policies: [HotKeyPolicy], seed: UInt64) {
        self.seed = seed
        var capacity = 1
        while capacity < policies.count * 2 { capacity <<= 1 }
        let mask = capacity - 1
        var slots = [Slot](repeating: Slot(hash: 0, index: -1), count: capacity)
        var kept: [HotKeyPolicy] = []
        kept.reserveCapacity(policies.count)
        for policy in policies {
            let hash = policy.key.withUnsafeBytes { FastHash.hash($0, seed: seed) }
            var position = Int(truncatingIfNeeded: hash) & mask
            while true {
                let slot = slots[position]
                if slot.index < 0 {
                    slots[position] = Slot(hash: hash, index: Int32(kept.count))
                    kept.append(policy)
                    break
                }
                if slot.hash == hash, kept[Int(slot.index)].key == policy.key {
                    kept[Int(slot.index)] = policy
                    break
                }
                position = (position + 1) & mask
            }
        }
        self.policies = kept
        self.slots = slots
        self.mask = mask
    }

    /// The number of distinct keys; indices run from 0 to `count - 1` and are this table's own.
    public var count: Int { policies.count }

    /// The index of `key`, or nil when it is not hot. `hash` must be `FastHash.hash(key, seed: seed)`.
    public func index(of key: UnsafeRawBufferPointer, hash: UInt64) -> Int? {
        if policies.isEmpty { return nil }
        var position = Int(truncatingIfNeeded: hash) & mask
        while true {
            let slot = slots[position]
            if slot.index < 0 { return nil }
            if slot.hash == hash, policies[Int(slot.index)].key.withUnsafeBytes({ bytesEqual($0, key) }) {
                return Int(slot.index)
            }
            position = (position + 1) & mask
        }
    }

    /// The index of `key`, hashing it first.
    public func index(of key: UnsafeRawBufferPointer) -> Int? {
        policies.isEmpty ? nil : index(of: key, hash: FastHash.hash(key, seed: seed))
    }

    /// Whether the local cache answers for the key at `index`: what each read of a hot key asks, without copying its policy out.
    public func usesLocalCache(at index: Int) -> Bool { policies[index].kind.usesLocalCache }

    /// The policy at `index`. Copying it out retains the key's storage and allocates nothing.
    public subscript(index: Int) -> HotKeyPolicy { policies[index] }
}

/// Whether two runs of bytes are the same, eight at a time: the standard library has no `memcmp`.
func bytesEqual(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
    guard left.count == right.count else { return false }
    var offset = 0
    while left.count - offset >= 8 {
        if FastHash.word(left, offset) != FastHash.word(right, offset) { return false }
        offset += 8
    }
    while offset < left.count {
        if left[offset] != right[offset] { return false }
        offset += 1
    }
    return true
}
