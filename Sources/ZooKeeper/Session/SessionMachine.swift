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
/// at that moment plus the timeout comes no later than the server's own verdict. The library's pings cannot be seen
/// from outside, so an idle connection is probed four times in a timeout.
struct SessionMachine: Sendable {
    enum Event: Sendable, Hashable {
        case start
        /// The library refused to make a handle (names that do not resolve, mostly).
        case openFailed(generation: UInt64, reason: String)
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

        var lostAtMilliseconds: Int64 { lastContactMilliseconds + timeoutMilliseconds }
        var probeIntervalMilliseconds: Int64 { max(1, timeoutMilliseconds / ZooKeeperLimits.probesPerSessionTimeout) }
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

    var isClosed: Bool {
        switch phase {
        case .closed, .closing(_, isFinal: true): true
        default: false
        }
    }

    var isConnected: Bool {
        if case .connected = phase { true } else { false }
    }

    var publicState: ConnectionState {
        switch phase {
        case .connected(_, let session): .connected(sessionID: session.id)
        case .suspended: .suspended
        default: .lost
        }
    }

    /// When a ``Event/timer`` is due.
    var wakeAtMilliseconds: Int64? {
        switch phase {
        case .connected(_, let session): min(session.nextProbeMilliseconds, session.lostAtMilliseconds)
        case .suspended(_, let session): session.lostAtMilliseconds
        case .backingOff(let until): until
        default: nil
        }
    }

    /// A request that was sent at that moment has been answered. Apart from the other events because it is frequent; it
    /// only ever moves deadlines away, so that no timer has to be set again.
    mutating func contact(generation: UInt64, sentAtMilliseconds: Int64) {
        guard generation == self.generation else { return }
        func touch(_ session: inout Session) {
            guard sentAtMilliseconds > session.lastContactMilliseconds else { return }
            session.lastContactMilliseconds = sentAtMilliseconds
            session.nextProbeMilliseconds = sentAtMilliseconds + session.probeIntervalMilliseconds
        }
        switch phase {
        case .connected(let generation, var session):
            touch(&session)
            phase = .connected(generation, session)
        case .suspended(let generation, var session):
            touch(&session)
            phase = .suspended(generation, session)
        case .authenticating(let generation, var session):
            touch(&session)
            phase = .authenticating(generation, session)
        default: break
        }
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
        case .established(let generation, let id, let timeout):
            guard generation == self.generation else { return [] }
            return established(id: id, timeoutMilliseconds: timeout, now)
        case .authenticated(let generation):
            guard case .authenticating(generation, var session) = phase else { return [] }
            session.nextProbeMilliseconds = now
            phase = .connected(generation, session)
            backOff.reset()
            lastFailure = nil
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
            phase = .connected(generation, fresh)
            return [.announce(publicState)]
        case .connected(let generation, let session) where session.id == id:
            // The library can drop its socket without an event (a full pipe, P34). Whoever relies on being told of a
            // reconnection must hear of this one too.
            phase = .connected(generation, fresh)
            return [.announce(.suspended), .announce(publicState)]
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
            guard now < session.lostAtMilliseconds else {
                return [.announce(.suspended)] + lose("no contact with a server for the session timeout")
            }
            return [.announce(.suspended)]
        case .authenticating(let generation, _):
            // Nobody was told of this session yet: the handle goes on by itself.
            phase = .connecting(generation)
            return []
        case .idle, .connecting, .suspended, .closing, .backingOff, .closed:
            return []
        }
    }

    private mutating func timer(_ now: Int64) -> [Action] {
        switch phase {
        case .connected(let generation, var session):
            if now >= session.lostAtMilliseconds { return lose("no contact with a server for the session timeout") }
            guard now >= session.nextProbeMilliseconds else { return [] }
            session.nextProbeMilliseconds = now + session.probeIntervalMilliseconds
            phase = .connected(generation, session)
            return [.probe(generation: generation)]
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
