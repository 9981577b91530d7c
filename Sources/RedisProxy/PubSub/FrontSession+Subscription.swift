import NIOCore
import RESP

extension CommandTable {
    static let subscribe = redis70.commands.first { $0.name == "subscribe" }!
    static let unsubscribe = redis70.commands.first { $0.name == "unsubscribe" }!
}

/// `SUBSCRIBE` and its kin before several nodes.
extension FrontSession {
    /// Whether a client of RESP2 may send only what concerns its subscriptions.
    var isListening: Bool { !channels.isEmpty || listening != nil }

    func handleSubscription(_ spec: CommandSpec, _ command: UnsafeRawBufferPointer) {
        guard settle() else { return }
        let kind = SubscriptionCounts.Kind(spec)
        let names = (1..<max(1, arguments.count)).map { Array(argument($0, of: command)) }
        if spec.name.hasSuffix("unsubscribe") {
            leave(kind, names.isEmpty ? everything(kind) : names, verb: spec.name)
        } else {
            join(kind, names, verb: spec.name)
        }
        halt()
    }

    private func join(_ kind: SubscriptionCounts.Kind, _ names: [[UInt8]], verb: String) {
        guard names.count + (listening?.topics.count ?? 0) <= RedisProxyLimits.subscriptionsMax else {
            answer(
                error:
                    "ERR more than \(RedisProxyLimits.subscriptionsMax) subscriptions of one client; use patterns, or more connections"
            )
            return
        }
        var new: [Listening.Topic] = []
        var acknowledgements = ByteBuffer()
        for name in names {
            if isOwn(kind, name) {
                channels.insert(ProxyServer.hotKeyChannel)
                loop.subscribe(self, to: ProxyServer.hotKeyChannel)
            } else {
                let topic = Listening.Topic(kind: kind, name: name)
                if listening == nil { listening = Listening() }
                if listening!.insert(topic) { new.append(topic) }
            }
            acknowledgements.writeImmutableBuffer(acknowledgement(verb, kind, name))
        }
        let slot = reserveReply()
        guard !new.isEmpty else { return complete(slot, acknowledgements) }
        var left = new.count
        var failure: String?
        for topic in new {
            loop.hub.join(self, topic) { [self] error in
                failure = failure ?? error
                left -= 1
                guard left == 0 else { return }
                if let failure {
                    for topic in new { forget(topic) }
                    complete(slot, ProxyReply.error(failure))
                } else {
                    // Not before the acknowledgement is on its way: nothing else is asked, so it is not held back.
                    complete(slot, acknowledgements)
                    for topic in new { listening?.activate(topic) }
                }
            }
        }
    }

    private func leave(_ kind: SubscriptionCounts.Kind, _ names: [[UInt8]], verb: String) {
        var acknowledgements = ByteBuffer()
        var left = 1
        let slot = reserveReply()
        func done() {
            left -= 1
            if left == 0 { complete(slot, acknowledgements) }
        }
        if names.isEmpty { acknowledgements = acknowledgement(verb, kind, nil) }
        for name in names {
            if isOwn(kind, name) {
                channels.remove(ProxyServer.hotKeyChannel)
                loop.unsubscribe(self, from: ProxyServer.hotKeyChannel)
            } else {
                left += 1
                forget(Listening.Topic(kind: kind, name: name), done: done)
            }
            acknowledgements.writeImmutableBuffer(acknowledgement(verb, kind, name))
        }
        done()
    }

    private func forget(_ topic: Listening.Topic, done: @escaping () -> Void = {}) {
        guard listening?.remove(topic) == true else { return done() }
        if listening!.isEmpty { listening = nil }
        loop.hub.leave(self, topic, done: done)
    }

    /// `RESET`, or the client is gone.
    func leaveEverything(done: @escaping () -> Void = {}) {
        for channel in channels { loop.unsubscribe(self, from: channel) }
        channels = []
        guard let topics = listening?.topics else { return done() }
        var left = topics.count
        for topic in topics {
            forget(topic) {
                left -= 1
                if left == 0 { done() }
            }
        }
    }

    private func everything(_ kind: SubscriptionCounts.Kind) -> [[UInt8]] {
        let own = kind == .channel ? channels.sorted().map { Array($0.utf8) } : []
        return own + (listening?.topics ?? []).filter { $0.kind == kind }.map(\.name)
    }

    private func isOwn(_ kind: SubscriptionCounts.Kind, _ name: [UInt8]) -> Bool {
        kind == .channel && name.elementsEqual(ProxyServer.hotKeyChannel.utf8)
    }

    private func acknowledgement(_ verb: String, _ kind: SubscriptionCounts.Kind, _ name: [UInt8]?) -> ByteBuffer {
        let count =
            kind == .shard
            ? listening?.count(of: .shard) ?? 0
            : channels.count + (listening?.count(of: .channel) ?? 0) + (listening?.count(of: .pattern) ?? 0)
        let parts: [RESPValue] = [.bulk(verb), name.map { .bulk($0) } ?? .null, .integer(Int64(count))]
        return ProxyReply.value(version == .resp3 ? .push(parts) : .array(parts), version)
    }

    /// The client is owed what it has asked for and nothing more.
    func letGo() {
        // What waits for a client that does not read, or for another client, would wait for ever.
        if mayTakeMore, bound?.isWaiting != true { end() } else { close() }
    }
}
