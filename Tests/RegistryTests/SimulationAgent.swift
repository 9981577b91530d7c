import HotKeyTestSupport
import ZooKeeper

@testable import HotKeyRegistry

/// An agent's subscriber as ``RegistrySubscriber`` drives it: the same reads in the same order, with the decisions of
/// ``Subscription``. What runs beside it (the candidate, the publisher) is in ``SimulatedCandidate``.
final class SimulatedAgent {
    private struct Lane {
        let nodes: Set<WatchedNode>
        var isConnected = false
        var due: Set<WatchedNode> = []
        var told: Set<WatchedNode> = []
        var isReading = false
        var unread: Set<WatchedNode> = []
        /// The connection in which the server has caught up with its leader since something could not be read.
        var caughtUp: Int?
    }

    private enum Read {
        case value(NodeValue?)
        case unchanged
        case failed
    }

    unowned let world: SimulatedRegistry
    let id: AgentID
    let client: Int
    private(set) var subscription: Subscription
    private(set) var candidate: SimulatedCandidate?
    private let isCandidate: Bool
    /// A process that was restarted hears nothing of what the one before asked.
    private var process = 0
    private var lanes: [Lane] = []
    private var armed: [String: Int] = [:]
    private var lastToken = 0
    private var saved: Subscription.Saved?

    /// Of the subscriber alone: metadata counts like a value.
    private(set) var reads = 0
    private var isUndisturbed = false
    private var wasFresh = false
    private var position: HotPosition?
    private var versions: [Int32?] = []

    init(_ world: SimulatedRegistry, id: AgentID, isCandidate: Bool) {
        self.world = world
        self.id = id
        self.isCandidate = isCandidate
        client = world.ensemble.addClient()
        subscription = Subscription(paths: world.paths)
        start()
    }

    private func start() {
        let urgent: Set<WatchedNode> = [.control]
        lanes = [Lane(nodes: urgent), Lane(nodes: Set(WatchedNode.allCases).subtracting(urgent))]
        armed = [:]
        candidate = isCandidate ? SimulatedCandidate(self) : nil
        versions = subscription.snapshot(at: world.now).versions.all
        position = subscription.hot.position
        wasFresh = false
    }

    /// The process is killed and starts anew from its disk, which is up to a second behind.
    func restart() {
        process += 1
        world.ensemble.restart(client)
        subscription =
            saved.map { Subscription(paths: world.paths, saved: $0, at: world.now, wallClock: world.wallClock) }
            ?? Subscription(paths: world.paths)
        start()
    }

    func save() { saved = subscription.saved(at: world.now, wallClock: world.wallClock) ?? saved }

    func call(
        _ request: SimulatedEnsemble.Request, onEvent: ((WatchEvent) -> Void)? = nil,
        _ reply: @escaping (Result<SimulatedEnsemble.Reply, StoreError>) -> Void
    ) {
        let process = process
        world.call(client, request, onEvent: onEvent.map { onEvent in { if process == self.process { onEvent($0) } } })
        {
            if process == self.process { reply($0) }
        }
    }

    func later(_ body: @escaping () -> Void) {
        let process = process
        world.later { if process == self.process { body() } }
    }

    // MARK: - Events

    func hear(_ state: ConnectionState) {
        switch state {
        case .connected(let session):
            change { $0.connected() }
            reads = 0
            isUndisturbed = true
            for index in lanes.indices {
                lanes[index].isConnected = true
                lanes[index].due = lanes[index].nodes
                lanes[index].told = []
                pump(index)
            }
            candidate?.connected(session)
        case .suspended, .lost:
            for index in lanes.indices { lanes[index].isConnected = false }
            change { $0.disconnected(at: world.now) }
            candidate?.disconnected()
        }
    }

    func rereadEverything() {
        isUndisturbed = false
        for index in lanes.indices {
            lanes[index].due = lanes[index].nodes
            pump(index)
        }
    }

    private func heard(_ path: String) {
        guard let node = WatchedNode.allCases.first(where: { $0.path(world.paths) == path }) else { return }
        isUndisturbed = false
        for index in lanes.indices where lanes[index].nodes.contains(node) {
            lanes[index].due.insert(node)
            lanes[index].told.insert(node)
            pump(index)
        }
    }

    // MARK: - Rounds

    private func pump(_ index: Int) {
        guard lanes[index].isConnected, !lanes[index].isReading, !lanes[index].due.isEmpty else { return }
        lanes[index].isReading = true
        // The lane of `control` does not wait its share.
        if index == 0 { return read(index) }
        later { self.read(index) }
    }

    private func read(_ index: Int) {
        let (due, told) = (lanes[index].due, lanes[index].told)
        lanes[index].due = []
        lanes[index].told = []
        lanes[index].unread.subtract(due)
        let connection = subscription.connectionNumber
        let isCaughtUp = lanes[index].caughtUp == connection
        var results: [WatchedNode: Read] = [:]
        for node in due.sorted(by: { $0.rawValue < $1.rawValue }) {
            read(node, isToldOf: told.contains(node), connection) { read in
                results[node] = read
                if results.count == due.count { self.apply(results, index, connection, isCaughtUp) }
            }
        }
    }

    private func read(_ node: WatchedNode, isToldOf: Bool, _ connection: Int, _ done: @escaping (Read) -> Void) {
        let path = node.path(world.paths)
        // The documents here are all small.
        let wholeBytesMax = world.random(0..<2) == 0 ? 0 : RegistryLimits.rereadWholeBytesMax
        switch subscription.firstRead(of: node, isToldOf: isToldOf, wholeBytesMax: wholeBytesMax) {
        case .news: return get(path, done)
        case .whole:
            return get(path) { read in
                guard case .value(let value) = read,
                    self.change({ $0.take(unchanged: value?.stat, of: node, connection: connection) })
                else { return done(read) }
                done(.unchanged)
            }
        case .metadata: break
        }
        let token = arm(path)
        reads += 1
        call(.exists(path, watch: token != nil), onEvent: token.map { handler(path, $0) }) { result in
            guard case .success(.stat(let stat)) = result else {
                if let token { self.disarm(path, token) }
                return done(.failed)
            }
            if self.change({ $0.take(unchanged: stat, of: node, connection: connection) }) { return done(.unchanged) }
            self.get(path, done)
        }
    }

    private func get(_ path: String, _ done: @escaping (Read) -> Void) {
        let token = arm(path)
        reads += 1
        call(.get(path, watch: token != nil), onEvent: token.map { handler(path, $0) }) { result in
            switch result {
            case .success(.value(let value)):
                // A server that has caught up shows nothing old any more.
                let isCaughtUp = self.lanes.contains { $0.caughtUp == self.subscription.connectionNumber }
                let outdated = isCaughtUp ? nil : self.world.outdated(path, before: self.appliedVersion(of: path))
                done(.value(outdated ?? value))
            case .failure(let error) where error.code == .noNode:
                guard let token else { return done(.value(nil)) }
                self.reads += 1
                self.call(.exists(path, watch: true), onEvent: self.handler(path, token)) { result in
                    guard case .success(.stat(let stat)) = result else {
                        self.disarm(path, token)
                        return done(.failed)
                    }
                    if stat == nil { done(.value(nil)) } else { self.get(path, done) }
                }
            default:
                if let token { self.disarm(path, token) }
                done(.failed)
            }
        }
    }

    private func appliedVersion(of path: String) -> Int32 {
        let versions = subscription.snapshot(at: world.now).versions
        let all = [versions.hot, versions.control, versions.rules, versions.pins, versions.topology]
        return zip(WatchedNode.allCases, all).first { $0.0.path(world.paths) == path }?.1 ?? 0
    }

    private func arm(_ path: String) -> Int? {
        guard armed[path] == nil else { return nil }
        lastToken += 1
        armed[path] = lastToken
        return lastToken
    }

    private func disarm(_ path: String, _ token: Int) { if armed[path] == token { armed[path] = nil } }

    private func handler(_ path: String, _ token: Int) -> (WatchEvent) -> Void {
        { _ in
            self.disarm(path, token)
            self.heard(path)
        }
    }

    private func apply(_ results: [WatchedNode: Read], _ index: Int, _ connection: Int, _ isCaughtUp: Bool) {
        var failed: Set<WatchedNode> = []
        var head: Subscription.HeadOutcome?
        let now = world.now
        let events = change { subscription in
            var events: [Subscription.Event] = []
            for node in results.keys.sorted(by: { $0.rawValue < $1.rawValue }) {
                var fromNode: [Subscription.Event] = []
                switch results[node] {
                case .value(let value) where node == .hot:
                    let outcome = subscription.takeHead(value, connection: connection, at: now)
                    head = outcome
                    fromNode = outcome.events
                case .value(let value):
                    fromNode =
                        subscription.take(node, value, connection: connection, isCaughtUp: isCaughtUp, at: now)
                        .map { [$0] } ?? []
                case .unchanged: continue
                case .failed, nil:
                    subscription.unconfirmed(node, at: now)
                    failed.insert(node)
                }
                if fromNode.contains(where: \.isBackward) { failed.insert(node) }
                events += fromNode
            }
            return events
        }
        note(events)
        guard let pending = head?.pending else { return finish(index, failed) }
        takeBuckets(pending, connection, round: 1) { isDone in
            self.finish(index, isDone ? failed : failed.union([.hot]))
        }
    }

    private func finish(_ index: Int, _ failed: Set<WatchedNode>) {
        guard !failed.isEmpty else {
            lanes[index].isReading = false
            return pump(index)
        }
        isUndisturbed = false
        lanes[index].unread.formUnion(failed)
        let connection = subscription.connectionNumber
        call(.sync) { result in
            if case .success = result { self.lanes[index].caughtUp = connection }
            self.lanes[index].isReading = false
            self.later {
                self.lanes[index].due.formUnion(self.lanes[index].unread)
                self.pump(index)
            }
            self.pump(index)
        }
    }

    private func takeBuckets(
        _ pending: Subscription.PendingHead, _ connection: Int, round: Int, _ done: @escaping (Bool) -> Void
    ) {
        var results: [Int: HotSetView.BucketRead] = [:]
        for bucket in pending.buckets {
            let path = world.paths.bucket(bucket)
            reads += 1
            call(.get(path, watch: false)) { result in
                switch result {
                case .success(.value(let value)):
                    switch PublishedHotSet.decode(value, bucket: bucket, path: path) {
                    case .good(let document, _): results[bucket] = .good(document)
                    case .bad(let error, _): results[bucket] = .bad("\(error)")
                    case .missing: results[bucket] = .missing
                    }
                default: results[bucket] = .missing
                }
                guard results.count == pending.buckets.count else { return }
                let isLastRound = round == RegistryLimits.bucketRoundsMax
                let (isDone, events) = self.change {
                    $0.takeBuckets(pending, results, isLastRound: isLastRound, connection: connection)
                }
                self.note(events)
                if isDone { return done(!events.contains(where: \.isBackward)) }
                self.readHeadAgain(connection, round: round, done)
            }
        }
    }

    private func readHeadAgain(_ connection: Int, round: Int, _ done: @escaping (Bool) -> Void) {
        get(world.paths.hot) { read in
            guard case .value(let value) = read else { return done(false) }
            let outcome = self.change { $0.takeHead(value, connection: connection, at: self.world.now) }
            self.note(outcome.events)
            guard let next = outcome.pending, round < RegistryLimits.bucketRoundsMax else {
                return done(outcome.pending == nil && !outcome.events.contains(where: \.isBackward))
            }
            self.takeBuckets(next, connection, round: round + 1, done)
        }
    }

    private func note(_ events: [Subscription.Event]) {
        for event in events {
            switch event {
            case .backward: world.figures.backwardRefused += 1
            case .refused(let path, let reason):
                if !world.damaged.contains(path) { world.violation("\(id): \(path) was refused: \(reason)") }
            case .anotherEnsemble: world.violation("\(id) takes this for another ensemble")
            }
        }
    }

    // MARK: - What must hold

    @discardableResult
    private func change<Result>(_ body: (inout Subscription) -> Result) -> Result {
        let result = body(&subscription)
        let snapshot = subscription.snapshot(at: world.now)
        let (before, after) = (versions, snapshot.versions.all)
        if let position, let next = snapshot.position, next < position {
            world.violation("\(id) went backward from \(position) to \(next)")
        }
        for (old, new) in zip(before, after) where (new ?? -1) < (old ?? -1) {
            world.violation("\(id): a document went backward: \(before) to \(after)")
        }
        position = snapshot.position
        versions = after
        let isFresh = snapshot.view == .fresh
        if isFresh, !wasFresh, isUndisturbed {
            world.noteFresh(reads: reads)
        }
        wasFresh = isFresh
        return result
    }

    func resetReads() { reads = 0 }
}

extension DocumentVersions {
    fileprivate var all: [Int32?] { [control, rules, pins, topology] }
}
