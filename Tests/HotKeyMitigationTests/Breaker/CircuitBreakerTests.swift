import HotKeyMitigation
import Testing

@Suite struct CircuitBreakerTests {
    /// The breaker behind a reference, because `#expect` cannot call what mutates.
    private final class Subject {
        private var breaker: CircuitBreaker

        init() {
            var configuration = CircuitBreaker.Configuration.default
            configuration.openNanosecondsMax = 10 * second
            breaker = CircuitBreaker(configuration: configuration)
        }

        var state: CircuitBreaker.State { breaker.state }
        var lastReason: CircuitBreaker.Reason? { breaker.lastReason }

        func admit(now: UInt64) -> CircuitBreaker.Admission { breaker.admit(now: now) }
        func abandonProbe(now: UInt64) { breaker.abandonProbe(now: now) }
        func record(_ outcome: CircuitBreaker.Outcome, wasProbe: Bool, now: UInt64) -> CircuitBreaker.State? {
            breaker.record(outcome, wasProbe: wasProbe, now: now, mayOpenBySlowness: { mayOpenBySlowness })
        }

        var mayOpenBySlowness = true
        var isOpenBySlowness: Bool { breaker.isOpenBySlowness }
    }

    private static let fast = CircuitBreaker.Outcome.success(latencyNanoseconds: millisecond)
    private static let slow = CircuitBreaker.Outcome.success(latencyNanoseconds: second)

    private func opened(at now: UInt64 = second) -> Subject {
        let breaker = Subject()
        for _ in 0..<3 { _ = breaker.record(.failure, wasProbe: false, now: now) }
        #expect(breaker.state == .open(untilNanoseconds: now + second))
        return breaker
    }

    @Test("three failures in a row open it, a success between them does not count against it")
    func consecutive() {
        let breaker = Subject()
        for _ in 0..<5 {
            #expect(breaker.record(.failure, wasProbe: false, now: 1) == nil)
            #expect(breaker.record(.timeout, wasProbe: false, now: 1) == nil)
            #expect(breaker.record(Self.fast, wasProbe: false, now: 1) == nil)
        }
        let open = opened()
        #expect(open.lastReason == .failures)
        #expect(open.admit(now: second + 1) == .reject(retryAtNanoseconds: 2 * second))
    }

    @Test("half of the window's calls failing open it, but not before twenty calls")
    func ratio() {
        let breaker = Subject()
        for call in 0..<19 {
            let outcome = call % 2 == 0 ? CircuitBreaker.Outcome.failure : Self.fast
            #expect(breaker.record(outcome, wasProbe: false, now: 5 * second) == nil)
        }
        #expect(breaker.record(.failure, wasProbe: false, now: 5 * second) != nil)
    }

    @Test("slow calls open it, and it says so")
    func slowness() {
        let breaker = Subject()
        for _ in 0..<4 { _ = breaker.record(Self.fast, wasProbe: false, now: second) }
        for _ in 0..<15 { #expect(breaker.record(Self.slow, wasProbe: false, now: second) == nil) }
        #expect(breaker.record(Self.slow, wasProbe: false, now: second) != nil)
        #expect(breaker.lastReason == .slowness)
    }

    @Test("slow calls alone do not open it where too many are slow already; failures still do")
    func slownessIsLimited() {
        let breaker = Subject()
        breaker.mayOpenBySlowness = false
        for _ in 0..<100 { #expect(breaker.record(Self.slow, wasProbe: false, now: second) == nil) }
        breaker.mayOpenBySlowness = true
        #expect(breaker.record(Self.slow, wasProbe: false, now: second) != nil)
        #expect(breaker.isOpenBySlowness)
        // It counts among the slow ones until it is well, also while it is probed.
        for _ in 0..<3 { #expect(breaker.admit(now: 2 * second) == .probe) }
        #expect(breaker.isOpenBySlowness)
        for _ in 0..<3 { _ = breaker.record(Self.fast, wasProbe: true, now: 2 * second) }
        #expect(breaker.state == .closed && !breaker.isOpenBySlowness)
        breaker.mayOpenBySlowness = false
        for _ in 0..<3 { _ = breaker.record(.failure, wasProbe: false, now: 3 * second) }
        #expect(breaker.lastReason == .failures && !breaker.isOpenBySlowness)
    }

    @Test("half of the nodes may be given up for slowness, and one at least")
    func slownessQuota() {
        let quota = SlownessQuota.default
        for (nodes, most) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (100, 50)] {
            #expect(quota.allowsOneMore(open: most - 1, of: nodes))
            #expect(!quota.allowsOneMore(open: most, of: nodes))
        }
        #expect(SlownessQuota(share: 0).allowsOneMore(open: 0, of: 10))
    }

    @Test("what left the window counts no more")
    func window() {
        let breaker = Subject()
        for call in 0..<18 {
            _ = breaker.record(call % 2 == 0 ? .failure : Self.fast, wasProbe: false, now: second)
        }
        for _ in 0..<30 { #expect(breaker.record(Self.fast, wasProbe: false, now: 12 * second) == nil) }
        #expect(breaker.record(.failure, wasProbe: false, now: 12 * second) == nil)
    }

    @Test("three probes go out, three successes close it")
    func recovers() {
        let breaker = opened()
        for _ in 0..<3 { #expect(breaker.admit(now: 2 * second) == .probe) }
        #expect(breaker.state == .halfOpen)
        #expect(breaker.admit(now: 2 * second) == .reject(retryAtNanoseconds: 4 * second))
        #expect(breaker.record(Self.fast, wasProbe: true, now: 2 * second) == nil)
        // A call from before the opening says nothing now.
        #expect(breaker.record(.failure, wasProbe: false, now: 2 * second) == nil)
        #expect(breaker.record(Self.fast, wasProbe: true, now: 2 * second) == nil)
        #expect(breaker.record(Self.fast, wasProbe: true, now: 2 * second) == .closed)
        #expect(breaker.admit(now: 2 * second) == .allow)
    }

    @Test("a failed or slow probe opens it for twice as long, up to the maximum")
    func doubles() {
        let breaker = opened()
        var now = 2 * second
        for (turn, expected) in [2, 4, 8, 10, 10].enumerated() {
            #expect(breaker.admit(now: now) == .probe)
            let state = breaker.record(turn % 2 == 0 ? .timeout : Self.slow, wasProbe: true, now: now)
            let until = now + UInt64(expected) * second
            #expect(state == .open(untilNanoseconds: until))
            #expect(breaker.admit(now: until - 1) == .reject(retryAtNanoseconds: until))
            now = until
        }
    }

    @Test("opening soon after closing counts as the same trouble, long after as new")
    func doublingIsForgotten() {
        for (pause, expected) in [(second, 2 * second), (11 * second, second)] {
            let breaker = opened()
            for _ in 0..<3 { _ = breaker.admit(now: 2 * second) }
            for _ in 0..<3 { _ = breaker.record(Self.fast, wasProbe: true, now: 2 * second) }
            let now = 2 * second + pause
            for _ in 0..<3 { _ = breaker.record(.failure, wasProbe: false, now: now) }
            #expect(breaker.state == .open(untilNanoseconds: now + expected))
        }
    }

    @Test("probes that never end are given up at their deadline")
    func lostProbes() {
        let breaker = opened()
        for _ in 0..<3 { #expect(breaker.admit(now: 2 * second) == .probe) }
        #expect(breaker.admit(now: 4 * second - 1) == .reject(retryAtNanoseconds: 4 * second))
        #expect(breaker.admit(now: 4 * second) == .reject(retryAtNanoseconds: 6 * second))
        #expect(breaker.admit(now: 6 * second) == .probe)
    }

    @Test("an abandoned probe gives its place back")
    func abandoned() {
        let breaker = opened()
        for _ in 0..<3 { #expect(breaker.admit(now: 2 * second) == .probe) }
        breaker.abandonProbe(now: 2 * second)
        #expect(breaker.admit(now: 2 * second) == .probe)
    }

    @Test("1,000,000 random schedules: never stuck, never too many probes, never faster than its times")
    func randomSchedules() {
        for seed in UInt64(0)..<1_000_000 {
            var schedule = Schedule(seed: seed)
            if let complaint = schedule.run() {
                Issue.record("seed \(seed): \(complaint)")
                return
            }
        }
    }
}

/// One random life of a breaker: calls begin, end in any order or never, and the clock jumps. Then the node is well again, and
/// the breaker must close in bounded time.
private struct Schedule {
    private var random: SeededRandom
    private var breaker = CircuitBreaker()
    private let configuration = CircuitBreaker.Configuration.default
    private var now: UInt64
    private var calls: [Bool] = []
    private var probesOut = 0
    private var opened: UInt64?

    init(seed: UInt64) {
        random = SeededRandom(seed: seed)
        now = random.next() % (100 * second)
    }

    mutating func run() -> String? {
        for _ in 0..<40 {
            now += random.next() % 4 == 0 ? random.next() % (3 * second) : random.next() % (20 * millisecond)
            if let complaint = step() { return complaint }
        }
        // From here on every call succeeds at once; what was lost stays lost.
        calls = []
        let deadline = now + configuration.openNanosecondsMax * 2 + configuration.halfOpenDeadlineNanoseconds * 2
        while breaker.state != .closed {
            if now > deadline { return "still \(breaker.state) although the node is well" }
            switch breaker.admit(now: now) {
            case .allow: return "allowed while \(breaker.state)"
            case .probe:
                _ = breaker.record(.success(latencyNanoseconds: 1), wasProbe: true, now: now)
            case .reject(let retryAt):
                if retryAt <= now { return "told to retry in the past" }
                now = retryAt
            }
        }
        return nil
    }

    private mutating func step() -> String? {
        let before = breaker.state
        if calls.isEmpty || random.next() % 2 == 0 {
            switch breaker.admit(now: now) {
            case .allow:
                if before != .closed { return "allowed while \(before)" }
                calls.append(false)
            case .probe:
                if before != .halfOpen { probesOut = 0 }
                probesOut += 1
                calls.append(true)
            case .reject(let retryAt):
                if before == .closed { return "rejected while closed" }
                if retryAt <= now { return "told to retry in the past" }
            }
        } else {
            let wasProbe = calls.remove(at: Int(random.next() % UInt64(calls.count)))
            if wasProbe, before == .halfOpen { probesOut = max(0, probesOut - 1) }
            switch random.next() % 8 {
            case 0: break  // Lost: its end is never heard of.
            case 1 where wasProbe: breaker.abandonProbe(now: now)
            case 2, 3: _ = breaker.record(.failure, wasProbe: wasProbe, now: now)
            case 4: _ = breaker.record(.timeout, wasProbe: wasProbe, now: now)
            default:
                let latency = random.next() % 2 == 0 ? millisecond : second
                _ = breaker.record(.success(latencyNanoseconds: latency), wasProbe: wasProbe, now: now)
            }
        }
        // A lost probe is removed from the count here and not in the breaker, so this bound is the stricter one.
        if probesOut > configuration.halfOpenProbes { return "\(probesOut) probes at once" }
        return moved(from: before)
    }

    private mutating func moved(from before: CircuitBreaker.State) -> String? {
        if case .open(let until) = breaker.state, before != breaker.state {
            if until < now + configuration.openNanoseconds { return "opened for too short a time" }
            if until > now + configuration.openNanosecondsMax { return "opened for too long" }
            if let opened, now < opened + configuration.openNanoseconds { return "opened twice within its time" }
            opened = now
        }
        if case .open(let until) = before, breaker.state != before, now < until { return "left open too early" }
        return nil
    }
}
