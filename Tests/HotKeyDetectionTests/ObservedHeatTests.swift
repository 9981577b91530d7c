import Testing

@testable import HotKeyDetection

/// What is told of keys beside the decisions, against counts that are known.
@Suite struct ObservedHeatTests {
    private func fleet(_ rates: [(key: Int, perSlice: UInt32)], slices: Int, agents: Int = 4) throws -> FleetSimulation
    {
        var fleet = try FleetSimulation(agents: agents, keys: 40, rules: RuleSet([.forAll(threshold: 1_000)]))
        for slice in 0..<slices {
            for rate in rates { fleet.record(rate.key, agent: (slice + rate.key) % agents, reads: rate.perSlice) }
            _ = try fleet.endSlice()
        }
        return fleet
    }

    @Test func theBusiestKeysComeFirstHotOrNot() throws {
        let rates = (0..<30).map { (key: $0, perSlice: UInt32(10 * ($0 + 1))) }
        let fleet = try fleet(rates, slices: 20)
        let top = fleet.tracker.top(5, in: fleet.window)
        #expect(top.map { fleet.number(of: $0.key) } == [29, 28, 27, 26, 25])
        #expect(top.map(\.sample.readsPerSecond) == [3_000, 2_900, 2_800, 2_700, 2_600])
        #expect(
            top.allSatisfy {
                $0.state == .hot && $0.kind == .read && $0.sinceNanoseconds != nil && $0.match?.position == 0
            })
        let all = fleet.tracker.top(100, in: fleet.window)
        #expect(all.count == 30 && all.last?.state == .cold && all.last?.kind == nil)
        #expect(all.map(\.sample.readsPerSecond) == all.map(\.sample.readsPerSecond).sorted(by: >))
        #expect(fleet.tracker.top(0, in: fleet.window).isEmpty)
        // Of all traffic: 10 · (1 + … + 30) a slice.
        #expect(fleet.window.totalsOfLastSecond == AccessTotals(reads: 46_500))
    }

    /// A key that nobody asks for any more is not among the busiest, and is hot all the same.
    @Test func aHotKeyWithoutLoadIsToldOfBehindTheOthers() throws {
        var fleet = try fleet([(0, 500)], slices: 10)
        for _ in 0..<20 {
            fleet.record(1, agent: 0, reads: 3)
            _ = try fleet.endSlice()
        }
        let top = fleet.tracker.top(2, in: fleet.window)
        #expect(top.map { fleet.number(of: $0.key) } == [1, 0])
        #expect(top[1].state == .hot && top[1].sample.readsPerSecond == 0)
        #expect(fleet.tracker.top(1, in: fleet.window).map { fleet.number(of: $0.key) } == [1])
    }

    @Test func aKeyIsObservedWhetherItIsKnownOrNot() throws {
        let fleet = try fleet([(0, 500), (1, 30)], slices: 10)
        let (hot, warm) = (
            fleet.tracker.observe(fleet.keys[0], in: fleet.window),
            fleet.tracker.observe(fleet.keys[1], in: fleet.window)
        )
        #expect(hot.state == .hot && hot.sample.windowHeat == 5)
        #expect(warm.state == .cold && warm.sample.windowHeat == 0.3)
        let unknown = fleet.tracker.observe(Array("nobody".utf8), in: fleet.window)
        #expect(unknown.state == .cold && unknown.sample.readsPerSecond == 0 && unknown.match?.position == 0)
    }

    @Test func aKeyThatNoRuleCoversHasRatesAndNoMatch() throws {
        let rules = try RuleSet([DetectionRule(pattern: GlobPattern("other:*"))])
        var fleet = try FleetSimulation(agents: 1, keys: 2, rules: rules)
        for _ in 0..<12 {
            fleet.record(0, agent: 0, reads: 50)
            _ = try fleet.endSlice()
        }
        let top = fleet.tracker.top(10, in: fleet.window)
        #expect(top.count == 1 && top[0].match == nil && top[0].sample.readsPerSecond == 500)
    }
}
