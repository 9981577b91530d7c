import HotKeyMitigation
import Testing

@Suite struct ClusterCopiesTests {
    /// Slots in equal runs.
    private func owner(_ primaries: Int) -> (Int) -> Int? { { $0 * primaries / ClusterSlot.count } }
    private func key(_ number: Int) -> [UInt8] { Array("item:\(number)".utf8) }

    @Test func everySlotHasATagThatIsInIt() {
        for slot in 0..<ClusterSlot.count {
            let tag = ClusterCopies.tag(of: slot)
            #expect(tag.withUnsafeBytes { ClusterSlot.of($0) } == slot)
            #expect(tag.count <= 4)
        }
    }

    @Test func aCopysNameIsInItsSlotWhateverTheKeyHoldsAndIsKnownForOne() {
        for key in ["a", "{tag}a", "}{", "{", "user:{42}:x", ""] {
            let name = ClusterCopies.name(key: Array(key.utf8), copy: 3, slot: 12_345)
            #expect(name.withUnsafeBytes { ClusterSlot.of($0) } == 12_345)
            #expect(name.withUnsafeBytes { CopyCodec.isCopyName($0) })
            #expect(String(decoding: name, as: UTF8.self).hasPrefix("__hkcopy:3:{"))
            #expect(String(decoding: name, as: UTF8.self).hasSuffix("}:" + key))
        }
    }

    @Test(arguments: [2, 3, 8, 40])
    func copiesLieOnDistinctPrimariesOtherThanTheHome(primaries: Int) {
        let owner = owner(primaries)
        var perPrimary = [Int](repeating: 0, count: primaries)
        for number in 0..<2_000 {
            let key = key(number)
            let slots = ClusterCopies.slots(of: key, count: 3, owner: owner)
            #expect(slots.count == min(3, primaries - 1))
            let home = key.withUnsafeBytes { owner(ClusterSlot.of($0)) }
            let owners = slots.map(owner)
            #expect(Set(owners).count == owners.count && !owners.contains(home))
            for case let primary? in owners { perPrimary[primary] += 1 }
            #expect(ClusterCopies.slots(of: key, count: 3, owner: owner) == slots)
            // A smaller number is the beginning of a larger one.
            #expect(ClusterCopies.slots(of: key, count: 1, owner: owner) == Array(slots.prefix(1)))
        }
        let mean = Double(perPrimary.reduce(0, +)) / Double(primaries)
        #expect(perPrimary.allSatisfy { abs(Double($0) - mean) < mean * 0.35 + 1 }, "\(perPrimary)")
    }

    @Test func aSlotThatChangesHandsMovesFewCopies() {
        let owner = owner(6)
        var moved = 0
        for number in 0..<2_000 {
            let key = key(number)
            let before = ClusterCopies.slots(of: key, count: 3, owner: owner)
            // A tenth of one primary's slots.
            let after = ClusterCopies.slots(of: key, count: 3) { $0 < ClusterSlot.count / 60 ? 5 : owner($0) }
            if before != after { moved += 1 }
        }
        #expect(moved > 0 && moved < 400, "\(moved)")
    }

    @Test func whereNobodyServesThereIsNoCopy() {
        #expect(ClusterCopies.slots(of: key(1), count: 3) { _ in nil as Int? } == [])
        #expect(ClusterCopies.slots(of: key(1), count: 3) { _ in 0 as Int? } == [])
        #expect(ClusterCopies.slots(of: key(1), count: 0, owner: owner(3)) == [])
    }
}
