import HotKeyMitigation
import Testing

/// The session behind a reference, because `#expect` cannot call what mutates.
private final class Subject {
    private var session = TrackingSession()
    private var lastSource: UInt32 = 0
    var random: UInt64 = 0

    func on(_ event: TrackingSession.Event, _ now: UInt64) -> [TrackingSession.Action] {
        session.handle(
            event, now: now, random: random,
            nextSource: {
                lastSource += 1
                return lastSource
            })
    }
    var source: UInt32? { session.source }
    var refusal: String? { session.refusal }

    /// One that tracks since `now`.
    static func tracking(since now: UInt64) -> Subject {
        let subject = Subject()
        _ = subject.on(.wanted, now)
        _ = subject.on(.armed, now)
        return subject
    }
}

@Suite struct TrackingSessionTests {
    @Test func nothingIsConnectedBeforeItIsWanted() {
        let session = Subject()
        #expect(session.on(.tick, 1) == [])
        #expect(session.on(.wanted, 2) == [.connect])
        #expect(session.on(.wanted, 3) == [], "one connection, however many want it")
        #expect(session.source == nil)
        #expect(session.on(.armed, 4) == [.serve(source: 1)])
        #expect(session.source == 1)
        #expect(session.on(.armed, 5) == [], "said twice")
    }

    @Test func theNodeIsAskedEachSecond() {
        let session = Subject.tracking(since: 0)
        var probes: [UInt64] = []
        for now in stride(from: UInt64(0), through: 10 * second, by: 100 * Int(millisecond)) {
            switch session.on(.tick, now) {
            case [.probe]:
                probes.append(now)
                #expect(session.on(.answered(sentAt: now), now + millisecond) == [])
            case []: break
            case let other: Issue.record("\(other) at \(now)")
            }
        }
        #expect(probes == (1...10).map { $0 * second })
    }

    @Test func silenceForMoreThanTwoSecondsFlushes() {
        let session = Subject.tracking(since: 0)
        #expect(session.on(.tick, second) == [.probe])
        #expect(session.on(.tick, 2 * second) == [.probe])
        #expect(session.on(.tick, 2 * second + 1) == [.flush(source: 1, .silent), .close])
        #expect(session.source == nil)
        // What the given-up connection still says changes nothing.
        #expect(session.on(.answered(sentAt: 2 * second), 2 * second + 2) == [])
        #expect(session.on(.lost, 2 * second + 3) == [])
        #expect(session.source == nil)
    }

    /// Bytes that were held up on their way are no sign of life: what counts is when the question was asked.
    @Test func lateAnswersProveOnlyWhatTheyWereAskedFor() {
        let session = Subject.tracking(since: 0)
        for step in 1...20 {
            let now = UInt64(step) * 100 * millisecond
            _ = session.on(.tick, now)
            // An answer comes all the time, to a question that is older and older.
            _ = session.on(.answered(sentAt: min(now, 50 * millisecond)), now)
        }
        #expect(session.source == 1)
        #expect(session.on(.tick, 2 * second + 51 * millisecond) == [.flush(source: 1, .silent), .close])
    }

    /// A process that was stopped for longer has heard nothing meanwhile, whatever lies in its sockets.
    @Test func timeThatWasSleptThroughIsSilence() {
        let session = Subject.tracking(since: 0)
        #expect(session.on(.tick, second) == [.probe])
        #expect(session.on(.answered(sentAt: second), 9 * second) == [])
        #expect(session.on(.tick, 9 * second) == [.flush(source: 1, .silent), .close])
    }

    @Test func aLostConnectionFlushesAndIsMadeAgain() {
        let session = Subject.tracking(since: 0)
        #expect(session.on(.lost, second) == [.flush(source: 1, .lost)])
        #expect(session.on(.lost, second) == [], "said twice")
        #expect(session.on(.wanted, second) == [], "not at once")
        #expect(session.on(.tick, second + 50 * millisecond) == [.connect])
        #expect(
            session.on(.armed, 2 * second) == [.serve(source: 2)],
            "another number: what the first brought is not told of")
    }

    @Test func pausesDoubleUpToFiveSecondsAndSpread() {
        for random in [UInt64(0), .max] {
            let session = Subject()
            session.random = random
            _ = session.on(.wanted, 0)
            var now: UInt64 = 0
            var pauses: [UInt64] = []
            for _ in 0..<10 {
                #expect(session.on(.lost, now) == [])
                let failedAt = now
                while session.on(.wanted, now) != [.connect] { now += millisecond }
                pauses.append(now - failedAt)
            }
            #expect(pauses.allSatisfy { $0 <= 5 * second + 10 * millisecond })
            #expect(pauses.last! >= 5 * second / 2)
            #expect(pauses.first! >= 50 * millisecond && pauses.first! <= 110 * millisecond)
        }
    }

    @Test func aConnectionThatKeptIsNoLongerHeldAgainstTheNode() {
        let session = Subject.tracking(since: 0)
        _ = session.on(.lost, 3 * second)
        #expect(session.on(.wanted, 3 * second + 50 * millisecond) == [.connect])
        // One that ends at once is.
        _ = session.on(.armed, 3 * second + 60 * millisecond)
        _ = session.on(.lost, 3 * second + 61 * millisecond)
        #expect(session.on(.wanted, 3 * second + 115 * millisecond) == [])
        #expect(session.on(.wanted, 3 * second + 161 * millisecond) == [.connect])
    }

    @Test func whoRefusesIsAskedAgainAfterAMinuteAndToldOfOnce() {
        let session = Subject()
        _ = session.on(.wanted, 0)
        #expect(session.on(.refused("NOPERM"), 1) == [.close, .tell(refusal: "NOPERM")])
        #expect(session.refusal == "NOPERM")
        #expect(session.on(.lost, 2) == [], "we closed it")
        #expect(session.on(.wanted, 59 * second) == [])
        #expect(session.on(.unneeded, 59 * second) == [], "remembered, although nobody needs it now")
        #expect(session.on(.wanted, 60 * second + 1) == [.connect])
        #expect(session.on(.refused("NOPERM"), 61 * second) == [.close], "known")
        #expect(session.on(.wanted, 122 * second) == [.connect])
        #expect(session.on(.armed, 123 * second) == [.serve(source: 1)])
        #expect(session.refusal == nil)
        // The right is taken away while it tracks.
        #expect(
            session.on(.refused("NOPERM"), 124 * second)
                == [.flush(source: 1, .lost), .close, .tell(refusal: "NOPERM")])
    }

    @Test func aNodeThatWasEmptiedGoesOnTracking() {
        let session = Subject.tracking(since: 0)
        #expect(session.on(.emptied, 1) == [.flush(source: 1, .emptied)])
        #expect(session.source == 1)
    }

    @Test func whatNobodyWantsEnds() {
        let session = Subject.tracking(since: 0)
        var now: UInt64 = 0
        while now < 3_600 * second - 100 * millisecond {
            now += 100 * millisecond
            _ = session.on(.tick, now)
            _ = session.on(.answered(sentAt: now), now)
            #expect(session.source == 1)
        }
        #expect(session.on(.tick, 3_600 * second) == [.flush(source: 1, .unneeded), .close])
        #expect(session.on(.tick, 3_610 * second) == [], "not made again for nobody")
        #expect(session.on(.wanted, 3_611 * second) == [.connect])
        #expect(session.on(.unneeded, 3_612 * second) == [.close])
        #expect(session.on(.wanted, 3_613 * second) == [.connect], "at once")
        // A node that is gone for good is not tried for ever.
        #expect(session.on(.lost, 3_614 * second) == [])
        #expect(session.on(.tick, 3_672 * second) == [.connect])
        #expect(session.on(.lost, 3_672 * second) == [])
        #expect(session.on(.tick, 3_700 * second) == [])
    }

    @Test func aConnectionThatIsNotMadeInTimeIsGivenUp() {
        let session = Subject()
        _ = session.on(.wanted, 0)
        #expect(session.on(.tick, 10 * second - 1) == [])
        #expect(session.on(.tick, 10 * second) == [.close])
        #expect(session.on(.armed, 10 * second + 1) == [], "too late")
        #expect(session.source == nil)
    }

    /// Whatever happens in whatever order: what was served is flushed before anything else is, a source is never used twice, and
    /// nothing is relied on for more than two seconds and a tick beyond the last proof.
    @Test(arguments: 0..<50)
    func nothingIsReliedOnWithoutProof(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let session = Subject()
        var now: UInt64 = 0
        var served: UInt32?
        var used: Set<UInt32> = []
        var provenAt: UInt64 = 0
        var isConnected = false
        for _ in 0..<5_000 {
            now += UInt64.random(in: 0...(300 * millisecond), using: &random)
            session.random = random.next()
            let events: [TrackingSession.Event] = [
                .wanted, .armed, .refused("no"), .lost, .emptied, .unneeded,
                .answered(sentAt: now - min(now, 40 * millisecond)),
            ]
            let weights = [30, 20, 1, 2, 2, 1, 40]
            var pick = Int.random(in: 0..<weights.reduce(0, +), using: &random)
            let index = weights.firstIndex { weight in
                pick -= weight
                return pick < 0
            }!
            // The driver reports of a connection only what there is one for.
            if [1, 2, 3, 4, 6].contains(index), !isConnected { continue }
            if case .answered(let sentAt) = events[index], served != nil { provenAt = max(provenAt, sentAt) }
            for event in [events[index], .tick] {
                if event == .lost { isConnected = false }
                for action in session.on(event, now) {
                    switch action {
                    case .connect:
                        #expect(!isConnected, "seed \(seed)")
                        isConnected = true
                    case .close: isConnected = false
                    case .serve(let source):
                        #expect(served == nil && used.insert(source).inserted && source != 0, "seed \(seed)")
                        (served, provenAt) = (source, now)
                    case .flush(let source, let cause):
                        #expect(served == source, "seed \(seed)")
                        if cause != .emptied { served = nil }
                    case .probe: #expect(isConnected, "seed \(seed)")
                    case .tell: break
                    }
                }
            }
            #expect(session.source == served, "seed \(seed)")
            if served != nil {
                #expect(
                    isConnected && now - provenAt <= HotKeyMitigationLimits.trackingSilenceNanosecondsMax,
                    "seed \(seed)")
            }
        }
        #expect(used.count > 10, "seed \(seed): nothing happened")
    }
}
