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
        _ = machine.contact(generation: 1, sentAtMilliseconds: 400, nowMilliseconds: 400)
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
        _ = machine.contact(generation: 1, sentAtMilliseconds: 300, nowMilliseconds: 300)
        _ = machine.contact(generation: 1, sentAtMilliseconds: 200, nowMilliseconds: 200)
        _ = machine.contact(generation: 9, sentAtMilliseconds: 900, nowMilliseconds: 900)
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
                _ = machine.contact(generation: 1, sentAtMilliseconds: now, nowMilliseconds: now)
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

    /// A stopped server keeps its connections: the library may think well of one for long.
    @Test func P30_suspendedByTheOwnClockOnAConnectionThatSeemsToStand() {
        var machine = connected()
        #expect(machine.handle(.timer, nowMilliseconds: 0, random: 0) == [.probe(generation: 1)])
        #expect(machine.handle(.timer, nowMilliseconds: 250, random: 0) == [.probe(generation: 1)])
        #expect(machine.handle(.timer, nowMilliseconds: 500, random: 0) == [.probe(generation: 1)])
        #expect(machine.wakeAtMilliseconds == 666)
        #expect(machine.handle(.timer, nowMilliseconds: 665, random: 0).isEmpty)
        #expect(machine.isConnected)
        #expect(machine.handle(.timer, nowMilliseconds: 666, random: 0) == [.announce(.suspended)])
        #expect(!machine.isConnected)
        #expect(machine.handle(.timer, nowMilliseconds: 750, random: 0) == [.probe(generation: 1)])
        // An answer to a request from before does not make it current.
        #expect(
            machine.contact(generation: 1, sentAtMilliseconds: 10, isProof: true, nowMilliseconds: 760).isEmpty)
        #expect(machine.session?.lastProofMilliseconds == 10)
        var woken = machine
        #expect(
            woken.contact(generation: 1, sentAtMilliseconds: 750, nowMilliseconds: 770)
                == [.announce(.connected(sessionID: 7))])
        #expect(woken.session?.lastProofMilliseconds == 10, "a read proves nothing to the leader")
        // The library notices too: nothing is said twice.
        var noticed = machine
        #expect(noticed.handle(.disconnected(generation: 1), nowMilliseconds: 770, random: 0).isEmpty)
        #expect(noticed.publicState == .suspended)
        #expect(machine.handle(.timer, nowMilliseconds: 1_009, random: 0) == [.probe(generation: 1)])
        #expect(machine.handle(.timer, nowMilliseconds: 1_010, random: 0) == lose)
    }

    @Test func aReconnectionKeepsWhatWasProvenAndProvesNothing() {
        var machine = connected()
        _ = machine.contact(generation: 1, sentAtMilliseconds: 100, isProof: true, nowMilliseconds: 110)
        _ = machine.handle(.disconnected(generation: 1), nowMilliseconds: 200, random: 0)
        _ = machine.handle(
            .established(generation: 1, sessionID: 7, timeoutMilliseconds: 1_000), nowMilliseconds: 300, random: 0)
        #expect(machine.session?.lastProofMilliseconds == 100)
        _ = machine.handle(.expired(generation: 1), nowMilliseconds: 400, random: 0)
        #expect(machine.session == nil)
    }

    /// The library tries again at a sixtieth of the timeout, forever and all clients alike.
    @Test func aHandleThatReachesNobodyGivesWayToTheBackOff() {
        var machine = SessionMachine()
        _ = machine.handle(.start, nowMilliseconds: 0, random: 0)
        #expect(machine.wakeAtMilliseconds == nil, "names are being resolved")
        _ = machine.handle(.opened(generation: 1), nowMilliseconds: 1_000, random: 0)
        #expect(machine.wakeAtMilliseconds == 1_500)
        #expect(machine.handle(.timer, nowMilliseconds: 1_500, random: 0) == [.inspect(generation: 1)])
        #expect(
            machine.handle(.inspected(generation: 1, isTrying: true), nowMilliseconds: 1_500, random: 0).isEmpty,
            "one server is slow; the handle goes on to the next one by itself")
        #expect(machine.handle(.timer, nowMilliseconds: 2_000, random: 0) == [.inspect(generation: 1)])
        #expect(
            machine.handle(.inspected(generation: 1, isTrying: false), nowMilliseconds: 2_000, random: 0) == [
                .abandonWatches(generation: 1), .close(generation: 1, isFinal: false),
            ])
        _ = machine.handle(.handleClosed(generation: 1), nowMilliseconds: 2_010, random: 0.5)
        #expect(machine.wakeAtMilliseconds == 2_060)
        #expect(machine.lastFailure?.contains("no server") == true)
        // A session that came just before the answer is not taken away.
        var late = connected()
        #expect(late.handle(.inspected(generation: 1, isTrying: false), nowMilliseconds: 1, random: 0).isEmpty)
    }

    @Test func refusedCredentialsAreRememberedUntilASessionIsMade() {
        var machine = SessionMachine()
        var now: Int64 = 0
        _ = machine.handle(.start, nowMilliseconds: now, random: 0)
        for generation in 1...UInt64(20) {
            _ = machine.handle(
                .established(generation: generation, sessionID: 7, timeoutMilliseconds: 1_000), nowMilliseconds: now,
                random: 0)
            _ = machine.handle(.authenticationFailed(generation: generation), nowMilliseconds: now, random: 0)
            #expect(machine.areCredentialsRefused)
            _ = machine.handle(.handleClosed(generation: generation), nowMilliseconds: now, random: 0.999)
            if generation > 10 { #expect(machine.wakeAtMilliseconds! - now > 9_000, "no flood of attempts") }
            now = machine.wakeAtMilliseconds!
            _ = machine.handle(.timer, nowMilliseconds: now, random: 0)
        }
        _ = machine.handle(
            .established(generation: 21, sessionID: 7, timeoutMilliseconds: 1_000), nowMilliseconds: now, random: 0)
        _ = machine.handle(.authenticated(generation: 21), nowMilliseconds: now, random: 0)
        #expect(!machine.areCredentialsRefused && machine.isConnected)
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
                switch draw(9) {
                case 8:
                    draw(2) == 0 ? .opened(generation: generation) : .inspected(generation: generation, isTrying: false)
                case 0: .established(generation: generation, sessionID: Int64(generation), timeoutMilliseconds: 1_000)
                case 1: .authenticated(generation: generation)
                case 2: .disconnected(generation: generation)
                case 3: draw(4) == 0 ? .expired(generation: generation) : .timer
                case 4: draw(6) == 0 ? .authenticationFailed(generation: generation) : .timer
                case 5: .handleClosed(generation: generation)
                default: .timer
                }
            var actions: [SessionMachine.Action] = []
            if draw(2) == 0 {
                actions = machine.contact(
                    generation: generation, sentAtMilliseconds: now - 10, isProof: draw(2) == 0, nowMilliseconds: now)
            }
            actions += machine.handle(event, nowMilliseconds: now, random: Double(draw(1_000)) / 1_000)
            for action in actions {
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
