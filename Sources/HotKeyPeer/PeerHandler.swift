import NIOCore
import RESP

/// One command on its way to an agent.
struct PeerCall: Sendable {
    /// For messages: the command's first word.
    let name: String
    let request: ByteBuffer
    let timeoutMilliseconds: Int
    /// Completed once by the handler, or by the cancellation of whoever waits; NIO ignores the later of the two.
    let promise: EventLoopPromise<RESPValue>
}

/// Sends commands in the order in which they are written and gives each its reply. Lives on its event loop.
///
/// Replies carry no name, only an order. After a call that was not answered in time nothing behind it can be answered in
/// time either: the connection is closed and everything on it fails.
final class PeerHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = PeerCall
    typealias OutboundOut = ByteBuffer

    private let address: String
    private let replyBytesMax: Int
    private var pending = PendingCalls<PeerCall>()
    private var scanner = ReplyScanner()
    /// Bytes of a reply whose end has not come. Nil in between: idle connections, of which there are thousands, hold none.
    private var received: ByteBuffer?
    private var timer: (deadline: NIODeadline, task: Scheduled<Void>)?
    /// Why the connection ended; set once.
    private var end: PeerError?

    init(address: String, replyBytesMax: Int) {
        self.address = address
        self.replyBytesMax = replyBytesMax
    }

    // MARK: Out

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let call = unwrapOutboundIn(data)
        if let end {
            call.promise.fail(end)
            promise?.succeed(())
            return
        }
        guard pending.count < PeerLimits.callsInFlightMax else {
            call.promise.fail(
                error(
                    .tooManyInFlight,
                    "\(call.name) was not sent: \(PeerLimits.callsInFlightMax) calls are under way on this connection"))
            promise?.succeed(())
            return
        }
        let deadline = NIODeadline.now() + .milliseconds(Int64(call.timeoutMilliseconds))
        pending.append(call, deadline: deadline)
        arm(context, deadline)
        context.write(wrapOutboundOut(call.request), promise: promise)
    }

    // MARK: In

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        if var earlier = received.take() {
            earlier.writeBuffer(&bytes)
            bytes = earlier
        }
        do {
            while bytes.readableBytes > 0 {
                guard let length = try bytes.withUnsafeReadableBytes({ try scanner.scan($0) }) else {
                    guard bytes.readableBytes <= replyBytesMax else { throw tooLarge() }
                    received = bytes
                    return
                }
                guard length <= replyBytesMax else { throw tooLarge() }
                guard let call = pending.takeFirst() else {
                    throw error(.malformedReply, "it sent a reply to nothing: what listens there is no agent")
                }
                let reply = bytes.readSlice(length: length) ?? ByteBuffer()
                do {
                    call.promise.succeed(try RESPValue(decoding: reply))
                } catch {
                    call.promise.fail(self.error(.malformedReply, "its answer to \(call.name) is not RESP: \(error)"))
                    throw error
                }
            }
        } catch let error as PeerError {
            finish(context, error)
        } catch {
            finish(context, self.error(.malformedReply, "what it sent is not RESP: \(error)"))
        }
    }

    private func tooLarge() -> PeerError {
        error(.replyTooLarge, "an answer is longer than \(replyBytesMax) bytes; the connection was closed")
    }

    // MARK: Time

    /// One timer a connection, that of the earliest deadline it has seen. Answers do not move it: when it fires too early,
    /// it is set again.
    private func arm(_ context: ChannelHandlerContext, _ deadline: NIODeadline) {
        if let timer, timer.deadline <= deadline { return }
        timer?.task.cancel()
        let task = context.eventLoop.assumeIsolated().scheduleTask(deadline: deadline) { self.look(context) }
        timer = (deadline, task)
    }

    private func look(_ context: ChannelHandlerContext) {
        timer = nil
        if let late = pending.overdue(at: .now()) {
            finish(
                context,
                error(
                    .timedOut,
                    "no answer to \(late.name) within \(late.timeoutMilliseconds) ms; the connection was closed"))
        } else if let next = pending.nextDeadline {
            arm(context, next)
        }
    }

    // MARK: The end

    func channelInactive(context: ChannelHandlerContext) {
        finish(context, error(.closed, "the connection is closed"))
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        finish(context, self.error(.closed, "the connection broke: \(reasonText(of: error))"))
    }

    /// Fails everything under way, once: what comes later finds ``end``.
    private func finish(_ context: ChannelHandlerContext, _ error: PeerError) {
        guard end == nil else { return }
        end = error
        received = nil
        timer?.task.cancel()
        timer = nil
        for call in pending.takeAll() { call.promise.fail(error) }
        context.close(promise: nil)
    }

    private func error(_ code: PeerError.Code, _ message: String) -> PeerError {
        PeerError(code, address: address, message)
    }
}
