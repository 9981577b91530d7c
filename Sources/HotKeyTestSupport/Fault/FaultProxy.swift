import NIOConcurrencyHelpers
import NIOCore
import NIOPosix

/// A TCP proxy on 127.0.0.1 that can be made to fail: put between a client and a server, it plays the network.
///
/// Every method returns after the fault is in force. Faults replace each other; ``heal()`` ends them all.
// Unchecked: `loopState` is only touched on `loop`, the only one of its group; everything else is immutable or locked.
public final class FaultProxy: @unchecked Sendable {
    public enum Direction: Sendable, Hashable {
        case clientToServer
        case serverToClient
    }

    /// What happens to bytes on their way; see the methods that set it.
    struct Conditions {
        var stalled: Set<Direction> = []
        var delay: TimeAmount = .zero
    }

    private struct LoopState {
        var listener: (any Channel)?
        var conditions = Conditions()
        var links: [ObjectIdentifier: FaultProxyLink] = [:]
        var acceptedCount = 0
    }

    /// The port that clients connect to.
    public let port: Int
    public let targetPort: Int
    public var address: String { "127.0.0.1:\(port)" }

    private let group: MultiThreadedEventLoopGroup
    private let loop: any EventLoop
    private var loopState = LoopState()

    private init(port: Int, targetPort: Int) {
        self.port = port
        self.targetPort = targetPort
        group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        loop = group.next()
    }

    /// Starts a proxy before 127.0.0.1:`targetPort`, which need not be there yet.
    public static func start(to targetPort: Int) async throws -> FaultProxy {
        try await startWithFreePorts {
            let proxy = FaultProxy(port: try FreePort.next(), targetPort: targetPort)
            do {
                try await proxy.listen()
            } catch let error as IOError where error.errnoCode == EADDRINUSE {
                await proxy.stop()
                throw TestSupportError(.portTaken, "port \(proxy.port) is taken")
            }
            return proxy
        }
    }

    /// Starts a proxy before a server.
    public static func start(to server: some ManagedServer) async throws -> FaultProxy {
        try await start(to: server.port)
    }

    // MARK: Faults

    /// The machine is gone: every connection gets RST, new ones are refused.
    public func cut() async throws {
        let listener = try await onLoop { proxy in
            proxy.resetLinks()
            defer { proxy.loopState.listener = nil }
            return proxy.loopState.listener
        }
        try await listener?.close()
        // A connection may have been accepted after the links were reset and before the listener was closed.
        try await onLoop { $0.resetLinks() }
    }

    /// The network swallows everything: connections stay, new ones are accepted, nothing passes either way. Bytes sent
    /// meanwhile arrive after ``heal()``.
    public func hang() async throws {
        try await setConditions(Conditions(stalled: [.clientToServer, .serverToClient]))
    }

    /// Nothing passes in one direction; the other one works.
    public func stop(_ direction: Direction) async throws {
        try await setConditions(Conditions(stalled: [direction]))
    }

    /// Every byte arrives this much later, in each direction.
    public func delay(milliseconds: Int) async throws {
        try await setConditions(Conditions(delay: .milliseconds(Int64(milliseconds))))
    }

    /// The network swallows what goes those ways over the connections whose client has sent that text early on; others, and new
    /// ones, work. Returns how many there are. What they sent meanwhile arrives after ``heal()``.
    public func silence(
        connectionsThatSent text: String, _ directions: Set<Direction> = [.clientToServer, .serverToClient]
    ) async throws -> Int {
        try await onLoop { proxy in
            let meant = proxy.loopState.links.values.filter { $0.hasSent(text) }
            for link in meant { link.silence(directions) }
            return meant.count
        }
    }

    /// Resets the connections there are; new ones work as before.
    public func resetConnections() async throws {
        try await onLoop { $0.resetLinks() }
    }

    /// Ends every fault. Connections that hung go on; those that were cut stay lost, new ones are accepted.
    public func heal() async throws {
        try await setConditions(Conditions())
    }

    // MARK: What is going on

    /// How many connections were accepted since the start.
    public func acceptedCount() async throws -> Int { try await onLoop { $0.loopState.acceptedCount } }

    /// Ends the proxy and every connection. Afterwards nothing but this may be called.
    public func stop() async {
        try? await cut()
        try? await group.shutdownGracefully()
    }

    // MARK: On the loop

    private func onLoop<T: Sendable>(_ body: @escaping @Sendable (FaultProxy) throws -> T) async throws -> T {
        try await loop.submit { try body(self) }.get()
    }

    private func setConditions(_ conditions: Conditions) async throws {
        let isListening = try await onLoop { proxy in
            proxy.loopState.conditions = conditions
            for link in proxy.loopState.links.values { link.apply(conditions) }
            return proxy.loopState.listener != nil
        }
        if !isListening { try await listen() }
    }

    private func listen() async throws {
        let listener = try await ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.autoRead, value: false)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try self.accept(channel) }
            }
            .bind(host: "127.0.0.1", port: port).get()
        try await onLoop { $0.loopState.listener = listener }
    }

    private func accept(_ client: any Channel) throws {
        loop.preconditionInEventLoop()
        let link = FaultProxyLink(client: client, conditions: loopState.conditions)
        let id = ObjectIdentifier(client)
        loopState.links[id] = link
        loopState.acceptedCount += 1
        link.onEnd = { [weak self] in self?.loopState.links[id] = nil }
        try link.attachClient()
        let bound = NIOLoopBound(link, eventLoop: loop)
        ClientBootstrap(group: group)
            .channelOption(.autoRead, value: false)
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try bound.value.attachServer(channel) }
            }
            .connect(host: "127.0.0.1", port: targetPort)
            .whenComplete { result in
                switch result {
                case .success: bound.value.serverIsConnected()
                case .failure: bound.value.reset()
                }
            }
    }

    private func resetLinks() {
        loop.preconditionInEventLoop()
        for link in loopState.links.values { link.reset() }
    }
}
