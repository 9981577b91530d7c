/// Exponential back-off with full jitter: a pause is uniform between 0 and min(cap, base × 2ⁿ), n counting the attempts
/// since the last success. Many clients that lost their sessions at the same moment come back spread out
/// (Brooker, "Exponential Backoff And Jitter", 2015).
struct BackOff: Sendable, Hashable {
    private var attempt = 0

    mutating func reset() { attempt = 0 }

    /// - Parameter random: uniform in 0..<1.
    mutating func next(random: Double) -> Int64 {
        // 2^10 times the base is beyond the cap; counting on would overflow the shift one day.
        let ceiling = min(
            ZooKeeperLimits.backOffCapMilliseconds, ZooKeeperLimits.backOffBaseMilliseconds << Int64(min(attempt, 10)))
        attempt += 1
        return Int64(random * Double(ceiling))
    }
}
