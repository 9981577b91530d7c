/// The life of a client's sessions: an event in, actions out. It knows no clock, no randomness, no thread and no C.
///
/// ```
///            open                established             authenticated
///   idle ──▶ connecting ──────▶ authenticating ──────▶ connected ◀──┐
///               ▲  │ open failed                        │           │ established (same session)
///               │  ▼                                    ▼           │
///            backingOff ◀── closing ◀── lost ◀───── suspended ──────┘
///                                        deadline, expired, authentication failed
/// ```
/// One C handle stands for one session at most. A handle whose session is gone is dead for good (P29), so that the
/// client outlives its handles: each gets a generation, and what a former generation still says is ignored.
///
/// **When is a session lost?** The library reports an expiry only after it has reached a server again (P29), which
/// may be never. The server drops a session when it has heard nothing for the negotiated timeout. The machine keeps
/// the moment at which the last *answered* request was *sent*: the server heard from us then or later, so that `lost`
/// at that moment plus the timeout comes no later than that server's own verdict. The library's pings cannot be seen
/// from outside, so an idle connection is probed four times in a timeout. Two things this cannot see: a server that
/// answers reads while it is itself cut off from the ensemble's leader, and how long ago the answer to a connection
/// request was read when its event is handled. Whoever must be sure asks for the ``SessionLease``, which counts
/// neither.
///
/// **Suspended by the own clock.** A server that is stopped keeps its connections and answers nothing. The library
/// gives such a connection up after two thirds of the timeout without a byte; the machine does not rely on it: two
/// thirds after the last contact the session counts as suspended ("quiet") even while the library says connected, and
/// as connected again with the next answer.
///
/// **No flood.** A handle that reaches no server is closed after a moment, so that the pauses between attempts are
/// those of ``BackOff`` and not the library's. A handle that waits for a server's answer is left alone: it goes on to
/// the next server by itself.
struct SessionMachine: Sendable {
    enum Event: Sendable, Hashable {
        case start
        /// The library refused to make a handle (names that do not resolve, mostly).
        case openFailed(generation: UInt64, reason: String)
        /// There is a handle, and it has begun to look for a server.
        case opened(generation: UInt64)
        /// The answer to ``Action/inspect(generation:)``: whether the handle is talking to a server.
        case inspected(generation: UInt64, isTrying: Bool)
        /// Connected or reconnected to a server.
        case established(generation: UInt64, sessionID: Int64, timeoutMilliseconds: Int64)
        case authenticated(generation: UInt64)
        /// The connection is gone, the library looks for another server.
        case disconnected(generation: UInt64)
        case expired(generation: UInt64)
        case authenticationFailed(generation: UInt64)
        /// The handle was closed and its memory is gone.
        case handleClosed(generation: UInt64)
        case timer
        case close
    }

    enum Action: Sendable, Hashable {
        case open(generation: UInt64)
        case authenticate(generation: UInt64)
        case probe(generation: UInt64)
        /// Find out what the handle is doing; ``Event/inspected(generation:isTrying:)`` follows.
        case inspect(generation: UInt64)
        /// Tell everyone. Calls wait while it is not `connected`.
        case announce(ConnectionState)
        /// The session's watches will never fire again.
        case abandonWatches(generation: UInt64)
        case close(generation: UInt64, isFinal: Bool)
        /// Nobody can connect with these credentials: whoever waits should hear it now.
        case failWaiting(StoreError.Code)
        case finish
    }

    struct Session: Sendable, Hashable {
        var id: Int64
        var timeoutMilliseconds: Int64
        var lastContactMilliseconds: Int64
        var nextProbeMilliseconds: Int64
        /// When the last request was sent that was answered by way of the ensemble's leader.
        var lastProofMilliseconds: Int64?
        /// Nothing was heard for too long on a connection that the library thinks well of.
        var isQuiet = false

        var suspendedAtMilliseconds: Int64 {
            lastContactMilliseconds + timeoutMilliseconds * ZooKeeperLimits.leaseThirds / 3
        }
        var lostAtMilliseconds: Int64 { lastContactMilliseconds + timeoutMilliseconds }
        var probeIntervalMilliseconds: Int64 { max(1, timeoutMilliseconds / ZooKeeperLimits.probesPerSessionTimeout) }

        /// A reconnection proves nothing to the leader that a request before it had not proven.
        func keeping(_ earlier: Session) -> Session {
            var session = self
            session.lastProofMilliseconds = earlier.lastProofMilliseconds
            return session
        }
    }

    enum Phase: Sendable, Hashable {
        case idle
        case connecting(UInt64)
        case authenticating(UInt64, Session)
        case connected(UInt64, Session)
        case suspended(UInt64, Session)
        case closing(UInt64, isFinal: Bool)
        case backingOff(untilMilliseconds: Int64)
        case closed
    }

    private(set) var phase = Phase.idle
    private(set) var generation: UInt64 = 0
    /// Why the last session or attempt ended; for messages.
    private(set) var lastFailure: String?
    private(set) var backOff = BackOff()
    /// The configured credentials were refused, and no session was made since.
    private(set) var areCredentialsRefused = false
    private var inspectAtMilliseconds: Int64?

    var isClosed: Bool {
        switch phase {
        case .closed, .closing(_, isFinal: true): true
        default: false
        }
    }

    var isConnected: Bool {
        if case .connected(_, let session) = phase { !session.isQuiet } else { false }
    }

    /// The session that is known to live or may live.
    var session: Session? {
        switch phase {
        case .connected(_, let session), .suspended(_, let session): session
        default: nil
        }
    }

    var publicState: ConnectionState {
        switch phase {
        case .connected(_, let session): session.isQuiet ? .suspended : .connected(sessionID: session.id)
        case .suspended: .suspended
        default: .lost
        }
    }

    /// When a ``Event/timer`` is due.
    var wakeAtMilliseconds: Int64? {
        switch phase {
        case .connected(_, let session):
            min(
                session.nextProbeMilliseconds,
                session.isQuiet ? session.lostAtMilliseconds : session.suspendedAtMilliseconds)
        case .connecting: inspectAtMilliseconds
        case .suspended(_, let session): session.lostAtMilliseconds
        case .backingOff(let until): until
        default: nil
        }
    }

    /// A request that was sent at that moment has been answered. Apart from the other events because it is frequent; it
    /// only ever moves deadlines away, so that a timer has to be set again only where it returns an action.
    /// - Parameter isProof: the answer came by way of the ensemble's leader.
    mutating func contact(
        generation: UInt64, sentAtMilliseconds: Int64, isProof: Bool = false, nowMilliseconds now: Int64
    ) -> [Action] {
        guard generation == self.generation else { return [] }
        func touch(_ session: inout Session) {
            if isProof {
                session.lastProofMilliseconds = max(session.lastProofMilliseconds ?? .min, sentAtMilliseconds)
            }
            guard sentAtMilliseconds > session.lastContactMilliseconds else { return }
            session.lastContactMilliseconds = sentAtMilliseconds
            session.nextProbeMilliseconds = sentAtMilliseconds + session.probeIntervalMilliseconds
        }
        switch phase {
        case .connected(let generation, var session):
            touch(&session)
            let isBack = session.isQuiet && now < session.suspendedAtMilliseconds
            if isBack { session.isQuiet = false }
            phase = .connected(generation, session)
            if isBack { return [.announce(publicState)] }
        case .suspended(let generation, var session):
            touch(&session)
            phase = .suspended(generation, session)
        case .authenticating(let generation, var session):
            touch(&session)
            phase = .authenticating(generation, session)
        default: break
        }
        return []
    }

    /// - Parameter random: uniform in 0..<1, for the back-off.
    mutating func handle(_ event: Event, nowMilliseconds now: Int64, random: Double) -> [Action] {
        switch event {
        case .start:
            guard phase == .idle else { return [] }
            return open()
        case .close:
            return close()
        case .timer:
            return timer(now)
        case .openFailed(let generation, let reason):
            guard generation == self.generation, phase == .connecting(generation) else { return [] }
            lastFailure = reason
            return pause(now, random)
        case .opened(let generation):
            guard generation == self.generation, phase == .connecting(generation) else { return [] }
            inspectAtMilliseconds = now + ZooKeeperLimits.connectPatienceMilliseconds
            return []
        case .inspected(let generation, let isTrying):
            guard generation == self.generation, phase == .connecting(generation), !isTrying else { return [] }
            return lose("no server accepts a connection, or none serves")
        case .established(let generation, let id, let timeout):
            guard generation == self.generation else { return [] }
            return established(id: id, timeoutMilliseconds: timeout, now)
        case .authenticated(let generation):
            guard case .authenticating(generation, var session) = phase else { return [] }
            session.nextProbeMilliseconds = now
            phase = .connected(generation, session)
            backOff.reset()
            lastFailure = nil
            areCredentialsRefused = false
            return [.announce(publicState)]
        case .disconnected(let generation):
            guard generation == self.generation else { return [] }
            return disconnected(now)
        case .expired(let generation):
            guard generation == self.generation else { return [] }
            return lose("the session expired")
        case .authenticationFailed(let generation):
            guard generation == self.generation else { return [] }
            // Credentials that were added to a session that works are its caller's affair; the next session goes
            // without.
            if case .authenticating = phase {
                areCredentialsRefused = true
                return lose("authentication failed") + [.failWaiting(.authenticationFailed)]
            }
            return lose("authentication failed")
        case .handleClosed(let generation):
            guard case .closing(generation, let isFinal) = phase else { return [] }
            guard isFinal else { return pause(now, random) }
            phase = .closed
            return [.finish]
        }
    }

    private mutating func open() -> [Action] {
        generation += 1
        inspectAtMilliseconds = nil
        phase = .connecting(generation)
        return [.open(generation: generation)]
    }

    private mutating func pause(_ now: Int64, _ random: Double) -> [Action] {
        phase = .backingOff(untilMilliseconds: now + backOff.next(random: random))
        return []
    }

    private mutating func established(id: Int64, timeoutMilliseconds: Int64, _ now: Int64) -> [Action] {
        let fresh = Session(
            id: id, timeoutMilliseconds: timeoutMilliseconds, lastContactMilliseconds: now, nextProbeMilliseconds: now)
        switch phase {
        case .connecting(let generation):
            phase = .authenticating(generation, fresh)
            return [.authenticate(generation: generation)]
        case .suspended(let generation, let session) where session.id == id:
            // The library sends the credentials again by itself, before anything else.
            phase = .connected(generation, fresh.keeping(session))
            return [.announce(publicState)]
        case .connected(let generation, let session) where session.id == id:
            // The library can drop its socket without an event (a full pipe, P34). Whoever relies on being told of a
            // reconnection must hear of this one too.
            phase = .connected(generation, fresh.keeping(session))
            return (session.isQuiet ? [] : [.announce(.suspended)]) + [.announce(publicState)]
        case .suspended, .connected:
            return lose("the server gave another session to the same handle")
        case .authenticating(let generation, _):
            // Reconnected without an event in between: the answers that were awaited may be lost with the old
            // connection.
            phase = .authenticating(generation, fresh)
            return [.authenticate(generation: generation)]
        case .idle, .closing, .backingOff, .closed:
            return []
        }
    }

    private mutating func disconnected(_ now: Int64) -> [Action] {
        switch phase {
        case .connected(let generation, let session):
            phase = .suspended(generation, session)
            let told: [Action] = session.isQuiet ? [] : [.announce(.suspended)]
            guard now < session.lostAtMilliseconds else {
                return told + lose("no contact with a server for the session timeout")
            }
            return told
        case .authenticating(let generation, _):
            // Nobody was told of this session yet: the handle goes on by itself.
            phase = .connecting(generation)
            inspectAtMilliseconds = now + ZooKeeperLimits.connectPatienceMilliseconds
            return []
        case .idle, .connecting, .suspended, .closing, .backingOff, .closed:
            return []
        }
    }

    private mutating func timer(_ now: Int64) -> [Action] {
        switch phase {
        case .connected(let generation, var session):
            if now >= session.lostAtMilliseconds { return lose("no contact with a server for the session timeout") }
            var actions: [Action] = []
            if !session.isQuiet, now >= session.suspendedAtMilliseconds {
                session.isQuiet = true
                actions = [.announce(.suspended)]
            }
            if now >= session.nextProbeMilliseconds {
                session.nextProbeMilliseconds = now + session.probeIntervalMilliseconds
                actions.append(.probe(generation: generation))
            }
            phase = .connected(generation, session)
            return actions
        case .connecting(let generation):
            guard let inspectAt = inspectAtMilliseconds, now >= inspectAt else { return [] }
            inspectAtMilliseconds = now + ZooKeeperLimits.connectPatienceMilliseconds
            return [.inspect(generation: generation)]
        case .suspended(_, let session) where now >= session.lostAtMilliseconds:
            return lose("no contact with a server for the session timeout")
        case .backingOff(let until) where now >= until:
            return open()
        default:
            return []
        }
    }

    /// The handle is of no use any more. `lost` is announced only where something better was announced before.
    private mutating func lose(_ reason: String) -> [Action] {
        let wasAnnounced = publicState != .lost
        switch phase {
        case .connecting(let generation), .authenticating(let generation, _), .connected(let generation, _),
            .suspended(let generation, _):
            lastFailure = reason
            phase = .closing(generation, isFinal: false)
            return (wasAnnounced ? [.announce(.lost)] : [])
                + [.abandonWatches(generation: generation), .close(generation: generation, isFinal: false)]
        case .idle, .closing, .backingOff, .closed:
            return []
        }
    }

    private mutating func close() -> [Action] {
        let wasAnnounced = publicState != .lost
        switch phase {
        case .idle, .backingOff:
            phase = .closed
            return [.finish]
        case .connecting(let generation), .authenticating(let generation, _), .connected(let generation, _),
            .suspended(let generation, _):
            phase = .closing(generation, isFinal: true)
            return (wasAnnounced ? [.announce(.lost)] : [])
                + [.abandonWatches(generation: generation), .close(generation: generation, isFinal: true)]
        case .closing(let generation, _):
            phase = .closing(generation, isFinal: true)
            return []
        case .closed:
            return []
        }
    }
}
