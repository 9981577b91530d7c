/// Until when a replica is known to hold every write that its primary had acknowledged.
///
/// The primary is asked for its replication offset; what it had acknowledged before the question was sent lies below the offset
/// that it answers. A replica that says later that it has carried out the stream up to that offset, in the same history, holds all of
/// it. So what is proven is a moment of the asker's own clock, whatever the clocks of the nodes and the delay between them. It holds
/// as long as the replica runs: one that is started again may come back with less.
///
/// Offsets and histories are those of `INFO replication` (`master_repl_offset`, `slave_repl_offset`, `master_replid`).
public struct ReplicaFreshness: Sendable {
    private struct Mark: Sendable {
        var askedAt: UInt64
        var offset: Int64
    }
    private var history: [UInt8] = []
    /// What the primary said, oldest first, from the newest mark that the replica has reached.
    private var marks: [Mark] = []
    /// Nanoseconds; nil while nothing is proven.
    public private(set) var heldUntil: UInt64?

    public init() {}

    /// - Parameter askedAt: when the question was sent.
    public mutating func primarySaid(offset: Int64, history: [UInt8], askedAt: UInt64) {
        if history != self.history {
            self = ReplicaFreshness()
            self.history = history
        }
        if marks.count == HotKeyMitigationLimits.replicaMarksMax { marks.removeFirst() }
        marks.append(Mark(askedAt: askedAt, offset: offset))
    }

    /// - Parameter offset: how far it has carried out its primary's stream.
    public mutating func replicaSaid(offset: Int64, history: [UInt8]) {
        guard history == self.history, let reached = marks.lastIndex(where: { $0.offset <= offset }) else { return }
        heldUntil = max(heldUntil ?? 0, marks[reached].askedAt)
        marks.removeFirst(reached + 1)
    }

    /// Whether a value that was read when ``heldUntil`` was this, and is handed out at `now`, was current at a moment after `fencedAt`
    /// and at most `ageMax` ago.
    public static func covers(heldUntil: UInt64, fencedAt: UInt64, ageMax: UInt64, now: UInt64) -> Bool {
        heldUntil > fencedAt && now - min(now, heldUntil) <= ageMax
    }
}
