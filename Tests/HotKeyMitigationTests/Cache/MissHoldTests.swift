import Testing

@testable import HotKeyMitigation

@Suite struct MissTurnsTests {
    private static let command = Array("GET k".utf8)
    private static let key = Array("k".utf8)
    private var turns = MissTurns()
    private var firsts = 0

    private mutating func expect(
        _ expected: MissTurns.Answer, at now: UInt64, wantsTurn: Bool = true, line: Int = #line
    ) {
        var isFirst = false
        let answer = turns.missed(
            Self.command, intervalNanoseconds: 100 * millisecond, wantsTurn: wantsTurn, now: now, isFirst: &isFirst)
        if isFirst { firsts += 1 }
        #expect(answer == expected, "line \(line)")
    }

    private mutating func valueSeen(wasGone: Bool, line: Int = #line) {
        let found = turns.valueSeen(Self.command, of: Self.key)
        #expect(found == wasGone, "line \(line)")
    }

    @Test mutating func nobodyWaitsForWhatWasNeverThere() {
        for now in 1...10 as ClosedRange<UInt64> { expect(.free, at: now * millisecond) }
        #expect(turns.commandCount == 0 && firsts == 0)
    }

    @Test mutating func oneTurnAnInterval() {
        valueSeen(wasGone: false)
        expect(.turn, at: second)
        expect(.wait(until: second + 100 * millisecond), at: second + 1)
        expect(.wait(until: second + 100 * millisecond), at: second + 99 * millisecond)
        expect(.turn, at: second + 100 * millisecond)
        #expect(firsts == 1)
        // Also where the value comes and goes again within one.
        valueSeen(wasGone: true)
        valueSeen(wasGone: false)
        expect(.wait(until: second + 200 * millisecond), at: second + 150 * millisecond)
        #expect(firsts == 2)
    }

    @Test mutating func noTurnIsSpentOnNobody() {
        valueSeen(wasGone: false)
        expect(.wait(until: second), at: second, wantsTurn: false)
        expect(.turn, at: second)
    }

    @Test mutating func whatNobodyMakesIsWaitedForOnce() {
        valueSeen(wasGone: false)
        expect(.turn, at: second)
        let over = second + HotKeyMitigationLimits.missEpisodeNanosecondsMax
        expect(.turn, at: over - 1)
        expect(.free, at: over)
        expect(.free, at: over + second)
        // It comes, and goes again soon.
        valueSeen(wasGone: false)
        expect(.free, at: over + 2 * second)
        valueSeen(wasGone: false)
        expect(.turn, at: over + HotKeyMitigationLimits.missRestNanoseconds)
    }

    @Test mutating func isBounded() {
        for number in 0..<(HotKeyMitigationLimits.missCommandsMax + 10) {
            _ = turns.valueSeen(Array("GET \(number)".utf8), of: Array("\(number)".utf8))
        }
        #expect(turns.commandCount == HotKeyMitigationLimits.missCommandsMax)
        turns.keep { $0 == Array("7".utf8) }
        #expect(turns.commandCount == 1)
        // The fields of one hash leave room for others.
        for number in 0..<1_000 { _ = turns.valueSeen(Array("HGET h \(number)".utf8), of: Array("h".utf8)) }
        #expect(turns.commandCount == 1 + HotKeyMitigationLimits.missCommandsPerKeyMax)
        _ = turns.valueSeen(Self.command, of: Self.key)
        expect(.turn, at: second)
    }

    @Test func commandsThatLeaveMakeRoom() {
        var commands = CommandsByKey()
        for number in 0..<HotKeyMitigationLimits.missCommandsPerKeyMax {
            let isNew = commands.insert([UInt8(number)], of: Self.key)
            #expect(isNew)
        }
        var isNew = commands.insert(Self.command, of: Self.key)
        #expect(!isNew)
        commands.remove([0], of: Self.key)
        commands.remove([0], of: Self.key)
        isNew = commands.insert(Self.command, of: Self.key)
        #expect(isNew && commands.count == HotKeyMitigationLimits.missCommandsPerKeyMax)
    }
}

@Suite struct MissHoldTests {
    private static let command = Array("GET k".utf8)
    private static let key = Array("k".utf8)

    @Test func whoComesWhenThereAreTooManyIsNotHeld() {
        var hold = MissHold<Int>()
        for read in 0..<HotKeyMitigationLimits.missReadsMax {
            let isHeld = hold.hold(read, of: Self.command, key: Self.key, deadline: second, askAt: 0)
            #expect(isHeld)
        }
        var isHeld = hold.hold(-1, of: Self.command, key: Self.key, deadline: second, askAt: 0)
        #expect(!isHeld)
        let taken = hold.take { $0 == 5 }
        #expect(taken == [5])
        isHeld = hold.hold(-1, of: Self.command, key: Self.key, deadline: second, askAt: 0)
        #expect(isHeld)
        let released = hold.release(key: Self.key)
        #expect(released.count == HotKeyMitigationLimits.missReadsMax)
        #expect(hold.isEmpty && hold.nextDue == nil)
    }

    @Test func anAnswerThatFindsNobodyIsNobodys() {
        var hold = MissHold<Int>()
        let isHeld = hold.hold(1, of: Self.command, key: Self.key, deadline: second, askAt: 5)
        #expect(isHeld && hold.nextDue == 5)
        guard case .ask(Self.command, Self.key)? = hold.due(now: 5).first else {
            Issue.record("it does not ask")
            return
        }
        let more = hold.due(now: 6)
        #expect(more.isEmpty && hold.nextDue == second)
        let taken = hold.take { $0 == 1 }
        #expect(taken == [1])
        guard case .nothing = hold.answered(.turn, of: Self.command, intervalNanoseconds: 5, now: 7) else {
            Issue.record("somebody has a turn who left")
            return
        }
        #expect(hold.isEmpty && hold.nextDue == nil)
    }

    /// Several loops with their own readers, questions that take their time, values that come and go, clients that leave.
    @Test(arguments: UInt64(1)...40)
    func whateverTheSchedule(seed: UInt64) {
        var fleet = LoopsThatHold(seed: seed)
        fleet.run(steps: 4_000)
        #expect(fleet.turnsGiven > 5 && fleet.held > 50, "seed \(seed)")
    }
}

/// Event loops that share one ``MissTurns``, as a plain model of their driver: time goes on from event to event.
private struct LoopsThatHold {
    private struct Read {
        let id: Int
        let deadline: UInt64
    }

    private enum Event {
        /// A question of a loop arrives where turns are given; of a held read, or of a fresh one.
        case question(loop: Int, fresh: Int?)
        case answer(loop: Int, fresh: Int?, MissTurns.Answer)
    }

    private static let command = Array("GET k".utf8)
    private static let key = Array("k".utf8)
    private static let interval = 100 * millisecond
    private static let longest = 450 * millisecond

    private let seed: UInt64
    private var random: SeededRandom
    private var turns = MissTurns()
    private var holds = [MissHold<Read>](repeating: MissHold(), count: 3)
    private var events: [(at: UInt64, event: Event)] = []
    private var now: UInt64 = second
    private var isThere = true
    private var nextID = 0
    /// Reads without an answer, and when each was first held.
    private var waiting: [Int: UInt64?] = [:]
    private var lastTurn: UInt64?
    private(set) var turnsGiven = 0
    private(set) var held = 0

    init(seed: UInt64) {
        self.seed = seed
        random = SeededRandom(seed: seed)
    }

    mutating func run(steps: Int) {
        _ = turns.valueSeen(Self.command, of: Self.key)
        for _ in 0..<steps {
            advance(by: random.next() % (8 * millisecond))
            switch random.next() % 100 {
            case 0: comes()
            case 1: isThere = false
            case 2..<6: leave()
            default: arrive()
            }
        }
        isThere = false
        advance(by: 2 * Self.longest)
        #expect(waiting.isEmpty && holds.allSatisfy(\.isEmpty), "left over, seed \(seed)")
    }

    /// Up to a time, event by event: what is due at a loop, and what is under way between loops.
    private mutating func advance(by duration: UInt64) {
        let end = now + duration
        while true {
            let next = (holds.compactMap(\.nextDue) + events.map(\.at)).min() ?? .max
            guard next <= end else { break }
            now = max(now, next)
            let ready = events.filter { $0.at <= now }.map(\.event)
            events.removeAll { $0.at <= now }
            for event in ready { take(event) }
            for loop in holds.indices where holds[loop].nextDue.map({ $0 <= now }) == true {
                for action in holds[loop].due(now: now) {
                    switch action {
                    case .ask: send(.question(loop: loop, fresh: nil))
                    case .letGo(let reads):
                        for read in reads { settle(read) }
                    }
                }
            }
            check()
        }
        now = end
        check()
    }

    private mutating func send(_ event: Event) { events.append((now + random.next() % millisecond, event)) }

    private mutating func take(_ event: Event) {
        switch event {
        case .question(let loop, let fresh):
            var isFirst = false
            let answer = turns.missed(
                Self.command, intervalNanoseconds: Self.interval, wantsTurn: true, now: now, isFirst: &isFirst)
            if answer == .turn {
                #expect(lastTurn.map { now - $0 >= Self.interval } ?? true, "two turns in an interval, seed \(seed)")
                lastTurn = now
                turnsGiven += 1
            }
            send(.answer(loop: loop, fresh: fresh, answer))
        case .answer(let loop, let fresh?, let answer):
            guard waiting[fresh] != nil else { return }
            switch answer {
            case .free, .turn: waiting[fresh] = nil
            case .wait(let until): hold(fresh, loop, askAt: until)
            }
        case .answer(let loop, nil, let answer):
            switch holds[loop].answered(answer, of: Self.command, intervalNanoseconds: Self.interval, now: now) {
            case .nothing: break
            case .turn(let read): settle(read)
            case .letGo(let reads): for read in reads { settle(read) }
            }
        }
    }

    private mutating func hold(_ id: Int, _ loop: Int, askAt: UInt64) {
        waiting[id] = .some(now)
        let read = Read(id: id, deadline: now + Self.longest)
        let isHeld = holds[loop].hold(
            read, of: Self.command, key: Self.key, deadline: read.deadline, askAt: askAt)
        #expect(isHeld)
        held += 1
    }

    private mutating func settle(_ read: Read) {
        let known = waiting.removeValue(forKey: read.id)
        #expect(known != nil, "answered twice, seed \(seed)")
        #expect(now <= read.deadline, "held too long, seed \(seed)")
    }

    private mutating func arrive() {
        let loop = Int(random.next() % 3)
        nextID += 1
        guard !isThere else { return seen() }
        waiting[nextID] = .some(nil)
        if holds[loop].isHolding(Self.command) {
            hold(nextID, loop, askAt: now)
        } else {
            send(.question(loop: loop, fresh: nextID))
        }
    }

    private mutating func comes() {
        isThere = true
        seen()
    }

    /// A read has brought the value: every loop's readers get it.
    private mutating func seen() {
        guard turns.valueSeen(Self.command, of: Self.key) else { return }
        for loop in holds.indices {
            for read in holds[loop].release(Self.command) { settle(read) }
            #expect(!holds[loop].isHolding(Self.command))
        }
    }

    private mutating func leave() {
        guard let id = waiting.compactMap({ $0.value == nil ? nil : $0.key }).sorted().first else { return }
        waiting[id] = nil
        var taken = 0
        for loop in holds.indices { taken += holds[loop].take { $0.id == id }.count }
        #expect(taken == 1, "seed \(seed)")
    }

    private func check() {
        for since in waiting.values.compactMap({ $0 }) {
            #expect(now - since <= Self.longest, "held too long, seed \(seed)")
        }
    }
}
