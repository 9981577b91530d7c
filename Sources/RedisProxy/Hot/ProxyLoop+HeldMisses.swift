import HotKeyMitigation
import NIOCore
import RESP
import SocketIO

/// Holding reads of a hot key whose value is gone, so that one client at a time makes it anew.
///
///     read ──▶ home: nothing ──▶ whose turn? ──▶ its own: it is told that there is nothing, asks the database and comes back with a SET
///                               (first loop)  └▶ another's: held
///     held ──▶ a write, or the home's word, or another's read that found a value: read again, answered with that
///          ──▶ its turn, or its time is over: read again, and told what that finds
///
/// The first event loop knows whose turn it is (``MissTurns``), for all of them; each holds its own clients' reads (``MissHold``).
///
/// **Guarantee 1** (a write acknowledged through the agent is seen by the next read through it). What a read found before it was held is
/// never what answers it:
///
///     the read finds nothing and is held; a write of v is carried out and acknowledged; the read's time is over: "nothing"
///
/// Each that leaves is carried out anew, and it leaves when a write drops its key on its loop, which is before the write is acknowledged.
/// It leaves by the way that every read takes, under a token of its own, and not before the owner of the tracking connections has the
/// drop before it (`ProxyLoop.dropEverywhere`). The one that is told at once, because its turn comes at once, asks another loop first,
/// and a write may be acknowledged meanwhile:
///
///     the read finds nothing, and asks; a write of v drops the key on this loop and is acknowledged; the turn is granted: "nothing"
///
/// So its fill's token is looked at again (``HotRead``): the drop has ended it, and the read is carried out anew.
///
/// **Guarantee 2** (nothing older than the staleness cap): that there is no value is not kept while reads are held for it, and what
/// answers a held read is what any read gets that comes when it leaves: of a read that was sent then, or that was under way for less than
/// the local lifetime.
///
/// **Order.** A client that has a read held counts as one whose read may come back from another place (``FrontSession/readsAstray``): its
/// own writes of hot keys wait for the reply. They would wait for the one thing that they are to bring:
///
///     GET k, SET k in one go: the GET is held, the SET waits behind it; everyone waits for somebody to SET k
///
/// So a client that waits for its replies before more of its commands are carried out is not held, nor one that has ended its side. And
/// a client that goes on sending has more to do than to wait for this read (a connection that many share has): only the newest command
/// of a client is held, while nothing else of it has come and more could be read of it, and it is let go as soon as more comes. The parts
/// of a command over several nodes are not held, because they would wait for each other:
///
///     MGET a b of one client, and MGET b a of another, and both are gone: the first is told of a and held for b, the second told of b and
///     held for a; nobody asks the database for either
struct HeldMiss {
    let question: HotQuestion
    let counter: UInt64
    let sink: ReplySink
    let deadline: UInt64
}

/// How far the agent has gone with a read that may find a value gone.
enum MissStanding {
    /// Nothing has been done with it.
    case fresh
    /// It has been carried out more than once, and may be held until then.
    case bounded(until: UInt64, hasBeenHeld: Bool)
    /// It is told what it finds.
    case settled(hasTurn: Bool)

    var mayBeHeld: Bool { if case .settled = self { false } else { true } }
    var isFresh: Bool { if case .fresh = self { true } else { false } }
    var hasBeenHeld: Bool { if case .bounded(_, true) = self { true } else { false } }
}

extension ReplySink {
    /// Whether it may be left waiting for a value that is gone.
    var mayBeHeld: Bool {
        guard case .slot(let session, let slot) = self else { return false }
        return session.mayBeHeld(for: slot)
    }
}

extension ProxyLoop {
    /// The policy of a key whose reads are held while its value is gone; nil for another.
    func missPolicy(of key: [UInt8]) -> HotKeyPolicy? {
        guard let index = hotIndex(of: key), table[index].holdsMisses else { return nil }
        return table[index]
    }

    // MARK: Holding

    /// Holds a read; false when it may not be, or there are too many.
    func hold(_ read: WaitingRead, _ question: HotQuestion, askAt: UInt64) -> Bool {
        guard let session = read.sink.session, read.standing.mayBeHeld, read.sink.mayBeHeld,
            let index = hotIndex(of: question.key), table[index].holdsMisses
        else { return false }
        var deadline = now + table[index].missHoldNanoseconds
        if case .bounded(let until, _) = read.standing { deadline = until }
        guard now < deadline else { return false }
        let held = HeldMiss(question: question, counter: read.counter, sink: read.sink, deadline: deadline)
        guard
            missHold.hold(held, of: question.command, key: question.key, deadline: deadline, askAt: askAt)
        else { return false }
        session.readsAstray += 1
        session.missesHeld += 1
        if !read.standing.hasBeenHeld {
            statistics.missesHeld &+= 1
            missesHeld[index] &+= 1
        }
        scheduleMisses()
        return true
    }

    /// Holds a read of which others are held already, without asking home first.
    func holdBehindOthers(
        _ index: Int, _ command: UnsafeRawBufferPointer, isGet: Bool, _ version: ProtocolVersion, _ read: WaitingRead
    ) -> Bool {
        guard !missHold.isEmpty, read.standing.mayBeHeld, table[index].holdsMisses else { return false }
        let command = Array(command)
        guard missHold.isHolding(command) else { return false }
        let question = HotQuestion(key: table[index].key, command: command, isGet: isGet, version: version)
        return hold(read, question, askAt: now)
    }

    private func scheduleMisses() {
        guard let due = missHold.nextDue, due < missTimerAt else { return }
        missTimerAt = due
        missTimer?.cancel()
        missTimer = eventLoop.assumeIsolated().scheduleTask(deadline: .uptimeNanoseconds(due)) { [self] in
            missTimer = nil
            missTimerAt = .max
            updateNow()
            for action in missHold.due(now: now) { carryOut(action) }
            scheduleMisses()
        }
    }

    private func carryOut(_ action: MissHold<HeldMiss>.Action) {
        switch action {
        case .letGo(let reads):
            letGo(reads)
        case .ask(let command, let key):
            let interval = missPolicy(of: key)?.missIntervalNanoseconds ?? 0
            askForTurn(command, of: key, intervalNanoseconds: interval, wantsTurn: true) { [self] answer in
                switch missHold.answered(answer, of: command, intervalNanoseconds: interval, now: now) {
                case .nothing: break
                case .letGo(let reads): letGo(reads)
                case .turn(let read):
                    readAgain(read, .settled(hasTurn: true))
                }
                scheduleMisses()
            }
        }
    }

    // MARK: Letting go

    /// To be told what they find.
    private func letGo(_ reads: [HeldMiss]) {
        statistics.missesLetGo &+= UInt64(reads.count)
        for read in reads { readAgain(read, .settled(hasTurn: false)) }
    }

    /// A client's that does more than to wait for them.
    func letGoMisses(of session: FrontSession) {
        letGo(missHold.take { $0.sink.session === session })
    }

    /// A client's that has gone.
    func dropMisses(of session: FrontSession) {
        guard session.missesHeld > 0 else { return }
        _ = missHold.take { $0.sink.session === session }
        session.missesHeld = 0
    }

    /// Another table is served: of keys that nothing is held for any more.
    func letGoMissesOfOtherKeys() {
        guard !missHold.isEmpty else { return }
        letGo(missHold.release { missPolicy(of: $0) == nil })
    }

    /// There is news of these keys, and every event loop has it or is going to have it before what this one hands it.
    func readMissesAgain(keys: [[UInt8]]) {
        guard !missHold.isEmpty else { return }
        for key in keys { readAgain(missHold.release(key: key)) }
    }

    /// A read has found a value, or its places have failed.
    func readMissesAgain(command: [UInt8]) {
        guard !missHold.isEmpty else { return }
        readAgain(missHold.release(command))
    }

    private func readAgain(_ reads: [HeldMiss]) {
        for read in reads { readAgain(read, .bounded(until: read.deadline, hasBeenHeld: true)) }
    }

    private func readAgain(_ read: HeldMiss, _ standing: MissStanding) {
        if let session = read.sink.session {
            session.readsAstray -= 1
            session.missesHeld -= 1
        }
        self.read(read.question, WaitingRead(sink: read.sink, counter: read.counter, standing: standing))
    }

    /// Carries out a read anew that has been overtaken by news. That may come again and again:
    ///
    ///     the read finds nothing, and asks whose turn it is; a write drops its key; it is carried out anew, finds nothing, asks, …
    ///
    /// so from the first time on it has as long as one that is held, and after that it is told what it finds.
    func readAnew(_ question: HotQuestion, _ read: WaitingRead) {
        let standing: MissStanding
        switch read.standing {
        case .fresh:
            let longest = missPolicy(of: question.key)?.missHoldNanoseconds ?? 0
            standing = .bounded(until: now + longest, hasBeenHeld: false)
        case .bounded(let until, _) where now >= until: standing = .settled(hasTurn: false)
        case .bounded, .settled: standing = read.standing
        }
        self.read(question, WaitingRead(sink: read.sink, counter: read.counter, standing: standing))
    }

    /// Carries out a read that came earlier.
    func read(_ question: HotQuestion, _ read: WaitingRead) {
        // Another loop's answer came after the end: there are no nodes any more, and nobody who waits.
        guard !isShutDown else { return read.sink.fail(Self.shutDownText) }
        question.command.withUnsafeBytes { command in
            if let index = hotIndex(of: question.key) {
                readHot(
                    index, command, isGet: question.isGet, question.version, counter: read.counter, sink: read.sink,
                    standing: read.standing)
                return
            }
            let home = home(question.key)
            let failure = home.send(
                command, .request(ForwardedRequest(read.sink)), question.version, client: read.sink.client,
                counter: read.counter)
            if let failure { read.sink.fail(failure.text(home.node)) }
        }
    }

    static let shutDownText = "ERR the agent has been shut down"

    // MARK: Turns, which the first event loop gives

    /// Asks whose turn it is; `then` is called on this loop, with ``now`` up to date, on the first one at once.
    func askForTurn(
        _ command: [UInt8], of key: [UInt8], intervalNanoseconds: UInt64, wantsTurn: Bool,
        then: @escaping (MissTurns.Answer) -> Void
    ) {
        guard index > 0 else {
            return then(turn(command, of: key, intervalNanoseconds: intervalNanoseconds, wantsTurn: wantsTurn))
        }
        guard let owner = peers.first else { return then(.free) }
        let asker = NIOLoopBound((loop: self, then: then), eventLoop: eventLoop)
        let eventLoop = eventLoop
        owner.eventLoop.execute {
            owner.value.updateNow()
            let answer = owner.value.turn(
                command, of: key, intervalNanoseconds: intervalNanoseconds, wantsTurn: wantsTurn)
            eventLoop.execute {
                asker.value.loop.updateNow()
                asker.value.then(answer)
            }
        }
    }

    private func turn(
        _ command: [UInt8], of key: [UInt8], intervalNanoseconds: UInt64, wantsTurn: Bool
    ) -> MissTurns.Answer {
        var isFirst = false
        let answer = missTurns.missed(
            command, intervalNanoseconds: intervalNanoseconds, wantsTurn: wantsTurn, now: now, isFirst: &isFirst)
        if isFirst { onEveryLoop { $0.valuesTold.remove(command, of: key) } }
        return answer
    }

    /// A fill has brought a value. The first event loop is told once, and once more after it was gone; where there is no room to note that
    /// it was told, not at all.
    func noteValue(_ command: [UInt8], of key: [UInt8]) {
        readMissesAgain(command: command)
        guard valuesTold.insert(command, of: key) else { return }
        guard index > 0 else { return valueSeen(command, of: key) }
        peers.first?.eventLoop.execute { [owner = peers.first!] in owner.value.valueSeen(command, of: key) }
    }

    private func valueSeen(_ command: [UInt8], of key: [UInt8]) {
        guard missTurns.valueSeen(command, of: key) else { return }
        onEveryLoop {
            $0.updateNow()
            $0.readMissesAgain(command: command)
        }
    }

    /// Another table is served: what was seen of keys that are not in it any more is forgotten.
    func keepMissTurns() {
        valuesTold = CommandsByKey()
        // Of keys that are only observed the table says nothing.
        if mode != .observe { missTurns.keep { missPolicy(of: $0) != nil } }
    }

    private func onEveryLoop(_ body: @escaping @Sendable (ProxyLoop) -> Void) {
        body(self)
        for peer in peers { peer.eventLoop.execute { body(peer.value) } }
    }
}

extension ProxyServer {
    /// How many reads of a key have been held because its value was gone, since it became hot here; `nil` when it is not.
    public func missesHeld(of key: [UInt8]) async throws -> UInt64? {
        let counts = try await onEveryLoop { loop in loop.hotIndex(of: key).map { loop.missesHeld[$0] } }
        return counts.contains { $0 != nil } ? counts.compactMap { $0 }.reduce(0, &+) : nil
    }
}
