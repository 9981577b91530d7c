import HotKeyMitigation
import Testing

@Suite struct StalenessProbeTests {
    private func probe(age: UInt64, cap: UInt64) -> StalenessProbe {
        StalenessProbe(servedAt: second + age, value: CachedOrigin(lastKnownAt: second, capNanoseconds: cap))
    }

    @Test("the same is current however old it is; no answer says nothing")
    func sameAndNothing() {
        #expect(probe(age: 10 * second, cap: second).finding(.same) == .current)
        #expect(probe(age: 10 * second, cap: second).finding(.nothing) == .unknown)
    }

    @Test("a difference says for how long at most, and is a violation only beyond the cap")
    func difference() {
        #expect(
            probe(age: second, cap: second).finding(.different) == .outdated(nanosecondsMax: second, isViolation: false)
        )
        #expect(
            probe(age: second + 1, cap: second).finding(.different)
                == .outdated(nanosecondsMax: second + 1, isViolation: true))
        // A value that was read after the clock was.
        let early = StalenessProbe(servedAt: 5, value: CachedOrigin(lastKnownAt: 7, capNanoseconds: 0))
        #expect(early.finding(.different) == .outdated(nanosecondsMax: 0, isViolation: false))
    }

    @Test("values that differ are never among those that were the same; sums, worst and counts add up")
    func histogram() {
        var first = ObservedStaleness()
        first.record(.current)
        first.record(.outdated(nanosecondsMax: 0, isViolation: false))
        first.record(.outdated(nanosecondsMax: millisecond, isViolation: false))
        first.record(.unknown)
        var total = ObservedStaleness()
        total.record(.outdated(nanosecondsMax: millisecond + 1, isViolation: true))
        total.record(.outdated(nanosecondsMax: 3600 * second, isViolation: true))
        total += first
        #expect(total.counts.count == ObservedStaleness.boundsNanoseconds.count + 1)
        #expect(Array(total.counts.prefix(4)) == [1, 2, 1, 0] && total.counts.last == 1)
        #expect(total.probes == 5 && total.differing == 4 && total.violations == 2 && total.unanswered == 1)
        #expect(total.worstNanoseconds == 3600 * second)
        #expect(total.sumNanoseconds == 3600 * second + 2 * millisecond + 1)
        #expect(ObservedStaleness.boundsNanoseconds == ObservedStaleness.boundsNanoseconds.sorted())
    }
}

@Suite struct HitSamplerTests {
    private func due(_ permille: Int, of hits: Int, seed: UInt64) -> [Int] {
        var random = SeededRandom(seed: seed)
        var sampler = HitSampler(permille: permille, random: random.next())
        var due: [Int] = []
        for hit in 0..<hits where sampler.isDue() {
            due.append(hit)
            sampler.restart(random: random.next())
        }
        return due
    }

    @Test("of 0 none, of 1000 all")
    func ends() {
        #expect(due(0, of: 10_000, seed: 1).isEmpty)
        #expect(due(1000, of: 10_000, seed: 1).count == 10_000)
    }

    @Test("the share is what was asked for", arguments: [1, 3, 7, 333, 600, 999])
    func share(_ permille: Int) {
        let hits = 3_000_000
        let expected = Double(hits * permille) / 1000
        // Distances are even between 1 and twice their mean, so that the count deviates by less than the root of it.
        let found = Double(due(permille, of: hits, seed: 7).count)
        #expect(abs(found - expected) < 5 * expected.squareRoot() + 1, "\(found) instead of \(expected)")
    }

    @Test("keys that are read in turn all have theirs, also where their number and the mean distance fit")
    func noPattern() {
        let found = due(10, of: 1_000_000, seed: 3)
        var byKey = [Int](repeating: 0, count: 100)
        for hit in found { byKey[hit % 100] += 1 }
        #expect(byKey.allSatisfy { (50...150).contains($0) }, "\(byKey)")
    }
}
