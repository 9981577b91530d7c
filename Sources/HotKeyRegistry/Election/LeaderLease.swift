import ZooKeeper

/// When a leader proves its session anew, and when it has to have stopped. Pure.
///
///     last proof ├────────┼────────┼────────┼───────┼───┼───────────────┤ the ensemble may have ended the session
///                0      T/6      T/3      T/2    7T/12  2T/3            T
///                       prove    prove    prove  stop   the lease ends
enum LeaderLease {
    /// When the body is cancelled, a twelfth of the timeout before the lease ends: cancelling takes a moment to be noticed.
    /// Nil when that moment cannot be named: nothing is proven, or the lease is another session's.
    static func stopsAt(_ lease: SessionLease?, sessionID: Int64) -> ContinuousClock.Instant? {
        guard let lease, lease.sessionID == sessionID, let end = lease.safeUntil else { return nil }
        return end - .milliseconds(lease.timeoutMilliseconds / RegistryLimits.leaseMarginsPerTimeout)
    }

    static func allowsLeading(_ lease: SessionLease?, sessionID: Int64, at now: ContinuousClock.Instant) -> Bool {
        stopsAt(lease, sessionID: sessionID).map { now < $0 } ?? false
    }

    /// When the next proof is due. Writes prove too, so that a coordinator that publishes all the time asks for nothing more.
    static func provesAt(
        _ lease: SessionLease?, lastAttempt: ContinuousClock.Instant
    ) -> ContinuousClock.Instant {
        let timeout = Duration.milliseconds(
            lease?.timeoutMilliseconds ?? Int64(ZooKeeperLimits.sessionTimeoutMillisecondsDefault))
        // What has just failed is not asked again at once.
        let soonest = lastAttempt + timeout / (4 * RegistryLimits.leaseProofsPerTimeout)
        guard let proof = lease?.lastProof else { return soonest }
        return max(proof + timeout / RegistryLimits.leaseProofsPerTimeout, soonest)
    }
}
