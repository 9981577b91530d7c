/// All agents' reports over the last second: what the coordinator decides from.
///
/// Frames are placed by arrival (see `AgentLedger`); late ones are counted where they belong, repeated ones not at all,
/// an agent that starts anew starts anew here, and one that leaves takes nothing back. A missing frame may have held all
/// its agent's accesses for one key, so the agent's last total is added to the bound in its place.
///
/// **Bounds** (Agarwal et al., "Mergeable Summaries", PODS 2012: the errors of parts add up). Over the window's frames a
/// key has at least the sum C of its listed counts, and at most C plus its entries' errors plus the bounds of the frames
/// that no entry of it covers; those are found as the sum of all bounds less those that its entries cover. An entry that
/// sums several slices counts in the slice in which it was reported, so up to `tailSlices - 1` slices of it can be older
/// than the window, as others of the same key are still to be reported.
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
    /// Frames counted for each slice, over all agents.
    private var framesBySlice: [Int]
    /// All accesses of each slice, listed or not.
    private var totalsBySlice: [AccessTotals]

    /// - Parameter hashSeed: random, drawn by the caller once a process.
    public init(hashSeed: UInt64, keysMax: Int = DetectionLimits.mergedKeysMax) {
        seed = hashSeed
        keys = SlidingWindow(
            sliceMilliseconds: DetectionLimits.sliceMilliseconds, keyLimit: keysMax,
            arenaByteLimit: DetectionLimits.mergedArenaBytesMax)
        framesBySlice = Array(repeating: 0, count: keys.ringSlices)
        totalsBySlice = Array(repeating: AccessTotals(), count: keys.ringSlices)
    }

    public var agentCount: Int { agents.count }
    public var keyCount: Int { keys.keyCount }

    /// Counts the frames that one pull brought. Throws `malformedReport` for the first frame that is not well formed and
    /// `tooMany` for one agent too many; then nothing of the pull is counted.
    @discardableResult
    public func ingest(
        agent: String, epoch: UInt64, frames: [[UInt8]], nowNanoseconds now: UInt64
    ) throws -> Ingested {
        var newest: UInt64 = 0
        for frame in frames {
            do {
                newest = max(newest, try frame.withUnsafeBytes { try ReportReader(validating: $0).sequence })
            } catch let error as DetectionError {
                throw DetectionError(error.code, "agent \(agent): \(error.message)")
            }
        }
        advance(to: now)
        var ingested = Ingested()
        guard newest > 0 else { return ingested }
        let known = agents[agent]
        if known?.previousEpoch == epoch, known?.epoch != epoch {
            ingested.expired = frames.count
            return ingested
        }
        if known == nil, agents.count >= DetectionLimits.agentsMax {
            throw DetectionError(
                .tooMany, "agent \(agent): \(agents.count) agents report already, the most that are merged")
        }
        var ledger =
            known?.epoch == epoch ? known! : AgentLedger(epoch: epoch, previousEpoch: known?.epoch, now: now)
        ledger.arrive(newest: newest, slice: keys.currentSlice, now: now)
        for frame in frames {
            frame.withUnsafeBytes { bytes in
                // Validated above; the bytes are the caller's array and have not changed.
                count(ReportReader(validated: bytes), in: &ledger, &ingested)
            }
        }
        agents[agent] = ledger
        return ingested
    }

    /// Whether there are keys that count enough in one slice to be looked at, and that have no state yet.
    public var hasNewBusyKeys: Bool { keys.hasNoted }

    /// Forgets an agent that has left. What it reported stays in the window until it is too old.
    public func remove(agent: String) {
        agents[agent] = nil
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
            agents = agents.filter { now < $0.value.lastArrivalNanoseconds + limit }
        }
    }

    /// The last slice that has ended.
    var lastEndedSlice: UInt64 { keys.currentSlice - 1 }

    /// Whether at least half of the frames that the known agents owe for the last second are there. If not, a low rate
    /// says more about the reports than about the keys.
    var isCovered: Bool {
        let slices = DetectionLimits.windowMillisecondsRange.upperBound / DetectionLimits.sliceMilliseconds
        var frames = 0
        for age in 0..<UInt64(slices) { frames += framesBySlice[Int((lastEndedSlice - age) % UInt64(keys.ringSlices))] }
        return frames > 0 && 2 * frames >= agents.count * slices
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

    private func count(_ reader: ReportReader, in ledger: inout AgentLedger, _ ingested: inout Ingested) {
        let before = ledger.lastSequence
        let slice: UInt64
        switch ledger.place(reader.sequence, isOpen: keys.isOpen) {
        case .slice(let placed): slice = placed
        case .repeated:
            ingested.repeated += 1
            return
        case .expired:
            ingested.expired += 1
            return
        }
        ingested.counted += 1
        framesBySlice[Int(slice % UInt64(keys.ringSlices))] += 1
        if before > 0, reader.sequence > before + 1 {
            let gap = reader.sequence - before - 1
            // Numbers from the wire: a gap of any size must not overflow the sum.
            ingested.missing += Int(min(gap, UInt64(UInt32.max)))
            for step in 1...min(gap, UInt64(keys.ringSlices)) {
                let missed = ledger.slice(of: reader.sequence - step)
                if keys.isOpen(missed) { keys.addBound(ledger.lastAccesses, slice: missed) }
            }
        }
        let bound = Self.capped(reader.unlistedBound)
        ledger.setBound(bound, sequence: reader.sequence)
        ledger.lastAccesses = Self.capped(reader.totals.accesses)
        keys.addBound(bound, slice: slice)
        // A stalled agent's long slice is counted at its mean rate: its counts are not those of 100 ms.
        let stretch = max(1, UInt64(reader.durationMilliseconds) / UInt64(keys.sliceMilliseconds))
        totalsBySlice[Int(slice % UInt64(keys.ringSlices))].add(reader.totals, dividedBy: stretch)
        var leftOut: UInt64 = 0
        reader.forEachEntry { entry in
            let credit =
                entry.sliceSpan == 1 ? bound : ledger.bounds(through: reader.sequence, span: entry.sliceSpan)
            let isCounted = keys.add(
                entry.key, hash: KeyHash.hash(entry.key, seed: seed), slice: slice,
                SlidingWindow.Addition(
                    reads: entry.reads / stretch, writes: entry.writes / stretch,
                    replyBytes: entry.replyBytes / stretch, misses: entry.misses / stretch, error: entry.error,
                    credit: credit,
                    isSaved: entry.sliceSpan > 1))
            if !isCounted { leftOut = max(leftOut, Self.capped(entry.reads) + Self.capped(entry.writes)) }
        }
        if leftOut > 0 { keys.addOverflow(leftOut, slice: slice) }
    }
}
