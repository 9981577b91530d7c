import NIOCore
import RESP
import SocketIO

/// One client's connection: parses its commands, keeps its replies in order, holds what the protocol remembers of a client.
///
/// Back-pressure: when too many commands of this client are unanswered, or it does not read its replies, nothing more is read
/// from its socket until that has changed; TCP carries that to the client.
final class FrontSession: SocketHandler {
    enum Role: Sendable {
        /// Applications: ordinary Redis commands and the agent's own.
        case app
        /// Other agents and tools: the agent's own commands only.
        case peer
    }

    let loop: ProxyLoop
    let role: Role
    let id: UInt64
    private(set) var version = ProtocolVersion.resp2
    var name: [UInt8] = []
    /// Names of the pub/sub channels this client listens to.
    var channels: Set<String> = [] {
        didSet { noteState() }
    }
    /// What else it listens to, before several nodes; `nil` for most.
    var listening: Listening? {
        didSet { noteState() }
    }
    /// The connection to a node that this client has for itself while it carries state or waits; `nil` for most.
    var bound: BoundConnection? {
        didSet { noteState() }
    }
    /// `MULTI` has been answered, and which node it is for is not known yet.
    var opened: OpenTransaction? {
        didSet { noteState() }
    }
    /// Who may use this listener; `nil`: everyone, and `AUTH` is the nodes' matter.
    let access: AccessSource?
    /// As whom this client has authenticated itself here.
    var user: [UInt8]?
    var isAuthenticated: Bool {
        didSet { noteState() }
    }
    /// Whether its commands take the shared connections.
    private(set) var isOrdinary: Bool
    /// Whether nothing at all is to be looked at before a command of one key: an app, ordinary, that listens to no channel.
    private(set) var isPlain: Bool
    /// Writes of hot keys that are not answered yet. Until they are, this client's reads go home, behind them: a local value or
    /// a copy may still be the one that its own pipeline has just overwritten.
    var hotWritesUnderWay = 0
    /// Its reads of hot keys that may be answered by another node than the home of the key.
    var readsAstray = 0
    /// Of these, reads that are held because a value is gone.
    var missesHeld = 0
    /// Before a Redis Cluster: what may have to be sent again.
    var resends: ClientResends?
    /// Commands that stand in the queues of shared connections with a borrowed reference to this session. A client that leaves before
    /// they are answered is kept by its loop until then.
    var awaitedReplies = 0

    let connectedAt: UInt64
    /// When bytes last came from this client or went to it.
    var activeAt: UInt64
    /// `nil` when it has ended.
    private(set) var connection: SocketConnection?
    var isConnected: Bool { connection != nil }
    private var parser: CommandParser
    var replies = ReplyQueue()
    var unread = UnreadBytes()
    var output = ByteBuffer()
    private var isDirty = false
    /// No more commands are read: a protocol error, or `QUIT`.
    private var isEnding = false
    /// It may be in the middle of sending much: what it sends is read and dropped for a while, because a connection that is closed on
    /// unread bytes is reset, and the error with it.
    private var lingers = false
    private var hasClosedOutput = false
    /// The client has closed its side; what it sent before is still answered.
    private var isInputClosed = false
    /// The proxy ends: what has been read is answered, nothing more is read.
    private var isDraining = false
    /// Bytes of pub/sub messages since the client last had read what was sent to it.
    var pushedBytes = 0
    /// Large replies have been queued and not sent.
    var hasUnflushed = false
    /// The slot of the first command that was read last.
    var newestCommands: UInt32 = 0
    /// Since when replies are held; see ``gainsByWaiting``.
    var heldSince: UInt64 = 0
    /// A command with a large value, on its way while it still arrives.
    var upload: Upload?
    /// What a large reply to this client comes from, while it does.
    var streaming: UpstreamConnection?
    /// Messages that came meanwhile.
    var pushedMeanwhile = ByteBuffer()
    /// Nothing more is read until what is out has been answered: what follows goes over other connections to the nodes and could
    /// overtake it, or means something else by then.
    private var isHalted = false
    /// The command in hand stays in the input until then.
    private var isPutOff = false
    /// Bytes of messages that wait for an older reply.
    var heldBytes = 0
    /// Arguments of the command in hand, relative to its first byte.
    var arguments: CommandParser.Arguments { parser.arguments }

    init(loop: ProxyLoop, role: Role, id: UInt64, access: AccessSource? = nil) {
        self.loop = loop
        self.role = role
        self.id = id
        self.access = access
        connectedAt = loop.now
        activeAt = loop.now
        isAuthenticated = access == nil
        isOrdinary = access == nil
        isPlain = access == nil && role == .app
        let limit = loop.configuration.requestBytesMax
        self.parser = CommandParser(bulkBytesMax: min(limit, RESPLimits.bulkBytesMax), commandBytesMax: limit)
    }

    private func noteState() {
        isOrdinary = bound == nil && opened == nil && isAuthenticated
        isPlain = isOrdinary && role == .app && channels.isEmpty && listening == nil
    }

    // MARK: The connection

    func begin(_ connection: SocketConnection) {
        self.connection = connection
        loop.add(self)
        // Accepted just before the listener closed, and here after the shutdown: there are no nodes any more.
        if loop.isShutDown { connection.close() }
    }

    func closed(_ error: (any Error)?) { forget() }

    func inputClosed() {
        // A client that ended looks the same as one that only sends no more. What it waits for must not be taken from a
        // list for nobody, so it is dropped here, as Redis does.
        guard bound?.isWaiting != true, upload == nil else { return close() }
        defer { letGoMisses() }
        // `printf … | nc`: the client sends no more but waits for its replies.
        isInputClosed = true
        loop.updateNow()
        touch()
    }

    func received(_ buffer: inout ByteBuffer) {
        guard !loop.isShutDown else { return }
        guard !isEnding else { return }
        loop.updateNow()
        activeAt = loop.now
        newestCommands = replies.nextSlot
        process(&buffer)
        unread.keep(buffer)
        if !mayReadMore { adjustReading() }
    }

    /// Reads from the socket, or lets the client wait.
    private func adjustReading() {
        let reads = mayReadMore && (!isDraining || upload != nil)
        // What everybody waits for may be what is not read.
        if !reads { letGoMisses() }
        connection?.setReading(reads)
    }

    func writabilityChanged(_ isWritable: Bool) {
        if isWritable { touch() }
    }

    // MARK: Input

    /// Whether everything this client asked for has been answered. If not, the command in hand is put off until then.
    func settle() -> Bool {
        if replies.isEmpty { return true }
        isPutOff = true
        // It will be counted again.
        loop.statistics.requests &-= 1
        halt()
        return false
    }

    /// Reads nothing more until everything has been answered.
    func halt() {
        isHalted = true
        letGoMisses()
        touch()
    }

    /// Whether a command may be left waiting for a value that is gone: nothing of its client's is behind it, and whatever comes would be
    /// read.
    func mayBeHeld(for slot: UInt32) -> Bool {
        connection != nil && replies.nextSlot == slot &+ 1 && unread.isEmpty && mayReadMore && !isEnding
            && !isInputClosed && upload == nil && hotWritesUnderWay == 0
    }

    @inline(__always)
    private func letGoMisses() {
        if missesHeld > 0 { loop.letGoMisses(of: self) }
    }

    /// Where keys live has changed. What follows may take another way, so it waits for what is out.
    func holdBehindReplies() {
        if !replies.isEmpty { halt() }
    }

    /// Whether the client has closed its side of the connection itself.
    var hasClosedItsSide: Bool { isInputClosed && !isDraining }

    private var mayReadMore: Bool {
        replies.count < loop.configuration.pipelineDepthMax && !isHalted
            && bound?.connection.isCongested != true && resends?.isFull != true
            && output.readableBytes + replies.waitingBytes < loop.configuration.outputBytesMax
            && connection?.isWritable == true
    }

    func change(to newVersion: ProtocolVersion) {
        guard newVersion != version else { return }
        version = newVersion
        if !replies.isEmpty { halt() }
    }

    private func process(_ buffer: inout ByteBuffer) {
        while buffer.readableBytes > 0, mayReadMore, !isEnding {
            letGoMisses()
            if upload != nil {
                do {
                    buffer.moveReaderIndex(forwardBy: try buffer.withUnsafeReadableBytes { try continueUpload($0) })
                } catch {
                    return refuse(error, &buffer)
                }
                continue
            }
            let result = buffer.withUnsafeReadableBytes { bytes -> Result<CommandParser.Result, RESPError> in
                do throws(RESPError) {
                    if !isAuthenticated { try UnauthenticatedInput.check(bytes) }
                    let parsed = try parser.parse(bytes)
                    if case .command(let length) = parsed {
                        handle(UnsafeRawBufferPointer(rebasing: bytes[0..<length]))
                    }
                    return .success(parsed)
                } catch {
                    return .failure(error)
                }
            }
            switch result {
            case .success(.needMore):
                return gather(&buffer)
            case .success(.command(let length)), .success(.nothing(let length)):
                if isPutOff { return isPutOff = false }
                buffer.moveReaderIndex(forwardBy: length)
            case .success(.inline(let length, let arguments)):
                handleInline(arguments)
                if isPutOff { return isPutOff = false }
                buffer.moveReaderIndex(forwardBy: length)
            case .failure(let error):
                return refuse(error, &buffer)
            }
        }
    }

    private func refuse(_ error: any Error, _ buffer: inout ByteBuffer) {
        loop.statistics.protocolErrors += 1
        answer(ProxyReply.error("ERR Protocol error: \((error as? RESPError)?.message ?? "\(error)")"))
        buffer.moveReaderIndex(to: buffer.writerIndex)
        lingers = true
        end()
    }

    /// What is there of a command that has not arrived whole is kept, passed on, or too much.
    private func gather(_ buffer: inout ByteBuffer) {
        if buffer.withUnsafeReadableBytes({ beginUpload($0) }) {
            buffer.moveReaderIndex(to: buffer.writerIndex)
            return
        }
        let announced = parser.unfinished.map { $0.bytesBefore + $0.bulkLength } ?? 0
        let heldMax = loop.configuration.heldRequestBytesMax
        guard max(announced, buffer.readableBytes) > heldMax, !isHalted else { return }
        let text = "command of more than \(heldMax) bytes, which hkagent has to hold as a whole"
        refuse(RESPError(.malformedRequest, text), &buffer)
    }

    var unfinished: (bulkLength: Int, argumentCount: Int, bytesBefore: Int)? { parser.unfinished }
    func handOver() -> CommandTail { parser.handOver() }
    /// Whether everything this client asked for has been answered.
    var owesNothing: Bool { replies.isEmpty }

    /// Handles a command that did not come in this form.
    func handleInline(_ arguments: [[UInt8]]) {
        var command = ByteBuffer()
        RESPWriter.writeCommand(arguments, to: &command)
        command.withUnsafeReadableBytes { bytes in
            // What we have just written parses.
            guard let parsed = try? parser.parse(bytes), case .command = parsed else { return }
            handle(bytes)
        }
    }

    @inline(__always)
    func argument(_ index: Int, of command: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        parser.argument(index, of: command)
    }

    // MARK: The end of the turn

    @inline(__always)
    func touch() {
        guard !isDirty else {
            // Its replies may be held, and this was the last of them: not every way that it comes ends a turn.
            if replies.isEmpty { loop.eventLoop.requestEndOfTurn() }
            return
        }
        isDirty = true
        loop.markDirty(self)
    }

    /// Something this session waited for has changed: look at it again at the end of the turn.
    func resume() { touch() }

    /// Whether the end of the turn finds nothing to do for it but to send.
    var isUndisturbed: Bool {
        bound == nil && streaming == nil && unread.isEmpty && !isHalted && !isEnding && !isInputClosed
    }

    /// Sends what has gathered, reads on where reading had stopped, closes when all is said.
    func flush() {
        isDirty = false
        guard let connection else { return }
        flushOutput(connection)
        if let bound { serve(bound) }
        if let streaming, bound == nil, connection.isWritable { streaming.readOn() }
        if replies.isEmpty { isHalted = false }
        if !unread.isEmpty, mayReadMore {
            var rest = unread.take()
            process(&rest)
            unread.keep(rest)
        }
        adjustReading()
        // While the client has replies to read first, its input may hold commands that have not been looked at; afterwards what
        // is left of it is half a command.
        if isEnding || (isInputClosed && mayReadMore), isIdle { closeAfterWrites(connection) }
    }

    private func serve(_ bound: BoundConnection) {
        bound.letMessagesPass()
        if replies.isEmpty, bound.mayLeave { bound.release() } else if mayTakeMore { bound.connection.readOn() }
    }

    /// No more commands; the connection closes once everything asked for has been answered.
    func end() {
        isEnding = true
        letGoMisses()
        unread = UnreadBytes()
        touch()
    }

    /// Answers what has been read and closes then.
    func drainNow() {
        isDraining = true
        isInputClosed = true
        letGoMisses()
        touch()
    }

    /// Whether nothing is owed to this client.
    var isIdle: Bool { replies.isEmpty && output.readableBytes == 0 }

    private func closeAfterWrites(_ connection: SocketConnection) {
        guard lingers, !isInputClosed else { return connection.closeAfterWrites() }
        guard !hasClosedOutput else { return }
        hasClosedOutput = true
        connection.endOutputAfterWrites()
        loop.eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(RedisProxyLimits.lingerMilliseconds)) {
            connection.close()
        }
    }

    func close() { connection?.close() }

    /// From here on no reply finds its slot.
    private func forget() {
        connection = nil
        loop.keepWhileAwaiting(self)
        loop.remove(self)
        bound?.connection.close(.connectionLost)
        bound = nil
        upload = nil
        // What is left of its reply is read and dropped, so that others get theirs.
        streaming?.readOn()
        streaming = nil
        replies.removeAll()
        unread = UnreadBytes()
    }
}
