import HotKeyMitigation
import Testing

/// A reference, so that what changes it can stand in an expectation.
private final class Number {
    private var base: CopyNumber

    init(copies: Int? = nil) { base = CopyNumber(copies: copies) }

    func observe(readsPerSecond: Double, placeReadsPerSecond: Double, copiesMax: Int, now: UInt64) -> Int {
        base.observe(
            readsPerSecond: readsPerSecond, placeReadsPerSecond: placeReadsPerSecond, copiesMax: copiesMax, now: now)
    }
}

@Suite struct CopyNumberTests {
    @Test(
        "as many copies as keep every place within its part, one at least, as many as there are nodes for at most",
        arguments: [(500.0, 1), (1_000, 1), (2_000, 1), (2_001, 2), (5_000, 4), (7_900, 7), (9_000, 7), (1e9, 7)])
    func first(reads: Double, expected: Int) {
        let number = Number()
        #expect(number.observe(readsPerSecond: reads, placeReadsPerSecond: 1_000, copiesMax: 7, now: 0) == expected)
    }

    @Test("without another node there are no copies, and none above the module's limit")
    func bounds() {
        let alone = Number()
        #expect(alone.observe(readsPerSecond: 1e6, placeReadsPerSecond: 1_000, copiesMax: 0, now: 0) == 0)
        let many = Number()
        #expect(
            many.observe(readsPerSecond: 1e9, placeReadsPerSecond: 1, copiesMax: 64, now: 0)
                == HotKeyMitigationLimits.copiesMax)
        // A node was taken away.
        #expect(many.observe(readsPerSecond: 1e9, placeReadsPerSecond: 1, copiesMax: 2, now: 1) == 2)
    }

    @Test("a rate that swings by half around any level changes the number at most once")
    func steady() {
        for level in stride(from: 1_500.0, to: 20_000, by: 370) {
            let number = Number()
            var seen: [Int] = []
            for step in 0..<300 {
                let reads = level * (step.isMultiple(of: 7) ? 0.85 : step.isMultiple(of: 3) ? 1.15 : 1)
                let now = UInt64(step) * second
                let copies = number.observe(
                    readsPerSecond: reads, placeReadsPerSecond: 1_000, copiesMax: 16, now: now)
                if seen.last != copies { seen.append(copies) }
            }
            #expect(seen.count <= 2, "\(level) reads/s: \(seen)")
        }
    }

    @Test("more reads bring more copies after a rest, fewer reads fewer copies after half a minute")
    func follows() {
        let number = Number()
        func observe(_ reads: Double, at time: UInt64) -> Int {
            number.observe(
                readsPerSecond: reads, placeReadsPerSecond: 1_000, copiesMax: 16, now: time * second)
        }
        #expect(observe(3_000, at: 0) == 2)
        #expect(observe(9_000, at: 1) == 2)
        #expect(observe(9_000, at: 5) == 8)
        #expect(observe(2_000, at: 10) == 8)
        #expect(observe(4_000, at: 25) == 8)
        #expect(observe(2_000, at: 39) == 8)
        // The most that was needed meanwhile, with room.
        #expect(observe(2_000, at: 40) == 5)
        #expect(observe(9_000, at: 41) == 5)
        #expect(observe(9_000, at: 46) == 8)
    }

    @Test("what another coordinator has published stays until there is a reason to change it")
    func adopted() {
        let number = Number(copies: 4)
        #expect(number.observe(readsPerSecond: 5_000, placeReadsPerSecond: 1_000, copiesMax: 16, now: 0) == 4)
    }

    @Test("whatever the rates, two changes are never closer than the rest, unless nodes go")
    func random() {
        var random = SeededRandom(seed: 7)
        for _ in 0..<200 {
            let number = Number()
            var last: (copies: Int, at: UInt64)?
            for step in 0..<400 as Range<UInt64> {
                let copies = number.observe(
                    readsPerSecond: .random(in: 0...20_000, using: &random), placeReadsPerSecond: 1_000, copiesMax: 9,
                    now: step * second)
                #expect((1...9).contains(copies))
                if let before = last, before.copies != copies { #expect(step - before.at >= 5) }
                if last?.copies != copies { last = (copies, step) }
            }
        }
    }
}
