import NIOCore
import RESP

/// A read of a hot key that goes over the tracking connection of the key's home, on behalf of every event loop of the agent that
/// wants the same reply at that time. On the loop that owns the connection.
///
/// Joining one that is already under way must not undo a write:
///
///     loop 1 asks for k, and the node reads v1
///     a write of v2 is carried out and acknowledged through loop 2
///     a client reads k on loop 3, which joins loop 1's read: v1
///
/// A write is acknowledged only after every loop has dropped the key, the owner of this among them, and what is dropped is joined no
/// more (``NodeTracker/changed(_:)``). So loop 3, which hands its read over after that, finds nothing to join. For the same
/// reason nothing is joined across a change of the snapshot, between which writes of the key may have gone unnoticed
/// (``TrackingHub/endJoining()``).
final class TrackedFill: UpstreamRequest {
    let key: [UInt8]
    let command: [UInt8]
    let version: ProtocolVersion
    let sentAt: UInt64
    private let source: UInt32
    private let tracker: NodeTracker
    private var askers: [(TrackedOutcome) -> Void] = []
    /// The node did not take note of the read.
    private(set) var isUntracked = false

    init(_ question: TrackedQuestion, source: UInt32, sentAt: UInt64, tracker: NodeTracker) {
        key = question.key
        command = question.command
        version = question.version
        self.source = source
        self.sentAt = sentAt
        self.tracker = tracker
    }

    func add(_ asker: @escaping (TrackedOutcome) -> Void) { askers.append(asker) }

    /// What `CLIENT CACHING YES`, sent right before it, was answered.
    var announcement: UpstreamRequest {
        ClosureRequest(isHousekeeping: true) { [self] result in
            guard case .reply(let view, _) = result, view.isError else { return }
            isUntracked = true
            tracker.refused(view.errorText)
        }
    }

    override func receive(_ reply: ReplyView, sentAt: UInt64) {
        // Also `MOVED` and its like: the ordinary way knows what to do then.
        guard !isUntracked, !reply.isError || reply.isCommandError,
            let answer = TrackedReply.translate(reply, to: version)
        else { return end(.unavailable) }
        end(.reply(answer, sentAt: sentAt, source: source))
        tracker.answered(sentAt: sentAt)
    }

    override func fail(_ failure: UpstreamFailure, _ node: ProxyNode) { end(.unavailable) }

    private func end(_ outcome: TrackedOutcome) {
        tracker.ended(self)
        answer(outcome)
    }

    /// Whoever waits asks in the ordinary way; what still comes is nobody's.
    func giveUp() { answer(.unavailable) }

    private func answer(_ outcome: TrackedOutcome) {
        let askers = askers
        self.askers = []
        for asker in askers { asker(outcome) }
    }
}

/// What an event loop wants to read over a tracking connection.
struct TrackedQuestion: Sendable {
    let key: [UInt8]
    let command: [UInt8]
    let version: ProtocolVersion
    /// One that was sent longer ago than this brings nothing that is new enough.
    let ageNanosecondsMax: UInt64
    /// How long copies of the reply may live that the asker is going to fill; nil when it fills none.
    let copyLifetimeNanoseconds: UInt64?
}

enum TrackedOutcome: Sendable {
    /// - Parameter source: the number of the connection.
    case reply(ByteBuffer, sentAt: UInt64, source: UInt32)
    /// It must be asked for in the ordinary way; that this connection did not serve, or not soon, says nothing about the node.
    case unavailable
}

/// Replies of a tracking connection, which speaks RESP3, for clients of both versions.
enum TrackedReply {
    /// Commands whose reply in RESP2 is the one of RESP3 with other type bytes alone. Others are different there: nested pairs where
    /// RESP2 has a flat list (`ZRANGE … WITHSCORES`), numbers of another form, or nulls of arrays.
    private static let alike: Set<String> = [
        "GET", "GETRANGE", "SUBSTR", "STRLEN", "GETBIT", "BITCOUNT", "BITPOS", "MGET", "EXISTS", "TYPE",
        "HGET", "HMGET", "HGETALL", "HKEYS", "HVALS", "HLEN", "HEXISTS", "HSTRLEN",
        "LRANGE", "LINDEX", "LLEN", "SMEMBERS", "SISMEMBER", "SMISMEMBER", "SCARD",
        "ZCARD", "ZCOUNT", "ZLEXCOUNT", "ZRANGEBYLEX", "ZREVRANGEBYLEX",
    ]

    static func canServe(_ command: [UInt8], _ version: ProtocolVersion) -> Bool {
        guard version == .resp2 else { return true }
        return command.withUnsafeBytes { bytes in
            guard let words = ReplyElements.split(bytes), let name = words.first.flatMap(ReplyElements.bulk) else {
                return false
            }
            return alike.contains(String(decoding: name, as: UTF8.self))
        }
    }

    /// In memory of its own; nil when the bytes are no reply.
    static func translate(_ reply: ReplyView, to version: ProtocolVersion) -> ByteBuffer? {
        guard version == .resp2 else { return reply.copied() }
        switch reply.bytes[0] {
        case UInt8(ascii: "$"), UInt8(ascii: ":"), UInt8(ascii: "+"), UInt8(ascii: "-"): return reply.copied()
        case UInt8(ascii: "_"): return ProxyReply.nothing(.resp2)
        default: return (try? RESPValue(decoding: Array(reply.bytes))).map { ProxyReply.value($0, .resp2) }
        }
    }
}
