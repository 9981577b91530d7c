/// Waits that double up to a bound, each drawn evenly from zero to the current one ("full jitter"), so that rivals spread.
struct Backoff: Sendable {
    let millisecondsMin: Int
    let millisecondsMax: Int
    private(set) var attempts = 0

    init(millisecondsMin: Int, millisecondsMax: Int) {
        self.millisecondsMin = millisecondsMin
        self.millisecondsMax = millisecondsMax
    }

    /// - Parameter random: evenly from 0 up to 1.
    mutating func next(random: Double) -> Duration {
        let doubled = Double(millisecondsMin) * Double(UInt64(1) << UInt64(min(attempts, 30)))
        attempts += 1
        return .microseconds(Int64(random * min(doubled, Double(millisecondsMax)) * 1_000))
    }

    mutating func reset() { attempts = 0 }
}
