import HotKeyTestSupport
import NIOCore
import NIOPosix
import RESP

/// A cache node for what no Redis does here: one whose clock is set without the machine's, and one that does not speak RESP or breaks
/// off.
final class StandInNode: Sendable {
    enum Manner: Sendable {
        case rubbish
        /// Keeps what it is given; its clock goes wrong by so many seconds.
        case clock
        /// Ends the connection in the middle of the reply to a `GET`, which is two replies' worth of bytes long.
        case breaksOff
        /// Answers a `GET` with 2 MiB, and sends the header of that in two pieces.
        case splitsHeaders
    }

    let port: Int
    private let group: MultiThreadedEventLoopGroup
    private let state: Guarded<State>

    struct State {
        let manner: Manner
        var values: [[UInt8]: [UInt8]] = [:]
        var clockOffsetSeconds = 0
        var timesAsked = 0
    }

    static func start(_ manner: Manner) async throws -> StandInNode {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let state = Guarded(State(manner: manner))
        let channel = try await ServerBootstrap(group: group)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(StandInHandler(state))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        return StandInNode(port: channel.localAddress!.port!, group: group, state: state)
    }

    private init(port: Int, group: MultiThreadedEventLoopGroup, state: Guarded<State>) {
        self.port = port
        self.group = group
        self.state = state
    }

    func setClock(offsetSeconds: Int) { state.with { $0.clockOffsetSeconds = offsetSeconds } }
    func value(_ key: String) -> String? {
        state.with { $0.values[Array(key.utf8)] }.map { String(decoding: $0, as: UTF8.self) }
    }
    var timesAsked: Int { state.with { $0.timesAsked } }
    func stop() async { try? await group.shutdownGracefully() }
}

private final class StandInHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let state: Guarded<StandInNode.State>
    private var parser = CommandParser()
    private var input = ByteBuffer()
    private var isInPieces = false

    init(_ state: Guarded<StandInNode.State>) { self.state = state }

    private func sendInPieces(_ context: ChannelHandlerContext, after output: ByteBuffer) {
        let size = 2 * 1024 * 1024
        var first = output
        first.writeString("$\(size)".prefix(4).description)
        context.writeAndFlush(wrapOutboundOut(first), promise: nil)
        var rest = ByteBuffer(string: "$\(size)".dropFirst(4) + "\r\n")
        rest.writeRepeatingByte(UInt8(ascii: "v"), count: size)
        rest.writeString("\r\n")
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        isInPieces = true
        context.eventLoop.scheduleTask(in: .milliseconds(50)) { [rest] in
            let (handler, context) = bound.value
            context.writeAndFlush(handler.wrapOutboundOut(rest), promise: nil)
            handler.isInPieces = false
            handler.serve(context)
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var more = unwrapInboundIn(data)
        input.writeBuffer(&more)
        if !isInPieces { serve(context) }
    }

    private func serve(_ context: ChannelHandlerContext) {
        var output = ByteBuffer()
        while let words = nextCommand() {
            let manner = state.with { $0.manner }
            if manner == .splitsHeaders, words[0] == Array("GET".utf8) {
                sendInPieces(context, after: output)
                return
            }
            guard manner == .breaksOff, words[0] == Array("GET".utf8) else {
                answer(words, &output)
                continue
            }
            output.writeString("$4096\r\nhalf a value\r\n+OK\r\n")
            let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
            context.writeAndFlush(wrapOutboundOut(output)).whenComplete { _ in bound.value.close(promise: nil) }
            return
        }
        context.writeAndFlush(wrapOutboundOut(output), promise: nil)
    }

    private func nextCommand() -> [[UInt8]]? {
        let parsed = input.withUnsafeReadableBytes { bytes -> (Int, [[UInt8]])? in
            guard case .command(let length)? = try? parser.parse(bytes) else { return nil }
            return (length, parser.arguments.map { Array(bytes[$0.offset..<$0.offset + $0.length]) })
        }
        guard let (length, words) = parsed else { return nil }
        input.moveReaderIndex(forwardBy: length)
        return words
    }

    private func answer(_ words: [[UInt8]], _ output: inout ByteBuffer) {
        let reply = state.with { state -> RESPValue? in
            if state.manner == .rubbish { return nil }
            switch String(decoding: words[0], as: UTF8.self) {
            case "GET": return state.values[words[1]].map { .bulk($0) } ?? .null
            case "SET":
                if words.contains(Array("NX".utf8)), state.values[words[1]] != nil { return .null }
                state.values[words[1]] = words[2]
                return .simpleString("OK")
            case "TIME":
                state.timesAsked += 1
                // Runs evenly from some day on.
                let microseconds =
                    Int(NIODeadline.now().uptimeNanoseconds / 1000) + (1_700_000_000 + state.clockOffsetSeconds)
                    * 1_000_000
                return .array([.bulk("\(microseconds / 1_000_000)"), .bulk("\(microseconds % 1_000_000)")])
            default: return .simpleString("PONG")
            }
        }
        if let reply { reply.write(to: &output, version: .resp2) } else { output.writeString("rubbish\r\n") }
    }
}
