import Testing

@testable import HotKeyDetection

/// What the running slice shows before its end.
@Suite struct EarlyAdmissionTests {
    private let item = bytes("item:42")

    private func frame(_ sequence: Int, _ entries: [Report.Entry]) throws -> [UInt8] {
        try Report(sequence: UInt64(sequence), entries: entries).encoded()
    }

    @Test func aKeyEntersAsSoonAsItsCountsSuffice() throws {
        let window = MergedWindow(hashSeed: seed)
        var tracker = HeatTracker(rules: try RuleSet([.forAll()]))
        func report(_ agent: Int, _ sequence: Int, _ reads: UInt64, at now: UInt64) throws {
            let entries = reads > 0 ? [Report.Entry(key: item, reads: reads)] : []
            try window.ingest(
                agent: "\(agent)", epoch: UInt64(agent + 1), frames: [frame(sequence, entries)], nowNanoseconds: now)
        }
        for slice in 1...3 {
            for agent in 0..<10 { try report(agent, slice, 0, at: Fleet.start + milliseconds(slice * 100)) }
            _ = tracker.evaluate(window, nowNanoseconds: Fleet.start + milliseconds(slice * 100 + 5))
        }
        // In the fourth slice half of the agents have spoken: five times its share is no proof by itself.
        for agent in 0..<5 { try report(agent, 4, 100, at: Fleet.start + milliseconds(410)) }
        #expect(tracker.admitEarly(window, nowNanoseconds: Fleet.start + milliseconds(450)) == [])
        #expect(tracker.evaluate(window, nowNanoseconds: Fleet.start + milliseconds(505)) == [])
        #expect(tracker.state(of: item) == .candidate)
        // Two agents of the fifth make it two slices over.
        for agent in 0..<2 { try report(agent, 5, 100, at: Fleet.start + milliseconds(510)) }
        let changes = tracker.admitEarly(window, nowNanoseconds: Fleet.start + milliseconds(550))
        #expect(changes.map(\.key) == [item] && changes.map(\.state) == [.hot] && tracker.hotKeyCount == 1)
        // Neither again, nor anything else before the slice's end.
        #expect(tracker.admitEarly(window, nowNanoseconds: Fleet.start + milliseconds(560)) == [])
        #expect(tracker.evaluate(window, nowNanoseconds: Fleet.start + milliseconds(605)) == [])
        // Without reports it would cool, but not because a slice has only begun.
        for step in 0..<2_000 {
            let now = Fleet.start + milliseconds(610 + step * 50)
            #expect(tracker.admitEarly(window, nowNanoseconds: now) == [])
        }
        #expect(tracker.state(of: item) == .hot)
    }

    /// What enters early enters at the slice's end without it, too: after each slice both hold the same keys hot.
    @Test(arguments: [UInt64](1...5))
    func nothingEntersEarlyThatDoesNotEnterAtTheEnd(streamSeed: UInt64) throws {
        var generator = SeededGenerator(seed: streamSeed)
        let window = MergedWindow(hashSeed: seed)
        let rules = try RuleSet([.forAll(threshold: 200) { ($0.coolDownSeconds, $0.minimumHotSeconds) = (1, 1) }])
        var early = HeatTracker(rules: rules)
        // They share a window: which keys it notes is asked of by both, so the other one has a window of its own.
        let otherWindow = MergedWindow(hashSeed: seed)
        var other = HeatTracker(rules: rules)
        var enteredEarly = 0
        for slice in 1...600 {
            let start = Fleet.start + milliseconds(slice * 100)
            for agent in 0..<20 {
                var entries: [Report.Entry] = []
                for number in 0..<6 where Bool.random(using: &generator) {
                    // Rates around the threshold and far above it, coming and going.
                    let mean = [0, 1, 2, 3, 10, 30][(number + slice / 20) % 6]
                    let isSum = Int.random(in: 0..<4, using: &generator) == 0
                    let reads = UInt64(Int.random(in: 0...mean, using: &generator))
                    if reads > 0 {
                        entries.append(Report.Entry(key: key(number), reads: reads, sliceSpan: isSum ? 4 : 1))
                    }
                }
                let frame = try frame(slice, entries)
                let now = start + milliseconds(agent * 5)
                for each in [window, otherWindow] {
                    try each.ingest(agent: "\(agent)", epoch: UInt64(agent + 1), frames: [frame], nowNanoseconds: now)
                }
                if agent % 7 == 6 { enteredEarly += early.admitEarly(window, nowNanoseconds: now).count }
            }
            let end = start + milliseconds(105)
            _ = early.evaluate(window, nowNanoseconds: end)
            _ = other.evaluate(otherWindow, nowNanoseconds: end)
            #expect(Set(early.hotKeys.map(\.key)) == Set(other.hotKeys.map(\.key)), "slice \(slice)")
            #expect(early.hotKeyCount == early.hotKeys.count)
        }
        #expect(enteredEarly > 3)
    }

    /// Fewer rules than before, a full hot set, and the next turn is one within a slice: the key that gives way there was last
    /// matched with the old rules.
    @Test func aKeyThatGivesWayAfterARuleChangeIsMatchedAnew() throws {
        var fleet = Fleet(agents: 1)
        let narrow = DetectionRule(pattern: try GlobPattern("key:*"))
        var tracker = HeatTracker(rules: try RuleSet([.forAll(), narrow]), hotKeysMax: 1)
        for _ in 0..<5 {
            try fleet.slice([Report.Entry(key: item, reads: 150)])
            _ = tracker.evaluate(fleet.window, nowNanoseconds: fleet.now)
        }
        #expect(tracker.hotKeys.map(\.key) == [item])
        tracker.update(rules: try RuleSet([.forAll()]))
        try fleet.window.ingest(
            agent: "agent-0", epoch: 1, frames: [frame(6, [Report.Entry(key: key(1), reads: 5_000)])],
            nowNanoseconds: fleet.now)
        let changes = tracker.admitEarly(fleet.window, nowNanoseconds: fleet.now + milliseconds(50))
        #expect(Set(changes.map(\.key)) == [item, key(1)])
        #expect(changes.allSatisfy { $0.rulePosition == 0 })
    }
}
