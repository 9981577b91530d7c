import HotKeyMitigation
import NIOCore
import RESP

/// The end of a hot read: what it found is told, and that there is nothing to those whose turn it is (``HeldMiss``).
extension HotRead {
    /// Gives the reply to everyone who waits and to the cache; that there is no value, to those whose turn it is.
    /// - Parameters:
    ///   - bytes: nil when the reply is not to be kept.
    ///   - ageNanosecondsMax: how long before `sentAt` the value may have left home.
    func endFlight(_ bytes: Int?, _ reply: ByteBuffer, _ sentAt: UInt64, ageNanosecondsMax: UInt64 = 0) {
        guard let token, let policy = loop.missPolicy(of: key) else {
            return answer(bytes, reply, sentAt, ageNanosecondsMax)
        }
        guard bytes != nil, reply.isNullReply else {
            answer(bytes, reply, sentAt, ageNanosecondsMax)
            // An error ends the holding, too: it is the key's (another type), and theirs as well.
            if bytes != nil { loop.noteValue(command, of: key) } else { loop.readMissesAgain(command: command) }
            return
        }
        tellWhoIsNotHeld(token, reply)
        if loop.missHold.isHolding(command) { return foundNothing(token, reply, askAt: loop.now) }
        // Its client's writes wait for it, as they do for one that is held.
        strays()
        loop.askForTurn(
            command, of: key, intervalNanoseconds: policy.missIntervalNanoseconds, wantsTurn: hasClientToHold(token)
        ) { [self] turn in
            guard !loop.isShutDown else { return giveUp(token) }
            switch turn {
            case .free: answer(bytes, reply, sentAt, ageNanosecondsMax)
            case .wait(let until): foundNothing(token, reply, askAt: until)
            case .turn:
                foundNothing(
                    token, reply, askAt: loop.now + policy.missIntervalNanoseconds, hasTurn: true)
            }
        }
    }

    /// The loop has been shut down meanwhile: there are no nodes any more, and nobody who waits.
    private func giveUp(_ token: FillToken) {
        for read in loop.takeWaiting(token) { read.sink.fail(ProxyLoop.shutDownText) }
        if isAstray { sink.session?.readsAstray -= 1 }
        isAstray = false
        sink.fail(ProxyLoop.shutDownText)
    }

    /// Whether somebody waits for this who could be held, and so could be given a turn.
    private func hasClientToHold(_ token: FillToken) -> Bool {
        Self.mayBeHeld(sink, standing)
            || loop.waiting[token]?.contains { Self.mayBeHeld($0.sink, $0.standing) } == true
    }

    private static func mayBeHeld(_ sink: ReplySink, _ standing: MissStanding) -> Bool {
        standing.mayBeHeld && sink.mayBeHeld
    }

    /// Those who are not to be held are told what is found at once, before anything else is asked. Their own writes may be on their way
    /// behind them:
    ///
    ///     GET k, SET k v in one go, on one connection to home: the GET finds nothing, and asks whose turn it is; the SET is carried out and
    ///     has the GET carried out anew, which brings v, from behind it
    private func tellWhoIsNotHeld(_ token: FillToken, _ reply: ByteBuffer) {
        if !sink.isNobody, !Self.mayBeHeld(sink, standing) {
            if case .settled(hasTurn: true) = standing { loop.statistics.missTurns &+= 1 }
            deliver(reply)
            isAstray = false
            sink = .none
        }
        for read in loop.takeWaiting(token, where: { !Self.mayBeHeld($0.sink, $0.standing) }) {
            if case .settled(hasTurn: true) = read.standing { loop.statistics.missTurns &+= 1 }
            loop.countLocal(reply, read.counter)
            read.sink.deliver(reply)
        }
    }

    /// The value is gone: who waits is held, or is told so because it is its turn or because it cannot be held.
    ///
    /// Where the answer to whose turn it is took its time, a write may have been acknowledged since the reply was read, and has ended the
    /// token. Then nothing of what was found is told (``HeldMiss``).
    private func foundNothing(_ token: FillToken, _ reply: ByteBuffer, askAt: UInt64, hasTurn: Bool = false) {
        let isOutdated = !loop.cache.isWithoutNews(since: token)
        var reads = loop.takeWaiting(token)
        if isAstray { sink.session?.readsAstray -= 1 }
        isAstray = false
        // Its reply has been counted when it came.
        reads.insert(WaitingRead(sink: sink, counter: 0, standing: standing), at: 0)
        // Not kept; and a value that is being refreshed is gone, also for when home is down.
        loop.cache.foundNothing(token)
        var isTurnLeft = hasTurn
        for read in reads {
            if isOutdated {
                if !read.sink.isNobody { loop.readAnew(question, read) }
                continue
            }
            if isTurnLeft, Self.mayBeHeld(read.sink, read.standing) {
                isTurnLeft = false
                loop.statistics.missTurns &+= 1
            } else if loop.hold(read, question, askAt: askAt) {
                continue
            }
            loop.countLocal(reply, read.counter)
            read.sink.deliver(reply)
        }
    }
}
