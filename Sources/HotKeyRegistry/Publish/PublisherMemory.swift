import NIOConcurrencyHelpers

/// What one agent keeps in mind from leadership to leadership: give the same one to each of its publishers.
public final class PublisherMemory: Sendable {
    private let unanswered = NIOLockedValueBox(UnansweredPublications())

    public init() {}

    func note(_ bytes: Int, isAnswered: Bool) {
        unanswered.withLockedValue { isAnswered ? $0.answered(bytes) : $0.unanswered(bytes) }
    }

    func dropped() -> Int? { unanswered.withLockedValue { $0.dropped() } }
}

/// Tells publications that servers drop for their size from those that a broken connection cut off. Pure.
///
/// A server cuts the connection when a request is larger than its `jute.maxbuffer`. The coordinator steps down with every broken
/// connection, so a single publisher sees one such end and never a second:
///   1. it publishes, the connection breaks, it steps down and is gone
///   2. it connects again, leads again, finds the same heat and publishes the same
/// Without a memory it would do so for ever, and so would each agent that takes over.
struct UnansweredPublications: Sendable {
    private var count = 0
    /// Of the smallest.
    private var bytes = Int.max

    mutating func unanswered(_ bytes: Int) {
        guard bytes >= RegistryLimits.droppedRequestBytesMin else { return }
        count += 1
        self.bytes = min(self.bytes, bytes)
    }

    mutating func answered(_ bytes: Int) {
        if bytes >= self.bytes { self = UnansweredPublications() }
    }

    /// How large a publication was that seems to be dropped for its size, nil for none. The next try decides anew.
    mutating func dropped() -> Int? {
        guard count >= RegistryLimits.droppedRequestsMax else { return nil }
        count = RegistryLimits.droppedRequestsMax - 1
        return bytes
    }
}
