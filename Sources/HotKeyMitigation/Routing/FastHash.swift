/// A 64-bit hash of bytes for tables and counters inside one process.
///
/// Built from folded 64 × 64 → 128 bit multiplications, as in wyhash (Wang Yi, public domain). It is not cryptographic: give
/// every process a random seed, then who does not know the seed cannot aim for collisions. The values are no contract: they
/// must never reach a disk, a wire or another process.
public struct FastHash {
    @usableFromInline static let first: UInt64 = 0x9e37_79b9_7f4a_7c15
    @usableFromInline static let second: UInt64 = 0xd1b5_4a32_d192_ed03
    @usableFromInline static let third: UInt64 = 0x8cb9_2ba7_2f3d_8dd7

    /// The hash of `bytes`. Reads every byte once, allocates nothing.
    @inlinable
    public static func hash(_ bytes: UnsafeRawBufferPointer, seed: UInt64) -> UInt64 {
        let count = bytes.count
        var state = seed ^ fold(seed ^ first, second)
        // A factor of zero swallows the other one, so no factor may be a known constant away from the key's own bytes.
        let secret = state ^ third
        let low: UInt64
        let high: UInt64
        if count > 16 {
            var offset = 0
            while count - offset > 16 {
                state = fold(word(bytes, offset) ^ secret, word(bytes, offset + 8) ^ state)
                offset += 16
            }
            // The last 16 bytes, which may overlap what was read: no tail loop is needed.
            low = word(bytes, count - 16)
            high = word(bytes, count - 8)
        } else if count >= 8 {
            low = word(bytes, 0)
            high = word(bytes, count - 8)
        } else if count >= 4 {
            low = half(bytes, 0)
            high = half(bytes, count - 4)
        } else if count > 0 {
            low = UInt64(bytes[0]) << 16 | UInt64(bytes[count >> 1]) << 8 | UInt64(bytes[count - 1])
            high = 0
        } else {
            low = 0
            high = 0
        }
        let product = (low ^ secret).multipliedFullWidth(by: high ^ state)
        return fold(product.low ^ first ^ UInt64(truncatingIfNeeded: count), product.high ^ third)
    }

    /// Mixes one integer: for jitter and for remixing a random word.
    @inlinable
    public static func mix(_ value: UInt64) -> UInt64 {
        fold(value ^ first, second ^ (value >> 32))
    }

    @inlinable
    static func fold(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let product = left.multipliedFullWidth(by: right)
        return product.low ^ product.high
    }

    @inlinable
    static func word(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt64 {
        bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
    }

    @inlinable
    static func half(_ bytes: UnsafeRawBufferPointer, _ offset: Int) -> UInt64 {
        UInt64(bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
}
