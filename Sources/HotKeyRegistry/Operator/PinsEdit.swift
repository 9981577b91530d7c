/// One operator's change as a pure function from the document before to the document after.
struct PinsEdit: Sendable {
    enum Change: Sendable, Hashable {
        case pin(PinEntry)
        case unpin(KeyName)
        case deny(PinEntry)
        case undeny(KeyName)
        /// Another document changed; only the history tells.
        case record
    }
    let change: Change
    let entry: HistoryEntry
    /// The same edit with another time, which this one takes the place of.
    var replacing: HistoryEntry?

    /// The document after the edit, nil when there is nothing to change. Entries that have expired by `now` go as well,
    /// but are no reason to write by themselves.
    ///
    /// - Parameter now: a time by the ensemble's clock that has come for certain. An operator's own clock will not do: one that
    ///   is ahead would take others' decisions away.
    func apply(to document: PinsDocument, now: Timestamp) -> PinsDocument? {
        var result = document
        // Somebody has decided otherwise since.
        if let replacing, !document.history.contains(replacing) { return nil }
        result.pins.removeAll { $0.isExpired(at: now) }
        result.denies.removeAll { $0.isExpired(at: now) }
        switch change {
        case .pin(let pin):
            // The latest decision about a key is the only one.
            result.denies.removeAll { $0.key == pin.key }
            result.pins.removeAll { $0.key == pin.key }
            result.pins.append(pin)
        case .deny(let deny):
            result.pins.removeAll { $0.key == deny.key }
            result.denies.removeAll { $0.key == deny.key }
            result.denies.append(deny)
        case .unpin(let key):
            guard result.pins.contains(where: { $0.key == key }) else { return nil }
            result.pins.removeAll { $0.key == key }
        case .undeny(let key):
            guard result.denies.contains(where: { $0.key == key }) else { return nil }
            result.denies.removeAll { $0.key == key }
        case .record: break
        }
        if let replacing { result.history.removeAll { $0 == replacing } }
        result.history.insert(entry, at: 0)
        result.history = Array(result.history.prefix(RegistryLimits.historyMax))
        return result
    }

    /// Whether a document read back already holds this edit. The time of the entry was taken once, before the first
    /// attempt, so that an attempt whose outcome was unknown is recognised and not made twice.
    func isContained(in document: PinsDocument) -> Bool { document.history.contains(entry) }
}

extension PinsEdit.Change {
    /// The same decision with all its times moved; nil when nothing depends on them.
    func shifted(byMilliseconds milliseconds: Int64) -> PinsEdit.Change? {
        func shifted(_ entry: PinEntry) -> PinEntry? {
            guard let expiresAt = entry.expiresAt else { return nil }
            var entry = entry
            entry.at = entry.at.advanced(byMilliseconds: milliseconds)
            entry.expiresAt = expiresAt.advanced(byMilliseconds: milliseconds)
            return entry
        }
        switch self {
        case .pin(let entry): return shifted(entry).map { .pin($0) }
        case .deny(let entry): return shifted(entry).map { .deny($0) }
        case .unpin, .undeny, .record: return nil
        }
    }
}
