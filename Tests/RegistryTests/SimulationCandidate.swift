import HotKeyTestSupport
import ZooKeeper

@testable import HotKeyRegistry

/// Stands for election as ``LeaderElection`` does, with the decisions of ``Candidacy``, and publishes while it leads.
final class SimulatedCandidate {
    private unowned let agent: SimulatedAgent
    private var world: SimulatedRegistry { agent.world }
    private var session: Int64?
    private var candidacy: Candidacy
    private var news = 0
    private var newsAtList = 0
    private var isWaitingForSession = true
    private var isWaitingForNews = false
    private(set) var publisher: SimulatedPublisher?
    private var isSteppingDown = false

    init(_ agent: SimulatedAgent) {
        self.agent = agent
        candidacy = Candidacy(guid: agent.world.makeGUID(), sessionID: 0)
    }

    func connected(_ id: Int64) {
        session = id
        if isWaitingForSession { stand() } else { wake() }
    }

    func disconnected() {
        session = nil
        wake()
    }

    private func wake() {
        if let publisher { return check(publisher) }
        guard isWaitingForNews else { return }
        isWaitingForNews = false
        perform(.list)
    }

    private func tell(_ event: WatchEvent) {
        news += 1
        wake()
    }

    // MARK: - Waiting

    private func stand() {
        isWaitingForSession = session == nil
        guard let session else { return }
        candidacy = Candidacy(guid: candidacy.guid, sessionID: session)
        perform(.list)
    }

    private func standAgain() { agent.later { self.stand() } }

    private func perform(_ action: Candidacy.Action) {
        switch action {
        case .list:
            guard session == candidacy.sessionID else { return stand() }
            newsAtList = news
            agent.call(.children(world.paths.leader, watch: false)) { result in
                guard case .success(.children(let children)) = result else { return self.standAgain() }
                self.perform(self.candidacy.listed(children.names))
            }
        case .create(let prefix):
            let create = StoreOperation.create(
                world.paths.candidate(prefix), data: world.leaderDocument(agent.id), mode: .ephemeralSequential,
                acl: AccessControl.openUnsafe)
            agent.call(.write(.one(create))) { result in
                if case .failure = result { return self.standAgain() }
                self.perform(.list)
            }
        case .watch(let name):
            watch(world.paths.candidate(name)) { stat in self.perform(self.candidacy.watched(stat)) }
        case .remove(let name):
            agent.call(.write(.one(.delete(world.paths.candidate(name), version: nil)))) { result in
                if case .failure(let error) = result, error.code != .noNode { return self.standAgain() }
                self.perform(.list)
            }
        case .wait:
            isWaitingForNews = true
            if news != newsAtList || session != candidacy.sessionID { wake() }
        case .prove:
            guard session == candidacy.sessionID else { return stand() }
            agent.call(.sync) { _ in
                let lease = self.session.map { session in
                    SessionLease(
                        sessionID: session, timeoutMilliseconds: 10_000, lastContact: self.world.now,
                        lastProof: self.world.now)
                }
                self.perform(
                    self.candidacy.proved(lease, at: self.world.now, hasNews: self.news != self.newsAtList))
            }
        case .lead(let name, let createdTransaction):
            lead(
                Leadership(
                    path: world.paths.candidate(name), createdTransaction: createdTransaction,
                    sessionID: candidacy.sessionID, agent: agent.id))
        }
    }

    private func watch(_ path: String, _ done: @escaping (NodeStat?) -> Void) {
        agent.call(.get(path, watch: true), onEvent: tell) { result in
            guard case .success(.value(let value)) = result else { return done(nil) }
            done(value.stat)
        }
    }

    // MARK: - Leading

    private func lead(_ leadership: Leadership) {
        world.figures.leaderships += 1
        isSteppingDown = false
        let publisher = SimulatedPublisher(agent, leadership) { self.ended($0) }
        self.publisher = publisher
        publisher.open()
        check(publisher)
    }

    /// Whether the leadership is still there; asked again whenever a watch or the connection says something.
    private func check(_ publisher: SimulatedPublisher) {
        let leadership = publisher.leadership
        guard session == leadership.sessionID else { return stepDown(publisher) }
        watch(leadership.path) { stat in
            guard self.publisher === publisher else { return }
            if stat?.createdTransaction != leadership.createdTransaction { self.stepDown(publisher) }
        }
    }

    /// Anything may come between the end of a leadership and the moment at which its body notices: a process that was
    /// stopped goes on publishing when it wakes up, in a session that is another one.
    private func stepDown(_ publisher: SimulatedPublisher) {
        guard !isSteppingDown else { return }
        isSteppingDown = true
        cancel(publisher, after: world.random(1..<12))
    }

    private func cancel(_ publisher: SimulatedPublisher, after pauses: Int) {
        agent.later { if pauses > 1 { self.cancel(publisher, after: pauses - 1) } else { publisher.cancel() } }
    }

    private func ended(_ hasFailed: Bool) {
        publisher = nil
        guard hasFailed else { return stand() }
        agent.call(.children(world.paths.leader, watch: false)) { result in
            guard case .success(.children(let children)) = result else { return self.standAgain() }
            let prefix = ElectionQueue.prefix(guid: self.candidacy.guid)
            self.delete(children.names.filter { $0.hasPrefix(prefix) })
        }
    }

    private func delete(_ names: [String]) {
        guard let name = names.first else { return standAgain() }
        agent.call(.write(.one(.delete(world.paths.candidate(name), version: nil)))) { result in
            if case .failure = result { return self.standAgain() }
            self.delete(Array(names.dropFirst()))
        }
    }
}

/// Publishes as ``HotSetPublisher`` does, with the decisions of ``PublishPlanner`` and ``TransactionAttempt``.
final class SimulatedPublisher {
    private unowned let agent: SimulatedAgent
    private var world: SimulatedRegistry { agent.world }
    let leadership: Leadership
    private let onEnd: (_ hasFailed: Bool) -> Void
    private var planner: PublishPlanner?
    private var isEnded = false
    private var isBusy = false

    init(_ agent: SimulatedAgent, _ leadership: Leadership, onEnd: @escaping (_ hasFailed: Bool) -> Void) {
        self.agent = agent
        self.leadership = leadership
        self.onEnd = onEnd
    }

    var isOpen: Bool { planner != nil }
    private var hasToCheck = false

    /// Looks at the published nodes, not while something is being published; what is not ours is the end.
    func check() {
        guard let planner, !isEnded else { return }
        guard !isBusy else {
            hasToCheck = true
            return
        }
        isBusy = true
        hasToCheck = false
        let known = planner.nodeVersions.compactMap { node in node.version.map { (node.path, $0) } }
        var left = known.count
        var isForeign = false
        for (path, version) in known {
            call(.exists(path, watch: false)) { result in
                if case .success(.stat(let stat)) = result, stat?.version != version { isForeign = true }
                left -= 1
                guard left == 0 else { return }
                self.isBusy = false
                if isForeign { self.end(hasFailed: true) } else { self.gather() }
            }
        }
    }

    /// A call that is on its way is not called back by it.
    func cancel() { end(hasFailed: false) }

    private func end(hasFailed: Bool) {
        guard !isEnded else { return }
        isEnded = true
        onEnd(hasFailed)
    }

    private func call(
        _ request: SimulatedEnsemble.Request, _ reply: @escaping (Result<SimulatedEnsemble.Reply, StoreError>) -> Void
    ) {
        agent.call(request) { if !self.isEnded { reply($0) } }
    }

    func open() {
        let paths = world.paths
        call(.sync) { _ in
            self.call(.get(paths.hot, watch: false)) { result in
                guard case .success(.value(let value)) = result else { return self.end(hasFailed: true) }
                let readable = try? RegistryCodec.decode(HotHead.self, from: value.data, source: paths.hot)
                let head = readable ?? HotHead(epoch: 0, publishedAt: start)
                var reads = Array(repeating: PublishedHotSet.BucketRead.missing, count: RegistryLimits.bucketCount)
                var left = self.world.buckets.count
                for bucket in self.world.buckets {
                    self.call(.get(paths.bucket(bucket), watch: false)) { result in
                        if case .success(.value(let value)) = result {
                            reads[bucket] = PublishedHotSet.decode(value, bucket: bucket, path: paths.bucket(bucket))
                        }
                        left -= 1
                        guard left == 0 else { return }
                        var published = PublishedHotSet(
                            head: head, headStat: value.stat, buckets: reads, paths: paths)
                        published.isHeadBad = readable == nil
                        self.planner = PublishPlanner(
                            published, paths: paths, bounds: self.world.bounds,
                            fence: self.leadership.createdTransaction)
                        self.submitAll()
                    }
                }
            }
        }
    }

    /// Makes the hot set what the heat is now.
    func submitAll() {
        guard planner != nil, !isEnded else { return }
        let updates = planner!.updates(towards: world.heat.values.sorted { $0.key < $1.key })
        let refused = planner!.submit(updates)
        if !refused.isEmpty { world.violation("refused: \(refused)") }
        gather()
    }

    private func gather() {
        guard let planner, !planner.isIdle, !isBusy, !isEnded else { return }
        isBusy = true
        agent.later { self.publish() }
    }

    private func publish() {
        guard !isEnded else { return }
        do {
            guard let publication = try planner!.plan(now: world.wallClock, coordinator: agent.id) else {
                isBusy = false
                return hasToCheck ? check() : ()
            }
            write(0, of: publication)
        } catch {
            world.violation("planning failed: \(error)")
        }
    }

    private func write(_ index: Int, of publication: PublishPlanner.Publication) {
        guard index < publication.steps.count else {
            isBusy = false
            return hasToCheck ? check() : gather()
        }
        var attempt = TransactionAttempt(publication.steps[index].operations)
        func perform(_ action: TransactionAttempt.Action?) {
            switch action {
            case nil:
                agent.later {
                    guard !self.isEnded else { return }
                    perform(attempt.next())
                }
            case .send:
                let operations = [leadership.fence] + publication.steps[index].operations
                call(.write(.multi(operations))) { result in
                    if case .failure(let error) = result {
                        perform(attempt.sent(error))
                    } else {
                        perform(attempt.sent(nil))
                    }
                }
            case .compare(let path):
                call(.sync) { _ in
                    self.call(.get(path, watch: false)) { result in
                        switch result {
                        case .success(.value(let value)): perform(attempt.compared(.success(value)))
                        case .failure(let error) where error.code == .noNode: perform(attempt.compared(.success(nil)))
                        case .failure(let error): perform(attempt.compared(.failure(error)))
                        default: self.world.violation("no value in the answer to a read")
                        }
                    }
                }
            case .done:
                planner!.committed(index, of: publication)
                write(index + 1, of: publication)
            case .refused, .failed, .unknown:
                world.figures.publicationsRefused += 1
                end(hasFailed: true)
            }
        }
        perform(attempt.next())
    }
}
