import HotKeyMitigation
import NIOCore
import RESP

/// One read of a hot key on its way: to home, to a copy or to a replica, and when that fails to the next place that may answer.
///
/// The order of places: one of home and the readable copies (in a Redis Cluster, replicas), by power of two choices; when that one
/// fails, home and the copies that are left; then the last known value while the rule's stale-on-error time allows it; then the error.
final class HotRead: UpstreamRequest {
    private enum Place {
        case home
        case copy(Int, NodeState)
        /// - Parameter heldUntil: what was proven of it when it was asked.
        case replica(ReplicaReads.Replica, heldUntil: UInt64)
    }

    let loop: ProxyLoop
    let question: HotQuestion
    var key: [UInt8] { question.key }
    var command: [UInt8] { question.command }
    private var isGet: Bool { question.isGet }
    private var version: ProtocolVersion { question.version }
    let counter: UInt64
    var sink: ReplySink
    /// Whether it may be held when there is no value.
    let standing: MissStanding
    /// The fill of the local cache that this read is; others wait for it.
    let token: FillToken?
    /// The local lifetime when the read began. A rule that changes while a copy is being read (both → cache) must not give
    /// the copy's value, which has used up its part of the cap, the whole cap once more.
    private let localLifetimeNanoseconds: UInt64
    /// How old what a copy holds may be, by the same snapshot: an agent that has taken another one reads no copies from before.
    private let copyLifetimeNanoseconds: UInt64
    private var place = Place.home
    private var hasTriedHome = false
    /// Why home did not answer: what the client is told when nobody else does either.
    private var homeFailure: UpstreamFailure?
    private var triedCopies: Set<Int> = []
    /// Whether its client counts it among its reads that went elsewhere than to home.
    var isAstray = false
    /// Which copies get the value.
    var filling = CopyFilling.nothing
    /// Whether home may be asked over its tracking connection.
    private var mayTrack = true
    /// What was asked so, and when.
    private var tracked: (home: NodeState, since: UInt64)?
    /// The tracking connection that the reply came over; 0 for none.
    private var source: UInt32 = 0

    init(
        loop: ProxyLoop, question: HotQuestion, counter: UInt64, sink: ReplySink, token: FillToken?,
        standing: MissStanding = .fresh, localLifetimeNanoseconds: UInt64, copyLifetimeNanoseconds: UInt64
    ) {
        self.loop = loop
        self.question = question
        self.standing = standing
        self.localLifetimeNanoseconds = localLifetimeNanoseconds
        self.copyLifetimeNanoseconds = copyLifetimeNanoseconds
        self.counter = counter
        self.sink = sink
        self.token = token
    }

    func start() {
        // One that has been held asks whether there is a value now, which home knows first.
        guard isGet, standing.isFresh, let index = loop.hotIndex(of: key) else { return tryHome() }
        let home = loop.home(key)
        if let replicas = loop.cluster?.replicaReads.readable(index), !replicas.isEmpty {
            let chosen = TwoChoices.choose(
                count: replicas.count + 1, random: loop.nextRandom(),
                score: { $0 == 0 ? home.load.score : replicas[$0 - 1].node.load.score },
                usable: { $0 > 0 || home.isUsable })
            if let chosen, chosen > 0, !isTrackedFill(home) { tryReplica(replicas[chosen - 1]) } else { tryHome() }
            return
        }
        let copies = loop.copyNodes(of: key)
        guard !copies.isEmpty else { return tryHome() }
        let chosen = TwoChoices.choose(
            count: copies.count + 1, random: loop.nextRandom(),
            score: { $0 == 0 ? home.load.score : copies[$0 - 1].load.score },
            usable: {
                $0 == 0 ? home.isUsable : loop.mayRead(copy: $0, of: index, on: copies[$0 - 1])
            })
        guard let chosen, chosen > 0 else { return tryHome() }
        guard isTrackedFill(home) else { return tryCopy(chosen, copies[chosen - 1]) }
        // Kept up for when home is down.
        filling = .one(chosen)
        tryHome()
    }

    /// What is kept here comes from home wherever home says when it changes, not from a copy, of which nobody would say so.
    private func isTrackedFill(_ home: NodeState) -> Bool {
        mayTrack && token != nil && TrackedReply.canServe(command, version) && loop.tracking.isTracking(home)
    }

    func tryHome() {
        place = .home
        hasTriedHome = true
        let home = loop.home(key)
        // Who fills a copy hears of changes for it.
        if isTrackedFill(home) || mayTrack && filling.isAny && loop.tracking.isTracking(home) {
            return ask(tracking: home)
        }
        let failure = command.withUnsafeBytes {
            home.send($0, .request(self), version, client: sink.client, counter: counter)
        }
        if let failure { fail(failure, home.node) } else { loop.statistics.hotHomeReads &+= 1 }
    }

    private func ask(tracking home: NodeState) {
        tracked = (home, loop.now)
        // On another connection than what its client asks next.
        strays()
        home.countSent()
        loop.statistics.hotHomeReads &+= 1
        let question = TrackedQuestion(
            key: key, command: command, version: version,
            ageNanosecondsMax: token == nil ? copyLifetimeNanoseconds : localLifetimeNanoseconds,
            copyLifetimeNanoseconds: filling.isAny ? copyLifetimeNanoseconds : nil)
        loop.tracking.ask(question, of: home.node, for: self)
    }

    /// What came of asking over the tracking connection.
    /// - Parameter isFromElsewhere: another event loop says it.
    func finish(_ outcome: TrackedOutcome, isFromElsewhere: Bool = false) {
        if isFromElsewhere { loop.updateNow() }
        guard let (home, since) = tracked, !loop.isShutDown else { return giveUp(.connectionLost) }
        tracked = nil
        let entry = PendingReply(target: .request(self), counter: counter, sentAt: since, isProbe: false)
        switch outcome {
        case .reply(let reply, let sentAt, let source):
            self.source = source
            // The view and its bytes end with these closures; nothing writes to the buffer, which is a constant.
            withUnsafePointer(to: reply) { whole in
                whole.pointee.withUnsafeReadableBytes { bytes in
                    let view = ReplyView(
                        buffer: whole, start: whole.pointee.readerIndex, length: bytes.count, bytes: bytes)
                    home.answered(entry, view)
                    if counter != 0 { loop.count(view, counter, isMiss: isMiss(view)) }
                    receiveFromHome(view, sentAt)
                }
            }
        case .unavailable:
            home.abandon([entry])
            mayTrack = false
            tryHome()
        }
    }

    /// The loop is being shut down: there are no nodes any more, and nobody who waits.
    private func giveUp(_ failure: UpstreamFailure) {
        guard let (home, _) = tracked else { return }
        tracked = nil
        if filling.isOver(succeeded: false) { return }
        let text = failure.text(home.node)
        if let token { for read in loop.takeWaiting(token) { read.sink.fail(text) } }
        if isAstray { sink.session?.readsAstray -= 1 }
        sink.fail(text)
    }

    /// It goes elsewhere than to home, where what its client asks next may be carried out first.
    func strays() {
        guard !isAstray else { return }
        isAstray = true
        sink.session?.readsAstray += 1
    }

    func deliver(_ reply: ByteBuffer) {
        if isAstray { sink.session?.readsAstray -= 1 }
        sink.deliver(reply)
    }

    private func tryCopy(_ number: Int, _ node: NodeState) {
        triedCopies.insert(number)
        guard let name = loop.copyName(key, number) else { return tryHomeOrNext() }
        place = .copy(number, node)
        strays()
        let failure = loop.sendForCopy(
            [Array("GET".utf8), name], to: node, self, version, client: sink.client, counter: counter)
        if let failure { fail(failure, node.node) }
    }

    private func tryReplica(_ replica: ReplicaReads.Replica) {
        guard let heldUntil = replica.freshness.heldUntil else { return tryHome() }
        place = .replica(replica, heldUntil: heldUntil)
        strays()
        let failure = command.withUnsafeBytes {
            replica.node.transmit($0, .request(self), .resp2, client: sink.client, counter: counter)
        }
        if let failure { fail(failure, replica.node.node) }
    }

    /// A copy that is empty, or a replica that has nothing, says nothing of the key: home is asked next.
    override func isMiss(_ reply: ReplyView) -> Bool {
        switch place {
        case .home: return reply.isNull
        case .copy:
            if case .missing = StoredCopy(reply.bytes) { return true }
            return false
        case .replica: return false
        }
    }

    override func receive(_ reply: ReplyView, sentAt: UInt64) {
        switch place {
        case .replica(let replica, let heldUntil): receiveFromReplica(replica, heldUntil, reply)
        case .home: receiveFromHome(reply, sentAt)
        case .copy(let number, let node): receiveFromCopy(number, node, reply, sentAt)
        }
    }

    override var asker: FrontSession? { sink.session }
    /// The last known value is answered at once while the home is down.
    override var hasFallback: Bool { loop.staleValue(of: key, command, version) != nil }

    private func receiveFromHome(_ reply: ReplyView, _ sentAt: UInt64) {
        if reply.isNotServing {
            fail(.notServing(reply.errorText), loop.home(key).node)
            return
        }
        if filling.isAny { fillCopies(with: reply, homeReadSentAt: sentAt) }
        guard token != nil || isAstray else {
            sink.deliver(reply)
            return
        }
        let isKept = reply.length <= loop.configuration.cacheValueBytesMax
        endFlight(reply.isError ? nil : reply.length, isKept ? reply.copied() : reply.detached(), sentAt)
    }

    private func receiveFromCopy(_ number: Int, _ node: NodeState, _ reply: ReplyView, _ sentAt: UInt64) {
        loop.noteRedirection(reply, from: node)
        switch StoredCopy(reply.bytes) {
        case .value(let payload):
            loop.statistics.copyReads &+= 1
            var value = ByteBuffer()
            RESPWriter.writeBulk(payload, to: &value)
            endFlight(value.readableBytes, value, sentAt, ageNanosecondsMax: copyLifetimeNanoseconds)
        case .missing:
            loop.statistics.copyReads &+= 1
            let value = ProxyReply.nothing(version)
            endFlight(value.readableBytes, value, sentAt, ageNanosecondsMax: copyLifetimeNanoseconds)
        case .nothing:
            loop.statistics.copyMisses &+= 1
            filling = .one(number)
            tryHomeOrNext()
        case .unusable:
            loop.statistics.copyMisses &+= 1
            tryHomeOrNext()
        }
    }

    /// Anything but an answer that is new enough is home's to say: also that there is no value (``ReplicaReads``).
    private func receiveFromReplica(_ replica: ReplicaReads.Replica, _ heldUntil: UInt64, _ reply: ReplyView) {
        let isMistake = reply.isCommandError
        if reply.isError, !isMistake { loop.cluster?.replicaReads.refused(replica) }
        guard let reads = loop.cluster?.replicaReads, let index = loop.hotIndex(of: key),
            reads.covers(replica, heldUntil: heldUntil, loop.table[index]),
            isMistake || StoredCopy.payload(of: reply.bytes) != nil
        else { return tryHome() }
        loop.statistics.replicaReads &+= 1
        // A local value lives from the moment at which it was last known to be the primary's.
        endFlight(isMistake ? nil : reply.length, reply.copied(), heldUntil)
    }

    private func tryHomeOrNext() {
        // Home was tried first and failed, then this copy had nothing.
        if let homeFailure {
            tryNext(after: homeFailure, loop.home(key).node)
        } else {
            tryHome()
        }
    }

    /// Gives the reply to everyone who waits and to the cache.
    func answer(_ bytes: Int?, _ reply: ByteBuffer, _ sentAt: UInt64, _ ageNanosecondsMax: UInt64) {
        if let token {
            if source == 0 {
                loop.statistics.tracking.fillsUntracked &+= 1
            } else {
                loop.statistics.tracking.fillsTracked &+= 1
            }
            if let bytes {
                let source = source == 0 ? 0 : loop.tracking.usableSource(source, of: key)
                _ = loop.cache.insert(
                    token, reply: reply, bytes: bytes, heldBytes: reply.storageCapacity, requestSentAt: sentAt,
                    now: loop.now, lifetimeNanosecondsMax: lifetimeMax(of: reply, source),
                    ageNanosecondsMax: ageNanosecondsMax, source: source)
            } else {
                loop.cache.fillFailed(token)
            }
            for read in loop.takeWaiting(token) {
                loop.countLocal(reply, read.counter)
                read.sink.deliver(reply)
            }
        }
        deliver(reply)
    }

    private func lifetimeMax(of reply: ByteBuffer, _ source: UInt32) -> UInt64 {
        var lifetime = localLifetimeNanoseconds
        if source == 0 { lifetime = min(lifetime, loop.configuration.untrackedLifetimeNanosecondsMax) }
        // Whoever finds nothing makes what is missing, and that should be seen soon.
        if reply.isNullReply { lifetime = min(lifetime, HotKeyMitigationLimits.missingLifetimeNanosecondsMax) }
        return lifetime
    }

    override func fail(_ failure: UpstreamFailure, _ node: ProxyNode) {
        if filling.isOver(succeeded: false) { return }
        if case .home = place { homeFailure = failure }
        tryNext(after: homeFailure ?? failure, homeFailure == nil ? node : loop.home(key).node)
    }

    private func tryNext(after failure: UpstreamFailure, _ node: ProxyNode) {
        if isGet, let index = loop.hotIndex(of: key) {
            for (offset, copy) in loop.copyNodes(of: key).enumerated() where !triedCopies.contains(offset + 1) {
                guard loop.mayRead(copy: offset + 1, of: index, on: copy) else { continue }
                tryCopy(offset + 1, copy)
                return
            }
        }
        if !hasTriedHome {
            tryHome()
            return
        }
        if let token {
            loop.cache.fillFailed(token)
            loop.readMissesAgain(command: command)
        }
        let waiters = token.map { loop.takeWaiting($0) } ?? []
        if failure.meansUnreachable, let stale = loop.staleValue(of: key, command, version) {
            loop.statistics.staleAnswers &+= UInt64(waiters.count + 1)
            loop.countLocal(stale, counter)
            for read in waiters {
                loop.countLocal(stale, read.counter)
                read.sink.deliver(stale)
            }
            deliver(stale)
        } else {
            let text = failure.text(node)
            for read in waiters { read.sink.fail(text) }
            if isAstray { sink.session?.readsAstray -= 1 }
            sink.fail(text)
        }
    }
}

/// A read of a hot key.
struct HotQuestion {
    let key: [UInt8]
    let command: [UInt8]
    /// Only `GET` can be answered from a copy: a copy holds a string.
    let isGet: Bool
    let version: ProtocolVersion
}

/// What a `GET` of a copy brought.
enum StoredCopy {
    case value(UnsafeRawBufferPointer)
    /// Home had no such key.
    case missing
    case nothing
    /// A tombstone, or something that is not ours: home must be asked, and nothing be stored.
    case unusable

    init(_ reply: UnsafeRawBufferPointer) {
        guard let stored = Self.payload(of: reply) else {
            self = Self.isNull(reply) ? .nothing : .unusable
            return
        }
        switch CopyCodec.decode(stored) {
        case .value(let headerBytes): self = .value(UnsafeRawBufferPointer(rebasing: stored[headerBytes...]))
        case .missing: self = .missing
        case .tombstone, .foreign: self = .unusable
        }
    }

    /// What a copy stores of home's reply to `GET`; nil for an error.
    static func encode(_ reply: UnsafeRawBufferPointer) -> [UInt8]? {
        if let payload = payload(of: reply) { return CopyCodec.encode(value: payload) }
        return isNull(reply) ? CopyCodec.missing : nil
    }

    private static func isNull(_ reply: UnsafeRawBufferPointer) -> Bool {
        reply[0] == UInt8(ascii: "$") || reply[0] == UInt8(ascii: "_")
    }

    /// The bytes of a bulk string; nil for null and for every other type.
    static func payload(of reply: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        guard reply[0] == UInt8(ascii: "$"), reply.count > 5, reply[1] != UInt8(ascii: "-"),
            let lineEnd = reply.firstIndex(of: UInt8(ascii: "\n"))
        else { return nil }
        return UnsafeRawBufferPointer(rebasing: reply[(lineEnd + 1)..<(reply.count - 2)])
    }
}
