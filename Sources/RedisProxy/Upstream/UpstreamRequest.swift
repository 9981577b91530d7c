import RESP

/// Why a command got no reply from its node.
enum UpstreamFailure {
    /// The breaker is open: nothing was sent.
    case down(retryInMilliseconds: Int64)
    case cannotConnect
    /// The node was not even tried: the agent's own process or host has no more of something. Nothing was sent.
    case localShortage(LocalShortage)
    /// The node could be reached, and would not or could not serve this agent: TLS, or the login. Nothing was sent.
    case notAdmitted(String)
    case connectionLost
    case timeout
    case malformedReply
    /// Too much waits for the node already: nothing was sent.
    /// - Parameter isAnswering: whether the node has answered anything lately.
    case overloaded(isAnswering: Bool)
    /// The node answered that it serves nobody now; its own error text.
    case notServing(String)
    /// The topology changed while the command waited on the node.
    case keysMoved

    /// Whether the node could not be reached for its answer, which is what lets a value past its lifetime stand in. A node that
    /// is only busy with this agent's own commands, or answers rubbish, is there: whoever asks must be told.
    var meansUnreachable: Bool {
        switch self {
        case .down, .cannotConnect, .localShortage, .notAdmitted, .connectionLost, .timeout, .notServing: true
        case .overloaded(let isAnswering): !isAnswering
        case .malformedReply, .keysMoved: false
        }
    }

    func text(_ node: ProxyNode) -> String {
        switch self {
        case .down(let milliseconds): ProxyReply.nodeDown(node, retryInMilliseconds: milliseconds)
        case .cannotConnect: ProxyReply.nodeFailed(node, "cannot be reached")
        case .localShortage(let shortage): shortage.text(node)
        case .notAdmitted(let reason): ProxyReply.nodeRefused(node, reason)
        case .connectionLost: ProxyReply.nodeFailed(node, "closed the connection")
        case .timeout: ProxyReply.nodeFailed(node, "did not answer in time")
        case .malformedReply: ProxyReply.nodeFailed(node, "sent a reply that is not RESP")
        case .overloaded: ProxyReply.nodeBusy(node)
        case .notServing(let text): text
        case .keysMoved: ProxyReply.keysMoved(node)
        }
    }
}

/// A command on its way to a node that needs more than its reply passed on. Completed exactly once: by one call of
/// ``receive(_:sentAt:)`` or of ``fail(_:_:)``.
class UpstreamRequest {
    func receive(_ reply: ReplyView, sentAt: UInt64) {}
    func fail(_ failure: UpstreamFailure, _ node: ProxyNode) {}
    /// Whether its reply says that the key has no value.
    func isMiss(_ reply: ReplyView) -> Bool { reply.isNull }
    /// Where its reply goes as it is: a large one goes there while it still arrives. ``receive(_:sentAt:)`` follows at its end, with the
    /// header alone.
    var streamPlace: (session: FrontSession, slot: UInt32)? { nil }
    /// How long it may take on a connection of one client's own, where an ordinary reply may take `normal`; `nil`: for ever. On a
    /// shared connection `normal` holds for everything.
    func waitLimitNanoseconds(_ normal: UInt64) -> UInt64? { normal }
    /// The client whose command it is, if it is one's.
    var asker: FrontSession? { nil }
    /// Whether the agent asks it for itself and nobody waits for the answer.
    var isHousekeeping: Bool { false }
    /// Whether it has another answer ready when its node serves nobody, so that it is not to wait for the node.
    var hasFallback: Bool { false }
}

/// Passes its reply to a sink; nothing else, unless one derived from it looks at the reply first.
class ForwardedRequest: UpstreamRequest {
    private let sink: ReplySink

    init(_ sink: ReplySink) {
        self.sink = sink
    }

    override func receive(_ reply: ReplyView, sentAt: UInt64) { sink.deliver(reply) }
    override func fail(_ failure: UpstreamFailure, _ node: ProxyNode) { sink.fail(failure.text(node)) }
    override var asker: FrontSession? { sink.session }
    override var streamPlace: (session: FrontSession, slot: UInt32)? {
        if case .slot(let session, let slot) = sink { (session, slot) } else { nil }
    }
}

/// Hands its reply to a closure; for what the loop itself asks nodes.
final class ClosureRequest: UpstreamRequest {
    private let body: (Result) -> Void
    enum Result {
        case reply(ReplyView, sentAt: UInt64)
        case failure(UpstreamFailure)
    }

    private let isOwn: Bool

    init(isHousekeeping: Bool = false, _ body: @escaping (Result) -> Void) {
        isOwn = isHousekeeping
        self.body = body
    }

    override var isHousekeeping: Bool { isOwn }

    override func receive(_ reply: ReplyView, sentAt: UInt64) { body(.reply(reply, sentAt: sentAt)) }
    override func fail(_ failure: UpstreamFailure, _ node: ProxyNode) { body(.failure(failure)) }
}

/// One entry of a connection's queue of unanswered commands. The common case, a reply that goes to one client unchanged,
/// needs no object of its own.
struct PendingReply {
    enum Target {
        /// While the entry is queued, the session counts it in ``FrontSession/awaitedReplies`` and is kept for it; before and after, whoever
        /// made it has the session in hand.
        case client(Borrowed<FrontSession>, UInt32)
        case request(UpstreamRequest)
        /// Nobody wants the reply: our own `HELLO`.
        case nobody
    }
    let target: Target
    /// What the recorder wants to be told the reply's size under; 0 for nothing.
    let counter: UInt64
    let sentAt: UInt64
    /// Whether this command is a probe of a half-open breaker.
    let isProbe: Bool

    /// Whether somebody else than this client waits for the reply.
    func isAwaited(besides session: FrontSession) -> Bool {
        switch target {
        case .client(let other, _): other.object !== session
        case .request(let request): request.asker.map { $0 !== session } ?? !request.isHousekeeping
        case .nobody: false
        }
    }

    /// Whose client waits for the reply, if one does.
    var asker: FrontSession? {
        switch target {
        case .client(let session, _): session.object
        case .request(let request): request.asker
        case .nobody: nil
        }
    }

    var streamPlace: (session: FrontSession, slot: UInt32)? {
        switch target {
        case .client(let session, let slot): (session.object, slot)
        case .request(let request): request.streamPlace
        case .nobody: nil
        }
    }

    /// Neither load nor a sign of health: it is not counted.
    var isOwnHandshake: Bool {
        if case .nobody = target { return true }
        return false
    }
}
