import HotKeyMitigation
import Testing

@Suite struct ObservedMitigationTests {
    private func policy(_ key: String, _ kind: MitigationKind, copies: Int = 0) -> HotKeyPolicy {
        HotKeyPolicy(
            key: Array(key.utf8), kind: kind, copies: copies, localLifetimeNanoseconds: second,
            copyLifetimeNanoseconds: second, staleOnErrorNanoseconds: 0)
    }

    @Test("the reads of one lifetime but the first would have been local ones; a write begins anew")
    func local() {
        var observed = ObservedMitigation(table: HotKeyTable([policy("k", .cache)], seed: 1), previous: nil)
        var savings: [ObservedMitigation.Saving] = []
        for now in [0, 1, second - 1, second, second + 1] { savings.append(observed.read(0, isGet: true, now: now)) }
        #expect(savings == [.nothing, .byLocalCache, .byLocalCache, .nothing, .byLocalCache])
        observed.write(0)
        #expect(observed.read(0, isGet: false, now: second + 2) == .nothing)
        #expect(observed.read(0, isGet: false, now: second + 3) == .byLocalCache)
    }

    @Test("three of four reads would have gone to the three copies; only what a copy can answer")
    func copies() {
        var observed = ObservedMitigation(table: HotKeyTable([policy("k", .copies, copies: 3)], seed: 1), previous: nil)
        var byCopy = 0
        for now in 0..<400 as Range<UInt64> where observed.read(0, isGet: true, now: now) == .byCopy { byCopy += 1 }
        #expect(byCopy == 300)
        #expect(observed.read(0, isGet: false, now: 500) == .nothing)
    }

    @Test("a key of both goes to a copy only where the local cache would not have answered")
    func both() {
        var observed = ObservedMitigation(table: HotKeyTable([policy("k", .both, copies: 1)], seed: 1), previous: nil)
        #expect(observed.read(0, isGet: true, now: 0) == .byCopy)
        #expect(observed.read(0, isGet: true, now: 1) == .byLocalCache)
        #expect(observed.read(0, isGet: true, now: second) == .nothing)
    }

    @Test("a key that is only watched saves nothing")
    func watched() {
        var observed = ObservedMitigation(table: HotKeyTable([policy("k", .none)], seed: 1), previous: nil)
        for now in 0..<10 as Range<UInt64> { #expect(observed.read(0, isGet: true, now: now) == .nothing) }
    }

    @Test("a new hot set forgets nothing of the keys that stay")
    func goesOn() {
        var first = ObservedMitigation(
            table: HotKeyTable([policy("a", .cache), policy("b", .cache)], seed: 1), previous: nil)
        for index in 0..<2 { _ = first.read(index, isGet: true, now: 0) }
        var second = ObservedMitigation(
            table: HotKeyTable([policy("b", .cache), policy("c", .cache)], seed: 1), previous: first)
        for index in 0..<2 {
            let isKnown = second.table[index].key == Array("b".utf8)
            #expect(second.read(index, isGet: true, now: 1) == (isKnown ? .byLocalCache : .nothing))
        }
    }
}
