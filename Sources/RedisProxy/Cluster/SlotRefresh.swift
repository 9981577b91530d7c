/// When a cluster is asked for its slots: at once when something shows that what is known is old, but not more often than
/// ``RedisProxyLimits/slotRefreshPauseNanoseconds``, however many replies show it; again and again, more and more seldom, while
/// nobody answers; and now and then when nothing happens.
///
/// `tick` is to be called often; every event gives whether to ask now.
struct SlotRefresh {
    private enum State: Hashable {
        /// - Parameter at: when it is time to ask.
        case idle(at: UInt64)
        case asking(since: UInt64)
    }
    private var state: State
    private var startedAt: UInt64?
    private var failures = 0
    /// Something was seen while an answer was awaited, which may be older than it.
    private var isWantedAgain = false

    init(now: UInt64) {
        state = .idle(at: now)
    }

    var isAsking: Bool {
        if case .asking = state { true } else { false }
    }

    /// What is known is old.
    mutating func wanted(now: UInt64) -> Bool {
        guard case .idle(let at) = state else {
            isWantedAgain = true
            return false
        }
        // After a failure the pause between two attempts holds: what is wanted is what could not be had.
        if failures == 0 { state = .idle(at: min(at, earliest(now))) }
        return tick(now: now)
    }

    mutating func tick(now: UInt64) -> Bool {
        guard case .idle(let at) = state, now >= at else { return false }
        state = .asking(since: now)
        startedAt = now
        isWantedAgain = false
        return true
    }

    /// Another node is asked in place of one that did not answer.
    mutating func asked(now: UInt64) { state = .asking(since: now) }

    /// Whether the one that was asked takes too long, so that another should be asked.
    func isLate(now: UInt64) -> Bool {
        if case .asking(let since) = state { now > since + RedisProxyLimits.slotAnswerNanosecondsMax } else { false }
    }

    mutating func answered(now: UInt64, random: UInt64) {
        failures = 0
        let period = RedisProxyLimits.slotRefreshPeriodNanoseconds
        state = .idle(at: isWantedAgain ? earliest(now) : now + period - random % (period / 4))
    }

    mutating func failed(now: UInt64, random: UInt64) {
        failures = min(failures + 1, 4)
        let pause = RedisProxyLimits.slotRefreshPauseNanoseconds << UInt64(failures)
        state = .idle(at: now + pause - random % (pause / 2))
    }

    private func earliest(_ now: UInt64) -> UInt64 {
        max(now, startedAt.map { $0 + RedisProxyLimits.slotRefreshPauseNanoseconds } ?? now)
    }
}
