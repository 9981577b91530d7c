public import HotKeyDetection

/// What replaying a trace came to. Times are nanoseconds from the trace's first request.
public struct SimulationResult: Sendable {
    /// One time that a key was hot.
    public struct Spell: Sendable, Hashable {
        public var hotAt: UInt64
        /// When it was shown as cooling last; nil when it was not, or was hot again.
        public var coolingAt: UInt64?
        /// Nil when it was hot still at the trace's end.
        public var coldAt: UInt64?
        public var cause: HeatChange.Cause
        /// The rates by which it became hot.
        public var sample: HeatSample
    }

    /// A key that was hot at least once.
    public struct Key: Sendable, Hashable {
        public var key: [UInt8]
        /// The last one it had.
        public var kind: HeatKind
        /// The rule's place in the document, from 0.
        public var rulePosition: Int
        /// In force for it.
        public var thresholdPerSecond: Int
        /// The index of the node that owns it.
        public var home: Int
        /// The first ``SimulationLimits/spellsMax``.
        public var spells: [Spell] = []
        public var spellCount = 0
        public var hotNanoseconds: UInt64 = 0
        /// Accesses in its busiest second while hot.
        public var peakPerSecond: UInt64 = 0
        /// While hot.
        public var reads: UInt64 = 0
        public var writes: UInt64 = 0
        /// Of the reads: answered from an agent's memory, from copies.
        public var localReads: UInt64 = 0
        public var copyReads: UInt64 = 0
    }

    public struct Node: Sendable, Hashable {
        /// As the trace brings it.
        public var before: NodeLoad
        /// With hot keys taken care of, from the moment each was found.
        public var after: NodeLoad
    }

    /// Of the trace's own clock, the first request's.
    public var startNanoseconds: UInt64 = 0
    public var durationNanoseconds: UInt64 = 0
    public var requests: UInt64 = 0
    public var reads: UInt64 = 0
    public var writes: UInt64 = 0
    public var replyBytes: UInt64 = 0
    /// Of the reads.
    public var misses: UInt64 = 0
    /// Requests that counted at the time of the one before, whose time was later.
    public var backwardRequests: UInt64 = 0
    /// The shortest time from one request to a later one; nil when all have the same time.
    public var timeStepNanoseconds: UInt64?
    /// Whether requests have the same time, in one line or in several.
    public var hasSharedTimes = false
    /// Whether the times are too coarse for what the simulation says: what came within a step counts in one slice, as if it had come at
    /// once, so a key looks hotter than it was.
    public var hasCoarseTimes: Bool {
        let slice = UInt64(DetectionLimits.sliceMilliseconds) * 1_000_000
        return hasSharedTimes && timeStepNanoseconds.map { $0 > slice } ?? false
    }
    /// The busiest first.
    public var keys: [Key] = []
    /// Further keys that were hot, of which nothing else is told.
    public var keysLeftOut = 0
    public var hotAtOnceMax = 0
    /// In the order of the placement's nodes.
    public var nodes: [Node] = []
}
