import HotKeyMitigation
import NIOCore
import RESP

/// A command that may change hot keys: it reaches home first, then no old value may be left where this agent reads, then it is
/// answered.
///
/// The order matters. Copies get their tombstones before local values are dropped, because of this:
///
///     the local value is dropped; a read misses and finds v1 in a copy: the local cache holds v1 again
///     the copy gets its tombstone; the write of v2 is acknowledged; the next read finds v1 locally
///
/// Dropped last, the local fill that read the copy too early is ended with it.
final class HotWrite: UpstreamRequest {
    private let session: FrontSession
    private let keys: [[UInt8]]
    private let sink: ReplySink
    private var loop: ProxyLoop { session.loop }

    init(session: FrontSession, keys: [[UInt8]], sink: ReplySink) {
        self.session = session
        self.keys = keys
        self.sink = sink
        session.hotWritesUnderWay += 1
    }

    func send(_ command: UnsafeRawBufferPointer, to node: NodeState, _ version: ProtocolVersion, counter: UInt64) {
        if let failure = node.send(command, .request(self), version, client: session.id, counter: counter) {
            session.hotWritesUnderWay -= 1
            sink.fail(failure.text(node.node))
        }
    }

    override var asker: FrontSession? { session }

    override func receive(_ reply: ReplyView, sentAt: UInt64) {
        let held = reply.detached()
        if reply.isRefusedWrite {
            // What is known stays for as long as the home answers nobody.
            loop.expireEverywhere(keys)
            session.hotWritesUnderWay -= 1
            sink.deliver(held)
            return
        }
        loop.statistics.hotWrites &+= 1
        loop.invalidateEverywhere(keys) { [session, sink] in
            session.hotWritesUnderWay -= 1
            sink.deliver(held)
        }
    }

    override func fail(_ failure: UpstreamFailure, _ node: ProxyNode) {
        // Not acknowledged, so nothing is promised; yet the write may have happened, and what is known may be old.
        loop.expireEverywhere(keys)
        session.hotWritesUnderWay -= 1
        sink.fail(failure.text(node))
    }
}
