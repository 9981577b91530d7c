public import Logging
import Glibc
import NIOConcurrencyHelpers
import NIOCore
import RESP
public import SocketIO
import TransportSecurity

/// The data path: listens for clients and stands in front of the cache nodes, on every event loop of a group.
///
/// It knows nothing of the registry: it acts on the snapshots it is handed and hands back counts. Life: ``init``, ``start()``,
/// ``listen(on:role:)`` as often as needed, ``drain(graceMilliseconds:)``, ``shutDown()``.
public final class ProxyServer: Sendable {
    /// The pub/sub channel on which apps hear of changes of the hot set.
    public static let hotKeyChannel = "__hotkeys__"

    public enum Role: Sendable {
        /// Applications: ordinary Redis commands and the agent's own.
        case app
        /// Other agents and tools: the agent's own commands only.
        case peer
    }

    public enum Address: Sendable, Hashable, CustomStringConvertible {
        case tcp(host: String, port: Int)
        case unixSocket(path: String)

        var isTCP: Bool {
            if case .tcp = self { true } else { false }
        }

        public var description: String {
            switch self {
            case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
            case .unixSocket(let path): "unix:\(path)"
            }
        }
    }

    private let configuration: ProxyConfiguration
    private let logger: Logger
    let loops: [NIOLoopBound<ProxyLoop>]
    private let descriptors: DescriptorReserve
    private let state = NIOLockedValueBox(State())

    private struct State {
        var listeners: [NIOLoopBound<SocketListener>] = []
        var sockets: [UnixListener] = []
        /// Counted apart: clients of apps must not keep other agents out, without whom nothing of this one is known.
        var clients: [Role: Int] = [:]
        var nextClientID: UInt64 = 0
        var isApplying = false
        var timesSwitchedOff = 0
        var isStopped = false
    }

    /// Makes one ``KeyAccessRecorder`` for each event loop by calling `makeRecorder` with the loop's number, and connects to no
    /// node yet. Without a topology only ``Role/peer`` listeners may be opened, until a snapshot has brought one. Call it from
    /// outside the group's event loops.
    public init(
        configuration: ProxyConfiguration, group: SocketEventLoopGroup, topology: ProxyTopology?,
        agentCommands: any AgentCommandHandler, logger: Logger,
        makeRecorder: @escaping @Sendable (Int) -> KeyAccessRecorder?,
        makeRandom: @escaping @Sendable (Int) -> any RandomNumberGenerator = { _ in SystemRandomNumberGenerator() }
    ) async throws {
        self.configuration = configuration
        self.logger = logger
        let descriptors = DescriptorReserve(logger: logger)
        self.descriptors = descriptors
        let cacheBytes = configuration.cacheBytes / group.loops.count
        var loops: [NIOLoopBound<ProxyLoop>] = []
        for (index, eventLoop) in group.loops.enumerated() {
            loops.append(
                try await eventLoop.submit {
                    NIOLoopBound(
                        ProxyLoop(
                            index: index, eventLoop: eventLoop, configuration: configuration, topology: topology,
                            recorder: makeRecorder(index), agentCommands: agentCommands, logger: logger,
                            cacheBytes: cacheBytes, descriptors: descriptors, random: makeRandom(index)),
                        eventLoop: eventLoop)
                }.get())
        }
        self.loops = loops
    }

    /// Connects to the nodes.
    public func start() async throws {
        let loops = loops
        _ = try await onEveryLoop { loop in
            loop.peers = loops.filter { $0.eventLoop !== loop.eventLoop }
            loop.start()
        }
    }

    /// Opens a listener and returns the address it got (port 0: one that is free).
    ///
    /// A Unix socket is made with the permissions asked for and removed by ``drain(graceMilliseconds:)``. One that another process
    /// listens on is not touched; one that nobody listens on any more is replaced.
    ///
    /// - Parameter descriptor: a socket that listens at `address` already, from the process that started this one. It is used instead
    ///   of a new one and closed by ``drain(graceMilliseconds:)``; its queue of connections stays with whoever else has it open.
    ///
    /// Errors: ``RedisProxyError/Code/cannotListen`` with the reason.
    public func listen(
        on address: Address, role: Role, security: ListenerSecurity = ListenerSecurity(),
        inherited descriptor: CInt? = nil
    ) async throws -> Address {
        do {
            let bound: Address
            let listening: CInt
            switch (address, descriptor) {
            case (.tcp(let host, _), let descriptor?):
                listening = descriptor
                bound = SocketListener.address(of: descriptor)?.port.map { .tcp(host: host, port: $0) } ?? address
            case (.tcp(let host, let port), nil):
                let own = try await SocketListener.bind(
                    host: host, port: port, backlog: RedisProxyLimits.backlog)
                listening = own.descriptor
                bound = .tcp(host: host, port: own.address.port ?? port)
            case (.unixSocket, let descriptor?):
                (listening, bound) = (descriptor, address)
            case (.unixSocket(let path), nil):
                let socket = try UnixListener(
                    path: path, mode: security.socketMode, group: security.socketGroup,
                    backlog: RedisProxyLimits.backlog)
                state.withLockedValue { $0.sockets.append(socket) }
                (listening, bound) = (socket.descriptor, address)
            }
            try await listen(listening, role, security, isTCP: bound.isTCP)
            return bound
        } catch {
            throw RedisProxyError(
                .cannotListen,
                "cannot listen on \(address): \(error); choose another address, or stop what has it (ss -ltnp shows it)"
            )
        }
    }

    private func listen(_ descriptor: CInt, _ role: Role, _ security: ListenerSecurity, isTCP: Bool) async throws {
        let first = loops[0]
        let listener = try await first.eventLoop.submit { [self] in
            let clients = ClientListener(loops: loops, descriptors: descriptors) { [self] descriptor, loop in
                admit(descriptor, loop, role, security)
            }
            let listener = try SocketListener(
                descriptor: descriptor, eventLoop: first.value.eventLoop, options: isTCP ? .client : nil,
                pauseMilliseconds: RedisProxyLimits.acceptPauseMilliseconds, handler: clients)
            return NIOLoopBound(listener, eventLoop: first.eventLoop)
        }.get()
        state.withLockedValue { $0.listeners.append(listener) }
    }

    private func admit(_ descriptor: CInt, _ loop: ProxyLoop, _ role: Role, _ security: ListenerSecurity) {
        let id = state.withLockedValue { state -> UInt64? in
            let clientsMax = role == .app ? configuration.clientsMax : RedisProxyLimits.peersMax
            guard state.clients[role, default: 0] < clientsMax else { return nil }
            state.clients[role, default: 0] += 1
            state.nextClientID += 1
            return state.nextClientID
        }
        guard let id else {
            loop.statistics.clientsRefused += 1
            // To say why, a handshake would have to be paid for first.
            if security.tls == nil { ClientRefusal.tell(descriptor, loop.eventLoop) } else { close(descriptor) }
            return
        }
        let leave: @Sendable () -> Void = { [state] in state.withLockedValue { $0.clients[role, default: 0] -= 1 } }
        loop.updateNow()
        let session = FrontSession(
            loop: loop, role: role == .app ? .app : .peer, id: id, access: security.access)
        guard
            let connection = try? SocketConnection(
                descriptor: descriptor, eventLoop: loop.eventLoop, allowsHalfClosure: true, handler: session)
        else { return leave() }
        connection.onClose = leave
        session.begin(connection)
        do {
            try security.tls.map { tls in
                try connection.secure {
                    try tls.secure($0, handshakeMilliseconds: configuration.handshakeMilliseconds)
                }
            }
        } catch {
            connection.close()
        }
    }

    /// Makes every event loop act on a snapshot, and returns when all do. The steps and what they protect are told at
    /// ``ProxyLoop/prepare(_:)``. Calls must not overlap.
    ///
    /// Takes one round trip to the nodes of the keys that become served (bounded by the request timeout); switching off and
    /// taking keys away does not wait for nodes.
    ///
    /// - Parameter mark: ``switchOffMark`` as it was before the snapshot was made. When ``switchOff()`` was called since, only
    ///   the topology of the snapshot is taken: what was decided before must not switch on again what was switched off after.
    /// - Returns: whether the snapshot is in force; false when it was overruled so.
    ///
    /// Errors: ``RedisProxyError/Code/stopped`` after ``shutDown()``.
    @discardableResult
    public func apply(_ snapshot: ProxySnapshot, since mark: SwitchOffMark? = nil) async throws -> Bool {
        try checkNotStopped()
        let (overlaps, count) = state.withLockedValue { state in
            defer { state.isApplying = true }
            return (state.isApplying, mark?.count ?? state.timesSwitchedOff)
        }
        precondition(!overlaps, "two snapshots applied at once: their steps would mix")
        defer { state.withLockedValue { $0.isApplying = false } }
        // Asked on the loop: a `switchOff` that is counted later than this has its turn there later, too.
        let isOverruled: @Sendable () -> Bool = { [state] in
            state.withLockedValue { $0.timesSwitchedOff } != count
        }
        let prepared = loops.map { loop in
            loop.eventLoop.flatSubmit { () -> EventLoopFuture<Void> in
                isOverruled() ? loop.eventLoop.makeSucceededVoidFuture() : loop.value.prepare(snapshot)
            }
        }
        for future in prepared { try await future.get() }
        let activated = try await onEveryLoop { loop in
            guard isOverruled() else {
                loop.activate(snapshot)
                return true
            }
            loop.updateNow()
            loop.changeTopology(snapshot.topology)
            return false
        }
        _ = try await onEveryLoop { $0.settle() }
        return activated.allSatisfy { $0 }
    }

    /// A moment in the order of the calls of ``switchOff()``.
    public struct SwitchOffMark: Sendable {
        fileprivate let count: Int
    }

    public var switchOffMark: SwitchOffMark { SwitchOffMark(count: state.withLockedValue { $0.timesSwitchedOff }) }

    /// Makes every event loop a plain proxy at once. Unlike ``apply(_:since:)`` it may be called at any time and waits for no
    /// node; an `apply` that is under way ends without serving what it brought.
    ///
    /// Errors: ``RedisProxyError/Code/stopped`` after ``shutDown()``.
    public func switchOff() async throws {
        try checkNotStopped()
        // Counted and handed to the loops in one step: what is applied with a later mark has its turn on every loop after it.
        let done = state.withLockedValue { [loops] state in
            state.timesSwitchedOff += 1
            return loops.map { loop in loop.eventLoop.submit { loop.value.switchOff() } }
        }
        for future in done { try await future.get() }
    }

    public func statistics() async throws -> ProxyStatistics {
        var total = ProxyStatistics()
        for part in try await onEveryLoop({ $0.currentStatistics() }) { total += part }
        return total
    }

    /// Where a key lives and what would be read now, as the first event loop sees it.
    ///
    /// Errors: ``RedisProxyError/Code/stopped`` after ``shutDown()``.
    public func route(_ key: [UInt8]) async throws -> RouteDescription {
        try checkNotStopped()
        let loop = loops[0]
        return try await loop.eventLoop.submit { loop.value.route(key) }.get()
    }

    /// Sends a message to every client that listens to ``hotKeyChannel``.
    public func publish(_ message: [UInt8]) {
        for loop in loops {
            loop.eventLoop.execute { loop.value.publish(message, to: Self.hotKeyChannel) }
        }
    }

    /// Disconnects clients that authenticated themselves as users that are no more. Those whose password has changed stay.
    public func disconnectRemovedUsers() async throws {
        _ = try await onEveryLoop { loop in
            for session in Array(loop.sessions.values) {
                guard let user = session.user, let access = session.access, !access().hasUser(user) else { continue }
                session.close()
            }
        }
    }

    /// Why cache nodes do not let this agent in, by the nodes' names.
    public var upstreamProblems: [(node: String, problem: String)] { configuration.upstreamSecurity.problems.all }

    /// Runs `body` with each loop's recorder, on that loop.
    public func withRecorders<T: Sendable>(
        _ body: @escaping @Sendable (Int, KeyAccessRecorder) -> T
    ) async throws -> [T] {
        try await onEveryLoop { loop in loop.recorder.map { body(loop.index, $0) } }.compactMap { $0 }
    }

    /// Stops accepting clients, answers what they have asked, closes their connections; returns when all are gone or the grace
    /// is over.
    public func drain(graceMilliseconds: Int64) async {
        let (listeners, sockets) = state.withLockedValue { state in
            defer { (state.listeners, state.sockets) = ([], []) }
            return (state.listeners, state.sockets)
        }
        // First the files: while one is there and nobody listens, it looks like a dead process's.
        for socket in sockets { socket.remove() }
        // What has been accepted is given to its event loop before these are told to let clients go.
        for listener in listeners { try? await listener.eventLoop.submit { listener.value.close() }.get() }
        _ = try? await onEveryLoop { $0.drainClients() }
        let deadline = NIODeadline.now() + .milliseconds(graceMilliseconds)
        while state.withLockedValue({ $0.clients.values.contains { $0 > 0 } }), NIODeadline.now() < deadline {
            try? await Task.sleep(for: .milliseconds(10))
        }
    }

    /// Ends every connection. The proxy cannot be used any more.
    public func shutDown() async {
        state.withLockedValue { $0.isStopped = true }
        await drain(graceMilliseconds: 0)
        _ = try? await onEveryLoop { $0.shutDown() }
        descriptors.letGo()
    }

    func checkNotStopped() throws {
        if state.withLockedValue({ $0.isStopped }) {
            throw RedisProxyError(.stopped, "the proxy has been shut down; make a new one")
        }
    }

    func onEveryLoop<T: Sendable>(_ body: @escaping @Sendable (ProxyLoop) -> T) async throws -> [T] {
        let futures = loops.map { loop in loop.eventLoop.submit { body(loop.value) } }
        var results: [T] = []
        for future in futures { results.append(try await future.get()) }
        return results
    }
}
