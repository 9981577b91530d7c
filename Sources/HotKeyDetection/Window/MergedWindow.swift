/// All agents' reports over the last second: what the coordinator decides from.
///
/// Frames are placed by arrival and by their durations (see `AgentLedger`); late ones are counted where they belong, repeated ones
/// not at all, an agent that starts anew starts anew here, and one that leaves takes nothing back. A missing frame may have held all
/// its agent's accesses for one key, so the agent's total is added to the bound in its place: that of the frames around it, or while
/// the agent is silent, the largest of its last second.
///
/// **Bounds** (Agarwal et al., "Mergeable Summaries", PODS 2012: the errors of parts add up). A slice that a frame tells of is, for a
/// key, either covered by an entry, whose error then holds what is missing, or not, and then the key had at most the frame's bound
/// there. Entries of several slices, and all entries of frames that took longer than a slice, are *sums*: counted in the slice in
/// which they were reported, with the bounds of the earlier slices that they cover taken off there. `SlidingWindow.sample` says which
/// of them lie in a window.
///
/// Memory is bounded by `DetectionLimits.mergedKeysMax` and `agentsMax`. Not thread-safe: one owner.
public final class MergedWindow {
    public struct Ingested: Sendable, Hashable {
        public var counted = 0
        /// Seen before.
        public var repeated = 0
        /// Too old for the window, or of an earlier run of the agent.
        public var expired = 0
        /// Frames skipped by the numbering.
        public var missing = 0
    }

    let keys: SlidingWindow
    private let seed: UInt64
    private var agents: [String: AgentLedger] = [:]
    /// By epoch, agents that have left while frames of theirs are in the window: they may come back, also under another id.
    private var departed: [UInt64: AgentLedger] = [:]
    /// Agents that have told of each slice.
    private var framesBySlice: [Int]
    /// All accesses of each slice, listed or not.
    private var totalsBySlice: [AccessTotals]
    /// Of the frame that is counted: what an entry that spans that many slices more covers.
    private let covered: UnsafeMutablePointer<SlidingWindow.Covered>
    /// Agents that there are, as far as the registry says; those that have not been pulled owe their frames as well.
    public var agentsExpected = 0

    /// Frames of one agent, the newest, that the window has room for.
    public static let framesOfUse =
        DetectionLimits.windowMillisecondsRange.upperBound / DetectionLimits.sliceMilliseconds
        + DetectionLimits.lateSlices + 1

    /// - Parameter hashSeed: random, drawn by the caller once a process.
    public init(hashSeed: UInt64, keysMax: Int = DetectionLimits.mergedKeysMax) {
        seed = hashSeed
        keys = SlidingWindow(
            sliceMilliseconds: DetectionLimits.sliceMilliseconds, keyLimit: keysMax,
            arenaByteLimit: DetectionLimits.mergedArenaBytesMax)
        framesBySlice = Array(repeating: 0, count: keys.ringSlices)
        totalsBySlice = Array(repeating: AccessTotals(), count: keys.ringSlices)
        covered = .allocate(capacity: DetectionLimits.tailSlices)
    }

    deinit { covered.deallocate() }

    public var agentCount: Int { agents.count }
    public var keyCount: Int { keys.keyCount }

    /// Counts the frames that one pull brought. Throws `malformedReport` for the first frame that is not well formed and
    /// `tooMany` for one agent too many; then nothing of the pull is counted.
    @discardableResult
    public func ingest(
        agent: String, epoch: UInt64, frames: [[UInt8]], nowNanoseconds now: UInt64
    ) throws -> Ingested {
        // The newest frame says where all of them belong, so it has to be known before any is counted.
        let known = agents[agent]
        let ledger = known?.epoch == epoch ? known : departed[epoch]
        var scale = ledger?.scale ?? SliceScale()
        for frame in frames {
            do {
                try frame.withUnsafeBytes {
                    let reader = try ReportReader(validating: $0)
                    scale.advance(to: reader.sequence, durationMilliseconds: reader.durationMilliseconds)
                }
            } catch let error as DetectionError {
                throw DetectionError(error.code, "agent \(agent): \(error.message)")
            }
        }
        advance(to: now)
        var ingested = Ingested()
        guard !frames.isEmpty else { return ingested }
        if known?.previousEpoch == epoch, known?.epoch != epoch {
            ingested.expired = frames.count
            return ingested
        }
        if known == nil, agents.count >= DetectionLimits.agentsMax {
            throw DetectionError(
                .tooMany, "agent \(agent): \(agents.count) agents report already, the most that are merged")
        }
        let counting = ledger ?? AgentLedger(epoch: epoch, previousEpoch: known?.epoch, now: now)
        if known !== counting {
            if let known { part(from: known) }
            departed[epoch] = nil
            agents[agent] = counting
        } else {
            keys.withdraw(counting.expectedPerSlice, through: counting.toldSlice)
        }
        counting.arrive(scale, slice: keys.currentSlice, now: now)
        for frame in frames {
            frame.withUnsafeBytes { bytes in
                // Validated above; the bytes are the caller's array and have not changed.
                count(ReportReader(validated: bytes), in: counting, &ingested)
            }
        }
        counting.reviewExpected()
        keys.expect(counting.expectedPerSlice, through: counting.toldSlice)
        return ingested
    }

    /// Whether there are keys that count enough in one slice to be looked at, and that have no state yet.
    public var hasNewBusyKeys: Bool { keys.hasNoted }

    /// Passes over those keys, for while nothing is decided: they are kept for the next decision, and each time that one of them gives
    /// way for lack of room and comes back it is kept once more. One that goes on counting is there again with its next counts.
    public func passOverBusyKeys() { _ = keys.takeNoted() }

    /// Forgets an agent that has left. What it reported stays in the window until it is too old.
    ///
    /// An agent whose session with the registry has ended is back within a second or two, and asked for all that it keeps: so long
    /// it is remembered which of its frames have been counted, or they would be counted twice.
    public func remove(agent: String) {
        guard let ledger = agents.removeValue(forKey: agent) else { return }
        part(from: ledger)
        departed[ledger.epoch] = ledger
    }

    /// Nothing is expected of it any more.
    private func part(from ledger: AgentLedger) {
        keys.withdraw(ledger.expectedPerSlice, through: ledger.toldSlice)
    }

    /// Lets time pass without news.
    public func advance(to now: UInt64) {
        let slice = keys.slice(at: now)
        let before = keys.currentSlice
        guard slice > before else { return }
        let ring = UInt64(keys.ringSlices)
        for step in 1...min(slice - before, ring) {
            framesBySlice[Int((slice - step + 1) % ring)] = 0
            totalsBySlice[Int((slice - step + 1) % ring)] = AccessTotals()
        }
        keys.advance(to: slice)
        // Looked through once a second: cheap, and a minute's silence is not urgent.
        if slice / 10 != before / 10 {
            let limit = UInt64(DetectionLimits.agentForgottenMilliseconds) * 1_000_000
            for (agent, ledger) in agents where now >= ledger.lastArrivalNanoseconds + limit {
                part(from: ledger)
                agents[agent] = nil
            }
            if !departed.isEmpty { departed = departed.filter { keys.isOpen($0.value.toldSlice) } }
        }
    }

    /// The last slice that has ended.
    var lastEndedSlice: UInt64 { keys.currentSlice - 1 }

    /// Whether at least half of the frames that all agents owe for the last second are there, those that the registry knows and that
    /// have not been reached included. If not, a low rate says more about the reports than about the keys.
    var isCovered: Bool {
        let slices = DetectionLimits.windowMillisecondsRange.upperBound / DetectionLimits.sliceMilliseconds
        var frames = 0
        for age in 0..<UInt64(slices) { frames += framesBySlice[Int((lastEndedSlice - age) % UInt64(keys.ringSlices))] }
        return frames > 0 && 2 * frames >= max(agents.count, agentsExpected) * slices
    }

    /// A key's rates over the rule's window up to the last slice that has ended.
    public func sample(of key: [UInt8], rule: DetectionRule) -> HeatSample {
        let entry = keys.find(key, hash: KeyHash.hash(key, seed: seed))
        return keys.sample(at: entry, rule: rule, ending: lastEndedSlice)
    }

    /// What all agents had in the last second up to the last slice that has ended, listed or not. Frames that are missing are.
    public var totalsOfLastSecond: AccessTotals {
        var sum = AccessTotals()
        for age in 0..<UInt64(1_000 / DetectionLimits.sliceMilliseconds) {
            sum.add(totalsBySlice[Int((lastEndedSlice - age) % UInt64(keys.ringSlices))], dividedBy: 1)
        }
        return sum
    }

    func hash(of key: [UInt8]) -> UInt64 { KeyHash.hash(key, seed: seed) }

    /// What cells hold is capped alike, and the sum over all agents and slices stays far from wrapping.
    private static func capped(_ value: UInt64) -> UInt64 { min(value, UInt64(UInt32.max)) }

    private func count(_ reader: ReportReader, in ledger: AgentLedger, _ ingested: inout Ingested) {
        let (sequence, before) = (reader.sequence, ledger.lastSequence)
        let duration = UInt64(reader.durationMilliseconds)
        let slice: UInt64
        switch ledger.place(sequence, durationMilliseconds: reader.durationMilliseconds, isOpen: keys.isOpen) {
        case .slice(let placed): slice = placed
        case .repeated:
            ingested.repeated += 1
            return
        case .expired:
            ingested.expired += 1
            return
        }
        ingested.counted += 1
        // A frame that took longer tells of the slices before its own too, and for none of them alone: it is spread over them.
        let taken = ledger.slicesTaken(sequence)
        let perSlice = UInt64(keys.sliceMilliseconds)
        let isLong = taken > 1 || duration > UInt64(DetectionLimits.usualSliceMillisecondsMax)
        let slices = max(taken, 1)
        let accesses = Self.capped(reader.totals.accesses)
        let accessesPerSlice = (accesses + slices - 1) / slices
        // Compared by differences: numbers from the wire may be the largest that there are.
        let step = sequence > before ? sequence - before : 0
        if before > 0, step > 1 {
            let gap = step - 1
            // Numbers from the wire: a gap of any size must not overflow the sum.
            ingested.missing += Int(min(gap, UInt64(UInt32.max)))
            let most = max(ledger.accessesPerSlice, accessesPerSlice)
            for back in 1...min(gap, UInt64(keys.ringSlices)) {
                let missed = ledger.slice(of: sequence - back)
                if keys.isOpen(missed) { keys.addBound(most, slice: missed) }
            }
        }
        let bound = Self.capped(reader.unlistedBound)
        // It may have begun in the slice before those that it takes.
        let lasted = isLong ? max(slices, (duration + perSlice - 1) / perSlice) : 1
        let startSlice = slice - min(slice, lasted - 1)
        let firstSlice = slice - min(slice, slices - 1)
        // Two frames in one slice, or none: a slice of the agent's is too much in the window, or missing there. About as much as this.
        let isUneven = before > 0 && step == 1 && firstSlice != ledger.toldSlice + 1
        // Some short frames may share a slice, which the agent has told of once.
        let firstNew = sequence > before ? max(firstSlice, ledger.toldSlice + 1) : firstSlice
        ledger.setCounted(
            sequence, slice: slice, startSlice: startSlice, bound: bound, accessesPerSlice: accessesPerSlice)
        keys.addBound(bound, slice: slice, isLong: isLong)
        if isUneven { keys.addBound(bound, slice: slice, isLong: true) }
        note(reader.totals, from: firstSlice, through: slice, newFrom: firstNew, slices: slices)

        let coveredCount = cover(sequence, in: ledger)
        var leftOut: UInt64 = 0
        reader.forEachEntry { entry in
            var addition = SlidingWindow.Addition(
                reads: entry.reads, writes: entry.writes, replyBytes: entry.replyBytes, misses: entry.misses,
                error: Self.capped(entry.error), credit: bound)
            if isUneven { addition.error += Self.capped(entry.reads) + Self.capped(entry.writes) }
            let isSum = isLong || entry.sliceSpan > 1
            if isSum {
                addition.isSum = true
                let span = UInt64(entry.sliceSpan)
                addition.slices = span == 1 ? slices : 1
                addition.startSlice = span == 1 ? startSlice : ledger.counted(sequence &- (span &- 1))?.startSlice
            }
            let place = keys.add(entry.key, hash: KeyHash.hash(entry.key, seed: seed), slice: slice, addition)
            if place < 0 {
                leftOut = max(
                    leftOut, Self.capped(entry.reads) + Self.capped(entry.writes) + Self.capped(entry.error))
            } else if entry.sliceSpan > 1, coveredCount > 0 {
                let count = min(coveredCount, Int(entry.sliceSpan) - 1)
                keys.cover(UnsafeBufferPointer(start: covered, count: count), entry: place)
            }
        }
        if leftOut > 0 { keys.addOverflow(leftOut, slice: slice) }
    }

    /// Notes a frame's totals in all slices that it tells of.
    private func note(
        _ totals: AccessTotals, from first: UInt64, through last: UInt64, newFrom: UInt64, slices: UInt64
    ) {
        for slice in max(first, keys.oldestSlice)...last {
            let place = Int(slice % UInt64(keys.ringSlices))
            if slice >= newFrom { framesBySlice[place] += 1 }
            totalsBySlice[place].add(totals, dividedBy: slices)
        }
    }

    /// Fills `covered` with the frames before this one, the last first; those that were not counted have no bound to take off.
    /// Returns how many there are up to the last one that has.
    private func cover(_ sequence: UInt64, in ledger: AgentLedger) -> Int {
        var count = 0
        for back in 1..<UInt64(DetectionLimits.tailSlices) where back < sequence {
            let frame = ledger.counted(sequence - back)
            covered[Int(back) - 1] = SlidingWindow.Covered(
                slice: frame?.slice ?? 0, bound: UInt32(clamping: frame?.bound ?? 0))
            if let frame, frame.bound > 0 { count = Int(back) }
        }
        return count
    }
}
