import Testing

@testable import HotKeyDetection

/// What an agent finds in its own traffic alone.
@Suite struct LocalDetectorTests {
    private let item = bytes("item:42")

    /// An agent that looks late at what its loops have counted.
    @Test(arguments: [1, 4, 20, 100])
    func whatIsJudgedLateIsNoBurst(slices: Int) throws {
        let detector = LocalDetector(rules: try RuleSet([.forAll(threshold: 10_000)]))
        let counter = SliceCounter()
        var now = Fleet.start
        _ = detector.observe([], nowNanoseconds: now)
        // Six tenths of the threshold, seen every so many slices of 50 ms.
        for _ in 0..<12 {
            counter.record(item, reads: UInt32(300 * slices))
            now += milliseconds(50 * slices)
            #expect(detector.observe([counter.drain()], nowNanoseconds: now).isEmpty)
        }
        // And what is over it is found.
        var changes: [HeatChange] = []
        for _ in 0..<12 {
            counter.record(item, reads: UInt32(700 * slices))
            now += milliseconds(50 * slices)
            changes += detector.observe([counter.drain()], nowNanoseconds: now)
        }
        #expect(changes.map(\.state) == [.hot])
    }

    /// Ten reads a second, and thirty seconds in which the agent did not look.
    @Test func theRestOfAStallIsNoBurst() throws {
        let detector = LocalDetector(rules: try RuleSet([.forAll(threshold: 200)]))
        let counter = SliceCounter()
        _ = detector.observe([], nowNanoseconds: Fleet.start)
        counter.record(item, reads: 599)
        #expect(detector.observe([counter.drain()], nowNanoseconds: Fleet.start + milliseconds(30_000)).isEmpty)
    }
}
