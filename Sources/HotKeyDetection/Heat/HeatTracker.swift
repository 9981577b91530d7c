/// The states of all keys that have one, and the decisions of each slice.
///
/// Looks at each slice's end (and in between, see ``admitEarly(_:nowNanoseconds:)``) at the keys that have a state and at those whose counts are worth it (`SlidingWindow` notes
/// them as they are counted), so its cost follows the number of hot keys and not the number of keys.
///
/// Bounded: at most `hotKeysMax` hot keys. Beyond it the coolest leave; a newcomer must be a quarter hotter than what it
/// replaces, so that equals do not push each other out in turns. At most `trackedKeysMax` keys have a state at all: for more,
/// those that left lately are forgotten; then a key that enters takes the place of the coolest candidate, and candidates wait.
public struct HeatTracker: Sendable {
    /// A hot or cooling key, for display and for publishing anew.
    public struct HotKey: Sendable, Hashable {
        public var key: [UInt8]
        public var state: HeatState
        public var kind: HeatKind
        public var sample: HeatSample
        public var sinceNanoseconds: UInt64
    }

    struct Tracked: Sendable {
        var hash: UInt64
        var machine: HeatStateMachine
        var sample = HeatSample.zero
        var ruleNumber: Int?
        var ruleGeneration: UInt32 = 0

        /// Looks the rule up once for each generation of the rules.
        mutating func match(_ key: [UInt8], _ rules: RuleSet, _ generation: UInt32) {
            guard ruleGeneration != generation else { return }
            ruleGeneration = generation
            ruleNumber = key.withUnsafeBytes { rules.number(for: $0) }
        }
    }

    private static let newcomerMargin = 1.25

    public private(set) var rules: RuleSet
    private(set) var ruleGeneration: UInt32 = 1
    /// What thresholds that are shares of a node are taken of.
    public private(set) var capacities = NodeCapacities.unknown
    let hotKeysMax: Int
    let trackedKeysMax: Int
    var tracked: [[UInt8]: Tracked] = [:]
    private var graceEndsNanoseconds: UInt64 = 0
    public internal(set) var hotKeyCount = 0

    public init(
        rules: RuleSet, hotKeysMax: Int = DetectionLimits.hotKeysMax,
        trackedKeysMax: Int = DetectionLimits.trackedKeysMax
    ) {
        self.rules = rules
        self.hotKeysMax = hotKeysMax
        self.trackedKeysMax = max(trackedKeysMax, hotKeysMax)
    }

    public var trackedKeyCount: Int { tracked.count }

    /// Other rules from the next evaluation on. Counts and states stay: a hot key that is under its new rule's leave
    /// level cools as any other, one that no rule covers leaves at once.
    public mutating func update(rules: RuleSet) {
        self.rules = rules
        ruleGeneration &+= 1
    }

    /// Other capacities from the next evaluation on; thresholds follow them, states and counts stay.
    public mutating func update(capacities: NodeCapacities) {
        self.capacities = capacities
    }

    /// Takes over from another coordinator: the published keys keep their state and age, and for
    /// `takeoverGraceMilliseconds` no key cools, since reports may be missing only because they were not pulled yet.
    public mutating func adopt(_ published: [PublishedHeat], nowNanoseconds now: UInt64) {
        graceEndsNanoseconds = now + UInt64(DetectionLimits.takeoverGraceMilliseconds) * 1_000_000
        for heat in published where tracked[heat.key]?.machine.kind == nil {
            tracked[heat.key] = Tracked(
                hash: 0,
                machine: HeatStateMachine(
                    adopting: heat.kind, isCooling: heat.isCooling,
                    // One from a clock that is ahead would hold the key until then.
                    sinceNanoseconds: min(heat.sinceNanoseconds, now)))
            hotKeyCount += 1
        }
        needsHashes = true
    }

    /// Adopted keys have no hash of this window's seed yet.
    private(set) var needsHashes = false

    /// The hot and cooling keys, in no order.
    public var hotKeys: [HotKey] {
        tracked.compactMap { key, tracked in
            guard let kind = tracked.machine.kind, let since = tracked.machine.sinceNanoseconds else { return nil }
            return HotKey(
                key: key, state: tracked.machine.state, kind: kind, sample: tracked.sample, sinceNanoseconds: since)
        }
    }

    /// The names of the hot and cooling keys, in no order.
    var hotNames: [[UInt8]] { tracked.compactMap { $0.value.machine.kind == nil ? nil : $0.key } }

    /// The rule of a key, without going through all rules where it is known already.
    func match(of key: [UInt8], at entry: Int, in window: MergedWindow) -> RuleSet.Match? {
        if let known = tracked[key], known.ruleGeneration == ruleGeneration {
            return known.ruleNumber.map { rules[$0] }
        }
        guard entry >= 0 else { return rules.match(key) }
        return window.keys.ruleNumber(at: entry, in: rules, generation: ruleGeneration).map { rules[$0] }
    }

    /// The state of a key as of the last evaluation.
    public func state(of key: [UInt8]) -> HeatState {
        tracked[key]?.machine.state ?? .cold
    }

    /// What was seen of a key that has a state, as of the last evaluation.
    public func sample(of key: [UInt8]) -> HeatSample? { tracked[key]?.sample }

    /// A hot or cooling key's kind, and since when it is, as of the last evaluation.
    func heat(of key: [UInt8]) -> (kind: HeatKind, sinceNanoseconds: UInt64)? {
        guard let machine = tracked[key]?.machine, let kind = machine.kind, let since = machine.sinceNanoseconds else {
            return nil
        }
        return (kind, since)
    }

    /// Decides on the slices that have ended. Call after each slice's end; calling more often changes nothing.
    public mutating func evaluate(_ window: MergedWindow, nowNanoseconds now: UInt64) -> [HeatChange] {
        window.advance(to: now)
        if needsHashes {
            for key in tracked.keys { tracked[key]?.hash = window.hash(of: key) }
            needsHashes = false
        }
        return evaluate(
            window.keys, ending: window.lastEndedSlice, now: now, mayCool: mayCool(by: window, nowNanoseconds: now))
    }

    /// Whether enough is reported for a low rate to say something about its key.
    public func mayCool(by window: MergedWindow, nowNanoseconds now: UInt64) -> Bool {
        now >= graceEndsNanoseconds && window.isCovered
    }

    mutating func evaluate(_ window: SlidingWindow, ending: UInt64, now: UInt64, mayCool: Bool) -> [HeatChange] {
        prepare(window)
        var changes: [HeatChange] = []
        var entered: Set<[UInt8]> = []
        var forgettable: [[UInt8]] = []
        var index = tracked.startIndex
        while index != tracked.endIndex {
            let key = tracked.keys[index]
            let entry = window.find(key, hash: tracked.values[index].hash)
            if entry >= 0 { window.setTracked(true, entry: entry) }
            let moment = Moment(ending: ending, now: now, mayCool: mayCool)
            let change = Self.step(
                key, &tracked.values[index], entry, window, rules, ruleGeneration, capacities, moment, &entered)
            if let change { changes.append(change) }
            let rule = tracked.values[index].ruleNumber.map { rules[$0].rule }
            if tracked.values[index].machine.isForgettable(rule: rule, now: now) {
                if entry >= 0 { window.setTracked(false, entry: entry) }
                forgettable.append(key)
            }
            tracked.formIndex(after: &index)
        }
        for key in forgettable { tracked[key] = nil }
        admitNoted(window, Moment(ending: ending, now: now, mayCool: mayCool), &changes, &entered)
        hotKeyCount += entered.count - changes.count { $0.state == .cold }
        if hotKeyCount > hotKeysMax { enforceCapacity(&changes, entered: entered, now: now, mayCool: mayCool) }
        return changes
    }

    /// Tells a window which counts are worth a look, before the counts come in.
    func prepare(_ window: SlidingWindow) {
        window.noteworthy =
            rules.isEmpty
            ? (.infinity, .infinity) : rules.noteworthy(sliceMilliseconds: window.sliceMilliseconds, capacities)
    }

    struct Moment {
        let ending: UInt64
        let now: UInt64
        let mayCool: Bool
    }

    /// Gives a state to those of the noted keys that are over in one of the last slices.
    private mutating func admitNoted(
        _ window: SlidingWindow, _ moment: Moment, _ changes: inout [HeatChange], _ entered: inout Set<[UInt8]>
    ) {
        var places = TrackedPlaces()
        for entry in window.takeNoted() {
            guard let number = window.ruleNumber(at: entry, in: rules, generation: ruleGeneration) else { continue }
            let rule = rules[number].rule.inForce(for: window.key(at: entry), capacities)
            let sample = window.sample(at: entry, rule: rule, ending: moment.ending)
            guard sample.overSlices > 0 else { continue }
            let key = Array(window.key(at: entry))
            guard tracked[key] == nil else { continue }
            if tracked.count >= trackedKeysMax {
                let enters = HeatStateMachine().wouldEnter(sample, rule: rule, now: moment.now)
                guard places.free(in: &self, window, enters: enters) else { continue }
            }
            var fresh = Tracked(hash: window.hash(at: entry), machine: HeatStateMachine())
            let change = Self.step(key, &fresh, entry, window, rules, ruleGeneration, capacities, moment, &entered)
            window.setTracked(true, entry: entry)
            tracked[key] = fresh
            if let change { changes.append(change) }
        }
    }

    static func step(
        _ key: [UInt8], _ tracked: inout Tracked, _ entry: Int, _ window: SlidingWindow, _ rules: RuleSet,
        _ generation: UInt32, _ capacities: NodeCapacities, _ moment: Moment, _ entered: inout Set<[UInt8]>
    ) -> HeatChange? {
        let kindBefore = tracked.machine.kind
        let sinceBefore = tracked.machine.sinceNanoseconds
        tracked.match(key, rules, generation)
        func change(_ state: HeatState, _ kind: HeatKind, _ cause: HeatChange.Cause) -> HeatChange {
            HeatChange(
                key: key, state: state, kind: kind, cause: cause, sample: tracked.sample,
                sinceNanoseconds: tracked.machine.sinceNanoseconds ?? sinceBefore ?? moment.now,
                rulePosition: tracked.ruleNumber.map { rules[$0].position })
        }
        guard let number = tracked.ruleNumber else {
            tracked.sample = .zero
            tracked.machine.leave(now: moment.now)
            return kindBefore.map { change(.cold, $0, .noRule) }
        }
        let rule = key.withUnsafeBytes { rules[number].rule.inForce(for: $0, capacities) }
        tracked.sample = window.sample(at: entry, rule: rule, ending: moment.ending)
        let action = tracked.machine.observe(
            tracked.sample, rule: rule, now: moment.now, mayCool: moment.mayCool)
        switch action {
        case .none, .becameCandidate:
            return nil
        case .becameHot(let kind):
            if kindBefore == nil { entered.insert(key) }
            return change(.hot, kind, kindBefore == nil && tracked.sample.isInstant ? .instant : .threshold)
        case .kindChanged(let kind):
            return change(tracked.machine.state, kind, .kind)
        case .beganCooling:
            return change(.cooling, kindBefore ?? .read, .cooled)
        case .becameCold:
            return change(.cold, kindBefore ?? .read, .cooled)
        }
    }

    /// Lets the coolest go. One that entered only now leaves without having been heard of.
    ///
    /// - Parameter mayCool: false while missing reports could be why a key looks cool. Then only newcomers go: after a takeover the
    ///   adopted keys have no rate until their agents have been pulled, and would all be cooler than any newcomer.
    mutating func enforceCapacity(
        _ changes: inout [HeatChange], entered: Set<[UInt8]>, now: UInt64, mayCool: Bool
    ) {
        let ranked = tracked.compactMap { key, tracked -> (key: [UInt8], rank: Double)? in
            let isNew = entered.contains(key)
            guard tracked.machine.kind != nil, mayCool || isNew else { return nil }
            // What is sure of the one against what is possible of the other: a key of which reports are missing, or that is told in
            // sums, does not give way to one that may be cooler.
            let rank = isNew ? tracked.sample.leastHeat / Self.newcomerMargin : tracked.sample.mostHeat
            return (key, rank)
        }.sorted { $0.rank < $1.rank }
        let leaving = ranked.prefix(hotKeyCount - hotKeysMax).map(\.key)
        let gone = Set(leaving)
        changes.removeAll { gone.contains($0.key) }
        for key in leaving {
            guard var leaver = tracked[key], let kind = leaver.machine.kind,
                let since = leaver.machine.sinceNanoseconds
            else { continue }
            // Between two evaluations only keys that enter have been matched with rules that are new since: the number of the
            // others is one in a list that is gone.
            leaver.match(key, rules, ruleGeneration)
            leaver.machine.leave(now: now)
            tracked[key] = leaver
            guard !entered.contains(key) else { continue }
            changes.append(
                HeatChange(
                    key: key, state: .cold, kind: kind, cause: .capacity, sample: leaver.sample,
                    sinceNanoseconds: since, rulePosition: leaver.ruleNumber.map { rules[$0].position }))
        }
        hotKeyCount -= leaving.count
    }
}
