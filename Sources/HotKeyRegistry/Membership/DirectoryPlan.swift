/// Which children to read again, from the list of their names and how often it changed.
struct DirectoryPlan: Sendable {
    private(set) var names: Set<String> = []
    private var childrenVersion: Int32?

    /// Takes a new list; returns the names to read, sorted.
    ///
    /// A child may go and come back under its name between two lists (an agent with a new session): the names are the
    /// same, but the node's count of changes then moved by more than the names explain, and all are read again.
    mutating func take(_ list: [String], childrenVersion version: Int32, changed: Set<String>) -> [String] {
        let next = Set(list)
        let added = next.subtracting(names)
        let removed = names.subtracting(next)
        let isExplained = childrenVersion.map { version &- $0 == Int32(added.count + removed.count) } ?? false
        childrenVersion = version
        names = next
        return (isExplained ? added.union(changed.intersection(next)) : next).sorted()
    }

    /// Nothing is known any more: the next list is read in full.
    mutating func forget() { childrenVersion = nil }
}
