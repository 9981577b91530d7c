import Dispatch
public import Logging
import NIOConcurrencyHelpers
import StrictCoding
public import ZooKeeper

/// Follows one app's registry and hands out what is known of it as immutable snapshots.
///
/// One one-shot data watch each on the head, pins, rules, control and topology; reading with a watch re-arms it and brings
/// the news in one round trip. Every connection, and every 30 s, everything is looked at again, and read where its metadata has
/// changed. Nothing older than what is applied is taken. While the connection is down, the last snapshot stays, its view is stale.
public final class RegistrySubscriber: Sendable {
    /// Nodes that are read together, in a task of their own. Switching off must not wait, so `control` has a lane for itself.
    private final class Lane: Sendable {
        let nodes: Set<WatchedNode>
        let work = Broadcast(Work())

        init(_ nodes: Set<WatchedNode>) { self.nodes = nodes }
    }

    private struct Work: Sendable {
        var isConnected = false
        var due: Set<WatchedNode> = []
        /// Of these, what a watch has told of.
        var told: Set<WatchedNode> = []
        var isFullRead = false
        /// The full read is for a new connection, whose watches tell only of what comes after.
        var isConnectionNew = false

        mutating func tell(of node: WatchedNode) {
            due.insert(node)
            told.insert(node)
        }
    }

    private let registry: RegistryStore
    private let viewFile: ViewFile?
    private let logger: Logger
    private let rereadMilliseconds: Int
    private let subscription: NIOLockedValueBox<Subscription>
    private let counters: NIOLockedValueBox<SubscriberMetrics>
    private let snapshots: Broadcast<RegistrySnapshot>
    private let urgent = Lane([.control])
    /// The whole fleet is told of these at once, so each agent waits its share before it reads them.
    private let others = Lane(Set(WatchedNode.allCases).subtracting([.control]))
    private var lanes: [Lane] { [urgent, others] }
    private let reader: WatchedReader

    /// Reads the saved view, if there is one: ``current`` is then stale, not empty, from the start.
    ///
    /// - Parameters:
    ///   - stateDirectory: where the last view is kept; created when missing. Nil keeps none. One process each.
    ///   - rereadMilliseconds: how often everything is read again although nothing fired, ±20 %.
    public init(
        store: any CoordinationStore, paths: RegistryPaths, stateDirectory: String? = nil,
        rereadMilliseconds: Int = RegistryLimits.rereadMilliseconds, logger: Logger
    ) {
        registry = RegistryStore(store: store, paths: paths)
        viewFile = stateDirectory.map { ViewFile(directory: $0, paths: paths) }
        self.logger = logger
        self.rereadMilliseconds = rereadMilliseconds
        let counters = NIOLockedValueBox(SubscriberMetrics())
        self.counters = counters
        let state = Self.initialState(paths: paths, viewFile: viewFile, logger: logger)
        subscription = NIOLockedValueBox(state)
        snapshots = Broadcast(state.snapshot(at: .now))
        let nodes = Dictionary(uniqueKeysWithValues: WatchedNode.allCases.map { ($0.path(paths), $0) })
        reader = WatchedReader(store: store) { [urgent, others] path in
            counters.withLockedValue { $0.watchEvents += 1 }
            guard let node = nodes[path] else { return }
            for lane in [urgent, others] where lane.nodes.contains(node) { lane.work.update { $0.tell(of: node) } }
        }
    }

    private static func initialState(paths: RegistryPaths, viewFile: ViewFile?, logger: Logger) -> Subscription {
        do {
            if let saved = try viewFile?.load() {
                return Subscription(paths: paths, saved: saved, at: .now, wallClock: .now)
            }
        } catch {
            logger.error("starting without the saved view", metadata: ["error": "\(error)"])
        }
        return Subscription(paths: paths)
    }

    public var current: RegistrySnapshot { snapshots.value }
    /// The current snapshot first, then every newer one; a slow reader gets the newest. Any number of readers.
    public var updates: SnapshotUpdates { SnapshotUpdates(base: snapshots.stream()) }
    public var metrics: SubscriberMetrics { counters.withLockedValue { $0 } }

    /// Follows the registry until cancelled or until the store is closed; the view is stale then. The last view is saved
    /// before this returns.
    public func run() async throws {
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for await state in self.registry.store.connectionStates { self.take(state) }
                }
                for lane in self.lanes { group.addTask { try await self.follow(lane) } }
                group.addTask { try await self.rereadPeriodically() }
                if let viewFile {
                    group.addTask { try await self.saveViews(viewFile) }
                }
                defer { group.cancelAll() }
                try await group.next()
            }
        } catch is CancellationError {
            // Cancellation is the ordinary end.
        }
        change { $0.disconnected(at: .now) }
        if let viewFile { await saveView(viewFile) }
    }

    /// Changes the state and hands out the snapshot after it, if it is another one. The snapshot is sent inside the lock: the
    /// connection and the reads change the state from several tasks, and their snapshots must not overtake each other.
    @discardableResult
    private func change<Result>(_ body: (inout Subscription) -> Result) -> Result {
        subscription.withLockedValue { subscription in
            let revision = subscription.revision
            let result = body(&subscription)
            if subscription.revision != revision { snapshots.send(subscription.snapshot(at: .now)) }
            return result
        }
    }

    // MARK: - Events

    private func take(_ state: ConnectionState) {
        switch state {
        case .connected:
            change { $0.connected() }
            for lane in lanes {
                lane.work.update {
                    $0 = Work(isConnected: true, due: lane.nodes, isFullRead: true, isConnectionNew: true)
                }
            }
        case .suspended, .lost:
            for lane in lanes { lane.work.update { $0.isConnected = false } }
            change { $0.disconnected(at: .now) }
        }
    }

    private func rereadPeriodically() async throws {
        while true {
            try await Task.sleep(for: Reread.period(random: .random(in: 0..<1), milliseconds: rereadMilliseconds))
            for lane in lanes {
                lane.work.update { work in
                    work.due = lane.nodes
                    work.isFullRead = true
                }
            }
        }
    }

    /// How many agents hear of an event at the same time as this one. Not watched: it is read after everything else.
    private func countAgents() async {
        guard let stat = try? await registry.store.exists(registry.paths.agents) else { return }
        count { $0.agents = Int(stat.childCount) }
    }

    /// Reads what is due as soon as it is. What could not be read waits for its next attempt; news of other nodes do not wait
    /// with it, or a pin could lie for the whole of a back-off that a lagging head has caused.
    private func follow(_ lane: Lane) async throws {
        let work = lane.work
        var backoff = Backoff(
            millisecondsMin: RegistryLimits.retryMillisecondsMin, millisecondsMax: RegistryLimits.retryMillisecondsMax)
        var unread: Set<WatchedNode> = []
        var retryAt = ContinuousClock.now
        var caughtUp: Int?
        while true {
            if !unread.isEmpty {
                // A new connection reads everything and does not wait for the old one's failures.
                let isNews = try await work.first(within: max(.zero, retryAt - .now)) {
                    $0.isFullRead || ($0.isConnected && !$0.due.isEmpty) ? true : nil
                }
                if isNews == nil { work.update { [unread] in $0.due.formUnion(unread) } }
            }
            try await work.first { $0.isConnected && !$0.due.isEmpty ? () : nil }
            if let wait = spread(lane) { try await Task.sleep(for: wait) }
            let isRetryDue = retryAt <= .now
            let due = work.update { [unread] work in
                if isRetryDue { work.due.formUnion(unread) }
                // What could not be read may have been told of before.
                work.told.formUnion(unread.intersection(work.due))
                let due = work
                work = Work(isConnected: due.isConnected)
                return due
            }
            if due.isFullRead {
                count { $0.fullReads += 1 }
                backoff.reset()
            }
            // A failing read of one node's news must not put the others' attempt off again and again.
            let isAttempt = unread.isEmpty || !unread.isDisjoint(with: due.due)
            unread.subtract(due.due)
            let failed = try await read(due, of: lane, caughtUp: &caughtUp)
            unread.formUnion(failed)
            if unread.isEmpty {
                backoff.reset()
            } else if isAttempt {
                retryAt = .now + backoff.next(random: .random(in: 0.5..<1))
            }
            // A whole fleet reads when the ensemble elects a leader: how many it is, it knows from before.
            if due.isFullRead, lane === others, !due.isConnectionNew || metrics.agents == 0 { await countAgents() }
        }
    }

    private func spread(_ lane: Lane) -> Duration? {
        guard lane === others else { return nil }
        return Reread.spread(
            agents: metrics.agents, reads: lane.work.value.due.count, random: .random(in: 0..<1))
    }

    // MARK: - Reading

    private enum Read: Sendable {
        /// - Parameter wasDifferent: metadata that was known before said so.
        case value(WatchedNode, NodeValue?, wasDifferent: Bool)
        case unchanged(WatchedNode)
        case failed(WatchedNode, StoreError)
    }

    /// Reads the nodes at once and applies them in order; returns those that have to be tried again.
    /// - Parameter caughtUp: the connection in which the server has caught up with its leader since something could not be
    ///   taken.
    private func read(_ work: Work, of lane: Lane, caughtUp: inout Int?) async throws -> Set<WatchedNode> {
        let nodes = work.due
        let connection = subscription.withLockedValue { $0.connectionNumber }
        let reads = try await withThrowingTaskGroup(of: Read.self) { group in
            for node in nodes {
                group.addTask {
                    do {
                        return try await self.read(node, isToldOf: work.told.contains(node), connection)
                    } catch let error as StoreError {
                        return .failed(node, error)
                    }
                }
            }
            return try await group.reduce(into: [WatchedNode: Read]()) { reads, read in
                switch read {
                case .value(let node, _, _), .unchanged(let node), .failed(let node, _): reads[node] = read
                }
            }
        }
        // All in one change: no snapshot shows new rules beside an old topology when both were read.
        let isCaughtUp = caughtUp == connection
        let (unread, events, head) = change { apply(reads, of: nodes, connection, isCaughtUp: isCaughtUp, to: &$0) }
        if !work.isConnectionNew { noteHealed(reads, work, lane) }
        var failed = unread
        _ = note(events)
        if let head {
            if head.isDelta { count { $0.deltasApplied += 1 } }
            if let pending = head.pending, try await !takeBuckets(of: pending, connection) { failed.insert(.hot) }
        }
        for case .failed(let node, let error) in reads.values { noteFailure(node, error) }
        if !failed.isEmpty {
            // A server that lags catches up by this; the retry then reads no older than now.
            let connection = subscription.withLockedValue { $0.connectionNumber }
            if (try? await registry.store.sync(registry.paths.appNode)) != nil { caughtUp = connection }
        }
        return failed
    }

    private func read(_ node: WatchedNode, isToldOf: Bool, _ connection: Int) async throws -> Read {
        let path = node.path(registry.paths)
        let stat: NodeStat?
        var value: NodeValue?
        switch subscription.withLockedValue({ $0.firstRead(of: node, isToldOf: isToldOf) }) {
        case .news: return .value(node, try await reader.get(path), wasDifferent: false)
        case .whole:
            value = try await reader.get(path)
            stat = value?.stat
        case .metadata: stat = try await reader.stat(path)
        }
        if change({ $0.take(unchanged: stat, of: node, connection: connection) }) {
            count { $0.nodesUnchanged += 1 }
            return .unchanged(node)
        }
        if value == nil { value = try await reader.get(path) }
        return .value(node, value, wasDifferent: true)
    }

    /// Counts news whose watch has not fired. The client hears of a watch before it sees what the watch told of, so one that is
    /// only late has made the node due again by now.
    private func noteHealed(_ reads: [WatchedNode: Read], _ work: Work, _ lane: Lane) {
        let late = lane.work.value.told
        for case .value(let node, _, wasDifferent: true) in reads.values where !late.contains(node) {
            count { $0.watchesHealed += 1 }
            logger.warning(
                "a change was found that no watch had told of",
                metadata: ["node": "\(node.path(registry.paths))"])
        }
    }

    private func apply(
        _ reads: [WatchedNode: Read], of nodes: Set<WatchedNode>, _ connection: Int, isCaughtUp: Bool,
        to subscription: inout Subscription
    ) -> (unread: Set<WatchedNode>, events: [Subscription.Event], head: Subscription.HeadOutcome?) {
        var unread: Set<WatchedNode> = []
        var events: [Subscription.Event] = []
        var head: Subscription.HeadOutcome?
        for node in nodes.sorted(by: { $0.rawValue < $1.rawValue }) {
            let fromNode: [Subscription.Event]
            switch reads[node] {
            case .value(.hot, let value, _):
                let outcome = subscription.takeHead(value, connection: connection, at: .now)
                head = outcome
                fromNode = outcome.events
            case .value(_, let value, _):
                fromNode =
                    subscription.take(node, value, connection: connection, isCaughtUp: isCaughtUp, at: .now)
                    .map { [$0] } ?? []
            case .unchanged: continue
            case .failed, nil:
                subscription.unconfirmed(node, at: .now)
                unread.insert(node)
                continue
            }
            if fromNode.contains(where: \.isBackward) { unread.insert(node) }
            events += fromNode
        }
        return (unread, events, head)
    }

    /// Reads the buckets that a head asked for, and the head again when they do not fit it. False when it has to be tried
    /// again.
    private func takeBuckets(of first: Subscription.PendingHead, _ connection: Int) async throws -> Bool {
        var pending = first
        do {
            for round in 1...RegistryLimits.bucketRoundsMax {
                let buckets = try await readBuckets(pending.buckets)
                let isLastRound = round == RegistryLimits.bucketRoundsMax
                let (isDone, events) = change { [pending] in
                    $0.takeBuckets(pending, buckets, isLastRound: isLastRound, connection: connection)
                }
                if isDone { return note(events) }
                let value = try await reader.get(registry.paths.hot)
                let outcome = change { $0.takeHead(value, connection: connection, at: .now) }
                guard let next = outcome.pending else { return note(outcome.events) }
                pending = next
            }
        } catch let error as StoreError {
            change { $0.unconfirmed(.hot, at: .now) }
            noteFailure(.hot, error)
        }
        return false
    }

    private func readBuckets(_ indices: [Int]) async throws -> [Int: HotSetView.BucketRead] {
        count { $0.bucketsRead += indices.count }
        return try await withThrowingTaskGroup(of: (Int, HotSetView.BucketRead).self) { group in
            for index in indices {
                group.addTask { [registry] in
                    let path = registry.paths.bucket(index)
                    do {
                        let value = try await registry.store.get(path)
                        switch PublishedHotSet.decode(value, bucket: index, path: path) {
                        case .good(let bucket, _): return (index, .good(bucket))
                        case .bad(let error, _): return (index, .bad("\(error)"))
                        case .missing: return (index, .missing)
                        }
                    } catch let error as StoreError where error.code == .noNode {
                        return (index, .missing)
                    }
                }
            }
            return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
        }
    }

    private func noteFailure(_ node: WatchedNode, _ error: StoreError) {
        count { $0.failedReads += 1 }
        logger.debug(
            "a read failed and is tried again",
            metadata: ["node": "\(node.path(registry.paths))", "error": "\(error)"])
    }

    /// Logs and counts; false when something was older than what is applied.
    private func note(_ events: [Subscription.Event]) -> Bool {
        var isConfirmed = true
        for event in events {
            switch event {
            case .refused(let path, let reason):
                count { $0.documentsRefused += 1 }
                logger.error(
                    "a document was refused, the last good one stays in force",
                    metadata: ["node": "\(path)", "reason": "\(reason)"])
            case .backward(let path):
                isConfirmed = false
                count { $0.backwardRefused += 1 }
                logger.warning(
                    "what was read is older than what is applied and was refused", metadata: ["node": "\(path)"])
            case .anotherEnsemble:
                logger.notice("this is another ensemble: reading all documents again")
                for lane in lanes { lane.work.update { $0.due.formUnion(lane.nodes.subtracting([.hot])) } }
            }
        }
        return isConfirmed
    }

    private func count(_ body: (inout SubscriberMetrics) -> Void) { counters.withLockedValue { body(&$0) } }

    // MARK: - Disk

    /// Saves a while after a change what is known by then, at most twice a second.
    ///
    /// Not at once: a change reaches all agents at the same moment, and where many stand on one machine, or share a disk with
    /// ZooKeeper's log, each of them forcing its view to disk just then would hold up the change itself.
    private func saveViews(_ file: ViewFile) async throws {
        var last: RegistrySnapshot?
        for await snapshot in snapshots.stream() {
            let isNews =
                last.map {
                    $0.versions != snapshot.versions || $0.position != snapshot.position || $0.view != snapshot.view
                }
                ?? true
            guard isNews else { continue }
            let most = RegistryLimits.viewSaveMilliseconds
            do {
                try await Task.sleep(for: .milliseconds(Int.random(in: most / 2...most)))
            } catch {
                await saveView(file)
                throw error
            }
            last = current
            await saveView(file)
        }
    }

    /// Writing and forcing to disk block: not on the threads that run tasks.
    private func saveView(_ file: ViewFile) async {
        guard let view = subscription.withLockedValue({ $0.saved(at: .now, wallClock: .now) }) else { return }
        let result: Result<Int, any Error> = await withCheckedContinuation { continuation in
            DispatchQueue.global(qos: .utility).async {
                continuation.resume(returning: Result { try file.save(view) })
            }
        }
        switch result {
        case .success(let bytes):
            count { metrics in
                metrics.viewsSaved += 1
                metrics.lastSavedViewBytes = bytes
            }
        case .failure(let error):
            count { $0.viewSavesFailed += 1 }
            logger.error("the view could not be saved", metadata: ["error": "\(error)"])
        }
    }
}
