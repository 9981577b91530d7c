import HotKeyMitigation
import NIOCore
import RESP
import SocketIO
import TransportSecurity

/// One pipelined connection to a cache node, shared by all clients of one event loop that speak the same protocol version.
///
/// Commands are copied into one buffer as they come and leave in one write at the end of the event-loop turn. Replies come
/// back in the order of the commands; the head of `pending` says whose the next one is. So one reply that is late makes all
/// behind it late: when the oldest command is older than the timeout, the connection is given up and everything on it fails.
///
/// A dedicated connection is the same for one client alone (``BoundConnection``).
final class UpstreamConnection: SocketHandler {
    enum State {
        case connecting
        /// It stands, and nothing of any client leaves yet: TLS or the login is under way.
        case admitting
        case ready
        case closed
    }

    private(set) var state = State.connecting
    private(set) var version: ProtocolVersion
    /// Serves one client alone.
    let isDedicated: Bool
    /// Whom it serves; `nil` while it waits for the next one.
    var bound: BoundConnection?
    /// Takes the messages of channels; on a connection for nothing else.
    var listener: (any PushListener)?
    /// As the node knows it, by `CLIENT SETNAME`.
    var clientName: [UInt8] = []
    /// Since when it has waited for a client.
    var idleSince: UInt64 = 0
    /// Its client does not read what it is sent, so this does not read either.
    private var isReadHeld = false
    /// A reply that goes to its client while it arrives.
    private var stream: ReplyStream?
    /// No longer shared: nothing more is sent.
    private(set) var isRetired = false
    private let node: NodeState
    private var connection: SocketConnection?
    /// While it is being established.
    private var connector: SocketConnector?
    private var outbound = ByteBuffer()
    var unread = UnreadBytes()
    private var scanner = ReplyScanner()
    private var pending = Ring<PendingReply>()
    private var isDirty = false
    /// Commands enqueued since the beginning; entry n is answered when `enqueued - pending.count > n`.
    private var enqueued: UInt64 = 0
    /// Called once everything up to a count has been answered or has failed; in ascending order.
    private var barriers = Ring<(upTo: UInt64, then: () -> Void)>()

    /// As whom the agent is known on this connection.
    let login: Login?
    private var hasHeard = false

    init(node: NodeState, version: ProtocolVersion, isDedicated: Bool = false) {
        self.node = node
        self.version = version
        self.isDedicated = isDedicated
        login = node.loop.configuration.upstreamSecurity.login(node.node)
        if version == .resp3, login == nil {
            RESPWriter.writeCommand([Array("HELLO".utf8), Array("3".utf8)], to: &outbound)
            append(PendingReply(target: .nobody, counter: 0, sentAt: node.loop.now, isProbe: false))
        }
        if node.isReplica {
            RESPWriter.writeCommand([Array("READONLY".utf8)], to: &outbound)
            append(PendingReply(target: .nobody, counter: 0, sentAt: node.loop.now, isProbe: false))
        }
    }

    var pendingCount: Int { pending.count }

    /// How long the oldest command has waited for its reply.
    func oldestWaitNanoseconds(now: UInt64) -> UInt64 {
        guard let oldest = pending.first, now > oldest.sentAt else { return 0 }
        return now - oldest.sentAt
    }

    func connect() {
        let loop = node.loop
        connector = SocketConnector.connect(
            host: node.node.host, port: node.node.port, on: loop.eventLoop,
            timeoutMilliseconds: loop.configuration.connectTimeoutMilliseconds, options: TCPOptions()
        ) { [self] in
            try loop.checkDescriptors(isDedicated: isDedicated)
        } completion: { [self] result in
            do {
                try connected(result.get())
            } catch let error as TransportSecurityError {
                refused(error.message)
            } catch {
                close(loop.failureToConnect(error))
            }
        }
    }

    /// Makes the connection ready: TLS first, then the login, and only then what clients ask.
    private func connected(_ descriptor: CInt) throws {
        let loop = node.loop
        connector = nil
        let connection = try SocketConnection(
            descriptor: descriptor, eventLoop: loop.eventLoop, allowsHalfClosure: false, handler: self)
        self.connection = connection
        guard let tls = loop.configuration.upstreamSecurity.tls else { return logIn() }
        state = .admitting
        try connection.secure { [self] channel in
            try tls.secure(
                channel, host: node.node.host, handshakeMilliseconds: loop.configuration.connectTimeoutMilliseconds)
        }
        .assumeIsolated().whenComplete { [self] result in
            switch result {
            case .success: logIn()
            case .failure(let error): refused("\(error)")
            }
        }
    }

    private func logIn() {
        guard state != .closed, let connection else { return }
        guard let login else { return becomeReady() }
        state = .admitting
        connection.writeAndFlush(login.command(version))
        node.loop.eventLoop.assumeIsolated().scheduleTask(
            in: .milliseconds(node.loop.configuration.requestTimeoutMilliseconds)
        ) { [self] in
            guard state == .admitting else { return }
            node.loop.updateNow()
            close(.timeout)
        }
    }

    private func becomeReady() {
        state = .ready
        markDirty()
    }

    /// What the node answers to the login.
    private func answeredLogin(_ reply: ReplyView) {
        if reply.isError, !login.needsNone(reply.errorText) {
            refused(NodeState.refusedLogin(reply.errorText))
        } else {
            node.admitted()
            becomeReady()
        }
    }

    private func refused(_ reason: String) {
        guard state != .closed else { return }
        node.loop.updateNow()
        node.refused(reason)
        close(.notAdmitted(reason))
    }

    /// After `RESET` the node knows the agent no more. What the client asks next is sent behind this.
    func logInAgain() {
        guard let login else { return }
        let request = ClosureRequest { [self] result in
            // The client was waited for; it may go back to the shared connections now.
            bound?.session.resume()
            if case .reply(let view, _) = result, view.isError, !login.needsNone(view.errorText) {
                refused(NodeState.refusedLogin(view.errorText))
            }
        }
        login.command(.resp2).withUnsafeReadableBytes {
            _ = send($0, PendingReply(target: .request(request), counter: 0, sentAt: node.loop.now, isProbe: false))
        }
    }

    /// Enqueues one command. False when the connection takes no more: nothing was enqueued.
    @inline(__always)
    func send(_ command: UnsafeRawBufferPointer, _ reply: consuming PendingReply) -> Bool {
        guard state != .closed, pending.count < RedisProxyLimits.upstreamPendingMax,
            outbound.readableBytes < RedisProxyLimits.upstreamOutboundBytesMax
        else { return false }
        outbound.append(command)
        append(reply)
        markDirty()
        return true
    }

    /// As ``send(_:_:)``, with `ASKING` before the command. The two stand together or not at all: an `ASKING` alone would be spent
    /// on the next command, whosever that is.
    func sendAsking(_ command: UnsafeRawBufferPointer, _ reply: consuming PendingReply) -> Bool {
        guard state != .closed, pending.count + 1 < RedisProxyLimits.upstreamPendingMax,
            outbound.readableBytes + asking.readableBytes < RedisProxyLimits.upstreamOutboundBytesMax
        else { return false }
        let own = PendingReply(target: .nobody, counter: 0, sentAt: reply.sentAt, isProbe: false)
        return asking.withUnsafeReadableBytes { send($0, own) } ? send(command, reply) : false
    }

    @inline(__always)
    private func append(_ reply: consuming PendingReply) {
        // The session has just asked for this, so it is there; from here until `settle` it is kept by its count. Nothing asks after its
        // session has ended, and this does not rely on it.
        if case .client(let session, _) = reply.target {
            session.with {
                $0.awaitedReplies &+= 1
                if !$0.isConnected { node.loop.keepWhileAwaiting($0) }
            }
        }
        pending.append(reply)
        enqueued &+= 1
    }

    /// Sends a command whose reply the client has switched off. False when the connection takes no more.
    func sendUnanswered(_ command: UnsafeRawBufferPointer) -> Bool {
        guard state != .closed, outbound.readableBytes < RedisProxyLimits.upstreamOutboundBytesMax else { return false }
        outbound.append(command)
        markDirty()
        return true
    }

    /// Whether its client should send no more for now: commands wait here until the node takes them.
    var isCongested: Bool { outbound.readableBytes > RedisProxyLimits.boundOutboundBytesMax }

    /// The client has chosen another protocol version for its own connection.
    func speak(_ version: ProtocolVersion) { self.version = version }

    /// What the next reply answers.
    var oldestRequest: UpstreamRequest? {
        if case .request(let request)? = pending.first?.target { request } else { nil }
    }

    /// Calls `body` once every command enqueued so far has been answered or has failed.
    func afterPending(_ body: @escaping () -> Void) {
        if pending.isEmpty {
            body()
        } else {
            barriers.append((upTo: enqueued, then: body))
        }
    }

    @inline(__always)
    private func markDirty() {
        guard !isDirty, state == .ready else { return }
        isDirty = true
        node.loop.markDirty(self)
    }

    /// Writes what has gathered during this turn of the loop.
    func flush() {
        isDirty = false
        guard state == .ready, let connection, outbound.readableBytes > 0, connection.isWritable else { return }
        connection.writeAndFlush(outbound)
        // When it was sent whole, the storage is ours alone again and is used again; otherwise a new one is made.
        outbound.clear()
        bound?.session.resume()
    }

    /// A client that does not read what it is sent stops its own connection here, and the node does with it as it would directly.
    private func holdReading(_ bound: BoundConnection) {
        guard !isReadHeld, !bound.session.mayTakeMore else { return }
        isReadHeld = true
        connection?.setReading(false)
    }

    func readOn() {
        guard isReadHeld else { return }
        isReadHeld = false
        stream?.progressAt = node.loop.now
        connection?.setReading(true)
    }

    func writabilityChanged(_ isWritable: Bool) {
        if isWritable { markDirty() }
    }

    /// Not asked for: a node that closes its side has closed the connection.
    func inputClosed() {}

    func closed(_ error: (any Error)?) {
        connection = nil
        node.loop.updateNow()
        // In TLS 1.3 a server looks at the client's certificate when for the client the handshake is over.
        if !hasHeard, let error, let reason = TLSFailure.describe(error) { return refused(reason) }
        close(.connectionLost)
    }

    func received(_ buffer: inout ByteBuffer) {
        guard state != .closed else { return }
        node.loop.updateNow()
        node.heard()
        hasHeard = true
        if stream != nil {
            passPart(&buffer)
            if buffer.readableBytes == 0 { return }
        }
        do {
            try deliver(&buffer)
        } catch {
            close(.malformedReply)
            return
        }
        if buffer.readableBytes > 0 { beginStream(&buffer) }
        if state != .closed { unread.keep(buffer) }
        if let bound { holdReading(bound) }
    }

    private func deliver(_ buffer: inout ByteBuffer) throws(RESPError) {
        var consumed = 0
        // The buffer and its bytes are borrowed while `ReplyView` hands them on: the pointers end with these closures, and nothing
        // writes to the buffer meanwhile, which is this call's alone.
        let failure = withUnsafePointer(to: buffer) { whole in
            whole.pointee.withUnsafeReadableBytes { bytes -> RESPError? in
                while consumed < bytes.count, state == .ready || state == .admitting {
                    do throws(RESPError) {
                        let rest = UnsafeRawBufferPointer(rebasing: bytes[consumed...])
                        guard let length = try scanner.scan(rest) else { return nil }
                        let view = ReplyView(
                            buffer: whole, start: whole.pointee.readerIndex + consumed, length: length,
                            bytes: UnsafeRawBufferPointer(rebasing: rest[0..<length]))
                        consumed += length
                        if state == .admitting {
                            answeredLogin(view)
                            continue
                        }
                        if isDedicated || rest[0] == UInt8(ascii: ">"), !isReply(view) { continue }
                        guard let first = pending.popFirst() else {
                            return RESPError(.malformedReply, "a reply that no command asked for")
                        }
                        complete(first, view)
                    } catch {
                        return error
                    }
                }
                return nil
            }
        }
        if let failure { throw failure }
        buffer.moveReaderIndex(forwardBy: consumed)
    }

    // MARK: A large reply

    /// `buffer` begins with a reply that is not there whole.
    private func beginStream(_ buffer: inout ByteBuffer) {
        guard state == .ready, let length = buffer.withUnsafeReadableBytes({ ReplyStream.length(of: $0) }),
            let place = pending.first?.streamPlace, place.session.mayStream(place.slot)
        else { return }
        stream = ReplyStream(session: place.session, totalBytes: length, now: node.loop.now)
        place.session.beginStream(from: self)
        if !isDedicated, length >= RedisProxyLimits.retireBytesMin { node.retire(self) }
        passPart(&buffer)
    }

    private func passPart(_ buffer: inout ByteBuffer) {
        guard let part = stream?.take(&buffer, now: node.loop.now), let current = stream else { return }
        current.session.passOn(part: part)
        if current.isComplete {
            endStream(current)
        } else if isDedicated ? !current.session.mayTakeMore : current.session.isBackedUp {
            isReadHeld = true
            connection?.setReading(false)
            if !isDedicated, !isRetired { node.retire(self) }
        }
    }

    private func endStream(_ ended: ReplyStream) {
        stream = nil
        guard let first = pending.popFirst() else { return }
        withUnsafePointer(to: ReplyStream.passedOnReply) { whole in
            whole.pointee.withUnsafeReadableBytes {
                complete(first, ReplyView(buffer: whole, start: 0, length: ended.totalBytes, bytes: $0))
            }
        }
    }

    /// Others are served by another connection from now on; see ``NodeState/retire(_:)``.
    func retire() {
        isRetired = true
        for offset in 0..<pending.count { pending[offset].asker?.holdBehindReplies() }
    }

    /// A stream is given up when the node sends nothing more of it. A client that takes nothing more may keep its own connection as
    /// long as it likes, and a shared one until others have waited for it as long as for a node.
    private func checkStream(_ current: ReplyStream, now: UInt64, timeoutNanoseconds: UInt64) {
        guard now > current.progressAt, now - current.progressAt > timeoutNanoseconds else { return }
        if !isReadHeld {
            close(.timeout)
        } else if !isDedicated, othersWait(behind: current.session) {
            current.session.close()
        }
    }

    /// Looked for only where a client has read nothing for long.
    private func othersWait(behind session: FrontSession) -> Bool {
        !barriers.isEmpty || (1..<max(1, pending.count)).contains { pending[$0].isAwaited(besides: session) }
    }

    /// What a client's own connection says beside replies is that client's; a shared one is sent nothing that asks for a push
    /// message.
    private func isReply(_ view: ReplyView) -> Bool {
        if let bound { return bound.place(view) == .reply }
        if let listener { return !listener.take(view.bytes) }
        if isDedicated { return true }
        return version == .resp2
    }

    @inline(__always)
    private func complete(_ entry: PendingReply, _ reply: ReplyView) {
        if !isDedicated { node.answered(entry, reply) }
        switch entry.target {
        case .client(let session, let slot):
            if entry.counter != 0 { node.loop.count(reply, entry.counter, isMiss: reply.isNull) }
            // Kept by its count, which `settle` takes back when all of this is done.
            session.with { $0.complete(slot, reply) }
            settle(session)
        case .request(let request):
            if entry.counter != 0 { node.loop.count(reply, entry.counter, isMiss: request.isMiss(reply)) }
            request.receive(reply, sentAt: entry.sentAt)
        case .nobody:
            break
        }
        if !barriers.isEmpty { passBarriers() }
        if isRetired, pending.isEmpty { close(.connectionLost) }
    }

    /// What the session waited for here has been told it. It may have ended meanwhile, and nobody else keep it any more: it is not to be
    /// used after this.
    @inline(__always)
    private func settle(_ session: Borrowed<FrontSession>) {
        let isLeft = session.with {
            $0.awaitedReplies &-= 1
            return $0.awaitedReplies == 0 && !$0.isConnected
        }
        if isLeft { node.loop.dropDeparted(session) }
    }

    private func passBarriers() {
        let answered = enqueued &- UInt64(pending.count)
        while let first = barriers.first, first.upTo <= answered {
            _ = barriers.removeFirst()
            first.then()
        }
    }

    /// Gives the connection up when its oldest command has waited too long.
    func checkTimeout(now: UInt64, timeoutNanoseconds: UInt64) {
        if isReadHeld { stream?.noteDrain(now: now) }
        if let stream { return checkStream(stream, now: now, timeoutNanoseconds: timeoutNanoseconds) }
        guard let oldest = pending.first else { return }
        var limit = timeoutNanoseconds
        if isDedicated, case .request(let request) = oldest.target {
            guard let own = request.waitLimitNanoseconds(timeoutNanoseconds) else { return }
            limit = own
        }
        if oldestWaitNanoseconds(now: now) > limit { close(.timeout) }
    }

    /// Ends the connection; what is pending fails for that reason. Does nothing the second time.
    func close(_ failure: UpstreamFailure) {
        guard state != .closed else { return }
        let wasReady = state == .ready
        state = .closed
        unread = UnreadBytes()
        outbound = ByteBuffer()
        connector?.cancel()
        connector = nil
        connection?.close()
        connection = nil
        // It has got a part of its reply; nothing that could follow would make sense to it.
        stream?.session.close()
        stream = nil
        let failed = pending.takeAll()
        node.connectionClosed(self, wasReady: wasReady, isOurDoing: isRetired && failed.isEmpty)
        if !isDedicated { node.failed(failed, failure) }
        for entry in failed {
            switch entry.target {
            case .client(let session, let slot):
                session.with { $0.complete(slot, ProxyReply.error(failure.text(node.node))) }
                settle(session)
            case .request(let request): request.fail(failure, node.node)
            case .nobody: break
            }
        }
        while let first = barriers.popFirst() { first.then() }
        bound?.lost()
        bound = nil
        listener?.lost()
        listener = nil
    }
}

private let asking = ByteBuffer(string: "*1\r\n$6\r\nASKING\r\n")
