import HotKeyDetection
import HotKeyPeer
import HotKeyRegistry
import HotKeyRules

/// What the coordinator sees at one moment, for people: more than it publishes, which are changes of state alone.
struct LiveHeat: Sendable {
    enum Question: Sendable {
        case top(Int)
        case key([UInt8])
    }
    struct Key: Sendable {
        var heat: ObservedHeat
        var since: Timestamp?
        /// Of a key that sources hold hot: who names it.
        var sources: [String] = []
    }

    let totals: AccessTotals
    let agentCount: Int
    let hotKeyCount: Int
    let keys: [Key]

    /// - Parameters:
    ///   - held: what exact sources hold hot, of one key where that is asked for.
    ///   - heldAloneCount: how many keys exact sources hold hot that the agents' reports do not.
    ///   - since: when a key became hot that is so since that time of the monotonic clock.
    init(
        _ question: Question, _ tracker: HeatTracker, _ window: MergedWindow, held: [FusedHeat],
        heldAloneCount: Int, since: ([UInt8], UInt64) -> Timestamp
    ) {
        totals = window.totalsOfLastSecond
        agentCount = window.agentCount
        hotKeyCount = tracker.hotKeyCount + heldAloneCount
        let observed =
            switch question {
            case .top(let count): tracker.top(count, in: window, held: held)
            case .key(let key): [tracker.observe(key, in: window, held: held.first)]
            }
        let sources = Dictionary(held.map { ($0.key, $0.sources) }) { first, _ in first }
        keys = observed.map { heat in
            Key(
                heat: heat, since: heat.sinceNanoseconds.map { since(heat.key, $0) },
                sources: sources[heat.key] ?? [])
        }
    }
}

extension LiveStatus {
    /// With what the registry adds: decisions of operators, who named a key, what is done with it.
    init(_ live: LiveHeat, _ applied: ActingService.Applied, id: String, at now: Timestamp) {
        self.init(
            id: id, epoch: applied.registry.position?.epoch ?? 0, version: applied.registry.position?.version ?? 0,
            agents: live.agentCount, readsPerSecond: Double(live.totals.reads),
            writesPerSecond: Double(live.totals.writes), bytesPerSecond: Double(live.totals.replyBytes),
            missesPerSecond: Double(live.totals.misses), hotKeys: live.hotKeyCount,
            keys: live.keys.map { LiveKey($0, applied.plan) }, now: now.description)
    }
}

extension LiveKey {
    fileprivate init(_ key: LiveHeat.Key, _ plan: ActingPlan) {
        let name = KeyName(key.heat.key)
        let acting = plan.keys[name]
        let status = acting.map { KeyStatus($0, mode: plan.mode) }
        let sample = key.heat.sample
        // What is published holds until it is withdrawn, whoever named the key; and an operator's decision before both.
        let isCounted = key.heat.state == .hot || key.heat.state == .cooling
        let detected = isCounted ? key.heat.state.rawValue : acting?.record?.state.rawValue ?? key.heat.state.rawValue
        let isDecided = acting?.state == .pinned || plan.denied.contains(name)
        self.init(
            key: PeerKey(name.bytes), state: isDecided ? plan.stateName(of: name) : detected, detected: detected,
            kind: key.heat.kind?.rawValue ?? status?.kind,
            readsPerSecond: sample.readsPerSecond, writesPerSecond: sample.writesPerSecond,
            bytesPerSecond: sample.bytesPerSecond, missesPerSecond: sample.missesPerSecond,
            errorPerSecond: sample.errorPerSecond, heat: sample.windowHeat,
            pattern: key.heat.match?.rule.pattern.source, rule: key.heat.match.map { $0.position + 1 },
            thresholdPerSecond: key.heat.threshold?.accessesPerSecond,
            thresholdFrom: key.heat.threshold?.origin.rawValue, home: key.heat.threshold?.node?.name,
            homeCapacityPerSecond: key.heat.threshold?.node?.accessesPerSecond,
            thresholdBytesPerSecond: key.heat.match?.rule.thresholdBytesPerSecond, action: status?.action ?? "none",
            copies: status?.copies ?? 0,
            sources: status.map(\.sources).flatMap { $0.isEmpty ? nil : $0 } ?? key.sources,
            since: key.since?.description ?? status?.since)
    }
}
