/// How good the rates of a source are.
public enum SourceGrade: String, Sendable, Hashable, CaseIterable {
    /// The rates were counted.
    case exact
    /// The rates were sampled or inferred.
    case estimate
}

/// One key that a source proposes.
public struct SourceCandidate: Sendable, Hashable {
    public var key: [UInt8]
    public var readsPerSecond: Double
    public var writesPerSecond: Double
    public var bytesPerSecond: Double
    /// Of the reads: those that find nothing.
    public var missesPerSecond: Double
    /// The most by which the true rate of reads and writes together may be above or below the two rates together.
    public var errorPerSecond: Double
    /// Since 1970, by the wall clock that ``SourceFusion`` is told.
    public var expiresAtMilliseconds: Int64

    public init(
        key: [UInt8], readsPerSecond: Double, writesPerSecond: Double = 0, bytesPerSecond: Double = 0,
        missesPerSecond: Double = 0, errorPerSecond: Double = 0, expiresAtMilliseconds: Int64
    ) {
        self.key = key
        self.readsPerSecond = readsPerSecond
        self.writesPerSecond = writesPerSecond
        self.bytesPerSecond = bytesPerSecond
        self.missesPerSecond = missesPerSecond
        self.errorPerSecond = errorPerSecond
        self.expiresAtMilliseconds = expiresAtMilliseconds
    }

    /// Accesses a second that the key has at least.
    public var lowerBoundPerSecond: Double { max(0, readsPerSecond + writesPerSecond - errorPerSecond) }

    /// Its lower bound over the rule's threshold; where its bytes say more, those over theirs.
    func heat(under rule: DetectionRule) -> Double {
        max(
            lowerBoundPerSecond / Double(rule.thresholdPerSecond),
            bytesPerSecond / Double(rule.thresholdBytesPerSecond))
    }

    /// What the state machine makes of it. A source has taken its rate over a span of its own, so nothing is left to confirm; and
    /// of single slices it says nothing.
    func sample(under rule: DetectionRule) -> HeatSample {
        let heat = heat(under: rule)
        return HeatSample(
            readsPerSecond: readsPerSecond, writesPerSecond: writesPerSecond, bytesPerSecond: bytesPerSecond,
            missesPerSecond: min(missesPerSecond, readsPerSecond), errorPerSecond: errorPerSecond, windowHeat: heat,
            bytesHeat: bytesPerSecond / Double(rule.thresholdBytesPerSecond),
            overSlices: heat >= 1 ? rule.confirmationOfSlices : 0, hasShortEvidence: false,
            hasSingleSliceEvidence: false, isInstant: false, leastHeat: heat,
            mostHeat: max(
                heat, (readsPerSecond + writesPerSecond + errorPerSecond) / Double(rule.thresholdPerSecond)))
    }
}

/// Everything that one source proposes.
public struct SourceProposals: Sendable, Hashable {
    public var grade: SourceGrade
    public var candidates: [SourceCandidate]

    public init(grade: SourceGrade, candidates: [SourceCandidate]) {
        self.grade = grade
        self.candidates = candidates
    }
}

/// One key as all that speak of it say together.
public struct FusedHeat: Sendable, Hashable {
    public var key: [UInt8]
    /// `hot`, `cooling`, or `candidate` for a key that only estimates propose.
    public var state: HeatState
    public var kind: HeatKind
    public var readsPerSecond: Double
    public var writesPerSecond: Double
    public var bytesPerSecond: Double
    public var missesPerSecond: Double
    public var errorPerSecond: Double
    /// Who has named the key since it was cold, in that order; of those that did at once, ``SourceFusion/agentsName`` comes first,
    /// then exact sources, then estimates.
    public var sources: [String]
    /// By the monotonic clock.
    public var sinceNanoseconds: UInt64

    public init(
        key: [UInt8], state: HeatState, kind: HeatKind, readsPerSecond: Double = 0, writesPerSecond: Double = 0,
        bytesPerSecond: Double = 0, missesPerSecond: Double = 0, errorPerSecond: Double = 0, sources: [String],
        sinceNanoseconds: UInt64
    ) {
        self.key = key
        self.state = state
        self.kind = kind
        self.readsPerSecond = readsPerSecond
        self.writesPerSecond = writesPerSecond
        self.bytesPerSecond = bytesPerSecond
        self.missesPerSecond = missesPerSecond
        self.errorPerSecond = errorPerSecond
        self.sources = sources
        self.sinceNanoseconds = sinceNanoseconds
    }

    mutating func show(_ sample: HeatSample) {
        readsPerSecond = sample.readsPerSecond
        writesPerSecond = sample.writesPerSecond
        bytesPerSecond = sample.bytesPerSecond
        missesPerSecond = sample.missesPerSecond
        errorPerSecond = sample.errorPerSecond
    }
}

/// What is to be published.
public enum FusedChange: Sendable, Hashable {
    case set(FusedHeat)
    case remove([UInt8])

    public var key: [UInt8] {
        switch self {
        case .set(let heat): heat.key
        case .remove(let key): key
        }
    }
}
