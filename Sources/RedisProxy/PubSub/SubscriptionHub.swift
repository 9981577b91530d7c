import NIOCore
import RESP

/// What the clients of one event loop listen to, before several nodes.
///
/// A channel lives on the node where a key of its name would; patterns are listened to on every node (before a Redis Cluster, which
/// passes messages on, on one). Clients share one connection
/// to each node, over which a name is subscribed to once however many listen: a thousand listeners to a channel cost a thousand
/// clients' connections to the agent and one to the node. (With a connection of its own for each client and node, as before one node,
/// they would cost a thousand times the number of nodes.) The price: `PUBLISH` and `PUBSUB NUMSUB` count event loops, not clients.
///
/// When a node's connection is lost, or a new topology moves a channel, the clients that listen there are let go, as Redis lets go
/// whom it loses: a broken connection is the only way in which a subscriber hears that it may have missed a message.
final class SubscriptionHub {
    private final class Entry {
        var members: [ObjectIdentifier: FrontSession] = [:]
        /// Called when every node has acknowledged, or with the first error's text.
        var waiting: [(String?) -> Void] = []
        let listeners: [NodeListener]
        var isHeld = false

        init(_ listeners: [NodeListener]) { self.listeners = listeners }
    }

    /// A cycle, broken by ``shutDown()``.
    private var loop: ProxyLoop?
    private var entries: [Listening.Topic: Entry] = [:]
    private var listeners: [ObjectIdentifier: NodeListener] = [:]
    private var ticks = 0

    init(loop: ProxyLoop) { self.loop = loop }

    var now: UInt64 { loop?.now ?? 0 }

    /// The nodes that are asked for a topic.
    private func nodes(of topic: Listening.Topic) -> [NodeState] {
        guard let loop else { return [] }
        let listensEverywhere = topic.kind == .pattern && loop.cluster == nil
        return listensEverywhere ? loop.nodes : [topic.name.withUnsafeBytes { loop.home($0) }]
    }

    /// A Redis Cluster passes messages to all its nodes, but for those of shards: whoever listens anywhere hears everything.
    private func isMoved(_ topic: Listening.Topic, _ entry: Entry, _ loop: ProxyLoop) -> Bool {
        if loop.hasOneNode { return true }
        let holders = Set(entry.listeners.map { ObjectIdentifier($0.node) })
        guard loop.cluster != nil, topic.kind != .shard else {
            return Set(nodes(of: topic).map(ObjectIdentifier.init)) != holders
        }
        return !holders.isSubset(of: loop.nodes.map(ObjectIdentifier.init))
    }

    // MARK: Clients

    /// - Parameter done: called with `nil` when messages come from now on, else with an error's text: then the session is no member.
    func join(_ session: FrontSession, _ topic: Listening.Topic, done: @escaping (String?) -> Void) {
        if let entry = entries[topic] {
            entry.members[ObjectIdentifier(session)] = session
            if entry.isHeld { done(nil) } else { entry.waiting.append(done) }
            return
        }
        let nodes = nodes(of: topic)
        for node in nodes {
            if let rejection = node.rejection() { return done(rejection.text(node.node)) }
        }
        let entry = Entry(nodes.map(listener))
        entry.members[ObjectIdentifier(session)] = session
        entry.waiting.append(done)
        entries[topic] = entry
        var left = entry.listeners.count
        var failure: String?
        for listener in entry.listeners {
            listener.subscribe(topic) { [self] error in
                failure = failure ?? error
                left -= 1
                if left == 0 { settle(topic, entry, failure) }
            }
        }
    }

    private func settle(_ topic: Listening.Topic, _ entry: Entry, _ failure: String?) {
        entry.isHeld = failure == nil
        if failure != nil, entries[topic] === entry {
            entries[topic] = nil
            for listener in entry.listeners where isOpen(listener) { listener.unsubscribe(topic) { _ in } }
        }
        let waiting = entry.waiting
        entry.waiting = []
        for each in waiting { each(failure) }
    }

    /// - Parameter done: called when no node counts this session any more.
    func leave(_ session: FrontSession, _ topic: Listening.Topic, done: @escaping () -> Void = {}) {
        guard let entry = entries[topic], entry.members.removeValue(forKey: ObjectIdentifier(session)) != nil,
            entry.members.isEmpty
        else { return done() }
        entries[topic] = nil
        let open = entry.listeners.filter(isOpen)
        var left = open.count
        if left == 0 { done() }
        for listener in open {
            listener.unsubscribe(topic) { _ in
                left -= 1
                if left == 0 { done() }
            }
        }
    }

    /// A node has sent a message: RESP2, which is RESP3 but for the first byte.
    func deliver(_ message: UnsafeRawBufferPointer, to topic: Listening.Topic) {
        guard let entry = entries[topic] else { return }
        let text = ByteBuffer(bytes: message)
        var push = text
        push.setInteger(UInt8(ascii: ">"), at: push.readerIndex)
        for session in Array(entry.members.values) where session.listening?.active.contains(topic) == true {
            session.push(session.version == .resp3 ? push : text)
        }
    }

    // MARK: Nodes

    private func listener(_ node: NodeState) -> NodeListener {
        if let known = listeners[ObjectIdentifier(node)] { return known }
        let new = NodeListener(node: node, hub: self)
        listeners[ObjectIdentifier(node)] = new
        return new
    }

    private func isOpen(_ listener: NodeListener) -> Bool { listeners[ObjectIdentifier(listener.node)] === listener }

    func lost(_ listener: NodeListener) {
        guard isOpen(listener) else { return }
        listeners[ObjectIdentifier(listener.node)] = nil
        // Who still waits for an acknowledgement has been told, or will be.
        end(
            where: { $1.listeners.contains { $0 === listener } },
            lettingGo: { $0.listening?.active.contains($1) == true })
    }

    func topologyChanged() {
        guard let loop else { return }
        end(where: { isMoved($0, $1, loop) }, lettingGo: { _, _ in true })
    }

    private func end(
        where isMeant: (Listening.Topic, Entry) -> Bool, lettingGo isLetGo: (FrontSession, Listening.Topic) -> Bool
    ) {
        for (topic, entry) in entries where isMeant(topic, entry) {
            // The next client to ask for it begins anew.
            entries[topic] = nil
            for listener in entry.listeners where isOpen(listener) { listener.unsubscribe(topic) { _ in } }
            for session in Array(entry.members.values) where isLetGo(session, topic) { session.letGo() }
        }
    }

    func tick() {
        ticks += 1
        guard ticks % RedisProxyLimits.listenerProbeTicks == 0 else { return }
        for (key, listener) in listeners {
            if listener.topics.isEmpty, loop?.nodes.contains(where: { $0 === listener.node }) != true {
                listeners[key] = nil
                listener.close()
            } else {
                listener.probe()
            }
        }
    }

    func shutDown() {
        loop = nil
        for listener in listeners.values { listener.close() }
        listeners = [:]
        entries = [:]
    }
}
