import Testing

@testable import HotKeyDetection

/// What the window says of agents whose frames are long, short, late, missing or cut, and of sums, for each length of window.
@Suite struct WindowBoundsTests {
    private let item = bytes("item:42")
    private static let windows = [300, 500, 1_000]

    private func rule(_ windowMilliseconds: Int) throws -> DetectionRule {
        try .forAll { $0.windowMilliseconds = windowMilliseconds }
    }

    private func frame(
        _ sequence: Int, _ milliseconds: Int = 100, reads: UInt64, span: UInt32 = 1, error: UInt64 = 0,
        bound: UInt64 = 0, total: UInt64? = nil
    ) throws -> [UInt8] {
        let entries =
            reads > 0 ? [Report.Entry(key: item, reads: reads, error: error, sliceSpan: span)] : []
        return try Report(
            sequence: UInt64(sequence), durationMilliseconds: UInt32(milliseconds),
            totals: AccessTotals(reads: total ?? reads), unlistedBound: bound, entries: entries
        ).encoded()
    }

    /// - Parameter isEven: false where an agent's frames do not lie slice by slice: then the band alone is promised, and not each of
    ///   its ends.
    private func expect(
        _ sample: HeatSample, holds truth: Double, _ place: String, isEven: Bool = true,
        location: SourceLocation = #_sourceLocation
    ) {
        let (rate, error) = (sample.readsPerSecond + sample.writesPerSecond, sample.errorPerSecond)
        #expect(
            rate - error <= truth + 1e-6 && truth <= rate + error + 1e-6, "\(place): \(truth) in \(rate) ± \(error)",
            sourceLocation: location)
        // The two ends by themselves, of which the error has the farther one: who gives way for lack of room goes by them.
        guard isEven else { return }
        let (least, most) = (1_000 * sample.leastHeat, 1_000 * sample.mostHeat)
        #expect(
            least <= truth + 1e-6 && truth <= most + 1e-6, "\(place): \(truth) from \(least) to \(most)",
            sourceLocation: location)
    }

    // MARK: Long and short frames

    /// One access a millisecond, told every so many.
    @Test(arguments: [108, 120, 150, 200, 350, 1_000])
    func anAgentWithLongSlicesHasItsRate(period: Int) throws {
        let window = MergedWindow(hashSeed: seed)
        let start = Fleet.start
        var told = 0
        for tick in 1...200 {
            let now = tick * 100
            while (told + 1) * period <= now {
                told += 1
                try window.ingest(
                    agent: "a", epoch: 1, frames: [frame(told, period, reads: UInt64(period))],
                    nowNanoseconds: start + milliseconds(told * period))
            }
            window.advance(to: start + milliseconds(now) + 5_000_000)
            guard now > 3_000 else { continue }
            for length in Self.windows {
                let sample = window.sample(of: item, rule: try rule(length))
                expect(
                    sample, holds: 1_000, "\(period) ms, window \(length) ms, at \(now) ms", isEven: period != 108)
                // Never more than its length, but for a frame that shares a slice; less by what is still to be told.
                #expect(sample.readsPerSecond <= 1_000 + Double(100_000 / length), "\(period) at \(now), \(length) ms")
                if period <= 200, length == 1_000 { #expect(sample.readsPerSecond >= 750, "\(period) at \(now)") }
                #expect(!sample.isInstant)
            }
        }
    }

    /// The agent's process was held up: its slice is long, and those that were due meanwhile follow at once.
    @Test func aStallIsOneLongSliceAndSomeShortOnes() throws {
        let window = MergedWindow(hashSeed: seed)
        var now = Fleet.start
        for sequence in 1...10 {
            try window.ingest(agent: "a", epoch: 1, frames: [frame(sequence, reads: 100)], nowNanoseconds: now)
            now += milliseconds(100)
        }
        now += milliseconds(300)
        let frames = try [
            frame(11, 397, reads: 397), frame(12, 1, reads: 1), frame(13, 1, reads: 1), frame(14, 1, reads: 1),
        ]
        try window.ingest(agent: "a", epoch: 1, frames: frames, nowNanoseconds: now)
        for sequence in 15...24 {
            now += milliseconds(100)
            try window.ingest(agent: "a", epoch: 1, frames: [frame(sequence, reads: 100)], nowNanoseconds: now)
            window.advance(to: now + milliseconds(50))
            // The running slice is not in the window, and all of the last second before it is.
            let sample = window.sample(of: item, rule: try rule(1_000))
            expect(sample, holds: 1_000, "frame \(sequence)")
            #expect((900...1_100).contains(sample.readsPerSecond), "frame \(sequence): \(sample.readsPerSecond)")
        }
    }

    /// More than a second is counted at its mean rate; it may all have been in the last second.
    @Test func aVeryLongSliceCountsAtItsMeanRateAndMayHoldAll() throws {
        let window = MergedWindow(hashSeed: seed)
        try window.ingest(
            agent: "a", epoch: 1, frames: [frame(1, 5_000, reads: 5_000)], nowNanoseconds: Fleet.start)
        window.advance(to: Fleet.start + milliseconds(100))
        let sample = window.sample(of: item, rule: try rule(1_000))
        #expect(sample.readsPerSecond == 1_000 && sample.errorPerSecond >= 4_000)
        #expect(window.totalsOfLastSecond.reads == 1_000)
    }

    /// An agent of long frames tells of as many slices as it makes.
    @Test func longFramesAreOwedAndTold() throws {
        let window = MergedWindow(hashSeed: seed)
        for number in 1...3 {
            try window.ingest(
                agent: "a", epoch: 1, frames: [frame(number, 1_000, reads: 1)],
                nowNanoseconds: Fleet.start + milliseconds(1_000 * number))
        }
        window.advance(to: Fleet.start + milliseconds(3_100))
        #expect(window.isCovered)
        // Ten frames in a slice are no second.
        let burst = MergedWindow(hashSeed: seed)
        try burst.ingest(
            agent: "a", epoch: 1, frames: (1...10).map { try frame($0, 1, reads: 1) }, nowNanoseconds: Fleet.start)
        burst.advance(to: Fleet.start + milliseconds(100))
        #expect(!burst.isCovered)
    }

    @Test func theScaleFollowsTheTimeAndScatterDoesNotMoveIt() {
        var scale = SliceScale()
        var generator = SeededGenerator(seed: 1)
        var elapsed = 0
        for sequence in 1...10_000 {
            let duration = Int.random(in: 1...400, using: &generator)
            elapsed += duration
            let before = scale.position
            scale.advance(to: UInt64(sequence), durationMilliseconds: UInt32(duration))
            #expect(scale.position >= before)
            #expect(abs(Int(scale.position) * 100 - elapsed) <= 150)
        }
        var steady = SliceScale()
        for sequence in 1...1_000 {
            let duration = 100 + [-9, 4, 9, -4][sequence % 4]
            steady.advance(to: UInt64(sequence), durationMilliseconds: UInt32(duration))
            #expect(steady.position == UInt64(sequence))
        }
        // Numbers from the wire.
        steady.advance(to: .max, durationMilliseconds: 600_000)
        #expect(steady.lastSequence == .max)
    }

    /// Frames arrive around the coordinator's slices' ends, for a while before them and for a while after, so that now and then two of
    /// them fall into one slice and none into another.
    @Test func anAgentWhosePhaseCrossesTheCoordinatorsKeepsItsRate() throws {
        let window = MergedWindow(hashSeed: seed)
        var rates: Set<Double> = []
        for sequence in 1...600 {
            let end = Fleet.start + milliseconds(100 * sequence)
            let arrival = sequence % 200 < 100 ? end - milliseconds(7) : end + milliseconds(7)
            // The slice that ends here is judged before some of its frames have come.
            if arrival > end + milliseconds(5) { check() }
            try window.ingest(agent: "a", epoch: 1, frames: [frame(sequence, reads: 100)], nowNanoseconds: arrival)
            if arrival <= end + milliseconds(5) { check() }

            func check() {
                window.advance(to: end + milliseconds(5))
                guard sequence > 20, let rule = try? rule(1_000) else { return }
                let sample = window.sample(of: item, rule: rule)
                expect(sample, holds: 1_000, "frame \(sequence)", isEven: false)
                rates.insert(sample.readsPerSecond)
            }
        }
        #expect(rates.contains(1_100) && rates.contains(900))
    }

    // MARK: Sums

    /// A steady key told once a second, as a sum.
    @Test(arguments: windows)
    func aSumIsAMeanOverItsSecond(length: Int) throws {
        let window = MergedWindow(hashSeed: seed)
        var now = Fleet.start
        for sequence in 1...40 {
            let frame = try frame(sequence, reads: sequence % 10 == 0 ? 500 : 0, span: 10, bound: 60)
            try window.ingest(agent: "a", epoch: 1, frames: [frame], nowNanoseconds: now)
            now += milliseconds(100)
            window.advance(to: now)
            guard sequence >= 20 else { continue }
            let sample = window.sample(of: item, rule: try rule(length))
            #expect(abs(sample.readsPerSecond - 500) < 1e-6)
            expect(sample, holds: 500, "slice \(sequence)")
            // Either all of it is older, or as much as the bounds of the slices that are not told of yet is missing.
            #expect(sample.errorPerSecond <= 5_000, "slice \(sequence): \(sample.errorPerSecond)")
        }
    }

    /// What an entry takes off the bounds it takes off in the slices that it covers, and in no others: else one agent's sum hides what
    /// another's frames leave open.
    @Test func aSumCoversNoOtherSlicesThanItsOwn() throws {
        let window = MergedWindow(hashSeed: seed)
        var now = Fleet.start
        for sequence in 1...10 {
            try window.ingest(
                agent: "told", epoch: 1, frames: [frame(sequence, reads: sequence == 10 ? 5 : 0, span: 10, bound: 50)],
                nowNanoseconds: now)
            // Up to 40 of the key in each slice, as far as this agent tells.
            try window.ingest(
                agent: "open", epoch: 2, frames: [frame(sequence, reads: 0, bound: 40)], nowNanoseconds: now)
            now += milliseconds(100)
        }
        window.advance(to: now)
        let sample = window.sample(of: item, rule: try rule(300))
        // The second's five at most, and three slices of 40.
        let most = (sample.readsPerSecond + sample.errorPerSecond) * 0.3
        #expect(most >= 125 - 1e-6 && most < 126)
    }

    /// Sums that come in the running slice cover slices of the window, whose bounds speak no longer for them.
    @Test func aSumThatComesAfterTheWindowIsStillInIt() throws {
        let window = MergedWindow(hashSeed: seed)
        var now = Fleet.start
        for sequence in 1...9 {
            try window.ingest(
                agent: "a", epoch: 1, frames: [frame(sequence, reads: 0, bound: 30)], nowNanoseconds: now)
            now += milliseconds(100)
        }
        try window.ingest(
            agent: "a", epoch: 1, frames: [frame(10, reads: 270, span: 10, bound: 30)], nowNanoseconds: now)
        // Of the ninth slice and those before, all but the running one: 30 each.
        expect(window.sample(of: item, rule: try rule(1_000)), holds: 270, "before the sum's slice has ended")
    }

    @Test func aSumWithinTheWindowIsALowerBound() throws {
        let window = MergedWindow(hashSeed: seed)
        var now = Fleet.start
        for sequence in 1...8 {
            try window.ingest(
                agent: "a", epoch: 1, frames: [frame(sequence, reads: sequence == 6 ? 90 : 0, span: 3)],
                nowNanoseconds: now)
            now += milliseconds(100)
        }
        window.advance(to: now)
        // Of slices 4 to 6, all in the last five and not all in the last three.
        let long = window.sample(of: item, rule: try rule(500))
        #expect(long.leastHeat == 0.18 && long.mostHeat == 0.18)
        let short = window.sample(of: item, rule: try rule(300))
        #expect(short.leastHeat == 0 && abs(short.mostHeat - 0.3) < 1e-9)
    }

    /// Two agents' sums of bytes in slices that follow each other look like a burst.
    @Test func bytesOfASumSayNothingOfItsSlice() throws {
        let window = MergedWindow(hashSeed: seed)
        var now = Fleet.start
        let rule = try DetectionRule.forAll { $0.thresholdBytesPerSecond = 1_000_000 }
        for sequence in 1...30 {
            for agent in 0..<2 {
                let isDue = sequence % 10 == agent
                let entry = Report.Entry(key: item, reads: 100, replyBytes: 250_000, sliceSpan: 10)
                let frame = try Report(sequence: UInt64(sequence), entries: isDue ? [entry] : []).encoded()
                try window.ingest(
                    agent: "\(agent)", epoch: UInt64(agent + 1), frames: [frame], nowNanoseconds: now)
            }
            now += milliseconds(100)
            window.advance(to: now)
            let sample = window.sample(of: item, rule: rule)
            #expect(sample.overSlices == 0 && !sample.hasShortEvidence && !sample.isInstant, "slice \(sequence)")
        }
    }

    // MARK: Agents that are not heard of

    /// An agent that makes a hundred accesses a slice has not been heard of since: they may all have been of the key.
    @Test func aSilentAgentWidensTheBandUntilItIsGone() throws {
        let window = MergedWindow(hashSeed: seed)
        var now = Fleet.start
        for sequence in 1...20 {
            for agent in ["heard", "silent"] where agent == "heard" || sequence <= 12 {
                try window.ingest(
                    agent: agent, epoch: UInt64(agent.count), frames: [frame(sequence, reads: 50, total: 100)],
                    nowNanoseconds: now)
            }
            now += milliseconds(100)
            window.advance(to: now)
            let sample = window.sample(of: item, rule: try rule(1_000))
            if sequence == 12 { #expect(sample.errorPerSecond == 0) }
            if sequence > 12 { expect(sample, holds: Double(min(1_000, 50 * 2 * sequence)), "slice \(sequence)") }
            if sequence == 20 { #expect(sample.readsPerSecond == 600 && sample.errorPerSecond == 800) }
        }
        window.remove(agent: "silent")
        #expect(window.sample(of: item, rule: try rule(1_000)).errorPerSecond == 0)
    }

    /// What it has in the slices that it owes may be as much as in any of its last, also when it had nothing in the very last.
    @Test func aSilentAgentCountsByTheMostOfItsLastSecond() throws {
        let window = MergedWindow(hashSeed: seed)
        var now = Fleet.start
        for sequence in 1...20 {
            for agent in ["heard", "silent"] where agent == "heard" || sequence <= 12 {
                let total: UInt64 = agent == "silent" && sequence < 12 ? 100 : 0
                try window.ingest(
                    agent: agent, epoch: UInt64(agent.count), frames: [frame(sequence, reads: total / 2, total: total)],
                    nowNanoseconds: now)
            }
            now += milliseconds(100)
            window.advance(to: now)
        }
        let sample = window.sample(of: item, rule: try rule(1_000))
        #expect(sample.readsPerSecond == 50 && sample.errorPerSecond == 800)
    }

    /// An agent that is two slices late, and idle by now: its last second begins two slices earlier all the same.
    @Test func anAgentThatHasBecomeIdleHasAWindowOfItsOwn() throws {
        let window = MergedWindow(hashSeed: seed)
        var now = Fleet.start
        for sequence in 1...12 {
            try window.ingest(
                agent: "other", epoch: 1, frames: [frame(sequence, reads: 0, total: 10)], nowNanoseconds: now)
            if sequence <= 10 {
                try window.ingest(
                    agent: "late", epoch: 2, frames: [frame(sequence, reads: sequence == 1 ? 100 : 0)],
                    nowNanoseconds: now)
            }
            now += milliseconds(100)
            window.advance(to: now)
        }
        expect(window.sample(of: item, rule: try rule(1_000)), holds: 100, "two slices late")
    }

    /// The frames of the running slice come one after the other; until all have, each agent's last second ends a slice earlier.
    @Test func aKeyThatIsAdmittedEarlyHasABandOfItsOwn() throws {
        let window = MergedWindow(hashSeed: seed)
        var tracker = HeatTracker(rules: try RuleSet([.forAll()]))
        _ = tracker.evaluate(window, nowNanoseconds: Fleet.start)
        // A steady 300 in each slice, of which only one agent has told for the running one.
        for sequence in 1...11 {
            for agent in 0..<(sequence == 11 ? 1 : 3) {
                try window.ingest(
                    agent: "\(agent)", epoch: UInt64(agent + 1), frames: [frame(sequence, reads: 100)],
                    nowNanoseconds: Fleet.start + milliseconds(100 * sequence + 10))
            }
        }
        let changes = tracker.admitEarly(window, nowNanoseconds: Fleet.start + milliseconds(1_150))
        let sample = try #require(changes.first).sample
        #expect(sample.readsPerSecond == 2_800)
        expect(sample, holds: 3_000, "early")
    }

    @Test func aGapCountsTheLargerOfTheTotalsAroundIt() throws {
        let window = MergedWindow(hashSeed: seed)
        var now = Fleet.start
        try window.ingest(agent: "a", epoch: 1, frames: [frame(1, reads: 10)], nowNanoseconds: now)
        now += milliseconds(200)
        try window.ingest(agent: "a", epoch: 1, frames: [frame(3, reads: 90)], nowNanoseconds: now)
        window.advance(to: now + milliseconds(100))
        #expect(window.sample(of: item, rule: try rule(1_000)).errorPerSecond == 90)
    }

    /// Numbers from the wire: what does not fit widens the band, and never narrows it.
    @Test func errorsOfAnySizeStayErrors() throws {
        let window = MergedWindow(hashSeed: seed)
        var now = Fleet.start
        for sequence in [1, 2, 3, 3 + (1 << 40), 4 + (1 << 40)] {
            // Every other frame falls into the slice of the one before.
            try window.ingest(
                agent: "a", epoch: 1,
                frames: [
                    frame(sequence, sequence == 3 ? 600_000 : 100, reads: 10, error: .max, bound: .max, total: .max)
                ],
                nowNanoseconds: now)
            now += milliseconds(sequence % 2 == 0 ? 100 : 0)
            window.advance(to: now + milliseconds(100))
            #expect(window.sample(of: item, rule: try rule(1_000)).errorPerSecond >= Double(UInt32.max), "\(sequence)")
        }
    }

    // MARK: Coming back

    /// An agent's session with the registry ends and it registers again: it is asked for all that it keeps.
    @Test func framesOfAnAgentThatLeftAndIsBackCountOnce() throws {
        let window = MergedWindow(hashSeed: seed)
        let now = Fleet.start
        let frames = try (1...12).map { try frame($0, reads: 100) }
        try window.ingest(agent: "a", epoch: 1, frames: frames, nowNanoseconds: now)
        window.remove(agent: "a")
        #expect(window.agentCount == 0)
        let again = try window.ingest(agent: "a", epoch: 1, frames: frames, nowNanoseconds: now)
        #expect(again == MergedWindow.Ingested(repeated: 12))
        // Also under another name.
        window.remove(agent: "a")
        let renamed = try window.ingest(
            agent: "b", epoch: 1, frames: frames + [frame(13, reads: 100)], nowNanoseconds: now + milliseconds(100))
        #expect(renamed == MergedWindow.Ingested(counted: 1, repeated: 12))
        window.advance(to: now + milliseconds(200))
        let sample = window.sample(of: item, rule: try rule(1_000))
        #expect(sample.readsPerSecond == 1_000 && sample.errorPerSecond == 0)
    }

    /// A key gives way in the running slice, before the slice that has just ended is judged, and comes back with a late frame.
    @Test func whatIsGivenUpStaysInTheBand() throws {
        let window = MergedWindow(hashSeed: seed, keysMax: 2)
        func report(_ agent: String, _ sequence: Int, at now: UInt64, _ entries: [(String, UInt64, UInt64)]) throws {
            let frame = try Report(
                sequence: UInt64(sequence),
                entries: entries.map { Report.Entry(key: bytes($0.0), reads: $0.1, error: $0.2) }
            ).encoded()
            try window.ingest(agent: agent, epoch: UInt64(agent.count), frames: [frame], nowNanoseconds: now)
        }
        let now = Fleet.start
        try report("a", 1, at: now, [("item:42", 20, 7), ("other", 30, 0)])
        // In the next slice a busier one needs the room.
        try report("a", 2, at: now + milliseconds(100), [("new", 500, 0)])
        expect(window.sample(of: item, rule: try rule(1_000)), holds: 27, "given up")
        // And one that finds no room at all.
        try report("bb", 1, at: now + milliseconds(110), [("item:42", 4, 9)])
        expect(window.sample(of: item, rule: try rule(1_000)), holds: 27, "left out")
        window.advance(to: now + milliseconds(200))
        expect(window.sample(of: item, rule: try rule(1_000)), holds: 40, "left out, its slice over")
        // It comes back for a slice before the one in which it was given up.
        try report("a", 3, at: now + milliseconds(200), [("item:42", 900, 0)])
        window.advance(to: now + milliseconds(300))
        expect(window.sample(of: item, rule: try rule(300)), holds: 940 / 0.3, "back")
    }

    // MARK: All of it together

    /// Agents with budgets so small that most is told late or never, some of them slow, and frames that get lost; the truth beside
    /// them. Each agent's window ends with what it has told last.
    @Test(arguments: [UInt64](1...4), [100_000, 150])
    func everyBandHoldsTheTruthWhateverTheWindow(streamSeed: UInt64, keysMax: Int) throws {
        var generator = SeededGenerator(seed: streamSeed)
        let zipf = Zipf(count: 400, exponent: 1)
        struct Agent {
            let counter = SliceCounter()
            let budget: ReportBudget
            /// Slices that one of its frames takes.
            var slices: Int
            var told = 0
        }
        var agents = [1, 1, 1, 2, 3].map { slices in
            Agent(budget: ReportBudget(bytesPerSecond: 2_500), slices: slices)
        }
        let window = MergedWindow(hashSeed: seed, keysMax: keysMax)
        var now = Fleet.start
        var history: [[[Int]]] = Array(repeating: [], count: agents.count)
        var outOfBand: [String] = []
        var looked = 0
        for slice in 1...60 {
            for number in agents.indices {
                var counts = [Int](repeating: 0, count: 400)
                for _ in 0..<150 {
                    let drawn = zipf.draw(using: &generator)
                    counts[drawn] += 1
                    agents[number].counter.record(key(drawn))
                }
                history[number].append(counts)
                guard slice % agents[number].slices == 0 else { continue }
                let report = agents[number].budget.report(
                    of: agents[number].counter.drain(),
                    durationMilliseconds: UInt32(100 * agents[number].slices))
                agents[number].told = slice
                try window.ingest(
                    agent: "\(number)", epoch: UInt64(number + 1), frames: [report.encoded()],
                    nowNanoseconds: now + milliseconds(number))
            }
            now += milliseconds(100)
            window.advance(to: now)
            guard slice > 15 else { continue }
            for length in Self.windows {
                let rule = try rule(length)
                for number in stride(from: 0, to: 400, by: 7) {
                    var truth = 0
                    for agent in agents.indices {
                        let end = agents[agent].told
                        for back in 0..<length / 100 { truth += history[agent][end - 1 - back][number] }
                    }
                    let rate = Double(truth) * 1_000 / Double(length)
                    let sample = window.sample(of: key(number), rule: rule)
                    looked += 1
                    if abs(rate - sample.readsPerSecond) > sample.errorPerSecond + 1e-6
                        || rate < 1_000 * sample.leastHeat - 1e-6 || rate > 1_000 * sample.mostHeat + 1e-6
                    {
                        outOfBand.append(
                            "slice \(slice), key \(number), \(length) ms: \(rate) in \(sample.readsPerSecond) ± \(sample.errorPerSecond)"
                        )
                    }
                }
            }
        }
        #expect(looked > 5_000)
        #expect(outOfBand.prefix(5) == [], "seed \(streamSeed): \(outOfBand.count) of \(looked)")
    }
}
