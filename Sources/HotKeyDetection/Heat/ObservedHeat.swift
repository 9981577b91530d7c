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
    /// - Parameter held: keys that other sources hold hot, of which the agents may have counted nothing.
    public func top(_ count: Int, in window: MergedWindow, held: [FusedHeat] = []) -> [ObservedHeat] {
        let slices = DetectionLimits.windowMillisecondsRange.upperBound / DetectionLimits.sliceMilliseconds
        let entries = window.keys.busiest(count, ending: window.lastEndedSlice, slices: slices)
        var known: Set<[UInt8]> = []
        let heldByKey = Dictionary(held.map { ($0.key, $0) }) { first, _ in first }
        var observed = entries.map { entry in
            let key = Array(window.keys.key(at: entry))
            known.insert(key)
            return observe(key, at: entry, in: window, held: heldByKey[key])
        }
        // Of the others no more than are asked for can be among the busiest, and to look at one costs a walk over its slices.
        var others = held.filter { !known.contains($0.key) }
        if others.count > count {
            others.sort { left, right in
                left.accessesPerSecond == right.accessesPerSecond
                    ? left.key.lexicographicallyPrecedes(right.key) : left.accessesPerSecond > right.accessesPerSecond
            }
            others.removeLast(others.count - count)
        }
        for heat in others where known.insert(heat.key).inserted {
            observed.append(observe(heat.key, in: window, held: heat))
        }
        if observed.count < count {
            // All others have no access in the last second: they are alike but for their names.
            let others = hotNames.filter { !known.contains($0) }.sorted { $0.lexicographicallyPrecedes($1) }
            observed += others.prefix(count - observed.count).map { observe($0, in: window) }
        }
        let sorted = observed.sorted { left, right in
            left.rank == right.rank ? left.key.lexicographicallyPrecedes(right.key) : left.rank > right.rank
        }
        return Array(sorted.prefix(count))
    }

    /// One key, known or not.
    /// - Parameter held: what other sources say that hold it hot.
    public func observe(_ key: [UInt8], in window: MergedWindow, held: FusedHeat? = nil) -> ObservedHeat {
        observe(key, at: window.keys.find(key, hash: window.hash(of: key)), in: window, held: held)
    }

    /// Whether the agents' reports hold a key hot or cooling.
    public func isHot(_ key: [UInt8]) -> Bool { heat(of: key) != nil }

    /// - Parameter entry: the key's in the window; -1 when it has none.
    private func observe(
        _ key: [UInt8], at entry: Int, in window: MergedWindow, held: FusedHeat?
    ) -> ObservedHeat {
        let match = self.match(of: key, at: entry, in: window)
        let threshold = match.map { self.threshold(of: key, by: $0.rule) }
        var rule = match?.rule ?? Self.anyKey
        if let threshold { rule.thresholdPerSecond = threshold.accessesPerSecond }
        let heat = heat(of: key)
        var observed = ObservedHeat(
            key: key, state: state(of: key), kind: heat?.kind, sinceNanoseconds: heat?.sinceNanoseconds,
            sample: window.keys.sample(at: entry, rule: rule, ending: window.lastEndedSlice), match: match,
            threshold: threshold)
        if let held { observed.add(held, rule: rule) }
        return observed
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

extension FusedHeat {
    fileprivate var accessesPerSecond: Double { readsPerSecond + writesPerSecond }
}

extension ObservedHeat {
    fileprivate var rank: Double { sample.readsPerSecond + sample.writesPerSecond }

    /// Nothing is added up: as hot as the hotter of the two says.
    fileprivate mutating func add(_ held: FusedHeat, rule: DetectionRule) {
        if kind == nil || state == .cooling && held.state == .hot {
            (state, kind, sinceNanoseconds) = (held.state, held.kind, held.sinceNanoseconds)
        }
        let said = SourceCandidate(
            key: key, readsPerSecond: held.readsPerSecond, writesPerSecond: held.writesPerSecond,
            bytesPerSecond: held.bytesPerSecond, missesPerSecond: held.missesPerSecond,
            errorPerSecond: held.errorPerSecond, expiresAtMilliseconds: .max
        ).sample(under: rule)
        if said.windowHeat > sample.windowHeat { sample = said }
    }
}
