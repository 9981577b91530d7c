/// One local hit that is compared with what home says to the same command, asked right after it.
///
/// Two replies that differ say that the key changed after the value was last known to be home's. They do not say when: it may have
/// been long before the hit, or after it, on the question's way to home. So what a difference proves is a bound: the value was out of date
/// for no longer than since it was last known to be right.
public struct StalenessProbe: Sendable, Hashable {
    /// How home's reply compares with the one that was served.
    public enum Answer: Sendable, Hashable {
        case same, different
        /// Home did not answer, or with an error that says nothing about the value.
        case nothing
    }

    public enum Finding: Sendable, Hashable {
        case current
        /// The value served was out of date for `nanosecondsMax` at most when it was served.
        /// - Parameter isViolation: it was older than the staleness cap allows to be served. Within the cap a difference breaks no promise,
        ///   whenever the key changed.
        case outdated(nanosecondsMax: UInt64, isViolation: Bool)
        case unknown
    }

    private let ageNanoseconds: UInt64
    private let capNanoseconds: UInt64

    /// - Parameter servedAt: by the clock when it was served; not an earlier reading of it.
    /// - Parameter value: as ``LocalCache/origin(index:command:protocolVersion:)`` says.
    public init(servedAt: UInt64, value: CachedOrigin) {
        ageNanoseconds = servedAt > value.lastKnownAt ? servedAt - value.lastKnownAt : 0
        capNanoseconds = value.capNanoseconds
    }

    public func finding(_ answer: Answer) -> Finding {
        switch answer {
        case .same: .current
        case .different: .outdated(nanosecondsMax: ageNanoseconds, isViolation: ageNanoseconds > capNanoseconds)
        case .nothing: .unknown
        }
    }
}

/// What is known of a cached value's age.
public struct CachedOrigin: Sendable, Hashable {
    /// The latest moment at which the value is known to have been home's: when its request was sent, less what the value may have been old
    /// by then.
    public var lastKnownAt: UInt64
    /// The staleness cap that it is served under: of the key's policy when the value came, or of now where that is longer.
    public var capNanoseconds: UInt64

    public init(lastKnownAt: UInt64, capNanoseconds: UInt64) {
        self.lastKnownAt = lastKnownAt
        self.capNanoseconds = capNanoseconds
    }
}

/// Which local hits are compared: a share of them by chance, at distances that are drawn anew each time. Every hundredth, say, would
/// look at one key for ever where an app reads a hundred keys in turn.
public struct HitSampler: Sendable {
    /// Hits until the next one that is due, that one included; 0: none ever is.
    @usableFromInline var left: UInt64
    private let permille: UInt64

    /// - Parameter permille: hits in a thousand that are due, 0 to 1000; 0: none.
    public init(permille: Int, random: UInt64) {
        precondition((0...1000).contains(permille), "a share in thousandths is 0 to 1000")
        self.permille = UInt64(permille)
        left = 0
        restart(random: random)
    }

    /// One more hit. When it is due, the caller says ``restart(random:)``.
    @inlinable
    public mutating func isDue() -> Bool {
        guard left > 0 else { return false }
        left -= 1
        return left == 0
    }

    /// Draws how far off the next one is: evenly between 1 and a number that makes the mean 1000 / `permille` exactly.
    public mutating func restart(random: UInt64) {
        guard permille > 0 else { return }
        let (low, high) = (random & 0xffff_ffff, random >> 32)
        // The mean of 1...n is (n + 1) / 2. Where n is no whole number, it is rounded up as often as its fraction says.
        var count = (2000 - permille) / permille
        if (low * permille) >> 32 < (2000 - permille) % permille { count += 1 }
        left = 1 + (high * count) >> 32
    }
}

/// What the comparisons have found, added up.
public struct ObservedStaleness: Sendable, Hashable {
    /// Upper bounds of the buckets but the last, which is open. The first is for values that were what home had.
    public static let boundsNanoseconds: [UInt64] =
        [0]
        + [
            1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000,
        ].map { $0 * 1_000_000 }

    /// By bucket; each comparison that home has answered once.
    public private(set) var counts = [UInt64](repeating: 0, count: boundsNanoseconds.count + 1)
    public private(set) var sumNanoseconds: UInt64 = 0
    public private(set) var worstNanoseconds: UInt64 = 0
    public private(set) var differing: UInt64 = 0
    /// Of these: values older than the staleness cap.
    public private(set) var violations: UInt64 = 0
    /// Comparisons that home did not answer; they are in nothing else.
    public private(set) var unanswered: UInt64 = 0

    public init() {}

    /// Comparisons that home has answered.
    public var probes: UInt64 { counts.reduce(0, +) }

    public mutating func record(_ finding: StalenessProbe.Finding) {
        switch finding {
        case .current: counts[0] += 1
        case .unknown: unanswered += 1
        case .outdated(let nanoseconds, let isViolation):
            // Never among those that were the same, however young it was.
            let bucket = Self.boundsNanoseconds.dropFirst().firstIndex { nanoseconds <= $0 } ?? counts.count - 1
            counts[bucket] += 1
            sumNanoseconds &+= nanoseconds
            worstNanoseconds = max(worstNanoseconds, nanoseconds)
            differing += 1
            if isViolation { violations += 1 }
        }
    }

    public static func += (total: inout ObservedStaleness, part: ObservedStaleness) {
        for bucket in total.counts.indices { total.counts[bucket] += part.counts[bucket] }
        total.sumNanoseconds &+= part.sumNanoseconds
        total.worstNanoseconds = max(total.worstNanoseconds, part.worstNanoseconds)
        total.differing += part.differing
        total.violations += part.violations
        total.unanswered += part.unanswered
    }
}
