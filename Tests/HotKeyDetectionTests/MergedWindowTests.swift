import Testing

@testable import HotKeyDetection

@Suite struct MergedWindowTests {
    private let item = bytes("item:42")

    private func frame(_ sequence: UInt64, reads: UInt64 = 10, bound: UInt64 = 0, span: UInt32 = 1) throws -> [UInt8] {
        try Report(
            sequence: sequence, totals: AccessTotals(reads: 50), unlistedBound: bound,
            entries: [Report.Entry(key: item, reads: reads, sliceSpan: span)]
        ).encoded()
    }

    @Test func addsUpOverAgents() throws {
        var fleet = Fleet(agents: 100)
        for _ in 0..<15 {
            try fleet.slice([Report.Entry(key: item, reads: 2, writes: 1, replyBytes: 300)])
        }
        let sample = fleet.window.sample(of: item, rule: try .forAll())
        #expect(sample.readsPerSecond == 2_000 && sample.writesPerSecond == 1_000)
        #expect(sample.bytesPerSecond == 300_000 && sample.errorPerSecond == 0)
        for _ in 0..<4 { fleet.silence() }
        #expect(fleet.window.sample(of: item, rule: try .forAll()).readsPerSecond == 1_200)
        for _ in 0..<20 { fleet.silence() }
        #expect(fleet.window.sample(of: item, rule: try .forAll()).readsPerSecond == 0)
        #expect(fleet.window.keyCount == 0)
    }

    @Test func repeatedFramesCountOnce() throws {
        let window = MergedWindow(hashSeed: seed)
        let now = Fleet.start
        let frames = try [frame(7), frame(8)]
        #expect(try window.ingest(agent: "a", epoch: 1, frames: frames, nowNanoseconds: now).counted == 2)
        let again = try window.ingest(agent: "a", epoch: 1, frames: frames, nowNanoseconds: now)
        #expect(again == MergedWindow.Ingested(repeated: 2))
        window.advance(to: now + milliseconds(100))
        #expect(window.sample(of: item, rule: try .forAll()).readsPerSecond == 20)
    }

    @Test func lateFramesFallIntoTheSliceTheyWereMadeIn() throws {
        let window = MergedWindow(hashSeed: seed)
        let rule = try DetectionRule.forAll { $0.thresholdPerSecond = 100 }
        var now = Fleet.start
        for sequence in UInt64(1)...5 {
            try window.ingest(agent: "a", epoch: 1, frames: [frame(sequence)], nowNanoseconds: now)
            now += milliseconds(100)
        }
        // A stall of three slices, then all at once: one frame a slice, no burst.
        now += milliseconds(300)
        try window.ingest(
            agent: "a", epoch: 1, frames: [frame(6), frame(7), frame(8), frame(9)], nowNanoseconds: now)
        window.advance(to: now + milliseconds(100))
        let sample = window.sample(of: item, rule: rule)
        #expect(sample.readsPerSecond == 90 && sample.overSlices == 3 && !sample.hasShortEvidence)
        #expect(!sample.isInstant)
    }

    /// Ten minutes in one frame, in almost every slice one read: in none of them is there more than one.
    @Test func theRestOfALongFrameIsNoBurst() throws {
        let window = MergedWindow(hashSeed: seed)
        let rule = try DetectionRule.forAll { $0.thresholdPerSecond = 100 }
        try window.ingest(agent: "a", epoch: 1, frames: [frame(1)], nowNanoseconds: Fleet.start)
        let now = Fleet.start + milliseconds(600_000)
        let long = try Report(
            sequence: 2, durationMilliseconds: 600_000, totals: AccessTotals(reads: 5_999),
            entries: [Report.Entry(key: item, reads: 5_999)]
        ).encoded()
        try window.ingest(agent: "a", epoch: 1, frames: [long], nowNanoseconds: now)
        window.advance(to: now + milliseconds(100))
        let sample = window.sample(of: item, rule: rule)
        #expect((9...10).contains(sample.readsPerSecond) && sample.overSlices == 0 && !sample.isInstant)
    }

    @Test func busyKeysThatArePassedOverAreThereAgainWithTheirNextCounts() throws {
        let window = MergedWindow(hashSeed: seed)
        var tracker = HeatTracker(rules: try RuleSet([.forAll(threshold: 50)]))
        _ = tracker.evaluate(window, nowNanoseconds: Fleet.start)
        for sequence in UInt64(1)...3 {
            let now = Fleet.start + milliseconds(100 * Int(sequence))
            try window.ingest(agent: "a", epoch: 1, frames: [frame(sequence)], nowNanoseconds: now)
            #expect(window.hasNewBusyKeys)
            window.passOverBusyKeys()
            #expect(!window.hasNewBusyKeys)
        }
        let now = Fleet.start + milliseconds(400)
        try window.ingest(agent: "a", epoch: 1, frames: [frame(4)], nowNanoseconds: now)
        #expect(tracker.evaluate(window, nowNanoseconds: now + milliseconds(100)).map(\.key) == [item])
    }

    @Test func outOfOrderFramesCount() throws {
        let window = MergedWindow(hashSeed: seed)
        let now = Fleet.start
        try window.ingest(agent: "a", epoch: 1, frames: [frame(5)], nowNanoseconds: now)
        let late = try window.ingest(agent: "a", epoch: 1, frames: [frame(4)], nowNanoseconds: now)
        #expect(late == MergedWindow.Ingested(counted: 1))
        let old = try window.ingest(
            agent: "a", epoch: 1, frames: [frame(90), frame(4)], nowNanoseconds: now + milliseconds(8_500))
        #expect(old == MergedWindow.Ingested(counted: 1, expired: 1, missing: 84))
    }

    @Test func aMissingFrameWidensTheError() throws {
        let window = MergedWindow(hashSeed: seed)
        var now = Fleet.start
        for sequence in [UInt64(1), 2, 4] {
            try window.ingest(agent: "a", epoch: 1, frames: [frame(sequence)], nowNanoseconds: now)
            now += milliseconds(sequence == 2 ? 200 : 100)
        }
        window.advance(to: now)
        let sample = window.sample(of: item, rule: try .forAll())
        #expect(sample.readsPerSecond == 30 && sample.errorPerSecond == 50)
    }

    @Test func aRestartedAgentStartsAnew() throws {
        let window = MergedWindow(hashSeed: seed)
        var now = Fleet.start
        try window.ingest(agent: "a", epoch: 1, frames: [frame(500)], nowNanoseconds: now)
        now += milliseconds(100)
        let fresh = try window.ingest(agent: "a", epoch: 2, frames: [frame(1)], nowNanoseconds: now)
        #expect(fresh == MergedWindow.Ingested(counted: 1))
        // A reply of the earlier run that was still under way.
        let stale = try window.ingest(agent: "a", epoch: 1, frames: [frame(501)], nowNanoseconds: now)
        #expect(stale == MergedWindow.Ingested(expired: 1))
        window.advance(to: now + milliseconds(100))
        #expect(window.sample(of: item, rule: try .forAll()).readsPerSecond == 20)
    }

    @Test func aFirstPullCountsTheLastSecondOnly() throws {
        let window = MergedWindow(hashSeed: seed)
        let frames = try (UInt64(1)...100).map { try frame($0) }
        try window.ingest(agent: "a", epoch: 1, frames: frames, nowNanoseconds: Fleet.start)
        window.advance(to: Fleet.start + milliseconds(100))
        let sample = window.sample(of: item, rule: try .forAll())
        #expect(sample.readsPerSecond == 100 && sample.errorPerSecond == 0)
    }

    @Test func agentsWithASlowOrFastClockKeepTheirRate() throws {
        for period in [99, 101] {
            let window = MergedWindow(hashSeed: seed)
            let rule = try DetectionRule.forAll()
            var extremes = (least: 100.0, most: 100.0)
            for sequence in 1...1_500 {
                let now = Fleet.start + milliseconds(sequence * period)
                try window.ingest(agent: "a", epoch: 1, frames: [frame(UInt64(sequence))], nowNanoseconds: now)
                guard sequence > 20 else { continue }
                let rate = window.sample(of: item, rule: rule).readsPerSecond
                extremes = (min(extremes.least, rate), max(extremes.most, rate))
            }
            #expect(extremes.least >= 80 && extremes.most <= 120, "period \(period) ms: \(extremes)")
        }
    }

    /// As many agents as may be, each with one access a second: together a key of ten thousand.
    @Test func thousandsOfAgentsAreMergedAndOneTooManyIsRefused() throws {
        let window = MergedWindow(hashSeed: seed)
        let agents = DetectionLimits.agentsMax
        for slice in 1...12 {
            let asked = try Report(sequence: UInt64(slice), entries: [Report.Entry(key: item, reads: 1)]).encoded()
            let idle = try Report(sequence: UInt64(slice), entries: []).encoded()
            for agent in 0..<agents {
                let spread = milliseconds(100) * UInt64(agent) / UInt64(agents)
                try window.ingest(
                    agent: "\(agent)", epoch: UInt64(agent + 1), frames: [(agent + slice) % 10 == 0 ? asked : idle],
                    nowNanoseconds: Fleet.start + milliseconds(100 * slice) + spread)
            }
        }
        window.advance(to: Fleet.start + milliseconds(1_300))
        let sample = window.sample(of: item, rule: try .forAll())
        #expect(sample.readsPerSecond == 10_000 && sample.errorPerSecond == 0)
        #expect(window.agentCount == agents && window.isCovered)
        #expect {
            try window.ingest(
                agent: "more", epoch: 1 << 40, frames: [frame(1)], nowNanoseconds: Fleet.start + milliseconds(1_300))
        } throws: { ($0 as? DetectionError)?.code == .tooMany }
    }

    @Test func extremeNumbersDoNotOverflow() throws {
        let window = MergedWindow(hashSeed: seed)
        #expect(window.sample(of: item, rule: try .forAll()).readsPerSecond == 0)
        let most = UInt64.max
        let entry = Report.Entry(key: item, reads: most, writes: most, replyBytes: most, error: most)
        for (agent, sequences) in [
            [1, most / 2, most - 1, most], [most, 1, 5], [most - 5, 3, most], [most, most - 1],
        ].enumerated() {
            for round in 0..<3 {
                let frames = try sequences.map {
                    try Report(
                        sequence: $0, totals: AccessTotals(reads: most, writes: most, replyBytes: most),
                        unlistedBound: most, entries: [entry, entry]
                    ).encoded()
                }
                try window.ingest(
                    agent: "\(agent)", epoch: UInt64(round), frames: frames,
                    nowNanoseconds: Fleet.start + milliseconds(100 * round))
            }
        }
        window.advance(to: Fleet.start + milliseconds(400))
        #expect(window.sample(of: item, rule: try .forAll()).windowHeat > 1)
    }

    @Test func aMalformedFrameSpoilsItsPullOnly() throws {
        let window = MergedWindow(hashSeed: seed)
        let now = Fleet.start
        #expect {
            try window.ingest(agent: "bad", epoch: 1, frames: [try frame(1), [1, 2, 3]], nowNanoseconds: now)
        } throws: { error in
            (error as? DetectionError)?.message.hasPrefix("agent bad: report frame, byte 0") == true
        }
        #expect(window.agentCount == 0)
        try window.ingest(agent: "good", epoch: 1, frames: [frame(1)], nowNanoseconds: now)
        window.advance(to: now + milliseconds(100))
        #expect(window.sample(of: item, rule: try .forAll()).readsPerSecond == 10)
    }

    @Test func silentAgentsAreForgotten() throws {
        let window = MergedWindow(hashSeed: seed)
        try window.ingest(agent: "a", epoch: 1, frames: [frame(1)], nowNanoseconds: Fleet.start)
        window.advance(to: Fleet.start + milliseconds(59_000))
        #expect(window.agentCount == 1)
        window.advance(to: Fleet.start + milliseconds(62_000))
        #expect(window.agentCount == 0)
        try window.ingest(
            agent: "a", epoch: 1, frames: [frame(2)], nowNanoseconds: Fleet.start + milliseconds(63_000))
        window.remove(agent: "a")
        #expect(window.agentCount == 0)
    }

    /// Many agents' budgeted reports of a steady stream: every key's true count lies between the listed counts and those
    /// plus the error, with a window so small that it must give keys up.
    @Test(arguments: [UInt64](1...3), [100_000, 500])
    func boundsContainTheTruth(streamSeed: UInt64, keysMax: Int) throws {
        var generator = SeededGenerator(seed: streamSeed)
        let zipf = Zipf(count: 3_000, exponent: 0.99)
        let agents = (0..<4).map { _ in (counter: SliceCounter(), budget: ReportBudget(bytesPerSecond: 8_000)) }
        let window = MergedWindow(hashSeed: seed, keysMax: keysMax)
        var now = Fleet.start
        var truth: [[UInt8]: Double] = [:]
        for slice in 0..<25 {
            for (number, agent) in agents.enumerated() {
                for _ in 0..<600 {
                    let key = key(zipf.draw(using: &generator))
                    agent.counter.record(key)
                    if slice >= 15 { truth[key, default: 0] += 1 }
                }
                let report = agent.budget.report(of: agent.counter.drain(), durationMilliseconds: 100)
                try window.ingest(
                    agent: "\(number)", epoch: 1, frames: [report.encoded()], nowNanoseconds: now)
            }
            now += milliseconds(100)
            window.advance(to: now)
        }
        let rule = try DetectionRule.forAll()
        var outOfBounds: [String] = []
        var widest = 0.0
        for (key, count) in truth {
            let sample = window.sample(of: key, rule: rule)
            let (lower, upper) = (sample.readsPerSecond, sample.readsPerSecond + sample.errorPerSecond)
            // Up to a second of a saved-up sum can be older than the window, so a key that is not told in every frame is
            // compared with its count in another second: the two scatter.
            let isHead = count > 500
            let scatter = isHead ? 0 : 4 * count.squareRoot() + 12
            if lower > count + scatter || upper + scatter < count {
                outOfBounds.append("\(lower) <= \(count) <= \(upper)")
            }
            if isHead, keysMax > 3_000, sample.errorPerSecond > 0.1 * count {
                outOfBounds.append("error \(sample.errorPerSecond) for \(count)")
            }
            widest = max(widest, sample.errorPerSecond)
        }
        #expect(outOfBounds == [], "seed \(streamSeed)")
        #expect(widest > 0)
        #expect(window.keyCount <= keysMax)
    }
}
