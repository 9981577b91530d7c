import HotKeyRegistry

/// One key as the registry holds it: what was detected, and what operators decided.
struct KeyRow: Encodable, Sendable {
    var key: KeyName
    /// `pinned`, `denied`, `hot`, `cooling`, `candidate` or `cold`: the operators' decision comes before detection's.
    var state: String
    /// What detection says, whatever operators decided; nil for a cold key.
    var detected: HotState?
    var kind: HotKind?
    var readsPerSecond: Double?
    var writesPerSecond: Double?
    var bytesPerSecond: Double?
    /// Of the reads: those that find nothing.
    var missesPerSecond: Double?
    var errorPerSecond: Double?
    /// Nil for what the key's rule says.
    var copies: Int?
    /// Of the copies, where the coordinator manages them.
    var copyState: CopyState?
    var sources: [String]
    var since: Timestamp?
    var pin: PinEntry?
    var deny: PinEntry?

    init(key: KeyName, record: HotRecord?, pin: PinEntry?, deny: PinEntry?) {
        self.key = key
        // A record that is only of copies says nothing of the key's heat.
        let detected = record.flatMap { $0.isOnlyOfCopies ? nil : $0 }
        if pin != nil {
            state = "pinned"
        } else if deny != nil {
            state = "denied"
        } else {
            state = (detected?.state ?? .cold).rawValue
        }
        self.detected = detected?.state
        kind = detected?.kind
        readsPerSecond = detected?.readsPerSecond
        writesPerSecond = detected?.writesPerSecond
        bytesPerSecond = detected?.bytesPerSecond
        missesPerSecond = detected?.missesPerSecond
        errorPerSecond = detected?.errorPerSecond
        copies = pin?.copies ?? record?.copies
        copyState = record?.copyState
        sources = detected?.sources ?? []
        since = detected?.since
        self.pin = pin
        self.deny = deny
    }

    /// Every key that is not simply cold: those under most load first, denied ones last. Expired decisions count for nothing.
    static func all(_ records: some Sequence<HotRecord>, _ pins: PinsDocument, now: Timestamp) -> [KeyRow] {
        let records = Dictionary(
            records.map { ($0.key, $0) }
        ) { first, _ in first }
        let pinned = active(pins.pins, now)
        let denied = active(pins.denies, now)
        let keys = Set(records.keys).union(pinned.keys).union(denied.keys)
        return keys.map { KeyRow(key: $0, record: records[$0], pin: pinned[$0], deny: denied[$0]) }
            .filter { $0.state != HotState.cold.rawValue }
            .sorted { ($0.isDenied ? 1 : 0, -($0.load ?? 0), $0.key) < ($1.isDenied ? 1 : 0, -($1.load ?? 0), $1.key) }
    }

    static func active(_ entries: [PinEntry], _ now: Timestamp) -> [KeyName: PinEntry] {
        Dictionary(entries.filter { !$0.isExpired(at: now) }.map { ($0.key, $0) }) { _, last in last }
    }

    private var isDenied: Bool { pin == nil && deny != nil }
    private var load: Double? { readsPerSecond.map { $0 + (writesPerSecond ?? 0) } }

    /// `pinned (hot)` where both say something.
    var stateText: String {
        guard let detected, pin != nil || deny != nil else { return state }
        return "\(state) (\(detected.rawValue))"
    }

    var decision: PinEntry? { pin ?? deny }
}

extension PinEntry {
    /// `by ann, for the launch, ends in 10m`
    func summary(now: Timestamp) -> String {
        var text = "by \(author)"
        if let reason { text += ": \(reason)" }
        if expiresAt != nil { text += " (ends \(TimeText.remaining(until: expiresAt, now: now)))" }
        return text
    }
}
