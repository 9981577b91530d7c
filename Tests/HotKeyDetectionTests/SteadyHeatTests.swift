import Testing

@testable import HotKeyDetection

/// Ten minutes of one key through the whole pipeline, with the rules' defaults: how often it is published.
@Suite struct SteadyHeatTests {
    private static let item = 0
    private static let agents = 4

    /// Accesses of one agent in one slice, scattered about as a Poisson stream's (a sum of twelve draws is nearly normal).
    private func scattered(_ mean: Double, _ generator: inout SeededGenerator) -> UInt32 {
        var sum = -6.0
        for _ in 0..<12 { sum += Double.random(in: 0..<1, using: &generator) }
        return UInt32(max(0, (mean + sum * mean.squareRoot()).rounded()))
    }

    private func slice(
        _ fleet: inout FleetSimulation, perSecond: Double, _ generator: inout SeededGenerator
    ) throws -> [HeatChange] {
        for agent in 0..<Self.agents {
            let reads = scattered(perSecond / 10 / Double(Self.agents), &generator)
            if reads > 0 { fleet.record(Self.item, agent: agent, reads: reads) }
        }
        return try fleet.endSlice()
    }

    /// ±20 % around the threshold for ten minutes.
    @Test(arguments: [0.3, 5, 60], [UInt64](1...2))
    func aSquareWaveIsPublishedAtMostTwice(halfPeriodSeconds: Double, streamSeed: UInt64) throws {
        var generator = SeededGenerator(seed: streamSeed)
        var fleet = try FleetSimulation(agents: Self.agents, keys: 1, rules: RuleSet([.forAll()]))
        var changes: [HeatChange] = []
        for number in 0..<6_000 {
            let isHigh = Int(Double(number) / (10 * halfPeriodSeconds)) % 2 == 1
            changes += try slice(&fleet, perSecond: isHigh ? 1_200 : 800, &generator)
        }
        #expect((1...2).contains(changes.count), "seed \(streamSeed): \(changes.map(\.state))")
        #expect(fleet.tracker.state(of: fleet.keys[Self.item]) == .hot)
    }

    /// Every agent answers the key from its own memory and asks its home once a second, as the staleness cap calls for. What is
    /// counted is what was asked for, at the front.
    @Test(arguments: [UInt64](1...2))
    func aKeyServedFromLocalCachesStaysHotWhileAskedFor(streamSeed: UInt64) throws {
        var generator = SeededGenerator(seed: streamSeed)
        var fleet = try FleetSimulation(agents: Self.agents, keys: 1, rules: RuleSet([.forAll()]))
        let rule = try DetectionRule.forAll()
        var changes: [HeatChange] = []
        var (atHome, isHot) = (0, false)
        for number in 0..<6_000 {
            let entered = try slice(&fleet, perSecond: 1_500, &generator)
            isHot = isHot || entered.contains { $0.state == .hot }
            if isHot, number % 10 == 0 { atHome += Self.agents }
            changes += entered
        }
        #expect(changes.map(\.state) == [.hot], "seed \(streamSeed)")
        // The home alone would take the key for cold.
        #expect(Double(atHome) / 600 < rule.leaveRatio * Double(rule.thresholdPerSecond) / 10)
        // Nobody asks any more.
        var ends: [(state: HeatState, seconds: Double)] = []
        for number in 1...300 {
            ends += try slice(&fleet, perSecond: 0, &generator).map { ($0.state, Double(number) / 10) }
        }
        #expect(ends.map(\.state) == [.cooling, .cold])
        #expect(ends.first.map { (5...7).contains($0.seconds) } == true)
        #expect(ends.last.map { (15...17).contains($0.seconds) } == true)
    }
}
