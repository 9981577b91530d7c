import NIOCore
import RESP

/// A command on a connection that its client has for itself. It knows what the reply means for what the connection remembers,
/// and which keys must be dropped before the reply goes out.
///
/// Whether those keys are hot is asked when the reply comes: the command may have waited for long, and a change of the hot set
/// does not wait for it as it waits for what is on the shared connections.
final class BoundRequest: UpstreamRequest {
    let bound: BoundConnection
    let slot: UInt32
    let change: CarriedState.Change
    let wait: WaitLimit
    /// Whether it waits for another client's doing.
    let isBlocking: Bool
    var written: WrittenKeys
    /// For `SUBSCRIBE` and its kin: which, and how many names.
    let subscription: (kind: SubscriptionCounts.Kind, names: Int)?
    /// For `HELLO`: what holds after it.
    let hello: (version: ProtocolVersion?, name: [UInt8]?)?
    /// `SHUTDOWN`: Redis's reply is to hang up.
    let endsServer: Bool
    /// Before a Redis Cluster: what waits for other clients' doing may be sent elsewhere to wait on.
    var resend: BlockingResend?
    private var acknowledgementsLeft: Int?
    /// Acknowledgements so far.
    private var parts = ByteBuffer()
    /// Messages that came before the reply while the client's turn was at an older one.
    private var messages: ByteBuffer?

    init(
        bound: BoundConnection, slot: UInt32, change: CarriedState.Change, wait: WaitLimit, isBlocking: Bool,
        written: WrittenKeys,
        subscription: (kind: SubscriptionCounts.Kind, names: Int)? = nil,
        hello: (version: ProtocolVersion?, name: [UInt8]?)? = nil, endsServer: Bool = false
    ) {
        self.bound = bound
        self.slot = slot
        self.change = change
        self.wait = wait
        self.isBlocking = isBlocking
        self.written = written
        self.subscription = subscription
        self.hello = hello
        self.endsServer = endsServer
    }

    private var session: FrontSession { bound.session }
    private var loop: ProxyLoop { session.loop }

    override var streamPlace: (session: FrontSession, slot: UInt32)? {
        let isPlain = written.isEmpty && subscription == nil && messages == nil && parts.readableBytes == 0
        return isPlain ? (session, slot) : nil
    }

    override func waitLimitNanoseconds(_ normal: UInt64) -> UInt64? {
        guard let upload else { return wait.nanoseconds(normal) }
        // The client may take its time, the node may not.
        if upload.isRunning, !bound.connection.isCongested { return nil }
        return normal &+ (upload.progressAt &- upload.beganAt)
    }

    private var upload: (beganAt: UInt64, progressAt: UInt64, isRunning: Bool)?

    /// The command is still on its way from the client.
    func uploads(at now: UInt64) { upload = (upload?.beganAt ?? now, now, true) }
    func uploaded(at now: UInt64) { upload = (upload?.beganAt ?? now, now, false) }

    override func receive(_ reply: ReplyView, sentAt: UInt64) {
        if loop.cluster != nil {
            if isFollowed(reply) { return }
            if upload != nil, Redirection(reply.bytes)?.isElsewhere == true {
                _ = bound.answered(self, reply)
                return finish(ProxyReply.error(ProxyReply.uploadRedirected))
            }
        }
        let written = bound.answered(self, reply)
        let hot = loop.hotKeys(among: written)
        guard !hot.isEmpty else {
            if messages == nil, parts.readableBytes == 0 {
                session.complete(slot, reply)
            } else {
                finish(reply.detached())
            }
            return
        }
        let held = reply.detached()
        if reply.isRefusedWrite {
            loop.expireEverywhere(hot)
            finish(held)
        } else {
            loop.statistics.hotWrites &+= 1
            loop.invalidateEverywhere(hot) { self.finish(held) }
        }
    }

    override func fail(_ failure: UpstreamFailure, _ node: ProxyNode) {
        // Not acknowledged, so nothing is promised; yet it may have been carried out, and what is known may be old.
        bound.noteLoss(of: change)
        loop.expireEverywhere(loop.hotKeys(among: written))
        if endsServer { session.close() } else { finish(ProxyReply.error(failure.text(node))) }
    }

    private func finish(_ reply: ByteBuffer) {
        session.holds(-(messages?.readableBytes ?? 0))
        var whole = messages ?? ByteBuffer()
        if parts.readableBytes > 0 {
            whole.writeImmutableBuffer(parts)
        } else if messages == nil {
            whole = reply
        } else {
            whole.writeImmutableBuffer(reply)
        }
        session.complete(slot, whole)
    }

    /// One acknowledgement of several.
    /// - Returns: whether it was the last.
    func acknowledge(_ view: ReplyView, count: Int) -> Bool {
        guard let subscription else { return true }
        let left =
            (acknowledgementsLeft ?? bound.counts.acknowledgements(subscription.kind, names: subscription.names)) - 1
        acknowledgementsLeft = left
        bound.counts.acknowledged(subscription.kind, count: count)
        // The node does not know that this client listens to a channel of the agent's, too.
        let shown = count + (subscription.kind == .shard ? 0 : session.channels.count)
        if shown == count {
            parts.writeBytes(view.bytes)
        } else {
            let head = view.bytes[..<view.bytes.lastIndex(of: UInt8(ascii: ":"))!]
            parts.writeBytes(head)
            parts.writeString(":\(shown)\r\n")
        }
        return left <= 0
    }

    /// Passes on a message that came before this command's reply.
    func precede(with message: ReplyView) {
        if session.isNext(slot) {
            session.passOn(message)
        } else {
            var held = messages ?? ByteBuffer()
            held.writeBytes(message.bytes)
            messages = held
            session.holds(message.length)
        }
    }

    /// The client has everything that was asked for before this command.
    func letMessagesPass() {
        guard let held = messages, session.isNext(slot) else { return }
        messages = nil
        session.holds(-held.readableBytes)
        session.passOn(held)
    }
}
