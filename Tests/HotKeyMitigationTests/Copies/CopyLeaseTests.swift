import HotKeyMitigation
import Testing

@Suite struct CopyLeaseTests {
    /// 2026-01-01 in microseconds; our own clock stands at 1000 s.
    private let nodeStart: UInt64 = 1_767_225_600_000_000
    private let start = 1000 * second

    private func lease(roundTrip: UInt64 = 2 * millisecond) -> CopyLease {
        var lease = CopyLease()
        let seen = lease.observe(
            nodeMicroseconds: nodeStart, requestSentAt: start - roundTrip / 2, replyReceivedAt: start + roundTrip / 2)
        #expect(seen == .steady)
        return lease
    }

    @Test("the node's time is known to half the round trip")
    func nodeTime() {
        let lease = lease()
        let now = start + millisecond
        let error = lease.errorNanoseconds(now: now)
        #expect(error.map { (millisecond...(millisecond + 10_000)).contains($0) } == true)
        #expect(CopyLease().errorNanoseconds(now: now) == nil)
    }

    @Test(
        "a fill expires within one lifetime of the home read, wherever in the round trip the node looked at its clock")
    func fillExpiry() throws {
        let lease = lease(roundTrip: 100 * millisecond)
        let sent = start + 200 * millisecond
        let expiry = try #require(
            lease.fillExpiryMilliseconds(
                homeReadSentAt: sent, copyLifetimeNanoseconds: second, now: sent + 10 * millisecond))
        // The node was read at the earliest 50 ms before `start`: its clock is then 50 ms ahead of the middle.
        for ahead in [-50, 0, 50] {
            let endOfLifetime = 1_767_225_600_000 + 200 + 1000 + ahead
            // Redis keeps the key through the whole millisecond `expiry`.
            #expect(Int(expiry) + 1 <= endOfLifetime)
        }
        #expect(Int(expiry) >= 1_767_225_600_000 + 200 + 1000 - 50 - 4)
    }

    @Test("no fill without a good estimate, and none whose time is over")
    func refuses() {
        let lifetime = 400 * millisecond
        func expiry(_ lease: CopyLease, sent: UInt64, now: UInt64) -> Int64? {
            lease.fillExpiryMilliseconds(homeReadSentAt: sent, copyLifetimeNanoseconds: lifetime, now: now)
        }
        let now = start + millisecond
        #expect(expiry(CopyLease(), sent: now, now: now) == nil)
        #expect(expiry(lease(), sent: now, now: now) != nil)
        // Off by more than a quarter of the lifetime.
        let vague = lease(roundTrip: 202 * millisecond)
        #expect(expiry(vague, sent: start + second, now: start + second) == nil)
        let sharp = lease(roundTrip: 190 * millisecond)
        #expect(expiry(sharp, sent: start + second, now: start + second) != nil)
        // Too old, and from the future.
        #expect(expiry(lease(), sent: start + 6 * second, now: start + 6 * second) == nil)
        #expect(expiry(lease(), sent: now + 1, now: now) == nil)
        // The reply from home came after the lifetime was over.
        #expect(expiry(lease(), sent: now, now: now + lifetime) == nil)
        var forgotten = lease()
        forgotten.reset()
        #expect(expiry(forgotten, sent: now, now: now) == nil)
    }

    @Test("a tombstone outlives any fill whose home read was sent before it")
    func tombstone() throws {
        for lifetime in [0, 1, 999_999, second, 5 * second] {
            let milliseconds = CopyLease.tombstoneLifetimeMilliseconds(copyLifetimeNanoseconds: lifetime)
            #expect(UInt64(milliseconds) * millisecond >= lifetime + HotKeyMitigationLimits.copySlackNanoseconds)
        }
    }

    @Test("a set clock shows, a slewed one does not")
    func steps() {
        for (shiftMicroseconds, expected) in [
            (0, CopyLease.Observation.steady), (500, .steady), (-900, .steady), (50_000, .stepped), (-50_000, .stepped),
        ] {
            var lease = lease()
            let later = start + second
            let node = UInt64(Int(nodeStart) + 1_000_000 + shiftMicroseconds)
            let seen = lease.observe(
                nodeMicroseconds: node, requestSentAt: later - millisecond, replyReceivedAt: later + millisecond)
            #expect(seen == expected, "\(shiftMicroseconds)")
        }
        var lease = lease()
        let seen = lease.observe(nodeMicroseconds: .max, requestSentAt: start, replyReceivedAt: start)
        #expect(seen == .stepped)
        #expect(lease.errorNanoseconds(now: start) == nil)
    }
}

@Suite struct CopyLeaseResetTests {
    @Test("a clock that was set while the node was away shows after it is back; until then nothing is filled")
    func reset() {
        for (shift, expected) in [(UInt64(0), CopyLease.Observation.steady), (3_600_000_000, .stepped)] {
            var lease = CopyLease()
            let first = lease.observe(nodeMicroseconds: 10_000_000_000, requestSentAt: 0, replyReceivedAt: millisecond)
            #expect(first == .steady)
            lease.reset()
            lease.reset()
            #expect(lease.errorNanoseconds(now: millisecond) == nil)
            let again = lease.observe(
                nodeMicroseconds: 10_005_000_000 - shift, requestSentAt: 5 * second,
                replyReceivedAt: 5 * second + millisecond)
            #expect(again == expected)
        }
    }
}

@Suite struct CopyReadGateTests {
    private let lifetime = second
    private var wait: UInt64 { lifetime + HotKeyMitigationLimits.copySlackNanoseconds }

    @Test("nothing is readable before the fence has stood for a lifetime; home always is")
    func fence() {
        var gate = CopyReadGate(copyLifetimeNanoseconds: lifetime)
        #expect(!gate.readable(copy: 1, now: .max - 1))
        #expect(gate.readable(copy: 0, now: 0))
        gate.fenced(at: 5 * second)
        #expect(!gate.readable(copy: 1, now: 5 * second + wait - 1))
        #expect(gate.readable(copy: 1, now: 5 * second + wait))
    }

    @Test("after a write no copy is readable for a lifetime; a write does not shorten an earlier fence")
    func written() {
        var gate = CopyReadGate(copyLifetimeNanoseconds: lifetime)
        gate.written(at: 0)
        #expect(!gate.readable(copy: 1, now: .max - 1))
        gate.fenced(at: 0)
        gate.written(at: 10 * second)
        for copy in 1...3 {
            #expect(!gate.readable(copy: copy, now: 10 * second + wait - 1))
            #expect(gate.readable(copy: copy, now: 10 * second + wait))
        }
        gate.written(at: 9 * second)
        #expect(!gate.readable(copy: 1, now: 10 * second + wait - 1))
        #expect(gate.readable(copy: 0, now: 10 * second))
    }

    @Test("a node's quarantine holds for one lifetime, by the key's own")
    func nodeQuarantine() {
        var gate = CopyReadGate(copyLifetimeNanoseconds: lifetime)
        gate.fenced(at: 0)
        #expect(!gate.readable(copy: 1, nodeQuarantinedAt: 10 * second, now: 10 * second + wait - 1))
        #expect(gate.readable(copy: 1, nodeQuarantinedAt: 10 * second, now: 10 * second + wait))
        #expect(gate.readable(copy: 0, nodeQuarantinedAt: 10 * second, now: 10 * second))
    }

    @Test("a longer lifetime starts the fence anew, a shorter one too; after it tombstones keep the longer for a while")
    func adopt() {
        var gate = CopyReadGate(copyLifetimeNanoseconds: second)
        gate.fenced(at: 0)
        gate.adopt(copyLifetimeNanoseconds: 3 * second, at: 10 * second)
        #expect(gate.protectedLifetimeNanoseconds(now: 10 * second) == 3 * second)
        #expect(!gate.readable(copy: 1, now: 13 * second))
        #expect(gate.readable(copy: 1, now: 14 * second))
        gate.adopt(copyLifetimeNanoseconds: second, at: 20 * second)
        // What was filled for three seconds is older than the new second allows until those are over.
        #expect(!gate.readable(copy: 1, now: 23 * second))
        #expect(gate.readable(copy: 1, now: 24 * second))
        #expect(gate.protectedLifetimeNanoseconds(now: 79 * second) == 3 * second)
        #expect(gate.protectedLifetimeNanoseconds(now: 80 * second) == second)
    }

    @Test("two changes in a row keep protecting for the longest")
    func adoptTwice() {
        var gate = CopyReadGate(copyLifetimeNanoseconds: 4 * second)
        gate.fenced(at: 0)
        gate.adopt(copyLifetimeNanoseconds: second, at: 10 * second)
        gate.adopt(copyLifetimeNanoseconds: 2 * second, at: 11 * second)
        #expect(gate.protectedLifetimeNanoseconds(now: 12 * second) == 4 * second)
        #expect(!gate.readable(copy: 1, now: 14 * second))
        #expect(gate.readable(copy: 1, now: 15 * second))
        gate.adopt(copyLifetimeNanoseconds: second, at: 12 * second)
        #expect(gate.protectedLifetimeNanoseconds(now: 71 * second) == 4 * second)
    }
}
