import Glibc
import HotKeyTestSupport
import NIOCore
import Testing

@testable import SocketIO

/// Connections with handlers between socket and owner, as TLS puts them there.
@Suite struct SecureChannels {
    /// Turns every bit over on the way in and out. At `0xff`, on the wire, it ends as TLS does when told so: with an error.
    private final class Flip: ChannelDuplexHandler {
        typealias InboundIn = ByteBuffer
        typealias InboundOut = ByteBuffer
        typealias OutboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        struct Alert: Error {}

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = flipped(unwrapInboundIn(data))
            if bytes.readableBytesView.contains(0) { return context.fireErrorCaught(Alert()) }
            context.fireChannelRead(wrapInboundOut(bytes))
        }

        func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
            context.write(wrapOutboundOut(flipped(unwrapOutboundIn(data))), promise: promise)
        }

        private func flipped(_ buffer: ByteBuffer) -> ByteBuffer {
            ByteBuffer(bytes: buffer.readableBytesView.map { ~$0 })
        }
    }

    private func securePair(
        on loop: SocketEventLoop, allowsHalfClosure: Bool = true, taking: @escaping @Sendable (Int) -> Int = { $0 }
    ) async throws -> Pair {
        let pair = try await Pair(on: loop, allowsHalfClosure: allowsHalfClosure, taking: taking)
        try await pair.onLoop { connection in
            try connection.secure { try $0.pipeline.syncOperations.addHandler(Flip()) }
        }
        return pair
    }

    private func flip(_ bytes: [UInt8]) -> [UInt8] { bytes.map { ~$0 } }

    @Test func passesBytesThroughItsHandlers() async throws {
        try await withLoop { loop in
            let pair = try await securePair(on: loop) { $0 / 1000 * 1000 }
            let bytes = pattern(100_000).map { $0 | 1 }
            pair.sendFar(flip(bytes))
            try await eventually("everything has come") { pair.seen.now.bytes.count == bytes.count }
            #expect(pair.seen.now.bytes == bytes)
            try await pair.onLoop { $0.writeAndFlush(ByteBuffer(bytes: bytes)) }
            #expect(pair.receiveFar(bytes.count) == flip(bytes))
        }
    }

    /// Half a command is left unread when the other side ends.
    @Test(arguments: [true, false])
    func endsWithBytesUnread(_ allowsHalfClosure: Bool) async throws {
        try await withLoop { loop in
            let pair = try await securePair(on: loop, allowsHalfClosure: allowsHalfClosure) { _ in 0 }
            pair.sendFar(flip([1, 2, 3]))
            shutdown(pair.far, CInt(SHUT_WR))
            try await eventually("the end has been seen") {
                allowsHalfClosure ? pair.seen.now.inputEnds == 1 : pair.seen.now.closes == 1
            }
            #expect(pair.seen.now.bytes.isEmpty)
        }
    }

    @Test func endsOnlyWhenEverythingHasBeenSent() async throws {
        for endsAll in [true, false] {
            try await withLoop { loop in
                let pair = try await securePair(on: loop)
                let bytes = pattern(2_000_000)
                try await pair.onLoop { connection in
                    connection.writeAndFlush(ByteBuffer(bytes: bytes))
                    if endsAll { connection.closeAfterWrites() } else { connection.endOutputAfterWrites() }
                }
                #expect(pair.receiveFar(bytes.count + 1) == flip(bytes))
                if endsAll {
                    try await eventually("it has ended") { pair.seen.now.ends == ["closed"] }
                } else {
                    pair.sendFar(flip([5]))
                    try await eventually("it still reads") { pair.seen.now.bytes == [5] }
                }
            }
        }
    }

    @Test func tellsWhyItsHandlersGaveUp() async throws {
        try await withLoop { loop in
            let pair = try await securePair(on: loop)
            pair.sendFar([0xff])
            try await eventually("it has ended") { pair.seen.now.ends == ["Alert()"] }
        }
    }

    /// What the other side said before it closed is the reason, not that nothing could be written any more.
    @Test func readsTheReasonBeforeItEndsForAFailedWrite() async throws {
        try await withLoop { loop in
            let pair = try await securePair(on: loop)
            try await pair.onLoop { connection in
                pair.sendFar([0xff])
                shutdown(pair.far, CInt(SHUT_RDWR))
                connection.writeAndFlush(ByteBuffer(bytes: [1]))
            }
            try await eventually("it has ended") { pair.seen.now.ends == ["Alert()"] }
        }
    }

    @Test(arguments: [true, false])
    func leavesNothingBehind(_ isSecured: Bool) async throws {
        try await withLoop { loop in
            let pair = isSecured ? try await securePair(on: loop) : try await Pair(on: loop)
            let kept = try await pair.onLoop { _ in NIOLoopBound(WeakConnection(pair.connection), eventLoop: loop) }
            pair.sendFar(flip([1]))
            try await eventually("it has been read") { !pair.seen.now.bytes.isEmpty }
            try await pair.onLoop { connection in
                connection.close()
                pair.forget()
            }
            try await eventually("it is gone") { try await loop.submit { kept.value.connection == nil }.get() }
        }
    }

    private final class WeakConnection {
        weak var connection: SocketConnection?
        init(_ connection: SocketConnection) { self.connection = connection }
    }
}
