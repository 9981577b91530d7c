/// A queue that one event loop owns: places in a ring that grows by doubling. Each request passes through two of these, and
/// appending and removing here cost a few instructions.
///
/// The memory is its own (`base` is private and leaves no method), and the places from `head` on, `count` of them, around the ring,
/// are initialised and no others: every method keeps that. It is used on one event loop only, so nothing else looks meanwhile.
struct Ring<Element>: ~Copyable {
    private var base: UnsafeMutablePointer<Element>
    /// Places, less one; a power of two less one.
    private var mask: Int
    private var head = 0
    private(set) var count = 0

    private static var initialPlaces: Int { 16 }

    init() {
        base = .allocate(capacity: Self.initialPlaces)
        mask = Self.initialPlaces - 1
    }

    deinit {
        for offset in 0..<count { (base + place(offset)).deinitialize(count: 1) }
        base.deallocate()
    }

    var isEmpty: Bool {
        @inline(__always) get { count == 0 }
    }

    @inline(__always)
    private func place(_ offset: Int) -> Int { (head &+ offset) & mask }

    @inline(__always)
    mutating func append(_ element: consuming Element) {
        if count > mask { move(to: 2 * (mask + 1)) }
        (base + place(count)).initialize(to: element)
        count &+= 1
    }

    @inline(__always)
    mutating func popFirst() -> Element? { count == 0 ? nil : removeFirst() }

    @inline(__always)
    mutating func removeFirst() -> Element {
        precondition(count > 0, "nothing to remove")
        let element = (base + head).move()
        head = (head &+ 1) & mask
        count &-= 1
        // What a burst took must not stay for ever.
        if count == 0, mask >= RedisProxyLimits.keptPlacesMax { move(to: Self.initialPlaces) }
        return element
    }

    var first: Element? { count == 0 ? nil : base[head] }

    subscript(offset: Int) -> Element {
        @inline(__always) get {
            precondition(offset >= 0 && offset < count, "no such place")
            return base[place(offset)]
        }
        @inline(__always) nonmutating set {
            precondition(offset >= 0 && offset < count, "no such place")
            base[place(offset)] = newValue
        }
    }

    /// Gives everything away and is empty.
    mutating func takeAll() -> [Element] {
        var elements: [Element] = []
        elements.reserveCapacity(count)
        while let element = popFirst() { elements.append(element) }
        return elements
    }

    private mutating func move(to places: Int) {
        let larger = UnsafeMutablePointer<Element>.allocate(capacity: places)
        for offset in 0..<count { (larger + offset).moveInitialize(from: base + place(offset), count: 1) }
        base.deallocate()
        base = larger
        mask = places - 1
        head = 0
    }
}
