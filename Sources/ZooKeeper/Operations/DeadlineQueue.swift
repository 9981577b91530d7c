/// Deadlines by time, earliest first: a binary heap of (time, id). Insert and remove cost O(log n).
///
/// Nothing is removed early. Whoever is done before its deadline leaves an entry that is dropped when it comes to the
/// top; as deadlines are mostly the same distance away, that is soon after.
struct DeadlineQueue {
    private struct Entry {
        let atMilliseconds: Int64
        let id: UInt64
    }
    private var heap: [Entry] = []

    var count: Int { heap.count }

    mutating func insert(_ id: UInt64, atMilliseconds: Int64) {
        heap.append(Entry(atMilliseconds: atMilliseconds, id: id))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].atMilliseconds < heap[parent].atMilliseconds else { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    /// Drops what is no longer alive from the top and returns the earliest deadline that is left.
    mutating func earliest(isAlive: (UInt64) -> Bool) -> Int64? {
        while let top = heap.first {
            if isAlive(top.id) { return top.atMilliseconds }
            removeTop()
        }
        return nil
    }

    /// Takes an id whose deadline has come, `nil` when there is none.
    mutating func takeDue(nowMilliseconds: Int64) -> UInt64? {
        guard let top = heap.first, top.atMilliseconds <= nowMilliseconds else { return nil }
        removeTop()
        return top.id
    }

    private mutating func removeTop() {
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < heap.count && heap[child].atMilliseconds < heap[least].atMilliseconds {
                least = child
            }
            guard least != parent else { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}
