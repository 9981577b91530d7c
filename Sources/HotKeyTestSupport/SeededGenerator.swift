import Foundation

/// Random numbers that a failed run can repeat: SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number
/// Generators", OOPSLA 2014). Not for secrets.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
    public let seed: UInt64
    private var state: UInt64

    public init(seed: UInt64) {
        self.seed = seed
        self.state = seed
    }

    /// A new seed each run, printed with `name`; `HOTKEY_TEST_SEED` (decimal) repeats a run.
    public init(printing name: String) {
        let repeated = ProcessInfo.processInfo.environment["HOTKEY_TEST_SEED"].flatMap(UInt64.init)
        let seed = repeated ?? UInt64.random(in: 0...UInt64.max)
        print("\(name): HOTKEY_TEST_SEED=\(seed)")
        self.init(seed: seed)
    }

    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}
