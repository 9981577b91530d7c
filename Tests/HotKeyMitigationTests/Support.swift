import HotKeyMitigation

/// SplitMix64: a seed, printed by the failing test, gives the same run again.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }
}

let millisecond: UInt64 = 1_000_000
let second: UInt64 = 1_000_000_000

func policy(
    _ key: String, _ kind: MitigationKind = .cache, local: UInt64 = second, copy: UInt64 = second, stale: UInt64 = 0,
    copies: Int = 0
) -> HotKeyPolicy {
    HotKeyPolicy(
        key: Array(key.utf8), kind: kind, copies: copies, localLifetimeNanoseconds: local,
        copyLifetimeNanoseconds: copy,
        staleOnErrorNanoseconds: stale)
}

extension [UInt8] {
    func withRaw<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result { withUnsafeBytes(body) }
}

extension String {
    func withRaw<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result { Array(utf8).withUnsafeBytes(body) }
}
