/// What to do with a hot key.
public enum MitigationKind: UInt8, Sendable, CaseIterable {
    /// Nothing: the key is hot but only watched.
    case none
    /// Answer reads from the agent's own memory.
    case cache
    /// Spread reads over copies on other nodes.
    case copies
    /// Local memory first, then copies.
    case both

    /// Whether replies are kept in the agent's memory.
    @inlinable public var usesLocalCache: Bool { self == .cache || self == .both }
    /// Whether copies on other nodes are kept and read.
    @inlinable public var usesCopies: Bool { self == .copies || self == .both }
}

/// One hot key and what is done with it. All times are durations in nanoseconds.
public struct HotKeyPolicy: Sendable, Hashable {
    public var key: [UInt8]
    public var kind: MitigationKind
    /// The number of copies wanted besides home; 0 is none. Counted up to `HotKeyMitigationLimits.copiesMax`.
    public var copies: Int
    /// Whether they may be read and, where one is found empty, filled; otherwise this agent only leaves its tombstones in them.
    public var readsCopies: Bool
    /// Whether the replicas of a Redis Cluster may be read, where no copies are made.
    public var readsReplicas: Bool
    /// How long a local reply may be served after its request was sent.
    public var localLifetimeNanoseconds: UInt64
    /// How long a copy may be served after the home read that filled it was sent; how far a replica may be behind.
    public var copyLifetimeNanoseconds: UInt64
    /// How long a local reply may be served after its request was sent while home cannot be reached; 0 is never.
    public var staleOnErrorNanoseconds: UInt64
    /// Of the reads that find the value gone, one an interval is told so …
    public var missIntervalNanoseconds: UInt64
    /// … and the others wait for it so long at most; 0 is never.
    public var missHoldNanoseconds: UInt64

    /// Whether reads of a value that is gone are held.
    public var holdsMisses: Bool { missHoldNanoseconds > 0 && kind.usesLocalCache && localLifetimeNanoseconds > 0 }

    public init(
        key: [UInt8], kind: MitigationKind, copies: Int, readsCopies: Bool = true, readsReplicas: Bool = false,
        localLifetimeNanoseconds: UInt64, copyLifetimeNanoseconds: UInt64, staleOnErrorNanoseconds: UInt64,
        missIntervalNanoseconds: UInt64 = 0, missHoldNanoseconds: UInt64 = 0
    ) {
        self.key = key
        self.kind = kind
        self.copies = copies
        self.readsCopies = readsCopies
        self.readsReplicas = readsReplicas
        self.localLifetimeNanoseconds = localLifetimeNanoseconds
        self.copyLifetimeNanoseconds = copyLifetimeNanoseconds
        self.staleOnErrorNanoseconds = staleOnErrorNanoseconds
        self.missIntervalNanoseconds = missIntervalNanoseconds
        self.missHoldNanoseconds = missHoldNanoseconds
    }

    /// Divides a staleness cap so that what passes through both stores stays within it: `local + copy <= cap`.
    ///
    /// With `both` a local fill may be read from a copy. Its value left home up to one copy lifetime before that read, and is
    /// then served for one local lifetime, so the two lifetimes share the cap. With one store only, that store has it all.
    public static func split(
        capNanoseconds cap: UInt64, kind: MitigationKind
    ) -> (localLifetimeNanoseconds: UInt64, copyLifetimeNanoseconds: UInt64) {
        switch kind {
        case .none: (0, 0)
        case .cache: (cap, 0)
        case .copies: (0, cap)
        case .both: (cap / 2, cap - cap / 2)
        }
    }
}
