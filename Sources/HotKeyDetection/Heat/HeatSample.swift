/// Whether a key is hot, as its window and its last slices show it at the end of one slice: the input of the machine.
///
/// All counts are lower bounds, so nothing here can be above what really happened in the slices that were reported; sums of several
/// slices count in the one that they were reported for.
/// Definitions, with threshold T accesses a second, slices of d seconds, a window of n slices:
///
/// - A slice's count is what entries of span 1 reported for it, plus the mean over the window of what entries of a
///   longer span reported: a sum over a second says nothing about a single slice.
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
    /// as they are: for a steady key as much of its last sums is still to come as there is too much of the older ones.
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

    public static let zero = HeatSample(
        readsPerSecond: 0, writesPerSecond: 0, bytesPerSecond: 0, missesPerSecond: 0, errorPerSecond: 0, windowHeat: 0,
        bytesHeat: 0, overSlices: 0, hasShortEvidence: false, hasSingleSliceEvidence: false, isInstant: false)
}

/// What was reported of one key for one slice.
struct SliceCounts {
    var reads = 0.0
    var writes = 0.0
    /// Accesses out of reads and writes that entries of a span above 1 brought.
    var saved = 0.0
    var bytes = 0.0
    var misses = 0.0

    var accesses: Double { reads + writes }
}

extension HeatSample {
    /// - Parameters:
    ///   - error: accesses by which the window's count may be off.
    ///   - counts: gives the counts of the slice of that age, 0 being the one that has just ended.
    @inline(__always)
    init(rule: DetectionRule, sliceMilliseconds: Int, error: Double, counts: (Int) -> SliceCounts) {
        let slices = max(1, rule.windowMilliseconds / sliceMilliseconds)
        var sum = SliceCounts()
        for age in 0..<slices {
            let slice = counts(age)
            sum.reads += slice.reads
            sum.writes += slice.writes
            sum.saved += slice.saved
            sum.bytes += slice.bytes
            sum.misses += slice.misses
        }
        let sliceSeconds = Double(sliceMilliseconds) / 1_000
        let windowSeconds = sliceSeconds * Double(slices)
        let share = Double(rule.thresholdPerSecond) * sliceSeconds
        let bytesShare = Double(rule.thresholdBytesPerSecond) * sliceSeconds
        let savedMean = sum.saved / Double(slices)
        let instant = max(share * rule.instantMultiple, DetectionLimits.instantAccessesMin)

        overSlices = 0
        hasSingleSliceEvidence = false
        isInstant = false
        var recentAccesses = 0.0
        var recentBytes = 0.0
        for age in 0..<min(rule.confirmationOfSlices, slices) {
            let slice = counts(age)
            let accesses = slice.accesses - slice.saved + savedMean
            recentAccesses += accesses
            recentBytes += slice.bytes
            if accesses >= share || slice.bytes >= bytesShare { overSlices += 1 }
            if Self.isClearlyOver(accesses, share) { hasSingleSliceEvidence = true }
            if accesses >= instant || slice.bytes >= bytesShare * rule.instantMultiple { isInstant = true }
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
        errorPerSecond = error / windowSeconds
        bytesHeat = bytesPerSecond / Double(rule.thresholdBytesPerSecond)
        windowHeat = max((readsPerSecond + writesPerSecond) / Double(rule.thresholdPerSecond), bytesHeat)
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
