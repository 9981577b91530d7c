import NIOCore
import SocketIO

extension TCPOptions {
    /// What the sockets of TCP clients are set to.
    static let client = TCPOptions(
        keepAlive: (
            idleSeconds: RedisProxyLimits.keepAliveSeconds, intervalSeconds: RedisProxyLimits.keepAliveIntervalSeconds,
            probes: RedisProxyLimits.keepAliveProbes
        ))
}

/// Takes clients in and gives each to an event loop, in turn. Accepts nothing while descriptors are short.
final class ClientListener: SocketListenerHandler {
    private let loops: [NIOLoopBound<ProxyLoop>]
    private let descriptors: DescriptorReserve
    private let admit: @Sendable (CInt, ProxyLoop) -> Void
    private var next = 0

    /// - Parameter admit: called on the event loop that the client is given to, whose the descriptor is then.
    init(
        loops: [NIOLoopBound<ProxyLoop>], descriptors: DescriptorReserve,
        admit: @escaping @Sendable (CInt, ProxyLoop) -> Void
    ) {
        self.loops = loops
        self.descriptors = descriptors
        self.admit = admit
    }

    func accepted(_ descriptor: CInt) {
        let loop = loops[next]
        next = (next + 1) % loops.count
        loop.eventLoop.execute { [admit] in admit(descriptor, loop.value) }
    }

    func acceptFailed(_ error: IOError) {
        if case .descriptors? = LocalShortage(error) {
            descriptors.noteShortage(now: NIODeadline.now().uptimeNanoseconds)
        }
    }

    var mayAccept: Bool { !descriptors.isShort(now: NIODeadline.now().uptimeNanoseconds) }
}
