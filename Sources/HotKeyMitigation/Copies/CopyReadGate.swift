/// Which copies of one key this agent may read without breaking its promise that a write acknowledged through it is seen by
/// the next read through it. One per hot key with copies.
///
/// Why it is needed, although every write leaves tombstones:
/// - *Before the agent knew the key to be hot* it left none. B fills a copy with v1; the app writes v2 through A, to which the
///   key is not hot yet; A then learns that it is, and would read v1 from the copy. Fills from before are gone one copy lifetime
///   after A began to leave tombstones, so A reads copies from then on.
/// - *When a tombstone fails* (node paused, connection lost) the copy may hold v1 while A acknowledges v2. A stays away from
///   that copy until every fill older than its write has expired.
///
/// An agent that did not write may read v1 there: that is what the staleness cap allows, and fills carry it.
public struct CopyReadGate: Sendable {
    private var lifetimeNanoseconds: UInt64
    /// A longer lifetime that other agents may still be using, and until when.
    private var formerLifetime: (nanoseconds: UInt64, until: UInt64)?
    private var fencedUntil = UInt64.max
    /// Rarely anything: the copies in quarantine.
    private var quarantines: [(copy: Int, until: UInt64)] = []

    /// No copy is readable until `fenced(at:)` was called and one lifetime has passed.
    public init(copyLifetimeNanoseconds: UInt64) {
        lifetimeNanoseconds = copyLifetimeNanoseconds
    }

    /// From this time on no write of the key is acknowledged through this agent, on any event loop, before all its copies were
    /// invalidated or quarantined. What counts is the time of home's reply, not of the request: a write sent when the key was
    /// not hot yet and answered now needs its tombstones too, or this must wait until such writes have been answered. Call it
    /// again whenever that was interrupted: the wait starts anew.
    public mutating func fenced(at now: UInt64) {
        fencedUntil = safeAfter(now)
    }

    /// A write's tombstone for this copy (numbered from 1) was not acknowledged. Call it before
    /// the write is acknowledged. `now` must not lie before the write's reply from home.
    public mutating func quarantine(copy: Int, at now: UInt64) {
        let until = safeAfter(now)
        quarantines.removeAll { $0.until <= now }
        if let index = quarantines.firstIndex(where: { $0.copy == copy }) {
            quarantines[index].until = max(quarantines[index].until, until)
        } else {
            quarantines.append((copy: copy, until: until))
        }
    }

    /// The rule changed. A longer lifetime starts the fence anew, because fills made with it outlive the tombstones that this
    /// agent left so far. A shorter one starts it too: what was filled before may be older than the new cap allows, until the
    /// old lifetime is over. It counts at once for this agent's fills, while tombstones and quarantines keep the longer one until
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
        guard !isShorter else { return }
        // A failed tombstone may have been for a value that an agent with the new rule already filled.
        for index in quarantines.indices {
            quarantines[index].until = max(quarantines[index].until, safeAfter(now))
        }
    }

    /// Whether this agent may read that copy (numbered from 1). Home, copy 0, always may be read. Allocates nothing.
    /// - Parameter nodeQuarantinedAt: when all copies on the copy's node were last put in quarantine; nil for never. Kept by
    ///   the node, so that losing a node costs the same however many keys are hot.
    public func readable(copy: Int, nodeQuarantinedAt: UInt64? = nil, now: UInt64) -> Bool {
        if copy == 0 { return true }
        guard now >= fencedUntil else { return false }
        if let nodeQuarantinedAt, now < safeAfter(nodeQuarantinedAt) { return false }
        for quarantine in quarantines where quarantine.copy == copy && now < quarantine.until { return false }
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
