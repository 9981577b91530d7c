import Testing

@testable import HotKeyDetection

@Suite struct ReportBudgetTests {
    @Test func everythingIsToldWhileItFits() {
        let budget = ReportBudget()
        let counter = SliceCounter()
        for sequence in UInt64(1)...30 {
            for number in 0..<50 { counter.record(key(number), reads: UInt32(number + 1), writes: 1) }
            let report = budget.report(of: counter.drain(), durationMilliseconds: 100)
            #expect(report.sequence == sequence)
            #expect(report.unlistedBound == 0)
            #expect(report.entries.count == 50)
            #expect(report.entries.allSatisfy { $0.sliceSpan == 1 && $0.error == 0 && $0.writes == 1 })
        }
    }

    /// Of a key of the head and of one that is only told once a second.
    @Test func missesAreToldOnceWithTheReadsThatTheyBelongTo() {
        let budget = ReportBudget(bytesPerSecond: 4 << 10)
        let counter = SliceCounter()
        var told: [[UInt8]: AccessTotals] = [:]
        for _ in 0..<20 {
            for number in 0..<100 {
                for _ in 0..<(number == 0 ? 50 : 1) {
                    counter.addReply(counter.record(key(number)), bytes: 5, isMiss: number % 3 == 0)
                }
            }
            let report = budget.report(of: counter.drain(), durationMilliseconds: 100)
            #expect(report.totals.misses == 50 + 33)
            for entry in report.entries {
                told[entry.key, default: AccessTotals()].reads += entry.reads
                told[entry.key, default: AccessTotals()].misses += entry.misses
            }
        }
        #expect(told[key(0)] == AccessTotals(reads: 1_000, misses: 1_000))
        let tail = told.filter { $0.key != key(0) }
        #expect(tail.count > 30 && tail.contains { $0.value.misses > 0 } && tail.contains { $0.value.misses == 0 })
        #expect(tail.allSatisfy { $0.value.misses == 0 || $0.value.misses == $0.value.reads })
    }

    @Test func emptySlicesAreNumberedToo() throws {
        let budget = ReportBudget()
        #expect(budget.report(of: [], durationMilliseconds: 100).sequence == 1)
        #expect(try budget.report(of: [], durationMilliseconds: 100).encoded().count < 16)
    }

    /// Whatever the budget leaves out stays inside the documented bound, with the counter exact and with it full.
    @Test(arguments: [UInt64](1...4), [16_384, 300])
    func boundsContainTheTruthUnderTheCap(streamSeed: UInt64, keysMax: Int) throws {
        try checkBounds(
            streamSeed: streamSeed, counters: [SliceCounter(keysMax: keysMax)],
            budget: ReportBudget(bytesPerSecond: 8 << 10, residualKeysMax: 4_000))
    }

    /// The same for the parts of several loops, with room for all keys, with room for some in their own slice only, and
    /// with none for others.
    @Test(arguments: [UInt64](1...2), [(16_384, 4_000, 4_000), (200, 700, 4_000), (400, 700, 100)])
    func boundsContainTheTruthOfSeveralParts(streamSeed: UInt64, room: (Int, Int, Int)) throws {
        try checkBounds(
            streamSeed: streamSeed, counters: (0..<4).map { _ in SliceCounter(keysMax: room.0) },
            budget: ReportBudget(bytesPerSecond: 8 << 10, residualKeysMax: room.1, sliceKeysMax: room.2))
    }

    private func checkBounds(streamSeed: UInt64, counters: [SliceCounter], budget: ReportBudget) throws {
        var generator = SeededGenerator(seed: streamSeed)
        let zipf = Zipf(count: 10_000, exponent: 0.99)
        var truth: [[UInt8]: UInt64] = [:]
        var listed: [[UInt8]: UInt64] = [:]
        var covered: [[UInt8]: Set<UInt64>] = [:]
        var errors: [[UInt8]: UInt64] = [:]
        var bounds: [UInt64] = [0]
        var hasSpan = false
        var twice = 0
        for _ in 0..<40 {
            for _ in 0..<2_000 {
                let key = key(zipf.draw(using: &generator))
                counters[Int.random(in: 0..<counters.count, using: &generator)].record(key)
                truth[key, default: 0] += 1
            }
            let report = budget.report(of: counters.map { $0.drain() }, durationMilliseconds: 100)
            #expect(report.totals.reads == 2_000)
            #expect(try report.encoded().count <= (8 << 10) / 10)
            #expect(Set(report.entries.map(\.key)).count == report.entries.count)
            bounds.append(report.unlistedBound)
            for entry in report.entries {
                hasSpan = hasSpan || entry.sliceSpan > 1
                listed[entry.key, default: 0] += entry.reads
                for back in 0..<UInt64(entry.sliceSpan) {
                    let isNew = covered[entry.key, default: []].insert(report.sequence - back).inserted
                    twice += isNew ? 0 : 1
                }
                errors[entry.key, default: 0] += entry.error
            }
        }
        #expect(hasSpan)
        #expect(twice == 0, "no slice is covered twice")
        let outOfBounds = truth.filter { key, count in
            let told = listed[key] ?? 0
            let open = (1..<bounds.count).reduce(UInt64(0)) {
                covered[key]?.contains(UInt64($1)) == true ? $0 : $0 + bounds[$1]
            }
            let upper = told + (errors[key] ?? 0) + open
            return told > count || count > upper
        }
        #expect(outOfBounds == [:], "seed \(streamSeed)")
    }

    /// More keys than are remembered come by, but a large one is told at once, by its full count over all parts.
    @Test func aLargeKeyIsToldWhenThereIsNoRoomToRememberIt() {
        let budget = ReportBudget(residualKeysMax: 1_000)
        let counters = [SliceCounter(), SliceCounter()]
        for slice in 0..<30 {
            for number in 0..<4_000 { counters[number % 2].record(key(slice * 4_000 + number)) }
            for counter in counters { counter.record(bytes("large:\(slice)"), reads: 50) }
            let report = budget.report(of: counters.map { $0.drain() }, durationMilliseconds: 100)
            let large = report.entries.first { $0.key == bytes("large:\(slice)") }
            #expect(large?.reads == 100 && large?.error == 0 && large?.sliceSpan == 1)
            // No other key has more than one access, whether there was room for it or not.
            #expect(report.unlistedBound == 1)
        }
    }

    /// Once per 100 ms on this agent, far below thousands of hotter keys: still told, once a second.
    @Test func theTailIsToldOnceASecond() {
        let budget = ReportBudget(bytesPerSecond: 32 << 10)
        let counter = SliceCounter()
        var told: [UInt64] = []
        for _ in 0..<50 {
            // 100 keys that always win the head, and noise that never comes back.
            for number in 0..<100 { counter.record(key(number), reads: 100) }
            for _ in 0..<1_000 { counter.record(bytes("noise:\(told.count)")) }
            counter.record(bytes("thin"))
            let report = budget.report(of: counter.drain(), durationMilliseconds: 100)
            for entry in report.entries where entry.key == bytes("thin") {
                #expect(entry.reads == UInt64(entry.sliceSpan))
                told.append(entry.reads)
            }
        }
        #expect(told.reduce(0, +) >= 40)
    }

    @Test func watchedKeysAreToldBeforeTheRestOfTheTail() {
        let watchedKey = bytes("published")
        func tellings(isWatched: Bool) -> UInt64 {
            let budget = ReportBudget(bytesPerSecond: 4 << 10)
            if isWatched { budget.watch(hashes: [KeyHash.hash(watchedKey, seed: seed)]) }
            let counter = SliceCounter()
            var reads: UInt64 = 0
            for slice in 0..<30 {
                for number in 0..<3_000 { counter.record(key(number), reads: 3) }
                if slice % 10 == 0 { counter.record(watchedKey) }
                let report = budget.report(of: counter.drain(), durationMilliseconds: 100)
                reads += report.entries.filter { $0.key == watchedKey }.reduce(0) { $0 + $1.reads }
            }
            return reads
        }
        #expect(tellings(isWatched: false) == 0)
        #expect(tellings(isWatched: true) >= 2)
    }
}
