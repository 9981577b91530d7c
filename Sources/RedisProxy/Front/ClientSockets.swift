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

/// A process that has no file descriptor left cannot accept, and the connection that it cannot take keeps the listener readable:
/// without a pause the event loop would spin. `AcceptBackoffHandler` of SwiftNIO 2.101 does not help: the read that failed stays
/// pending, so the channel stays registered for reading.
final class AcceptPause: ChannelInboundHandler {
    typealias InboundIn = any Channel

    private var isPausing = false
    private var hasEnded = false

    /// The listener is about to be closed: a pause that ends now must not open it once more.
    func end() { hasEnded = true }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard error is IOError, !isPausing else { return }
        isPausing = true
        setReading(context, false)
        context.eventLoop.assumeIsolated().scheduleTask(
            in: .milliseconds(RedisProxyLimits.acceptPauseMilliseconds)
        ) { [self] in
            isPausing = false
            if !hasEnded, context.channel.isActive { setReading(context, true) }
        }
    }

    private func setReading(_ context: ChannelHandlerContext, _ reads: Bool) {
        // Only a channel of another kind than a socket has no such option.
        try? context.channel.syncOptions?.setOption(.autoRead, value: reads)
    }
}
