/// The rules of one app, ready to be asked which one applies to a key.
///
/// The most specific pattern that matches wins (see `GlobPattern.Specificity` for the order); among equals the one
/// listed first.
public struct RuleSet: Sendable, Hashable {
    public struct Match: Sendable, Hashable {
        /// The rule's place in the list that the set was made of.
        public let position: Int
        public let rule: DetectionRule
    }

    /// Most specific first. A rule's number is its place here.
    private let ordered: [Match]
    /// What each of them demands of a key; apart from them, because a look goes through all.
    private let demands: [KeyTraits]
    /// The lowest thresholds of any rule.
    private let leastAccessesPerSecond: Int
    private let leastBytesPerSecond: Int
    /// The lowest rates at which any rule keeps a hot key.
    let leastLeaveAccessesPerSecond: Double
    let leastLeaveBytesPerSecond: Double

    public static let empty = RuleSet(ordered: [])

    /// Throws `invalidRule` for the first rule that is out of range, `tooMany` above `DetectionLimits.rulesMax`.
    public init(_ rules: [DetectionRule]) throws {
        guard rules.count <= DetectionLimits.rulesMax else {
            throw DetectionError(.tooMany, "\(rules.count) rules: expected at most \(DetectionLimits.rulesMax)")
        }
        for rule in rules { try rule.validate() }
        let matches = rules.enumerated().map { Match(position: $0.offset, rule: $0.element) }
        self.init(
            ordered: matches.sorted { left, right in
                let (leftRank, rightRank) = (left.rule.pattern.specificity, right.rule.pattern.specificity)
                return leftRank == rightRank ? left.position < right.position : leftRank > rightRank
            })
    }

    private init(ordered: [Match]) {
        self.ordered = ordered
        demands = ordered.map(\.rule.pattern.demands)
        leastAccessesPerSecond = ordered.map(\.rule.thresholdPerSecond).min() ?? 0
        leastBytesPerSecond = ordered.map(\.rule.thresholdBytesPerSecond).min() ?? 0
        leastLeaveAccessesPerSecond =
            ordered.map { Double($0.rule.thresholdPerSecond) * $0.rule.leaveRatio }.min() ?? .infinity
        leastLeaveBytesPerSecond =
            ordered.map { Double($0.rule.thresholdBytesPerSecond) * $0.rule.leaveRatio }.min() ?? .infinity
    }

    public var isEmpty: Bool { ordered.isEmpty }

    /// Whether any rule asks for what nodes can carry.
    public var needsCapacities: Bool { ordered.contains { $0.rule.thresholdShareOfNode > 0 } }

    /// The rule that applies, or nil when none matches.
    public func match(_ key: UnsafeRawBufferPointer) -> Match? {
        number(for: key).map { ordered[$0] }
    }

    public func match(_ key: [UInt8]) -> Match? {
        key.withUnsafeBytes { match($0) }
    }

    /// Every rule that matches, the one that applies first.
    public func allMatches(_ key: [UInt8]) -> [Match] {
        ordered.filter { $0.rule.pattern.matches(key) }
    }

    func number(for key: UnsafeRawBufferPointer) -> Int? {
        let traits = KeyTraits(of: key)
        return demands.indices.first { traits.has(demands[$0]) && ordered[$0].rule.pattern.matches(key) }
    }

    subscript(number: Int) -> Match { ordered[number] }

    /// The counts in one slice from which a key is worth a look: half of the lowest threshold's share, since a key whose
    /// window is at the threshold has at least one slice at its full share.
    func noteworthy(sliceMilliseconds: Int, _ capacities: NodeCapacities) -> (accesses: Double, bytes: Double) {
        let halfSlice = Double(sliceMilliseconds) / 2_000
        return (Double(leastInForce(capacities)) * halfSlice, Double(leastBytesPerSecond) * halfSlice)
    }

    /// The lowest threshold that any rule has at any node.
    private func leastInForce(_ capacities: NodeCapacities) -> Int {
        guard let capacity = capacities.least else { return leastAccessesPerSecond }
        let weakest = NodeCapacities.Node(name: "", accessesPerSecond: capacity)
        return ordered.lazy.filter { $0.rule.thresholdShareOfNode > 0 }.reduce(leastAccessesPerSecond) {
            min($0, ThresholdInForce($1.rule, home: weakest).accessesPerSecond)
        }
    }
}
