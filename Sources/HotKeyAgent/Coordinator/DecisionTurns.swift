import HotKeyDetection

/// When the coordinator decides: right after the end of each slice, on what the slice brought; and once in the middle of the next one,
/// where it only lets in what that shows to be hot so far.
///
/// A turn every so many milliseconds, wherever in the slice it fell, left what a slice had brought lying for up to a slice more.
struct DecisionTurn: Hashable {
    /// In the middle of a slice.
    var isEarly: Bool
    /// Until the turn.
    var wait: Duration

    /// The next turn. What was missed while one took longer than half a slice is not made up for.
    init(afterNanoseconds now: UInt64) {
        let half = UInt64(DetectionLimits.sliceMilliseconds) * 500_000
        let delay = UInt64(AgentLimits.decisionDelayMilliseconds) * 1_000_000
        // Halves that have ended, as of so long ago.
        let ended = (now + half - delay) / half
        isEarly = !ended.isMultiple(of: 2)
        wait = .nanoseconds(Int64(ended * half + delay - now))
    }
}
