import HotKeyMitigation
import NIOCore
import RESP

/// An agent's tracking connection to one node: what is read over it, and what the node says has changed since. Lives on the event loop
/// that owns the agent's tracking connections; ``TrackingHub`` brings it the questions of the others. What it does when is decided
/// by ``TrackingSession``.
///
/// The connection speaks RESP3 and has said `CLIENT TRACKING ON OPTIN`: the node notes only those reads that `CLIENT CACHING YES`
/// comes right before. Both leave in one write, and nothing else may get between them.
///
/// The node answers and announces in one order, so the reply to a read comes before the announcement that what it read has changed.
/// Loops are handed both in that order, too; an announcement that meets a read of the same key on its way ends it.
final class NodeTracker: PushListener {
    let node: ProxyNode
    private unowned let hub: TrackingHub
    private(set) var session = TrackingSession()
    private var connection: UpstreamConnection?
    /// By key, what is under way and may be joined.
    private var fills: [[UInt8]: [TrackedFill]] = [:]
    /// What the node has not answered, in its order.
    private var unanswered = Ring<TrackedFill>()
    /// Keys of which this agent has filled copies, and until when these may live.
    private var copied: [[UInt8]: UInt64] = [:]

    init(node: ProxyNode, hub: TrackingHub) {
        self.node = node
        self.hub = hub
    }

    // MARK: Reading

    func ask(_ question: TrackedQuestion, _ answer: @escaping (TrackedOutcome) -> Void) {
        handle(.wanted)
        guard let source = session.source, let connection, !isOverdue(unanswered.first) else {
            return answer(.unavailable)
        }
        if let lifetime = question.copyLifetimeNanoseconds {
            // Reckoned from when the copy can be there at the latest.
            copied[question.key] = hub.now + 2 * lifetime
            if copied.count > RedisProxyLimits.copiedKeysMax { forgetExpired() }
        }
        let joinable = fills[question.key]?.first {
            $0.command == question.command && $0.version == question.version
                && hub.now - $0.sentAt < question.ageNanosecondsMax
        }
        if let joinable { return joinable.add(answer) }
        let fill = TrackedFill(question, source: source, sentAt: hub.now, tracker: self)
        fill.add(answer)
        func entry(_ request: UpstreamRequest) -> PendingReply {
            PendingReply(target: .request(request), counter: 0, sentAt: hub.now, isProbe: false)
        }
        // Were the second not taken, the first would hold for the next read, which says the same before it anyway.
        let isSent =
            caching.withUnsafeReadableBytes { connection.send($0, entry(fill.announcement)) }
            && question.command.withUnsafeBytes { connection.send($0, entry(fill)) }
        guard isSent else { return answer(.unavailable) }
        fills[question.key, default: []].append(fill)
        unanswered.append(fill)
    }

    private func isOverdue(_ fill: TrackedFill?) -> Bool {
        fill.map { hub.now - min(hub.now, $0.sentAt) > hub.answerNanosecondsMax } ?? false
    }

    func ended(_ fill: TrackedFill) {
        // Replies, and failures, come in the order of what was asked.
        if unanswered.first === fill { _ = unanswered.removeFirst() }
        guard var known = fills[fill.key] else { return }
        known.removeAll { $0 === fill }
        fills[fill.key] = known.isEmpty ? nil : known
    }

    func answered(sentAt: UInt64) { handle(.answered(sentAt: sentAt)) }

    func refused(_ errorText: String) {
        handle(.refused(String(errorText.prefix(RedisProxyLimits.refusalTextMax))))
    }

    /// These keys were written: nobody joins a read that may be older.
    func changed(_ keys: [[UInt8]]) {
        guard !fills.isEmpty else { return }
        for key in keys { fills[key] = nil }
    }

    func endJoining() { fills = [:] }

    // MARK: What the node says

    func take(_ value: UnsafeRawBufferPointer) -> Bool {
        guard value.first == UInt8(ascii: ">") else { return false }
        guard let parts = ReplyElements.split(value), parts.count == 2,
            let word = ReplyElements.bulk(parts[0]), word.elementsEqual("invalidate".utf8)
        else { return true }
        hub.countInvalidation()
        guard let names = ReplyElements.split(parts[1]) else {
            // Null: every key.
            fills = [:]
            handle(.emptied)
            hub.retractCopies(of: Array(copied.keys))
            copied = [:]
            return true
        }
        let keys = names.compactMap { ReplyElements.bulk($0).map { Array($0) } }
        changed(keys)
        hub.dropEverywhere(keys)
        let copied = keys.filter { self.copied.removeValue(forKey: $0) != nil }
        hub.retractCopies(of: copied)
        return true
    }

    func lost() {
        connection = nil
        // Nothing tells of changes any more; the copies' expiry remains.
        copied = [:]
        handle(.lost)
    }

    // MARK: Deciding

    func tick(isNeeded: Bool) {
        var overdue: [TrackedFill] = []
        for place in 0..<unanswered.count where isOverdue(unanswered[place]) { overdue.append(unanswered[place]) }
        for fill in overdue { giveUp(fill) }
        handle(isNeeded ? .tick : .unneeded)
    }

    private func giveUp(_ fill: TrackedFill) {
        fills[fill.key]?.removeAll { $0 === fill }
        fill.giveUp()
    }

    func handle(_ event: TrackingSession.Event) {
        let actions = session.handle(
            event, now: hub.now, random: hub.random(), nextSource: { hub.nextSource() })
        for action in actions { carryOut(action) }
    }

    private func carryOut(_ action: TrackingSession.Action) {
        switch action {
        case .connect: connect()
        case .probe: probe()
        case .close: close()
        case .serve(let source): hub.serve(node, source)
        case .flush(let source, let cause): hub.flush(node, source, cause)
        case .tell(let reason): hub.tell(node, reason)
        }
    }

    private func connect() {
        guard let state = hub.state(of: node) else { return handle(.lost) }
        let new = UpstreamConnection(node: state, version: .resp3, isDedicated: true)
        state.dedicated[ObjectIdentifier(new)] = (new, [])
        new.listener = self
        connection = new
        new.connect()
        // Once more, and its answer is looked at: a server that goes on in RESP2 may accept tracking and tell of nothing.
        send(hello) { [self] view in
            if view.isError || view.bytes[0] != UInt8(ascii: "%") {
                refused(
                    "it does not speak RESP3: \(view.isError ? view.errorText : "HELLO 3 was not answered with a map")")
            }
        }
        send(tracking) { [self] view in
            if view.isError { refused(view.errorText) } else { handle(.armed) }
        }
    }

    private func probe() {
        let sentAt = hub.now
        send(ping) { [self] view in
            if !view.isError { handle(.answered(sentAt: sentAt)) }
        }
    }

    private func send(_ command: ByteBuffer, _ then: @escaping (ReplyView) -> Void) {
        let current = connection
        let request = ClosureRequest(isHousekeeping: true) { [self] result in
            // One that has been given up has nothing to say.
            if case .reply(let view, _) = result, current === connection { then(view) }
        }
        let entry = PendingReply(target: .request(request), counter: 0, sentAt: hub.now, isProbe: false)
        _ = command.withUnsafeReadableBytes { current?.send($0, entry) }
    }

    /// Ends the connection; what is under way on it is asked for in the ordinary way.
    func close() {
        let old = connection
        connection = nil
        copied = [:]
        fills = [:]
        old?.listener = nil
        old?.close(.connectionLost)
    }

    private func forgetExpired() {
        copied = copied.filter { $0.value > hub.now }
        if copied.count > RedisProxyLimits.copiedKeysMax { copied = [:] }
    }
}

private let caching = ByteBuffer(string: "*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$3\r\nYES\r\n")
private let hello = ByteBuffer(string: "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n")
private let tracking = ByteBuffer(string: "*4\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n$2\r\nON\r\n$5\r\nOPTIN\r\n")
private let ping = ByteBuffer(string: "*1\r\n$4\r\nPING\r\n")
