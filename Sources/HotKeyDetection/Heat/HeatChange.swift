/// A change of a key's published state.
public struct HeatChange: Sendable, Hashable {
    public enum Cause: String, Sendable, Hashable {
        /// Confirmed, or again at its threshold while cooling.
        case threshold
        /// One slice at many times the threshold.
        case instant
        /// What kind of hot key it is has changed.
        case kind
        /// Under the leave level: long enough to cool, or to leave.
        case cooled
        /// Hotter keys needed the room.
        case capacity
        /// No rule covers the key any more.
        case noRule
    }

    public var key: [UInt8]
    /// `hot`, `cooling` or `cold`.
    public var state: HeatState
    /// The kind it has, or had when it left.
    public var kind: HeatKind
    public var cause: Cause
    /// The sample that decided.
    public var sample: HeatSample
    /// When the key entered; for an adopted key as its publication said, at the earliest 0 on this clock.
    public var sinceNanoseconds: UInt64
    /// The deciding rule's place in the list that the rule set was made of; nil when none matches.
    public var rulePosition: Int?
}

/// A hot or cooling key as another coordinator published it.
public struct PublishedHeat: Sendable, Hashable {
    public var key: [UInt8]
    public var kind: HeatKind
    public var isCooling: Bool
    /// On this process's monotonic clock; 0 if it entered before that clock's start.
    public var sinceNanoseconds: UInt64

    public init(key: [UInt8], kind: HeatKind, isCooling: Bool, sinceNanoseconds: UInt64) {
        self.key = key
        self.kind = kind
        self.isCooling = isCooling
        self.sinceNanoseconds = sinceNanoseconds
    }
}
