import StrictCoding
import ZooKeeper

/// The nodes an agent watches: five watches an agent, however many keys are hot.
enum WatchedNode: Int, Sendable, Hashable, CaseIterable {
    // The head comes first: it tells another ensemble from a server that lags, and with it how to take the others.
    case hot, control, rules, pins, topology

    func path(_ paths: RegistryPaths) -> String {
        switch self {
        case .hot: paths.hot
        case .control: paths.control
        case .rules: paths.rules
        case .pins: paths.pins
        case .topology: paths.topology
        }
    }
}

/// Everything a subscriber knows and how it changes: by what was read, by the connection, by time. Pure; instants are
/// passed in.
struct Subscription: Sendable {
    private let paths: RegistryPaths
    private var control = DocumentSlot<ControlDocument>()
    private var rules = DocumentSlot<RulesDocument>()
    private var pins = DocumentSlot<PinsDocument>()
    private var topology = DocumentSlot<TopologyDocument>()
    private(set) var hot = HotSetView()
    private var headProblem: String?
    private var headTransaction: Int64 = 0

    /// Counts connections that were lost: what was begun in an earlier one confirms nothing.
    private(set) var connectionNumber = 0
    private var isConnected = false
    /// Nodes whose state in this connection is known.
    private var confirmed: Set<WatchedNode> = []
    /// Operators' documents that are older than what is held here, and not because the server lags.
    private var older: Set<WatchedNode> = []
    private var missing: Set<WatchedNode> = []
    /// The metadata of what was looked at last, good or bad; in this process only.
    private var lastStats: [WatchedNode: NodeStat] = [:]
    /// When everything was last known to be current; nil for never.
    private var currentUntil: ContinuousClock.Instant?
    private(set) var isFresh = false
    /// Moves whenever a snapshot taken now differs from one taken before.
    private(set) var revision = 0

    init(paths: RegistryPaths) { self.paths = paths }

    // MARK: - Connection

    /// Every connection means that all versions are unknown.
    mutating func connected() {
        connectionNumber += 1
        isConnected = true
        confirmed = []
        setOlder([])
    }

    mutating func disconnected(at now: ContinuousClock.Instant) {
        connectionNumber += 1
        isConnected = false
        confirmed = []
        setOlder([])
        becomeStale(at: now)
    }

    private mutating func setOlder(_ nodes: Set<WatchedNode>) {
        guard nodes != older else { return }
        older = nodes
        revision += 1
    }

    /// Reading failed although the connection stands, or what was read is older than what is applied.
    mutating func unconfirmed(_ node: WatchedNode, at now: ContinuousClock.Instant) {
        confirmed.remove(node)
        becomeStale(at: now)
    }

    private mutating func becomeStale(at now: ContinuousClock.Instant) {
        guard isFresh else { return }
        isFresh = false
        currentUntil = now
        revision += 1
    }

    private mutating func confirm(_ node: WatchedNode, connection: Int) {
        guard isConnected, connection == connectionNumber else { return }
        confirmed.insert(node)
        if !isFresh, confirmed.count == WatchedNode.allCases.count {
            isFresh = true
            revision += 1
        }
    }

    // MARK: - Reads

    enum Event: Sendable, Hashable {
        case refused(path: String, reason: String)
        case backward(path: String)
        /// The head is newer but stands in another node, or in an older state of it: transactions are counted anew.
        case anotherEnsemble

        var isBackward: Bool { if case .backward = self { true } else { false } }
    }

    enum FirstRead: Sendable, Hashable {
        /// Nothing is known to compare with, or a watch told of news.
        case news
        /// Small enough to be read whole and compared.
        case whole
        /// Its metadata, and the document only when that has changed.
        case metadata
    }

    /// What nobody has told of is most often the same as before. Of a large document its metadata is then all that is read; a
    /// small one costs no more than its metadata, and one read instead of two where it has changed.
    func firstRead(
        of node: WatchedNode, isToldOf: Bool, wholeBytesMax: Int = RegistryLimits.rereadWholeBytesMax
    ) -> FirstRead {
        guard !isToldOf, let known = lastStats[node] else { return .news }
        return known.dataLengthBytes <= wholeBytesMax ? .whole : .metadata
    }

    /// Takes a node's metadata. True when it is the node that was looked at last, in the very same state: it need not be read.
    mutating func take(unchanged stat: NodeStat?, of node: WatchedNode, connection: Int) -> Bool {
        guard let stat, stat == lastStats[node], node != .hot || hot.problems.isEmpty else { return false }
        let epoch = hot.position?.epoch ?? 0
        switch node {
        case .control: control.stillThere(epoch: epoch)
        case .rules: rules.stillThere(epoch: epoch)
        case .pins: pins.stillThere(epoch: epoch)
        case .topology: topology.stillThere(epoch: epoch)
        case .hot: break
        }
        confirm(node, connection: connection)
        return true
    }

    /// Takes what a read of one of the four operator's documents returned.
    /// - Parameter isCaughtUp: in this connection the server had caught up with its leader before it was asked.
    mutating func take(
        _ node: WatchedNode, _ value: NodeValue?, connection: Int, isCaughtUp: Bool = false,
        at now: ContinuousClock.Instant
    ) -> Event? {
        let isCaughtUp = isCaughtUp && connection == connectionNumber
        let epoch = hot.position?.epoch ?? 0
        note(missing: value == nil, node)
        lastStats[node] = value?.stat
        let path = node.path(paths)
        let event: Event?
        let isNews: Bool
        switch node {
        case .control: (event, isNews) = Self.take(&control, value, path, epoch, isCaughtUp)
        case .rules: (event, isNews) = Self.take(&rules, value, path, epoch, isCaughtUp)
        case .pins: (event, isNews) = Self.take(&pins, value, path, epoch, isCaughtUp)
        case .topology: (event, isNews) = Self.take(&topology, value, path, epoch, isCaughtUp)
        case .hot: preconditionFailure("the head is taken by takeHead")
        }
        if isNews { revision += 1 }
        if case .backward = event {
            lastStats[node] = nil
            unconfirmed(node, at: now)
            if isCaughtUp { setOlder(older.union([node])) }
        } else {
            setOlder(older.subtracting([node]))
            confirm(node, connection: connection)
        }
        return event
    }

    private static func take<Document: RegistryDocument>(
        _ slot: inout DocumentSlot<Document>, _ value: NodeValue?, _ path: String, _ epoch: Int64, _ isCaughtUp: Bool
    ) -> (event: Event?, isNews: Bool) {
        switch slot.take(value, path: path, epoch: epoch, isCaughtUp: isCaughtUp) {
        case .unchanged: (nil, false)
        case .backward: (.backward(path: path), false)
        case .applied: (nil, true)
        case .refused(let reason): (.refused(path: path, reason: reason), true)
        }
    }

    struct PendingHead: Sendable {
        var head: HotHead
        var stat: NodeStat
        var isSetBack: Bool
        var buckets: [Int]
    }

    struct HeadOutcome: Sendable {
        /// To read before the head counts; nil when it has been dealt with.
        var pending: PendingHead?
        var events: [Event] = []
        var isDelta = false
    }

    mutating func takeHead(
        _ value: NodeValue?, connection: Int, at now: ContinuousClock.Instant
    ) -> HeadOutcome {
        note(missing: value == nil, .hot)
        lastStats[.hot] = nil
        guard let value else {
            setHeadProblem("the node does not exist")
            confirm(.hot, connection: connection)
            return HeadOutcome()
        }
        let head: HotHead
        do {
            head = try RegistryCodec.decode(HotHead.self, from: value.data, source: paths.hot)
        } catch {
            let isNews = setHeadProblem("\(error)")
            lastStats[.hot] = value.stat
            confirm(.hot, connection: connection)
            return HeadOutcome(events: isNews ? [.refused(path: paths.hot, reason: "\(error)")] : [])
        }
        let before = (hot.position, hot.incarnation)
        let stat = value.stat
        let isSetBack = stat.modifiedTransaction < headTransaction
        switch hot.take(head, incarnation: stat.incarnation, nodeVersion: stat.version, isSetBack: isSetBack) {
        case .refused:
            unconfirmed(.hot, at: now)
            return HeadOutcome(events: [.backward(path: paths.hot)])
        case .unchanged:
            return HeadOutcome(events: headTaken(stat, replacing: before.1, connection: connection, isNews: false))
        case .applied:
            let events = headTaken(stat, replacing: before.1, connection: connection, isNews: true)
            return HeadOutcome(events: events, isDelta: before.0 != nil && !head.changes.isEmpty)
        case .read(let buckets):
            return HeadOutcome(pending: PendingHead(head: head, stat: stat, isSetBack: isSetBack, buckets: buckets))
        }
    }

    /// Takes the buckets that a head asked for; false when the head has to be read again.
    mutating func takeBuckets(
        _ pending: PendingHead, _ buckets: [Int: HotSetView.BucketRead], isLastRound: Bool, connection: Int
    ) -> (isDone: Bool, events: [Event]) {
        let before = hot.incarnation
        let decision = hot.apply(
            pending.head, incarnation: pending.stat.incarnation, nodeVersion: pending.stat.version,
            isSetBack: pending.isSetBack, buckets: buckets, isLastRound: isLastRound)
        guard decision == .applied else { return (false, []) }
        var events = headTaken(pending.stat, replacing: before, connection: connection, isNews: true)
        for index in buckets.keys.sorted() {
            if let reason = hot.problems[index] { events.append(.refused(path: paths.bucket(index), reason: reason)) }
        }
        return (true, events)
    }

    /// A newer head in another node, or in a node that was changed earlier, means an ensemble that was built anew or restored:
    /// its transactions say nothing about those seen before. Without this every operator's document might count as older
    /// for ever. (Where only the head was made anew, this costs four reads.)
    private mutating func headTaken(
        _ stat: NodeStat, replacing before: HeadIncarnation, connection: Int, isNews: Bool
    ) -> [Event] {
        if isNews { revision += 1 }
        setHeadProblem(nil)
        let isAnother =
            before != .none && (before != stat.incarnation || stat.modifiedTransaction < headTransaction)
        headTransaction = stat.modifiedTransaction
        lastStats[.hot] = stat
        if isAnother {
            lastStats = [.hot: stat]
            control.forgetTransaction()
            rules.forgetTransaction()
            pins.forgetTransaction()
            topology.forgetTransaction()
        }
        confirm(.hot, connection: connection)
        return isAnother ? [.anotherEnsemble] : []
    }

    /// Whether it was another before.
    @discardableResult
    private mutating func setHeadProblem(_ problem: String?) -> Bool {
        guard headProblem != problem else { return false }
        headProblem = problem
        revision += 1
        return true
    }

    private mutating func note(missing isMissing: Bool, _ node: WatchedNode) {
        let before = missing
        if isMissing { missing.insert(node) } else { missing.remove(node) }
        if missing != before { revision += 1 }
    }

    // MARK: - Snapshot

    func snapshot(at now: ContinuousClock.Instant) -> RegistrySnapshot {
        var problems: [DocumentProblem] = []
        for (node, problem) in [
            (WatchedNode.hot, headProblem), (.control, control.problem), (.rules, rules.problem),
            (.pins, pins.problem), (.topology, topology.problem),
        ] {
            if let problem { problems.append(DocumentProblem(path: node.path(paths), reason: problem)) }
        }
        problems += hot.problems.sorted { $0.key < $1.key }
            .map { DocumentProblem(path: paths.bucket($0.key), reason: $0.value) }
        let isAnythingKnown =
            hot.position != nil || control.document != nil || rules.document != nil || pins.document != nil
            || topology.document != nil
        let isInitialised: Bool? =
            missing.isEmpty ? (isAnythingKnown ? true : nil) : (missing.count < WatchedNode.allCases.count)
        let view: RegistryView =
            if !isAnythingKnown { .none } else if isFresh { .fresh } else { .stale(since: currentUntil ?? now) }
        return RegistrySnapshot(
            view: view, isInitialised: isInitialised, control: control.document, rules: rules.document,
            pins: pins.document, topology: topology.document, hot: hot.records, position: hot.position,
            coordinator: hot.coordinator, publishedAt: hot.publishedAt,
            versions: DocumentVersions(
                control: control.nodeVersion, rules: rules.nodeVersion, pins: pins.nodeVersion,
                topology: topology.nodeVersion, hot: hot.position == nil ? nil : hot.headNodeVersion),
            problems: problems, isRegistryOlder: !older.isEmpty)
    }
}

extension NodeStat {
    fileprivate var incarnation: HeadIncarnation {
        HeadIncarnation(createdTransaction: createdTransaction, createdAtMilliseconds: createdAtMilliseconds)
    }
}

// MARK: - On disk

extension Subscription {
    struct Saved: Codable, Sendable, Hashable {
        /// When this was last known to be current, by this host's wall clock.
        var confirmedAt: Timestamp
        var headTransaction: Int64
        var hot: HotSetView.Saved?
        var control: DocumentSlot<ControlDocument>.Saved?
        var rules: DocumentSlot<RulesDocument>.Saved?
        var pins: DocumentSlot<PinsDocument>.Saved?
        var topology: DocumentSlot<TopologyDocument>.Saved?
    }

    /// Nil while there is nothing worth saving.
    func saved(at now: ContinuousClock.Instant, wallClock: Timestamp) -> Saved? {
        guard snapshot(at: now).view != .none else { return nil }
        let ageMilliseconds = isFresh ? 0 : currentUntil.map { max(0, (now - $0).wholeMilliseconds) } ?? 0
        return Saved(
            confirmedAt: wallClock.advanced(byMilliseconds: -ageMilliseconds), headTransaction: headTransaction,
            hot: hot.saved, control: control.saved, rules: rules.saved, pins: pins.saved, topology: topology.saved)
    }

    /// Starts from what was saved: stale since it was last confirmed, and with the versions below which nothing is taken.
    init(paths: RegistryPaths, saved: Saved, at now: ContinuousClock.Instant, wallClock: Timestamp) {
        self.paths = paths
        let epoch = saved.hot?.position.epoch ?? 0
        control = DocumentSlot(saved.control, epoch: epoch)
        rules = DocumentSlot(saved.rules, epoch: epoch)
        pins = DocumentSlot(saved.pins, epoch: epoch)
        topology = DocumentSlot(saved.topology, epoch: epoch)
        hot = saved.hot.flatMap(HotSetView.init) ?? HotSetView()
        headTransaction = saved.headTransaction
        // A wall clock that was set back must not make the view younger than the start of this process.
        let age = max(0, wallClock.millisecondsSince1970 - saved.confirmedAt.millisecondsSince1970)
        currentUntil = now - .milliseconds(age)
    }
}
