/// The times of the copy protocol for one node, from an estimate of that node's clock. Pure arithmetic.
///
/// The protocol:
/// - **Fill.** An agent reads home, notes when it sent that read, and stores `SET copy v… NX PXAT e` with
///   `e = fillExpiryMilliseconds(…)`: the node's time when the home read was sent, plus the copy lifetime.
/// - **Write.** A write reaches home. Then every copy gets `SET copy t PX n` with `n = tombstoneLifetimeMilliseconds(…)`,
///   the copy lifetime plus a slack. Only when all are acknowledged or have failed, and this agent stays away from the copies
///   for a while (`CopyReadGate`), is the write acknowledged to the app.
/// - **Read.** Any copy that `CopyReadGate` calls readable; a tombstone or nothing there means "ask home".
///
/// The interleavings that shaped it. W writes through agent A; agent B fills.
///
/// 1. *A late fill.* B reads v1 at home; A writes v2 and is done with the copy; B's fill of v1 arrives. While the tombstone
///    stands, `NX` makes the fill fail. The tombstone arrived after B sent its read and lives for a whole copy lifetime and
///    more, so when it is gone, B's `e` is past on that node, and Redis stores nothing.
/// 2. *A relative fill lifetime* (`PX` in place of `PXAT`) would start when the fill arrives: one that waited in a socket for
///    ten seconds would bring the old value back for a full lifetime.
/// 3. *An absolute tombstone expiry* (`PXAT` in place of `PX`) is wrong as well. C's tombstone waits in the socket of a paused
///    node; A writes v2 and its tombstone is queued behind; the node wakes, and serves A's connection before C's. C's tombstone
///    replaces A's with an earlier expiry, or one already past, which deletes it. B's late fill of v1 then succeeds, and A
///    reads v1 after its own write. With `PX` a tombstone's expiry is counted from when the node executes it, so whichever is
///    executed last stands longest, and a late one can only lengthen the protection. It needs no clock estimate either: a
///    write never has to wait for one.
/// 4. *A fill that outlives the cap.* `e` is reckoned with the lowest offset that the clock estimate allows, and one
///    millisecond less because Redis keeps a key through the whole millisecond of its expiry. So a copy is never served
///    later than a copy lifetime after its home read was sent.
///
/// What the slack covers: drift between the clocks over a lifetime, and a backward step of the node's clock by less than it.
/// Larger steps show in the next `observe`, whose caller then overwrites and quarantines that node's copies.
public struct CopyLease: Sendable {
    /// What one observation said.
    public enum Observation: Sendable, Hashable {
        /// The node's clock goes on as expected, or this was the first look at it.
        case steady
        /// The node's clock was set, or another node answers now. A clock set back lets the copies there live longer by as
        /// much: overwrite those of all keys with tombstones, and quarantine them.
        case stepped
    }

    /// The node's clock minus ours lies between these two, in nanoseconds, at `observedAt`.
    private struct Estimate: Sendable {
        var offsetLow: Int64
        var offsetHigh: Int64
        var observedAt: UInt64
    }

    private var estimate: Estimate?
    /// The last estimate before a reset.
    private var former: Estimate?

    public init() {}

    /// Notes a reply to `TIME`. The node read its clock somewhere between the request and the reply, so the offset is known to
    /// half the round trip.
    /// - Parameter nodeMicroseconds: seconds · 1,000,000 + microseconds of the reply.
    public mutating func observe(
        nodeMicroseconds: UInt64, requestSentAt: UInt64, replyReceivedAt: UInt64
    ) -> Observation {
        guard requestSentAt <= replyReceivedAt, let sent = Int64(exactly: requestSentAt),
            let received = Int64(exactly: replyReceivedAt), nodeMicroseconds < UInt64(Int64.max / 1000) - 1
        else {
            // A clock beyond the year 290,000 is no clock to reckon with.
            estimate = nil
            return .stepped
        }
        let node = Int64(nodeMicroseconds) * 1000
        // The reply cuts the node's time off at the microsecond.
        let seen = Estimate(offsetLow: node - received, offsetHigh: node + 1000 - sent, observedAt: replyReceivedAt)
        defer {
            estimate = seen
            former = nil
        }
        guard let before = estimate ?? former else { return .steady }
        let drift = Self.drift(overNanoseconds: replyReceivedAt &- min(before.observedAt, replyReceivedAt))
        let agrees = seen.offsetHigh >= before.offsetLow - drift && seen.offsetLow <= before.offsetHigh + drift
        return agrees ? .steady : .stepped
    }

    /// Stops using the estimate: after a reconnect another machine may answer. It is still compared with: a node may have been
    /// restarted with what it held, and with its clock set back.
    public mutating func reset() {
        former = estimate ?? former
        estimate = nil
    }

    /// How far the estimate may be off, either way; nil when there is none or it is too old.
    public func errorNanoseconds(now: UInt64) -> UInt64? {
        bounds(at: now, now: now).map { UInt64(($0.high - $0.low + 1) / 2) }
    }

    /// The `PXAT` of a fill, Unix time of the node in milliseconds.
    ///
    /// nil means do not fill: the estimate is missing, too old, or off by more than a quarter of the lifetime, or the lifetime
    /// that is left is over.
    /// - Parameter homeReadSentAt: when the read at home was sent whose value is stored.
    public func fillExpiryMilliseconds(
        homeReadSentAt: UInt64, copyLifetimeNanoseconds: UInt64, now: UInt64
    ) -> Int64? {
        guard let lifetime = Int64(exactly: copyLifetimeNanoseconds), homeReadSentAt <= now,
            let error = errorNanoseconds(now: now), error <= copyLifetimeNanoseconds / 4,
            let sent = bounds(at: homeReadSentAt, now: now), let current = bounds(at: now, now: now)
        else { return nil }
        let (end, overflow) = sent.low.addingReportingOverflow(lifetime)
        guard !overflow else { return nil }
        let expiry = end / 1_000_000 - 1
        return expiry > current.high / 1_000_000 ? expiry : nil
    }

    /// The `PX` of a tombstone in milliseconds: at least what is left of any fill whose home read was sent before the
    /// tombstone is executed.
    /// - Parameter copyLifetimeNanoseconds: the longest lifetime that any agent may give this key's copies now:
    ///   `CopyReadGate.protectedLifetimeNanoseconds(now:)`.
    public static func tombstoneLifetimeMilliseconds(copyLifetimeNanoseconds: UInt64) -> Int64 {
        let nanoseconds = saturatingSum(copyLifetimeNanoseconds, HotKeyMitigationLimits.copySlackNanoseconds)
        return Int64(nanoseconds / 1_000_000) + 1
    }

    /// The node's time in nanoseconds at `instant` of our clock, with the bounds as known `now`.
    private func bounds(at instant: UInt64, now: UInt64) -> (low: Int64, high: Int64)? {
        guard let estimate, now >= estimate.observedAt,
            now - estimate.observedAt <= HotKeyMitigationLimits.nodeClockAgeNanosecondsMax,
            let instantSigned = Int64(exactly: instant)
        else { return nil }
        let distance = instant > estimate.observedAt ? instant - estimate.observedAt : estimate.observedAt - instant
        let drift = Self.drift(overNanoseconds: distance)
        return (instantSigned + estimate.offsetLow - drift, instantSigned + estimate.offsetHigh + drift)
    }

    private static func drift(overNanoseconds distance: UInt64) -> Int64 {
        Int64(clamping: distance / 1_000_000 * HotKeyMitigationLimits.clockDriftPartsPerMillion + 1000)
    }
}
