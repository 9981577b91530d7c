import HotKeyDetection
import Testing

@testable import HotKeyAgent

@Suite struct DecisionTurnTests {
    /// Wherever in a slice a turn ended, the next one comes right after the slice's end or its middle, never at once and never a half
    /// too late.
    @Test func aTurnComesRightAfterEachHalfOfASlice() {
        let slice = UInt64(DetectionLimits.sliceMilliseconds) * 1_000_000
        let delay = UInt64(AgentLimits.decisionDelayMilliseconds) * 1_000_000
        for offset in stride(from: 0, through: slice, by: 250_000) {
            let now = 7_000 * slice + offset
            let turn = DecisionTurn(afterNanoseconds: now)
            #expect(turn.wait > .zero && turn.wait <= .milliseconds(DetectionLimits.sliceMilliseconds / 2))
            let at = now + UInt64(turn.wait / .nanoseconds(1))
            #expect(at % slice == delay + (turn.isEarly ? slice / 2 : 0))
        }
    }
}
