import Testing

@testable import HotKeyDetection

@Suite struct HeatTrackerTests {
    private let item = bytes("item:42")

    private func entry(_ key: [UInt8], reads: UInt64, span: UInt32 = 1) -> Report.Entry {
        Report.Entry(key: key, reads: reads, sliceSpan: span)
    }

    /// Runs slices with the same entries and returns the changes with their slice's number, from 1.
    private func run(
        _ tracker: inout HeatTracker, _ fleet: inout Fleet, slices: Int, _ entries: [Report.Entry]
    ) throws -> [(slice: Int, change: HeatChange)] {
        var found: [(slice: Int, change: HeatChange)] = []
        for slice in 1...slices {
            try fleet.slice(entries)
            found += tracker.evaluate(fleet.window, nowNanoseconds: fleet.now).map { (slice, $0) }
        }
        return found
    }

    @Test func findsAKeyThatIsHotOnlyInSum() throws {
        var fleet = Fleet(agents: 3)
        var tracker = HeatTracker(rules: try RuleSet([.forAll()]))
        // 600 a second on each of three agents, none near the threshold of 1,000.
        let changes = try run(&tracker, &fleet, slices: 20, [entry(item, reads: 60), entry(bytes("cool"), reads: 20)])
        #expect(changes.count == 1)
        #expect(changes.first?.change.key == item)
        #expect(changes.first?.change.state == .hot && changes.first?.change.kind == .read)
        #expect(changes.first.map { $0.slice <= 3 } == true)
        #expect(tracker.hotKeys.map(\.key) == [item] && tracker.hotKeyCount == 1)
    }

    @Test func tenTimesTheThresholdIsFoundInOneSlice() throws {
        var fleet = Fleet(agents: 10)
        var tracker = HeatTracker(rules: try RuleSet([.forAll()]))
        _ = try run(&tracker, &fleet, slices: 3, [])
        let changes = try run(&tracker, &fleet, slices: 2, [entry(item, reads: 110)])
        #expect(changes.map(\.slice) == [1] && changes.first?.change.cause == .instant)
    }

    /// Once per 100 ms on each of 1,000 agents, told as sums of a second: ten times the threshold in sum.
    @Test func findsWhatIsThinEverywhere() throws {
        let window = MergedWindow(hashSeed: seed)
        var tracker = HeatTracker(rules: try RuleSet([.forAll()]))
        var now = Fleet.start
        var changes: [HeatChange] = []
        for slice in 0..<20 {
            for agent in 0..<1_000 {
                let isDue = slice % 10 == agent % 10
                let report = Report(
                    sequence: UInt64(slice + 1), unlistedBound: 1,
                    entries: isDue ? [entry(item, reads: 10, span: slice < 10 ? UInt32(slice % 10 + 1) : 10)] : [])
                try window.ingest(
                    agent: "\(agent)", epoch: 1, frames: [report.encoded()], nowNanoseconds: now)
            }
            now += milliseconds(100)
            changes += tracker.evaluate(window, nowNanoseconds: now)
        }
        #expect(changes.map(\.state) == [.hot])
        let sample = window.sample(of: item, rule: try .forAll())
        #expect(sample.readsPerSecond == 10_000)
    }

    @Test func aKeyLeavesAfterItsCoolDown() throws {
        var fleet = Fleet(agents: 2)
        var tracker = HeatTracker(rules: try RuleSet([.forAll()]))
        _ = try run(&tracker, &fleet, slices: 20, [entry(item, reads: 200)])
        let changes = try run(&tracker, &fleet, slices: 400, [entry(item, reads: 5)])
        #expect(changes.map(\.change.state) == [.cooling, .cold])
        #expect(tracker.hotKeyCount == 0)
        _ = try run(&tracker, &fleet, slices: 600, [entry(item, reads: 5)])
        #expect(tracker.trackedKeyCount == 0)
    }

    @Test func aTakeoverLosesNoState() throws {
        var fleet = Fleet(agents: 2)
        var tracker = HeatTracker(rules: try RuleSet([.forAll()]))
        let since = fleet.now - milliseconds(40_000)
        tracker.adopt(
            [
                PublishedHeat(key: item, kind: .read, isCooling: false, sinceNanoseconds: since),
                PublishedHeat(key: bytes("fading"), kind: .big, isCooling: true, sinceNanoseconds: 0),
            ], nowNanoseconds: fleet.now)
        #expect(tracker.hotKeyCount == 2)
        // Twelve seconds without one report, then reports that show the first key as hot as ever.
        var changes: [HeatChange] = []
        for _ in 0..<120 {
            fleet.silence()
            changes += tracker.evaluate(fleet.window, nowNanoseconds: fleet.now)
        }
        #expect(changes.isEmpty)
        let later = try run(&tracker, &fleet, slices: 300, [entry(item, reads: 200)])
        #expect(later.map(\.change.key) == [bytes("fading")] && later.first?.change.state == .cold)
        #expect(tracker.hotKeys.map(\.sinceNanoseconds) == [since])
    }

    @Test func nothingCoolsWhileMostAgentsAreSilent() throws {
        var fleet = Fleet(agents: 4)
        var tracker = HeatTracker(rules: try RuleSet([.forAll()]))
        _ = try run(&tracker, &fleet, slices: 20, [entry(item, reads: 200)])
        var changes: [HeatChange] = []
        for _ in 0..<550 {
            fleet.silence()
            changes += tracker.evaluate(fleet.window, nowNanoseconds: fleet.now)
        }
        #expect(changes.isEmpty && tracker.state(of: item) == .hot)
    }

    @Test func rulesChangeWithoutForgettingHeat() throws {
        var fleet = Fleet(agents: 1)
        var tracker = HeatTracker(rules: try RuleSet([.forAll(threshold: 10_000)]))
        #expect(try run(&tracker, &fleet, slices: 20, [entry(item, reads: 200)]).isEmpty)
        // The window's counts are judged by the new rule at once.
        tracker.update(rules: try RuleSet([.forAll(threshold: 1_000)]))
        #expect(try run(&tracker, &fleet, slices: 2, [entry(item, reads: 200)]).map(\.change.state) == [.hot])
        tracker.update(rules: try RuleSet([.forAll(threshold: 1_500)]))
        #expect(try run(&tracker, &fleet, slices: 50, [entry(item, reads: 200)]).isEmpty)
        let others = try RuleSet([DetectionRule(pattern: try GlobPattern("user:*"))])
        tracker.update(rules: others)
        let gone = try run(&tracker, &fleet, slices: 1, [entry(item, reads: 200)])
        #expect(gone.map(\.change.cause) == [.noRule] && gone.first?.change.state == .cold)
        #expect(tracker.hotKeyCount == 0)
    }

    @Test func theCoolestLeaveWhenThereAreTooMany() throws {
        var fleet = Fleet(agents: 1)
        var tracker = HeatTracker(rules: try RuleSet([.forAll()]), hotKeysMax: 10)
        let first = (0..<10).map { entry(key($0), reads: UInt64(200 + $0)) }
        #expect(try run(&tracker, &fleet, slices: 20, first).count == 10)
        // Equals do not push anyone out, however long they try.
        let equals = first + (10..<20).map { entry(key($0), reads: 205) }
        #expect(try run(&tracker, &fleet, slices: 100, equals).isEmpty)
        // One that is clearly hotter takes the place of the coolest.
        let hotter = equals + [entry(key(99), reads: 900)]
        let changes = try run(&tracker, &fleet, slices: 20, hotter).map(\.change)
        #expect(changes.filter { $0.state == .hot }.map(\.key) == [key(99)])
        #expect(changes.filter { $0.state == .cold }.map(\.key) == [key(0)])
        #expect(changes.last?.cause == .capacity)
        #expect(tracker.hotKeyCount == 10 && tracker.hotKeys.count == 10)
    }

    /// Hotter by what was counted, but all that is sure of the newcomer is less than what the one that is there may have; and the
    /// other way round.
    @Test(arguments: [(error: UInt64(300), span: UInt32(1)), (error: 0, span: 10)])
    func whoGivesWayIsDecidedByTheBounds(error: UInt64, span: UInt32) throws {
        var fleet = Fleet(agents: 1)
        var tracker = HeatTracker(rules: try RuleSet([.forAll()]), hotKeysMax: 1)
        let old = Report.Entry(key: item, reads: 150, error: span == 1 ? error : 0)
        #expect(try run(&tracker, &fleet, slices: 20, [old]).count == 1)
        // Of a sum it is not sure that it was within the last second.
        let new = Report.Entry(key: key(1), reads: 400, sliceSpan: span)
        #expect(try run(&tracker, &fleet, slices: 20, [old, new]).isEmpty)
        let sure = Report.Entry(key: key(2), reads: 900)
        let changes = try run(&tracker, &fleet, slices: 20, [old, sure]).map(\.change.key)
        #expect(Set(changes) == [item, key(2)])
    }

    @Test func trackedKeysAreBounded() throws {
        var fleet = Fleet(agents: 1)
        var tracker = HeatTracker(rules: try RuleSet([.forAll(threshold: 100)]), hotKeysMax: 20, trackedKeysMax: 50)
        for round in 0..<30 {
            _ = try run(&tracker, &fleet, slices: 2, (0..<100).map { entry(key($0 + 100 * round), reads: 30) })
            #expect(tracker.trackedKeyCount <= 50 && tracker.hotKeyCount <= 20)
        }
        #expect(tracker.hotKeyCount == 20)
    }

    /// Whoever lost its place to others, with traffic that never stops, is seen again when it becomes hot.
    @Test func aKeyWithoutAPlaceIsNotBlindlyPassedOver() throws {
        var fleet = Fleet(agents: 1)
        let rule = try DetectionRule.forAll(threshold: 100) { ($0.coolDownSeconds, $0.minimumHotSeconds) = (1, 1) }
        var tracker = HeatTracker(rules: try RuleSet([rule]), hotKeysMax: 1, trackedKeysMax: 20)
        _ = try run(&tracker, &fleet, slices: 5, [entry(item, reads: 30)])
        #expect(tracker.state(of: item) == .hot)
        // It leaves, and is remembered, until others need the place.
        _ = try run(&tracker, &fleet, slices: 30, [entry(item, reads: 1)])
        #expect(tracker.state(of: item) == .cold && tracker.trackedKeyCount == 1)
        let others = (0..<30).map { entry(key($0), reads: 10) }
        for round in 0..<10 {
            // Each is over in one slice and not in the next two: candidates, and none enters.
            let busy = round % 3 == 0 ? others : []
            _ = try run(&tracker, &fleet, slices: 1, busy + [entry(item, reads: 1)])
        }
        #expect(tracker.trackedKeyCount <= 20)
        let back = try run(&tracker, &fleet, slices: 3, [entry(item, reads: 1_000)])
        #expect(back.map(\.change.key) == [item] && back.map(\.slice) == [1])
    }

    @Test func aHotKeyTakesTheCoolestCandidatesPlace() throws {
        let rules = try RuleSet([.forAll(threshold: 100)])
        let others = (0..<20).map { entry(key($0), reads: UInt64(10 + $0 / 10)) }
        for isEarly in [false, true] {
            var fleet = Fleet(agents: 1)
            var tracker = HeatTracker(rules: rules, hotKeysMax: 5, trackedKeysMax: 20)
            _ = try run(&tracker, &fleet, slices: 1, [])
            _ = try run(&tracker, &fleet, slices: 1, others)
            #expect(tracker.trackedKeyCount == 20 && tracker.hotKeyCount == 0)
            let frame = try Report(sequence: 3, entries: [entry(item, reads: 1_000)]).encoded()
            try fleet.window.ingest(agent: "agent-0", epoch: 1, frames: [frame], nowNanoseconds: fleet.now)
            let changes =
                isEarly
                ? tracker.admitEarly(fleet.window, nowNanoseconds: fleet.now + milliseconds(50))
                : tracker.evaluate(fleet.window, nowNanoseconds: fleet.now + milliseconds(100))
            #expect(changes.map(\.key) == [item] && tracker.trackedKeyCount == 20)
            // One of the cooler half gave way.
            #expect((10..<20).allSatisfy { tracker.state(of: key($0)) == .candidate })
        }
    }

    /// A full hot set is taken over, and of its keys' agents none has been pulled when a key turns up that is far hotter.
    @Test func aFullHotSetLosesNoKeyToANewcomerBeforeItsReportsAreThere() throws {
        var fleet = Fleet(agents: 1)
        var tracker = HeatTracker(rules: try RuleSet([.forAll()]), hotKeysMax: 5)
        tracker.adopt(
            (0..<5).map { PublishedHeat(key: key($0), kind: .read, isCooling: false, sinceNanoseconds: 0) },
            nowNanoseconds: fleet.now)
        let newcomer = [entry(item, reads: 5_000)]
        #expect(try run(&tracker, &fleet, slices: 20, newcomer).isEmpty)
        let frame = try Report(sequence: 21, entries: newcomer).encoded()
        try fleet.window.ingest(agent: "agent-0", epoch: 1, frames: [frame], nowNanoseconds: fleet.now)
        #expect(tracker.admitEarly(fleet.window, nowNanoseconds: fleet.now + milliseconds(50)).isEmpty)
        #expect(tracker.hotKeyCount == 5 && Set(tracker.hotKeys.map(\.key)) == Set((0..<5).map { key($0) }))
        // Once they have had their time, it takes the place of the coolest.
        fleet.now += milliseconds(10_000)
        let known = (0..<5).map { entry(key($0), reads: UInt64(200 + $0)) }
        let later = try run(&tracker, &fleet, slices: 20, known + newcomer).map(\.change)
        #expect(later.map(\.state).filter { $0 == .hot } == [.hot] && tracker.state(of: item) == .hot)
        #expect(later.filter { $0.state == .cold }.map(\.cause) == [.capacity] && tracker.hotKeyCount == 5)
    }

    /// An agent alone over the threshold, whatever the phase of its slices at the load's start.
    @Test(arguments: [0, 10, 25, 40], [1_500, 2_000, 5_000])
    func aloneHotWithin200Milliseconds(phaseMilliseconds: Int, rate: Int) throws {
        let detector = LocalDetector(rules: try RuleSet([.forAll()]))
        let loops = [SliceCounter(), SliceCounter(), SliceCounter()]
        var found: Int?
        for slice in 0..<40 {
            let end = 50 * (slice + 1)
            // Twenty slices of other traffic, then the load starts within a slice.
            let loadStart = 1_000 + phaseMilliseconds
            for number in 0..<500 { loops[number % 3].record(key(number)) }
            let active = min(50, max(0, end - loadStart))
            // One loop has most of it, one a little, one none.
            let reads = UInt32(rate * active / 1_000)
            loops[0].record(item, reads: reads - reads / 20)
            loops[2].record(item, reads: reads / 20)
            let changes = detector.observe(
                loops.map { $0.drain() }, nowNanoseconds: Fleet.start + milliseconds(end))
            if found == nil, changes.contains(where: { $0.key == item && $0.state == .hot }) { found = end - loadStart }
        }
        #expect(found.map { $0 <= 200 } == true, "found after \(found ?? -1) ms")
        #expect(detector.hotKeys.map(\.key) == [item])
    }
}
