public import StrictCoding

/// `/<app>/rules`: how hot keys are found and what is done with them, by pattern of the key.
///
/// For a key the most specific pattern that matches applies (most literal bytes, then most sets, then most `?`), among
/// equals the one listed first; a key that no rule matches is never hot.
public struct RulesDocument: RegistryDocument {
    public static let bytesMax = RegistryLimits.rulesBytesMax
    public var schema: Int
    public var rules: [Rule]

    /// One rule for every key, with the documented defaults: what `hkctl init` writes.
    public init(rules: [Rule] = [Rule(pattern: "*")]) {
        schema = RegistryLimits.schema
        self.rules = rules
    }

    private enum CodingKeys: String, CodingKey, CaseIterable { case schema, rules }

    /// Without the fields that have their defaults: what a document may hold is limited in bytes, and most rules state little.
    public func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: CodingKeys.self)
        try fields.encode(schema, forKey: .schema)
        try fields.encode(rules.map(StatedRule.init), forKey: .rules)
    }

    public func validate() throws {
        try requireSchema()
        try require(
            rules.count <= RegistryLimits.rulesMax, "rules", expected: "at most \(RegistryLimits.rulesMax) rules",
            found: "\(rules.count)")
        var seen: Set<String> = []
        for (index, rule) in rules.enumerated() where !seen.insert(rule.pattern).inserted {
            throw FieldProblem(
                at: ["rules", .index(index), "pattern"],
                expected: "each pattern once (among equals the first applies, this one never would)")
        }
    }
}

/// One rule. In a document every field but `pattern` may be absent and then has the default given here. By itself it is encoded
/// with all fields.
public struct Rule: Codable, Sendable, Hashable {
    public enum Action: String, Codable, Sendable, Hashable, CaseIterable {
        /// Serve from the agents' memory.
        case cache
        /// Spread the reads over copies on several nodes.
        case copies
        /// Cache and copies.
        case both
        /// Show it; do nothing.
        case observe
    }

    /// A glob over the key's bytes: `*`, `?`, `[abc]`, `[a-z]`, `[^a]`, `\` before a character that stands for itself.
    public var pattern: String
    /// Accesses per second, over all agents, from which a key is hot.
    public var thresholdPerSecond: Int
    /// From this part of what the key's home node can carry on, as it was measured, a key is hot too; 0 for no such threshold.
    public var thresholdShareOfNode: Double
    /// What ``thresholdShareOfNode`` comes to counts as no less than this.
    public var thresholdFloorPerSecond: Int
    /// Bytes of replies per second, over all agents, from which a key is hot and its kind `big`.
    public var thresholdBytesPerSecond: Int
    /// The sliding window over which accesses are counted.
    public var windowMilliseconds: Int
    /// A key becomes hot when it is over the threshold in this many of the last ``confirmOfSlices`` 100 ms slices.
    public var confirmSlices: Int
    public var confirmOfSlices: Int
    /// At this many times the threshold a key is hot at once.
    public var instantMultiple: Double
    /// A hot key cools below this share of the threshold.
    public var leaveRatio: Double
    /// How long a key must have stayed below ``leaveRatio`` before it is cold.
    public var coolDownSeconds: Double
    /// A key stays hot at least this long.
    public var minimumHotSeconds: Double
    /// Within this time after a key went cold it needs no confirmation to be hot again.
    public var reentrySeconds: Double
    /// Above this share of writes to reads a key is write-hot: never cached nor copied.
    public var writeHotRatio: Double
    /// From this share of reads that find nothing on, a key is missing-hot: never copied, and its absence is cached shortly.
    public var missingHotRatio: Double
    public var action: Action
    /// Copies beside the original; with ``copiesByHeat`` the most there may be.
    public var copies: Int
    /// The coordinator takes as many copies as the key's reads need, by what its home node can carry as measured.
    public var copiesByHeat: Bool
    /// In a Redis Cluster, where copies are not made, reads that the action would spread over copies go to the replicas of the key's
    /// slot as well, as far as these are known to be within the staleness cap.
    public var replicaReads: Bool
    public var stalenessCapMilliseconds: Int
    /// How old a value may be served while the key's home cannot be reached; 0 for never.
    public var staleOnErrorCapSeconds: Double
    /// Of a hot key whose value is gone one read an interval, at each agent, is told so; the others wait for the value …
    public var missIntervalMilliseconds: Int
    /// … so long at most, and not less than the interval; 0 for not at all: every read is told.
    public var missHoldMilliseconds: Int

    public init(
        pattern: String, thresholdPerSecond: Int = 1_000, thresholdShareOfNode: Double = 0,
        thresholdFloorPerSecond: Int = 100, thresholdBytesPerSecond: Int = 64 << 20,
        windowMilliseconds: Int = 1_000, confirmSlices: Int = 2, confirmOfSlices: Int = 3, instantMultiple: Double = 10,
        leaveRatio: Double = 0.4, coolDownSeconds: Double = 15,
        minimumHotSeconds: Double = 30, reentrySeconds: Double = 60, writeHotRatio: Double = 0.1,
        missingHotRatio: Double = 0.8, action: Action = .both, copies: Int = 3, copiesByHeat: Bool = false,
        replicaReads: Bool = false,
        stalenessCapMilliseconds: Int = 1_000,
        staleOnErrorCapSeconds: Double = 60, missIntervalMilliseconds: Int = 100, missHoldMilliseconds: Int = 0
    ) {
        self.pattern = pattern
        self.thresholdPerSecond = thresholdPerSecond
        self.thresholdShareOfNode = thresholdShareOfNode
        self.thresholdFloorPerSecond = thresholdFloorPerSecond
        self.thresholdBytesPerSecond = thresholdBytesPerSecond
        self.windowMilliseconds = windowMilliseconds
        self.confirmSlices = confirmSlices
        self.confirmOfSlices = confirmOfSlices
        self.instantMultiple = instantMultiple
        self.leaveRatio = leaveRatio
        self.coolDownSeconds = coolDownSeconds
        self.minimumHotSeconds = minimumHotSeconds
        self.reentrySeconds = reentrySeconds
        self.writeHotRatio = writeHotRatio
        self.missingHotRatio = missingHotRatio
        self.action = action
        self.copies = copies
        self.copiesByHeat = copiesByHeat
        self.replicaReads = replicaReads
        self.stalenessCapMilliseconds = stalenessCapMilliseconds
        self.staleOnErrorCapSeconds = staleOnErrorCapSeconds
        self.missIntervalMilliseconds = missIntervalMilliseconds
        self.missHoldMilliseconds = missHoldMilliseconds
    }

    fileprivate enum CodingKeys: String, CodingKey, CaseIterable {
        case pattern, thresholdPerSecond, thresholdShareOfNode, thresholdFloorPerSecond, thresholdBytesPerSecond,
            windowMilliseconds, confirmSlices, confirmOfSlices, instantMultiple, leaveRatio, coolDownSeconds,
            minimumHotSeconds, reentrySeconds, writeHotRatio, missingHotRatio, action, copies,
            copiesByHeat, replicaReads,
            stalenessCapMilliseconds, staleOnErrorCapSeconds, missIntervalMilliseconds, missHoldMilliseconds
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        self.init(pattern: try fields.decode(String.self, forKey: .pattern))
        thresholdPerSecond = try fields.decode(.thresholdPerSecond, default: thresholdPerSecond)
        thresholdShareOfNode = try fields.decode(.thresholdShareOfNode, default: thresholdShareOfNode)
        thresholdFloorPerSecond = try fields.decode(.thresholdFloorPerSecond, default: thresholdFloorPerSecond)
        thresholdBytesPerSecond = try fields.decode(.thresholdBytesPerSecond, default: thresholdBytesPerSecond)
        windowMilliseconds = try fields.decode(.windowMilliseconds, default: windowMilliseconds)
        confirmSlices = try fields.decode(.confirmSlices, default: confirmSlices)
        confirmOfSlices = try fields.decode(.confirmOfSlices, default: confirmOfSlices)
        instantMultiple = try fields.decode(.instantMultiple, default: instantMultiple)
        leaveRatio = try fields.decode(.leaveRatio, default: leaveRatio)
        coolDownSeconds = try fields.decode(.coolDownSeconds, default: coolDownSeconds)
        minimumHotSeconds = try fields.decode(.minimumHotSeconds, default: minimumHotSeconds)
        reentrySeconds = try fields.decode(.reentrySeconds, default: reentrySeconds)
        writeHotRatio = try fields.decode(.writeHotRatio, default: writeHotRatio)
        missingHotRatio = try fields.decode(.missingHotRatio, default: missingHotRatio)
        action = try fields.decode(.action, default: action)
        copies = try fields.decode(.copies, default: copies)
        copiesByHeat = try fields.decode(.copiesByHeat, default: copiesByHeat)
        replicaReads = try fields.decode(.replicaReads, default: replicaReads)
        stalenessCapMilliseconds = try fields.decode(.stalenessCapMilliseconds, default: stalenessCapMilliseconds)
        staleOnErrorCapSeconds = try fields.decode(.staleOnErrorCapSeconds, default: staleOnErrorCapSeconds)
        missIntervalMilliseconds = try fields.decode(.missIntervalMilliseconds, default: missIntervalMilliseconds)
        missHoldMilliseconds = try fields.decode(.missHoldMilliseconds, default: missHoldMilliseconds)
    }
}

/// A rule as a document states it: its pattern and what differs from the defaults.
private struct StatedRule: Encodable {
    let rule: Rule

    func encode(to encoder: any Encoder) throws {
        let defaults = Rule(pattern: rule.pattern)
        var fields = encoder.container(keyedBy: Rule.CodingKeys.self)
        func state(_ field: KeyPath<Rule, some Encodable & Equatable>, _ key: Rule.CodingKeys) throws {
            guard rule[keyPath: field] != defaults[keyPath: field] else { return }
            try fields.encode(rule[keyPath: field], forKey: key)
        }
        try fields.encode(rule.pattern, forKey: .pattern)
        try state(\.thresholdPerSecond, .thresholdPerSecond)
        try state(\.thresholdShareOfNode, .thresholdShareOfNode)
        try state(\.thresholdFloorPerSecond, .thresholdFloorPerSecond)
        try state(\.thresholdBytesPerSecond, .thresholdBytesPerSecond)
        try state(\.windowMilliseconds, .windowMilliseconds)
        try state(\.confirmSlices, .confirmSlices)
        try state(\.confirmOfSlices, .confirmOfSlices)
        try state(\.instantMultiple, .instantMultiple)
        try state(\.leaveRatio, .leaveRatio)
        try state(\.coolDownSeconds, .coolDownSeconds)
        try state(\.minimumHotSeconds, .minimumHotSeconds)
        try state(\.reentrySeconds, .reentrySeconds)
        try state(\.writeHotRatio, .writeHotRatio)
        try state(\.missingHotRatio, .missingHotRatio)
        try state(\.action, .action)
        try state(\.copies, .copies)
        try state(\.copiesByHeat, .copiesByHeat)
        try state(\.replicaReads, .replicaReads)
        try state(\.stalenessCapMilliseconds, .stalenessCapMilliseconds)
        try state(\.staleOnErrorCapSeconds, .staleOnErrorCapSeconds)
        try state(\.missIntervalMilliseconds, .missIntervalMilliseconds)
        try state(\.missHoldMilliseconds, .missHoldMilliseconds)
    }
}

extension Rule: Validating {
    public func validate() throws {
        let seconds = 0...Double(RegistryLimits.durationSecondsMax)
        try require(
            (1...RegistryLimits.keyBytesMax).contains(pattern.utf8.count), "pattern",
            expected: "a pattern of 1 to \(RegistryLimits.keyBytesMax) bytes")
        try require(thresholdPerSecond, in: 1...RegistryLimits.thresholdPerSecondMax, "thresholdPerSecond")
        try require(thresholdShareOfNode, in: 0...1, "thresholdShareOfNode")
        try require(thresholdFloorPerSecond, in: 1...RegistryLimits.thresholdPerSecondMax, "thresholdFloorPerSecond")
        try require(
            thresholdShareOfNode == 0 || thresholdFloorPerSecond <= thresholdPerSecond, "thresholdFloorPerSecond",
            expected: "at most thresholdPerSecond, \(thresholdPerSecond)", found: "\(thresholdFloorPerSecond)")
        try require(
            thresholdBytesPerSecond, in: 1...RegistryLimits.thresholdBytesPerSecondMax, "thresholdBytesPerSecond")
        try require(windowMilliseconds, in: RegistryLimits.windowMillisecondsRange, "windowMilliseconds")
        let slice = RegistryLimits.sliceMilliseconds
        try require(
            windowMilliseconds.isMultiple(of: slice), "windowMilliseconds", expected: "a multiple of \(slice)")
        try require(confirmOfSlices, in: 1...windowMilliseconds / slice, "confirmOfSlices")
        try require(confirmSlices, in: 1...confirmOfSlices, "confirmSlices")
        try require(instantMultiple, in: 1...1_000_000, "instantMultiple")
        try require(leaveRatio, in: 0...0.95, "leaveRatio")
        try require(coolDownSeconds, in: seconds, "coolDownSeconds")
        try require(minimumHotSeconds, in: seconds, "minimumHotSeconds")
        try require(reentrySeconds, in: seconds, "reentrySeconds")
        try require(writeHotRatio, in: 0...1_000, "writeHotRatio")
        try require(missingHotRatio, in: 0.1...1, "missingHotRatio")
        try require(copies, in: 0...RegistryLimits.copiesMax, "copies")
        try require(
            stalenessCapMilliseconds, in: 0...RegistryLimits.stalenessCapMillisecondsMax, "stalenessCapMilliseconds")
        try require(staleOnErrorCapSeconds, in: seconds, "staleOnErrorCapSeconds")
        try require(
            missIntervalMilliseconds, in: RegistryLimits.missIntervalMillisecondsRange, "missIntervalMilliseconds")
        try require(missHoldMilliseconds, in: 0...RegistryLimits.missHoldMillisecondsMax, "missHoldMilliseconds")
        // Held for less than an interval, nearly all would be let go before the second turn.
        try require(
            missHoldMilliseconds == 0 || missIntervalMilliseconds <= missHoldMilliseconds, "missIntervalMilliseconds",
            expected: "at most missHoldMilliseconds, \(missHoldMilliseconds)", found: "\(missIntervalMilliseconds)")
    }
}

extension Rule.Action {
    public init(from decoder: any Decoder) throws { try self.init(wordFrom: decoder) }
}
