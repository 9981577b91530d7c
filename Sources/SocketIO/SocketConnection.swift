import DequeModule
import Glibc
public import NIOCore

/// Whose a connection is. Called on the connection's event loop.
public protocol SocketHandler: AnyObject {
    /// What is left of the bytes handed over before; they are handed over again, with what has come since behind them.
    var unread: UnreadBytes { get set }
    /// Whether there is any; asked for each time that something is read, when there mostly is none.
    var hasUnread: Bool { get }
    /// Bytes have come; what is not used goes to ``unread``. The storage is the event loop's, which reads into it again.
    func received(_ buffer: inout ByteBuffer)
    /// The other side sends no more, and may still read. Told once, and only where the connection allows that; otherwise it is
    /// closed.
    func inputClosed()
    func writabilityChanged(_ isWritable: Bool)
    /// The connection has ended. Told once.
    ///
    /// - Parameter error: `nil`: one of the two sides has closed it.
    func closed(_ error: (any Error)?)
}

extension SocketHandler {
    public var hasUnread: Bool { !unread.isEmpty }
}

/// A stream socket that stands: TCP or Unix, plain or secured.
///
/// Belongs to its event loop, like everything that uses it. While it stands each turn reads at most once from it, so that no connection
/// can keep the others waiting.
public final class SocketConnection: PollTarget {
    public let eventLoop: SocketEventLoop
    public private(set) var isOpen = true
    /// Bytes that the system has not taken yet.
    public private(set) var unsentBytes = 0
    /// Whether less waits than a sender should let wait.
    public private(set) var isWritable = true
    /// Called once, when the handler has been told of the end.
    public var onClose: (() -> Void)?

    let allowsHalfClosure: Bool
    /// Between the socket and the handler, if the connection is secured.
    private(set) var secureChannel: SecureChannel?
    private let descriptor: CInt
    private var handler: (any SocketHandler)?
    private var watched: Epoll.Events = [.readable, .inputEnded]
    private(set) var isReading = true
    private var hasInputEnded = false
    private var hasToldInputEnd = false
    private var failure: (any Error)?
    private var unsent = Deque<ByteBuffer>()
    private var afterWrites = AfterWrites.goOn
    /// What is written from now on is dropped: no more may follow, or none would arrive.
    private var hasOutputEnded = false
    /// Of ``unsent`` since the beginning, and who waits for how much of it.
    private var sentBytes: UInt64 = 0
    private var awaited = Deque<(upTo: UInt64, promise: EventLoopPromise<Void>)>()

    private enum AfterWrites {
        case goOn, endOutput, close
    }

    /// Takes the descriptor over: it is closed with the connection, or here when this throws. It must not block.
    ///
    /// Errors: `IOError` when the event loop cannot watch it.
    public init(
        descriptor: CInt, eventLoop: SocketEventLoop, allowsHalfClosure: Bool, handler: any SocketHandler
    ) throws(IOError) {
        self.descriptor = descriptor
        self.eventLoop = eventLoop
        self.allowsHalfClosure = allowsHalfClosure
        self.handler = handler
        do throws(IOError) {
            try eventLoop.register(self, descriptor, watched)
        } catch {
            Glibc.close(descriptor)
            throw error
        }
    }

    /// Puts handlers of SwiftNIO between the socket and the handler. Call it once, before anything is read or written.
    ///
    /// - Parameter configure: adds them to the pipeline; what it throws is passed on, and the connection is unchanged.
    ///
    /// Errors: also `ChannelError.ioOnClosedChannel`, when the connection has ended.
    public func secure<T>(_ configure: (any Channel) throws -> T) throws -> T {
        guard isOpen else { throw ChannelError.ioOnClosedChannel }
        let channel = SecureChannel(self)
        let result: T
        do {
            result = try configure(channel)
            try channel.open()
        } catch {
            channel.abandon()
            throw error
        }
        secureChannel = channel
        channel.activate()
        return result
    }

    /// Of the other side; `nil` for a Unix socket, and once the connection has ended.
    public var remoteAddress: SocketAddress? { isOpen ? Descriptor.peerAddress(descriptor) : nil }

    // MARK: Reading

    /// Reads from the socket, or lets the other side wait.
    public func setReading(_ reads: Bool) {
        guard reads != isReading else { return }
        isReading = reads
        watch()
    }

    func ready(_ events: Epoll.Events) {
        guard isOpen else { return }
        if !events.isDisjoint(with: .broken) { return endBroken() }
        if events.contains(.writable) { sendUnsent() }
        if events.contains(.inputEnded) {
            readToTheEnd()
        } else if events.contains(.readable), isReading {
            _ = read()
        }
    }

    /// - Returns: whether something came.
    private func read() -> Bool {
        guard isOpen, !hasInputEnded else { return false }
        // Counted once: it may end, and let go of what it is, in the middle of what it is handed here.
        let handler = handler
        var buffer = takeBuffer(handler)
        var code: CInt = 0
        let count = buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: SocketLimits.readBytesMin) { bytes in
            let count = recv(descriptor, bytes.baseAddress, bytes.count, 0)
            guard count < 0 else { return count }
            code = errno
            return 0
        }
        if count > 0 {
            if let secureChannel { secureChannel.received(buffer) } else { handler?.received(&buffer) }
        } else if secureChannel == nil {
            handler?.unread.keep(buffer)
        }
        eventLoop.giveBack(buffer)
        if count > 0 { return true }
        switch code {
        case 0: inputEnded()
        // Reported, and taken back: the next turn will tell.
        case EAGAIN, EINTR: break
        default: end(IOError(errnoCode: code, reason: "recv"))
        }
        return false
    }

    /// What to read into, with what is left unread in it. On a secured connection that is plain, and what is read is not.
    @inline(__always)
    private func takeBuffer(_ handler: (any SocketHandler)?) -> ByteBuffer {
        guard secureChannel == nil, let handler, handler.hasUnread else { return eventLoop.takeReadBuffer() }
        if handler.unread.isLarge { return handler.unread.take() }
        var buffer = eventLoop.takeReadBuffer()
        handler.unread.move(into: &buffer)
        return buffer
    }

    /// What a secured connection has read, deciphered.
    func receivedPlain(_ bytes: ByteBuffer) {
        guard let handler else { return }
        var buffer = bytes
        if !handler.unread.isEmpty {
            buffer = handler.unread.take()
            buffer.writeImmutableBuffer(bytes)
        }
        handler.received(&buffer)
    }

    /// Also while the other side is to wait: that it has gone must be seen. It has sent all that it will, so this ends.
    private func readToTheEnd() {
        while read() {}
    }

    private func inputEnded() {
        hasInputEnded = true
        guard allowsHalfClosure else { return end(nil) }
        watch()
        if let secureChannel { secureChannel.inputEnded() } else { tellInputEnd() }
    }

    func tellInputEnd() {
        guard !hasToldInputEnd else { return }
        hasToldInputEnd = true
        handler?.inputClosed()
    }

    private func endBroken() {
        readToTheEnd()
        guard isOpen else { return }
        let code = Descriptor.takeError(descriptor)
        end(code == 0 ? nil : IOError(errnoCode: code, reason: "the connection broke"))
    }

    private func watch() {
        guard isOpen else { return }
        var events: Epoll.Events = []
        if !hasInputEnded {
            events.insert(.inputEnded)
            if isReading { events.insert(.readable) }
        }
        if !unsent.isEmpty { events.insert(.writable) }
        guard events != watched else { return }
        watched = events
        eventLoop.change(descriptor, events)
    }

    // MARK: Writing

    /// Queues a buffer; ``flush()`` sends it.
    public func write(_ buffer: ByteBuffer) {
        if let secureChannel { secureChannel.write(buffer, promise: nil) } else { queue(buffer) }
    }

    public func flush() {
        if let secureChannel { secureChannel.pipeline.flush() } else { sendQueued() }
    }

    /// Sends a buffer at once, behind what waits. What the system does not take is kept; when it takes all, which is nearly always,
    /// `buffer` has its storage to itself again.
    @inline(__always)
    public func writeAndFlush(_ buffer: borrowing ByteBuffer) {
        guard unsent.isEmpty, secureChannel == nil, isOpen, !hasOutputEnded else { return writeBehind(copy buffer) }
        let count = buffer.readableBytes
        var code: CInt = 0
        let sent = buffer.withUnsafeReadableBytes { bytes in
            let sent = Glibc.send(descriptor, bytes.baseAddress, bytes.count, CInt(MSG_NOSIGNAL))
            if sent < 0 { code = errno }
            return sent
        }
        if sent == count { return }
        var rest = copy buffer
        if sent > 0 { rest.moveReaderIndex(forwardBy: sent) }
        keepUnsent(rest, code)
    }

    private func writeBehind(_ buffer: ByteBuffer) {
        write(buffer)
        flush()
    }

    private func keepUnsent(_ rest: ByteBuffer, _ code: CInt) {
        guard code == 0 || code == EAGAIN || code == EINTR else {
            return endLater(IOError(errnoCode: code, reason: "send"))
        }
        // A few bytes must not hold a large storage for as long as the other side takes its time.
        var rest = rest
        if rest.readableBytes < rest.storageCapacity / 4 {
            let bytes = rest
            rest = ByteBuffer()
            rest.writeImmutableBuffer(bytes)
        }
        queue(rest)
        watch()
    }

    func queue(_ buffer: ByteBuffer) {
        guard isOpen, !hasOutputEnded, buffer.readableBytes > 0 else { return }
        unsent.append(buffer)
        unsentBytes += buffer.readableBytes
        noteWritability()
    }

    func sendQueued() {
        // While the system takes nothing, it will tell when it does.
        guard !watched.contains(.writable) else { return }
        sendUnsent()
    }

    private func sendUnsent() {
        while isOpen, !unsent.isEmpty {
            let (sent, code) = sendSome()
            guard sent >= 0 else {
                if code == EINTR { continue }
                if code != EAGAIN { return endLater(IOError(errnoCode: code, reason: "sendmsg")) }
                break
            }
            unsentBytes -= sent
            sentBytes &+= UInt64(sent)
            dropSent(sent)
        }
        watch()
        noteWritability()
        while let first = awaited.first, first.upTo <= sentBytes {
            awaited.removeFirst()
            first.promise.succeed()
        }
        finishWrites()
    }

    /// Succeeds when the system has taken everything that is queued so far.
    func afterQueued(_ promise: EventLoopPromise<Void>) {
        guard isOpen else { return promise.fail(ChannelError.ioOnClosedChannel) }
        if unsent.isEmpty { promise.succeed() } else { awaited.append((sentBytes + UInt64(unsentBytes), promise)) }
    }

    /// One call for as many buffers as the system takes at once.
    private func sendSome() -> (sent: Int, code: CInt) {
        let count = min(unsent.count, SocketLimits.buffersPerWrite)
        return withUnsafeTemporaryAllocation(of: iovec.self, capacity: count) { vectors in
            for index in 0..<count {
                // The bytes belong to buffers in `unsent`, which nothing changes before `sendmsg` has returned.
                vectors.initializeElement(
                    at: index,
                    to: unsent[index].withUnsafeReadableBytes { bytes in
                        iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
                    })
            }
            var message = msghdr()
            message.msg_iov = vectors.baseAddress
            message.msg_iovlen = Int(count)
            let sent = sendmsg(descriptor, &message, CInt(MSG_NOSIGNAL))
            return (sent, sent < 0 ? errno : 0)
        }
    }

    private func dropSent(_ bytes: Int) {
        var left = bytes
        while left > 0, let first = unsent.first {
            if left < first.readableBytes {
                unsent[0].moveReaderIndex(forwardBy: left)
                return
            }
            left -= first.readableBytes
            unsent.removeFirst()
        }
    }

    private func noteWritability() {
        let writable =
            unsentBytes < (isWritable ? SocketLimits.writableBytesHigh : SocketLimits.writableBytesLow)
        guard writable != isWritable else { return }
        isWritable = writable
        if let secureChannel {
            secureChannel.pipeline.fireChannelWritabilityChanged()
        } else {
            handler?.writabilityChanged(writable)
        }
    }

    /// What a secured connection's pipeline lets through.
    func tellWritability() { handler?.writabilityChanged(isWritable) }

    // MARK: The end

    /// Closes the connection; what has not been sent is dropped. A secured one says so to the other side first, so its end may be told
    /// later, and bytes may still come.
    public func close() {
        if let secureChannel { secureChannel.close(promise: nil) } else { end(nil) }
    }

    /// Closes the connection when everything has been sent.
    public func closeAfterWrites() {
        if let secureChannel { return secureChannel.closeAfterWrites(.all) }
        afterWrites = .close
        finishWrites()
    }

    /// Tells the other side that no more comes, when everything has been sent.
    public func endOutputAfterWrites() {
        if let secureChannel { return secureChannel.closeAfterWrites(.output) }
        guard afterWrites == .goOn else { return }
        afterWrites = .endOutput
        finishWrites()
    }

    private func finishWrites() {
        guard isOpen, unsent.isEmpty else { return }
        switch afterWrites {
        case .goOn: break
        case .close: end(nil)
        case .endOutput:
            afterWrites = .goOn
            hasOutputEnded = true
            if shutdown(descriptor, CInt(SHUT_WR)) != 0 { end(nil) }
        }
    }

    /// The pipeline of a secured connection has written its last.
    func endOutputAfterQueued(_ promise: EventLoopPromise<Void>?) {
        if let promise { afterQueued(promise) }
        guard afterWrites == .goOn else { return }
        afterWrites = .endOutput
        finishWrites()
    }

    func dropSecureChannel(_ channel: SecureChannel) {
        if secureChannel === channel { secureChannel = nil }
    }

    func loopEnds() { end(EventLoopError.shutdown) }

    /// What failed is the writer's connection, who is in the middle of something: it is told when it is done with that. What the other
    /// side has said before it closed is read first; it may say why.
    private func endLater(_ error: any Error) {
        hasOutputEnded = true
        unsent.removeAll()
        unsentBytes = 0
        eventLoop.assumeIsolated().execute { [self] in
            readToTheEnd()
            end(error)
        }
    }

    /// The first of several reasons is the one that is told.
    func note(_ error: any Error) {
        if failure == nil { failure = error }
    }

    func end(_ error: (any Error)?) {
        guard isOpen else { return }
        isOpen = false
        eventLoop.deregister(descriptor)
        Glibc.close(descriptor)
        unsent.removeAll()
        unsentBytes = 0
        if let error { note(error) }
        while let first = awaited.popFirst() { first.promise.fail(ChannelError.ioOnClosedChannel) }
        secureChannel?.deactivate(error)
        let handler = self.handler
        self.handler = nil
        handler?.closed(failure)
        onClose?()
        onClose = nil
    }
}
