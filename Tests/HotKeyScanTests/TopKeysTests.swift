import HotKeyTestSupport
import Testing

@testable import HotKeyScan

@Suite struct TopKeysTests {
    @Test func asSortingAllOfThemWould() {
        var generator = SeededGenerator(printing: "top keys")
        for _ in 0..<50 {
            let limit = Int.random(in: 1...30, using: &generator)
            var top = TopKeys(limit: limit)
            var all: [[UInt8]: Int] = [:]
            for number in 0..<Int.random(in: 0...300, using: &generator) {
                let key = Array("k\(number)".utf8)
                all[key] = Int.random(in: 0...255, using: &generator)
                top.offer(key, counter: all[key]!)
            }
            #expect(top.sorted.map(\.counter) == all.values.sorted(by: >).prefix(limit).map { $0 })
            #expect(top.sorted.allSatisfy { all[$0.key] == $0.counter })
        }
    }

    @Test func aKeyThatIsNamedTwiceStandsOnce() {
        var top = TopKeys(limit: 2)
        top.offer([1], counter: 10)
        top.offer([1], counter: 30)
        top.offer([2], counter: 20)
        top.offer([3], counter: 20)
        #expect(top.sorted.map(\.key) == [[1], [2]])
        // What has fallen gives way.
        top.offer([1], counter: 5)
        top.offer([3], counter: 6)
        #expect(top.sorted.map(\.key) == [[2], [3]])
    }
}
