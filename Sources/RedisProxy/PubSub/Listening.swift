/// What a client before several nodes listens to.
struct Listening {
    /// A channel, a pattern or a sharded channel.
    struct Topic: Hashable {
        var kind: SubscriptionCounts.Kind
        var name: [UInt8]
    }

    /// Asked for.
    private(set) var topics: Set<Topic> = []
    /// Acknowledged: only of these the client gets messages.
    private(set) var active: Set<Topic> = []
    private var counts: [SubscriptionCounts.Kind: Int] = [:]

    var isEmpty: Bool { topics.isEmpty }

    func count(of kind: SubscriptionCounts.Kind) -> Int { counts[kind] ?? 0 }

    mutating func insert(_ topic: Topic) -> Bool {
        guard topics.insert(topic).inserted else { return false }
        counts[topic.kind, default: 0] += 1
        return true
    }

    mutating func activate(_ topic: Topic) { if topics.contains(topic) { active.insert(topic) } }

    mutating func remove(_ topic: Topic) -> Bool {
        guard topics.remove(topic) != nil else { return false }
        active.remove(topic)
        counts[topic.kind]! -= 1
        return true
    }
}
