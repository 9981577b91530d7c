import NIOCore

/// The channel that SwiftNIO's handlers see of a connection that is secured: between them and the socket ciphered bytes, between them
/// and the handler plain ones.
final class SecureChannel: Channel, ChannelCore {
    // Every use is on the connection's event loop, except for `eventLoop`, `closeFuture`, and what `Channel` offers through the
    // event loop.
    nonisolated(unsafe) private let connection: SocketConnection
    nonisolated(unsafe) private var storedPipeline: ChannelPipeline!
    nonisolated(unsafe) private(set) var isActive = false
    let eventLoop: any EventLoop
    let allocator = ByteBufferAllocator()
    private let closePromise: EventLoopPromise<Void>

    init(_ connection: SocketConnection) {
        self.connection = connection
        eventLoop = connection.eventLoop
        closePromise = eventLoop.makePromise()
        storedPipeline = ChannelPipeline(channel: self)
    }

    // MARK: Its life

    /// Behind the handlers that are there now come plain bytes.
    func open() throws {
        try pipeline.syncOperations.addHandler(PlainEnd(connection))
        pipeline.fireChannelRegistered()
    }

    func activate() {
        isActive = true
        pipeline.fireChannelActive()
    }

    /// The socket has been closed.
    func deactivate(_ error: (any Error)?) {
        if let error { pipeline.fireErrorCaught(error) }
        if isActive {
            isActive = false
            pipeline.fireChannelInactive()
        }
        pipeline.fireChannelUnregistered()
        // Handlers may be at work further up the stack.
        eventLoop.assumeIsolated().execute { self.abandon() }
    }

    /// The end of what holds the connection here, and this there.
    func abandon() {
        removeHandlers(pipeline: pipeline)
        closePromise.succeed()
        connection.dropSecureChannel(self)
    }

    func received(_ buffer: ByteBuffer) {
        pipeline.fireChannelRead(buffer)
        pipeline.fireChannelReadComplete()
    }

    func inputEnded() { pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed) }

    func closeAfterWrites(_ mode: CloseMode) {
        let written = writeAndFlush(ByteBuffer())
        written.assumeIsolated().whenComplete { [self] _ in
            pipeline.close(mode: mode).assumeIsolated().whenFailure { _ in
                if mode == .output { self.pipeline.close(promise: nil) }
            }
        }
    }

    // MARK: Channel

    var closeFuture: EventLoopFuture<Void> { closePromise.futureResult }
    var pipeline: ChannelPipeline { storedPipeline }
    var localAddress: SocketAddress? { nil }
    var remoteAddress: SocketAddress? { connection.remoteAddress }
    var parent: (any Channel)? { nil }
    var isWritable: Bool { connection.isWritable }
    var _channelCore: any ChannelCore { self }
    var syncOptions: (any NIOSynchronousChannelOptions)? { Options(connection) }

    func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) -> EventLoopFuture<Void> {
        eventLoop.makeFailedFuture(ChannelError.operationUnsupported)
    }

    func getOption<Option: ChannelOption>(_ option: Option) -> EventLoopFuture<Option.Value> {
        eventLoop.makeFailedFuture(ChannelError.operationUnsupported)
    }

    private struct Options: NIOSynchronousChannelOptions {
        let connection: SocketConnection

        init(_ connection: SocketConnection) { self.connection = connection }

        func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) throws {
            throw ChannelError.operationUnsupported
        }

        func getOption<Option: ChannelOption>(_ option: Option) throws -> Option.Value {
            switch option {
            case is ChannelOptions.Types.AllowRemoteHalfClosureOption:
                if let value = connection.allowsHalfClosure as? Option.Value { return value }
            case is ChannelOptions.Types.AutoReadOption:
                if let value = connection.isReading as? Option.Value { return value }
            default: break
            }
            throw ChannelError.operationUnsupported
        }
    }

    // MARK: ChannelCore

    func localAddress0() throws -> SocketAddress { throw ChannelError.operationUnsupported }
    func remoteAddress0() throws -> SocketAddress { throw ChannelError.operationUnsupported }
    func register0(promise: EventLoopPromise<Void>?) { promise?.succeed() }
    func registerAlreadyConfigured0(promise: EventLoopPromise<Void>?) { promise?.succeed() }
    func bind0(to: SocketAddress, promise: EventLoopPromise<Void>?) { refuse(promise) }
    func connect0(to: SocketAddress, promise: EventLoopPromise<Void>?) { refuse(promise) }
    func triggerUserOutboundEvent0(_ event: Any, promise: EventLoopPromise<Void>?) { refuse(promise) }
    private func refuse(_ promise: EventLoopPromise<Void>?) { promise?.fail(ChannelError.operationUnsupported) }

    /// Done when the socket has it: what follows the write of a connection that ends is then done behind it.
    func write0(_ data: NIOAny, promise: EventLoopPromise<Void>?) {
        connection.queue(unwrapData(data, as: ByteBuffer.self))
        if let promise { connection.afterQueued(promise) }
    }

    func flush0() { connection.sendQueued() }

    /// Whether the socket is read is the connection's matter (``SocketConnection/setReading(_:)``).
    func read0() {}

    func close0(error: any Error, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        switch mode {
        case .output: connection.endOutputAfterQueued(promise)
        case .all:
            connection.end(nil)
            promise?.succeed()
        case .input: refuse(promise)
        }
    }

    func channelRead0(_ data: NIOAny) {}
    func errorCaught0(error: any Error) {}
}

/// The end of the pipeline: hands on what has been deciphered.
private final class PlainEnd: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let connection: SocketConnection

    init(_ connection: SocketConnection) { self.connection = connection }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        connection.receivedPlain(unwrapInboundIn(data))
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? ChannelEvent, event == .inputClosed { connection.tellInputEnd() }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) { connection.tellWritability() }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        connection.note(error)
        context.close(promise: nil)
    }
}
