import HotKeyDetection

/// When the coordinator decides: right after the end of each slice, on what the slice brought; and within a slice, soon after reports
/// came with a new key that may be hot by then, and in its middle for the candidates, to let in what is hot, and nothing else.
///
/// A turn every so many milliseconds, wherever in the slice it fell, left what a slice had brought lying for up to a slice more; and
/// agents' slices end at any moment of the coordinator's.
struct DecisionTurns {
    enum Kind: Hashable {
        /// Everything is decided.
        case full
        /// Keys that the running slice shows to be hot so far are let in.
        case early
    }

    private let slice = UInt64(DetectionLimits.sliceMilliseconds) * 1_000_000
    private let delay = UInt64(AgentLimits.decisionDelayMilliseconds) * 1_000_000
    private var nextFullAt: UInt64 = 0
    /// The middle of the running slice; nil once it has been looked at.
    private var middleAt: UInt64?
    /// No early decision before.
    private var earlyAfter: UInt64 = 0
    private var hasNews = false

    init(now: UInt64) { plan(after: now) }

    private mutating func plan(after now: UInt64) {
        nextFullAt = fullTurn(after: now)
        let middle = nextFullAt - slice / 2
        middleAt = middle > now ? middle : nil
    }

    private func fullTurn(after now: UInt64) -> UInt64 { (now + slice - delay) / slice * slice + delay }

    /// Reports came with a new key that may be hot by now.
    mutating func note() { hasNews = true }

    /// The turn that is due. What was missed while one took longer than a slice is not made up for.
    func due(at now: UInt64) -> Kind? {
        if now >= nextFullAt { return .full }
        return now >= nextEarlyAt ? .early : nil
    }

    /// Until when there is nothing to do if nothing comes.
    var next: UInt64 { min(nextFullAt, nextEarlyAt) }

    private var nextEarlyAt: UInt64 { max(earlyAfter, hasNews ? 0 : middleAt ?? .max) }

    /// A turn is about to be taken.
    mutating func begin() { hasNews = false }

    /// A turn has been taken. Early ones leave nine tenths of the time to others, and keys that came together to one publication.
    mutating func end(_ kind: Kind, beganAt began: UInt64, now: UInt64) {
        earlyAfter =
            now + max(UInt64(AgentLimits.earlyDecisionMillisecondsMin) * 1_000_000, 9 * (now - min(began, now)))
        switch kind {
        case .full: plan(after: now)
        case .early: if let middle = middleAt, began >= middle { middleAt = nil }
        }
    }
}
