/// One key as it stands now, hot or not: its state as of the last evaluation, its rates up to the last slice that has ended.
public struct ObservedHeat: Sendable, Hashable {
    public var key: [UInt8]
    public var state: HeatState
    /// Of a hot or cooling key, as is `sinceNanoseconds`.
    public var kind: HeatKind?
    public var sinceNanoseconds: UInt64?
    public var sample: HeatSample
    /// The rule that covers the key and its place in the list that the rule set was made of; nil when none matches. Rates are then
    /// those of the default window.
    public var match: RuleSet.Match?
    /// By that rule.
    public var threshold: ThresholdInForce?
}

extension HeatTracker {
    /// The keys with the most accesses in the last second, and hot ones whatever their accesses, the busiest first; at most `count`.
    ///
    /// Costs a look at each of the window's keys: for people who ask now and then.
    public func top(_ count: Int, in window: MergedWindow) -> [ObservedHeat] {
        let slices = DetectionLimits.windowMillisecondsRange.upperBound / DetectionLimits.sliceMilliseconds
        var keys = Set(
            window.keys.busiest(count, ending: window.lastEndedSlice, slices: slices).map {
                Array(window.keys.key(at: $0))
            })
        if keys.count < count { keys.formUnion(hotKeys.map(\.key)) }
        let observed = keys.map { observe($0, in: window) }.sorted { left, right in
            left.rank == right.rank ? left.key.lexicographicallyPrecedes(right.key) : left.rank > right.rank
        }
        return Array(observed.prefix(count))
    }

    /// One key, known or not.
    public func observe(_ key: [UInt8], in window: MergedWindow) -> ObservedHeat {
        let match = rules.match(key)
        let threshold = match.map { self.threshold(of: key, by: $0.rule) }
        var rule = match?.rule ?? Self.anyKey
        if let threshold { rule.thresholdPerSecond = threshold.accessesPerSecond }
        let heat = heat(of: key)
        return ObservedHeat(
            key: key, state: state(of: key), kind: heat?.kind, sinceNanoseconds: heat?.sinceNanoseconds,
            sample: window.sample(of: key, rule: rule), match: match, threshold: threshold)
    }

    /// Nil when no rule matches.
    public func threshold(of key: [UInt8]) -> ThresholdInForce? {
        rules.match(key).map { threshold(of: key, by: $0.rule) }
    }

    private func threshold(of key: [UInt8], by rule: DetectionRule) -> ThresholdInForce {
        ThresholdInForce(rule, home: key.withUnsafeBytes { capacities.home(of: $0) })
    }

    private static let anyKey = DetectionRule(pattern: try! GlobPattern("*"))
}

extension ObservedHeat {
    fileprivate var rank: Double { sample.readsPerSecond + sample.writesPerSecond }
}
