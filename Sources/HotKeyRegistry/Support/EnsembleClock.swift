import NIOConcurrencyHelpers

/// What the ensemble's clock says, as far as this process can know. By it pins and denies expire: every agent of the fleet
/// measures against the one clock, so none of their own clocks has to be right, and a coordinator that is replaced
/// changes nothing.
///
/// A server stamps each transaction with the time of the ensemble's leader, which lies somewhere between our request and its
/// answer. In between two measurements it goes on by this host's monotonic clock. The error is half a round trip, plus what
/// the two clocks drift apart in an hour (0.2 s at 50 parts per million), plus what a new leader's clock differs from the
/// old one's. Where nothing has been measured yet, this host's own clock has to do.
struct EnsembleClockEstimate: Sendable {
    private var serverMilliseconds: Int64 = 0
    private var at: ContinuousClock.Instant?
    private var error = Duration.zero

    /// Notes a transaction's time. A measurement that is much less exact than the one that is held is no news.
    mutating func observe(
        serverMilliseconds: Int64, sentAt: ContinuousClock.Instant, receivedAt: ContinuousClock.Instant
    ) {
        let half = (receivedAt - sentAt) / 2
        let isStale = at.map { receivedAt - $0 > RegistryLimits.clockMeasurementAgeMax } ?? true
        guard isStale || half <= max(error, RegistryLimits.clockErrorUsual) else { return }
        self.serverMilliseconds = serverMilliseconds
        at = sentAt + half
        error = half
    }

    /// Nil while nothing has been measured.
    func time(at now: ContinuousClock.Instant) -> Timestamp? {
        at.map { Timestamp(millisecondsSince1970: serverMilliseconds + (now - $0).wholeMilliseconds) }
    }
}

/// One process's ``EnsembleClockEstimate``, for those who measure and those who ask.
public final class EnsembleClock: Sendable {
    private let estimate = NIOLockedValueBox(EnsembleClockEstimate())

    public init() {}

    /// The ensemble's time, or this host's while nothing has been measured.
    public var now: Timestamp { estimate.withLockedValue { $0.time(at: .now) } ?? .now }

    /// How far this host's clock is ahead of the ensemble's; nil while nothing has been measured.
    public var hostLeadMilliseconds: Int64? {
        estimate.withLockedValue { $0.time(at: .now) }
            .map { Timestamp.now.millisecondsSince1970 - $0.millisecondsSince1970 }
    }

    func observe(
        serverMilliseconds: Int64, sentAt: ContinuousClock.Instant, receivedAt: ContinuousClock.Instant
    ) {
        estimate.withLockedValue {
            $0.observe(serverMilliseconds: serverMilliseconds, sentAt: sentAt, receivedAt: receivedAt)
        }
    }
}
