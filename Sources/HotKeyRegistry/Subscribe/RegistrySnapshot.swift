/// What is known of the registry, as one immutable value.
public struct RegistrySnapshot: Sendable {
    public var view: RegistryView
    /// Whether the app has its znodes; nil while that is not known.
    public var isInitialised: Bool?
    /// Each as last read and valid; nil while none has been. A document that is refused or deleted leaves the last good
    /// one here and stands in ``problems``.
    public var control: ControlDocument?
    public var rules: RulesDocument?
    public var pins: PinsDocument?
    public var topology: TopologyDocument?
    /// As published: candidates included, pins and denies not applied. See ``effectiveHotSet(at:)``.
    public var hot: HotRecords
    /// The publication that ``hot`` is; nil while none has been read.
    public var position: HotPosition?
    /// Who published it, empty for `hkctl init`.
    public var coordinator: String
    public var publishedAt: Timestamp?
    /// Versions of the znodes that the documents in force were read from.
    public var versions: DocumentVersions
    public var problems: [DocumentProblem]
    /// An operator's document is older in the registry than here although the server had caught up with its leader: the ensemble's
    /// data was set back to a backup. What operators write there is refused until a coordinator publishes in a new epoch.
    public var isRegistryOlder = false

    public static let none = RegistrySnapshot(
        view: .none, isInitialised: nil, hot: HotRecords(), coordinator: "", versions: DocumentVersions(), problems: [])

    /// `off`, a plain proxy, while nothing else is known.
    public var mode: ControlDocument.Mode { control?.mode ?? .off }

    /// Whether something else than the elected agent decides what is hot.
    public var isDetectionExternal: Bool { control?.detection == .external }

    /// How long ago the registry was last known to say this: 0 while fresh, nil when nothing is known.
    public func ageMilliseconds(at now: ContinuousClock.Instant = .now) -> Int64? {
        switch view {
        case .none: nil
        case .fresh: 0
        case .stale(let since): max(0, (now - since).wholeMilliseconds)
        }
    }

    /// What agents act on: the published keys that are hot or cooling, without those denied, and those pinned.
    public func effectiveHotSet(at now: Timestamp = .now) -> [KeyName: EffectiveHotKey] {
        var result: [KeyName: EffectiveHotKey] = [:]
        result.reserveCapacity(hot.count + (pins?.pins.count ?? 0))
        for record in hot where record.state.isActedUpon {
            result[record.key] = EffectiveHotKey(key: record.key, record: record, pin: nil)
        }
        for deny in pins?.denies ?? [] where !deny.isExpired(at: now) { result[deny.key] = nil }
        for pin in pins?.pins ?? [] where !pin.isExpired(at: now) {
            // The record stays with a key that is pinned and hot, even when an expired or older deny names it too.
            let record = hot[pin.key].flatMap { $0.state.isActedUpon ? $0 : nil }
            var effective = EffectiveHotKey(key: pin.key, record: record, pin: pin)
            effective.managedCopies = hot[pin.key].flatMap { ManagedCopies($0) }
            result[pin.key] = effective
        }
        return result
    }

    /// When ``effectiveHotSet(at:)`` next changes by the passing of time alone; nil for never.
    public func nextExpiry(after now: Timestamp) -> Timestamp? {
        ((pins?.pins ?? []) + (pins?.denies ?? [])).compactMap(\.expiresAt).filter { $0 > now }.min()
    }
}

/// What an agent may say about its knowledge.
public enum RegistryView: Sendable, Hashable {
    /// Nothing has ever been read.
    case none
    /// From the disk, or from before the connection was lost; it was current at that instant.
    case stale(since: ContinuousClock.Instant)
    /// Read in this connection, and watched.
    case fresh
}

public struct EffectiveHotKey: Sendable, Hashable {
    public var key: KeyName
    /// Nil for a key that is pinned and not hot by itself.
    public var record: HotRecord?
    public var pin: PinEntry?

    public init(key: KeyName, record: HotRecord?, pin: PinEntry?) {
        self.key = key
        self.record = record
        self.pin = pin
        managedCopies = record.flatMap { ManagedCopies($0) }
    }

    /// What the coordinator does about its copies; nil where it does nothing, and for keys that are to have none.
    public var managedCopies: ManagedCopies?

    /// The pin's, otherwise the record's; nil for what the key's rule says. Of copies that the coordinator manages no more than it says:
    /// an operator's later wish for more is its to fulfil.
    public var copies: Int? {
        guard let managedCopies else { return pin?.copies ?? record?.copies }
        return min(pin?.copies ?? managedCopies.copies, managedCopies.copies)
    }
    public var kind: HotKind { record?.kind ?? .read }
}

/// How many copies a key has by its record, and where these are on their way.
public struct ManagedCopies: Sendable, Hashable {
    public var copies: Int
    public var state: CopyState

    /// Nil for a record that says nothing of it.
    public init?(_ record: HotRecord) {
        guard let state = record.copyState, let copies = record.copies else { return nil }
        self.copies = copies
        self.state = state
    }
}

/// Versions of the znodes; nil where none was read.
public struct DocumentVersions: Sendable, Hashable, Codable {
    public var control: Int32?
    public var rules: Int32?
    public var pins: Int32?
    public var topology: Int32?
    public var hot: Int32?

    public init(
        control: Int32? = nil, rules: Int32? = nil, pins: Int32? = nil, topology: Int32? = nil, hot: Int32? = nil
    ) {
        self.control = control
        self.rules = rules
        self.pins = pins
        self.topology = topology
        self.hot = hot
    }
}

/// What a subscriber has done since it was made.
public struct SubscriberMetrics: Sendable, Hashable {
    public var watchEvents = 0
    /// Times everything was read: at every connection and every 30 s.
    public var fullReads = 0
    public var failedReads = 0
    /// Agents that were registered when everything was last looked at; this one's reads are spread by it.
    public var agents = 0
    /// News that a read found and no watch had told of: a watch was lost, and reading again healed it.
    public var watchesHealed = 0
    /// Nodes that reading again found in the state that was known.
    public var nodesUnchanged = 0
    /// Heads applied from their inline changes alone.
    public var deltasApplied = 0
    public var bucketsRead = 0
    /// Documents that were refused because they are not valid.
    public var documentsRefused = 0
    /// Documents that were older than what is applied.
    public var backwardRefused = 0
    public var viewsSaved = 0
    public var viewSavesFailed = 0
    public var lastSavedViewBytes = 0
}

/// Snapshots as they come: the current one first, then every newer one; a slow reader gets the newest.
public struct SnapshotUpdates: AsyncSequence, Sendable {
    let base: AsyncStream<RegistrySnapshot>

    public struct AsyncIterator: AsyncIteratorProtocol {
        var base: AsyncStream<RegistrySnapshot>.AsyncIterator
        public mutating func next() async -> RegistrySnapshot? { await base.next() }
    }

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(base: base.makeAsyncIterator()) }
}
