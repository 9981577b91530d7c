/// What gathers during a turn and is gone through at its end. What is added meanwhile is for the next turn.
///
/// Two arrays in turns: one that were emptied while it is gone through would be copied.
struct TurnList<Element> {
    private var gathering: [Element] = []
    private var spare: [Element] = []

    var count: Int { gathering.count }
    var first: Element? { gathering.first }

    @inline(__always)
    mutating func append(_ element: Element) { gathering.append(element) }

    /// Empties the list.
    @inline(__always)
    mutating func take() -> [Element] {
        let taken = gathering
        gathering = spare
        spare = []
        return taken
    }

    /// Keeps the memory of what was taken for the turn after the next.
    @inline(__always)
    mutating func giveBack(_ taken: consuming [Element]) {
        spare = taken
        spare.removeAll(keepingCapacity: true)
    }
}
