import HotKeyMitigation
import NIOCore
import RESP

/// What a client sees of a Redis Cluster, which is to be a single server.
extension FrontSession {
    /// Whether all keys are in one slot; if not, the command has been answered. A node refuses keys of two slots even when it serves
    /// both.
    func areInOneSlot(_ spec: CommandSpec, _ keys: [UnsafeRawBufferPointer]) -> Bool {
        guard let first = keys.first else { return true }
        let slot = ClusterSlot.of(first)
        for key in keys.dropFirst() {
            let other = ClusterSlot.of(key)
            if other != slot {
                answer(error: ProxyReply.differentSlots(spec.name, first, in: slot, key, in: other))
                return false
            }
        }
        return true
    }

    /// Whether it is known where keys live; if not, the command has been answered. For what takes a connection of its own: other
    /// commands wait.
    func knowsSlots() -> Bool {
        guard let cluster = loop.cluster, !cluster.hasMap else { return true }
        answer(error: ClusterState.slotsAreUnknown)
        return false
    }

    /// Redis's own answer to commands about its cluster where it is in none.
    func clusterDisabled(_ spec: CommandSpec) -> String? {
        guard loop.cluster != nil, spec.name.hasPrefix("cluster") || Self.ofClusterClients.contains(spec.name) else {
            return nil
        }
        return "ERR This instance has cluster support disabled"
    }

    private static let ofClusterClients: Set = ["asking", "readonly", "readwrite"]

    /// Sends a command that waits for other clients' doing to where its keys are now.
    fileprivate func wait(_ old: BoundRequest, _ resend: BlockingResend, at target: ClusterState.Target) {
        // Nothing may be taken from a list for a client that has gone.
        guard connection != nil, !loop.isShutDown else { return }
        if hasClosedItsSide { return close() }
        guard let cluster = loop.cluster, let node = cluster.node(for: target, slot: resend.keys.slot) else {
            return complete(old.slot, resend.refusal)
        }
        let bound = bind(to: node, keys: resend.keys.keys)
        if case .node(_, isAsking: true) = target { asking.withUnsafeReadableBytes { bound.sendAside($0) } }
        let request = BoundRequest(
            bound: bound, slot: old.slot, change: old.change, wait: old.wait, isBlocking: true, written: old.written)
        request.resend = resend
        resend.command.withUnsafeBytes { bound.send($0, request) }
    }
}

/// What is kept of a command that waits for other clients' doing, to send it where its keys have gone.
struct BlockingResend {
    let command: [UInt8]
    let keys: CommandKeys
    var sentAt: UInt64
    /// Since when one redirection has followed the other.
    var redirectedAt: UInt64 = 0
    var timesResent = 0
    var refusal = ByteBuffer()
}

extension BoundRequest {
    private var loop: ProxyLoop { bound.session.loop }

    /// In a transaction, or while keys are watched, a redirection is the client's to see: the rest of the transaction is elsewhere
    /// then.
    func keepForResend(_ command: UnsafeRawBufferPointer) {
        guard isBlocking, bound.anchor == nil else { return }
        let bytes = Array(command)
        resend = BlockingResend(command: bytes, keys: CommandKeys(bytes), sentAt: loop.now)
    }

    /// Takes note of a redirection, and follows it where that is for the agent to do.
    func isFollowed(_ reply: ReplyView) -> Bool {
        guard let cluster = loop.cluster, !loop.isShutDown, let redirection = Redirection(reply.bytes) else {
            return false
        }
        let (refusal, target) = cluster.note(redirection, from: bound.node)
        guard var resend, resend.keys.slot != nil, bound.session.bound === bound else { return false }
        // A command may have waited for hours before its keys went elsewhere.
        let hasWaited = loop.now - resend.sentAt > RedisProxyLimits.resendPauseNanosecondsMax
        if resend.timesResent == 0 || hasWaited {
            resend.redirectedAt = loop.now
            resend.timesResent = 0
        }
        let decision = ResendDecision(
            refusal, isRead: resend.keys.isRead, resends: resend.timesResent, elapsed: loop.now - resend.redirectedAt,
            budget: UInt64(loop.configuration.requestTimeoutMilliseconds) * 1_000_000)
        guard case .resend(let pause) = decision else { return false }
        resend.timesResent += 1
        resend.sentAt = loop.now + pause
        resend.refusal = reply.detached()
        let (session, next) = (bound.session, resend)
        bound.release()
        loop.statistics.clusterResends &+= 1
        loop.later(pause) { session.wait(self, next, at: target) }
        return true
    }
}

private let asking = ByteBuffer(string: "*1\r\n$6\r\nASKING\r\n")
