import HeapModule

/// What is to run at a time: the soonest first, and what is due at the same time in the order it was added.
struct TimerQueue {
    typealias ID = UInt64

    private struct Due: Comparable {
        let at: UInt64
        let id: ID

        static func < (a: Due, b: Due) -> Bool { a.at != b.at ? a.at < b.at : a.id < b.id }
    }

    struct Timer {
        let run: () -> Void
        /// The event loop ends before the time has come.
        let abandon: () -> Void
    }

    private var heap = Heap<Due>()
    private var timers: [ID: Timer] = [:]

    /// - Parameters:
    ///   - id: larger than every one before.
    ///   - time: in nanoseconds.
    mutating func add(_ id: ID, at time: UInt64, _ timer: Timer) {
        timers[id] = timer
        heap.insert(Due(at: time, id: id))
    }

    /// Does nothing when the timer has run.
    mutating func cancel(_ id: ID) {
        timers[id] = nil
        guard heap.count > 2 * timers.count + SocketLimits.cancelledTimersMax else { return }
        heap = Heap(heap.unordered.filter { timers[$0.id] != nil })
    }

    /// With those that were cancelled and are not forgotten yet.
    var heldCount: Int { heap.count }

    /// When the next timer is due.
    mutating func next() -> UInt64? {
        while let first = heap.min {
            if timers[first.id] != nil { return first.at }
            heap.removeMin()
        }
        return nil
    }

    /// Takes out one timer that is due.
    mutating func popDue(now: UInt64) -> Timer? {
        guard let at = next(), at <= now, let first = heap.popMin() else { return nil }
        return timers.removeValue(forKey: first.id)
    }

    /// Takes out all of them.
    mutating func takeAll() -> [Timer] {
        defer { self = TimerQueue() }
        return Array(timers.values)
    }
}
