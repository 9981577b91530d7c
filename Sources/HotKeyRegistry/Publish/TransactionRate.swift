/// When the next transaction may be sent, so that no second sees more than
/// ``RegistryLimits/transactionsPerSecondMax`` of them. Pure.
///
/// A transaction takes effect somewhere between its sending and its answer. The one that comes so many later is sent a second
/// after this one's answer at the earliest, so the two never take effect within one second.
struct TransactionRate: Sendable {
    private let max: Int
    private let window: Duration
    /// When the latest transactions were answered, the oldest first.
    private var answered: [ContinuousClock.Instant] = []

    init(max: Int = RegistryLimits.transactionsPerSecondMax, window: Duration = RegistryLimits.transactionWindow) {
        self.max = max
        self.window = window
    }

    /// Nil for at once.
    func wait(at now: ContinuousClock.Instant) -> Duration? {
        guard answered.count == max, let oldest = answered.first, now < oldest + window else { return nil }
        return oldest + window - now
    }

    /// Whether it happened or not: a failed call may have been a transaction all the same.
    mutating func note(answeredAt now: ContinuousClock.Instant) {
        if answered.count == max { answered.removeFirst() }
        answered.append(now)
    }
}
