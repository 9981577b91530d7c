import HotKeyMitigation

/// Every order in which the events of the copy protocol can happen, on one copy of one key, with the module's own arithmetic.
///
/// Agent A writes and reads; C writes, and its tombstone may come late; B fills, twice. Any message may arrive at any time after
/// it was sent, in any order, or never. The node may give the tombstone up at any time, being short of memory. Time goes on in ticks, without end: all times in a state are relative to now, so the
/// states are finitely many and the search ends when it has seen them all. At each the promises are checked: A never reads a value
/// older than its last acknowledged write; nobody reads a value that was overwritten longer ago than the copy lifetime; and where a
/// tombstone arrived and was not given up, no late fill brings back what it took away.
struct CopyProtocolModel {
    /// Parts of the protocol to leave out, to see that the model notices.
    enum Flaw: CaseIterable {
        case none
        /// Tombstones with an absolute expiry, reckoned when they are sent.
        case absoluteTombstone
        /// Fills with a lifetime that starts when they arrive.
        case relativeFill
        case fillWithoutNX
        case tombstoneTooShort
        case noFenceAfterWrites
        case noFence
    }

    enum Violation: Hashable {
        case ownWriteNotSeen
        case olderThanTheCap
        case broughtBack
    }

    /// When, within its round trip, the node read its clock for the estimate.
    enum ClockRead: CaseIterable {
        case early, late
    }

    /// What the search varies besides the order of events.
    enum Scope: CaseIterable {
        /// A invalidates from the start; two writers, two fills.
        case fenced
        /// A begins to invalidate at any time; one writer, two fills.
        case beginning
    }

    /// Expiries are in milliseconds of the node's time, counted from now.
    enum Cell: Hashable {
        case empty
        case value(version: Int8, expiry: Int32)
        case tombstone(expiry: Int32)
    }

    enum Fill: Hashable {
        case idle
        case reading(sentTick: Int8)
        case flying(version: Int8, expiry: Int32)
        case done
    }

    enum Tombstone: Hashable {
        case none
        case flying(sentTick: Int8)
        case gone
    }

    /// Ticks are counted from now and at most 0. Version 0 was always there.
    struct State: Hashable {
        var version: Int8 = 0
        var firstWriteTick: Int8 = 0
        var secondWriteTick: Int8 = 0
        var cell = Cell.empty
        var fill = Fill.idle
        var otherFill = Fill.idle
        var tombstoneA = Tombstone.none
        var tombstoneC = Tombstone.none
        var wroteA = false
        var wroteC = false
        var versionA: Int8 = 0
        var acknowledgedA = false
        var fencedTick: Int8?
        /// When A acknowledged its write.
        var writtenTick: Int8?
        var isEvicted = false

        /// When `version`, which is not the current one, was overwritten.
        func overwrittenTick(_ version: Int8) -> Int8 { version == 0 ? firstWriteTick : secondWriteTick }

        mutating func acknowledge() {
            guard !acknowledgedA else { return }
            acknowledgedA = true
            writtenTick = 0
        }

        mutating func write() {
            version += 1
            if version == 1 { firstWriteTick = 0 } else { secondWriteTick = 0 }
        }
    }

    static let tickMilliseconds: Int32 = 100
    static let lifetimeTicks: Int8 = 3
    static let lifetime = UInt64(lifetimeTicks) * 100 * millisecond
    /// A tick so long ago that nothing depends on how long.
    static let longAgo = -lifetimeTicks - Int8(HotKeyMitigationLimits.copySlackNanoseconds / (100 * millisecond)) - 1
    private static let now = 1000 * second
    private static let nodeNow: Int64 = 1_767_225_600_000
    private static let roundTrip = 100 * millisecond

    let flaw: Flaw
    let scope: Scope
    private let lease: CopyLease
    private(set) var states = 0
    /// States in which A may read a value from the copy.
    private(set) var copyReads = 0
    private(set) var violations: Set<Violation> = []

    init(flaw: Flaw, clock: ClockRead, scope: Scope) {
        self.flaw = flaw
        self.scope = scope
        var lease = CopyLease()
        let observedAt = Self.now - second
        let readBefore = clock == .late ? 0 : Self.roundTrip
        _ = lease.observe(
            nodeMicroseconds: UInt64(Self.nodeNow - 1000 - Int64(readBefore / millisecond)) * 1000,
            requestSentAt: observedAt - Self.roundTrip, replyReceivedAt: observedAt)
        self.lease = lease
    }

    /// Sees every state, or as many as it takes to find the violation looked for.
    mutating func explore(until wanted: Violation? = nil) {
        var start = State()
        if scope == .fenced { start.fencedTick = Self.longAgo }
        var seen: Set<State> = [start]
        var stack = [start]
        while let state = stack.popLast() {
            check(state)
            if let wanted, violations.contains(wanted) { break }
            successors(of: state) { if seen.insert($0).inserted { stack.append($0) } }
        }
        states = seen.count
    }

    // MARK: - Promises

    private mutating func check(_ state: State) {
        guard case .value(let version, _) = state.cell else { return }
        if version < state.version, -state.overwrittenTick(version) > Self.lifetimeTicks {
            violations.insert(.olderThanTheCap)
        }
        if state.tombstoneA == .gone, !state.isEvicted, version < state.versionA { violations.insert(.broughtBack) }
        guard readableByA(state) else { return }
        copyReads += 1
        if state.acknowledgedA, version < state.versionA { violations.insert(.ownWriteNotSeen) }
    }

    private func readableByA(_ state: State) -> Bool {
        guard let fenced = state.fencedTick else { return false }
        var gate = CopyReadGate(copyLifetimeNanoseconds: Self.lifetime)
        gate.fenced(at: flaw == .noFence ? 0 : instant(fenced))
        if let written = state.writtenTick, flaw != .noFenceAfterWrites { gate.written(at: instant(written)) }
        return gate.readable(copy: 1, now: Self.now)
    }

    private func instant(_ tick: Int8) -> UInt64 { Self.now - UInt64(-tick) * 100 * millisecond }

    // MARK: - Events

    private func successors(of state: State, _ visit: (State) -> Void) {
        visit(ticked(state))
        if state.fencedTick == nil {
            var next = state
            next.fencedTick = 0
            visit(next)
        }
        writes(of: state, visit)
        tombstones(of: state, visit)
        if let moved = filled(state.fill, of: state) {
            var next = moved.state
            next.fill = moved.fill
            visit(next)
        }
        // Of two equal fills the first goes first.
        if state.fill == .idle { return }
        if let moved = filled(state.otherFill, of: state) {
            var next = moved.state
            next.otherFill = moved.fill
            visit(next)
        }
    }

    /// A write reaches home, and its agent learns of it. A decides at that time whether it leaves a tombstone.
    private func writes(of state: State, _ visit: (State) -> Void) {
        if !state.wroteA {
            var next = state
            next.wroteA = true
            next.write()
            next.versionA = next.version
            if state.fencedTick != nil { next.tombstoneA = .flying(sentTick: 0) } else { next.acknowledgedA = true }
            visit(next)
        }
        if !state.wroteC, scope == .fenced {
            var next = state
            next.wroteC = true
            next.write()
            next.tombstoneC = .flying(sentTick: 0)
            visit(next)
        }
    }

    private func tombstones(of state: State, _ visit: (State) -> Void) {
        if case .flying(let sent) = state.tombstoneA {
            var arrived = state
            arrived.tombstoneA = .gone
            arrived.cell = tombstone(sent: sent)
            arrived.acknowledge()
            visit(arrived)
            if !state.acknowledgedA {
                // A waits no longer. The tombstone may still arrive.
                var givenUp = state
                givenUp.acknowledge()
                visit(givenUp)
            }
        }
        if case .tombstone = state.cell, state.tombstoneA == .gone {
            var evicted = state
            evicted.cell = .empty
            evicted.isEvicted = true
            visit(evicted)
        }
        if case .flying(let sent) = state.tombstoneC {
            var arrived = state
            arrived.tombstoneC = .gone
            arrived.cell = tombstone(sent: sent)
            visit(arrived)
        }
    }

    private func tombstone(sent: Int8) -> Cell {
        var expiry = Int32(CopyLease.tombstoneLifetimeMilliseconds(copyLifetimeNanoseconds: Self.lifetime))
        if flaw == .tombstoneTooShort { expiry /= 4 }
        if flaw == .absoluteTombstone { expiry += Int32(sent) * Self.tickMilliseconds }
        return expiry < 0 ? .empty : .tombstone(expiry: expiry)
    }

    private func filled(_ fill: Fill, of state: State) -> (state: State, fill: Fill)? {
        switch fill {
        case .done:
            return nil
        case .idle:
            return (state, .reading(sentTick: 0))
        case .reading(let sent):
            // Home executes the read, and the fill is on its way at once: any delay after this is the fill's.
            let expiry = lease.fillExpiryMilliseconds(
                homeReadSentAt: instant(sent), copyLifetimeNanoseconds: Self.lifetime, now: Self.now)
            return (state, expiry.map { .flying(version: state.version, expiry: Int32($0 - Self.nodeNow)) } ?? .done)
        case .flying(let version, let expiry):
            guard state.cell == .empty || flaw == .fillWithoutNX else { return (state, .done) }
            let end = flaw == .relativeFill ? Int32(Self.lifetime / millisecond) : expiry
            var next = state
            // A time already past deletes the key or stores nothing: the same to a reader.
            next.cell = end < 0 ? .empty : .value(version: version, expiry: end)
            return (next, .done)
        }
    }

    // MARK: - Time

    private func ticked(_ state: State) -> State {
        var next = state
        next.firstWriteTick = earlier(state.firstWriteTick, whenWritten: state.version >= 1)
        next.secondWriteTick = earlier(state.secondWriteTick, whenWritten: state.version >= 2)
        next.fencedTick = state.fencedTick.map { max($0 - 1, Self.longAgo) }
        next.writtenTick = state.writtenTick.flatMap { $0 - 1 <= Self.longAgo ? nil : $0 - 1 }
        next.tombstoneA = ticked(state.tombstoneA)
        next.tombstoneC = ticked(state.tombstoneC)
        next.fill = ticked(state.fill)
        next.otherFill = ticked(state.otherFill)
        switch state.cell {
        case .empty: break
        case .value(let version, let expiry):
            // Redis keeps a key until its clock has passed the expiry.
            next.cell =
                expiry < Self.tickMilliseconds
                ? .empty : .value(version: version, expiry: expiry - Self.tickMilliseconds)
        case .tombstone(let expiry):
            next.cell = expiry < Self.tickMilliseconds ? .empty : .tombstone(expiry: expiry - Self.tickMilliseconds)
        }
        return next
    }

    private func earlier(_ tick: Int8, whenWritten written: Bool) -> Int8 {
        written ? max(tick - 1, Self.longAgo) : 0
    }

    private func ticked(_ tombstone: Tombstone) -> Tombstone {
        guard flaw == .absoluteTombstone, case .flying(let sent) = tombstone else { return tombstone }
        return .flying(sentTick: max(sent - 1, Self.longAgo))
    }

    private func ticked(_ fill: Fill) -> Fill {
        switch fill {
        case .reading(let sent) where sent - 1 > Self.longAgo: .reading(sentTick: sent - 1)
        case .reading: .done
        case .flying(let version, let expiry) where flaw == .relativeFill: .flying(version: version, expiry: expiry)
        case .flying(let version, let expiry) where expiry >= Self.tickMilliseconds:
            .flying(version: version, expiry: expiry - Self.tickMilliseconds)
        case .flying: .done
        case .idle, .done: fill
        }
    }
}
