/// How a node counts accesses under an LFU policy: its `lfu-log-factor` and `lfu-decay-time`.
public struct LFUSettings: Sendable, Hashable {
    public var logFactor: Int
    public var decayMinutes: Int

    public init(logFactor: Int = 10, decayMinutes: Int = 1) {
        self.logFactor = logFactor
        self.decayMinutes = decayMinutes
    }

    /// What a counter is when it can rise no more.
    public static let counterMax = 255
    /// What a new key's counter is.
    private static let counterInitial = 5

    /// Whether counters say anything of rates. See ``LFUEstimate``.
    public var tellsRates: Bool { logFactor > 0 && decayMinutes == 1 }

    /// Nil where the counter says nothing of a rate.
    public func estimate(counter: Int) -> LFUEstimate? {
        guard tellsRates else { return nil }
        let factor = Double(logFactor)
        let accessesPerStep = Double(max(0, counter - Self.counterInitial)) * factor + 1
        return LFUEstimate(
            accessesPerSecond: accessesPerStep / 60,
            errorPerSecond: ((2 * factor * accessesPerStep).squareRoot() + factor) / 60,
            isFull: counter >= Self.counterMax)
    }
}

/// A key's rate as its logarithmic counter tells it.
///
/// By Redis's documentation (redis.conf and "Key eviction", LFU) an access raises the counter c with the probability
/// 1 / ((c − 5) × lfu-log-factor + 1), and every `lfu-decay-time` minutes it falls by one. Under steady traffic it settles where both
/// are in balance: at M = (c − 5) × f + 1 accesses a minute, which is the estimate.
///
/// **Error.** Near the balance a counter that is too high by d is raised d·f/M times a minute less, and what raises it comes at random
/// once a minute: it scatters by √(M / 2f) steps of f accesses a minute each. The error is two of these deviations and the step that
/// a counter cannot tell: (√(2fM) + f) a minute. In a simulation the true rate of steady traffic lies within it in 97 % of cases.
///
/// **What it cannot tell.** A change of the traffic shows only after about c − 5 minutes; a key that was hot an hour ago can
/// still look so. A full counter (255) says "at least": with f = 10 it is full at 42 accesses a second. With a decay time of 0
/// counters never fall; with more than 1 those of keys that are asked for every minute do not either, because each access begins the
/// decay time anew. With f = 0 a counter is full after 250 accesses. Then there is no estimate.
public struct LFUEstimate: Sendable, Hashable {
    /// Reads and writes together: the counter does not tell them apart.
    public var accessesPerSecond: Double
    /// Above and below, for steady traffic; a full counter's rate may be above by any amount.
    public var errorPerSecond: Double
    /// The counter can rise no more: the rate is this or more.
    public var isFull: Bool
}
