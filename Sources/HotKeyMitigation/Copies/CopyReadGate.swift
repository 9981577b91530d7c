/// Which copies of one key this agent may read without breaking its promise that a write acknowledged through it is seen by
/// the next read through it. One per hot key with copies.
///
/// Why it is needed, although every write leaves tombstones:
/// - *Before the agent knew the key to be hot* it left none. B fills a copy with v1; the app writes v2 through A, to which the
///   key is not hot yet; A then learns that it is, and would read v1 from the copy. Fills from before are gone one copy lifetime
///   after A began to leave tombstones, so A reads copies from then on.
/// - *A tombstone may not be there.* It failed (node paused, connection lost), or the copy's node gave it up when it was short
///   of memory, which with most policies takes what is new or expires soon first:
///
///       B reads v1 at home, and its fill is late
///       A writes v2, leaves the tombstone, acknowledges; the copy's node evicts the tombstone
///       B's fill of v1 arrives and finds nothing in its way; A reads v1 from the copy
///
///   So after each write A stays away from the copies until every fill older than that write has expired. It misses nothing by
///   it: for so long there would be tombstones.
///
/// An agent that did not write may read v1 there: that is what the staleness cap allows, and fills carry it.
public struct CopyReadGate: Sendable {
    private var lifetimeNanoseconds: UInt64
    /// A longer lifetime that other agents may still be using, and until when.
    private var formerLifetime: (nanoseconds: UInt64, until: UInt64)?
    private var fencedUntil = UInt64.max

    /// No copy is readable until `fenced(at:)` was called and one lifetime has passed.
    public init(copyLifetimeNanoseconds: UInt64) {
        lifetimeNanoseconds = copyLifetimeNanoseconds
    }

    /// From this time on no write of the key is acknowledged through this agent, on any event loop, before its tombstones were
    /// left and `written(at:)` was called. What counts is the time of home's reply, not of the request: a write sent when the key
    /// was not hot yet and answered now needs both too, or this must wait until such writes have been answered. Call it again
    /// whenever that was interrupted: the wait starts anew.
    public mutating func fenced(at now: UInt64) {
        fencedUntil = safeAfter(now)
    }

    /// A write of the key reached home and is about to be acknowledged. `now` must not lie before the write's reply from home.
    public mutating func written(at now: UInt64) {
        if fencedUntil != .max { fencedUntil = max(fencedUntil, safeAfter(now)) }
    }

    /// The rule changed. A longer lifetime starts the fence anew, because fills made with it outlive the tombstones that this
    /// agent left so far. A shorter one starts it too: what was filled before may be older than the new cap allows, until the
    /// old lifetime is over. It counts at once for this agent's fills, while tombstones and fences keep the longer one until
    /// every agent has had time to learn of the change.
    public mutating func adopt(copyLifetimeNanoseconds: UInt64, at now: UInt64) {
        guard copyLifetimeNanoseconds != lifetimeNanoseconds else { return }
        let protected = protectedLifetimeNanoseconds(now: now)
        let isShorter = copyLifetimeNanoseconds < lifetimeNanoseconds
        if isShorter {
            formerLifetime = (
                nanoseconds: protected, until: saturatingSum(now, HotKeyMitigationLimits.lifetimeShrinkHoldNanoseconds)
            )
        }
        lifetimeNanoseconds = copyLifetimeNanoseconds
        guard isShorter || copyLifetimeNanoseconds > protected else { return }
        if fencedUntil != .max { fencedUntil = max(fencedUntil, safeAfter(now)) }
    }

    /// Whether this agent may read that copy (numbered from 1). Home, copy 0, always may be read. Allocates nothing.
    /// - Parameter nodeQuarantinedAt: when all copies on the copy's node were last put in quarantine; nil for never. Kept by
    ///   the node, so that losing a node costs the same however many keys are hot.
    public func readable(copy: Int, nodeQuarantinedAt: UInt64? = nil, now: UInt64) -> Bool {
        if copy == 0 { return true }
        guard now >= fencedUntil else { return false }
        if let nodeQuarantinedAt, now < safeAfter(nodeQuarantinedAt) { return false }
        return true
    }

    /// The lifetime to give to `CopyLease.tombstoneLifetimeMilliseconds`.
    public func protectedLifetimeNanoseconds(now: UInt64) -> UInt64 {
        guard let formerLifetime, now < formerLifetime.until else { return lifetimeNanoseconds }
        return max(lifetimeNanoseconds, formerLifetime.nanoseconds)
    }

    /// When every fill has expired whose home read was sent before `now`.
    private func safeAfter(_ now: UInt64) -> UInt64 {
        saturatingSum(
            saturatingSum(now, protectedLifetimeNanoseconds(now: now)), HotKeyMitigationLimits.copySlackNanoseconds)
    }
}
