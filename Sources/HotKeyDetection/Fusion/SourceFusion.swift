/// The agents' reports and the other sources made one: which keys are published, and who named them.
///
/// - **Nothing is added up.** Two that count the same traffic would make it twice as hot. The agents' reports go through
///   `HeatTracker`, the exact sources through a state machine of their own with the same rule, and a key is as hot as the hotter
///   of the two: the largest lower bound decides.
/// - **An exact source** counts as a report does: its rate less its error is a lower bound, at the threshold the key is hot. It needs no
///   confirmation, because a source takes its rate over a span of its own.
/// - **An estimate only proposes**: the key is published as `candidate`, which nobody acts on, when its lower bound is at the
///   threshold. It neither makes a key hot nor keeps one hot; what counts the traffic does.
/// - **What expires is dropped**, and so is what is not listed any more. The key then has no rate there, and cools and leaves by its
///   rule's times: a source that vanishes and comes back within the cool-down changes nothing.
/// - **A denied key** gets nothing from any source, and what it had from them ends at once.
/// - **Shown** are the rates of the best grade; of several, those with the largest lower bound. The kind is `write` if either says so,
///   because such a key must not be cached; else `missing` or `big` if either does.
/// - **Named**: a source has named a key while it lists it, at whatever rate. Names gather until the key is cold, and only a
///   new one is worth a publication: a source whose list changes to and fro is published once a key.
///
/// - **One ranking** holds over all that is published, whoever named it: beyond `hotKeysMax` keys those that are only proposed give way
///   first, then the coolest, newcomers by the least that they have for sure, the others by the most that they may have.
///
/// Bounded: `DetectionLimits.sourceCandidatesMax` candidates, the exact ones and the largest lower bounds first, and
/// `proposedKeysMax` keys that are only proposed. A decision costs by the keys that are hot by sources, not by those listed.
public struct SourceFusion: Sendable {
    private struct Named: Sendable {
        var source: String
        var grade: SourceGrade
        var candidate: SourceCandidate
    }

    /// What one of the two ways says of a key that is hot or cooling.
    private struct Voice: Sendable {
        var state: HeatState
        var kind: HeatKind
        var sample: HeatSample
        var sinceNanoseconds: UInt64
    }

    /// What a record's `sources` calls the agents' own reports.
    public static let agentsName = "agents"

    private var rules: RuleSet
    private var capacities = NodeCapacities.unknown
    private var named: [[UInt8]: [Named]] = [:]
    /// Until when keys are denied, by the wall clock.
    private var denied: [[UInt8]: Int64] = [:]
    /// Keys that a candidate can make hot.
    private var enterable: Set<[UInt8]> = []
    /// Keys that are proposed.
    private var proposed: Set<[UInt8]> = []
    private var agents: [[UInt8]: Voice] = [:]
    private var machines: [[UInt8]: HeatStateMachine] = [:]
    private var published: [[UInt8]: FusedHeat] = [:]
    /// Keys that are published as candidates.
    private var publishedProposals: Set<[UInt8]> = []
    private var graceEndsNanoseconds: UInt64 = 0
    private let publishedKeysMax: Int
    private struct Yield: Sendable {
        var until: UInt64
        /// Not for lack of room as such: in the place where its record would be kept.
        var isForPlace: Bool
    }
    /// Keys that are hot and gave way for lack of room, until when they do not try again.
    private var yielding: [[UInt8]: Yield] = [:]
    /// Keys for which room has been looked for, until when it is not again.
    private var lookedFor: [[UInt8]: UInt64] = [:]
    /// What is listed, denied or ruled has changed since the last decision.
    private var isChanged = false
    /// Candidates that there was no room for.
    public private(set) var leftOutCount = 0

    public init(rules: RuleSet, publishedKeysMax: Int = DetectionLimits.hotKeysMax) {
        self.rules = rules
        self.publishedKeysMax = publishedKeysMax
    }

    /// Candidates taken in, expired ones included.
    public var candidateCount: Int { named.values.reduce(0) { $0 + $1.count } }

    /// What exact sources hold hot or cooling as of the last decision, with what they say of it now; in no order.
    public func heldBySources(wallMilliseconds: Int64) -> [FusedHeat] {
        machines.keys.compactMap { heldBySources($0, wallMilliseconds: wallMilliseconds) }
    }

    /// The same of one key; nil where they do not hold it.
    public func heldBySources(_ key: [UInt8], wallMilliseconds: Int64) -> FusedHeat? {
        guard let machine = machines[key], let kind = machine.kind, let since = machine.sinceNanoseconds,
            let rule = rule(for: key)
        else { return nil }
        let live = (named[key] ?? []).filter {
            $0.grade == .exact && $0.candidate.expiresAtMilliseconds > wallMilliseconds
        }
        var heat = FusedHeat(
            key: key, state: machine.state, kind: kind, sources: published[key]?.sources ?? live.map(\.source),
            sinceNanoseconds: since)
        let best = live.map { $0.candidate.sample(under: rule) }.max { $0.windowHeat < $1.windowHeat }
        if let best { heat.show(best) }
        return heat
    }

    /// How many keys exact sources hold hot or cooling of which that is true.
    public func heldBySourcesCount(where isCounted: ([UInt8]) -> Bool) -> Int {
        machines.count { $0.value.kind != nil && isCounted($0.key) }
    }

    /// Keys that are published.
    var publishedCount: Int { published.count }

    // MARK: News

    public mutating func update(rules: RuleSet) {
        self.rules = rules
        sort()
    }

    /// What thresholds that are shares of a node are taken of.
    public mutating func update(capacities: NodeCapacities) {
        self.capacities = capacities
        sort()
    }

    /// With the threshold that is in force for the key.
    private func rule(for key: [UInt8]) -> DetectionRule? {
        key.withUnsafeBytes { bytes in rules.match(bytes).map { $0.rule.inForce(for: bytes, capacities) } }
    }

    /// The keys that operators deny, with the end of each by the wall clock in milliseconds since 1970.
    public mutating func update(denied: [[UInt8]: Int64]) {
        self.denied = denied
        isChanged = true
    }

    /// Everything that all sources propose now, by the source's name.
    public mutating func update(sources: [String: SourceProposals]) {
        var all = sources.flatMap { name, proposals in
            proposals.candidates.map { Named(source: name, grade: proposals.grade, candidate: $0) }
        }
        all.sort { left, right in
            if left.grade != right.grade { return left.grade == .exact }
            if left.candidate.lowerBoundPerSecond != right.candidate.lowerBoundPerSecond {
                return left.candidate.lowerBoundPerSecond > right.candidate.lowerBoundPerSecond
            }
            return left.source < right.source
        }
        leftOutCount = max(0, all.count - DetectionLimits.sourceCandidatesMax)
        named = Dictionary(grouping: all.prefix(DetectionLimits.sourceCandidatesMax), by: \.candidate.key)
        sort()
    }

    /// Works out which keys are worth a look at each decision.
    private mutating func sort() {
        isChanged = true
        var exact: [(key: [UInt8], heat: Double)] = []
        var estimates: [(key: [UInt8], heat: Double)] = []
        for (key, list) in named {
            guard let rule = rule(for: key) else { continue }
            for grade in SourceGrade.allCases {
                let heats = list.lazy.filter { $0.grade == grade }.map { $0.candidate.heat(under: rule) }
                guard let heat = heats.max(), heat >= 1 else { continue }
                if grade == .exact { exact.append((key, heat)) } else { estimates.append((key, heat)) }
            }
        }
        func hottest(_ keys: [(key: [UInt8], heat: Double)], _ count: Int) -> Set<[UInt8]> {
            guard keys.count > count else { return Set(keys.map(\.key)) }
            return Set(keys.sorted { $0.heat > $1.heat }.prefix(count).map(\.key))
        }
        enterable = hottest(exact, DetectionLimits.hotKeysMax)
        proposed = hottest(estimates, DetectionLimits.proposedKeysMax)
    }

    /// Takes over what another coordinator has published. For `takeoverGraceMilliseconds` nothing ends, since the sources may simply
    /// not have been read yet.
    ///
    /// Returns the keys that the agents named: those that the tracker has to take over.
    public mutating func adopt(_ heats: [FusedHeat], nowNanoseconds now: UInt64) -> [PublishedHeat] {
        graceEndsNanoseconds = now + UInt64(DetectionLimits.takeoverGraceMilliseconds) * 1_000_000
        var ofAgents: [PublishedHeat] = []
        for var heat in heats {
            // One from a clock that is ahead would hold the key until then.
            heat.sinceNanoseconds = min(heat.sinceNanoseconds, now)
            published[heat.key] = heat
            guard heat.state != .candidate else {
                publishedProposals.insert(heat.key)
                continue
            }
            let isCooling = heat.state == .cooling
            if heat.sources.contains(where: { $0 != Self.agentsName }) {
                machines[heat.key] = HeatStateMachine(
                    adopting: heat.kind, isCooling: isCooling, sinceNanoseconds: heat.sinceNanoseconds)
            }
            if heat.sources.isEmpty || heat.sources.contains(Self.agentsName) {
                agents[heat.key] = Voice(
                    state: heat.state, kind: heat.kind, sample: .zero, sinceNanoseconds: heat.sinceNanoseconds)
                ofAgents.append(
                    PublishedHeat(
                        key: heat.key, kind: heat.kind, isCooling: isCooling, sinceNanoseconds: heat.sinceNanoseconds))
            }
        }
        return ofAgents
    }

    // MARK: Deciding

    /// - Parameters:
    ///   - changes: what the tracker has decided since the last call.
    ///   - wallMilliseconds: since 1970; by it candidates and denies end.
    ///   - mayCool: false while missing reports could be why a key looks cool: then none leaves for a newcomer.
    ///   - sample: what the agents' reports say now of a key that they hold hot; asked for where there is no room for all.
    public mutating func decide(
        agents changes: [HeatChange], nowNanoseconds now: UInt64, wallMilliseconds: Int64, mayCool: Bool = true,
        sample: ([UInt8]) -> HeatSample? = { _ in nil }
    ) -> [FusedChange] {
        var keys = Set(changes.map(\.key))
        for change in changes {
            agents[change.key] =
                change.state == .hot || change.state == .cooling
                ? Voice(
                    state: change.state, kind: change.kind, sample: change.sample,
                    sinceNanoseconds: change.sinceNanoseconds) : nil
        }
        keys.formUnion(machines.keys)
        keys.formUnion(enterable)
        keys.formUnion(proposed)
        keys.formUnion(publishedProposals)
        if isChanged { keys.formUnion(published.keys.filter { named[$0] != nil }) }
        isChanged = false
        // All that wait for room at once, so that the hottest of them take it.
        let mayTry =
            published.count < publishedKeysMax || yielding.values.contains { !$0.isForPlace && $0.until <= now }
        for (key, yield) in yielding where yield.isForPlace ? yield.until <= now : mayTry {
            yielding[key] = nil
            keys.insert(key)
        }
        let mayEnd = now >= graceEndsNanoseconds
        var decided: [[UInt8]: FusedChange] = [:]
        var entered: Set<[UInt8]> = []
        for key in keys {
            let isNew = published[key] == nil
            guard let change = decide(key, now: now, wallMilliseconds: wallMilliseconds, mayEnd: mayEnd) else {
                continue
            }
            if isNew { entered.insert(key) }
            decided[key] = change
        }
        if published.count > publishedKeysMax {
            let leaving = coolest(
                published.count - publishedKeysMax, entered: entered, mayLeave: mayEnd && mayCool,
                wallMilliseconds: wallMilliseconds, sample)
            for key in leaving {
                giveWay(key, Yield(until: now + Self.yieldNanoseconds, isForPlace: false))
                decided[key] = entered.contains(key) ? nil : .remove(key)
            }
        }
        // In an order of their own, so that the same events give the same changes.
        return decided.values.sorted { $0.key.lexicographicallyPrecedes($1.key) }
    }

    // MARK: Room

    /// A newcomer must be a quarter hotter than what it replaces, so that equals do not push each other out in turns.
    private static let newcomerMargin = 1.25
    /// What gave way tries again after so long: what is submitted at once would take the room for which it left.
    private static let yieldNanoseconds = UInt64(DetectionLimits.yieldMilliseconds) * 1_000_000

    private static let lookNanoseconds = UInt64(DetectionLimits.roomLookMilliseconds) * 1_000_000

    private mutating func giveWay(_ key: [UInt8], _ yield: Yield) {
        published[key] = nil
        publishedProposals.remove(key)
        yielding[key] = yield
    }

    /// Lets cooler keys out for those that are hot and that there is no room for where records of their kind are kept; none for a key
    /// for which those that are cooler for sure would not make room enough.
    ///
    /// - Parameters:
    ///   - keys: each with the place where its record would be kept, the hottest first.
    ///   - keysMax: for how many of them room is looked for: the first of those for which it has not been lately.
    ///   - mayCool: false while missing reports could be why a key looks cool: then none leaves.
    ///   - place: where a key's record is kept; nil of one that waits for room itself, and would leave none behind.
    public mutating func makeRoom(
        for keys: [(key: [UInt8], place: Int)], keysMax: Int = .max, nowNanoseconds now: UInt64,
        wallMilliseconds: Int64,
        mayCool: Bool = true, sample: ([UInt8]) -> HeatSample? = { _ in nil }, place: ([UInt8]) -> Int?
    ) -> [FusedChange] {
        guard mayCool, now >= graceEndsNanoseconds else { return [] }
        lookedFor = lookedFor.filter { $0.value > now }
        let due = keys.lazy.filter { [lookedFor] in lookedFor[$0.key] == nil }.prefix(keysMax).map { $0 }
        guard !due.isEmpty else { return [] }
        // Once for all of them: there may be as many keys as can be published.
        let wanted = Set(due.map(\.place))
        var neighbours: [Int: [[UInt8]]] = [:]
        for key in published.keys {
            if let place = place(key), wanted.contains(place) { neighbours[place, default: []].append(key) }
        }
        var leaving: [[UInt8]] = []
        for (key, place) in due {
            let rivals = coolerRivals(of: key, among: neighbours[place] ?? [], wallMilliseconds, sample)
            for rival in rivals { giveWay(rival, Yield(until: now + Self.yieldNanoseconds, isForPlace: true)) }
            // A record may outlive what left by the time that its copies take to be deleted: no more leave for the same key until then.
            lookedFor[key] = now + (rivals.isEmpty ? Self.lookNanoseconds : Self.yieldNanoseconds)
            leaving += rivals
        }
        return leaving.map(FusedChange.remove)
    }

    /// As many of the coolest as make room for a key; none where those that are cooler for sure would not.
    private func coolerRivals(
        of key: [UInt8], among neighbours: [[UInt8]], _ wallMilliseconds: Int64, _ sample: ([UInt8]) -> HeatSample?
    ) -> [[UInt8]] {
        guard let heat = published[key], heat.state != .candidate else { return [] }
        let least = bounds(of: key, wallMilliseconds: wallMilliseconds, sample).least / Self.newcomerMargin
        let rivals = neighbours.compactMap { rival -> (key: [UInt8], rank: Double)? in
            guard rival != key, let heat = published[rival] else { return nil }
            let rank =
                heat.state == .candidate
                ? -1 : bounds(of: rival, wallMilliseconds: wallMilliseconds, sample).most
            return rank < least ? (rival, rank) : nil
        }.sorted { ($0.rank, $0.key.count) < ($1.rank, $1.key.count) }
        // Records differ by the lengths of their keys, most of all.
        var missing = key.count + DetectionLimits.recordBytesUsual
        var leaving: [[UInt8]] = []
        for rival in rivals where missing > 0 {
            leaving.append(rival.key)
            missing -= rival.key.count + DetectionLimits.recordBytesUsual
        }
        return missing <= 0 ? leaving : []
    }

    /// Those that give way first. As long as what is published may not leave, only newcomers.
    private func coolest(
        _ count: Int, entered: Set<[UInt8]>, mayLeave: Bool, wallMilliseconds: Int64, _ sample: ([UInt8]) -> HeatSample?
    ) -> [[UInt8]] {
        published.compactMap { key, heat -> (key: [UInt8], rank: Double)? in
            let isNew = entered.contains(key)
            guard mayLeave || isNew else { return nil }
            guard heat.state != .candidate else { return (key, -1) }
            let bounds = bounds(of: key, wallMilliseconds: wallMilliseconds, sample)
            return (key, isNew ? bounds.least / Self.newcomerMargin : bounds.most)
        }.sorted { ($0.rank, $0.key.count) < ($1.rank, $1.key.count) }.prefix(count).map(\.key)
    }

    /// How hot a key is, at least and at most, by the hotter of those that speak of it.
    private func bounds(
        of key: [UInt8], wallMilliseconds: Int64, _ sample: ([UInt8]) -> HeatSample?
    ) -> (least: Double, most: Double) {
        var samples = agents[key].map { [sample(key) ?? $0.sample] } ?? []
        if let rule = rule(for: key) {
            samples += (named[key] ?? []).lazy.filter {
                $0.grade == .exact && $0.candidate.expiresAtMilliseconds > wallMilliseconds
            }.map { $0.candidate.sample(under: rule) }
        }
        return (samples.map(\.leastHeat).max() ?? 0, samples.map(\.mostHeat).max() ?? 0)
    }

    private mutating func decide(
        _ key: [UInt8], now: UInt64, wallMilliseconds: Int64, mayEnd: Bool
    ) -> FusedChange? {
        let isDenied = denied[key].map { $0 > wallMilliseconds } ?? false
        let rule = isDenied ? nil : rule(for: key)
        let live =
            rule == nil ? [] : (named[key] ?? []).filter { $0.candidate.expiresAtMilliseconds > wallMilliseconds }
        let ofSources = rule.flatMap { observe(key, live, $0, now: now, mayCool: mayEnd) }
        if rule == nil { machines[key] = nil }
        let voices = [agents[key], ofSources].compactMap { $0 }
        let before = published[key]
        guard var heat = fused(key, voices) ?? proposal(key, live, rule, before, now: now, mayEnd: mayEnd) else {
            yielding[key] = nil
            publishedProposals.remove(key)
            return published.removeValue(forKey: key).map { _ in .remove(key) }
        }
        guard yielding[key] == nil else { return nil }
        // Those that were there first stay: with more names than there is room for, none pushes another out.
        var sources = before?.sources ?? []
        for name in (agents[key] == nil ? [] : [Self.agentsName]) + live.map(\.source) where !sources.contains(name) {
            sources.append(name)
        }
        heat.sources = Array(sources.prefix(DetectionLimits.sourceNamesMax))
        if let before, before.state == heat.state, before.kind == heat.kind,
            Set(heat.sources).isSubset(of: before.sources)
        {
            return nil
        }
        published[key] = heat
        if heat.state == .candidate { publishedProposals.insert(key) } else { publishedProposals.remove(key) }
        return .set(heat)
    }

    /// Lets the exact sources' machine see its sample. Nil when they do not hold the key hot.
    private mutating func observe(
        _ key: [UInt8], _ live: [Named], _ rule: DetectionRule, now: UInt64, mayCool: Bool
    ) -> Voice? {
        let best = live.lazy.filter { $0.grade == .exact }.map { $0.candidate.sample(under: rule) }
            .max { $0.windowHeat < $1.windowHeat }
        let sample = best ?? .zero
        guard machines[key] != nil || sample.windowHeat >= 1 && machines.count < DetectionLimits.trackedKeysMax else {
            return nil
        }
        var machine = machines[key] ?? HeatStateMachine()
        _ = machine.observe(sample, rule: rule, now: now, mayCool: mayCool)
        machines[key] = machine.isForgettable(rule: rule, now: now) ? nil : machine
        guard let kind = machine.kind, let since = machine.sinceNanoseconds else { return nil }
        return Voice(state: machine.state, kind: kind, sample: sample, sinceNanoseconds: since)
    }

    /// As hot as the hotter of the two.
    private func fused(_ key: [UInt8], _ voices: [Voice]) -> FusedHeat? {
        guard let first = voices.first else { return nil }
        let kinds = voices.map(\.kind)
        var heat = FusedHeat(
            key: key, state: voices.contains { $0.state == .hot } ? .hot : .cooling,
            // The first of these is what must not be done, the others what would be no use.
            kind: [HeatKind.write, .missing, .big].first { kinds.contains($0) } ?? .read, sources: [],
            sinceNanoseconds: voices.reduce(first.sinceNanoseconds) { min($0, $1.sinceNanoseconds) })
        heat.show(voices.max { $0.sample.windowHeat < $1.sample.windowHeat }?.sample ?? first.sample)
        return heat
    }

    /// A key that only estimates speak of.
    private func proposal(
        _ key: [UInt8], _ live: [Named], _ rule: DetectionRule?, _ before: FusedHeat?, now: UInt64, mayEnd: Bool
    ) -> FusedHeat? {
        let isBefore = before?.state == .candidate
        guard let rule, proposed.contains(key),
            let sample = live.lazy.filter({ $0.grade == .estimate }).map({ $0.candidate.sample(under: rule) })
                .max(by: { $0.windowHeat < $1.windowHeat }), sample.windowHeat >= 1
        else { return isBefore && !mayEnd && rule != nil ? before : nil }
        // Nobody acts on it, so it keeps the kind it was proposed with: a new one at each look would be a publication each. Only
        // that it is written is said at once.
        let kind = HeatStateMachine.kind(of: sample, rule: rule)
        var heat = FusedHeat(
            key: key, state: .candidate, kind: isBefore && kind != .write ? before?.kind ?? kind : kind, sources: [],
            sinceNanoseconds: isBefore ? before?.sinceNanoseconds ?? now : now)
        heat.show(sample)
        return heat
    }
}
