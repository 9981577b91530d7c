internal import CZooKeeper
import Dispatch
import NIOConcurrencyHelpers

/// What a handle tells its owner. Delivered on the library's completion thread, in order (P14).
enum NativeSessionEvent: Sendable, Hashable {
    case established(sessionID: Int64, timeoutMilliseconds: Int64)
    case disconnected
    case expired
    case authenticationFailed
    /// A request that was sent at that moment has been answered.
    /// `isProof`: by way of the ensemble's leader.
    case contact(sentAtMilliseconds: Int64, isProof: Bool)
}

/// What became of a call that was handed to the library.
enum Submission: Sendable, Hashable {
    /// The reply will come, once.
    case accepted
    /// Not connected or closing: nothing was sent, the reply will not come.
    case refused
    /// The library would not take it: nothing was sent, the reply was delivered with the error.
    case rejected
}

/// One C handle, that is: one session. It is opened once and closed once, both on the lifecycle queue.
///
/// ```
///   submit (any thread)          session lock { register · passRetained · zoo_a… }        P6, P7
///   completion (library thread)  take the +1 · session lock { unregister } · deliver      P1, P14
///   close (lifecycle queue)      flag · zookeeper_close (no lock held) · sweep            P1, P3, P5
/// ```
/// The session lock is held over `zoo_a…` calls, which only enqueue, and never over `zookeeper_init` or
/// `zookeeper_close`, which wait for threads that may be in a callback that wants the lock.
final class NativeSession: Sendable {
    /// P17: a raw pointer may not cross into a lock.
    ///
    /// Sendable because the library locks internally ("zookeeper_mt … thread safe", its README) and because it is
    /// used only inside the session lock while the session is not closing, or by the lifecycle queue that closes it.
    private struct Handle: @unchecked Sendable {
        let pointer: OpaquePointer
    }

    private struct Watch {
        /// The call that arms it was answered; before that an end of the session is no business of the watch.
        var isArmed = false
        let fire: @Sendable (WatchEvent) -> Void
    }

    private struct State {
        var handle: Handle?
        var isClosing = false
        var watchesAbandoned = false
        var calls: [UInt64: PendingCall] = [:]
        var nextCall: UInt64 = 1
        var watches: [UInt: Watch] = [:]
        var nextToken: UInt = 1
    }

    private let state = NIOLockedValueBox(State())
    private let lifecycleQueue: DispatchQueue
    private let signalQueue: DispatchQueue
    private let now: @Sendable () -> Int64
    private let onEvent: @Sendable (NativeSessionEvent) -> Void

    /// - Parameters:
    ///   - lifecycleQueue: serial; where ``open(servers:timeoutMilliseconds:)`` and ``close()`` are called. They block.
    ///   - signalQueue: serial; never blocks. Where replies go that come while the library holds locks (P33).
    ///   - now: monotonic milliseconds.
    init(
        lifecycleQueue: DispatchQueue, signalQueue: DispatchQueue, now: @escaping @Sendable () -> Int64,
        onEvent: @escaping @Sendable (NativeSessionEvent) -> Void
    ) {
        self.lifecycleQueue = lifecycleQueue
        self.signalQueue = signalQueue
        self.now = now
        self.onEvent = onEvent
        BridgeCensus.count { $0.sessions += 1 }
    }

    deinit {
        BridgeCensus.count { $0.sessions -= 1 }
    }

    // MARK: Lifecycle

    /// Makes the handle; the library connects from then on by itself. Blocks while names are resolved (P5).
    /// - Returns: why it failed, `nil` when it did not.
    func open(servers: String, timeoutMilliseconds: Int, tls: ZooKeeperTLS? = nil) -> String? {
        dispatchPrecondition(condition: .onQueue(lifecycleQueue))
        // The library hands this pointer to callbacks until close has returned; the +1 is dropped there.
        let context = Unmanaged.passRetained(self)
        var error: Int32 = 0
        let pointer: OpaquePointer?
        if let tls, let entryPoint = LibraryTLS.entryPoint {
            pointer = czk_init_ssl(
                entryPoint.pointer, servers, LibraryTLS.certificateList(tls), sessionWatcher,
                Int32(timeoutMilliseconds), context.toOpaque(), ZOO_NO_LOG_CLIENTENV, libraryLogLine, &error)
        } else if tls == nil {
            pointer = czk_init(
                servers, sessionWatcher, Int32(timeoutMilliseconds), context.toOpaque(), ZOO_NO_LOG_CLIENTENV,
                libraryLogLine, &error)
        } else {
            // The configuration refuses this; nothing goes out in the clear that was to be encrypted.
            context.release()
            return "the library has no TLS"
        }
        guard let pointer else {
            // No thread was started when the library gives no handle, so that nobody holds the context.
            context.release()
            return errorText(error)
        }
        BridgeCensus.count { $0.handles += 1 }
        // The library would look all names up again at every turn of its loop, for every request and every reply: a third of
        // what a watched read costs. Names are looked up when a connection is lost, which is when the answer matters.
        zoo_set_servers_resolution_delay(pointer, -1)
        adopt(pointer)
        return nil
    }

    /// P8: events come before `zookeeper_init` has returned. Whoever is first, event or opener, stores the handle.
    private func adopt(_ pointer: OpaquePointer) {
        let handle = Handle(pointer: pointer)
        state.withLockedValue { state in
            if state.handle == nil { state.handle = handle }
        }
    }

    /// Ends the session gracefully when it is connected, so that the server removes its ephemeral nodes at once.
    /// Blocks for up to 5 s (P5). Afterwards no callback runs any more and every call has been replied to.
    ///
    /// P3, P4: only here, never in a callback and never in `deinit`: from one of the library's own threads the library
    /// detaches that thread instead of joining it, and the sweep below would race with it.
    func close() {
        dispatchPrecondition(condition: .onQueue(lifecycleQueue))
        let handle: Handle? = state.withLockedValue { state in
            guard !state.isClosing else { return nil }
            state.isClosing = true
            return state.handle
        }
        if let handle {
            zookeeper_close(handle.pointer)
            Unmanaged.passUnretained(self).release()
            BridgeCensus.count { $0.handles -= 1 }
        }
        abandonWatches()
        sweep()
    }

    /// P1: the completion thread may exit before it has delivered the replies that close fakes. Whoever is left in
    /// the table now will never be called: reply in the library's place and drop the +1 that it was given.
    private func sweep() {
        let left = state.withLockedValue { state -> [PendingCall] in
            defer { state.calls = [:] }
            state.handle = nil
            return Array(state.calls.values)
        }
        for call in left where call.consume() {
            BridgeCensus.countLostReply()
            Unmanaged.passUnretained(call).release()
            call.deliver(.failure(ZCLOSING.rawValue))
        }
    }

    /// P2: nobody tells watches that the session is gone. Fires every armed watch with ``WatchEvent/sessionLost``;
    /// those whose call is still under way hear of it when, and if, that call succeeds.
    func abandonWatches() {
        let armed = state.withLockedValue { state -> [Watch] in
            state.watchesAbandoned = true
            let armed = state.watches.values.filter(\.isArmed)
            state.watches = state.watches.filter { !$0.value.isArmed }
            return armed
        }
        for watch in armed { watch.fire(.sessionLost) }
    }

    // MARK: Calls

    /// Hands a call to the library.
    ///
    /// - Parameters:
    ///   - isProof: the answer comes by way of the ensemble's leader.
    ///   - armsOnMissing: `exists` arms its watch on a missing node too (P11).
    ///   - arena: what the library keeps using until the reply (P24).
    ///   - call: issues it, with the handle, the call's context and the watch's token. Must not do anything else: it
    ///     runs inside the session lock.
    func submit(
        watch: (@Sendable (WatchEvent) -> Void)? = nil, isProof: Bool = false, armsOnMissing: Bool = false,
        arena: MultiArena? = nil, deliver: @escaping @Sendable (CallReply) -> Void,
        call issue: (OpaquePointer, UnsafeMutableRawPointer, UnsafeMutableRawPointer?) -> Int32
    ) -> Submission {
        let sentAt = now()
        let result: Int32? = state.withLockedValue { state in
            // P6: the flag and the call are under one lock, so that no call can follow the close. A handle that is
            // not connected would queue the call and later fail it as "unknown", although it never left.
            guard !state.isClosing, let handle = state.handle, zoo_state(handle.pointer) == ZOO_CONNECTED_STATE else {
                return nil
            }
            let id = state.nextCall
            state.nextCall += 1
            var token: UInt?
            if let watch {
                // P10: the library merges equal (function, context) pairs on a path, so every arming gets its own
                // token.
                let fresh = state.nextToken
                state.nextToken += 1
                state.watches[fresh] = Watch(fire: watch)
                token = fresh
            }
            let call = PendingCall(
                session: self, id: id, sentAtMilliseconds: sentAt, isProof: isProof, watchToken: token,
                armsOnMissing: armsOnMissing,
                arena: arena, deliver: deliver)
            state.calls[id] = call
            let retained = Unmanaged.passRetained(call)
            let rc = issue(
                handle.pointer, retained.toOpaque(), token.flatMap { UnsafeMutableRawPointer(bitPattern: $0) })
            if rc != ZOK.rawValue {
                // P7: no callback will come.
                retained.release()
                state.calls[id] = nil
                if let token { state.watches[token] = nil }
            }
            return rc
        }
        switch result {
        case nil, ZINVALIDSTATE.rawValue: return .refused
        case ZOK.rawValue: return .accepted
        case .some(let rc):
            deliver(.failure(rc))
            return .rejected
        }
    }

    /// Whether the handle is connecting to a server or waits for one's answer, rather than for its next attempt.
    var isTrying: Bool {
        state.withLockedValue { state in
            guard !state.isClosing, let handle = state.handle else { return false }
            // 999 before the first attempt; a bare 0 after one that failed.
            let libraryState = zoo_state(handle.pointer)
            return libraryState != ZOO_NOTCONNECTED_STATE && libraryState != 0
        }
    }

    /// A reply, on the library's completion thread. The +1 has been taken by the callback.
    func complete(_ call: PendingCall, _ reply: CallReply) {
        guard call.consume() else { return }
        finish(call, reply)
    }

    /// P33: an authentication's reply may come while the library holds its own lock and another thread holds ours,
    /// waiting for the library's inside `zoo_a…`. Taking ours here would close the circle. Only the call's own leaf
    /// lock is taken, the rest happens elsewhere.
    func completeUnderLibraryLock(_ call: PendingCall, _ reply: CallReply) {
        guard call.consume() else { return }
        signalQueue.async { self.finish(call, reply) }
    }

    private func finish(_ call: PendingCall, _ reply: CallReply) {
        let orphan = state.withLockedValue { state -> Watch? in
            state.calls[call.id] = nil
            guard let token = call.watchToken else { return nil }
            guard call.arms(reply) else {
                state.watches[token] = nil
                return nil
            }
            // The session was given up between the server's answer and now: the caller gets its value and at once the
            // news that nobody watches it.
            guard !state.watchesAbandoned else { return state.watches.removeValue(forKey: token) }
            state.watches[token]?.isArmed = true
            return nil
        }
        if reply.isServerAnswer {
            onEvent(.contact(sentAtMilliseconds: call.sentAtMilliseconds, isProof: call.isProof))
        }
        call.deliver(reply)
        orphan?.fire(.sessionLost)
    }

    // MARK: Events

    /// P9: a watch's context is called many times, for every session event and at most once for its node. An integer
    /// that is looked up survives that; what is not in the table any more is nobody's.
    func watchFired(token: UInt, type: Int32) {
        // Session events reach the watches through `abandonWatches`, once, when the session is really gone.
        guard type != ZOO_SESSION_EVENT else { return }
        let watch = state.withLockedValue { $0.watches.removeValue(forKey: token) }
        watch?.fire(watchEvent(type))
    }

    func sessionEvent(_ pointer: OpaquePointer, libraryState: Int32) {
        adopt(pointer)
        switch libraryState {
        case ZOO_CONNECTED_STATE:
            onEvent(
                .established(
                    sessionID: czk_session_id(pointer), timeoutMilliseconds: Int64(zoo_recv_timeout(pointer))))
        case ZOO_CONNECTING_STATE, ZOO_ASSOCIATING_STATE, ZOO_NOTCONNECTED_STATE: onEvent(.disconnected)
        case ZOO_EXPIRED_SESSION_STATE: onEvent(.expired)
        case ZOO_AUTH_FAILED_STATE: onEvent(.authenticationFailed)
        default: break
        }
    }
}
