import Testing

@testable import HotKeyDetection

@Suite struct TopSelectorTests {
    /// What is taken in order until the bytes are used up is what sorting everything would give.
    @Test(arguments: [UInt64](1...20))
    func keepsAsManyAsFillTheBytes(streamSeed: UInt64) {
        var generator = SeededGenerator(seed: streamSeed)
        let bytesMax = 1_000
        var selector = TopSelector(bytesMax: bytesMax)
        var taken: [Int] = []
        for count in [0, 1, 30, 3_000] {
            let offers = (0..<count).map { record in
                // Distinct weights, so that there is one right order.
                (
                    weight: UInt64.random(in: 0..<50, using: &generator) << 32 | UInt64(record),
                    bytes: Int.random(in: 3...400, using: &generator), record: record
                )
            }
            for offer in offers { selector.offer(weight: offer.weight, bytes: offer.bytes, record: offer.record) }
            selector.takeSorted(into: &taken)
            var left = bytesMax
            let expected = offers.sorted { $0.weight > $1.weight }.prefix { offer in
                defer { left -= offer.bytes }
                return left > 0
            }
            #expect(taken == expected.map(\.record), "seed \(streamSeed), \(count) offers")
        }
    }
}
