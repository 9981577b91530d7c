import HotKeyMitigation
import Testing

@Suite struct TwoChoicesTests {
    @Test("the busiest of many stays near the mean, unlike with one random choice")
    func spread() {
        var random = SeededRandom(seed: 11)
        let nodes = 8
        var two = [Int](repeating: 0, count: nodes)
        var one = [Int](repeating: 0, count: nodes)
        for _ in 0..<8000 {
            let chosen = TwoChoices.choose(
                count: nodes, random: random.next(), score: { Double(two[$0]) }, usable: { _ in true })
            two[chosen!] += 1
            one[Int.random(in: 0..<nodes, using: &random)] += 1
        }
        #expect(two.max()! <= 1004, "\(two)")
        #expect(one.max()! > two.max()!, "\(one)")
    }

    @Test("never gives an unusable candidate, and one whenever there is one")
    func usable() {
        var random = SeededRandom(seed: 12)
        for _ in 0..<20_000 {
            let count = Int.random(in: 0...9, using: &random)
            let mask = random.next()
            let usable = (0..<count).filter { mask >> UInt64($0) & 1 == 1 }
            let chosen = TwoChoices.choose(
                count: count, random: random.next(), score: { Double($0 * 7 % 5) },
                usable: { mask >> UInt64($0) & 1 == 1 })
            #expect(chosen.map { usable.contains($0) } ?? usable.isEmpty)
        }
    }

    @Test("the worst of all is never chosen, with unusable ones among them too")
    func avoidsTheWorst() {
        var random = SeededRandom(seed: 13)
        var counts = [Int](repeating: 0, count: 6)
        for _ in 0..<6000 {
            let chosen = TwoChoices.choose(
                count: 6, random: random.next(), score: { $0 == 3 ? 100 : 1 }, usable: { $0 != 0 && $0 != 5 })
            counts[chosen!] += 1
        }
        #expect(counts[0] + counts[3] + counts[5] == 0)
        #expect([1, 2, 4].allSatisfy { counts[$0] > 1500 }, "\(counts)")
    }

    @Test("all pairs are drawn about equally often")
    func pairsAreUniform() {
        var random = SeededRandom(seed: 14)
        var counts: [Int: Int] = [:]
        for _ in 0..<12_000 {
            var asked: [Int] = []
            _ = TwoChoices.choose(
                count: 4, random: random.next(),
                score: {
                    asked.append($0); return 0
                }, usable: { _ in true })
            counts[asked.min()! * 4 + asked.max()!, default: 0] += 1
        }
        #expect(counts.count == 6)
        #expect(counts.values.allSatisfy { (1800...2200).contains($0) }, "\(counts)")
    }
}

@Suite struct NodeLoadTests {
    @Test("the score grows with latency and with what is in flight")
    func score() {
        var load = NodeLoad()
        let idle = load.score
        #expect(idle > 0)
        load.sent()
        #expect(load.inFlight == 1)
        #expect(load.score == idle * 2)
        load.completed(latencyNanoseconds: 50 * millisecond)
        #expect(load.inFlight == 0)
        #expect(load.score > idle)
    }

    @Test("a node that fails at once does not look fast")
    func failing() {
        var failing = NodeLoad()
        var slow = NodeLoad()
        for _ in 0..<20 {
            failing.sent()
            failing.failed()
            slow.sent()
            slow.completed(latencyNanoseconds: 2 * millisecond)
        }
        #expect(failing.score > slow.score)
    }

    @Test("a node that was slow once comes back, without being asked")
    func relaxes() {
        var load = NodeLoad()
        let idle = load.score
        for _ in 0..<50 {
            load.sent()
            load.completed(latencyNanoseconds: .max)
        }
        #expect(load.latencyNanoseconds <= 1_000_000_000)
        load.relax()
        let before = load.score
        for _ in 0..<50 { load.relax() }
        #expect(load.score < before)
        #expect(load.score == idle)
    }
}
