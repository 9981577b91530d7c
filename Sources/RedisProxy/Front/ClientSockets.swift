import Glibc
import NIOCore
import NIOPosix

extension ServerBootstrap {
    /// What the sockets of TCP clients are set to.
    func tcpClientOptions() -> ServerBootstrap {
        childChannelOption(.socketOption(.tcp_nodelay), value: 1)
            .childChannelOption(.socketOption(.so_keepalive), value: 1)
            .childChannelOption(.tcpOption(.init(rawValue: TCP_KEEPIDLE)), value: RedisProxyLimits.keepAliveSeconds)
            .childChannelOption(
                .tcpOption(.init(rawValue: TCP_KEEPINTVL)), value: RedisProxyLimits.keepAliveIntervalSeconds
            )
            .childChannelOption(.tcpOption(.init(rawValue: TCP_KEEPCNT)), value: RedisProxyLimits.keepAliveProbes)
    }
}

/// Accepts nothing while descriptors are short. A process that has none left cannot accept, and the connection that it cannot take
/// keeps the listener readable: without a pause the event loop would spin. `AcceptBackoffHandler` of SwiftNIO 2.101 does not help:
/// the read that failed stays pending, so the channel stays registered for reading.
final class AcceptPause: ChannelInboundHandler {
    typealias InboundIn = any Channel

    private let descriptors: DescriptorReserve
    private var isPausing = false
    private var hasEnded = false

    init(descriptors: DescriptorReserve) {
        self.descriptors = descriptors
    }

    /// The listener is about to be closed: a pause that ends now must not open it once more.
    func end() { hasEnded = true }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        context.fireChannelRead(data)
        if isShort { pause(context) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let error = error as? IOError else { return }
        if case .descriptors? = LocalShortage(error) {
            descriptors.noteShortage(now: NIODeadline.now().uptimeNanoseconds)
        }
        pause(context)
    }

    private var isShort: Bool { descriptors.isShort(now: NIODeadline.now().uptimeNanoseconds) }

    private func pause(_ context: ChannelHandlerContext) {
        guard !isPausing else { return }
        isPausing = true
        setReading(context, false)
        context.eventLoop.assumeIsolated().scheduleTask(
            in: .milliseconds(RedisProxyLimits.acceptPauseMilliseconds)
        ) { [self] in
            isPausing = false
            guard !hasEnded, context.channel.isActive else { return }
            if isShort { pause(context) } else { setReading(context, true) }
        }
    }

    private func setReading(_ context: ChannelHandlerContext, _ reads: Bool) {
        // Only a channel of another kind than a socket has no such option.
        try? context.channel.syncOptions?.setOption(.autoRead, value: reads)
    }
}
