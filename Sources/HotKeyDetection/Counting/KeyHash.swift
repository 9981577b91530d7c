/// A 64-bit hash of key bytes: eight bytes a step, each folded by a 64×64→128-bit multiplication.
///
/// The seed is the caller's: give each process a random one, so that clients cannot choose keys that collide.
/// The same seed gives the same hash in every process on machines of the same byte order.
public enum KeyHash {
    public static func hash(_ key: UnsafeRawBufferPointer, seed: UInt64) -> UInt64 {
        let count = key.count
        var state = seed ^ (UInt64(truncatingIfNeeded: count) &* 0xD6E8_FEB8_6659_FD93) ^ 0x9E37_79B9_7F4A_7C15
        guard let base = key.baseAddress else { return finish(state) }
        if count >= 8 {
            var offset = 0
            while offset &+ 8 <= count {
                state = fold(state ^ base.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
                offset &+= 8
            }
            // The last word overlaps the one before it: no byte is read outside the key.
            if offset < count {
                state = fold(state ^ base.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self))
            }
        } else {
            var word: UInt64 = 0
            for offset in 0..<count {
                word |= UInt64(base.load(fromByteOffset: offset, as: UInt8.self)) << UInt64(offset &* 8)
            }
            state = fold(state ^ word)
        }
        return finish(state)
    }

    /// The same for a key that is held as an array, off the hot path.
    public static func hash(_ key: [UInt8], seed: UInt64) -> UInt64 {
        key.withUnsafeBytes { hash($0, seed: seed) }
    }

    @inline(__always)
    private static func fold(_ value: UInt64) -> UInt64 {
        let product = value.multipliedFullWidth(by: 0xA076_1D64_78BD_642F)
        return product.high ^ product.low
    }

    @inline(__always)
    private static func finish(_ value: UInt64) -> UInt64 {
        let mixed = (value ^ (value >> 32)) &* 0xE703_7ED1_A0B4_28DB
        return mixed ^ (mixed >> 29)
    }
}

/// Whether two stretches of memory of the same length hold the same bytes.
@inline(__always)
func bytesAreEqual(_ left: UnsafeRawPointer, _ right: UnsafeRawPointer, count: Int) -> Bool {
    if count >= 8 {
        var offset = 0
        while offset &+ 8 <= count {
            if left.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
                != right.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            {
                return false
            }
            offset &+= 8
        }
        return left.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self)
            == right.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self)
    }
    for offset in 0..<count
    where left.load(fromByteOffset: offset, as: UInt8.self) != right.load(fromByteOffset: offset, as: UInt8.self) {
        return false
    }
    return true
}
