import NIOCore
import RESP

/// Takes what a node sends unasked for, over a connection that is there for it.
protocol PushListener: AnyObject {
    /// Takes a message; false when the value answers a command.
    func take(_ value: UnsafeRawBufferPointer) -> Bool
    /// The connection has ended, and what was asked on it has failed.
    func lost()
}

/// One event loop's connection to one node for everything its clients listen to there.
///
/// It speaks RESP2 and subscribes to one name a command, so that every reply answers one command; what begins with `message` or its
/// kin is a message and no reply.
final class NodeListener: PushListener {
    let node: NodeState
    /// A cycle, broken by ``lost()``.
    private let hub: SubscriptionHub
    private let connection: UpstreamConnection
    /// What it has asked the node for and not left since.
    private(set) var topics: Set<Listening.Topic> = []

    init(node: NodeState, hub: SubscriptionHub) {
        self.node = node
        self.hub = hub
        connection = UpstreamConnection(node: node, version: .resp2, isDedicated: true)
        node.dedicated[ObjectIdentifier(connection)] = (connection, [])
        connection.listener = self
        connection.connect()
    }

    /// - Parameter done: called with `nil` when the node has acknowledged, else with the error's text.
    func subscribe(_ topic: Listening.Topic, done: @escaping (String?) -> Void) {
        topics.insert(topic)
        send([topic.kind.prefix + "SUBSCRIBE"], topic.name, done)
    }

    func unsubscribe(_ topic: Listening.Topic, done: @escaping (String?) -> Void) {
        topics.remove(topic)
        send([topic.kind.prefix + "UNSUBSCRIBE"], topic.name, done)
    }

    /// Finds out whether the node is still there: it sends nothing unasked for, and a message that is lost in silence is worse than a
    /// broken connection.
    func probe() {
        if connection.pendingCount == 0 { send(["PING"], nil) { _ in } }
    }

    private func send(_ verb: [String], _ name: [UInt8]?, _ done: @escaping (String?) -> Void) {
        var command = ByteBuffer()
        RESPWriter.writeCommand(verb.map { Array($0.utf8) } + (name.map { [$0] } ?? []), to: &command)
        let node = node.node
        let request = ClosureRequest { result in
            switch result {
            case .reply(let view, _): done(view.isError ? view.errorText : nil)
            case .failure(let failure): done(failure.text(node))
            }
        }
        let entry = PendingReply(target: .request(request), counter: 0, sentAt: hub.now, isProbe: false)
        let isSent = command.withUnsafeReadableBytes { connection.send($0, entry) }
        if !isSent { done(UpstreamFailure.overloaded(isAnswering: true).text(node)) }
    }

    func take(_ value: UnsafeRawBufferPointer) -> Bool {
        guard case .message? = Announcement(value), let parts = ReplyElements.split(value), parts.count >= 3,
            let word = ReplyElements.bulk(parts[0]), let name = ReplyElements.bulk(parts[1])
        else { return false }
        let kind: SubscriptionCounts.Kind =
            word.elementsEqual("pmessage".utf8) ? .pattern : word.elementsEqual("smessage".utf8) ? .shard : .channel
        hub.deliver(value, to: Listening.Topic(kind: kind, name: Array(name)))
        return true
    }

    func lost() { hub.lost(self) }

    /// Ends it without harm to anyone.
    func close() {
        connection.listener = nil
        connection.close(.connectionLost)
    }
}

extension SubscriptionCounts.Kind {
    /// What `SUBSCRIBE` begins with.
    var prefix: String {
        switch self {
        case .channel: ""
        case .pattern: "P"
        case .shard: "S"
        }
    }
}
