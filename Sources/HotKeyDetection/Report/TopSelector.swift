/// Keeps the records of the largest weights out of many, as many as can fill a frame: a binary heap with the smallest on
/// top, bounded in the bytes that its records take at least.
///
/// Every record that it turned away or gave up weighs no more than any that it holds, and those it holds take at least
/// `bytesMax` together. Whoever takes them in order until `bytesMax` is used up thus misses nothing.
struct TopSelector {
    private struct Element: Weighted {
        var weight: UInt64
        var record: UInt32
        var bytes: UInt32
        var number: Int { Int(record) }
    }

    private let bytesMax: Int
    private var heap = LeastHeap<Element>()
    private var bytesHeld = 0

    init(bytesMax: Int) {
        self.bytesMax = bytesMax
    }

    @inline(__always)
    mutating func offer(weight: UInt64, bytes: Int, record: Int) {
        if bytesHeld >= bytesMax, weight <= heap.least.weight { return }
        heap.insert(Element(weight: weight, record: UInt32(record), bytes: UInt32(bytes)))
        bytesHeld &+= bytes
        while bytesHeld &- Int(heap.least.bytes) >= bytesMax {
            bytesHeld &-= Int(heap.least.bytes)
            heap.removeLeast()
        }
    }

    /// Largest weight first; leaves the selector empty, its memory kept.
    mutating func takeSorted(into records: inout [Int]) {
        records.removeAll(keepingCapacity: true)
        heap.takeSorted { records.append(Int($0.record)) }
        bytesHeld = 0
    }
}
