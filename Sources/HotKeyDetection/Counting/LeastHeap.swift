/// What a ``LeastHeap`` holds.
protocol Weighted {
    var weight: UInt64 { get }
    /// Tells elements of the same weight apart when they are taken in order: the lower one first.
    var number: Int { get }
}

/// A binary heap with the lightest element on top: keeps the heaviest of many, because what has to give way is at hand.
///
/// Keeps its memory.
struct LeastHeap<Element: Weighted> {
    private var elements: [Element] = []

    var count: Int { elements.count }
    /// The lightest; there must be one.
    var least: Element {
        @inline(__always) get { elements[0] }
    }

    mutating func reserveCapacity(_ count: Int) { elements.reserveCapacity(count) }

    mutating func insert(_ element: Element) {
        elements.append(element)
        var child = elements.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard elements[child].weight < elements[parent].weight else { return }
            elements.swapAt(child, parent)
            child = parent
        }
    }

    /// There must be one.
    mutating func removeLeast() {
        let last = elements.removeLast()
        if !elements.isEmpty { replaceLeast(with: last) }
    }

    /// As removing the lightest and inserting another. There must be one.
    mutating func replaceLeast(with element: Element) {
        elements[0] = element
        var parent = 0
        while true {
            var least = parent
            let left = 2 * parent + 1
            if left < elements.count, elements[left].weight < elements[least].weight { least = left }
            if left + 1 < elements.count, elements[left + 1].weight < elements[least].weight { least = left + 1 }
            guard least != parent else { return }
            elements.swapAt(parent, least)
            parent = least
        }
    }

    /// Hands all over, the heaviest first, and is empty.
    mutating func takeSorted(_ body: (Element) -> Void) {
        elements.sort { $0.weight > $1.weight || ($0.weight == $1.weight && $0.number < $1.number) }
        for element in elements { body(element) }
        elements.removeAll(keepingCapacity: true)
    }
}
