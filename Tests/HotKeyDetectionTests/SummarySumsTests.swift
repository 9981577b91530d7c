import Testing

@testable import HotKeyDetection

@Suite struct SummarySumsTests {
    private func counted(
        _ streamSeed: UInt64, keysMax: Int
    ) -> (parts: [SliceSummary], truth: [[UInt8]: UInt64]) {
        var generator = SeededGenerator(seed: streamSeed)
        let zipf = Zipf(count: 10_000, exponent: 0.99)
        let counters = (0..<4).map { _ in SliceCounter(keysMax: keysMax) }
        var truth: [[UInt8]: UInt64] = [:]
        for _ in 0..<40_000 {
            let key = key(zipf.draw(using: &generator))
            counters[Int.random(in: 0..<4, using: &generator)].record(key)
            truth[key, default: 0] += 1
        }
        return (counters.map { $0.drain() }, truth)
    }

    private func byKey(_ sums: SummarySums, _ parts: [SliceSummary]) -> [[UInt8]: SummarySums.Sum] {
        Dictionary(
            uniqueKeysWithValues: sums.sums.map { (parts[$0.part].key(of: parts[$0.part].entries[$0.place]), $0) })
    }

    /// With a floor of 0 every key is summed, and what all parts together say is as exact as the parts.
    @Test(arguments: [UInt64](1...2), [0.0, 1, 40, 1_000, .infinity])
    func boundsHold(streamSeed: UInt64, floor: Double) {
        var sums = SummarySums()
        // The second round uses what the first has left behind.
        for streamSeed in [streamSeed + 100, streamSeed] {
            let (parts, truth) = counted(streamSeed, keysMax: 200)
            sums.add(parts, accessesFloor: floor, bytesFloor: .infinity)
            let listed = byKey(sums, parts)
            let outOfBounds = truth.filter { key, count in
                guard let sum = listed[key] else { return count > sums.unlistedBound }
                return !(sum.counted.accesses...sum.counted.accesses + sum.error).contains(count)
                    || sum.error > 40_000 / 200
            }
            #expect(outOfBounds == [:], "seed \(streamSeed), floor \(floor)")
            #expect(listed.allSatisfy { Double($0.value.counted.accesses) >= floor })
            #expect(Double(sums.unlistedBound) <= 40_000 / 200 + (floor.isFinite ? floor : 40_000))
        }
    }

    @Test(arguments: [UInt64](1...4))
    func findsAllThatComeToTheFloorInSum(streamSeed: UInt64) {
        let (parts, truth) = counted(streamSeed, keysMax: 16_384)
        var sums = SummarySums()
        sums.add(parts, accessesFloor: 30, bytesFloor: .infinity)
        let expected = truth.filter { $0.value >= 30 }
        #expect(byKey(sums, parts).mapValues(\.counted.accesses) == expected)
        #expect(sums.sums.allSatisfy { $0.error == 0 })
        #expect(sums.unlistedBound >= truth.values.filter { $0 < 30 }.max() ?? 0)
    }

    @Test func bytesCountToo() {
        let counters = [SliceCounter(), SliceCounter()]
        for counter in counters {
            counter.addReply(counter.record(key(1)), bytes: 600, isMiss: true)
            counter.addReply(counter.record(key(2)), bytes: 400, isMiss: false)
        }
        let parts = counters.map { $0.drain() }
        var sums = SummarySums()
        sums.add(parts, accessesFloor: 100, bytesFloor: 1_000)
        #expect(
            byKey(sums, parts).mapValues(\.counted) == [key(1): AccessTotals(reads: 2, replyBytes: 1_200, misses: 2)])
    }

    @Test func nothingCountedGivesNothing() {
        var sums = SummarySums()
        sums.add([], accessesFloor: 0, bytesFloor: 0)
        #expect(sums.sums.isEmpty && sums.unlistedBound == 0)
        sums.add([SliceCounter().drain()], accessesFloor: 0, bytesFloor: 0)
        #expect(sums.sums.isEmpty && sums.unlistedBound == 0)
    }
}
