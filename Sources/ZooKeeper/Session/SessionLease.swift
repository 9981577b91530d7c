/// What is proven of a session's life, for whoever must stop acting before the ensemble gives its place to another.
///
/// A server ends a session when the ensemble's leader has heard nothing of it for the negotiated timeout. The leader
/// hears of reads only through the server that answered them, and that server may be cut off from it for several of
/// its ticks while it goes on answering. So two moments are kept, each that of *sending* a request that was answered:
/// ``lastContact`` for any answer, ``lastProof`` for one that went by way of the leader (a write, whether it succeeded
/// or not, or a `sync`).
///
/// **Rule for a leader:** act only while ``isSafe(at:)``, and see to it that something is proven at least four times
/// in a timeout (``CoordinationStore/renewLease()``). The lease ends at two thirds of the timeout after the last
/// proof. The third that is left is for clocks that run at different speeds and for a deposed leader of the ensemble
/// that has not noticed yet (up to two ticks; a session timeout is two ticks at least, six or more make this
/// sound). The lease bounds how long two may *believe* that they lead; that only one's writes land is the
/// fence's part (a `check` of the election node in the same `multi`).
public struct SessionLease: Sendable, Hashable {
    public let sessionID: Int64
    /// As negotiated.
    public let timeoutMilliseconds: Int64
    public let lastContact: ContinuousClock.Instant
    /// `nil` until a write or a `sync` of this session was answered.
    public let lastProof: ContinuousClock.Instant?

    public init(
        sessionID: Int64, timeoutMilliseconds: Int64, lastContact: ContinuousClock.Instant,
        lastProof: ContinuousClock.Instant?
    ) {
        self.sessionID = sessionID
        self.timeoutMilliseconds = timeoutMilliseconds
        self.lastContact = lastContact
        self.lastProof = lastProof
    }

    /// `nil` while nothing is proven.
    public var safeUntil: ContinuousClock.Instant? {
        lastProof.map { $0 + .milliseconds(timeoutMilliseconds * ZooKeeperLimits.leaseThirds / 3) }
    }

    /// Whether the ensemble cannot have ended the session at that moment. The clock goes on while the process or the
    /// machine stands still, so that the question is right again on waking.
    public func isSafe(at now: ContinuousClock.Instant = .now) -> Bool {
        safeUntil.map { now < $0 } ?? false
    }
}

extension CoordinationStore {
    /// Proves the session to the ensemble's leader, with one `sync`.
    /// - Returns: the lease afterwards, `nil` when the session was lost meanwhile.
    /// - Throws: as ``CoordinationStore/sync(_:)``.
    @discardableResult
    public func renewLease() async throws -> SessionLease? {
        try await sync("/")
        return lease
    }
}
