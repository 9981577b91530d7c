public import Logging
public import ZooKeeper

/// Publishes one coordinator's hot set for as long as it leads.
///
/// Changes are published at once, and those that come within 50 ms of a publication are gathered until then and go out in one
/// transaction: the check of the coordinator's own election node, the changed buckets and the head, each with the version it is
/// expected to have. A deposed coordinator's transaction fails as a whole. When nothing changes, nothing is written. However much changes, no second sees 20 transactions.
///
/// A head or a bucket that cannot be read, or that somebody else wrote, is written anew: when the publisher is opened, and while it
/// runs, where it looks every 30 s. Keys that stood only in a lost bucket are gone until they are submitted again.
///
/// One publisher serves one leadership. After it has thrown it does not know the registry any more: let the body of
/// ``LeaderElection/run(_:)`` end with its error, and open another in the next leadership.
public actor HotSetPublisher {
    private let registry: RegistryStore
    private let leadership: Leadership
    private let memory: PublisherMemory
    private let coordinator: AgentID
    private let gather: Duration
    private let clock: EnsembleClock?
    private let logger: Logger
    private let checkMilliseconds: Int
    private var planner: PublishPlanner
    private var counters = PublisherMetrics()
    private var isPublishing = false
    private var failure: RegistryError?
    private struct Activity: Sendable {
        var hasWork: Bool
        /// Moves with every submission and with every end of a publication.
        var revision = 0
    }
    private let activity: Broadcast<Activity>

    /// Reads the head and all buckets. The first publication is of a later epoch than the head's: of the seconds since 1970 where
    /// that is more, so that it is newer than everything that was published before, also when the ensemble's data was set back.
    ///
    /// - Parameters:
    ///   - seen: what this agent has seen published; when the registry says less, its data was set back, and everything is
    ///     published anew.
    ///   - isRegistryOlder: ``RegistrySnapshot/isRegistryOlder`` of this agent: the head is published in the new epoch although
    ///     nothing in it may have changed. When that is found out later, call ``beginEpoch()``.
    ///   - memory: the agent's.
    ///   - clock: what publications are dated by; this host's when nil.
    ///   - checkMilliseconds: how often the published nodes are looked at while this runs.
    /// - Throws: ``RegistryError/Code/notInitialised`` when there is no head; ``RegistryError/Code/requestDropped`` when the servers
    ///   have dropped this agent's publications for their size although they were as small as they get; a retriable error.
    public static func open(
        store: any CoordinationStore, paths: RegistryPaths, leadership: Leadership, coordinator: AgentID,
        seen: HotPosition? = nil, isRegistryOlder: Bool = false, memory: PublisherMemory = PublisherMemory(),
        clock: EnsembleClock? = nil,
        gatherMilliseconds: Int = RegistryLimits.gatherMilliseconds, checkMilliseconds: Int? = nil, logger: Logger
    ) async throws -> HotSetPublisher {
        let registry = RegistryStore(store: store, paths: paths)
        if let dropped = memory.dropped() {
            let error = RegistryStore.dropped(dropped.bytes, path: paths.hot)
            guard dropped.isSplit else { throw error }
            logger.warning(
                "publishing in smaller transactions from now on",
                metadata: ["reason": "\(error)", "bytes-max": "\(memory.multiBytesMax)"])
        }
        // Read what is at least as new as this leadership: another server may lag behind the previous coordinator's last
        // transaction.
        try await registry.translating(paths.hot) { try await store.sync(paths.hot) }
        let published = try await PublishedHotSet.read(registry, isBadHeadTaken: true)
        // Of buckets that are missing and have to be created.
        let acl = try await registry.accessControl(of: .bucket(0))
        for problem in published.problems {
            logger.warning("a node of the hot set will be written anew", metadata: ["problem": "\(problem)"])
        }
        if let seen, !published.isHeadBad, published.head.position < seen {
            logger.error(
                "the registry is older than what was seen of it: its data was set back; publishing everything anew",
                metadata: ["registry": "\(published.head.position)", "seen": "\(seen)"])
        }
        var planner = PublishPlanner(
            published, paths: paths, acl: acl, bounds: .init(multiBytesMax: memory.multiBytesMax),
            fence: leadership.createdTransaction, epochMin: HotHead.epochMin(at: clock?.now ?? .now), seen: seen)
        if isRegistryOlder { planner.beginEpoch() }
        return HotSetPublisher(
            registry: registry, leadership: leadership, memory: memory, coordinator: coordinator,
            gather: .milliseconds(min(gatherMilliseconds, RegistryLimits.gatherMilliseconds)), clock: clock,
            checkMilliseconds: checkMilliseconds ?? RegistryLimits.publishedCheckMilliseconds, logger: logger,
            planner: planner)
    }

    private init(
        registry: RegistryStore, leadership: Leadership, memory: PublisherMemory, coordinator: AgentID,
        gather: Duration, clock: EnsembleClock?, checkMilliseconds: Int, logger: Logger, planner: PublishPlanner
    ) {
        self.registry = registry
        self.leadership = leadership
        self.memory = memory
        self.coordinator = coordinator
        self.gather = gather
        self.clock = clock
        self.checkMilliseconds = checkMilliseconds
        self.logger = logger
        self.planner = planner
        activity = Broadcast(Activity(hasWork: !planner.isIdle))
    }

    private func noteActivity() {
        let hasWork = !planner.isIdle
        activity.update { $0 = Activity(hasWork: hasWork, revision: $0.revision + 1) }
    }

    /// What stands in the registry, without what is pending.
    public var published: HotRecords { planner.records }
    public var position: HotPosition { planner.head.position }
    public var metrics: PublisherMetrics {
        var metrics = counters
        metrics.waiting = planner.waitingCount
        return metrics
    }

    /// Which keys there is no room for now.
    public var waitingKeys: WaitingKeys { planner.waitingKeys }

    /// Takes changes for the next publication. Returns those that will not be in it, each with its reason; they are logged and
    /// counted. Of these, what there is no room for is kept, and published as soon as there is. A record that differs from
    /// what is published in rates only is no change.
    @discardableResult
    public func submit(_ updates: [HotUpdate]) -> [RefusedUpdate] {
        let refused = planner.submit(updates)
        counters.refused += refused.count
        if let first = refused.first {
            logger.warning(
                "changes of the hot set were refused",
                metadata: [
                    "count": "\(refused.count)", "first": "\(first)", "waiting-for-room": "\(planner.waitingCount)",
                ])
        }
        noteActivity()
        return refused
    }

    /// Makes the hot set exactly these records.
    @discardableResult
    public func replaceAll(_ records: [HotRecord]) -> [RefusedUpdate] {
        submit(planner.updates(towards: records))
    }

    /// Publishes the head in this leadership's epoch although nothing may have changed, unless something has been published in it:
    /// for when the registry turns out to be older than what agents hold, and they wait for a newer epoch before they follow it.
    public func beginEpoch() {
        planner.beginEpoch()
        if !planner.isIdle { noteActivity() }
    }

    /// Publishes what is submitted until cancelled, then returns.
    ///
    /// Throws ``RegistryError/Code/deposed``, ``RegistryError/Code/conflictingWriter``,
    /// ``RegistryError/Code/unknownOutcome`` or the store's error; the publisher is of no use then.
    public func run() async throws {
        do {
            var checkAt = nextCheck
            var gatherUntil = ContinuousClock.now
            while true {
                let hasWork = try await activity.first(within: max(.zero, checkAt - .now)) { $0.hasWork ? true : nil }
                if hasWork != nil {
                    // What came first need not wait for company: only what would follow it too closely does.
                    let due = gatherUntil - .now
                    if due > .zero { try await Task.sleep(for: due) }
                    try await flush()
                    gatherUntil = .now + gather
                }
                if checkAt <= .now {
                    try await check()
                    checkAt = nextCheck
                }
            }
        } catch is CancellationError {
            return
        }
    }

    private var nextCheck: ContinuousClock.Instant {
        .now + Reread.period(random: .random(in: 0..<1), milliseconds: checkMilliseconds)
    }

    /// Looks whether the published nodes are those that this coordinator knows. Nobody is told of a bucket that somebody else wrote:
    /// agents that hold its content do not read it, and those that start later hold what stands there. No publication would meet it
    /// either, unless it changed a key of that very bucket.
    ///
    /// Throws ``RegistryError/Code/conflictingWriter`` when one is another: the next publisher writes it anew, be it that it cannot
    /// be read or that it is not what the head names.
    private func check() async throws {
        try await exclusively {
            let paths: [String]
            do {
                paths = try await Self.changed(planner.nodeVersions, in: registry.store)
            } catch let error as StoreError {
                return logger.debug("the published nodes could not be looked at", metadata: ["error": "\(error)"])
            }
            guard let path = paths.first else { return }
            let problem = await problem(at: path)
            logger.error(
                "a node of the hot set cannot be read, or is not what was published",
                metadata: ["problem": "\(problem)", "count": "\(paths.count)"])
            throw RegistryError(
                .conflictingWriter,
                "something else than the coordinator wrote below \(registry.paths.hot): \(problem)", path: path)
        }
    }

    /// All are asked for at once: what is submitted meanwhile waits for it.
    private static func changed(
        _ nodes: [(path: String, version: Int32?)], in store: any CoordinationStore
    ) async throws -> [String] {
        try await withThrowingTaskGroup(of: String?.self) { group in
            for (path, version) in nodes {
                guard let version else { continue }
                group.addTask { try await store.exists(path)?.version == version ? nil : path }
            }
            return try await group.reduce(into: []) { paths, path in if let path { paths.append(path) } }.sorted()
        }
    }

    /// What is wrong with a node that somebody else wrote.
    private func problem(at path: String) async -> DocumentProblem {
        do {
            let value = try await registry.store.get(path)
            if path == registry.paths.hot {
                _ = try RegistryCodec.decode(HotHead.self, from: value.data, source: path)
            } else if let index = (0..<RegistryLimits.bucketCount).first(where: { registry.paths.bucket($0) == path }),
                case .bad(let error, _) = PublishedHotSet.decode(value, bucket: index, path: path)
            {
                throw error
            }
            return DocumentProblem(path: path, reason: "it can be read, but is not what was published")
        } catch let error as StoreError where error.code == .noNode {
            return DocumentProblem(path: path, reason: "the node does not exist")
        } catch {
            return DocumentProblem(path: path, reason: "\(error)")
        }
    }

    /// Runs `body` while nothing is published, and not after a failure; an error of it is this publisher's end.
    private func exclusively(_ body: () async throws -> Void) async throws {
        while isPublishing {
            let seen = activity.value.revision
            try await activity.first { $0.revision != seen ? () : nil }
        }
        if let failure { throw failure }
        isPublishing = true
        defer {
            isPublishing = false
            noteActivity()
        }
        do {
            try await body()
        } catch {
            // Also when cancelled: part of a publication may stand in the registry.
            failure =
                error as? RegistryError
                ?? RegistryError(
                    .unknownOutcome, "an earlier publication was cut off: \(error)", path: registry.paths.hot)
            throw error
        }
    }

    /// Publishes now what is pending; returns when it stands in the registry.
    public func flush() async throws {
        try await exclusively {
            let waiting = planner.waitingCount
            let planned = try planner.plan(now: clock?.now ?? .now, coordinator: coordinator)
            if planner.waitingCount < waiting {
                logger.notice(
                    "there is room again for keys that waited to be published",
                    metadata: [
                        "count": "\(waiting - planner.waitingCount)", "waiting-for-room": "\(planner.waitingCount)",
                    ])
            }
            guard let publication = planned else { return }
            for (index, step) in publication.steps.enumerated() {
                try await write(step)
                planner.committed(index, of: publication)
            }
            counters.publications += 1
            counters.transactions += publication.steps.count
            logger.debug(
                "published", metadata: ["position": "\(planner.head.position)", "keys": "\(planner.records.count)"])
        }
    }

    // MARK: - One transaction

    /// Returns when the step stands in the registry.
    private func write(_ step: PublishPlanner.Step) async throws {
        var attempt = TransactionAttempt(step.operations)
        var backoff = Backoff(
            millisecondsMin: RegistryLimits.retryMillisecondsMin, millisecondsMax: RegistryLimits.retryMillisecondsMax)
        var action = attempt.next()
        while true {
            let result: TransactionAttempt.Action?
            switch action {
            case .send:
                while let wait = memory.wait(at: .now) { try await Task.sleep(for: wait) }
                do {
                    try await send(step)
                    result = attempt.sent(nil)
                } catch let error as StoreError {
                    result = attempt.sent(error)
                }
            case .compare(let path):
                do {
                    result = attempt.compared(.success(try await readCaughtUp(path)))
                } catch let error as StoreError {
                    result = attempt.compared(.failure(error))
                }
            case .done: return
            case .refused(let error): throw await refusal(error)
            case .failed(let error):
                throw RegistryStore.translate(error, path: registry.paths.hot, app: registry.paths)
            case .unknown(let error):
                throw RegistryError(
                    .unknownOutcome, "whether the hot set was published is not known; it has to be read again",
                    path: registry.paths.hot, store: error)
            }
            if let result {
                action = result
                continue
            }
            counters.retries += 1
            try await Task.sleep(for: backoff.next(random: .random(in: 0.5..<1)))
            action = attempt.next()
        }
    }

    private func send(_ step: PublishPlanner.Step) async throws {
        defer { memory.noteTransaction(answeredAt: .now) }
        let wasConnected = await isConnected()
        do {
            try await registry.store.multi([leadership.fence] + step.operations)
            memory.answered(step.requestBytes)
        } catch let error as StoreError {
            // A call that found no connection before its deadline says nothing about its size.
            if error.mayBeDropped {
                memory.unanswered(step.requestBytes)
            } else if [.noNode, .badVersion, .nodeExists, .noAuthentication].contains(error.code) {
                memory.answered(step.requestBytes)
            }
            throw error
        } catch {
            // Cancelled. The broken connection that makes a coordinator step down cuts its call off as well, and which of the two the
            // call is told of first is a matter of luck.
            if wasConnected, await !isConnected() { memory.unanswered(step.requestBytes) }
            throw error
        }
    }

    /// Whether there is a connection in the session of this leadership. Also told to a task that has been cancelled.
    private func isConnected() async -> Bool {
        let (states, session) = (registry.store.connectionStates, leadership.sessionID)
        return await Task {
            for await state in states { return state == .connected(sessionID: session) }
            return false
        }.value
    }

    /// Nil when there is no such node.
    private func readCaughtUp(_ path: String) async throws -> NodeValue? {
        try await registry.store.sync(path)
        do {
            return try await registry.store.get(path)
        } catch let error as StoreError where error.code == .noNode {
            return nil
        }
    }

    /// Why a transaction was refused: either this coordinator does not lead any more, or someone writes who should not.
    private func refusal(_ error: StoreError?) async -> RegistryError {
        let isFenced: Bool
        if error?.operationIndex == 0 {
            isFenced = true
        } else {
            let stat = try? await registry.store.exists(leadership.path)
            isFenced = stat?.createdTransaction != leadership.createdTransaction
        }
        if isFenced {
            return RegistryError(
                .deposed, "this agent does not lead any more: nothing was published", path: leadership.path,
                store: error)
        }
        return RegistryError(
            .conflictingWriter,
            "something else than the coordinator wrote below \(registry.paths.hot): the hot set has to be read again",
            path: registry.paths.hot, store: error)
    }
}

public struct PublisherMetrics: Sendable, Hashable {
    public var publications = 0
    /// More than ``publications`` where one needed several.
    public var transactions = 0
    public var retries = 0
    /// Changes that could not be published when they were submitted.
    public var refused = 0
    /// Keys that there is no room for now.
    public var waiting = 0
}

/// Keys that there is no room for.
public struct WaitingKeys: Sendable, Hashable {
    /// Those that have no record at all, and so take no room.
    public var absent: Set<KeyName> = []
    /// Those whose buckets are full, the hottest first.
    public var crowded: [KeyName] = []
}
