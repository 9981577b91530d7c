/// The keys with the highest counters among those offered: at most `limit`, whatever is offered, each once.
struct TopKeys: Sendable {
    private let limit: Int
    /// By counter.
    private var keys: [Set<[UInt8]>] = Array(repeating: [], count: LFUSettings.counterMax + 1)
    private var counters: [[UInt8]: Int] = [:]
    /// The lowest counter that any kept key has.
    private var lowest = LFUSettings.counterMax

    init(limit: Int) { self.limit = limit }

    /// A node's `SCAN` may name a key several times; its newest counter counts.
    mutating func offer(_ key: [UInt8], counter: Int) {
        let counter = min(max(counter, 0), LFUSettings.counterMax)
        if let former = counters[key] {
            keys[former].remove(key)
        } else if counters.count >= limit {
            settle()
            guard counter > lowest, let least = keys[lowest].popFirst() else { return }
            counters[least] = nil
        }
        counters[key] = counter
        keys[counter].insert(key)
        lowest = min(lowest, counter)
    }

    private mutating func settle() {
        while lowest < LFUSettings.counterMax, keys[lowest].isEmpty { lowest += 1 }
    }

    /// The highest first, equals by key.
    var sorted: [(key: [UInt8], counter: Int)] {
        counters.map { (key: $0.key, counter: $0.value) }.sorted { left, right in
            left.counter == right.counter
                ? left.key.lexicographicallyPrecedes(right.key) : left.counter > right.counter
        }
    }
}
