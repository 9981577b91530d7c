import Testing

@testable import HotKeyDetection

@Suite struct CapacityMeterTests {
    /// Readings five seconds apart: how many commands since the last one, and how long the thread was busy with them.
    private func measure(_ spans: [(commands: UInt64, busySeconds: Double)]) -> CapacityMeter {
        var meter = CapacityMeter()
        var reading = NodeReading(runID: "a", commandsProcessed: 1_000_000, busySeconds: 500, nanoseconds: 7)
        meter.add(reading)
        for span in spans {
            reading.commandsProcessed += span.commands
            reading.busySeconds += span.busySeconds
            reading.nanoseconds += milliseconds(5_000)
            meter.add(reading)
        }
        return meter
    }

    @Test func commandsOverBusyTimeAreTheCapacityAtAnyLoad() {
        #expect(measure([]).commandsPerSecond == nil)
        // At a tenth of its capacity, at half, at all of it.
        #expect(measure([(40_000, 0.5)]).commandsPerSecond == 80_000)
        #expect(measure([(200_000, 2.5)]).commandsPerSecond == 80_000)
        #expect(measure([(400_000, 5)]).commandsPerSecond == 80_000)
    }

    @Test func anIdleNodeTellsNothingAndTakesNothingBack() {
        #expect(measure([(10_000, 0.2499)]).commandsPerSecond == nil)
        #expect(measure([(999, 1)]).commandsPerSecond == nil)
        #expect(measure([(40_000, 0.5), (100, 0.02), (0, 0.01)]).commandsPerSecond == 80_000)
    }

    /// One interval with a slow script, one with a burst of the cheapest commands.
    @Test func oneReadingThatIsFarOffDoesNotCount() {
        let usual = Array(repeating: (commands: UInt64(200_000), busySeconds: 2.5), count: 5)
        #expect(measure(usual + [(1_000, 5)]).commandsPerSecond == 80_000)
        #expect(measure(usual + [(4_000_000, 5)]).commandsPerSecond == 80_000)
        // When it goes on, it is what the node can do now.
        let slow = Array(repeating: (commands: UInt64(50_000), busySeconds: 2.5), count: 12)
        #expect(measure(usual + slow).commandsPerSecond == 20_000)
    }

    @Test func theCapacityStandsStillWhileTheTrafficDoes() {
        var generator = SeededGenerator(seed: 5)
        let spans = (0..<100).map { _ in
            (commands: UInt64.random(in: 208_000...214_000, using: &generator), busySeconds: 2.5)
        }
        var seen: Set<Double> = []
        for count in 1...100 { seen.insert(measure(Array(spans.prefix(count))).commandsPerSecond ?? 0) }
        #expect(seen.isSubset(of: [83_000, 84_000, 85_000, 86_000]) && seen.count <= 4, "\(seen)")
    }

    @Test func aNodeThatWasStartedAnewIsMeasuredAnew() {
        var meter = measure([(200_000, 2.5)])
        #expect(meter.commandsPerSecond == 80_000)
        meter.add(NodeReading(runID: "b", commandsProcessed: 50, busySeconds: 0.1, nanoseconds: milliseconds(20_000)))
        #expect(meter.commandsPerSecond == nil)
        // A counter that was set back (CONFIG RESETSTAT) is no measure either.
        var same = measure([(200_000, 2.5)])
        same.add(NodeReading(runID: "a", commandsProcessed: 5, busySeconds: 600, nanoseconds: milliseconds(20_000)))
        #expect(same.commandsPerSecond == nil)
        same.add(
            NodeReading(runID: "a", commandsProcessed: 100_005, busySeconds: 602, nanoseconds: milliseconds(25_000)))
        #expect(same.commandsPerSecond == 50_000)
    }
}

@Suite struct ThresholdInForceTests {
    private func rule(share: Double = 0.05, absolute: Int = 5_000, floor: Int = 100) throws -> DetectionRule {
        try .forAll(threshold: absolute) {
            $0.thresholdShareOfNode = share
            $0.thresholdFloorPerSecond = floor
        }
    }

    private func threshold(_ rule: DetectionRule, _ capacity: Double?) -> ThresholdInForce {
        ThresholdInForce(rule, home: .init(name: "n", accessesPerSecond: capacity))
    }

    @Test func theLowerOfTheTwoHoldsAboveTheFloor() throws {
        let rule = try rule()
        #expect(threshold(rule, 20_000).accessesPerSecond == 1_000 && threshold(rule, 20_000).origin == .share)
        #expect(threshold(rule, 100_000).accessesPerSecond == 5_000 && threshold(rule, 100_000).origin == .rule)
        #expect(threshold(rule, 1e12).accessesPerSecond == 5_000)
        #expect(threshold(rule, 1_000).accessesPerSecond == 100 && threshold(rule, 1_000).origin == .floor)
        #expect(threshold(rule, 0).accessesPerSecond == 100)
        #expect(threshold(rule, 20_000).node?.name == "n")
    }

    @Test func withoutAMeasureTheRulesOwnHolds() throws {
        #expect(threshold(try rule(), nil).accessesPerSecond == 5_000)
        #expect(ThresholdInForce(try rule(), home: nil).origin == .rule)
        let absolute = threshold(try rule(share: 0), 100)
        #expect(absolute.accessesPerSecond == 5_000 && absolute.origin == .rule && absolute.node == nil)
    }
}

/// Keys on a weak node and on a strong one: `key(n)` lives on node n % 2.
@Suite struct AdaptiveThresholdTests {
    private func capacities(_ weak: Double?, _ strong: Double?) -> NodeCapacities {
        NodeCapacities(
            nodes: [.init(name: "weak", accessesPerSecond: weak), .init(name: "strong", accessesPerSecond: strong)]
        ) { bytes in bytes.last.map { Int($0) % 2 } }
    }

    private func rules() throws -> RuleSet {
        try RuleSet([
            .forAll(threshold: 5_000) {
                $0.thresholdShareOfNode = 0.05
                $0.thresholdFloorPerSecond = 100
            }
        ])
    }

    private func run(
        _ tracker: inout HeatTracker, _ fleet: inout Fleet, slices: Int, _ perSlice: [Int: UInt64]
    ) throws -> [String] {
        var log: [String] = []
        for _ in 0..<slices {
            try fleet.slice(perSlice.map { Report.Entry(key: key($0.key), reads: $0.value) })
            for change in tracker.evaluate(fleet.window, nowNanoseconds: fleet.now) {
                log.append("\(String(decoding: change.key, as: UTF8.self)) \(change.state)")
            }
        }
        return log
    }

    @Test func aKeyIsHotByTheShareOfItsOwnNode() throws {
        var fleet = Fleet(agents: 4)
        var tracker = HeatTracker(rules: try rules())
        // 1,200 a second each over all agents: 6 % of the weak node, 1.2 % of the strong one.
        let load: [Int: UInt64] = [2: 30, 3: 30]
        #expect(try run(&tracker, &fleet, slices: 20, load) == [])
        tracker.update(capacities: capacities(20_000, 100_000))
        #expect(try run(&tracker, &fleet, slices: 20, load) == ["key:2 hot"])
        let top = tracker.top(2, in: fleet.window)
        let weak = try #require(top.first { $0.key == key(2) })
        #expect(weak.threshold?.accessesPerSecond == 1_000 && weak.threshold?.origin == .share)
        #expect(weak.threshold?.node?.name == "weak" && abs(weak.sample.windowHeat - 1.2) < 0.01)
        let strong = try #require(top.first { $0.key == key(3) })
        #expect(strong.threshold?.accessesPerSecond == 5_000 && strong.state == .cold)
    }

    /// Many keys alike are each a small share of any node, and a small rate is none at all.
    @Test func uniformTrafficAndAnIdleFleetMakeNothingHot() throws {
        var fleet = Fleet(agents: 2)
        var tracker = HeatTracker(rules: try rules())
        // Measured while it had little to do, and much too low.
        tracker.update(capacities: capacities(400, 400))
        #expect(try run(&tracker, &fleet, slices: 50, [2: 4, 3: 4]) == [])
        tracker.update(capacities: capacities(20_000, 20_000))
        let uniform = Dictionary(uniqueKeysWithValues: (0..<200).map { ($0, UInt64(5)) })
        #expect(try run(&tracker, &fleet, slices: 50, uniform) == [])
    }

    /// Capacities are measured again every few seconds, and never quite the same.
    @Test func aMeasureThatWaversDoesNotFlap() throws {
        var fleet = Fleet(agents: 2)
        var tracker = HeatTracker(rules: try rules())
        var log: [String] = []
        for turn in 0..<120 {
            tracker.update(capacities: capacities(turn % 2 == 0 ? 18_000 : 22_000, nil))
            log += try run(&tracker, &fleet, slices: 50, [2: turn % 3 == 0 ? 45 : 55])
        }
        #expect(log == ["key:2 hot"])
    }

    @Test func whatIsNotMeasuredAnyMoreGoesByTheRulesOwnThresholdAgain() throws {
        var fleet = Fleet(agents: 2)
        var tracker = HeatTracker(rules: try rules())
        tracker.update(capacities: capacities(20_000, nil))
        #expect(try run(&tracker, &fleet, slices: 10, [2: 60]) == ["key:2 hot"])
        tracker.update(capacities: .unknown)
        // 1,200 a second are under 0.4 times 5,000: it cools and leaves by the rule's times.
        #expect(try run(&tracker, &fleet, slices: 400, [2: 60]) == ["key:2 cooling", "key:2 cold"])
    }

    @Test func exactSourcesGoByTheSameThreshold() throws {
        var fusion = SourceFusion(rules: try rules())
        fusion.update(sources: [
            "flink": SourceProposals(
                grade: .exact,
                candidates: [2, 3].map {
                    SourceCandidate(key: key($0), readsPerSecond: 1_200, expiresAtMilliseconds: 10_000)
                })
        ])
        #expect(fusion.decide(agents: [], nowNanoseconds: milliseconds(1_000), wallMilliseconds: 0).isEmpty)
        fusion.update(capacities: capacities(20_000, 100_000))
        let decided = fusion.decide(agents: [], nowNanoseconds: milliseconds(1_100), wallMilliseconds: 100)
        #expect(decided.map(\.key) == [key(2)])
    }
}
