public import Logging
import StrictCoding
public import ZooKeeper

/// Keeps an agent's ephemeral node `agents/<id>` in the registry for as long as ``run()`` runs: across lost sessions, and
/// when someone deletes it. A node that an earlier session of this agent left behind is replaced; one that another live
/// agent holds under the same id is waited for, and the log says so.
public final class AgentPresence: Sendable {
    private struct Situation: Sendable {
        var connection: ConnectionState = .lost
        var news = 0
        var sessionID: Int64? { if case .connected(let id) = connection { id } else { nil } }
    }

    private let registry: RegistryStore
    private let id: AgentID
    private let document: AgentDocument
    private let clock: EnsembleClock?
    private let logger: Logger
    private let situation = Broadcast(Situation())
    private let registered = Broadcast(false)
    private let refused = Broadcast<RegistryError?>(nil)
    private let reader: WatchedReader
    private var path: String { registry.paths.agent(id) }

    public init(
        store: any CoordinationStore, paths: RegistryPaths, id: AgentID, document: AgentDocument,
        clock: EnsembleClock? = nil, logger: Logger
    ) {
        self.clock = clock
        registry = RegistryStore(store: store, paths: paths)
        self.id = id
        self.document = document
        self.logger = logger
        reader = WatchedReader(store: store) { [situation] _ in situation.update { $0.news += 1 } }
    }

    /// Whether the node stood when it was last looked at, in a session that was alive.
    public var isRegistered: Bool { registered.value }

    /// Why ZooKeeper refuses this agent access, while it does.
    public var refusal: RegistryError? { refused.value }

    /// Returns when cancelled or when the store is closed; the node is deleted first. Throws ``RegistryError`` when the
    /// document can never be written. Access that is refused is asked for again: an agent outlives a mistake in the access
    /// control of the registry.
    public func run() async throws {
        let data = try registry.encode(document, for: path)
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for await state in self.registry.store.connectionStates {
                        self.situation.update { $0.connection = state }
                        if self.situation.value.sessionID == nil { self.registered.send(false) }
                    }
                }
                group.addTask { try await self.register(data) }
                defer { group.cancelAll() }
                try await group.next()
            }
        } catch is CancellationError {
            // Cancellation is the ordinary end.
        }
        registered.send(false)
        await leave()
    }

    private func register(_ data: [UInt8]) async throws {
        var plan = PresencePlan(peer: document.peer)
        /// When the ensemble's time is measured next; not at every look, because writing fires our own watch.
        var measuresAt = ContinuousClock.now
        var clockBackoff = Backoff(
            millisecondsMin: RegistryLimits.retryMillisecondsMin,
            millisecondsMax: RegistryLimits.clockRetryMillisecondsMax)
        var backoff = Backoff(
            millisecondsMin: RegistryLimits.retryMillisecondsMin, millisecondsMax: RegistryLimits.retryMillisecondsMax)
        while true {
            let session = try await situation.first(\.sessionID)
            let news = situation.value.news
            do {
                let found = try await look()
                let action = plan.decide(found, session: session)
                if action != .keep { registered.send(false) }
                switch action {
                case .keep:
                    registered.send(true)
                    refused.send(nil)
                    backoff.reset()
                    if measuresAt <= .now {
                        if try await measureClock(data, version: found?.version) {
                            clockBackoff.reset()
                            measuresAt = .now + .seconds(RegistryLimits.clockMeasurementSeconds)
                        } else {
                            measuresAt = .now + clockBackoff.next(random: .random(in: 0.5..<1))
                        }
                    }
                    _ = try await situation.first(within: max(.zero, measuresAt - .now)) {
                        $0.news != news || $0.sessionID != session ? true : nil
                    }
                case .create:
                    let acl = try await registry.accessControl(of: .agent)
                    measuresAt = .now
                    try await registry.store.create(path, data, mode: .ephemeral, acl: acl)
                case .replace(let version):
                    logger.info("replacing the node that an earlier session left", metadata: ["node": "\(path)"])
                    let acl = try await registry.accessControl(of: .agent)
                    try await registry.store.multi([
                        .delete(path, version: version), .create(path, data: data, mode: .ephemeral, acl: acl),
                    ])
                case .wait:
                    logger.warning(
                        "another agent is registered under this id; waiting until it is gone",
                        metadata: ["node": "\(path)", "peer": "\(found?.peer ?? "unknown")"])
                    _ = try await situation.first(within: .milliseconds(RegistryLimits.presenceConflictMilliseconds)) {
                        $0.news != news || $0.sessionID != session ? true : nil
                    }
                }
            } catch let error as StoreError {
                switch error.code {
                case .noAuthentication, .authenticationFailed, .invalidACL:
                    let refusal = RegistryStore.translate(error, path: path, app: registry.paths)
                    refused.send(refusal)
                    logger.error("this agent cannot register; trying again", metadata: ["error": "\(refusal)"])
                    try await Task.sleep(for: backoff.next(random: .random(in: 0.5..<1)))
                case .badArguments, .closed:
                    throw RegistryStore.translate(error, path: path, app: registry.paths)
                case .nodeExists, .badVersion: continue
                default:
                    // Also noNode: the app is not initialised yet, or the node to replace went by itself.
                    try await Task.sleep(for: backoff.next(random: .random(in: 0.5..<1)))
                }
            } catch let error as RegistryError where error.code == .badDocument {
                logger.error("this agent cannot register; trying again", metadata: ["error": "\(error)"])
                try await Task.sleep(for: backoff.next(random: .random(in: 0.5..<1)))
            }
        }
    }

    /// What stands at our path now, with a watch on it in any case.
    private func look() async throws -> PresencePlan.Found? {
        guard let value = try await reader.get(path) else { return nil }
        let document = try? RegistryCodec.decode(AgentDocument.self, from: value.data, source: path)
        return PresencePlan.Found(
            ephemeralOwner: value.stat.ephemeralOwner, version: value.stat.version, peer: document?.peer)
    }

    /// Writes the node as it is: the answer tells the ensemble's time. An agent that cannot is registered all the same. False when
    /// it is to be tried again.
    private func measureClock(_ data: [UInt8], version: Int32?) async throws -> Bool {
        guard let clock else { return true }
        let sentAt = ContinuousClock.now
        do {
            let stat = try await registry.store.set(path, data, version: version)
            clock.observe(serverMilliseconds: stat.modifiedAtMilliseconds, sentAt: sentAt, receivedAt: .now)
            return true
        } catch let error as StoreError {
            logger.warning(
                "the ensemble's time could not be measured and is tried again; what is not known of it goes by this host's clock",
                metadata: ["error": "\(error)"])
            return false
        }
    }

    private func leave() async {
        guard let session = situation.value.sessionID else { return }
        await uncancelled { [store = registry.store, path, logger] in
            do {
                guard let stat = try await store.exists(path), stat.ephemeralOwner == session else { return }
                try await store.delete(path, version: stat.version)
            } catch {
                logger.debug("the agent's node goes with the session", metadata: ["error": "\(error)"])
            }
        }
    }
}
