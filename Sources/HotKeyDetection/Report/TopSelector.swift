/// Keeps the records of the largest weights out of many, as many as can fill a frame: a binary heap with the smallest on
/// top, bounded in the bytes that its records take at least.
///
/// Every record that it turned away or gave up weighs no more than any that it holds, and those it holds take at least
/// `bytesMax` together. Whoever takes them in order until `bytesMax` is used up thus misses nothing.
struct TopSelector {
    private struct Element {
        var weight: UInt64
        var record: UInt32
        var bytes: UInt32
    }

    private let bytesMax: Int
    private var heap: [Element] = []
    private var bytesHeld = 0

    init(bytesMax: Int) {
        self.bytesMax = bytesMax
    }

    @inline(__always)
    mutating func offer(weight: UInt64, bytes: Int, record: Int) {
        if bytesHeld >= bytesMax, weight <= heap[0].weight { return }
        push(Element(weight: weight, record: UInt32(record), bytes: UInt32(bytes)))
        bytesHeld &+= bytes
        while bytesHeld &- Int(heap[0].bytes) >= bytesMax { dropLeast() }
    }

    /// Largest weight first; leaves the selector empty, its memory kept.
    mutating func takeSorted(into records: inout [Int]) {
        heap.sort { $0.weight > $1.weight || ($0.weight == $1.weight && $0.record < $1.record) }
        records.removeAll(keepingCapacity: true)
        for element in heap { records.append(Int(element.record)) }
        heap.removeAll(keepingCapacity: true)
        bytesHeld = 0
    }

    private mutating func push(_ element: Element) {
        heap.append(element)
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].weight < heap[parent].weight else { return }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    private mutating func dropLeast() {
        bytesHeld -= Int(heap[0].bytes)
        let last = heap.removeLast()
        guard !heap.isEmpty else { return }
        heap[0] = last
        var parent = 0
        while true {
            var least = parent
            let left = 2 * parent + 1
            if left < heap.count, heap[left].weight < heap[least].weight { least = left }
            if left + 1 < heap.count, heap[left + 1].weight < heap[least].weight { least = left + 1 }
            guard least != parent else { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}
