/// Whether a key is hot, as its window and its last slices show it at the end of one slice: the input of the machine.
///
/// All counts are lower bounds, so nothing here can be above what really happened in the slices that were reported; sums of several
/// slices count in the one that they were reported for.
/// Definitions, with threshold T accesses a second, slices of d seconds, a window of n slices:
///
/// - Sums of several slices (entries of a longer span than 1, frames that took longer than a slice) are means over the last second
///   (`tailSlices`), whatever the window: a sum over a second says nothing about a part of it.
/// - A slice's count is what entries of span 1 reported for it, plus that mean.
/// - A slice is **over** when its count is at least T·d (or its bytes at least the bytes' share).
/// - **windowHeat** is the window's rate over T; with bytes the larger of the two ratios.
/// - There is **short evidence** when the last `confirmationOfSlices` slices together hold at least E + 3·√E accesses,
///   E = T·d·slices being what a key exactly at T would have: chance alone lets a Poisson stream at T pass that about
///   once in 700 tries, and one at 0.9 T practically never for T = 1,000. It lets a key that has just become hot in
///   before its window has filled.
/// - A slice is **instant** at `instantMultiple` times T, with at least `instantAccessesMin` accesses.
public struct HeatSample: Sendable, Hashable {
    public var readsPerSecond: Double
    public var writesPerSecond: Double
    public var bytesPerSecond: Double
    /// Of the reads: those that found nothing.
    public var missesPerSecond: Double
    /// The most by which the true rate of reads and writes together may be above or below the two rates together.
    ///
    /// Above by what no report listed, below by what sums of several slices bring from before the window. Decisions take the rates
    /// as they are: for a steady key as much of its last sums is still to come as there is too much of the older ones. Only who gives
    /// way for lack of room is decided by the bounds (``leastHeat``, ``mostHeat``).
    public var errorPerSecond: Double
    /// 1 is the threshold.
    public var windowHeat: Double
    /// The part of the threshold in reply bytes; 1 is the threshold.
    public var bytesHeat: Double
    public var overSlices: Int
    public var hasShortEvidence: Bool
    /// One of the last slices alone is over by the margin of the short evidence: enough for a key that was hot lately.
    public var hasSingleSliceEvidence: Bool
    public var isInstant: Bool
    /// `windowHeat` by the least and by the most accesses that the window can have held.
    public var leastHeat = 0.0
    public var mostHeat = 0.0

    public static let zero = HeatSample(
        readsPerSecond: 0, writesPerSecond: 0, bytesPerSecond: 0, missesPerSecond: 0, errorPerSecond: 0, windowHeat: 0,
        bytesHeat: 0, overSlices: 0, hasShortEvidence: false, hasSingleSliceEvidence: false, isInstant: false)
}

/// What was reported of one key for one slice.
struct SliceCounts {
    var reads = 0.0
    var writes = 0.0
    /// Accesses out of reads and writes that sums of several slices brought.
    var sums = 0.0
    var bytes = 0.0
    var misses = 0.0

    var accesses: Double { reads + writes }

    /// Bytes and misses are not counted apart for sums: they are taken to have as many of them as of the accesses.
    var sumsShare: Double { sums > 0 ? sums / accesses : 0 }

    mutating func add(_ other: SliceCounts, share: Double = 1) {
        reads += other.reads * share
        writes += other.writes * share
        bytes += other.bytes * share
        misses += other.misses * share
    }
}

extension HeatSample {
    /// - Parameters:
    ///   - least: the accesses that the window has held at least; nil when the counts are exact.
    ///   - most: and at most.
    ///   - counts: gives the counts of the slice of that age, 0 being the one that has just ended; of as many slices as the window
    ///     has, and of `tailSlices`.
    @inline(__always)
    init(
        rule: DetectionRule, sliceMilliseconds: Int, least: Double? = nil, most: Double? = nil,
        counts: (Int) -> SliceCounts
    ) {
        let slices = max(1, rule.windowMilliseconds / sliceMilliseconds)
        let (sum, sumsMean) = Self.total(slices: slices, counts)
        let sliceSeconds = Double(sliceMilliseconds) / 1_000
        let windowSeconds = sliceSeconds * Double(slices)
        let share = Double(rule.thresholdPerSecond) * sliceSeconds
        let bytesShare = Double(rule.thresholdBytesPerSecond) * sliceSeconds
        let instant = max(share * rule.instantMultiple, DetectionLimits.instantAccessesMin)

        overSlices = 0
        hasSingleSliceEvidence = false
        isInstant = false
        var recentAccesses = 0.0
        var recentBytes = 0.0
        for age in 0..<min(rule.confirmationOfSlices, slices) {
            let slice = counts(age)
            let accesses = slice.accesses - slice.sums + sumsMean.accesses
            let bytes = slice.bytes * (1 - slice.sumsShare) + sumsMean.bytes
            recentAccesses += accesses
            recentBytes += bytes
            if accesses >= share || bytes >= bytesShare { overSlices += 1 }
            if Self.isClearlyOver(accesses, share) { hasSingleSliceEvidence = true }
            if accesses >= instant || bytes >= bytesShare * rule.instantMultiple { isInstant = true }
        }
        let recentSlices = Double(rule.confirmationOfSlices)
        let expected = share * recentSlices
        // Bytes come in as many independent draws as there are accesses: in units of their mean they scatter alike.
        let bytesPerAccess = recentBytes / max(1, recentAccesses)
        hasShortEvidence =
            Self.isClearlyOver(recentAccesses, expected)
            || recentBytes > 0
                && Self.isClearlyOver(recentBytes / bytesPerAccess, bytesShare * recentSlices / bytesPerAccess)

        readsPerSecond = sum.reads / windowSeconds
        writesPerSecond = sum.writes / windowSeconds
        bytesPerSecond = sum.bytes / windowSeconds
        missesPerSecond = sum.misses / windowSeconds
        let accesses = sum.accesses
        let (least, most) = (least ?? accesses, most ?? accesses)
        errorPerSecond = max(0, accesses - least, most - accesses) / windowSeconds
        bytesHeat = bytesPerSecond / Double(rule.thresholdBytesPerSecond)
        windowHeat = max((readsPerSecond + writesPerSecond) / Double(rule.thresholdPerSecond), bytesHeat)
        leastHeat = max(least / windowSeconds / Double(rule.thresholdPerSecond), bytesHeat)
        mostHeat = max(most / windowSeconds / Double(rule.thresholdPerSecond), bytesHeat)
    }

    /// What came for the window's slices alone, with the window's share of what sums brought in the last second; and of the latter what
    /// comes to one slice.
    @inline(__always)
    private static func total(
        slices: Int, _ counts: (Int) -> SliceCounts
    ) -> (sum: SliceCounts, sumsMean: SliceCounts) {
        let tail = DetectionLimits.tailSlices
        var (sum, sums) = (SliceCounts(), SliceCounts())
        for age in 0..<max(slices, tail) {
            let slice = counts(age)
            let share = slice.sumsShare
            if age < slices { sum.add(slice, share: slices == tail ? 1 : 1 - share) }
            if age < tail, share > 0 { sums.add(slice, share: share) }
        }
        if slices != tail { sum.add(sums, share: Double(slices) / Double(tail)) }
        var mean = SliceCounts()
        mean.add(sums, share: 1 / Double(tail))
        return (sum, mean)
    }

    /// Whether a count is over what was expected by more than `shortEvidenceDeviations` Poisson deviations, which are
    /// √expected each. Squared, because that needs no library.
    @inline(__always)
    private static func isClearlyOver(_ count: Double, _ expected: Double) -> Bool {
        let excess = count - expected
        let deviations = DetectionLimits.shortEvidenceDeviations
        return excess >= 0 && excess * excess >= deviations * deviations * expected
    }
}
