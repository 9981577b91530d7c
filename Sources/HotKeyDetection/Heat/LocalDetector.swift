/// Finds the keys that this agent's own traffic alone makes hot, so that it can act before the coordinator has spoken.
///
/// The machine is the coordinator's; only the slices are half as long (`localSliceMilliseconds`), so that a load which
/// starts at any moment has filled two of them within 150 ms. Its states are this agent's own: a key counts as locally
/// hot as well as, not instead of, being published.
///
/// One owner; not for the event loops, which only hand over their summaries.
public final class LocalDetector {
    private let window: SlidingWindow
    private var tracker: HeatTracker
    private var sums = SummarySums()
    /// The last slice that was judged.
    private var judgedSlice: UInt64?

    /// - Parameter hotKeysMax: keys that this agent alone may hold hot.
    public init(rules: RuleSet, hotKeysMax: Int = DetectionLimits.hotKeysMax) {
        window = SlidingWindow(
            sliceMilliseconds: DetectionLimits.localSliceMilliseconds, keyLimit: DetectionLimits.localKeysMax,
            arenaByteLimit: DetectionLimits.counterArenaBytesMax)
        tracker = HeatTracker(rules: rules, hotKeysMax: hotKeysMax)
    }

    public func update(rules: RuleSet) {
        tracker.update(rules: rules)
    }

    /// The locally hot and cooling keys, in no order.
    public var hotKeys: [HeatTracker.HotKey] { tracker.hotKeys }

    public var rules: RuleSet { tracker.rules }

    /// Judges a slice of `localSliceMilliseconds` that has just ended.
    ///
    /// When this is called late, what was counted since the last call is spread over the slices that have passed: put into one of them,
    /// a second's worth of a key at half of its threshold would look like ten times the threshold.
    ///
    /// - Parameter parts: what each loop counted in it.
    public func observe(_ parts: [SliceSummary], nowNanoseconds now: UInt64) -> [HeatChange] {
        let ended = window.slice(at: now) - 1
        let slices = judgedSlice.map { max(1, ended - min(ended, $0)) } ?? 1
        judgedSlice = ended
        window.advance(to: ended + 1)
        tracker.prepare(window)
        // What is this far under every threshold can neither enter nor keep a key from leaving; most keys are. Half of
        // the leave level, so that the scatter of single slices does not cost a key above it any of its counts.
        let halfSlice = Double(window.sliceMilliseconds) / 2_000
        sums.add(
            parts, accessesFloor: tracker.rules.leastLeaveAccessesPerSecond * halfSlice,
            bytesFloor: tracker.rules.leastLeaveBytesPerSecond * halfSlice)
        window.addBound(sums.unlistedBound, slice: ended)
        var leftOut: UInt64 = 0
        for sum in sums.sums {
            let part = parts[sum.part]
            let entry = part.entries[sum.place]
            let place = part.withKey(of: entry) { key in
                window.add(
                    key, hash: entry.hash, slice: ended,
                    SlidingWindow.Addition(
                        reads: sum.counted.reads, writes: sum.counted.writes, replyBytes: sum.counted.replyBytes,
                        misses: sum.counted.misses, error: sum.error, credit: sums.unlistedBound,
                        slices: slices))
            }
            if place < 0 { leftOut = max(leftOut, sum.counted.accesses &+ sum.error) }
        }
        window.addOverflow(leftOut, slice: ended)
        return tracker.evaluate(window, ending: ended, now: now, mayCool: true)
    }
}
