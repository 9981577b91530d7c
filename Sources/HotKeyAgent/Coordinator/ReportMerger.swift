import HotKeyDetection
import HotKeyPeer
import HotKeyRegistry
import HotKeyRules
import NIOCore

/// All agents' reports merged, fused with the other sources, and the state of each key: the pure parts of ``HotKeyDetection`` behind one owner.
actor ReportMerger {
    private let window: MergedWindow
    private var tracker: HeatTracker
    private var fusion: SourceFusion
    /// What ``fusion`` was told last.
    private var sources: [AgentID: SourceDocument] = [:]
    private var pins: PinsDocument?
    private var rules: RuleBook
    private var positions: [AgentID: (epoch: UInt64, sequence: UInt64)] = [:]
    /// By epoch, the agent under whose id its reports are counted.
    private var counted: [UInt64: AgentID] = [:]
    /// Agents that answer with the epoch of another one.
    private var duplicates: Set<AgentID> = []
    /// The agents of the registry: what a pull brings of any other, because it was under way when the agent left, is dropped.
    private var wanted: Set<AgentID> = []
    /// Of adopted keys: since when they are hot, as it was published, and what that is on this process's clock, which may be younger.
    private var adoptedSince: [[UInt8]: (nanoseconds: UInt64, published: Timestamp)]

    /// - Parameters:
    ///   - published: what the previous coordinator left; it stays hot until the reports say otherwise.
    ///   - clock: this moment by the ensemble's clock. Coordinators date by it, so that one host's clock that is wrong neither makes keys
    ///     older for the next coordinator nor younger.
    ///   - now: this moment by the clock that ``ingest(_:_:at:)`` and ``decide(rules:at:)`` are told.
    init(rules: RuleBook, published: HotRecords, clock: Timestamp, now: NIODeadline = .now()) {
        self.rules = rules
        window = MergedWindow(hashSeed: UInt64.random(in: .min ... .max))
        tracker = HeatTracker(rules: rules.detection)
        fusion = SourceFusion(rules: rules.detection)
        let origin = now.uptimeNanoseconds
        // Of no key yet: it tells the window from which counts on keys are worth a look, and the first pull of each agent, which
        // brings its last second, may come before the first decision.
        _ = tracker.evaluate(window, nowNanoseconds: origin)
        var adopted: [[UInt8]: (nanoseconds: UInt64, published: Timestamp)] = [:]
        let heats = published.compactMap { record -> FusedHeat? in
            // A start that lies ahead, by an ensemble that was without its clock, is now: the key is hot for the minimum from here on.
            let age = clock.millisecondsSince1970.subtractingReportingOverflow(record.since.millisecondsSince1970)
            let ageMilliseconds = age.overflow ? UInt64(Int64.max) : UInt64(max(0, age.partialValue))
            let (nanoseconds, isOverflow) = ageMilliseconds.multipliedReportingOverflow(by: 1_000_000)
            let since = isOverflow || nanoseconds > origin ? 0 : origin - nanoseconds
            if record.since <= clock { adopted[record.key.bytes] = (since, record.since) }
            return FusedHeat(record, sinceNanoseconds: since)
        }
        adoptedSince = adopted
        tracker.adopt(fusion.adopt(heats, nowNanoseconds: origin), nowNanoseconds: origin)
    }

    /// What to ask an agent for next.
    func position(of id: AgentID) -> (epoch: UInt64?, sequence: UInt64) {
        positions[id].map { ($0.epoch, $0.sequence) } ?? (nil, 0)
    }

    struct Ingested: Sendable {
        var counted = 0
        var repeated = 0
        var missing = 0
        /// There is a new key that may be hot by now.
        var mayShowHeat = false
        /// The agent that has already brought these frames under its own id: nothing was counted.
        var duplicateOf: AgentID?
    }

    /// The number after which an agent's frames are asked for that has not been asked before.
    static func start(newest sequence: UInt64) -> UInt64 { sequence - min(sequence, UInt64(MergedWindow.framesOfUse)) }

    /// The agents that there are. Of one that is not among them nothing is counted.
    func setWanted(_ agents: Set<AgentID>) { wanted = agents }

    /// How many agents there are, reached or not: as long as most have told nothing, nothing cools.
    func expect(agents: Int) { window.agentsExpected = agents }

    /// How many agents are another one of those that are pulled.
    var duplicateCount: Int { duplicates.count }

    /// Counts what a pull brought, unless it came from an agent that is pulled under another id as well.
    ///
    /// An epoch is drawn at random at each start of an agent, so two ids with one epoch are one agent: both addresses in
    /// the registry lead to it. Counted under each, its keys would be as many times as hot.
    ///
    /// A pull that waits for its agent outlives the agent's node in the registry by what it waits. Counted after ``forget(_:)``, its
    /// frames would be those of an agent that nobody forgets any more.
    func ingest(_ id: AgentID, _ reply: ReportsReply, at now: NIODeadline = .now()) throws -> Ingested {
        guard wanted.contains(id) else { return Ingested() }
        if let other = counted[reply.epoch], other != id {
            release(id)
            duplicates.insert(id)
            // Or it would be asked for everything again and again, without a pause.
            positions[id] = (reply.epoch, reply.lastSequence)
            return Ingested(duplicateOf: other)
        }
        let ingested = try window.ingest(
            agent: id.description, epoch: reply.epoch, frames: reply.frames, nowNanoseconds: now.uptimeNanoseconds)
        if positions[id]?.epoch != reply.epoch { release(id) }
        counted[reply.epoch] = id
        duplicates.remove(id)
        positions[id] = (reply.epoch, reply.lastSequence)
        return Ingested(
            counted: ingested.counted, repeated: ingested.repeated, missing: ingested.missing,
            mayShowHeat: window.hasNewBusyKeys)
    }

    func forget(_ id: AgentID) {
        wanted.remove(id)
        release(id)
        duplicates.remove(id)
        positions[id] = nil
        window.remove(agent: id.description)
    }

    /// What the agent brought last is not counted under its id any more.
    private func release(_ id: AgentID) {
        guard let epoch = positions[id]?.epoch, counted[epoch] == id else { return }
        counted[epoch] = nil
    }

    /// Sources that are in force, and how many candidates they list.
    private(set) var sourceCounts = (sources: 0, candidates: 0)

    /// - Parameters:
    ///   - sources: what the other sources say now.
    ///   - clock: this moment by the ensemble's clock, by which candidates and denies end.
    ///   - isEarly: a slice is under way: keys that it shows to be hot so far are let in, and nothing else is decided.
    func decide(
        rules newRules: RuleBook, sources newSources: [AgentID: SourceDocument] = [:],
        pins newPins: PinsDocument? = nil,
        clock: Timestamp = .now, isEarly: Bool = false, at now: NIODeadline = .now()
    ) -> [HotUpdate] {
        if newRules.document != rules.document {
            rules = newRules
            tracker.update(rules: newRules.detection)
            fusion.update(rules: newRules.detection)
        }
        if newSources != sources {
            sources = newSources
            fusion.update(sources: SourceProposals.all(newSources))
            sourceCounts = (newSources.count, fusion.candidateCount)
        }
        if newPins != pins {
            pins = newPins
            fusion.update(denied: newPins?.deniedUntilMilliseconds ?? [:])
        }
        let changes =
            isEarly
            ? tracker.admitEarly(window, nowNanoseconds: now.uptimeNanoseconds)
            : tracker.evaluate(window, nowNanoseconds: now.uptimeNanoseconds)
        guard !isEarly || !changes.isEmpty else { return [] }
        return fusion.decide(
            agents: changes, nowNanoseconds: now.uptimeNanoseconds, wallMilliseconds: clock.millisecondsSince1970,
            mayCool: tracker.mayCool(by: window, nowNanoseconds: now.uptimeNanoseconds),
            sample: { [tracker] in tracker.sample(of: $0) }
        ).map { update(for: $0, clock, now) }
    }

    /// In place of ``decide(rules:sources:pins:clock:isEarly:at:)`` while somebody else decides, or nobody.
    func decideNothing() { window.passOverBusyKeys() }

    /// Lets cooler keys out for those that their buckets have no room for; they are published in the room that becomes free.
    /// - Parameters:
    ///   - keys: the hottest first.
    ///   - absent: keys that have no record for lack of room; to let one of them out would free nothing.
    func makeRoom(
        for keys: [KeyName], absent: Set<KeyName> = [], clock: Timestamp = .now, at now: NIODeadline = .now()
    ) -> [HotUpdate] {
        fusion.makeRoom(
            for: keys.map { ($0.bytes, $0.bucket) }, keysMax: AgentLimits.roomMadeKeysMax,
            nowNanoseconds: now.uptimeNanoseconds,
            wallMilliseconds: clock.millisecondsSince1970,
            mayCool: tracker.mayCool(by: window, nowNanoseconds: now.uptimeNanoseconds),
            sample: { [tracker] in tracker.sample(of: $0) },
            place: {
                let key = KeyName($0)
                return absent.contains(key) ? nil : key.bucket
            }
        ).map { update(for: $0, clock, now) }
    }

    /// In force from the next decision on.
    func update(capacities: NodeCapacities) {
        tracker.update(capacities: capacities)
        fusion.update(capacities: capacities)
    }

    /// Of keys whose number of copies goes by it.
    func copyHeat(of keys: [KeyName]) -> [KeyName: CopyPlan.Heat] {
        let capacities = tracker.capacities
        return keys.reduce(into: [:]) { heats, key in
            // Keys that only other sources hold hot have the rate of their record.
            guard let sample = tracker.sample(of: key.bytes) else { return }
            heats[key] = CopyPlan.Heat(
                readsPerSecond: sample.readsPerSecond,
                homeAccessesPerSecond: key.bytes.withUnsafeBytes { capacities.home(of: $0)?.accessesPerSecond })
        }
    }

    /// Decides nothing.
    /// - Parameter clock: this moment by the ensemble's clock.
    func live(_ question: LiveHeat.Question, clock: Timestamp = .now, at now: NIODeadline = .now()) -> LiveHeat {
        window.advance(to: now.uptimeNanoseconds)
        let wall = clock.millisecondsSince1970
        let held =
            switch question {
            case .top: fusion.heldBySources(wallMilliseconds: wall)
            case .key(let key): fusion.heldBySources(key, wallMilliseconds: wall).map { [$0] } ?? []
            }
        return LiveHeat(
            question, tracker, window, held: held,
            heldAloneCount: fusion.heldBySourcesCount { [tracker] in !tracker.isHot($0) }
        ) { time(of: $0, since: $1, clock, now) }
    }

    /// When a key became hot, as it is published.
    ///
    /// Counted back from this moment: from one at the start of a leadership that lasts for weeks, the date would be as far out as the
    /// monotonic clock and the ensemble's have drifted apart since, or as the latter was wrong then.
    private func time(
        of key: [UInt8], since nanoseconds: UInt64, _ clock: Timestamp, _ now: NIODeadline
    ) -> Timestamp {
        if let adopted = adoptedSince[key], adopted.nanoseconds == nanoseconds { return adopted.published }
        let age = now.uptimeNanoseconds - min(nanoseconds, now.uptimeNanoseconds)
        return clock.advanced(byMilliseconds: -Int64(clamping: age / 1_000_000))
    }

    private func update(for change: FusedChange, _ clock: Timestamp, _ now: NIODeadline) -> HotUpdate {
        guard case .set(let heat) = change else {
            adoptedSince[change.key] = nil
            return .remove(KeyName(change.key))
        }
        return .set(HotRecord(heat, since: time(of: heat.key, since: heat.sinceNanoseconds, clock, now)))
    }
}
