/// Requests that one cache node would have had.
public struct NodeLoad: Sendable, Hashable {
    public var requests: UInt64 = 0
    /// In the busiest second, seconds being counted from the trace's first request.
    public var peakPerSecond: UInt64 = 0
}

/// The load of every node, as the trace brings it and with its hot keys taken care of.
struct NodeLoads {
    private struct Counter {
        var load = NodeLoad()
        var thisSecond: UInt64 = 0

        mutating func add(_ count: UInt64) {
            load.requests += count
            thisSecond += count
        }

        mutating func endSecond() {
            load.peakPerSecond = max(load.peakPerSecond, thisSecond)
            thisSecond = 0
        }
    }
    private var before: [Counter]
    private var after: [Counter]
    private var second: UInt64 = 0

    init(nodeCount: Int) {
        before = Array(repeating: Counter(), count: nodeCount)
        after = before
    }

    mutating func advance(to second: UInt64) {
        guard second != self.second else { return }
        self.second = second
        for node in before.indices {
            before[node].endSecond()
            after[node].endSecond()
        }
    }

    mutating func addBefore(_ count: UInt64, node: Int) { before[node].add(count) }
    mutating func addAfter(_ count: UInt64, node: Int) { after[node].add(count) }

    /// What a node has had in the running second: the score by which copies are chosen here.
    func score(_ node: Int) -> Double { Double(after[node].thisSecond) }

    mutating func finish() -> [(before: NodeLoad, after: NodeLoad)] {
        advance(to: .max)
        return zip(before, after).map { ($0.load, $1.load) }
    }
}
