import HotKeyRegistry

/// One line of `watch`.
struct RegistryChange: Encodable, Sendable {
    enum Event: String, Encodable, Sendable {
        case candidate, hot, cooling, cold
        /// Named by a source that had not named it before; its state is the same.
        case sources
        /// Its copies are others, or on another part of their way; nothing else is new.
        case copies
        case pinned, unpinned, denied, undenied
        case mode, rules, topology
        /// What is known of the registry became `fresh` or `stale`.
        case view
    }
    /// When this host saw it.
    var at: Timestamp
    var event: Event
    var key: KeyName?
    /// Of the published hot set.
    var epoch: Int64?
    var version: Int64?
    /// In words.
    var detail: String
    var record: HotRecord?
    var decision: PinEntry?

    private static let eventColumns = 9

    var line: String {
        let name = event.rawValue + String(repeating: " ", count: Self.eventColumns - event.rawValue.count)
        let parts = [
            key.map { DisplayText.escaped($0.description) }, detail.isEmpty ? nil : DisplayText.escaped(detail),
        ]
        return "\(at)  \(name)  " + parts.compactMap { $0 }.joined(separator: "  ")
    }
}

/// What `watch` compares: a snapshot with the decisions that count at one moment. Pure.
struct WatchedState: Sendable {
    private let snapshot: RegistrySnapshot
    private let pins: [KeyName: PinEntry]
    private let denies: [KeyName: PinEntry]
    private let nextExpiry: Timestamp?

    init(_ snapshot: RegistrySnapshot, at now: Timestamp) {
        var snapshot = snapshot
        // Of a key that is cold by itself nothing is detected.
        for record in snapshot.hot where record.isOnlyOfCopies { snapshot.hot[record.key] = nil }
        self.snapshot = snapshot
        pins = KeyRow.active(snapshot.pins?.pins ?? [], now)
        denies = KeyRow.active(snapshot.pins?.denies ?? [], now)
        nextExpiry = snapshot.nextExpiry(after: now)
    }

    /// Whether neither the registry nor time alone can have changed anything since.
    func isCurrent(_ other: RegistrySnapshot, at now: Timestamp) -> Bool {
        if let nextExpiry, nextExpiry <= now { return false }
        return snapshot.versions == other.versions && snapshot.position == other.position && snapshot.view == other.view
    }

    var summary: String {
        "mode \(snapshot.mode.rawValue), hot set \(snapshot.position?.description ?? "unknown"), "
            + "\(NumberText.count(snapshot.hot.count, "key")), \(pins.count) pinned, \(denies.count) denied"
    }

    func changes(since before: WatchedState, at now: Timestamp) -> [RegistryChange] {
        var changes = viewChanges(since: before, now) + documentChanges(since: before, now)
        changes += decisionChanges(since: before, now)
        changes += detectionChanges(since: before, now)
        return changes
    }

    private func viewChanges(since before: WatchedState, _ now: Timestamp) -> [RegistryChange] {
        let (was, isNow) = (before.snapshot.view == .fresh, snapshot.view == .fresh)
        guard was != isNow else { return [] }
        return [
            RegistryChange(
                at: now, event: .view,
                detail: isNow ? "fresh: ZooKeeper is back" : "stale: the connection to ZooKeeper is lost")
        ]
    }

    private func documentChanges(since before: WatchedState, _ now: Timestamp) -> [RegistryChange] {
        var changes: [RegistryChange] = []
        func add(_ event: RegistryChange.Event, _ detail: String) {
            changes.append(RegistryChange(at: now, event: event, detail: detail))
        }
        if snapshot.control != before.snapshot.control, let control = snapshot.control {
            add(
                .mode,
                "\(control.mode.rawValue), detection \(control.detection.rawValue), staleness cap "
                    + TimeText.span(Int64(control.stalenessCapMilliseconds)))
        }
        if snapshot.rules != before.snapshot.rules, let rules = snapshot.rules {
            add(.rules, NumberText.count(rules.rules.count, "rule"))
        }
        if snapshot.topology != before.snapshot.topology, let topology = snapshot.topology {
            add(.topology, topology.summary)
        }
        return changes
    }

    private func decisionChanges(since before: WatchedState, _ now: Timestamp) -> [RegistryChange] {
        func compare(
            _ old: [KeyName: PinEntry], _ new: [KeyName: PinEntry], _ made: RegistryChange.Event,
            _ gone: RegistryChange.Event
        ) -> [RegistryChange] {
            let made = new.values.filter { old[$0.key] != $0 }.map { entry in
                let copies = entry.copies.map { ", copies: \($0)" } ?? ""
                return RegistryChange(
                    at: now, event: made, key: entry.key, detail: entry.summary(now: now) + copies, decision: entry)
            }
            let gone = old.values.filter { new[$0.key] == nil }.map { entry in
                RegistryChange(
                    at: now, event: gone, key: entry.key, detail: entry.isExpired(at: now) ? "expired" : "",
                    decision: entry)
            }
            return (made + gone).sorted { ($0.key?.bytes ?? []).lexicographicallyPrecedes($1.key?.bytes ?? []) }
        }
        return compare(before.pins, pins, .pinned, .unpinned) + compare(before.denies, denies, .denied, .undenied)
    }

    private func detectionChanges(since before: WatchedState, _ now: Timestamp) -> [RegistryChange] {
        guard snapshot.position != before.snapshot.position else { return [] }
        func change(_ key: KeyName, _ record: HotRecord?, _ event: RegistryChange.Event) -> RegistryChange {
            RegistryChange(
                at: now, event: event, key: key, epoch: snapshot.position?.epoch, version: snapshot.position?.version,
                detail: record.map(Self.detail) ?? "", record: record)
        }
        var changes: [RegistryChange] = []
        for record in snapshot.hot {
            if let old = before.snapshot.hot[record.key], !record.differsInState(from: old) {
                // Names gather while a key is known; one that has gone is no news.
                let isNamed = !Set(record.sources).isSubset(of: old.sources)
                if isNamed { changes.append(change(record.key, record, .sources)) }
                continue
            }
            if let old = before.snapshot.hot[record.key], old.state == record.state, old.kind == record.kind {
                changes.append(change(record.key, record, .copies))
                continue
            }
            guard let event = RegistryChange.Event(rawValue: record.state.rawValue) else { continue }
            changes.append(change(record.key, record, event))
        }
        for old in before.snapshot.hot where snapshot.hot[old.key] == nil {
            changes.append(change(old.key, nil, .cold))
        }
        return changes.sorted { ($0.key?.bytes ?? []).lexicographicallyPrecedes($1.key?.bytes ?? []) }
    }

    /// `read, 5230 reads/s, 12 writes/s, from agents`
    private static func detail(_ record: HotRecord) -> String {
        var parts = [record.kind.rawValue, "\(NumberText.rate(record.readsPerSecond)) reads/s"]
        if record.writesPerSecond > 0 { parts.append("\(NumberText.rate(record.writesPerSecond)) writes/s") }
        if record.missesPerSecond > 0 { parts.append("\(NumberText.rate(record.missesPerSecond)) misses/s") }
        if let copies = record.copies {
            parts.append("copies: \(copies)" + (record.copyState.map { " (\($0.rawValue))" } ?? ""))
        }
        if !record.sources.isEmpty { parts.append("from \(record.sources.joined(separator: " and "))") }
        return parts.joined(separator: ", ")
    }
}
