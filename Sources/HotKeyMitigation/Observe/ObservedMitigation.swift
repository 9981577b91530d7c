/// What acting on the hot set would have kept from the keys' homes, worked out while it is only observed.
///
/// Each key has a local value that is no value: it begins with a read that goes home, ends with its lifetime or with a write, and the
/// reads in between are the ones that the local cache would have answered. Of the others, those of a key with n copies would have gone
/// to a copy n times out of n + 1. Left out: that values may be too large to keep, that a busy cache drops some, that copies begin
/// empty, and that two choices are better than an even spread. Used from one event loop.
public struct ObservedMitigation: Sendable {
    public enum Saving: Sendable, Hashable {
        /// It would have gone home.
        case nothing
        case byLocalCache
        case byCopy
    }

    private struct Value: Sendable {
        /// When the read that would have filled the cache was asked.
        var filledAt: UInt64?
        /// Counts the reads that the local cache would not have answered.
        var turn = 0
    }

    public let table: HotKeyTable
    private var values: [Value]

    /// - Parameter previous: what was observed until now; keys of both tables go on.
    public init(table: HotKeyTable, previous: ObservedMitigation?) {
        self.table = table
        values = (0..<table.count).map { index in
            guard let previous, let old = table[index].key.withUnsafeBytes({ previous.table.index(of: $0) }) else {
                return Value()
            }
            return previous.values[old]
        }
    }

    /// A read that may be cached, of the key at `index` of the table.
    ///
    /// - Parameters:
    ///   - isGet: whether a copy could answer it.
    ///   - now: in nanoseconds.
    public mutating func read(_ index: Int, isGet: Bool, now: UInt64) -> Saving {
        let policy = table[index]
        if policy.kind.usesLocalCache {
            if let filledAt = values[index].filledAt, now &- filledAt < policy.localLifetimeNanoseconds {
                return .byLocalCache
            }
            values[index].filledAt = now
        }
        guard policy.kind.usesCopies, policy.copies > 0, isGet else { return .nothing }
        values[index].turn = (values[index].turn + 1) % (policy.copies + 1)
        return values[index].turn == 0 ? .nothing : .byCopy
    }

    public mutating func write(_ index: Int) { values[index].filledAt = nil }
}
