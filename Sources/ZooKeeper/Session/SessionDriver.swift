import Dispatch
import Logging
import NIOConcurrencyHelpers

/// Does what ``SessionMachine`` decides: handles, timers, listeners, and the calls that wait for a connection.
///
/// Locks, outermost first: the driver's state; a session's; a pending operation's. The driver's lock is never held
/// while the library is called or anyone's closure runs; what has to happen outside is collected as an ``Effect``.
///
/// Queues: `lifecycleQueue` opens and closes handles, which blocks (P5), and keeps both in the order in which they were
/// decided. `signalQueue` never blocks: timers, and replies that come under the library's locks (P33).
final class SessionDriver: Sendable {
    enum Effect {
        case abandonWatches(NativeSession)
        case authenticate(NativeSession, generation: UInt64, [ZooKeeperCredential])
        case probe(NativeSession)
        case inspect(NativeSession, generation: UInt64)
        case submit(UInt64, ActiveOperation, NativeSession, epoch: UInt64)
        case fail([ActiveOperation], StoreError.Code)
        case resume([CheckedContinuation<Void, Never>])
        /// Outside the lock, which ``withdraw(_:)`` takes when a task is cancelled: see ``Broadcast``.
        case announce(ConnectionState, revision: UInt64)
        case finish
        case log(Logger.Level, Logger.Message, Logger.Metadata)
    }

    /// An operation that someone waits for.
    struct ActiveOperation {
        /// Names the operation in messages: `get`, `create`, …
        let name: String
        let path: String?
        /// Resumes the caller with an error, unless something was faster.
        let abandon: @Sendable (any Error) -> Void
        /// Hands the call to a session.
        let submit: @Sendable (NativeSession) -> Submission
        /// Waiting for a connection; otherwise the library has it or is just being given it.
        var isWaiting: Bool
        /// The connection that the call was given to, for who has to wait for the next one.
        var epoch: UInt64 = 0
    }

    struct State {
        var machine = SessionMachine()
        var session: NativeSession?
        var credentials: [ZooKeeperCredential]
        /// Counts announcements of `connected`.
        var epoch: UInt64 = 0
        var operations: [UInt64: ActiveOperation] = [:]
        var nextOperation: UInt64 = 1
        /// Calls that the library has or that wait; those whose caller has gone are still among them (P32, P34).
        var inFlight = 0
        var deadlines = DeadlineQueue()
        var wakeAtMilliseconds: Int64?
        /// Counts announcements, which are made outside the lock.
        var announcements: UInt64 = 0
        var closeWaiters: [CheckedContinuation<Void, Never>] = []
        var isFinished = false
    }

    let configuration: ZooKeeperConfiguration
    let logger: Logger
    let now: @Sendable () -> Int64
    private let random: @Sendable () -> Double
    private let lifecycleQueue = DispatchQueue(label: "zookeeper.lifecycle")
    private let signalQueue = DispatchQueue(label: "zookeeper.signal")
    let state: NIOLockedValueBox<State>
    private let announced = Broadcast(ConnectionState.lost)

    /// - Parameters:
    ///   - now: monotonic milliseconds.
    ///   - random: uniform in 0..<1.
    init(
        configuration: ZooKeeperConfiguration, logger: Logger, now: @escaping @Sendable () -> Int64,
        random: @escaping @Sendable () -> Double
    ) {
        self.configuration = configuration
        self.logger = logger
        self.now = now
        self.random = random
        state = NIOLockedValueBox(State(credentials: configuration.authentication))
        BridgeCensus.count { $0.drivers += 1 }
    }

    deinit {
        BridgeCensus.count { $0.drivers -= 1 }
    }

    var serverList: String { configuration.servers.joined(separator: ",") }

    // MARK: Lifetime

    func start() {
        LibraryLog.install(logger)
        step(.start)
    }

    /// Begins to close; whoever waits for a connection is told at once. Does not wait.
    func beginClose() {
        let waiting = state.withLockedValue { state -> [ActiveOperation] in
            guard !state.machine.isClosed else { return [] }
            let waiting = state.operations.filter { $0.value.isWaiting }
            for id in waiting.keys { state.operations[id] = nil }
            state.inFlight -= waiting.count
            return Array(waiting.values)
        }
        step(.close)
        run([.fail(waiting, .closed)])
    }

    /// Returns when the client is closed; does not begin it.
    func untilClosed() async {
        await withCheckedContinuation { continuation in
            let isFinished = state.withLockedValue { state in
                if !state.isFinished { state.closeWaiters.append(continuation) }
                return state.isFinished
            }
            if isFinished { continuation.resume() }
        }
    }

    var isClosed: Bool { state.withLockedValue { $0.machine.isClosed } }

    var publicState: ConnectionState { state.withLockedValue { $0.machine.publicState } }

    /// What is proven of the session now; in this driver's milliseconds.
    var session: SessionMachine.Session? { state.withLockedValue { $0.machine.session } }

    /// Gives the credential to every session from the next one on.
    func keep(_ credential: ZooKeeperCredential) {
        state.withLockedValue { state in
            if !state.credentials.contains(credential) { state.credentials.append(credential) }
        }
    }

    /// Nothing is left that would need ``beginClose()``.
    var isIdleOrFinished: Bool {
        state.withLockedValue { $0.isFinished || $0.machine.phase == .idle }
    }

    // MARK: Listeners

    func listen() -> AsyncStream<ConnectionState> { announced.stream() }

    // MARK: Machine

    func step(_ event: SessionMachine.Event) {
        let draw = random()
        run(
            state.withLockedValue { state in
                let actions = state.machine.handle(event, nowMilliseconds: now(), random: draw)
                return apply(actions, &state)
            })
    }

    private func receive(_ event: NativeSessionEvent, generation: UInt64) {
        switch event {
        case .contact(let sentAt, let isProof):
            run(
                state.withLockedValue { state in
                    let actions = state.machine.contact(
                        generation: generation, sentAtMilliseconds: sentAt, isProof: isProof, nowMilliseconds: now())
                    return actions.isEmpty ? [] : apply(actions, &state)
                })
        case .established(let id, let timeout):
            step(.established(generation: generation, sessionID: id, timeoutMilliseconds: timeout))
        case .disconnected: step(.disconnected(generation: generation))
        case .expired: step(.expired(generation: generation))
        case .authenticationFailed: step(.authenticationFailed(generation: generation))
        }
    }

    /// Inside the lock: what must keep the order of decisions (numbers of announcements, queue entries) happens here, the rest
    /// is returned.
    private func apply(_ actions: [SessionMachine.Action], _ state: inout State) -> [Effect] {
        var effects: [Effect] = []
        for action in actions {
            switch action {
            case .open(let generation):
                state.session = open(generation)
                effects.append(
                    .log(
                        .debug, "connecting to ZooKeeper",
                        ["servers": "\(serverList)", "handle": "\(generation)"]))
            case .authenticate(let generation):
                guard let session = state.session else { continue }
                effects.append(.authenticate(session, generation: generation, state.credentials))
            case .probe:
                if let session = state.session { effects.append(.probe(session)) }
            case .inspect(let generation):
                if let session = state.session { effects.append(.inspect(session, generation: generation)) }
            case .announce(let connection):
                effects += announce(connection, &state)
                if case .connected = connection { effects += takeWaiting(&state) }
            case .abandonWatches:
                if let session = state.session { effects.append(.abandonWatches(session)) }
            case .close(let generation, _):
                close(state.session, generation)
                state.session = nil
            case .failWaiting(let code):
                let waiting = state.operations.filter { $0.value.isWaiting }
                for id in waiting.keys { state.operations[id] = nil }
                state.inFlight -= waiting.count
                effects.append(.fail(Array(waiting.values), code))
                if code == .authenticationFailed {
                    effects.append(
                        .log(
                            .error, "ZooKeeper refused the credentials; check the authentication settings",
                            ["meaning": "calls fail until a later attempt succeeds"]))
                }
            case .finish:
                effects += finish(&state)
            }
        }
        schedule(&state)
        return effects
    }

    private func open(_ generation: UInt64) -> NativeSession {
        let session = NativeSession(lifecycleQueue: lifecycleQueue, signalQueue: signalQueue, now: now) {
            [weak self] event in
            self?.receive(event, generation: generation)
        }
        let configuration = configuration
        lifecycleQueue.async {
            let fault = session.open(
                servers: configuration.libraryConnectString,
                timeoutMilliseconds: configuration.sessionTimeoutMilliseconds, tls: configuration.tls)
            guard let fault else { return self.step(.opened(generation: generation)) }
            self.logger.warning(
                "cannot connect to ZooKeeper, trying again; check that the server names resolve",
                metadata: ["servers": "\(self.serverList)", "error": "\(fault)"])
            self.step(.openFailed(generation: generation, reason: fault))
        }
        return session
    }

    private func close(_ session: NativeSession?, _ generation: UInt64) {
        lifecycleQueue.async {
            session?.close()
            self.step(.handleClosed(generation: generation))
        }
    }

    private func announce(_ connection: ConnectionState, _ state: inout State) -> [Effect] {
        state.announcements += 1
        let log: Effect
        switch connection {
        case .connected(let id):
            state.epoch += 1
            log = .log(.info, "ZooKeeper session established", ["session": "0x\(String(id, radix: 16))"])
        case .suspended:
            log = .log(.notice, "ZooKeeper connection lost, session suspended", [:])
        case .lost:
            log = .log(
                .notice, "ZooKeeper session ended; its ephemeral nodes are gone or about to go",
                ["reason": "\(state.machine.isClosed ? "closed" : state.machine.lastFailure ?? "unknown")"])
        }
        return [.announce(connection, revision: state.announcements), log]
    }

    private func takeWaiting(_ state: inout State) -> [Effect] {
        guard let session = state.session else { return [] }
        let ids = state.operations.filter { $0.value.isWaiting }.keys.sorted()
        return ids.compactMap { id in
            guard var operation = state.operations[id] else { return nil }
            operation.isWaiting = false
            operation.epoch = state.epoch
            state.operations[id] = operation
            return .submit(id, operation, session, epoch: state.epoch)
        }
    }

    private func finish(_ state: inout State) -> [Effect] {
        state.isFinished = true
        state.announcements += 1
        // Whoever is left had slipped in between the close and now; their calls never reached a session.
        let left = Array(state.operations.values)
        state.operations = [:]
        state.inFlight = 0
        defer { state.closeWaiters = [] }
        return [
            .fail(left, .closed), .announce(.lost, revision: state.announcements), .finish, .resume(state.closeWaiters),
        ]
    }

    func run(_ effects: [Effect]) {
        for effect in effects {
            switch effect {
            case .abandonWatches(let session): session.abandonWatches()
            case .probe(let session): session.probe()
            case .inspect(let session, let generation):
                step(.inspected(generation: generation, isTrying: session.isTrying))
            case .authenticate(let session, let generation, let credentials):
                authenticate(session, generation, credentials[...])
            case .submit(let id, let operation, let session, let epoch):
                hand(id, operation, to: session, epoch: epoch)
            case .fail(let operations, let code):
                for operation in operations { operation.abandon(failure(operation, code)) }
            case .resume(let waiters):
                for waiter in waiters { waiter.resume() }
            case .announce(let connection, let revision): announced.send(connection, revision: revision)
            case .finish: announced.finish()
            case .log(let level, let message, let metadata):
                logger.log(level: level, message, metadata: metadata)
            }
        }
    }

    /// One after the other: the library resumes every authentication that is under way with the first answer that
    /// comes.
    private func authenticate(_ session: NativeSession, _ generation: UInt64, _ rest: ArraySlice<ZooKeeperCredential>) {
        guard let credential = rest.first else {
            step(.authenticated(generation: generation))
            return
        }
        // A refusal or a lost connection needs nothing here: the session's own event follows.
        _ = session.authenticate(credential) { result in
            if case .success = result { self.authenticate(session, generation, rest.dropFirst()) }
        }
    }

    // MARK: Timers

    /// Sees to it that ``timerFired(_:)`` comes no later than the next moment that matters. Wake-ups are never taken
    /// back; one that comes too early finds nothing to do.
    func schedule(_ state: inout State) {
        let operations = state.operations
        let deadline = state.deadlines.earliest { operations[$0] != nil }
        guard let next = [deadline, state.machine.wakeAtMilliseconds].compactMap({ $0 }).min() else { return }
        if let planned = state.wakeAtMilliseconds, planned <= next { return }
        state.wakeAtMilliseconds = next
        let delay = max(0, next - now())
        signalQueue.asyncAfter(deadline: .now() + .milliseconds(Int(delay))) { [weak self] in
            self?.timerFired(next)
        }
    }

    private func timerFired(_ planned: Int64) {
        let draw = random()
        let (due, effects) = state.withLockedValue { state -> ([ActiveOperation], [Effect]) in
            if state.wakeAtMilliseconds == planned { state.wakeAtMilliseconds = nil }
            let now = self.now()
            var due: [ActiveOperation] = []
            while let id = state.deadlines.takeDue(nowMilliseconds: now) {
                guard let operation = state.operations.removeValue(forKey: id) else { continue }
                if operation.isWaiting { state.inFlight -= 1 }
                due.append(operation)
            }
            let actions = state.machine.handle(.timer, nowMilliseconds: now, random: draw)
            return (due, apply(actions, &state))
        }
        run([.fail(due, .deadlineExceeded)] + effects)
    }
}
