import Dispatch
import NIOConcurrencyHelpers

/// A session on an ``InMemoryEnsemble``: the same promises, results and errors as ``ZooKeeperClient``, without a server.
///
/// What it is not: durable, shared between processes, or replicated. Schemes other than `world`, `auth` and `digest` are
/// refused. ``suspend()``, ``expire()`` and ``failNextWrite(_:)`` do to a store what a network does to a client;
/// without them it never loses its session.
public final class InMemoryStore: CoordinationStore, Sendable {
    /// What becomes of a write whose connection breaks.
    public enum WriteFault: Sendable, Hashable {
        /// It never reached the store.
        case requestIsLost
        /// It took effect, and nobody was told.
        case replyIsLost
    }

    public let ensemble: InMemoryEnsemble
    private let id: UInt64
    private let queue: DispatchQueue
    private let announced: Broadcast<ConnectionState>
    private let chroot: String?
    private let operationTimeoutMilliseconds: Int
    private let maxInFlight: Int

    /// Connected at once.
    /// - Parameters:
    ///   - chroot: as in ``ZooKeeperConfiguration``.
    ///   - operationTimeoutMilliseconds: how long a call waits while the store is suspended.
    /// - Throws: ``StoreError/Code/authenticationFailed`` for a scheme other than `digest`,
    ///   ``StoreError/Code/badArguments`` for a chroot that is no path.
    public init(
        ensemble: InMemoryEnsemble = InMemoryEnsemble(), chroot: String? = nil,
        authentication: [ZooKeeperCredential] = [],
        operationTimeoutMilliseconds: Int = ZooKeeperLimits.operationTimeoutMillisecondsDefault,
        maxInFlight: Int = ZooKeeperLimits.maxInFlightDefault
    ) throws {
        let chroot = chroot == "/" ? nil : chroot
        if let chroot, let fault = NodePath.fault(chroot, isSequential: false) {
            throw StoreError(.badArguments, path: chroot, message: "chroot: \(fault)")
        }
        let identities = try authentication.map { try Self.identity($0) }
        self.ensemble = ensemble
        self.chroot = chroot
        self.operationTimeoutMilliseconds = operationTimeoutMilliseconds
        self.maxInFlight = maxInFlight
        let id = ensemble.join(identities)
        self.id = id
        (queue, announced) = ensemble.state.withLockedValue { ($0.members[id]!.queue, $0.members[id]!.announced) }
    }

    deinit {
        ensemble.leave(id)
        ensemble.forget(id)
    }

    private static func identity(_ credential: ZooKeeperCredential) throws -> ZnodeIdentity {
        guard let identity = ZnodeIdentity(credential) else {
            throw ZnodeTree.Refusal.authenticationFailed.error(nil)
        }
        return identity
    }

    // MARK: Session

    /// Changes when the session expires.
    public var sessionID: Int64 { ensemble.state.withLockedValue { $0.members[id]?.sessionID ?? 0 } }

    public var connectionState: ConnectionState {
        ensemble.state.withLockedValue { $0.members[id]?.connection ?? .lost }
    }

    public var connectionStates: ConnectionStates {
        ConnectionStates { [announced] in announced.stream() }
    }

    /// While connected the store is always in contact; the lease is that of a session of ten seconds.
    public var lease: SessionLease? {
        ensemble.state.withLockedValue { state -> SessionLease? in
            guard let member = state.members[id] else { return nil }
            let contact: ContinuousClock.Instant
            switch member.connection {
            case .connected: contact = .now
            case .suspended: contact = member.suspendedAt ?? .now
            case .lost: return nil
            }
            return SessionLease(
                sessionID: member.sessionID,
                timeoutMilliseconds: Int64(ZooKeeperLimits.sessionTimeoutMillisecondsDefault), lastContact: contact,
                lastProof: contact)
        }
    }

    /// Ends the session, so that its ephemeral nodes are gone, and every call with ``StoreError/Code/closed``.
    public func close() async {
        ensemble.leave(id)
    }

    /// Adds an identity to this session and to every later one.
    /// - Throws: ``StoreError/Code/authenticationFailed`` for a scheme other than `digest`.
    public func addAuthentication(_ credential: ZooKeeperCredential) async throws {
        let identity = try Self.identity(credential)
        let id = id
        try await perform(nil) { state, member, _ in
            if !member.identities.contains(identity) { state.members[id]?.identities.append(identity) }
            return .success(())
        }
    }

    // MARK: Faults

    /// The connection is gone, the session lives: calls and events of watches wait until ``resume()`` or ``expire()``,
    /// calls at most until their deadline.
    public func suspend() { ensemble.suspend(id) }
    public func resume() { ensemble.resume(id) }

    /// The session ends as by its timeout, whatever the connection, and a new one takes its place.
    public func expire() { ensemble.expire(id) }

    /// The next write of this store throws ``StoreError/Code/connectionLoss``.
    public func failNextWrite(_ fault: WriteFault) {
        ensemble.state.withLockedValue { $0.members[id]?.nextWriteFault = fault }
    }

    // MARK: Calls

    static var closedError: StoreError {
        StoreError(.closed, message: "the store was closed; a write that was under way may have happened")
    }

    private typealias Body<Value: Sendable> =
        @Sendable (
            inout InMemoryEnsemble.State, InMemoryEnsemble.Member, PendingOperation<Value>
        ) -> Result<Value, StoreError>

    /// Runs `body` inside the ensemble's lock, at once or when the connection is back, and hands its result over on
    /// the store's queue.
    private func perform<Value: Sendable>(
        _ path: String?,
        _ body: @escaping Body<Value>
    ) async throws -> Value {
        let pending = PendingOperation<Value>()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                pending.install(continuation)
                admit(path, pending, body)
            }
        } onCancel: {
            pending.abandon(CancellationError())
        }
    }

    private func admit<Value: Sendable>(
        _ path: String?, _ pending: PendingOperation<Value>,
        _ body: @escaping Body<Value>
    ) {
        let (id, queue, ensemble) = (id, queue, ensemble)
        let finish: @Sendable (Result<Value, StoreError>) -> Void = { result in
            queue.async { pending.finish(result.mapError { $0.at(path) }) }
        }
        let run: @Sendable (inout InMemoryEnsemble.State) -> Void = { state in
            guard !pending.isFinished else { return }
            guard let member = state.members[id], !member.isClosed else { return finish(.failure(Self.closedError)) }
            finish(body(&state, member, pending))
        }
        let waiting = ensemble.state.withLockedValue { state -> UInt64? in
            guard !pending.isFinished else { return nil }
            guard let member = state.members[id], !member.isClosed, case .suspended = member.connection else {
                run(&state)
                return nil
            }
            guard member.waiting.count < maxInFlight else {
                finish(
                    .failure(
                        StoreError(.tooManyInFlight, message: "\(maxInFlight) calls wait; nothing was done")))
                return nil
            }
            state.members[id]!.nextCall += 1
            state.members[id]!.waiting[member.nextCall] = InMemoryEnsemble.WaitingCall(
                run: run, fail: { finish(.failure($0)) })
            return member.nextCall
        }
        guard let waiting else { return }
        queue.asyncAfter(deadline: .now() + .milliseconds(operationTimeoutMilliseconds)) { [weak ensemble] in
            let isDue = ensemble?.state.withLockedValue { $0.members[id]?.waiting.removeValue(forKey: waiting) != nil }
            guard isDue == true else { return }
            pending.abandon(
                StoreError(.deadlineExceeded, path: path, message: "the store was suspended; nothing was done"))
        }
    }

    private func read<Value: Sendable>(
        _ path: String, _ body: @escaping @Sendable (ZnodeTree, String, [ZnodeIdentity]) throws(StoreError) -> Value
    ) async throws -> Value {
        try await read(path, .data, nil) { tree, path, identities throws(StoreError) in
            (try body(tree, path, identities), arms: false)
        }
    }

    private func read<Value: Sendable>(
        _ path: String, _ kind: ZnodeReplica.WatchKind, _ onEvent: (@Sendable (WatchEvent) -> Void)?,
        _ body:
            @escaping @Sendable (ZnodeTree, String, [ZnodeIdentity]) throws(StoreError) -> (Value, arms: Bool)
    ) async throws -> Value {
        try RequestCheck.path(path, isSequential: false)
        let absolute = NodePath.absolute(path, chroot: chroot)
        let (ensemble, id) = (ensemble, id)
        return try await perform(path) { state, member, pending in
            do throws(StoreError) {
                let (value, arms) = try body(state.replica.tree, absolute, member.identities)
                if arms, let onEvent {
                    ensemble.arm(kind, absolute, memberID: id, member, pending.guarding(onEvent), &state)
                }
                return .success(value)
            } catch {
                return .failure(error)
            }
        }
    }

    private func write(_ path: String?, _ operation: ZnodeTree.Operation) async throws -> [StoreOperationResult] {
        let (ensemble, id) = (ensemble, id)
        return try await perform(path) { state, member, _ in
            let fault = member.nextWriteFault
            state.members[id]?.nextWriteFault = nil
            if fault == .requestIsLost { return .failure(ZnodeTree.Refusal.connectionLoss.error(nil)) }
            let outcome = ensemble.apply(
                operation, sessionID: member.sessionID, member.identities, &state)
            return fault == .replyIsLost ? .failure(ZnodeTree.Refusal.connectionLoss.error(nil)) : outcome
        }
    }

    private func one(_ operation: StoreOperation) async throws -> StoreOperationResult {
        try RequestCheck.operation(operation, index: nil, chroot: chroot)
        let absolute = operation.withPath { NodePath.absolute($0, chroot: chroot) }
        return try await write(operation.path, .one(absolute))[0]
    }
}

extension InMemoryStore {
    public func get(_ path: String) async throws -> NodeValue {
        try await read(path) { tree, path, who throws(StoreError) in try tree.get(path, as: who) }
    }

    public func get(_ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void) async throws -> NodeValue {
        try await read(path, .data, onEvent) { tree, path, who throws(StoreError) in
            (try tree.get(path, as: who), arms: true)
        }
    }

    public func exists(_ path: String) async throws -> NodeStat? {
        try await read(path) { tree, path, _ in tree.exists(path) }
    }

    public func exists(_ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void) async throws -> NodeStat? {
        try await read(path, .data, onEvent) { tree, path, _ in (tree.exists(path), arms: true) }
    }

    public func children(_ path: String) async throws -> NodeChildren {
        try await read(path) { tree, path, who throws(StoreError) in try tree.children(path, as: who) }
    }

    public func children(_ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void) async throws -> NodeChildren
    {
        try await read(path, .children, onEvent) { tree, path, who throws(StoreError) in
            (try tree.children(path, as: who), arms: true)
        }
    }

    @discardableResult
    public func set(_ path: String, _ data: [UInt8], version: Int32?) async throws -> NodeStat {
        guard case .set(let stat) = try await one(.set(path, data: data, version: version)) else {
            throw StoreError(.marshalling, path: path)
        }
        return stat
    }

    @discardableResult
    public func create(_ path: String, _ data: [UInt8], mode: CreateMode, acl: [AccessControl]) async throws -> String {
        guard case .created(let created) = try await one(.create(path, data: data, mode: mode, acl: acl)) else {
            throw StoreError(.marshalling, path: path)
        }
        return NodePath.relative(created, chroot: chroot)
    }

    public func delete(_ path: String, version: Int32?) async throws {
        _ = try await one(.delete(path, version: version))
    }

    @discardableResult
    public func multi(_ operations: [StoreOperation]) async throws -> [StoreOperationResult] {
        try RequestCheck.multi(operations, chroot: chroot)
        guard !operations.isEmpty else { return [] }
        do {
            let absolute = operations.map { $0.withPath { NodePath.absolute($0, chroot: chroot) } }
            return try await write(nil, .multi(absolute)).map { result in
                guard case .created(let path) = result else { return result }
                return .created(NodePath.relative(path, chroot: chroot))
            }
        } catch var error as StoreError {
            if let index = error.operationIndex { error.path = operations[index].path }
            throw error
        }
    }

    /// Everything is up to date already.
    public func sync(_ path: String) async throws {
        try await read(path) { _, _, _ in () }
    }

    public func accessControl(_ path: String) async throws -> (acl: [AccessControl], stat: NodeStat) {
        try await read(path) { tree, path, who throws(StoreError) in try tree.accessControl(path, as: who) }
    }

    public func setAccessControl(_ path: String, _ acl: [AccessControl], aclVersion: Int32?) async throws {
        try RequestCheck.path(path, isSequential: false)
        try RequestCheck.accessControl(acl, path: path)
        _ = try await write(
            path, .setAccessControl(NodePath.absolute(path, chroot: chroot), acl, aclVersion: aclVersion))
    }
}

extension StoreError {
    /// The error with the path as the caller knows it.
    fileprivate func at(_ path: String?) -> StoreError {
        var error = self
        error.path = path
        return error
    }
}
