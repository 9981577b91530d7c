import HotKeyDetection
import Testing

@testable import HotKeyAgent

@Suite struct DecisionTurnTests {
    /// Wherever in a slice a turn ended, the next one comes right after the slice's end, never at once and never a slice too late.
    @Test func aTurnComesRightAfterEachSlicesEnd() {
        let slice = UInt64(DetectionLimits.sliceMilliseconds) * 1_000_000
        let delay = UInt64(AgentLimits.decisionDelayMilliseconds) * 1_000_000
        for offset in stride(from: 0, through: slice, by: 250_000) {
            let now = 7_000 * slice + offset
            let wait = DecisionTurn.wait(nowNanoseconds: now)
            #expect(wait > .zero && wait <= .milliseconds(DetectionLimits.sliceMilliseconds))
            #expect((now + UInt64(wait / .nanoseconds(1))) % slice == delay)
        }
    }
}
