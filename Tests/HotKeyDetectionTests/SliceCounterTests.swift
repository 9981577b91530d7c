import Testing

@testable import HotKeyDetection

extension SliceSummary {
    /// The keys whose true count lies outside of what this summary says about them.
    fileprivate func keysOutOfBounds(_ truth: [[UInt8]: UInt64]) -> [[UInt8]] {
        let listed = byKey
        return truth.filter { key, count in
            guard let entry = listed[key] else { return count > unlistedBound }
            return !(entry.accesses...entry.accesses + entry.error).contains(count) || entry.error > unlistedBound
        }.map(\.key)
    }
}

@Suite struct SliceCounterTests {
    @Test func countsExactlyWhileTheKeysFit() {
        var generator = SeededGenerator(seed: 1)
        let zipf = Zipf(count: 5_000, exponent: 0.99)
        let counter = SliceCounter()
        for slice in 0..<3 {
            var truth: [[UInt8]: AccessTotals] = [:]
            for _ in 0..<50_000 {
                let key = key(zipf.draw(using: &generator) + slice * 100)
                let writes = UInt32.random(in: 0...2, using: &generator)
                let slot = counter.record(key, reads: 1, writes: writes)
                counter.addReply(slot, bytes: 100, isMiss: false)
                truth[key, default: AccessTotals()].reads += 1
                truth[key, default: AccessTotals()].writes += UInt64(writes)
                truth[key, default: AccessTotals()].replyBytes += 100
            }
            let summary = counter.drain()
            #expect(summary.unlistedBound == 0)
            #expect(summary.entries.count == truth.count)
            #expect(summary.totals.reads == 50_000)
            #expect(summary.totals.replyBytes == 5_000_000)
            let counted = summary.byKey.mapValues {
                AccessTotals(reads: $0.reads, writes: $0.writes, replyBytes: $0.replyBytes)
            }
            #expect(counted == truth)
            #expect(summary.entries.allSatisfy { $0.error == 0 })
        }
    }

    /// Replies come while their access waits to be looked up, soon after, and much later; and keys are long enough to fill a batch
    /// of names before one of accesses.
    @Test(arguments: [UInt64](1...4), [0, 700])
    func replyBytesFindTheirKey(streamSeed: UInt64, padding: Int) {
        var generator = SeededGenerator(seed: streamSeed)
        let zipf = Zipf(count: 1_000, exponent: 0.99)
        let counter = SliceCounter()
        var truth: [[UInt8]: UInt64] = [:]
        var awaited: [(slot: CounterSlot, key: [UInt8])] = []
        for _ in 0..<30_000 {
            let rank = zipf.draw(using: &generator)
            let key = key(rank) + [UInt8](repeating: UInt8(ascii: "x"), count: padding)
            awaited.append((counter.record(key), key))
            guard awaited.count > Int.random(in: 0..<100, using: &generator) else { continue }
            let answered = awaited.remove(at: Int.random(in: 0..<awaited.count, using: &generator))
            counter.addReply(answered.slot, bytes: rank + 1, isMiss: false)
            truth[answered.key, default: 0] += UInt64(rank + 1)
        }
        let summary = counter.drain()
        #expect(summary.totals.reads == 30_000)
        #expect(summary.totals.replyBytes == truth.values.reduce(0, +))
        #expect(summary.byKey.mapValues(\.replyBytes).filter { $0.value > 0 } == truth, "seed \(streamSeed)")
    }

    @Test func bytesOfAForgottenAccessGoToTheTotalsOnly() {
        let counter = SliceCounter()
        let (first, second) = (counter.record(key(1)), counter.record(key(2)))
        for _ in 0..<DetectionLimits.awaitedRepliesMax - 1 { counter.record(key(3)) }
        counter.addReply(first, bytes: 500, isMiss: true)
        counter.addReply(second, bytes: 70, isMiss: true)
        let summary = counter.drain()
        #expect(summary.totals.replyBytes == 570)
        #expect(summary.byKey[key(1)]?.replyBytes == 0)
        #expect(summary.byKey[key(2)]?.replyBytes == 70)
        #expect(summary.totals.misses == 2)
        #expect(summary.byKey[key(2)]?.misses == 1)
        #expect(summary.byKey[key(3)]?.replyBytes == 0)
    }

    @Test(arguments: [UInt64](1...4), [0.6, 0.99, 1.4])
    func boundsHoldBeyondTheTable(streamSeed: UInt64, exponent: Double) {
        var generator = SeededGenerator(seed: streamSeed)
        let zipf = Zipf(count: 20_000, exponent: exponent)
        let places = 256
        let counter = SliceCounter(keysMax: places)
        var truth: [[UInt8]: UInt64] = [:]
        var total: UInt64 = 0
        for _ in 0..<30_000 {
            let key = key(zipf.draw(using: &generator))
            let reads = UInt32.random(in: 0...3, using: &generator)
            let writes = UInt32.random(in: 0...1, using: &generator)
            counter.record(key, reads: reads, writes: writes)
            truth[key, default: 0] += UInt64(reads + writes)
            total += UInt64(reads + writes)
        }
        let summary = counter.drain()
        let place: Comment = "seed \(streamSeed), exponent \(exponent)"
        #expect(summary.unlistedBound <= total / UInt64(places), place)
        #expect(summary.entries.count == places, place)
        #expect(summary.keysOutOfBounds(truth) == [], place)
    }

    @Test(arguments: [UInt64](1...4))
    func boundsHoldWhenNamesOutgrowTheArena(streamSeed: UInt64) {
        var generator = SeededGenerator(seed: streamSeed)
        let zipf = Zipf(count: 2_000, exponent: 1.1)
        let counter = SliceCounter(keysMax: 1_000, arenaBytesMax: 8_192)
        for _ in 0..<3 {
            var truth: [[UInt8]: UInt64] = [:]
            for _ in 0..<20_000 {
                let rank = zipf.draw(using: &generator)
                let key = key(rank) + [UInt8](repeating: UInt8(ascii: "x"), count: rank * 37 % 900)
                counter.record(key)
                truth[key, default: 0] += 1
            }
            let summary = counter.drain()
            #expect(summary.totals.reads == 20_000)
            #expect(!summary.entries.isEmpty)
            #expect(summary.keysOutOfBounds(truth) == [], "seed \(streamSeed)")
        }
    }

    @Test func aReplyToAPastSliceGoesToTheTotalsOnly() {
        let counter = SliceCounter()
        let slot = counter.record(key(1))
        _ = counter.drain()
        counter.record(key(2))
        counter.addReply(slot, bytes: 500, isMiss: true)
        let summary = counter.drain()
        #expect(summary.totals == AccessTotals(reads: 1, replyBytes: 500, misses: 1))
        #expect(summary.byKey[key(2)]?.replyBytes == 0)
        #expect(summary.byKey[key(2)]?.misses == 0)
    }

    @Test func aReplyToAKeyThatGaveWayGoesToTheTotalsOnly() {
        let counter = SliceCounter(keysMax: 1)
        let slot = counter.record(key(1))
        let before = counter.record(key(2))
        counter.record(key(2))
        // Looked up only when there are many, or somebody asks.
        for _ in 0..<100 { counter.record(key(2)) }
        counter.addReply(slot, bytes: 500, isMiss: true)
        counter.addReply(before, bytes: 50, isMiss: true)
        let summary = counter.drain()
        #expect(summary.byKey[key(1)] == nil)
        #expect(summary.byKey[key(2)]?.replyBytes == 0)
        #expect(summary.byKey[key(2)]?.error == 1)
        #expect(summary.byKey[key(2)]?.reads == 101)
        #expect(summary.unlistedBound == 1)
        #expect(summary.totals == AccessTotals(reads: 103, replyBytes: 550, misses: 2))
    }

    @Test func whatIsAskedForOnceTakesNobodysPlace() {
        let counter = SliceCounter(keysMax: 256)
        for number in 0..<256 { for _ in 0..<10 { counter.record(key(number)) } }
        for number in 0..<1_000 { counter.record(key(1_000 + number)) }
        let summary = counter.drain()
        #expect(summary.entries.count == 256)
        #expect(summary.entries.allSatisfy { $0.reads == 10 && $0.error == 0 })
        // Some four keys a cell.
        #expect((1...10).contains(summary.unlistedBound))
        // The next slice knows nothing of it.
        for number in 0..<256 { counter.record(key(number)) }
        #expect(counter.drain().unlistedBound == 0)
    }

    @Test func aKeyThatComesBackIsBoundedByWhatItHad() {
        let counter = SliceCounter(keysMax: 1)
        for _ in 0..<50 { counter.record(key(1)) }
        // It takes the place with its 51st access, and gives it back with the other's 52nd.
        for _ in 0..<60 { counter.record(key(2)) }
        for _ in 0..<100 { counter.record(key(1)) }
        let summary = counter.drain()
        let entry = summary.byKey[key(1)]
        #expect(entry.map { $0.accesses <= 150 && 150 <= $0.accesses + $0.error } == true)
        #expect(summary.unlistedBound >= 60)
        #expect(summary.unlistedBound <= 210)
    }

    @Test func readsThatFindNothingAreCountedApartAndWritesAreNoneOfThem() {
        let counter = SliceCounter()
        for _ in 0..<3 { counter.addReply(counter.record(key(1)), bytes: 5, isMiss: true) }
        counter.addReply(counter.record(key(1)), bytes: 20, isMiss: false)
        // SET … NX and LPOP answer without a value too.
        counter.addReply(counter.record(key(1), reads: 0, writes: 1), bytes: 5, isMiss: true)
        let long = [UInt8](repeating: 7, count: DetectionLimits.keyBytesMax + 1)
        counter.addReply(counter.record(long, reads: 0, writes: 1), bytes: 5, isMiss: true)
        let summary = counter.drain()
        #expect(summary.byKey[key(1)]?.misses == 3)
        #expect(summary.byKey[key(1)]?.replyBytes == 40)
        #expect(summary.totals == AccessTotals(reads: 4, writes: 2, replyBytes: 45, misses: 3))
        counter.record(key(1))
        #expect(counter.drain().byKey[key(1)]?.misses == 0)
    }

    /// What carries a slot through the data path knows nothing of it but that it is not 0.
    @Test func aSlotSurvivesItsWayThroughTheDataPath() {
        let counter = SliceCounter()
        for (key, reads, writes) in [(key(1), UInt32(1), UInt32(0)), (key(2), 0, 1), ([], 1, 1)] {
            let slot = counter.record(key, reads: reads, writes: writes)
            #expect(slot.word != 0 && CounterSlot(word: slot.word) == slot)
        }
    }

    @Test func keysOverTheLimitAreCountedInTheTotalsOnly() {
        let counter = SliceCounter()
        let longest = [UInt8](repeating: 7, count: DetectionLimits.keyBytesMax)
        counter.record(longest)
        counter.addReply(counter.record(longest + [7]), bytes: 9, isMiss: true)
        counter.record([])
        let summary = counter.drain()
        #expect(summary.totals == AccessTotals(reads: 3, replyBytes: 9, misses: 1))
        #expect(Set(summary.byKey.keys) == [longest, []])
    }

    @Test func keyTableKeepsItsKeysThroughRemovals() {
        var generator = SeededGenerator(seed: 3)
        let table = KeyTable(keyLimit: 500, arenaByteLimit: 32 << 10)
        var present: [[UInt8]: Int] = [:]
        var (refused, refusedWithRoom) = (0, 0)
        for round in 0..<20_000 {
            let key = key(Int.random(in: 0..<1_200, using: &generator))
            // Few distinct hashes, so that probes run into each other.
            let hash = UInt64(key.last ?? 0)
            let found = key.withUnsafeBytes { table.find($0, hash: hash) }
            guard found == present[key] ?? -1 else {
                Issue.record("round \(round): found \(found), expected \(present[key] ?? -1)")
                return
            }
            if found >= 0 {
                table.remove(found)
                present[key] = nil
            } else {
                let entry = key.withUnsafeBytes { table.insert($0, hash: hash) }
                if entry >= 0 { present[key] = entry }
                refused += entry < 0 ? 1 : 0
                refusedWithRoom += entry < 0 && present.count < 500 ? 1 : 0
            }
        }
        #expect(table.count == present.count)
        #expect(refused > 0 && refusedWithRoom == 0)
    }
}
