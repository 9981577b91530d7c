public import Logging
import StrictCoding
public import ZooKeeper

/// What operators do to the registry: `hkctl` is a thin shell around it.
///
/// Every edit is compare-and-set: read, change, write with the version that was read; lost against another writer it starts
/// over, after a random wait, up to 64 times. Two operators at once lose nothing. When a write's outcome is unknown
/// (the connection broke), the document is read again and compared before anything is written once more.
public struct RegistryOperator: Sendable {
    let registry: RegistryStore
    let author: String
    let logger: Logger?
    /// This host's clock.
    let clock: @Sendable () -> Timestamp
    public var paths: RegistryPaths { registry.paths }

    /// - Parameters:
    ///   - author: who stands in the history; 1 to 128 bytes.
    public init(
        store: any CoordinationStore, paths: RegistryPaths, author: String, logger: Logger? = nil,
        clock: @escaping @Sendable () -> Timestamp = { .now }
    ) throws(RegistryError) {
        self.clock = clock
        registry = RegistryStore(store: ReadBackStore(store: store), paths: paths)
        self.author = author
        self.logger = logger
        try Self.checkArgument { try FreeText.validateAuthor(author) }
    }

    // MARK: - Reading

    public func control() async throws -> Stored<ControlDocument> {
        try await registry.read(ControlDocument.self, at: paths.control)
    }
    public func rules() async throws -> Stored<RulesDocument> {
        try await registry.read(RulesDocument.self, at: paths.rules)
    }
    public func pins() async throws -> Stored<PinsDocument> {
        try await registry.read(PinsDocument.self, at: paths.pins)
    }
    public func topology() async throws -> Stored<TopologyDocument> {
        try await registry.read(TopologyDocument.self, at: paths.topology)
    }
    /// Throws ``RegistryError/Code/notInitialised`` for an app that is not there.
    public func app() async throws -> Stored<AppDocument> {
        try await registry.read(AppDocument.self, at: paths.appNode)
    }
    /// Nil when the app's nodes are open to everyone.
    public func access() async throws -> RegistryAccess? { try await registry.access() }
    /// The last 200 changes, the newest first.
    public func history() async throws -> [HistoryEntry] { try await pins().document.history }
    /// The published hot set: the head and all buckets.
    public func hotSet() async throws -> PublishedHotSet { try await PublishedHotSet.read(registry) }

    /// Who stands for election; the first leads.
    public func candidates() async throws -> [Candidate] {
        let names = try await registry.translating(paths.leader) { try await registry.store.children(paths.leader) }
        var candidates: [Candidate] = []
        for name in ElectionQueue.sorted(names.names) {
            let path = paths.candidate(name)
            do {
                let stored = try await registry.read(LeaderDocument.self, at: path)
                candidates.append(Candidate(path: path, agent: stored.document.agent, stat: stored.stat))
            } catch let error as RegistryError where error.code == .notInitialised {
                continue  // Gone between the list and the read.
            } catch let error as RegistryError where error.code == .badDocument {
                candidates.append(Candidate(path: path, agent: nil, stat: nil))
            }
        }
        return candidates
    }

    // MARK: - Pins and denies

    /// Makes a key hot whatever its load. Replaces an earlier pin and takes back a deny of the key.
    /// - Parameters:
    ///   - copies: beside the original; nil for what the key's rule says.
    ///   - ttl: how long it counts, by the ensemble's clock; nil for ever.
    @discardableResult
    public func pin(
        _ key: KeyName, copies: Int? = nil, ttl: Duration? = nil, reason: String? = nil
    ) async throws -> EditOutcome {
        let entry = try makeEntry(key, copies: copies, ttl: ttl, reason: reason)
        return try await edit(.pin, .pin(entry), key: key, reason: reason, at: entry.at)
    }

    /// Nothing changes when the key is not pinned.
    @discardableResult
    public func unpin(_ key: KeyName, reason: String? = nil) async throws -> EditOutcome {
        try await edit(.unpin, .unpin(key), key: key, reason: reason, at: clock())
    }

    /// Keeps detection from making a key hot. Replaces an earlier deny and takes back a pin of the key.
    @discardableResult
    public func deny(_ key: KeyName, ttl: Duration? = nil, reason: String? = nil) async throws -> EditOutcome {
        let entry = try makeEntry(key, copies: nil, ttl: ttl, reason: reason)
        return try await edit(.deny, .deny(entry), key: key, reason: reason, at: entry.at)
    }

    /// Nothing changes when the key is not denied.
    @discardableResult
    public func undeny(_ key: KeyName, reason: String? = nil) async throws -> EditOutcome {
        try await edit(.undeny, .undeny(key), key: key, reason: reason, at: clock())
    }

    private func makeEntry(
        _ key: KeyName, copies: Int?, ttl: Duration?, reason: String?
    ) throws(RegistryError) -> PinEntry {
        if let ttl, ttl < .milliseconds(1) {
            throw RegistryError(.badArgument, "the time to live must be at least a millisecond, not \(ttl)")
        }
        let now = clock()
        let entry = PinEntry(
            key: key, copies: copies, author: author, reason: reason, at: now,
            expiresAt: ttl.map { now.advanced(by: $0) })
        try Self.checkArgument { try entry.validate() }
        return entry
    }

    private func edit(
        _ verb: HistoryEntry.Verb, _ change: PinsEdit.Change, key: KeyName, reason: String?, at: Timestamp
    ) async throws -> EditOutcome {
        let entry = HistoryEntry(at: at, author: author, verb: verb, key: key, reason: reason)
        try Self.checkArgument {
            try key.validate()
            try entry.validate()
        }
        let edit = PinsEdit(change: change, entry: entry)
        let (outcome, authorLead) = try await write(edit)
        guard abs(authorLead) > RegistryLimits.authorClockErrorMillisecondsMax,
            let corrected = change.shifted(byMilliseconds: -authorLead)
        else { return outcome }
        logger?.warning(
            "this host's clock is not the ensemble's; the decision was written with the ensemble's time",
            metadata: ["aheadMilliseconds": "\(authorLead)"])
        var correctedEntry = entry
        correctedEntry.at = entry.at.advanced(byMilliseconds: -authorLead)
        let correction = PinsEdit(change: corrected, entry: correctedEntry, replacing: entry)
        let (second, _) = try await write(correction)
        return second.changed ? second : outcome
    }

    /// - Returns: also how many milliseconds this host's clock is ahead of the ensemble's, as far as the write showed: 0 when the
    ///   ensemble's time lay within the time that the write took.
    private func write(_ edit: PinsEdit) async throws -> (outcome: EditOutcome, authorLead: Int64) {
        var lead: Int64 = 0
        let outcome = try await retrying(paths.pins) {
            let stored = try await pins()
            if edit.isContained(in: stored.document) { return .done(stored.version) }
            // Later than the last write it is for certain.
            let now = Timestamp(millisecondsSince1970: stored.stat.modifiedAtMilliseconds)
            guard let changed = edit.apply(to: stored.document, now: now) else { return .unchanged(stored.version) }
            let data = try registry.encode(changed, for: paths.pins)
            let before = clock().millisecondsSince1970
            let stat = try await registry.store.set(paths.pins, data, version: stored.version)
            let after = clock().millisecondsSince1970
            let server = stat.modifiedAtMilliseconds
            lead = server < before ? before - server : server > after ? after - server : 0
            return .done(stat.version)
        }
        return (outcome, lead)
    }

    // MARK: - Control, rules, topology

    @discardableResult
    public func setMode(_ mode: ControlDocument.Mode, reason: String? = nil) async throws -> EditOutcome {
        try await replace(ControlDocument.self, at: paths.control, verb: .mode, reason: reason) { current in
            guard var document = current else { return (ControlDocument(mode: mode), "to \(mode.rawValue)") }
            let detail = "\(document.mode.rawValue) to \(mode.rawValue)"
            document.mode = mode
            return (document, detail)
        }
    }

    @discardableResult
    public func applyRules(_ document: RulesDocument, reason: String? = nil) async throws -> EditOutcome {
        try await replace(RulesDocument.self, at: paths.rules, verb: .rules, reason: reason) { _ in
            (document, "\(document.rules.count) rules")
        }
    }

    @discardableResult
    public func applyTopology(_ document: TopologyDocument, reason: String? = nil) async throws -> EditOutcome {
        try await replace(TopologyDocument.self, at: paths.topology, verb: .topology, reason: reason) { _ in
            (document, "\(document.nodes.count) nodes")
        }
    }

    /// Writes the document and the history's entry in one transaction. A document that cannot be read is replaced; a
    /// history that cannot be read is left alone, because switching the fleet off must not depend on it.
    private func replace<Document: RegistryDocument>(
        _ type: Document.Type, at path: String, verb: HistoryEntry.Verb, reason: String?,
        _ change: (Document?) -> (document: Document, detail: String)
    ) async throws -> EditOutcome {
        let at = clock()
        var written: [HistoryEntry] = []
        return try await retrying(path) {
            let value = try await registry.translating(path) { try await registry.store.get(path) }
            let current = try? RegistryCodec.decode(type, from: value.data, source: path)
            let history = try await readableHistory()
            if let history, written.contains(where: { history.document.history.contains($0) }) {
                return .done(value.stat.version)
            }
            let (document, detail) = change(current)
            let isWrittenBefore = !written.isEmpty
            if document == current {
                return isWrittenBefore ? .done(value.stat.version) : .unchanged(value.stat.version)
            }
            let entry = HistoryEntry(at: at, author: author, verb: verb, reason: reason, detail: detail)
            try Self.checkArgument { try entry.validate() }
            var operations = [
                StoreOperation.set(path, data: try registry.encode(document, for: path), version: value.stat.version)
            ]
            if let history,
                let recorded = PinsEdit(change: .record, entry: entry).apply(
                    to: history.document,
                    now: Timestamp(millisecondsSince1970: history.stat.modifiedAtMilliseconds)),
                let data = try? registry.encode(recorded, for: paths.pins)
            {
                operations.append(.set(paths.pins, data: data, version: history.version))
            } else {
                logger?.warning("the history cannot be kept: \(paths.pins) is missing, unreadable or full")
            }
            written.append(entry)
            let results = try await registry.store.multi(operations)
            guard case .set(let stat) = results.first else {
                throw RegistryError(
                    .store, "ZooKeeper's answer to the transaction on \(path) makes no sense", path: path)
            }
            return .done(stat.version)
        }
    }

    private func readableHistory() async throws -> Stored<PinsDocument>? {
        do {
            return try await pins()
        } catch let error as RegistryError where [.badDocument, .notInitialised].contains(error.code) {
            return nil
        }
    }

    // MARK: - Compare and set

    enum Attempt {
        case done(Int32)
        case unchanged(Int32)
    }

    /// Runs `attempt` until it neither loses against another writer nor ends in the unknown. An attempt must begin by
    /// reading, and recognise what an earlier one of its own has written. One that finds nothing to change is made again on a server
    /// that has caught up.
    func retrying(_ path: String, _ attempt: () async throws -> Attempt) async throws -> EditOutcome {
        var backoff = Backoff(millisecondsMin: 4, millisecondsMax: RegistryLimits.editBackoffMillisecondsMax)
        var lastError: StoreError?
        var (drops, deadlines, mayBeWritten) = (0, 0, false)
        var isCaughtUp = false
        for _ in 0..<RegistryLimits.editAttemptsMax {
            do {
                switch try await attempt() {
                case .done(let version): return EditOutcome(changed: true, path: path, version: version)
                case .unchanged(let version) where isCaughtUp:
                    return EditOutcome(changed: false, path: path, version: version)
                case .unchanged:
                    // The server may lag:
                    //   1. an operator pins a key through one server
                    //   2. his next session is with another one, which has not heard of it
                    //   3. he unpins the key: nothing to change, and it stays pinned
                    // A write that is based on an old state is refused by its version; only this has to be asked for.
                    try await registry.store.sync(paths.appNode)
                    isCaughtUp = true
                    continue
                }
            } catch let error as RegistryError {
                guard let store = error.store, store.isRetriable else { throw error }
                lastError = store
                deadlines = store.code == .deadlineExceeded ? deadlines + 1 : 0
                // Nobody answers: so many times more would not change that.
                if deadlines == RegistryLimits.editDeadlinesMax {
                    if mayBeWritten { break }
                    throw error
                }
            } catch let error as StoreError {
                guard error.isRetriable || [.badVersion, .nodeExists].contains(error.code) else {
                    throw RegistryStore.translate(error, path: path, app: paths)
                }
                lastError = error
                mayBeWritten = mayBeWritten || error.leavesOutcomeUnknown
                if error.mayBeDropped { drops += 1 } else { drops = 0 }
                if drops == RegistryLimits.droppedRequestsMax, let bytes = error.requestBytes {
                    return try await readBack(path, error, bytes, attempt)
                }
            }
            isCaughtUp = false
            try await Task.sleep(for: backoff.next(random: .random(in: 0..<1)))
        }
        if let lastError, lastError.leavesOutcomeUnknown { throw Self.unknown(path, lastError) }
        throw RegistryError(
            .contention,
            "\(path) was not changed: others wrote it first in \(RegistryLimits.editAttemptsMax) attempts; "
                + "try again", path: path, store: lastError)
    }

    /// The end of an edit whose requests seem to be dropped. Every attempt but the last has been read back by the next, and found
    /// to be missing; the last one may have been written all the same, when the connection broke for another reason.
    private func readBack(
        _ path: String, _ dropped: StoreError, _ bytes: Int, _ attempt: () async throws -> Attempt
    ) async throws -> EditOutcome {
        do {
            switch try await ReadBackStore.$isReadingBack.withValue(true, operation: attempt) {
            case .done(let version): return EditOutcome(changed: true, path: path, version: version)
            case .unchanged(let version): return EditOutcome(changed: false, path: path, version: version)
            }
        } catch is ReadBackStore.Refusal {
            throw RegistryStore.dropped(bytes, path: path)
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            throw Self.unknown(path, (error as? RegistryError)?.store ?? error as? StoreError ?? dropped)
        }
    }

    private static func unknown(_ path: String, _ error: StoreError) -> RegistryError {
        RegistryError(
            .unknownOutcome, "whether \(path) was changed is not known: look at it before trying again", path: path,
            store: error)
    }

    static func checkArgument(_ check: () throws -> Void) throws(RegistryError) {
        do {
            try check()
        } catch {
            throw RegistryError(.badArgument, "\(error)")
        }
    }
}

/// One candidate in the election.
public struct Candidate: Sendable, Hashable {
    public var path: String
    /// Nil when its node cannot be read.
    public var agent: String?
    public var stat: NodeStat?
}
