public import Logging
public import ZooKeeper

/// The right to publish, and the proof of it.
public struct Leadership: Sendable, Hashable {
    /// The election node of this leadership. It exists as long as nobody else can lead.
    public var path: String
    /// The transaction that made it (its czxid). Grows from leadership to leadership: a fencing token.
    public var createdTransaction: Int64
    public var sessionID: Int64
    public var agent: AgentID

    public init(path: String, createdTransaction: Int64, sessionID: Int64, agent: AgentID) {
        self.path = path
        self.createdTransaction = createdTransaction
        self.sessionID = sessionID
        self.agent = agent
    }

    /// The first part of every write that only a leader may make. The node's name holds a sequence number that is given
    /// out once and its data is never changed, so that version 0 of this path is this leadership and no other.
    public var fence: StoreOperation { .check(path, version: 0) }
}

/// Stands for election among the agents of an app, with an ephemeral sequential node under `leader/`.
///
/// While the connection is suspended nobody can be told that another leads; the leader steps down at once. While it stands
/// the leader proves its session six times a timeout and steps down when it cannot, before the ensemble could have given
/// the leadership to another (``SessionLease``). A leader that does not notice (a process stopped and woken) is kept from
/// writing by ``Leadership/fence``.
public final class LeaderElection: Sendable {
    private struct Situation: Sendable {
        var connection: ConnectionState = .lost
        /// Counts what the watches told.
        var news = 0

        var sessionID: Int64? { if case .connected(let id) = connection { id } else { nil } }
    }

    private let store: any CoordinationStore
    private let paths: RegistryPaths
    private let id: AgentID
    private let logger: Logger
    private let situation = Broadcast(Situation())
    private let held = Broadcast<Leadership?>(nil)
    private let reader: WatchedReader

    public init(
        store: any CoordinationStore, paths: RegistryPaths, id: AgentID, logger: Logger
    ) {
        self.store = store
        self.paths = paths
        self.id = id
        self.logger = logger
        reader = WatchedReader(store: store) { [situation] _ in situation.update { $0.news += 1 } }
    }

    /// Nil while another leads, or nobody.
    public var leadership: Leadership? { held.value }

    /// Stands for election until cancelled, until `body` returns or until the store is closed; call it once at a
    /// time.
    ///
    /// `body` runs while this agent leads and is cancelled when it does not any more; it is never run twice at once, a new
    /// leadership waits until the old body has ended. When it throws ``RegistryError/Code/deposed``,
    /// ``RegistryError/Code/conflictingWriter``, ``RegistryError/Code/unknownOutcome``,
    /// ``RegistryError/Code/requestDropped``, ``RegistryError/Code/notInitialised`` or a retriable error, this resigns, pauses
    /// and stands again. Any other error ends the candidacy and is thrown.
    public func run(_ body: @escaping @Sendable (Leadership) async throws -> Void) async throws {
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for await state in self.store.connectionStates { self.situation.update { $0.connection = state } }
                }
                group.addTask { try await self.stand(body) }
                defer { group.cancelAll() }
                // The states end with the store, and with them every leadership.
                try await group.next()
                situation.update { $0.connection = .lost }
            }
        } catch is CancellationError {
            // Cancellation is the ordinary end.
        }
    }

    private func stand(_ body: @escaping @Sendable (Leadership) async throws -> Void) async throws {
        let guid = Self.makeGUID()
        var backoff = Backoff(
            millisecondsMin: RegistryLimits.retryMillisecondsMin, millisecondsMax: RegistryLimits.retryMillisecondsMax)
        while true {
            let session = try await situation.first(\.sessionID)
            do {
                guard let leadership = try await waitForTurn(guid: guid, session: session) else { continue }
                backoff.reset()
                switch try await lead(leadership, body) {
                case .steppedDown: continue
                case .finished:
                    await resign(guid: guid)
                    return
                }
            } catch let error where Self.isWorthStandingAgain(error) {
                logger.warning("the candidacy was interrupted, standing again", metadata: ["error": "\(error)"])
                if Task.isCancelled { break }
                if error is RegistryError { await resign(guid: guid) }
                try await Task.sleep(for: Self.pause(after: error) + backoff.next(random: .random(in: 0..<1)))
            } catch {
                await resign(guid: guid)
                throw error
            }
        }
        await resign(guid: guid)
        throw CancellationError()
    }

    // MARK: - Waiting

    /// Nil when the session changed meanwhile.
    private func waitForTurn(guid: String, session: Int64) async throws -> Leadership? {
        var candidacy = Candidacy(guid: guid, sessionID: session)
        var action = Candidacy.Action.list
        var news = 0
        while true {
            switch action {
            case .list:
                guard situation.value.sessionID == session else { return nil }
                news = situation.value.news
                action = candidacy.listed(try await candidates())
            case .create(let prefix):
                let registry = RegistryStore(store: store, paths: paths)
                let data = try registry.encode(LeaderDocument(agent: id.description), for: paths.leader)
                let acl = try await registry.accessControl(of: .candidate)
                try await store.create(paths.candidate(prefix), data, mode: .ephemeralSequential, acl: acl)
                action = .list
            case .watch(let name):
                action = candidacy.watched(try await watch(paths.candidate(name)))
            case .remove(let name):
                do {
                    try await store.delete(paths.candidate(name), version: nil)
                } catch let error as StoreError where error.code == .noNode {}
                action = .list
            case .wait:
                logger.debug("waiting to lead")
                try await situation.first { [news] in $0.news != news || $0.sessionID != session ? () : nil }
                action = .list
            case .prove:
                guard situation.value.sessionID == session else { return nil }
                let lease = try await store.renewLease()
                action = candidacy.proved(lease, at: .now, hasNews: situation.value.news != news)
            case .lead(let name, let createdTransaction):
                return Leadership(
                    path: paths.candidate(name), createdTransaction: createdTransaction, sessionID: session, agent: id)
            }
        }
    }

    private func candidates() async throws -> [String] {
        do {
            return try await store.children(paths.leader).names
        } catch let error as StoreError where error.code == .noNode {
            // Not an error loop: wait until `hkctl init` has been run.
            let news = situation.value.news
            if try await reader.get(paths.leader) == nil {
                logger.notice("the app is not initialised yet: waiting to stand for election")
                try await situation.first { $0.news != news || $0.sessionID == nil ? () : nil }
            }
            throw StoreError(.noNode, path: paths.leader, message: "it did not exist a moment ago")
        }
    }

    /// The node's state with a watch on it; nil, and no watch, when it is gone. Names of candidates are never used twice, so
    /// waiting for one to come back would leave a watch for ever.
    private func watch(_ path: String) async throws -> NodeStat? {
        do {
            return try await store.get(path, onEvent: tell).stat
        } catch let error as StoreError where error.code == .noNode {
            return nil
        }
    }

    private var tell: @Sendable (WatchEvent) -> Void {
        { [situation] _ in situation.update { $0.news += 1 } }
    }

    // MARK: - Leading

    private enum Outcome { case steppedDown, finished }
    private enum Event: Sendable {
        case body(Result<Void, any Error>)
        case lost(String)
    }

    private func lead(
        _ leadership: Leadership, _ body: @escaping @Sendable (Leadership) async throws -> Void
    ) async throws -> Outcome {
        logger.notice("leading", metadata: ["node": "\(leadership.path)", "czxid": "\(leadership.createdTransaction)"])
        held.send(leadership)
        defer { held.send(nil) }
        return try await withThrowingTaskGroup(of: Event.self) { group in
            group.addTask {
                do {
                    try await body(leadership)
                    return .body(.success(()))
                } catch {
                    return .body(.failure(error))
                }
            }
            group.addTask { .lost(await self.waitForEnd(of: leadership)) }
            group.addTask { .lost(await self.waitForEndOfLease(of: leadership)) }
            group.addTask { .lost(await self.proveSession(of: leadership)) }
            let first = try await group.next()
            group.cancelAll()
            // The group ends when both have ended: no second body before the first is gone.
            switch first {
            case .body(.success): return .finished
            case .body(.failure(let error)): throw error
            case .lost(let reason):
                held.send(nil)
                if Task.isCancelled { throw CancellationError() }
                logger.notice("stepping down", metadata: ["reason": "\(reason)"])
                return .steppedDown
            case nil: return .steppedDown
            }
        }
    }

    /// Returns why the leadership is over.
    private func waitForEnd(of leadership: Leadership) async -> String {
        var news = situation.value.news
        do {
            while true {
                guard situation.value.sessionID == leadership.sessionID else { return "the connection is suspended" }
                guard let stat = try await watch(leadership.path),
                    stat.createdTransaction == leadership.createdTransaction
                else { return "the election node is gone" }
                let seen = news
                news = try await situation.first { now in
                    now.news != seen || now.sessionID != leadership.sessionID ? now.news : nil
                }
            }
        } catch {
            return "\(error)"
        }
    }

    /// Returns when nothing proves any more that the ensemble still has the session: it may give the leadership to another a
    /// third of the session's timeout later.
    private func waitForEndOfLease(of leadership: Leadership) async -> String {
        while !Task.isCancelled,
            let stop = LeaderLease.stopsAt(store.lease, sessionID: leadership.sessionID), .now < stop
        {
            try? await Task.sleep(until: stop, clock: .continuous)
        }
        return "the session was not proven in time"
    }

    /// Returns when cancelled.
    private func proveSession(of leadership: Leadership) async -> String {
        var lastAttempt = ContinuousClock.now
        while true {
            do {
                try await Task.sleep(
                    until: LeaderLease.provesAt(store.lease, lastAttempt: lastAttempt), clock: .continuous)
                lastAttempt = .now
                try await store.renewLease()
            } catch let error as StoreError {
                logger.debug("the session could not be proven", metadata: ["error": "\(error)"])
            } catch {
                return "\(error)"
            }
        }
    }

    /// Deletes every node of this candidacy: a create whose answer was lost may have left a second one, which would come
    /// first in the queue one day and lead nobody.
    private func resign(guid: String) async {
        await uncancelled { [store, paths, logger] in
            do {
                let prefix = ElectionQueue.prefix(guid: guid)
                for name in try await store.children(paths.leader).names where name.hasPrefix(prefix) {
                    try await store.delete(paths.candidate(name), version: nil)
                }
            } catch {
                logger.debug("the election node goes with the session", metadata: ["error": "\(error)"])
            }
        }
    }

    private static func makeGUID() -> String {
        let bytes = (0..<16).map { _ in UInt8.random(in: .min ... .max) }
        return bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }

    private static func pause(after error: any Error) -> Duration {
        switch (error as? RegistryError)?.code {
        // Each attempt costs the agent its connection, and would cost every agent that takes over its own.
        case .requestDropped: .milliseconds(RegistryLimits.droppedPauseMilliseconds)
        case .some: .milliseconds(RegistryLimits.candidacyPauseMilliseconds)
        case nil: .zero
        }
    }

    private static func isWorthStandingAgain(_ error: any Error) -> Bool {
        switch error {
        case let error as RegistryError:
            // A document that cannot be read is replaced one day, a node that is gone is made anew, a right that is missing
            // is given, a server's limit is raised.
            error.isRetriable || error.store?.isRefusal == true
                || [.deposed, .conflictingWriter, .badDocument, .notInitialised, .requestDropped].contains(error.code)
        case let error as StoreError: error.isRetriable || error.isRefusal || error.code == .noNode
        default: false
        }
    }
}
