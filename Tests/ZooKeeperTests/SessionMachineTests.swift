import Testing

@testable import ZooKeeper

/// The machine without clock, thread or server. Time is written in milliseconds, the session timeout is 1,000.
@Suite struct SessionMachineTests {
    private func connected(at now: Int64 = 0) -> SessionMachine {
        var machine = SessionMachine()
        #expect(machine.handle(.start, nowMilliseconds: now, random: 0) == [.open(generation: 1)])
        #expect(
            machine.handle(
                .established(generation: 1, sessionID: 7, timeoutMilliseconds: 1_000), nowMilliseconds: now, random: 0)
                == [.authenticate(generation: 1)])
        #expect(
            machine.handle(.authenticated(generation: 1), nowMilliseconds: now, random: 0)
                == [.announce(.connected(sessionID: 7))])
        return machine
    }

    private let lose: [SessionMachine.Action] = [
        .announce(.lost), .abandonWatches(generation: 1), .close(generation: 1, isFinal: false),
    ]

    @Test func connectedOnlyAfterAuthentication() {
        var machine = SessionMachine()
        _ = machine.handle(.start, nowMilliseconds: 0, random: 0)
        _ = machine.handle(
            .established(generation: 1, sessionID: 7, timeoutMilliseconds: 1_000), nowMilliseconds: 0, random: 0)
        #expect(machine.publicState == .lost)
        #expect(!machine.isConnected)
        _ = machine.handle(.authenticated(generation: 1), nowMilliseconds: 0, random: 0)
        #expect(machine.publicState == .connected(sessionID: 7))
    }

    @Test func suspendedAtOnceAndTheSameSessionAfterAReconnection() {
        var machine = connected()
        #expect(machine.handle(.disconnected(generation: 1), nowMilliseconds: 10, random: 0) == [.announce(.suspended)])
        #expect(
            machine.handle(
                .established(generation: 1, sessionID: 7, timeoutMilliseconds: 1_000), nowMilliseconds: 500, random: 0)
                == [.announce(.connected(sessionID: 7))])
    }

    @Test func P29_lostByTheLocalDeadlineWithoutHearingFromTheLibrary() {
        var machine = connected()
        machine.contact(generation: 1, sentAtMilliseconds: 400)
        _ = machine.handle(.disconnected(generation: 1), nowMilliseconds: 600, random: 0)
        #expect(machine.wakeAtMilliseconds == 1_400)
        #expect(machine.handle(.timer, nowMilliseconds: 1_399, random: 0).isEmpty)
        #expect(machine.handle(.timer, nowMilliseconds: 1_400, random: 0) == lose)
    }

    @Test func P30_aPausedProcessLosesItsSessionWhenItWakes() {
        var machine = connected()
        #expect(machine.handle(.timer, nowMilliseconds: 5_000, random: 0) == lose)
        var late = connected()
        #expect(
            late.handle(.disconnected(generation: 1), nowMilliseconds: 5_000, random: 0)
                == [.announce(.suspended)] + lose)
    }

    @Test func onlyTheMomentOfSendingCountsAsContact() {
        var machine = connected()
        machine.contact(generation: 1, sentAtMilliseconds: 300)
        machine.contact(generation: 1, sentAtMilliseconds: 200)
        machine.contact(generation: 9, sentAtMilliseconds: 900)
        _ = machine.handle(.disconnected(generation: 1), nowMilliseconds: 310, random: 0)
        #expect(machine.wakeAtMilliseconds == 1_300)
    }

    @Test func anIdleConnectionIsProbedFourTimesInATimeout() {
        var machine = connected()
        var probes = 0
        for now in stride(from: Int64(0), to: 10_000, by: 10) {
            let actions = machine.handle(.timer, nowMilliseconds: now, random: 0)
            if actions == [.probe(generation: 1)] {
                probes += 1
                machine.contact(generation: 1, sentAtMilliseconds: now)
            } else {
                #expect(actions.isEmpty)
            }
        }
        #expect(probes == 40)
    }

    @Test func P29_anExpiredHandleIsReplacedAfterAJitteredPause() {
        var machine = connected()
        _ = machine.handle(.disconnected(generation: 1), nowMilliseconds: 10, random: 0)
        #expect(machine.handle(.expired(generation: 1), nowMilliseconds: 20, random: 0) == lose)
        #expect(machine.handle(.handleClosed(generation: 1), nowMilliseconds: 30, random: 0.5).isEmpty)
        #expect(machine.wakeAtMilliseconds == 80)
        #expect(machine.handle(.timer, nowMilliseconds: 79, random: 0).isEmpty)
        #expect(machine.handle(.timer, nowMilliseconds: 80, random: 0) == [.open(generation: 2)])
    }

    @Test func theFormerHandleIsNotHeardAnyMore() {
        var machine = connected()
        _ = machine.handle(.expired(generation: 1), nowMilliseconds: 20, random: 0)
        _ = machine.handle(.handleClosed(generation: 1), nowMilliseconds: 30, random: 0)
        _ = machine.handle(.timer, nowMilliseconds: 30, random: 0)
        for event: SessionMachine.Event in [
            .established(generation: 1, sessionID: 7, timeoutMilliseconds: 1_000), .disconnected(generation: 1),
            .expired(generation: 1), .authenticationFailed(generation: 1), .handleClosed(generation: 1),
            .authenticated(generation: 1), .openFailed(generation: 1, reason: ""),
        ] {
            #expect(machine.handle(event, nowMilliseconds: 40, random: 0).isEmpty)
            #expect(machine.phase == .connecting(2))
        }
    }

    @Test func refusedCredentialsTellWhoWaits() {
        var machine = SessionMachine()
        _ = machine.handle(.start, nowMilliseconds: 0, random: 0)
        _ = machine.handle(
            .established(generation: 1, sessionID: 7, timeoutMilliseconds: 1_000), nowMilliseconds: 0, random: 0)
        #expect(
            machine.handle(.authenticationFailed(generation: 1), nowMilliseconds: 0, random: 0) == [
                .abandonWatches(generation: 1), .close(generation: 1, isFinal: false),
                .failWaiting(.authenticationFailed),
            ])
    }

    @Test func credentialsThatWereAddedLaterTellOnlyTheirCaller() {
        var machine = connected()
        #expect(machine.handle(.authenticationFailed(generation: 1), nowMilliseconds: 0, random: 0) == lose)
    }

    @Test func aConnectionLostWhileAuthenticatingIsNobodysBusiness() {
        var machine = SessionMachine()
        _ = machine.handle(.start, nowMilliseconds: 0, random: 0)
        _ = machine.handle(
            .established(generation: 1, sessionID: 7, timeoutMilliseconds: 1_000), nowMilliseconds: 0, random: 0)
        #expect(machine.handle(.disconnected(generation: 1), nowMilliseconds: 1, random: 0).isEmpty)
        #expect(machine.handle(.authenticated(generation: 1), nowMilliseconds: 1, random: 0).isEmpty)
        #expect(
            machine.handle(
                .established(generation: 1, sessionID: 7, timeoutMilliseconds: 1_000), nowMilliseconds: 2, random: 0)
                == [.authenticate(generation: 1)])
    }

    @Test func aSilentReconnectionIsTold() {
        var machine = connected()
        #expect(
            machine.handle(
                .established(generation: 1, sessionID: 7, timeoutMilliseconds: 1_000), nowMilliseconds: 5, random: 0)
                == [.announce(.suspended), .announce(.connected(sessionID: 7))])
    }

    @Test func openFailuresBackOffWithoutEnd() {
        var machine = SessionMachine()
        var now: Int64 = 0
        #expect(machine.handle(.start, nowMilliseconds: now, random: 0) == [.open(generation: 1)])
        for attempt in 1...50 {
            let generation = UInt64(attempt)
            #expect(
                machine.handle(
                    .openFailed(generation: generation, reason: "no name"), nowMilliseconds: now, random: 0.999
                ).isEmpty)
            let pause = machine.wakeAtMilliseconds! - now
            #expect(pause <= 10_000)
            if attempt > 10 { #expect(pause > 9_000) }
            now += pause
            #expect(machine.handle(.timer, nowMilliseconds: now, random: 0) == [.open(generation: generation + 1)])
        }
        #expect(machine.lastFailure == "no name")
    }

    @Test func closeFromEveryPhaseEndsClosed() {
        var idle = SessionMachine()
        #expect(idle.handle(.close, nowMilliseconds: 0, random: 0) == [.finish])
        #expect(idle.handle(.start, nowMilliseconds: 0, random: 0).isEmpty)

        var live = connected()
        #expect(
            live.handle(.close, nowMilliseconds: 0, random: 0) == [
                .announce(.lost), .abandonWatches(generation: 1), .close(generation: 1, isFinal: true),
            ])
        #expect(live.handle(.close, nowMilliseconds: 0, random: 0).isEmpty)
        #expect(live.handle(.handleClosed(generation: 1), nowMilliseconds: 0, random: 0) == [.finish])
        #expect(live.phase == .closed)

        var losing = connected()
        _ = losing.handle(.expired(generation: 1), nowMilliseconds: 0, random: 0)
        #expect(losing.handle(.close, nowMilliseconds: 0, random: 0).isEmpty)
        #expect(losing.handle(.handleClosed(generation: 1), nowMilliseconds: 0, random: 0) == [.finish])

        var pausing = connected()
        _ = pausing.handle(.expired(generation: 1), nowMilliseconds: 0, random: 0)
        _ = pausing.handle(.handleClosed(generation: 1), nowMilliseconds: 0, random: 0.9)
        #expect(pausing.handle(.close, nowMilliseconds: 0, random: 0) == [.finish])

        var connecting = SessionMachine()
        _ = connecting.handle(.start, nowMilliseconds: 0, random: 0)
        #expect(
            connecting.handle(.close, nowMilliseconds: 0, random: 0) == [
                .abandonWatches(generation: 1), .close(generation: 1, isFinal: true),
            ])
    }

    /// Any sequence of events keeps the promises of the announcements.
    @Test(arguments: 0..<200) func randomEventsKeepTheOrderOfStates(seed: Int) {
        var state = UInt64(seed) &* 0x9E37_79B9_7F4A_7C15 | 1
        func draw(_ below: Int) -> Int {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return Int(state % UInt64(below))
        }
        var machine = SessionMachine()
        var announced: [ConnectionState] = [.lost]
        var open: UInt64?
        var now: Int64 = 0
        _ = machine.handle(.start, nowMilliseconds: 0, random: 0)
        open = 1
        for _ in 0..<300 {
            now += Int64(draw(400))
            let generation = machine.generation
            let event: SessionMachine.Event =
                switch draw(8) {
                case 0: .established(generation: generation, sessionID: Int64(generation), timeoutMilliseconds: 1_000)
                case 1: .authenticated(generation: generation)
                case 2: .disconnected(generation: generation)
                case 3: draw(4) == 0 ? .expired(generation: generation) : .timer
                case 4: draw(6) == 0 ? .authenticationFailed(generation: generation) : .timer
                case 5: .handleClosed(generation: generation)
                default: .timer
                }
            if draw(2) == 0 { machine.contact(generation: generation, sentAtMilliseconds: now - 10) }
            for action in machine.handle(event, nowMilliseconds: now, random: Double(draw(1_000)) / 1_000) {
                switch action {
                case .announce(let next):
                    #expect(next != announced.last, "seed \(seed): announced twice in a row")
                    if next == .suspended {
                        guard case .connected = announced.last else {
                            Issue.record("seed \(seed): suspended after \(String(describing: announced.last))")
                            continue
                        }
                    }
                    announced.append(next)
                case .open(let generation):
                    #expect(open == nil, "seed \(seed): two handles at once")
                    open = generation
                case .close(let generation, _):
                    #expect(open == generation, "seed \(seed): closed what was not open")
                    open = nil
                default: break
                }
            }
            #expect(machine.publicState == announced.last, "seed \(seed): the state is not what was announced")
        }
    }
}
