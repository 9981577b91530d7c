import Dispatch
import Foundation
import NIOConcurrencyHelpers

/// A tree of nodes in this process's memory, and the sessions of the stores that share it.
///
/// For one process that needs no registry that outlives it: the agent run by itself, and tests. Nothing is written to
/// disk. Every store sees every write at once (there are no followers); a simulation with followers that lag drives
/// ``ZnodeReplica`` itself.
///
/// One lock around pure values. What reaches a caller goes through its store's own serial queue, in the order in
/// which it was decided inside the lock: an event is therefore delivered before every reply that shows the change, as a
/// ZooKeeper session has it.
public final class InMemoryEnsemble: Sendable {
    struct Member {
        var sessionID: Int64
        var identities: [ZnodeIdentity]
        var connection: ConnectionState
        /// When the connection was suspended.
        var suspendedAt: ContinuousClock.Instant?
        var isClosed = false
        /// Calls that wait for the connection, in order.
        var waiting: [UInt64: WaitingCall] = [:]
        var nextCall: UInt64 = 1
        /// The same as ``connection``, for listeners. Sent inside the lock, which no cancellation handler takes.
        let announced: Broadcast<ConnectionState>
        var nextWriteFault: InMemoryStore.WriteFault?
        /// Watches that fired while the connection was suspended, in order.
        var held: [(handler: Handler, event: WatchEvent)] = []
        let queue: DispatchQueue
    }

    struct WaitingCall {
        let run: @Sendable (inout State) -> Void
        let fail: @Sendable (StoreError) -> Void
    }

    struct Handler {
        let memberID: UInt64
        let queue: DispatchQueue
        let fire: @Sendable (WatchEvent) -> Void
    }

    struct State {
        var replica = ZnodeReplica()
        var members: [UInt64: Member] = [:]
        var nextMember: UInt64 = 1
        var nextSession: Int64 = 1
        var handlers: [UInt64: Handler] = [:]
        var reapedAtMilliseconds: Int64 = 0
    }

    let state = NIOLockedValueBox(State())
    private let now: @Sendable () -> Int64

    /// - Parameter now: milliseconds since 1970, for the nodes' times; `nil` takes the wall clock.
    public init(now: (@Sendable () -> Int64)? = nil) {
        self.now = now ?? { Int64(Date().timeIntervalSince1970 * 1_000) }
    }

    /// A copy of the tree as it is.
    public var tree: ZnodeTree { state.withLockedValue { $0.replica.tree } }

    /// Watches that are armed now.
    public var watchCount: Int { state.withLockedValue { $0.replica.watchCount } }

    // MARK: Sessions

    func join(_ identities: [ZnodeIdentity]) -> UInt64 {
        state.withLockedValue { state in
            let id = state.nextMember
            state.nextMember += 1
            let session = openSession(identities, &state)
            state.members[id] = Member(
                sessionID: session, identities: identities, connection: .connected(sessionID: session),
                announced: Broadcast(.connected(sessionID: session)),
                queue: DispatchQueue(label: "zookeeper.in-memory"))
            return id
        }
    }

    private func openSession(_ identities: [ZnodeIdentity], _ state: inout State) -> Int64 {
        let session = state.nextSession
        state.nextSession += 1
        _ = apply(.openSession, sessionID: session, identities, &state)
        return session
    }

    /// Ends a member's session: its ephemeral nodes go, its watches hear `sessionLost`.
    private func endSession(_ member: Member, _ state: inout State) {
        _ = apply(.closeSession, sessionID: member.sessionID, [], &state)
        for token in state.replica.dropWatches(sessionID: member.sessionID) {
            guard let handler = state.handlers.removeValue(forKey: token) else { continue }
            handler.queue.async { handler.fire(.sessionLost) }
        }
    }

    func leave(_ id: UInt64) {
        state.withLockedValue { state in
            guard let member = state.members[id], !member.isClosed else { return }
            endSession(member, &state)
            loseHeld(id, &state)
            for (_, call) in member.waiting.sorted(by: { $0.key < $1.key }) { call.fail(InMemoryStore.closedError) }
            state.members[id]?.waiting = [:]
            state.members[id]?.isClosed = true
            announce(.lost, id, &state)
            member.announced.finish()
        }
    }

    /// Drops what is kept of a member that is closed.
    func forget(_ id: UInt64) {
        state.withLockedValue { _ = $0.members.removeValue(forKey: id) }
    }

    func suspend(_ id: UInt64) {
        state.withLockedValue { state in
            guard case .connected? = state.members[id]?.connection else { return }
            state.members[id]?.suspendedAt = .now
            announce(.suspended, id, &state)
        }
    }

    func resume(_ id: UInt64) {
        state.withLockedValue { state in
            guard let member = state.members[id], !member.isClosed, case .suspended = member.connection else { return }
            announce(.connected(sessionID: member.sessionID), id, &state)
            for (handler, event) in member.held { handler.queue.async { handler.fire(event) } }
            state.members[id]?.held = []
            runWaiting(id, &state)
        }
    }

    /// The server's verdict, and a new session in the old one's place.
    func expire(_ id: UInt64) {
        state.withLockedValue { state in
            guard let member = state.members[id], !member.isClosed else { return }
            endSession(member, &state)
            loseHeld(id, &state)
            announce(.lost, id, &state)
            let session = openSession(member.identities, &state)
            state.members[id]?.sessionID = session
            announce(.connected(sessionID: session), id, &state)
            runWaiting(id, &state)
        }
    }

    /// Events that the session never got to see went with it.
    private func loseHeld(_ id: UInt64, _ state: inout State) {
        for (handler, _) in state.members[id]?.held ?? [] { handler.queue.async { handler.fire(.sessionLost) } }
        state.members[id]?.held = []
    }

    private func announce(_ connection: ConnectionState, _ id: UInt64, _ state: inout State) {
        state.members[id]?.connection = connection
        state.members[id]?.announced.send(connection)
    }

    private func runWaiting(_ id: UInt64, _ state: inout State) {
        let waiting = state.members[id]?.waiting ?? [:]
        state.members[id]?.waiting = [:]
        for (_, call) in waiting.sorted(by: { $0.key < $1.key }) { call.run(&state) }
    }

    // MARK: Inside the lock

    /// Applies a write and puts the events that it fires on their queues.
    func apply(
        _ operation: ZnodeTree.Operation, sessionID: Int64, _ identities: [ZnodeIdentity], _ state: inout State
    ) -> ZnodeTree.Outcome {
        let time = now()
        // The servers look for empty containers once a minute; here somebody's write is the occasion.
        if time - state.reapedAtMilliseconds >= ZooKeeperLimits.containerCheckMilliseconds {
            state.reapedAtMilliseconds = time
            _ = commit(.reapContainers, 0, [], time, &state)
        }
        return commit(operation, sessionID, identities, time, &state)
    }

    private func commit(
        _ operation: ZnodeTree.Operation, _ sessionID: Int64, _ identities: [ZnodeIdentity], _ time: Int64,
        _ state: inout State
    ) -> ZnodeTree.Outcome {
        let (applied, fired) = state.replica.apply(
            ZnodeTree.Write(
                sessionID: sessionID, identities: identities, timeMilliseconds: time, operation: operation))
        for watch in fired { fire(watch.token, watch.event, &state) }
        return applied.outcome
    }

    func arm(
        _ kind: ZnodeReplica.WatchKind, _ path: String, memberID: UInt64, _ member: Member,
        _ onEvent: @escaping @Sendable (WatchEvent) -> Void, _ state: inout State
    ) {
        let token = state.replica.arm(
            kind, path, sessionID: member.sessionID, as: member.identities)
        state.handlers[token] = Handler(memberID: memberID, queue: member.queue, fire: onEvent)
    }

    private func fire(_ token: UInt64, _ event: WatchEvent, _ state: inout State) {
        guard let handler = state.handlers.removeValue(forKey: token) else { return }
        if case .suspended? = state.members[handler.memberID]?.connection {
            state.members[handler.memberID]?.held.append((handler, event))
        } else {
            handler.queue.async { handler.fire(event) }
        }
    }
}
