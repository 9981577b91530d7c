import HotKeyMitigation
import NIOCore
import RESP

/// A connection to a node that one client has for itself, for as long as the node must remember something of that client: a
/// transaction, a database, subscriptions, a command that waits.
///
/// While a client has one, all its commands take it and nothing is answered from the local cache or from copies; the node itself
/// answers, mistakes included. What it writes is invalidated here as for everybody. A client changes over only when everything it
/// asked for has been answered, because what takes another connection could overtake:
///
///     SET k v1 leaves on the shared connection; MULTI, SET k v2, EXEC leave on the client's own and are carried out first
final class BoundConnection {
    /// A cycle, broken by ``release()`` and ``lost()``.
    let session: FrontSession
    let node: NodeState
    let connection: UpstreamConnection
    private(set) var state = CarriedState()
    var counts = SubscriptionCounts()
    /// Written by commands that are queued.
    private var transactionWrites = WrittenKeys()
    /// The name that the client will have when its transaction has been carried out.
    private var queuedName: [UInt8]?
    /// Written by commands whose replies are switched off.
    private var silentWrites = WrittenKeys()
    private(set) var isSilent = false
    private var skipsNext = false
    /// As it will be when what has been sent has been answered. Only guesses may be made of it that do no harm when wrong.
    private(set) var expectsTransaction = false
    private(set) var expectsWatch = false
    private(set) var expectedDatabase: Int? = 0
    private var hasLostChange = false
    /// Before several nodes: the key that chose this one.
    var anchor: [UInt8]?

    init(session: FrontSession, node: NodeState, connection: UpstreamConnection) {
        self.session = session
        self.node = node
        self.connection = connection
        connection.bound = self
    }

    private var loop: ProxyLoop { session.loop }

    /// Whether the client waits for something to happen, not only for a reply.
    var isWaiting: Bool { head?.isBlocking ?? false }

    /// Whether a reply is awaited that may take any time.
    var isPatient: Bool { head.map { $0.wait != .none } ?? false }

    /// Whether what was begun here may be finished here although its keys live elsewhere now. Not what watches: those who write the
    /// keys do so elsewhere, and nothing here would tell.
    var mayFinishElsewhere: Bool { anchor != nil && !expectsWatch && !state.reasons.contains(.watch) }

    /// Whether nothing is carried any more. Asked when the client is owed nothing.
    var mayLeave: Bool { !state.mustStay && connection.pendingCount == 0 }

    private var head: BoundRequest? { connection.oldestRequest as? BoundRequest }

    // MARK: Sending

    func send(_ command: UnsafeRawBufferPointer, _ request: BoundRequest) {
        expect(request.change)
        node.countBoundRequest()
        let entry = PendingReply(target: .request(request), counter: 0, sentAt: loop.now, isProbe: false)
        guard !connection.send(command, entry) else { return }
        // What comes behind it must not be carried out without it.
        request.fail(.overloaded(isAnswering: true), node.node)
        connection.close(.overloaded(isAnswering: true))
    }

    /// Sends a command whose reply nobody wants.
    func sendAside(_ command: UnsafeRawBufferPointer) {
        _ = connection.send(command, PendingReply(target: .nobody, counter: 0, sentAt: loop.now, isProbe: false))
    }

    /// `MULTI` on the client's behalf, which has been answered before the node was known.
    func beginTransaction(isSpoiled: Bool) {
        expect(.multi)
        let request = ClosureRequest { [self] result in
            switch result {
            case .reply(let view, _): state.answered(.multi, view.isError ? .error : .done)
            case .failure: noteLoss(of: .multi)
            }
        }
        multi.withUnsafeReadableBytes {
            _ = connection.send(
                $0, PendingReply(target: .request(request), counter: 0, sentAt: loop.now, isProbe: false))
        }
        if isSpoiled { spoilTransaction() }
    }

    /// A mistake ends a transaction at Redis; the node has to hear of one that the agent found.
    func spoilTransaction() {
        guard expectsTransaction else { return }
        refusedCommand.withUnsafeReadableBytes { sendAside($0) }
    }

    /// Whether the next command gets no reply; asked once for each.
    func takeSilence() -> Bool {
        defer { skipsNext = false }
        return isSilent || skipsNext
    }

    func sendSilently(_ command: UnsafeRawBufferPointer, _ change: CarriedState.Change, _ written: WrittenKeys) {
        silentWrites.formUnion(written)
        state.sentSilently(change)
        if change != .none { expectedDatabase = nil }
        node.countBoundRequest()
        if !connection.sendUnanswered(command) { connection.close(.overloaded(isAnswering: true)) }
    }

    /// For a command that is not the node's: the node leaves out one reply, or a transaction there has to fail.
    func sendSilentlyInstead() {
        refusedCommand.withUnsafeReadableBytes { sendSilently($0, .none, WrittenKeys()) }
    }

    /// Sends more of a command whose beginning has been sent.
    func sendPart(_ bytes: UnsafeRawBufferPointer) {
        if !connection.sendUnanswered(bytes) { connection.close(.overloaded(isAnswering: true)) }
    }

    /// `CLIENT REPLY`
    func switchReplies(off: Bool) {
        isSilent = off
        skipsNext = false
    }

    func skipNextReply() { skipsNext = !isSilent }

    private func expect(_ change: CarriedState.Change) {
        switch change {
        case .multi: expectsTransaction = true
        case .watch: expectsWatch = true
        case .unwatch: if !expectsTransaction { expectsWatch = false }
        case .exec, .discard, .abort:
            if expectsTransaction || change == .abort { expectsWatch = false }
            expectsTransaction = false
        case .select(let number): if !expectsTransaction { expectedDatabase = number }
        case .reset:
            expectsTransaction = false
            expectsWatch = false
            expectedDatabase = 0
            switchReplies(off: false)
        default: break
        }
    }

    // MARK: Receiving

    enum Place {
        case reply
        /// Part of a reply of which more is to come.
        case part
        /// Not a reply: it has been passed on.
        case message
    }

    /// Takes what is no reply, and tells what the value is.
    func place(_ view: ReplyView) -> Place {
        let head = head
        // RESP3 has a type for what is no reply. In RESP2 a client that listens to channels gets no other arrays.
        if view.bytes[0] == UInt8(ascii: ">")
            || view.bytes[0] == UInt8(ascii: "*") && connection.version == .resp2
                && (counts.total > 0 || head?.subscription != nil)
        {
            let isPush = view.bytes[0] == UInt8(ascii: ">")
            switch Announcement(view.bytes) {
            case .acknowledgement(let count) where head?.subscription != nil:
                let isLast = head!.acknowledge(view, count: count)
                return isLast ? .reply : .part
            case .message where isPush || counts.total > 0: break
            case .other where isPush, .acknowledgement where isPush, nil where isPush: break
            default: return .reply
            }
        } else if !(state.reasons.contains(.monitor) && isMonitorLine(view.bytes)) {
            return .reply
        }
        if let head { head.precede(with: view) } else { session.passOnBehindReplies(view) }
        return .message
    }

    /// `+1700000000.123456 [0 127.0.0.1:4711] "GET" "k"`
    private func isMonitorLine(_ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes[0] == UInt8(ascii: "+") && bytes.count > 3 && (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[1])
    }

    /// Takes note of what a reply says about the connection.
    /// - Returns: the keys to be dropped before it goes out.
    func answered(_ request: BoundRequest, _ reply: ReplyView) -> WrittenKeys {
        let isQueued = state.reasons.contains(.transaction) && reply.bytes.elementsEqual("+QUEUED\r\n".utf8)
        let outcome: CarriedState.Outcome = reply.isError ? .error : isQueued ? .queued : .done
        var written = request.written
        if request.subscription != nil, outcome == .done {
            state.answered(.none, .done, repliesAreOff: isSilent)
            state.subscribed(to: counts.total)
        } else {
            state.answered(
                request.hello == nil ? request.change : helloChange(request), outcome, repliesAreOff: isSilent)
        }
        switch request.change {
        case _ where outcome == .queued:
            transactionWrites.formUnion(written)
            written = WrittenKeys()
            // Any other is refused when its turn comes.
            if let name = request.hello?.name, name.allSatisfy((UInt8(ascii: "!")...UInt8(ascii: "~")).contains) {
                queuedName = name
            }
        case .exec:
            written = transactionWrites.take()
            if state.database == nil { expectedDatabase = nil }
            if let name = queuedName, outcome == .done, !reply.isNull { take(name) }
            queuedName = nil
        case .discard where outcome == .done, .abort:
            transactionWrites = WrittenKeys()
            queuedName = nil
        case .reset where outcome == .done:
            queuedName = nil
            transactionWrites = WrittenKeys()
            counts = SubscriptionCounts()
            connection.speak(.resp2)
            connection.clientName = []
            connection.logInAgain()
            session.forgetByReset()
        case .select where outcome == .error: expectedDatabase = state.database
        case .multi where outcome == .error: expectsTransaction = state.reasons.contains(.transaction)
        default: break
        }
        if outcome == .done, let hello = request.hello {
            if let version = hello.version {
                connection.speak(version)
                session.change(to: version)
            }
            if let name = hello.name { take(name) }
        }
        // It was not carried out, so it need not cost everybody's local values.
        if written.isEverything, reply.bytes.starts(with: "-ERR unknown command".utf8) { written = WrittenKeys() }
        written.formUnion(silentWrites.take())
        return written
    }

    /// The node knows the client by this name now.
    private func take(_ name: [UInt8]) {
        session.name = name
        connection.clientName = name
    }

    private func helloChange(_ request: BoundRequest) -> CarriedState.Change {
        request.change == .unclear ? .none : request.change
    }

    /// A message may have waited for older replies to go out.
    func letMessagesPass() { head?.letMessagesPass() }

    // MARK: The end

    func noteLoss(of change: CarriedState.Change) {
        if change != .none { hasLostChange = true }
    }

    /// The connection has ended, and what was on it has failed. A client whose state went with it is let go, as it would be by the
    /// node: were it to go on, the rest of its transaction would be carried out command by command.
    func lost() {
        guard session.bound === self else { return }
        session.bound = nil
        transactionWrites.formUnion(silentWrites)
        loop.expireEverywhere(loop.hotKeys(among: transactionWrites))
        guard state.mustStay || expectsTransaction || hasLostChange else { return session.resume() }
        // What waits for a client that does not read would wait for ever.
        if session.mayTakeMore { session.end() } else { session.close() }
    }

    /// The client goes back to the shared connections.
    func release() {
        session.bound = nil
        connection.bound = nil
        node.giveBack(connection, isReusable: state.isReusable)
    }
}

extension ProxyLoop {
    /// Those of `written` whose values this agent may hold.
    func hotKeys(among written: WrittenKeys) -> [[UInt8]] {
        guard !fences.isEmpty, !written.isEmpty else { return [] }
        guard written.isEverything else {
            return written.keys.filter { key in
                key.withUnsafeBytes { isFenced($0, FastHash.hash($0, seed: configuration.hashSeed)) }
            }
        }
        var keys: Set<[UInt8]> = []
        for fence in fences { for index in 0..<fence.count { keys.insert(fence[index].key) } }
        return Array(keys)
    }
}

private let multi = ByteBuffer(string: "*1\r\n$5\r\nMULTI\r\n")
/// No command of any server: it makes a node count a mistake.
private let refusedCommand = ByteBuffer(string: "*1\r\n$10\r\nHK.REFUSED\r\n")
