import NIOCore
import NIOPosix

/// Accepts connections and answers whatever arrives with the same bytes, piece by piece: what no real server can be made
/// to send.
final class CannedServer: Sendable {
    let port: Int
    private let channel: any Channel

    private init(_ channel: any Channel) {
        self.channel = channel
        port = channel.localAddress?.port ?? 0
    }

    /// - Parameter greeting: sent without being asked.
    static func start(answer: String, inPiecesOf pieceBytes: Int = .max, greeting: String = "") async throws
        -> CannedServer
    {
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        Answerer(answer: Array(answer.utf8), pieceBytes: pieceBytes, greeting: Array(greeting.utf8)))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        return CannedServer(channel)
    }

    func stop() async { try? await channel.close() }

    private final class Answerer: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer
        private let answer: [UInt8]
        private let pieceBytes: Int
        private let greeting: [UInt8]

        init(answer: [UInt8], pieceBytes: Int, greeting: [UInt8]) {
            self.answer = answer
            self.pieceBytes = pieceBytes
            self.greeting = greeting
        }

        func channelActive(context: ChannelHandlerContext) {
            guard !greeting.isEmpty else { return }
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: greeting)), promise: nil)
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) { send(answer[...], context) }

        /// The next piece goes when the kernel has taken the one before.
        private func send(_ rest: ArraySlice<UInt8>, _ context: ChannelHandlerContext) {
            guard !rest.isEmpty else { return }
            let piece = rest.prefix(pieceBytes)
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: piece)))
                .assumeIsolated().whenSuccess { self.send(rest.dropFirst(piece.count), context) }
        }
    }
}
