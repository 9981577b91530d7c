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

    @Test func emptySlicesAreNumberedToo() throws {
        let budget = ReportBudget()
        #expect(budget.report(of: .empty, durationMilliseconds: 100).sequence == 1)
        #expect(try budget.report(of: .empty, durationMilliseconds: 100).encoded().count < 16)
    }

    /// Whatever the budget leaves out stays inside the documented bound, with the counter exact and with it full.
    @Test(arguments: [UInt64](1...4), [16_384, 300])
    func boundsContainTheTruthUnderTheCap(streamSeed: UInt64, keysMax: Int) throws {
        var generator = SeededGenerator(seed: streamSeed)
        let zipf = Zipf(count: 10_000, exponent: 0.99)
        let bytesPerSecond = 8 << 10
        let budget = ReportBudget(bytesPerSecond: bytesPerSecond, residualKeysMax: 4_000)
        let counter = SliceCounter(keysMax: keysMax)
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
                counter.record(key)
                truth[key, default: 0] += 1
            }
            let report = budget.report(of: counter.drain(), durationMilliseconds: 100)
            #expect(try report.encoded().count <= bytesPerSecond / 10)
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
