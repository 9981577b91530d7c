import HotKeyMitigation
import HotKeyRegistry
import HotKeyRules

/// What the coordinator publishes of the keys' copies: puts together what detection, operators and rules say of each key, and lets a
/// ``CopyLifecycle`` say what its record says. Pure; ``CopyKeeper`` does the work.
struct CopyPlan: Sendable {
    /// What the copies go by besides detection.
    struct Situation: Sendable {
        var registry: RegistrySnapshot
        var rules: RuleBook
        /// Nodes that hold keys; of a Redis Cluster its primaries.
        var placeCount: Int
        /// Grows when copies lie elsewhere although the topology document is the same: slots of a Redis Cluster have changed hands.
        var placeChanges: UInt64 = 0
        /// The ensemble's time, by which pins end.
        var clock: Timestamp
        /// Of a monotonic clock, in nanoseconds.
        var now: UInt64
    }

    /// How hot a key is, for the number of its copies.
    struct Heat: Sendable, Hashable {
        var readsPerSecond: Double
        /// What the key's home can carry, where that was measured.
        var homeAccessesPerSecond: Double?
    }

    /// What the copies of all keys depend on.
    private struct Terms: Hashable {
        var isMitigating: Bool
        var capMilliseconds: Int?
        var pins: PinsDocument?
        var rules: RulesDocument
        var placeCount: Int
    }

    /// As detection decides, without a word on copies.
    private var detected: [KeyName: HotRecord] = [:]
    private var lifecycle = CopyLifecycle()
    private var numbers: [KeyName: CopyNumber] = [:]
    /// Since when a key that is cold by itself has a record, for the record.
    private var bookkeptSince: [KeyName: Timestamp] = [:]
    /// Records that have changed since the last turn.
    private var changed: Set<KeyName> = []
    private var terms: Terms?
    private var topology: TopologyDocument?
    private var placeChanges: UInt64?
    private var pins: [KeyName: PinEntry] = [:]
    private var denies: Set<KeyName> = []
    /// When the passing of time alone changes the pins or denies.
    private var nextExpiry: Timestamp?
    private var heatAskedAt: UInt64?
    private var wasSuspended = false

    /// - Parameter published: what the coordinator before has left.
    init(published: some Sequence<HotRecord>, now: UInt64) {
        for record in published {
            if let managed = ManagedCopies(record) {
                lifecycle.adopt(record.key.bytes, .init(managed), now: now)
                numbers[record.key] = CopyNumber(copies: managed.copies)
            }
            guard !record.isOnlyOfCopies else {
                bookkeptSince[record.key] = record.since
                continue
            }
            var bare = record
            bare.copies = nil
            bare.copyState = nil
            detected[record.key] = bare
        }
    }

    /// How many keys have copies in each state.
    var counts: [CopyLifecycle.State: Int] { lifecycle.counts }

    /// Nothing is decided for now: agents act on nothing, or on what somebody else publishes.
    mutating func suspend() { wasSuspended = true }

    /// Keys whose heat is asked for before ``turn(_:heats:_:)``: of those that get their number from it all once a second, and what is
    /// new.
    mutating func heatQuestion(_ updates: [HotUpdate], _ situation: Situation) -> [KeyName] {
        guard situation.rules.document.rules.contains(where: \.copiesByHeat) else { return [] }
        let isDue = heatAskedAt.map { situation.now &- $0 >= AgentLimits.copyNumberNanoseconds } ?? true
        if isDue { heatAskedAt = situation.now }
        let keys = isDue ? Set(detected.keys).union(updates.map(\.key)) : Set(updates.map(\.key))
        return keys.filter { situation.rules.rule(for: $0.bytes)?.copiesByHeat == true }
    }

    /// What is to be published.
    /// - Parameters:
    ///   - updates: what detection has decided.
    ///   - heats: the answer to ``heatQuestion(_:_:)``.
    mutating func turn(
        _ updates: [HotUpdate], heats: [KeyName: Heat] = [:], _ situation: Situation
    ) -> [HotUpdate] {
        var touched: Set<KeyName> = []
        for update in updates {
            switch update {
            case .set(let record): detected[record.key] = record
            case .remove(let key): detected[key] = nil
            }
            touched.insert(update.key)
        }
        changed.formUnion(touched)
        touched.formUnion(heats.keys)
        if notesNews(situation) {
            touched.formUnion(detected.keys)
            touched.formUnion(pins.keys)
            touched.formUnion(lifecycle.keys.map { KeyName($0) })
        }
        for key in touched {
            let wanted = wanted(key, heats[key], situation)
            let isChanged = lifecycle.want(
                key.bytes, copies: wanted.copies, lifetimeNanoseconds: wanted.lifetimeNanoseconds, now: situation.now)
            if isChanged { changed.insert(key) }
        }
        for key in lifecycle.unannounced {
            let record = situation.registry.hot[KeyName(key)]
            lifecycle.announced(key, record.flatMap { ManagedCopies($0) }.map { .init($0) }, now: situation.now)
        }
        defer { changed = [] }
        return changed.sorted().map { update(of: $0, at: situation.clock) }
    }

    /// What is to be done now, at most so much.
    mutating func due(now: UInt64, jobsMax: Int) -> [CopyLifecycle.Job] {
        let due = lifecycle.due(now: now, jobsMax: jobsMax)
        changed.formUnion(due.changed.map { KeyName($0) })
        return due.jobs
    }

    mutating func done(_ job: CopyLifecycle.Job, succeeded: Bool, now: UInt64) {
        if lifecycle.done(job, succeeded: succeeded, now: now) { changed.insert(KeyName(job.key)) }
    }

    // MARK: What is wanted

    /// Whether the copies of all keys have to be looked at.
    private mutating func notesNews(_ situation: Situation) -> Bool {
        let registry = situation.registry
        let new = Terms(
            isMitigating: registry.mode == .mitigate, capMilliseconds: registry.control?.stalenessCapMilliseconds,
            pins: registry.pins, rules: situation.rules.document, placeCount: situation.placeCount)
        // Before a node's removal is known here, agents may be past it already: what is asked of the proxy goes by its own topology.
        let isElsewhere = topology != nil && registry.topology != topology
        if isElsewhere || wasSuspended || placeChanges.map({ $0 != situation.placeChanges }) ?? false {
            lifecycle.placesChanged(now: situation.now)
        }
        topology = registry.topology
        placeChanges = situation.placeChanges
        wasSuspended = false
        let hasExpired = nextExpiry.map { $0 <= situation.clock } ?? false
        guard new != terms || isElsewhere || hasExpired else { return false }
        if new.pins != terms?.pins || hasExpired || terms == nil {
            pins = Dictionary(
                (registry.pins?.pins ?? []).filter { !$0.isExpired(at: situation.clock) }.map { ($0.key, $0) }
            ) { first, _ in first }
            denies = Set(
                (registry.pins?.denies ?? []).filter { !$0.isExpired(at: situation.clock) }.map(\.key)
            ).subtracting(pins.keys)
            nextExpiry = registry.nextExpiry(after: situation.clock)
        }
        terms = new
        return true
    }

    private mutating func wanted(
        _ key: KeyName, _ heat: Heat?, _ situation: Situation
    ) -> (copies: Int, lifetimeNanoseconds: UInt64) {
        let none = (copies: 0, lifetimeNanoseconds: UInt64(0))
        let pin = pins[key]
        let record = detected[key].flatMap { $0.state.isActedUpon ? $0 : nil }
        guard terms?.isMitigating == true, pin != nil || record != nil && !denies.contains(key) else {
            numbers[key] = nil
            return none
        }
        let rule = situation.rules.rule(for: key.bytes) ?? Rule(pattern: "*")
        let copiesMax = max(0, situation.placeCount - 1)
        var wish = rule.copies
        if rule.copiesByHeat {
            // A key that is only pinned has no rate, and so the least there is.
            let reads = max(heat?.readsPerSecond ?? 0, heat == nil ? record?.readsPerSecond ?? 0 : 0)
            wish =
                heat == nil && numbers[key]?.copies != nil
                ? min(numbers[key]?.copies ?? 0, rule.copies)
                : numbers[key, default: CopyNumber()].observe(
                    readsPerSecond: reads,
                    placeReadsPerSecond: rule.readsPerPlace(homeAccessesPerSecond: heat?.homeAccessesPerSecond),
                    copiesMax: min(rule.copies, copiesMax), now: situation.now)
        }
        let policy = HotKeyPolicy(
            key: key.bytes, rule: rule, kind: record?.kind ?? .read, copies: min(pin?.copies ?? wish, copiesMax),
            fleetCapMilliseconds: situation.registry.control?.stalenessCapMilliseconds
                ?? ControlDocument().stalenessCapMilliseconds)
        // Before a Redis Cluster the rule may have replicas read instead.
        let readsReplicas = policy.readsReplicas && situation.registry.topology?.kind == .cluster
        guard policy.kind.usesCopies, policy.copyLifetimeNanoseconds > 0, !readsReplicas else { return none }
        return (policy.copies, policy.copyLifetimeNanoseconds)
    }

    // MARK: What is published

    private mutating func update(of key: KeyName, at clock: Timestamp) -> HotUpdate {
        let copies = lifecycle.published(key.bytes)
        guard var record = detected[key] else {
            guard let copies else {
                bookkeptSince[key] = nil
                return .remove(key)
            }
            let since = bookkeptSince[key] ?? clock
            bookkeptSince[key] = since
            return .set(
                HotRecord(
                    key: key, state: .candidate, copies: copies.copies, copyState: CopyState(copies.state),
                    since: since))
        }
        bookkeptSince[key] = nil
        record.copies = copies?.copies ?? record.copies
        record.copyState = copies.map { CopyState($0.state) }
        return .set(record)
    }
}

extension CopyLifecycle.Published {
    init(_ managed: ManagedCopies) {
        let state: CopyLifecycle.State =
            switch managed.state {
            case .warming: .warming
            case .ready: .ready
            case .leaving: .leaving
            }
        self.init(state: state, copies: managed.copies)
    }
}

extension CopyState {
    init(_ state: CopyLifecycle.State) {
        switch state {
        case .warming: self = .warming
        case .ready: self = .ready
        case .leaving: self = .leaving
        }
    }
}
