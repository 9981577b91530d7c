import NIOCore

/// Tells a client that there are too many, and hangs up. Its connection can be written to only once it is active.
final class ClientRefusal: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    func channelActive(context: ChannelHandlerContext) {
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        context.writeAndFlush(wrapOutboundOut(ProxyReply.error("ERR max number of clients reached")))
            .whenComplete { _ in bound.value.close(promise: nil) }
    }
}
