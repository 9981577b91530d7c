import HotKeyDetection
import Testing

@testable import HotKeyAgent

@Suite struct DecisionTurnsTests {
    private let slice = UInt64(DetectionLimits.sliceMilliseconds) * 1_000_000
    private let delay = UInt64(AgentLimits.decisionDelayMilliseconds) * 1_000_000
    private let gap = UInt64(AgentLimits.earlyDecisionMillisecondsMin) * 1_000_000

    /// Wherever in a slice it starts: a full turn right after each slice's end and an early one in each middle, none missed, none twice.
    @Test func withoutNewsThereAreTwoTurnsASlice() {
        for offset in stride(from: 0, to: slice, by: 250_000) {
            var now = 7_000 * slice + offset
            var turns = DecisionTurns(now: now)
            var taken: [(kind: DecisionTurns.Kind, at: UInt64)] = []
            for _ in 0..<7 {
                #expect(turns.due(at: now) == nil && turns.next > now && turns.next - now <= slice)
                now = turns.next
                guard let kind = turns.due(at: now) else {
                    Issue.record("nothing is due at \(now), which is what was waited for")
                    return
                }
                turns.begin()
                now += 1_000_000
                turns.end(kind, beganAt: now - 1_000_000, now: now)
                taken.append((kind, now - 1_000_000))
            }
            for turn in taken { #expect(turn.at % slice == delay + (turn.kind == .early ? slice / 2 : 0)) }
            for (one, other) in zip(taken, taken.dropFirst()) {
                #expect(one.kind != other.kind && other.at - one.at == slice / 2)
            }
        }
    }

    @Test func newsBringsATurnSoonButNotAtOnceAfterAnother() {
        let start = 7_000 * slice + delay
        var turns = DecisionTurns(now: start)
        turns.note()
        #expect(turns.due(at: start) == .early, "nothing was decided lately")
        turns.begin()
        // What comes while it is taken is not lost.
        turns.note()
        turns.end(.early, beganAt: start, now: start + 100_000)
        #expect(turns.due(at: start + gap) == nil)
        let second = turns.next
        #expect(second == start + 100_000 + gap)
        #expect(turns.due(at: second) == .early)
        turns.begin()
        turns.end(.early, beganAt: second, now: second)
        #expect(turns.next == start + slice / 2, "the middle of the slice is looked at all the same")
    }

    /// Forty thousand candidates take longer to look at: they leave time for the reports.
    @Test func earlyTurnsTakeATenthOfTheTimeAtMost() {
        let start = 7_000 * slice + delay
        var turns = DecisionTurns(now: start)
        turns.note()
        turns.begin()
        turns.note()
        turns.end(.early, beganAt: start, now: start + 5_000_000)
        #expect(turns.next == start + 50_000_000)
        turns.note()
        #expect(turns.due(at: start + 49_999_999) == nil)
        // The slice's end waits for nobody.
        #expect(turns.due(at: start + slice) == .full)
    }

    @Test func whatWasMissedIsNotMadeUpFor() {
        let start = 7_000 * slice + delay
        var turns = DecisionTurns(now: start)
        let late = start + 5 * slice + slice / 4
        #expect(turns.due(at: late) == .full)
        turns.begin()
        turns.end(.full, beganAt: late, now: late)
        #expect(turns.due(at: late) == nil && turns.next == start + 5 * slice + slice / 2)
    }
}
