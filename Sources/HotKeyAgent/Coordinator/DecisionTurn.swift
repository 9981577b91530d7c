import HotKeyDetection

/// When the coordinator decides: once a slice, right after the end of the one that it decides on.
///
/// A turn every so many milliseconds, wherever in the slice it fell, left what a slice had brought lying for up to a slice more.
enum DecisionTurn {
    /// How long to wait for the next turn. What was missed while a turn took longer than a slice is not made up for.
    static func wait(nowNanoseconds now: UInt64) -> Duration {
        let slice = UInt64(DetectionLimits.sliceMilliseconds) * 1_000_000
        let delay = UInt64(AgentLimits.decisionDelayMilliseconds) * 1_000_000
        let sinceEnd = now % slice
        return .nanoseconds(Int64(sinceEnd < delay ? delay - sinceEnd : slice + delay - sinceEnd))
    }
}
