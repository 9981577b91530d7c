/// Where the copies of a key lie in a Redis Cluster, which takes a key only under a name that is in a slot of the node's own.
///
/// So a copy's name carries a hash tag: `__hkcopy:<number>:{<tag>}:<key>`. The slots follow from the key and from who serves which slot:
/// of a sequence of slots that is the key's own, the first ones whose primaries are not its home nor one of the others'. Everyone who
/// knows the same primaries finds the same names, and a slot that changes hands moves only copies whose sequence meets it.
///
/// Agents whose knowledge of the slots differs use different names for a while, and that is safe. Agent A knows the slots as they were
/// (names a1, a2), B as they are (b1, b2); W writes v2 through A:
///
///     B fills b1 with v1; A writes v2 at home, leaves tombstones in a1 and a2, acknowledges
///     A learns of the slots, and would find v1 in b1
///
/// 1. *A goes by its own writes, not by its tombstones*: after each write it reads no copy, whatever its name, until every fill from before
///    has expired (`CopyReadGate`). Fills carry their expiry, so it does not matter where they lie and who left tombstones there.
/// 2. *B finds v1 in b1* until that expires, which is what the staleness cap allows: nobody told b1 of the write. Tombstones only make
///    it sooner. This lasts no longer than the two know different slots; a redirection or the next look at the slots ends it.
/// 3. *A slot is moved with the copies in it.* `MIGRATE` counts a key's time to live anew at the new node, so a copy outlives its expiry by
///    what the transfer took. Whoever still knows the old primary is redirected, which counts as no copy. Whoever learns of the new one
///    puts its fence up for the keys whose copies it holds: the slot changed hands after its keys had arrived, and those are gone then.
/// 4. *A replica takes its primary's place* and has lost a tombstone, or has a clock that is behind. The fence of 3 covers the first. For
///    the second the coordinator overwrites the copies there; beyond that, clocks of a primary and its replica that differ by more than
///    a copy's lifetime let a copy live longer by as much.
public enum ClusterCopies {
    /// How many slots of the sequence are looked at for each copy that there may be.
    private static let probesPerCopy = 16

    /// The slots of copy 1, 2, …; fewer than `count` when there are not so many primaries, or one serves so few slots that the key's
    /// sequence does not meet it.
    /// - Parameter owner: identifies the primary of a slot; nil for one that nobody serves.
    public static func slots<Owner: Equatable>(of key: [UInt8], count: Int, owner: (Int) -> Owner?) -> [Int] {
        guard count > 0, let home = key.withUnsafeBytes({ owner(ClusterSlot.of($0)) }) else { return [] }
        var owners = [home]
        var slots: [Int] = []
        // Not by `FastHash`, which is this version's own: agents of all versions have to find the same.
        var state = UInt64(key.withUnsafeBytes { KeyHash.fnv1a_64.hash($0) })
        for _ in 0..<(probesPerCopy * (count + 1)) {
            state &+= 0x9e37_79b9_7f4a_7c15
            let slot = Int(truncatingIfNeeded: mixed(state) % UInt64(ClusterSlot.count))
            guard let candidate = owner(slot), !owners.contains(candidate) else { continue }
            owners.append(candidate)
            slots.append(slot)
            if slots.count == count { break }
        }
        return slots
    }

    /// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
    private static func mixed(_ state: UInt64) -> UInt64 {
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }

    /// The name of a copy that is to lie in `slot`.
    public static func name(key: [UInt8], copy: Int, slot: Int) -> [UInt8] {
        precondition(copy > 0, "the original has its own name")
        var name = CopyCodec.namePrefix
        name.reserveCapacity(CopyCodec.namePrefix.count + 12 + key.count)
        name += String(copy).utf8
        name += [UInt8(ascii: ":"), UInt8(ascii: "{")]
        name += tag(of: slot)
        name += [UInt8(ascii: "}"), UInt8(ascii: ":")]
        name += key
        return name
    }

    /// The shortest text of digits and letters that is in that slot, the least of these.
    public static func tag(of slot: Int) -> [UInt8] { Array(String(tags[slot], radix: 36).utf8) }

    /// By slot. Made at the first use, in a few milliseconds.
    private static let tags: [UInt32] = {
        var tags = [UInt32?](repeating: nil, count: ClusterSlot.count)
        var left = ClusterSlot.count
        var number: UInt32 = 0
        while left > 0 {
            let slot = Array(String(number, radix: 36).utf8).withUnsafeBytes { ClusterSlot.of($0) }
            if tags[slot] == nil {
                tags[slot] = number
                left -= 1
            }
            number += 1
        }
        return tags.map { $0! }
    }()
}
