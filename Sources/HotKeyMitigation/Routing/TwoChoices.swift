/// The power of two choices: of two candidates drawn at random, the one with the lower score.
///
/// The busiest of n is then above the mean by O(log log n) instead of O(log n / log log n) for one random draw
/// (Mitzenmacher, "The power of two choices in randomized load balancing", 2001), and unlike "always the best of all" it does
/// not send everyone at once to the node that looked idle a moment ago.
public enum TwoChoices {
    /// The index chosen from `0 ..< count`, or nil when none is usable. `random` must be 64 uniform bits of its own for each
    /// call. Allocates nothing.
    @inlinable
    public static func choose(
        count: Int, random: UInt64, score: (Int) -> Double, usable: (Int) -> Bool
    ) -> Int? {
        guard count > 1 else { return count == 1 && usable(0) ? 0 : nil }
        let (first, second) = pair(count, random)
        if usable(first), usable(second) { return better(first, second, score) }

        // Taking the one usable candidate of the pair would be one random choice, not two: draw again among the usable.
        var usableCount = 0
        for index in 0..<count where usable(index) { usableCount += 1 }
        guard usableCount > 0 else { return nil }
        let ranks = usableCount > 1 ? pair(usableCount, FastHash.mix(random)) : (0, 0)
        var rank = 0
        var chosen: (Int?, Int?) = (nil, nil)
        for index in 0..<count where usable(index) {
            if rank == ranks.0 { chosen.0 = index }
            if rank == ranks.1 { chosen.1 = index }
            rank += 1
        }
        guard let first = chosen.0, let second = chosen.1 else { return chosen.0 ?? chosen.1 }
        return better(first, second, score)
    }

    @inlinable
    static func better(_ first: Int, _ second: Int, _ score: (Int) -> Double) -> Int {
        score(second) < score(first) ? second : first
    }

    /// Two distinct indices below `count`, which is at least 2.
    @inlinable
    static func pair(_ count: Int, _ random: UInt64) -> (Int, Int) {
        let first = Int(((random & 0xffff_ffff) &* UInt64(count)) >> 32)
        var second = Int(((random >> 32) &* UInt64(count - 1)) >> 32)
        if second >= first { second += 1 }
        return (first, second)
    }
}
