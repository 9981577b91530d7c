/// Whether one node is worth asking.
///
/// ```
///            errors, timeouts or slow calls                 its time is over
///   closed ────────────────────────────────▶ open ────────────────────────────▶ half-open
///      ▲                                       ▲    a probe fails, is slow or lost   │ │
///      │                                       └─────────────────────────────────────┘ │
///      └──────────────────────── enough probes succeed ────────────────────────────────┘
/// ```
/// It cannot get stuck: `open` ends by the clock, and `halfOpen` ends when its probes have answered or, lost probes included,
/// when the newest of them has passed its deadline. It cannot flap faster than its times: each opening lasts
/// `openNanoseconds`, doubled for every opening that follows within a window of the last close, up to the maximum.
///
/// All times are nanoseconds of one monotonic clock. Used from one event loop.
public struct CircuitBreaker: Sendable {
    public struct Configuration: Sendable, Hashable {
        /// How many calls a window must hold before its ratios count.
        public var minimumCalls = 20
        /// Opens when failures and timeouts are at least this share of the window's calls.
        public var failureRatio = 0.5
        /// A call that takes at least this long is slow.
        public var slowCallNanoseconds: UInt64 = 500_000_000
        /// Opens when slow calls are at least this share of the window's calls.
        public var slowRatio = 0.8
        /// The sliding window, counted in ten buckets.
        public var windowNanoseconds: UInt64 = 10_000_000_000
        /// Opens at this many failures or timeouts in a row, however few calls there were: a dead node is found at once.
        public var consecutiveFailures = 3
        /// How long the first opening lasts.
        public var openNanoseconds: UInt64 = 1_000_000_000
        /// The longest an opening grows to.
        public var openNanosecondsMax: UInt64 = 2_000_000_000
        /// How many probes may be out at once when half-open, and how many must succeed to close.
        public var halfOpenProbes = 3
        /// A probe that has not ended after this time counts as failed.
        public var halfOpenDeadlineNanoseconds: UInt64 = 2_000_000_000

        public static let `default` = Configuration()
        public init() {}
    }

    public enum State: Sendable, Hashable {
        case closed
        case open(untilNanoseconds: UInt64)
        case halfOpen
    }

    public enum Admission: Sendable, Hashable {
        /// Send it.
        case allow
        /// Send it, and end it by `record(_:wasProbe:now:)` with `wasProbe: true` or by `abandonProbe(now:)`.
        case probe
        /// Do not send it; asking again is of use from this time on.
        case reject(retryAtNanoseconds: UInt64)
    }

    public enum Outcome: Sendable, Hashable {
        case success(latencyNanoseconds: UInt64)
        case failure
        case timeout
    }

    /// Why the breaker opened last.
    public enum Reason: Sendable, Hashable {
        case failures
        case slowness
        case probe
    }

    private struct Bucket: Sendable {
        var epoch: UInt64 = 0
        var calls = 0
        var failures = 0
        var slow = 0
    }

    private static let bucketCount: UInt64 = 10

    public let configuration: Configuration
    public private(set) var state = State.closed
    /// nil until it opened for the first time.
    public private(set) var lastReason: Reason?
    /// Whether it is not closed, and slow calls alone began that.
    public private(set) var isOpenBySlowness = false
    private var buckets = [Bucket](repeating: Bucket(), count: Int(bucketCount))
    private let bucketNanoseconds: UInt64
    /// The bucket that was counted in last, and when it begins: nearly every request ends in the same one as the request before,
    /// and need not divide to know it.
    private var position = 0
    private var positionSince: UInt64 = 0
    private var failuresInARow = 0
    /// Openings in a row, for the doubling.
    private var openings = 0
    private var closedAt: UInt64?
    private var probesOut = 0
    private var probesSucceeded = 0
    /// When the newest probe counts as lost.
    private var probeDeadline: UInt64 = 0

    /// - Precondition: counts, ratios and times of `configuration` are above zero.
    public init(configuration: Configuration = .default) {
        precondition(
            configuration.minimumCalls > 0 && configuration.consecutiveFailures > 0 && configuration.halfOpenProbes > 0,
            "a breaker's counts must be above zero")
        precondition(
            configuration.windowNanoseconds >= Self.bucketCount && configuration.openNanoseconds > 0
                && configuration.halfOpenDeadlineNanoseconds > 0,
            "a breaker's times must be above zero")
        self.configuration = configuration
        bucketNanoseconds = configuration.windowNanoseconds / Self.bucketCount
    }

    /// Whether one request may be sent now. May move an open breaker to half-open, or a half-open one whose probes were lost
    /// back to open: compare `state` before and after where changes are reported.
    public mutating func admit(now: UInt64) -> Admission {
        switch state {
        case .closed:
            return .allow
        case .open(let until):
            if now < until { return .reject(retryAtNanoseconds: until) }
            state = .halfOpen
            probesOut = 0
            probesSucceeded = 0
            return admitProbe(now: now)
        case .halfOpen:
            return admitProbe(now: now)
        }
    }

    /// Notes how an admitted request ended. Returns the new state when it changed.
    ///
    /// Requests that were admitted before the breaker opened may end after it; they are old news and change nothing then.
    /// A probe of an earlier half-open period that ends in a later one counts there: it is as good a sign of the node.
    ///
    /// - Parameter mayOpenBySlowness: asked when nothing but slow calls speaks against the node (``SlownessQuota``).
    public mutating func record(
        _ outcome: Outcome, wasProbe: Bool, now: UInt64, mayOpenBySlowness: () -> Bool = { true }
    ) -> State? {
        switch state {
        case .closed:
            return recordClosed(outcome, now: now, mayOpenBySlowness)
        case .open:
            return nil
        case .halfOpen:
            guard wasProbe else { return nil }
            probesOut = max(0, probesOut - 1)
            guard case .success(let latency) = outcome, latency < configuration.slowCallNanoseconds else {
                return open(.probe, now: now)
            }
            probesSucceeded += 1
            guard probesSucceeded >= configuration.halfOpenProbes else { return nil }
            return close(now: now)
        }
    }

    /// A probe ended without saying anything about the node: the client went away before it was sent, for example.
    public mutating func abandonProbe(now: UInt64) {
        guard state == .halfOpen else { return }
        probesOut = max(0, probesOut - 1)
    }

    // MARK: - Half-open

    private mutating func admitProbe(now: UInt64) -> Admission {
        // Without this, probes whose ends never arrive would hold their places for ever and no other could be sent:
        // 1. the time of `open` is over, three probes go out;  2. the connection is dropped and their ends with it;
        // 3. every later request finds three probes out and is rejected.
        if probesOut > 0, now >= probeDeadline {
            if case .open(let until) = open(.probe, now: now) { return .reject(retryAtNanoseconds: until) }
        }
        guard probesOut < configuration.halfOpenProbes else {
            return .reject(retryAtNanoseconds: probeDeadline)
        }
        probesOut += 1
        probeDeadline = saturatingSum(now, configuration.halfOpenDeadlineNanoseconds)
        return .probe
    }

    // MARK: - Closed

    private mutating func recordClosed(
        _ outcome: Outcome, now: UInt64, _ mayOpenBySlowness: () -> Bool
    ) -> State? {
        if now &- positionSince >= bucketNanoseconds { turn(to: now) }
        buckets[position].calls += 1
        switch outcome {
        case .success(let latency):
            failuresInARow = 0
            // Only bad news can open the breaker, so the window is summed up only then.
            guard latency >= configuration.slowCallNanoseconds else { return nil }
            buckets[position].slow += 1
        case .failure, .timeout:
            failuresInARow += 1
            buckets[position].failures += 1
            if failuresInARow >= configuration.consecutiveFailures { return open(.failures, now: now) }
        }
        let epoch = buckets[position].epoch
        var calls = 0
        var failures = 0
        var slow = 0
        for bucket in buckets where bucket.epoch <= epoch && epoch - bucket.epoch < Self.bucketCount {
            calls += bucket.calls
            failures += bucket.failures
            slow += bucket.slow
        }
        guard calls >= configuration.minimumCalls else { return nil }
        if Double(failures) >= configuration.failureRatio * Double(calls), failures > 0 {
            return open(.failures, now: now)
        }
        guard Double(slow) >= configuration.slowRatio * Double(calls), slow > 0, mayOpenBySlowness() else { return nil }
        isOpenBySlowness = true
        return open(.slowness, now: now)
    }

    private mutating func turn(to now: UInt64) {
        let epoch = now / bucketNanoseconds
        position = Int(epoch % Self.bucketCount)
        positionSince = epoch * bucketNanoseconds
        if buckets[position].epoch != epoch { buckets[position] = Bucket(epoch: epoch) }
    }

    // MARK: - Moves

    private mutating func open(_ reason: Reason, now: UInt64) -> State {
        if state == .closed {
            let lately = closedAt.map { now < saturatingSum($0, configuration.windowNanoseconds) } ?? false
            if !lately { openings = 0 }
        }
        var duration = configuration.openNanoseconds
        for _ in 0..<openings where duration < configuration.openNanosecondsMax {
            duration = min(duration.multipliedReportingOverflow(by: 2).partialValue, configuration.openNanosecondsMax)
        }
        openings = min(openings + 1, 64)
        lastReason = reason
        state = .open(untilNanoseconds: saturatingSum(now, duration))
        return state
    }

    private mutating func close(now: UInt64) -> State {
        for index in buckets.indices { buckets[index] = Bucket() }
        (position, positionSince) = (0, 0)
        failuresInARow = 0
        isOpenBySlowness = false
        closedAt = now
        state = .closed
        return state
    }
}

/// Times never wrap around: the end of time is good enough as "never".
@inlinable
func saturatingSum(_ time: UInt64, _ duration: UInt64) -> UInt64 {
    let (value, overflow) = time.addingReportingOverflow(duration)
    return overflow ? .max : value
}
