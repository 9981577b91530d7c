import HotKeyMitigation
import Testing

@Suite struct HotKeyTableTests {
    @Test("finds every key of a full table and no other", arguments: [UInt64(0), 1, 0xfeed_face_cafe_beef])
    func full(seed: UInt64) {
        let policies = (0..<10_000).map { policy("hot:\($0)", copies: $0) }
        let table = HotKeyTable(policies, seed: seed)
        #expect(table.count == 10_000)
        for number in 0..<10_000 {
            let index = "hot:\(number)".withRaw { table.index(of: $0, hash: FastHash.hash($0, seed: seed)) }
            #expect(index.map { table[$0].copies } == number)
            #expect("cold:\(number)".withRaw { table.index(of: $0) } == nil)
        }
    }

    @Test("keys with the same hash are told apart by their bytes")
    func collision() {
        let table = HotKeyTable([policy("a"), policy("b")], seed: 7)
        "a".withRaw { key in
            let hash = FastHash.hash(key, seed: 7)
            // The hash of "a" for other bytes: what a full collision looks like to the table.
            #expect("x".withRaw { table.index(of: $0, hash: hash) } == nil)
            #expect(table.index(of: key, hash: hash) == 0)
        }
    }

    @Test("all sixteen slots' hashes pressed onto few positions still find their keys")
    func crowded() {
        // Of 200 keys those that begin at the same eight positions of a small table.
        var crowd: [HotKeyPolicy] = []
        for number in 0..<20_000 where crowd.count < 200 {
            let candidate = policy("k\(number)")
            if candidate.key.withRaw({ FastHash.hash($0, seed: 3) }) & 511 < 8 { crowd.append(candidate) }
        }
        #expect(crowd.count == 200)
        let table = HotKeyTable(crowd, seed: 3)
        for (index, policy) in crowd.enumerated() {
            #expect(policy.key.withRaw { table.index(of: $0) } == index)
        }
        #expect("absent".withRaw { table.index(of: $0) } == nil)
    }

    @Test("a key given twice counts once, with its last policy")
    func twice() {
        let table = HotKeyTable([policy("a", copies: 1), policy("b"), policy("a", copies: 5)], seed: 1)
        #expect(table.count == 2)
        #expect("a".withRaw { table.index(of: $0) }.map { table[$0].copies } == 5)
    }

    @Test("the empty table and the empty key")
    func empty() {
        #expect("a".withRaw { HotKeyTable.empty.index(of: $0) } == nil)
        #expect("".withRaw { HotKeyTable([policy("")], seed: 0).index(of: $0) } == 0)
        #expect("".withRaw { HotKeyTable([policy("a")], seed: 0).index(of: $0) } == nil)
    }

    @Test("the lifetimes of a split never add up to more than the cap")
    func split() {
        for kind in MitigationKind.allCases {
            for cap in [UInt64(0), 1, 999, second, 5 * second] {
                let (local, copy) = HotKeyPolicy.split(capNanoseconds: cap, kind: kind)
                #expect(local + copy == (kind == .none ? 0 : cap))
                #expect(kind.usesLocalCache || local == 0)
                #expect(kind.usesCopies || copy == 0)
            }
        }
    }
}

@Suite struct FastHashTests {
    @Test("every length and every byte counts, and so does the seed")
    func everyByteCounts() {
        var seen: Set<UInt64> = []
        var made = 0
        for length in 0..<80 {
            var bytes = [UInt8](repeating: 0, count: length)
            seen.insert(bytes.withRaw { FastHash.hash($0, seed: 1) })
            made += 1
            for position in 0..<length {
                bytes[position] = 1
                seen.insert(bytes.withRaw { FastHash.hash($0, seed: 1) })
                made += 1
                bytes[position] = 0
            }
        }
        #expect(seen.count == made)
        #expect("a".withRaw { FastHash.hash($0, seed: 1) } != "a".withRaw { FastHash.hash($0, seed: 2) })
    }

    @Test("one flipped bit flips about half of the hash")
    func avalanche() {
        var random = SeededRandom(seed: 5)
        for length in [3, 7, 12, 16, 33, 64] {
            var flips = 0
            var samples = 0
            for _ in 0..<200 {
                var bytes = (0..<length).map { _ in UInt8.random(in: 0...255, using: &random) }
                let before = bytes.withRaw { FastHash.hash($0, seed: 9) }
                let bit = Int.random(in: 0..<(length * 8), using: &random)
                bytes[bit / 8] ^= 1 << UInt8(bit % 8)
                flips += (before ^ bytes.withRaw { FastHash.hash($0, seed: 9) }).nonzeroBitCount
                samples += 64
            }
            let share = Double(flips) / Double(samples)
            #expect((0.48...0.52).contains(share), "length \(length): \(share)")
        }
    }
}
