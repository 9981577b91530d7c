import HotKeyDetection
public import HotKeyMitigation
import HotKeyRegistry
public import HotKeyRules

/// A fleet that lives through a trace: requests in, in the order of their times; what was hot, when, and the nodes' load out.
///
/// Counting, reports, merging and the decisions are the agents' and the coordinator's own code; what it leaves out is what takes
/// time between them. Slices begin with the trace's first request, every report of a slice is there at its end, and what is decided
/// then is done everywhere from that moment on.
///
/// Memory is bounded: by `DetectionLimits` for counters and windows, by ``SimulationLimits`` for what is told. One owner.
public final class Simulation {
    private static let sliceNanoseconds = UInt64(DetectionLimits.sliceMilliseconds) * 1_000_000
    private static let secondNanoseconds: UInt64 = 1_000_000_000
    /// Where the simulated clock begins: anything but zero, which stands for "never".
    private static let origin = secondNanoseconds

    private struct Agent {
        let name: String
        let counter = SliceCounter()
        let budget = ReportBudget()
    }

    /// A class, so that what it holds for each agent is changed in place.
    private final class Acting {
        var model: HotKeyModel
        let hash: UInt64
        /// In the result; nil when there was no room.
        let record: Int?
        let hotSince: UInt64
        private var second: UInt64 = 0
        private(set) var thisSecond: UInt64 = 0

        init(model: HotKeyModel, hash: UInt64, record: Int?, hotSince: UInt64) {
            self.model = model
            self.hash = hash
            self.record = record
            self.hotSince = hotSince
        }

        func note(_ accesses: UInt64, second: UInt64) {
            if second != self.second {
                self.second = second
                thisSecond = 0
            }
            thisSecond += accesses
        }
    }

    private let rules: RuleBook
    private let placement: Placement
    private let fleetCapMilliseconds: Int
    private let agents: [Agent]
    private let hashSeed: UInt64
    private let window: MergedWindow
    private var tracker: HeatTracker
    private var generator: UInt64
    private var dealers: [UInt16]
    private var acting: [[UInt8]: Acting] = [:]
    private var records: [[UInt8]: Int] = [:]
    private var loads: NodeLoads
    private var result = SimulationResult()
    /// On the simulated clock.
    private var now = origin
    private var sliceEnd = origin + sliceNanoseconds
    private var lastAccessAt = origin

    /// - Parameters:
    ///   - agentCount: within ``SimulationLimits/agentsRange``; each key's requests are dealt to them in turn.
    ///   - fleetCapMilliseconds: the staleness cap of the `control` document.
    ///   - seed: for hashes and for the choice among copies; the same one gives the same result.
    ///   - nodeCapacityPerSecond: what each node could carry; nil: thresholds that are shares of it do not count.
    public init(
        rules: RuleBook, placement: Placement, agentCount: Int, fleetCapMilliseconds: Int, seed: UInt64,
        nodeCapacityPerSecond: Double? = nil
    ) {
        precondition(
            SimulationLimits.agentsRange.contains(agentCount), "a fleet has agents, and not more than are bounded")
        self.rules = rules
        self.placement = placement
        self.fleetCapMilliseconds = fleetCapMilliseconds
        hashSeed = seed
        generator = seed
        window = MergedWindow(hashSeed: seed)
        tracker = HeatTracker(rules: rules.detection)
        tracker.update(
            capacities: NodeCapacities(
                nodes: placement.nodes.map {
                    NodeCapacities.Node(name: $0.ringName, accessesPerSecond: nodeCapacityPerSecond)
                }
            ) { placement.home($0) })
        agents = (0..<agentCount).map { Agent(name: "\($0)") }
        dealers = Array(repeating: 0, count: SimulationLimits.dealersCount)
        loads = NodeLoads(nodeCount: placement.nodes.count)
        // Tells the window which counts are worth a look, before the first come in.
        _ = tracker.evaluate(window, nowNanoseconds: Self.origin)
        // Agents have not started at the same moment: the turns of their long tails are spread.
        for (number, agent) in agents.enumerated() {
            for _ in 0..<number % DetectionLimits.tailSlices {
                _ = agent.budget.report(of: [], durationMilliseconds: UInt32(DetectionLimits.sliceMilliseconds))
            }
        }
    }

    /// Throws ``TraceError`` for a request whose time cannot follow the one before; then nothing of it is counted.
    public func add(_ request: TraceRequest) throws {
        if result.requests == 0 { result.startNanoseconds = request.nanoseconds }
        var time = request.nanoseconds
        let last = result.startNanoseconds + (now - Self.origin)
        if time < last {
            guard last - time <= SimulationLimits.backwardMillisecondsMax * 1_000_000 else {
                throw TraceError(
                    expected: "a trace sorted by time (sort -n FILE…)",
                    found: "a step back by \((last - time) / 1_000_000) ms")
            }
            time = last
            result.backwardRequests += 1
        }
        guard time - last <= SimulationLimits.gapSecondsMax * Self.secondNanoseconds else {
            throw TraceError(
                expected: "times in seconds, at most \(SimulationLimits.gapSecondsMax) from one request to the next",
                found: "a step of \((time - last) / Self.secondNanoseconds)")
        }
        if time > last {
            result.timeStepNanoseconds = min(result.timeStepNanoseconds ?? .max, time - last)
        } else if result.requests > 0 {
            result.hasSharedTimes = true
        }
        if request.accesses.contains(where: { UInt64($0.reads) + UInt64($0.writes) > 1 }) {
            result.hasSharedTimes = true
        }
        try advance(to: Self.origin + (time - result.startNanoseconds))
        result.requests += 1
        for access in request.accesses { count(access) }
        lastAccessAt = now
    }

    /// Ends the trace. Call once, and nothing after it.
    public func finish() throws -> SimulationResult {
        // The running slice is judged as if it were whole: what came in it did.
        if result.requests > 0 { try endSlice() }
        result.durationNanoseconds = now - Self.origin
        for key in acting.keys { leave(key, at: now, isEnd: true) }
        result.nodes = loads.finish().map { SimulationResult.Node(before: $0.before, after: $0.after) }
        result.keys.sort { ($0.peakPerSecond, $1.spells[0].hotAt) > ($1.peakPerSecond, $0.spells[0].hotAt) }
        return result
    }

    // MARK: Time

    private func advance(to time: UInt64) throws {
        while sliceEnd <= time {
            // Nothing is counted, nothing has a state and nothing is left in the window: nothing can happen until the next request.
            let isIdle = tracker.trackedKeyCount == 0 && sliceEnd > lastAccessAt + 2 * Self.secondNanoseconds
            if isIdle, time - sliceEnd > Self.sliceNanoseconds {
                sliceEnd += (time - sliceEnd) / Self.sliceNanoseconds * Self.sliceNanoseconds
            }
            try endSlice()
        }
        now = time
        loads.advance(to: (now - Self.origin) / Self.secondNanoseconds)
    }

    private func endSlice() throws {
        for (number, agent) in agents.enumerated() {
            let report = agent.budget.report(
                of: [agent.counter.drain()], durationMilliseconds: UInt32(DetectionLimits.sliceMilliseconds))
            try window.ingest(
                agent: agent.name, epoch: UInt64(number + 1), frames: [try report.encoded()],
                nowNanoseconds: sliceEnd - 1)
        }
        let changes = tracker.evaluate(window, nowNanoseconds: sliceEnd)
        for change in changes { apply(change, at: sliceEnd) }
        if !changes.isEmpty {
            let hashes = Set(acting.values.map(\.hash))
            for agent in agents { agent.budget.watch(hashes: hashes) }
        }
        sliceEnd += Self.sliceNanoseconds
    }

    // MARK: Accesses

    private func count(_ access: TraceRequest.Access) {
        result.reads += UInt64(access.reads)
        result.writes += UInt64(access.writes)
        result.replyBytes += UInt64(access.replyBytes)
        result.misses += UInt64(access.misses)
        let hash = HotKeyDetection.KeyHash.hash(access.key, seed: hashSeed)
        let home = access.key.withUnsafeBytes { placement.home($0) }
        loads.addBefore(UInt64(access.reads) + UInt64(access.writes), node: home)
        // A line that stands for many requests is split among the agents as if they had come one by one.
        let place = Int(hash % UInt64(SimulationLimits.dealersCount))
        let first = Int(dealers[place])
        let accesses = Int(access.reads) + Int(access.writes)
        dealers[place] = UInt16((first + accesses) % agents.count)
        let key = acting[access.key]
        for turn in 0..<min(accesses, agents.count) {
            let agent = (first + turn) % agents.count
            let share = UInt32(accesses / agents.count + (turn < accesses % agents.count ? 1 : 0))
            let (reads, writes) = access.writes > 0 ? (0, share) : (share, 0)
            let slot = access.key.withUnsafeBytes {
                agents[agent].counter.record(key: $0, hash: hash, reads: reads, writes: writes)
            }
            if turn == 0 { agents[agent].counter.addReply(slot, bytes: access.replyBytes, isMiss: false) }
            // The misses of a line are split as its reads are.
            let misses = Int(access.misses) / agents.count + (turn < Int(access.misses) % agents.count ? 1 : 0)
            for _ in 0..<misses { agents[agent].counter.addReply(slot, bytes: 0, isMiss: true) }
            serve(access, reads: reads, writes: writes, agent: agent, home: home, key)
        }
    }

    private func serve(
        _ access: TraceRequest.Access, reads: UInt32, writes: UInt32, agent: Int, home: Int, _ key: Acting?
    ) {
        guard let key else {
            loads.addAfter(UInt64(reads) + UInt64(writes), node: home)
            return
        }
        if writes > 0 { key.model.write(count: UInt64(writes), now: now, loads: &loads) }
        var answers = (local: UInt64(0), copy: UInt64(0))
        for _ in 0..<reads {
            generator &+= 1
            switch key.model.read(
                agent: agent, access: access, now: now, random: FastHash.mix(generator), loads: &loads)
            {
            case .local: answers.local += 1
            case .copy: answers.copy += 1
            case .home: break
            }
        }
        key.note(UInt64(reads) + UInt64(writes), second: (now - Self.origin) / Self.secondNanoseconds)
        guard let record = key.record else { return }
        result.keys[record].reads += UInt64(reads)
        result.keys[record].writes += UInt64(writes)
        result.keys[record].localReads += answers.local
        result.keys[record].copyReads += answers.copy
        result.keys[record].peakPerSecond = max(result.keys[record].peakPerSecond, key.thisSecond)
    }

    // MARK: Decisions

    private func apply(_ change: HeatChange, at time: UInt64) {
        switch change.state {
        case .hot, .cooling: enterOrChange(change, at: time)
        case .cold, .candidate: leave(change.key, at: time, isEnd: false)
        }
    }

    private func enterOrChange(_ change: HeatChange, at time: UInt64) {
        let position = change.rulePosition ?? 0
        let policy = HotKeyPolicy(
            key: change.key, rule: rules.document.rules[position], kind: HotKind(change.kind),
            fleetCapMilliseconds: fleetCapMilliseconds)
        if let known = acting[change.key] {
            if known.model.policy != policy {
                known.model = HotKeyModel(policy: policy, placement: placement, agents: agents.count, now: time)
            }
            if let record = known.record {
                result.keys[record].kind = change.kind
                if result.keys[record].spellCount <= SimulationLimits.spellsMax {
                    let last = result.keys[record].spells.count - 1
                    result.keys[record].spells[last].coolingAt = change.state == .cooling ? time - Self.origin : nil
                }
            }
            return
        }
        let record = record(of: change, position)
        if let record {
            result.keys[record].kind = change.kind
            result.keys[record].rulePosition = position
            result.keys[record].spellCount += 1
            if result.keys[record].spells.count < SimulationLimits.spellsMax {
                result.keys[record].spells.append(
                    SimulationResult.Spell(hotAt: time - Self.origin, cause: change.cause, sample: change.sample))
            }
        }
        acting[change.key] = Acting(
            model: HotKeyModel(policy: policy, placement: placement, agents: agents.count, now: time),
            hash: HotKeyDetection.KeyHash.hash(change.key, seed: hashSeed), record: record, hotSince: time)
        result.hotAtOnceMax = max(result.hotAtOnceMax, acting.count)
    }

    private func record(of change: HeatChange, _ position: Int) -> Int? {
        if let known = records[change.key] { return known }
        guard result.keys.count < SimulationLimits.keysMax else {
            result.keysLeftOut += 1
            return nil
        }
        records[change.key] = result.keys.count
        result.keys.append(
            SimulationResult.Key(
                key: change.key, kind: change.kind, rulePosition: position,
                thresholdPerSecond: tracker.threshold(of: change.key)?.accessesPerSecond ?? 0,
                home: change.key.withUnsafeBytes { placement.home($0) }))
        return result.keys.count - 1
    }

    private func leave(_ key: [UInt8], at time: UInt64, isEnd: Bool) {
        guard let gone = isEnd ? acting[key] : acting.removeValue(forKey: key), let record = gone.record else { return }
        result.keys[record].hotNanoseconds += time > gone.hotSince ? time - gone.hotSince : 0
        guard !isEnd, result.keys[record].spellCount <= SimulationLimits.spellsMax else { return }
        result.keys[record].spells[result.keys[record].spells.count - 1].coldAt = time - Self.origin
    }
}
