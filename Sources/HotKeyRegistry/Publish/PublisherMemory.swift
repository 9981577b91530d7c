import NIOConcurrencyHelpers

/// What one agent keeps in mind from leadership to leadership: give the same one to each of its publishers.
public final class PublisherMemory: Sendable {
    private let unanswered = NIOLockedValueBox(UnansweredPublications())
    private let rate = NIOLockedValueBox(TransactionRate())

    public init() {}

    /// What one transaction may hold.
    var multiBytesMax: Int { unanswered.withLockedValue { $0.multiBytesMax } }

    func answered(_ bytes: Int) { unanswered.withLockedValue { $0.answered(bytes) } }
    func unanswered(_ bytes: Int) { unanswered.withLockedValue { $0.unanswered(bytes) } }
    func dropped() -> UnansweredPublications.Dropped? { unanswered.withLockedValue { $0.dropped() } }

    /// How long the next transaction has to wait, nil for not at all.
    func wait(at now: ContinuousClock.Instant) -> Duration? { rate.withLockedValue { $0.wait(at: now) } }
    func noteTransaction(answeredAt now: ContinuousClock.Instant) { rate.withLockedValue { $0.note(answeredAt: now) } }
}

/// Tells publications that servers drop for their size from those that a broken connection cut off, and finds out what they
/// take. Pure.
///
/// A server cuts the connection when a request is larger than its `jute.maxbuffer`. The coordinator steps down with every broken
/// connection, so a single publisher sees one such end and never a second:
///   1. it publishes, the connection breaks, it steps down and is gone
///   2. it connects again, leads again, finds the same heat and publishes the same
/// Without a memory it would do so for ever, and so would each agent that takes over.
struct UnansweredPublications: Sendable {
    struct Dropped: Sendable, Hashable {
        /// How large the smallest of them was.
        var bytes: Int
        /// The next transactions are smaller. Otherwise they are as small as they get.
        var isSplit: Bool
    }

    /// What one transaction may hold. Half of what was dropped, and half of that if it is dropped again: what still goes through is
    /// published. Where it was the connections after all, smaller transactions do no harm.
    private(set) var multiBytesMax = RegistryLimits.multiBytesMax
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

    /// Publications that seem to be dropped for their size, nil for none. The next try decides anew.
    mutating func dropped() -> Dropped? {
        guard count >= RegistryLimits.droppedRequestsMax else { return nil }
        count = RegistryLimits.droppedRequestsMax - 1
        let half = max(bytes / 2, RegistryLimits.multiBytesMin)
        let isSplit = half < multiBytesMax
        multiBytesMax = min(multiBytesMax, half)
        return Dropped(bytes: bytes, isSplit: isSplit)
    }
}
