/// What bytes, and which two after each other, a key has, or a pattern demands: one look tells of most patterns that a key does not
/// match them, which is what makes a thousand rules cheap to ask.
///
/// 256 bits, half of them for single bytes, half for pairs. Different bytes or pairs may share a bit: a pattern whose bits are all
/// there may match, one of which a bit is missing does not.
struct KeyTraits: Sendable, Hashable {
    private var bits: SIMD4<UInt64> = .zero

    private static let pairsOffset: UInt64 = 128

    init(of key: UnsafeRawBufferPointer) {
        var before: UInt8?
        for byte in key {
            insert(byte, after: before)
            before = byte
        }
    }

    /// - Parameter literals: the bytes of a pattern in order; nil for anything that stands for no particular byte.
    init(demandedBy literals: [UInt8?]) {
        var before: UInt8?
        for literal in literals {
            if let literal { insert(literal, after: before) }
            before = literal
        }
    }

    /// Whether a key with these traits has all that a pattern demands.
    @inline(__always)
    func has(_ demanded: KeyTraits) -> Bool { demanded.bits & ~bits == .zero }

    private mutating func insert(_ byte: UInt8, after before: UInt8?) {
        set(UInt64(byte) & 127)
        if let before { set(Self.pairsOffset + (UInt64(before) &* 31 &+ UInt64(byte)) & 127) }
    }

    private mutating func set(_ bit: UInt64) { bits[Int(bit >> 6)] |= 1 << (bit & 63) }
}
