public import Logging
import Glibc
import NIOConcurrencyHelpers
public import NIOCore
import NIOPosix
import RESP
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

        public var description: String {
            switch self {
            case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
            case .unixSocket(let path): "unix:\(path)"
            }
        }
    }

    private let configuration: ProxyConfiguration
    private let group: any EventLoopGroup
    private let logger: Logger
    private let loops: [NIOLoopBound<ProxyLoop>]
    private let loopByID: [ObjectIdentifier: NIOLoopBound<ProxyLoop>]
    private let descriptors: DescriptorReserve
    private let state = NIOLockedValueBox(State())

    private struct State {
        var listeners: [any Channel] = []
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
        configuration: ProxyConfiguration, group: any EventLoopGroup, topology: ProxyTopology?,
        agentCommands: any AgentCommandHandler, logger: Logger,
        makeRecorder: @escaping @Sendable (Int) -> (any KeyAccessRecorder)?,
        makeRandom: @escaping @Sendable (Int) -> any RandomNumberGenerator = { _ in SystemRandomNumberGenerator() }
    ) async throws {
        self.configuration = configuration
        self.group = group
        self.logger = logger
        let descriptors = DescriptorReserve(logger: logger)
        self.descriptors = descriptors
        let eventLoops = Array(group.makeIterator())
        let cacheBytes = configuration.cacheBytes / max(1, eventLoops.count)
        var loops: [NIOLoopBound<ProxyLoop>] = []
        for (index, eventLoop) in eventLoops.enumerated() {
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
        self.loopByID = Dictionary(uniqueKeysWithValues: loops.map { (ObjectIdentifier($0.eventLoop), $0) })
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
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelOption(.backlog, value: RedisProxyLimits.backlog)
            .serverChannelInitializer { [descriptors] channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(AcceptPause(descriptors: descriptors))
                }
            }
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelInitializer { [self] channel in
                channel.eventLoop.makeCompletedFuture { try accept(channel, role, security) }
            }
        do {
            let channel: any Channel
            var unixDescriptor: CInt?
            switch address {
            case .tcp(let host, let port):
                let bootstrap = bootstrap.tcpClientOptions()
                channel =
                    if let descriptor {
                        try await bootstrap.withBoundSocket(descriptor).get()
                    } else {
                        try await bootstrap.bind(host: host, port: port).get()
                    }
            case .unixSocket where descriptor != nil:
                channel = try await bootstrap.withBoundSocket(descriptor!).get()
            case .unixSocket(let path):
                let socket = try UnixListener(
                    path: path, mode: security.socketMode, group: security.socketGroup,
                    backlog: RedisProxyLimits.backlog)
                unixDescriptor = socket.descriptor
                state.withLockedValue { $0.sockets.append(socket) }
                channel = try await bootstrap.withBoundSocket(socket.descriptor).get()
            }
            // SwiftNIO has set the queue of a socket that listens already to 128 places, for everyone who has it open.
            if let descriptor = descriptor ?? unixDescriptor { Glibc.listen(descriptor, RedisProxyLimits.backlog) }
            state.withLockedValue { $0.listeners.append(channel) }
            guard case .tcp(let host, _) = address, let port = channel.localAddress?.port else { return address }
            return .tcp(host: host, port: port)
        } catch {
            throw RedisProxyError(
                .cannotListen,
                "cannot listen on \(address): \(error); choose another address, or stop what has it (ss -ltnp shows it)"
            )
        }
    }

    private func accept(_ channel: any Channel, _ role: Role, _ security: ListenerSecurity) throws {
        let id = state.withLockedValue { state -> UInt64? in
            let clientsMax = role == .app ? configuration.clientsMax : RedisProxyLimits.peersMax
            guard state.clients[role, default: 0] < clientsMax else { return nil }
            state.clients[role, default: 0] += 1
            state.nextClientID += 1
            return state.nextClientID
        }
        let loop = loopByID[ObjectIdentifier(channel.eventLoop)]!.value
        guard let id else {
            loop.statistics.clientsRefused += 1
            // To say why, a handshake would have to be paid for first.
            guard security.tls == nil else { return channel.close(promise: nil) }
            try channel.pipeline.syncOperations.addHandler(ClientRefusal())
            return
        }
        channel.closeFuture.whenComplete { [state] _ in state.withLockedValue { $0.clients[role, default: 0] -= 1 } }
        try security.tls?.secure(channel, handshakeMilliseconds: configuration.handshakeMilliseconds)
        let session = FrontSession(
            loop: loop, role: role == .app ? .app : .peer, id: id, access: security.access)
        try channel.pipeline.syncOperations.addHandler(session)
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
        _ body: @escaping @Sendable (Int, any KeyAccessRecorder) -> T
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
        for listener in listeners { try? await close(listener) }
        _ = try? await onEveryLoop { $0.drainClients() }
        let deadline = NIODeadline.now() + .milliseconds(graceMilliseconds)
        while state.withLockedValue({ $0.clients.values.contains { $0 > 0 } }), NIODeadline.now() < deadline {
            try? await Task.sleep(for: .milliseconds(10))
        }
    }

    /// Closes a listener so that no connection which it has taken from its queue is lost.
    ///
    /// NIO hands one it has accepted to another event loop, has it back, and closes it when the listener has closed meanwhile. So
    /// nothing more is accepted first, and what is between the loops gets through: there, and back.
    private func close(_ listener: any Channel) async throws {
        try await listener.eventLoop.submit {
            try listener.pipeline.syncOperations.handler(type: AcceptPause.self).end()
        }.get()
        try await listener.setOption(.autoRead, value: false).get()
        _ = try await onEveryLoop { _ in }
        try await listener.eventLoop.submit {}.get()
        try await listener.close()
    }

    /// Ends every connection. The proxy cannot be used any more.
    public func shutDown() async {
        state.withLockedValue { $0.isStopped = true }
        await drain(graceMilliseconds: 0)
        _ = try? await onEveryLoop { $0.shutDown() }
        descriptors.letGo()
    }

    private func checkNotStopped() throws {
        if state.withLockedValue({ $0.isStopped }) {
            throw RedisProxyError(.stopped, "the proxy has been shut down; make a new one")
        }
    }

    private func onEveryLoop<T: Sendable>(_ body: @escaping @Sendable (ProxyLoop) -> T) async throws -> [T] {
        let futures = loops.map { loop in loop.eventLoop.submit { body(loop.value) } }
        var results: [T] = []
        for future in futures { results.append(try await future.get()) }
        return results
    }
}
