import Testing

@testable import HotKeyDetection

/// A key's rates over time, fed to one machine slice by slice, and what came of it.
private struct Scenario {
    let rule: DetectionRule
    var machine = HeatStateMachine()
    var log: [String] = []
    private var slice = 0
    private var history: [SliceCounts] = []

    init(_ change: (inout DetectionRule) -> Void = { _ in }) throws {
        rule = try .forAll(change)
        try rule.validate()
    }

    var now: UInt64 { milliseconds(slice * 100) }

    /// Time passes at constant rates; every action is logged as "seconds action".
    mutating func run(
        _ seconds: Double, reads: Double, writes: Double = 0, bytes: Double = 0, misses: Double = 0,
        mayCool: Bool = true
    ) {
        for _ in 0..<Int((seconds * 10).rounded()) {
            slice += 1
            history.insert(
                SliceCounts(reads: reads / 10, writes: writes / 10, bytes: bytes / 10, misses: misses / 10), at: 0)
            if history.count > 10 { history.removeLast() }
            let sample = HeatSample(rule: rule, sliceMilliseconds: 100) { age in
                age < history.count ? history[age] : SliceCounts()
            }
            let action = machine.observe(sample, rule: rule, now: now, mayCool: mayCool)
            guard action != .none else { continue }
            let name =
                switch action {
                case .none: ""
                case .becameCandidate: "candidate"
                case .becameHot(let kind): "hot \(kind)"
                case .kindChanged(let kind): "kind \(kind)"
                case .beganCooling: "cooling"
                case .becameCold: "cold"
                }
            log.append("\(slice / 10).\(slice % 10) \(name)")
        }
    }
}

@Suite struct HeatStateMachineTests {
    @Test func entersOnTwoOfThreeSlices() throws {
        var scenario = try Scenario()
        scenario.run(2, reads: 100)
        scenario.run(1, reads: 3_000)
        #expect(scenario.log == ["2.1 candidate", "2.2 hot read"])
    }

    @Test func oneSliceOverIsNotEnough() throws {
        var scenario = try Scenario()
        for _ in 0..<5 {
            scenario.run(0.1, reads: 3_000)
            scenario.run(0.9, reads: 10)
        }
        #expect(!scenario.log.contains { $0.contains("hot") })
        #expect(scenario.machine.state == .cold)
    }

    @Test func tenTimesTheThresholdEntersAtOnce() throws {
        var scenario = try Scenario()
        scenario.run(0.1, reads: 10_000)
        #expect(scenario.log == ["0.1 hot read"])
    }

    @Test func aHandfulOfAccessesIsNeverInstant() throws {
        var scenario = try Scenario { $0.thresholdPerSecond = 1 }
        scenario.run(0.1, reads: 100)
        #expect(scenario.machine.state == .candidate)
    }

    @Test func exactlyAtTheThresholdEntersOnceTheWindowIsFull() throws {
        var scenario = try Scenario()
        scenario.run(2, reads: 1_000)
        #expect(scenario.log == ["0.1 candidate", "1.0 hot read"])
    }

    @Test func justUnderTheThresholdNeverEnters() throws {
        var scenario = try Scenario()
        scenario.run(60, reads: 990)
        #expect(scenario.log.isEmpty)
    }

    @Test func coolsAndLeaves() throws {
        var scenario = try Scenario()
        scenario.run(40, reads: 3_000)
        scenario.run(30, reads: 100)
        // The window's rate passes 400 within the first second; five seconds later it is seen as cooling.
        #expect(scenario.log == ["0.1 candidate", "0.2 hot read", "45.9 cooling", "55.9 cold"])
    }

    @Test func staysHotForTheMinimum() throws {
        var scenario = try Scenario()
        scenario.run(1, reads: 3_000)
        scenario.run(60, reads: 0)
        #expect(scenario.log.last == "30.2 cold")
    }

    @Test func aRateBetweenTheLevelsKeepsTheState() throws {
        var scenario = try Scenario()
        scenario.run(5, reads: 3_000)
        scenario.run(600, reads: 500)
        #expect(scenario.log == ["0.1 candidate", "0.2 hot read"])
        scenario.run(6, reads: 100)
        scenario.run(600, reads: 500)
        #expect(scenario.machine.state == .cooling)
        #expect(scenario.log.count == 3)
        scenario.run(2, reads: 1_500)
        #expect(scenario.machine.state == .hot)
    }

    @Test func reentryNeedsNoConfirmation() throws {
        var scenario = try Scenario()
        scenario.run(40, reads: 3_000)
        scenario.run(20, reads: 0)
        #expect(scenario.machine.state == .cold)
        scenario.run(0.1, reads: 1_500)
        #expect(scenario.machine.state == .hot)
    }

    @Test func reentryAfterAMinuteNeedsConfirmation() throws {
        var scenario = try Scenario()
        scenario.run(40, reads: 3_000)
        scenario.run(90, reads: 0)
        scenario.run(0.1, reads: 1_500)
        #expect(scenario.machine.state == .candidate)
    }

    /// ±20 % around the threshold for ten minutes, at periods from a slice to a minute.
    @Test(arguments: [0.1, 0.3, 0.5, 1, 3, 10, 30])
    func aSquareWaveDoesNotFlap(halfPeriodSeconds: Double) throws {
        var scenario = try Scenario()
        for _ in 0..<Int(600 / (2 * halfPeriodSeconds)) {
            scenario.run(halfPeriodSeconds, reads: 1_200)
            scenario.run(halfPeriodSeconds, reads: 800)
        }
        #expect(scenario.log.filter { !$0.hasSuffix("candidate") }.count <= 1)
    }

    @Test func aDipIsNotPublished() throws {
        var scenario = try Scenario()
        for _ in 0..<60 {
            scenario.run(6, reads: 3_000)
            scenario.run(4, reads: 0)
        }
        #expect(scenario.log == ["0.1 candidate", "0.2 hot read"])
    }

    @Test func writesMakeItWriteHotAtOnceAndReadHotAfterACoolDown() throws {
        var scenario = try Scenario()
        scenario.run(5, reads: 3_000, writes: 200)
        scenario.run(5, reads: 3_000, writes: 400)
        // Above half of the ratio it stays write-hot however long.
        scenario.run(60, reads: 3_000, writes: 200)
        scenario.run(30, reads: 3_000, writes: 100)
        #expect(scenario.log == ["0.1 candidate", "0.2 hot read", "5.7 kind write", "85.5 kind read"])
    }

    /// A key that is written once in a hundred times has three writes beside twenty reads in some window of a minute.
    @Test func aFewWritesByChanceMakeNoKeyWriteHot() throws {
        var scenario = try Scenario { $0.thresholdPerSecond = 50 }
        scenario.run(5, reads: 200)
        scenario.run(5, reads: 200, writes: 28)
        #expect(!scenario.log.contains { $0.contains("write") })
        scenario.run(5, reads: 200, writes: 40)
        #expect(scenario.log.last?.hasSuffix("kind write") == true)
    }

    @Test func bytesAloneMakeAKeyBigHot() throws {
        var scenario = try Scenario { $0.thresholdBytesPerSecond = 10_000_000 }
        scenario.run(2, reads: 100, bytes: 40_000_000)
        #expect(scenario.log == ["0.1 candidate", "0.2 hot big"])
    }

    @Test func aKeyThatIsNotThereEntersAsMissing() throws {
        var scenario = try Scenario()
        scenario.run(60, reads: 3_000, misses: 2_400)
        #expect(scenario.log == ["0.1 candidate", "0.2 hot missing"])
        scenario = try Scenario()
        scenario.run(60, reads: 3_000, misses: 2_390)
        #expect(scenario.log == ["0.1 candidate", "0.2 hot read"])
        scenario = try Scenario { $0.missingHotRatio = 0.5 }
        scenario.run(60, reads: 3_000, misses: 1_500)
        #expect(scenario.log == ["0.1 candidate", "0.2 hot missing"])
    }

    @Test func writesComeBeforeMisses() throws {
        var scenario = try Scenario()
        scenario.run(60, reads: 3_000, writes: 400, misses: 3_000)
        #expect(scenario.log == ["0.1 candidate", "0.2 hot write"])
    }

    /// A third of the cool-down of 15 s either way: 5 s after the window has shown it.
    @Test func aKeyThatGoesOrComesChangesItsKindAfterAWhile() throws {
        var scenario = try Scenario()
        scenario.run(5, reads: 3_000)
        scenario.run(10, reads: 3_000, misses: 3_000)
        scenario.run(10, reads: 3_000)
        #expect(scenario.log == ["0.1 candidate", "0.2 hot read", "10.8 kind missing", "20.7 kind read"])
    }

    /// A value that expires and is filled again seconds later, over and over, and shares of misses between the two levels.
    @Test func missesThatComeAndGoDoNotChangeTheKind() throws {
        var scenario = try Scenario()
        scenario.run(2, reads: 3_000)
        for _ in 0..<60 {
            scenario.run(4, reads: 3_000, misses: 3_000)
            scenario.run(4, reads: 3_000)
        }
        #expect(scenario.log == ["0.1 candidate", "0.2 hot read"])
        scenario.run(10, reads: 3_000, misses: 3_000)
        for _ in 0..<60 {
            scenario.run(5, reads: 3_000, misses: 1_300)
            scenario.run(5, reads: 3_000, misses: 2_000)
        }
        #expect(scenario.log.count == 3)
        #expect(scenario.machine.kind == .missing)
    }

    @Test func nothingCoolsWhileReportsAreMissing() throws {
        var scenario = try Scenario()
        scenario.run(40, reads: 3_000)
        scenario.run(120, reads: 0, mayCool: false)
        #expect(scenario.machine.state == .hot)
        scenario.run(14, reads: 0)
        #expect(scenario.machine.state == .cooling)
        scenario.run(2, reads: 0)
        #expect(scenario.machine.state == .cold)
    }

    @Test func savedCountsSayNothingAboutOneSlice() throws {
        let rule = try DetectionRule.forAll()
        // 900 accesses, saved up for a second and reported in one slice: under the threshold, and no burst.
        let sample = HeatSample(rule: rule, sliceMilliseconds: 100) { age in
            age == 1 ? SliceCounts(reads: 900, sums: 900) : SliceCounts()
        }
        #expect(sample.overSlices == 0 && !sample.isInstant && !sample.hasShortEvidence)
        #expect(sample.readsPerSecond == 900)
    }
}
