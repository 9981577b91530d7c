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

    /// The document after the edit, nil when there is nothing to change. Entries that have expired by `now` go as well,
    /// but are no reason to write by themselves.
    func apply(to document: PinsDocument, now: Timestamp) -> PinsDocument? {
        var result = document
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
        result.history.insert(entry, at: 0)
        result.history = Array(result.history.prefix(RegistryLimits.historyMax))
        return result
    }

    /// Whether a document read back already holds this edit. The time of the entry was taken once, before the first
    /// attempt, so that an attempt whose outcome was unknown is recognised and not made twice.
    func isContained(in document: PinsDocument) -> Bool { document.history.contains(entry) }
}
