import NIOConcurrencyHelpers
public import NIOCore
public import NIOPosix
public import RESP
import TransportSecurity

/// How patient a ``PeerClient`` is and how much it takes.
public struct PeerConfiguration: Sendable, Hashable {
    /// How long a connection may take, name resolution included.
    public var connectTimeoutMilliseconds: Int
    /// How long a call waits for its answer, the wait in line behind earlier calls included.
    public var requestTimeoutMilliseconds: Int
    /// A longer answer ends the connection. Memory is used as bytes arrive, not as they are announced.
    public var replyBytesMax: Int

    /// Values outside ``PeerLimits`` are taken to the nearest within.
    public init(
        connectTimeoutMilliseconds: Int = PeerLimits.connectTimeoutMillisecondsDefault,
        requestTimeoutMilliseconds: Int = PeerLimits.requestTimeoutMillisecondsDefault,
        replyBytesMax: Int = PeerLimits.replyBytesMaxDefault
    ) {
        func clamp(_ value: Int, _ range: ClosedRange<Int>) -> Int {
            min(max(value, range.lowerBound), range.upperBound)
        }
        self.connectTimeoutMilliseconds = clamp(connectTimeoutMilliseconds, PeerLimits.timeoutMillisecondsRange)
        self.requestTimeoutMilliseconds = clamp(requestTimeoutMilliseconds, PeerLimits.timeoutMillisecondsRange)
        self.replyBytesMax = clamp(replyBytesMax, PeerLimits.replyBytesMaxRange)
    }
}

/// One connection to one agent, over which any number of tasks may ask at the same time.
///
/// - Calls are pipelined: each is sent at once and answered in turn. A call completes exactly once: with its answer, with
///   ``PeerError``, or with `CancellationError` when its task is cancelled (the agent may still do what it was asked).
/// - There is no reconnecting: after ``PeerError/Code/timedOut``, ``PeerError/Code/closed`` and a reply that is too large or
///   not RESP, the connection is closed, every call under way fails, and so does every later one. Make a new client.
/// - An idle connection costs a socket and about 12 KiB; a call adds its request, one timer serves the connection.
/// - Dropping the last reference closes the connection.
public final class PeerClient: Sendable {
    public let address: PeerAddress
    private let channel: any Channel
    private let configuration: PeerConfiguration

    private init(address: PeerAddress, channel: any Channel, configuration: PeerConfiguration) {
        self.address = address
        self.channel = channel
        self.configuration = configuration
    }

    deinit {
        channel.close(promise: nil)
    }

    /// Connects, or throws ``PeerError/Code/unreachable``, ``PeerError/Code/timedOut`` or, where TLS or the password is not as the
    /// agent wants it, ``PeerError/Code/notAdmitted``.
    /// - Parameter group: where the connection lives; share one among all clients of a process.
    public static func connect(
        to address: PeerAddress, group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton,
        configuration: PeerConfiguration = PeerConfiguration(), security: PeerSecurity = PeerSecurity()
    ) async throws -> PeerClient {
        let handshake = NIOLockedValueBox<EventLoopFuture<Void>?>(nil)
        let bootstrap = ClientBootstrap(group: group)
            .connectTimeout(.milliseconds(Int64(configuration.connectTimeoutMilliseconds)))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let done = try security.tls?.secure(
                        channel, host: address.host,
                        handshakeMilliseconds: Int64(configuration.connectTimeoutMilliseconds))
                    handshake.withLockedValue { $0 = done }
                    try channel.pipeline.syncOperations.addHandler(
                        PeerHandler(address: "\(address)", replyBytesMax: configuration.replyBytesMax))
                }
            }
        let channel: any Channel
        do {
            switch address {
            case .tcp(let host, let port): channel = try await bootstrap.connect(host: host, port: port).get()
            case .unix(let path): channel = try await bootstrap.connect(unixDomainSocketPath: path).get()
            }
        } catch {
            try Task.checkCancellation()
            throw PeerError(
                connecting: address, error, timeoutMilliseconds: configuration.connectTimeoutMilliseconds)
        }
        // Closes the connection when cancelled meanwhile: the client is dropped.
        let client = PeerClient(address: address, channel: channel, configuration: configuration)
        try Task.checkCancellation()
        try await client.secure(handshake.withLockedValue { $0 }, security)
        return client
    }

    /// TLS first, so that the password goes to nobody else.
    private func secure(_ handshake: EventLoopFuture<Void>?, _ security: PeerSecurity) async throws {
        do {
            try await handshake?.get()
        } catch let error as TransportSecurityError {
            let code = error.code == .handshakeTimedOut ? PeerError.Code.timedOut : .notAdmitted
            throw PeerError(code, address: "\(address)", error.message)
        }
        guard let password = security.password?() else { return }
        let reply = try await command([Array("AUTH".utf8), password.revealed])
        guard case .error(let text) = reply else { return }
        // An agent that has no password yet lets everyone in.
        if text.hasPrefix("ERR AUTH <password> called without any password") { return }
        let quoted = String(decoding: text.utf8.prefix(PeerLimits.quotedBytesMax), as: UTF8.self)
        throw PeerError(.notAdmitted, address: "\(address)", "the agent does not accept the password: \(quoted)")
    }

    public static func connect(
        host: String, port: Int, group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton,
        configuration: PeerConfiguration = PeerConfiguration(), security: PeerSecurity = PeerSecurity()
    ) async throws -> PeerClient {
        try await connect(
            to: .tcp(host: host, port: port), group: group, configuration: configuration, security: security)
    }

    public static func connect(
        unixPath: String, group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton,
        configuration: PeerConfiguration = PeerConfiguration()
    ) async throws -> PeerClient {
        try await connect(to: .unix(path: unixPath), group: group, configuration: configuration)
    }

    /// Whether the connection stood a moment ago.
    public var isConnected: Bool { channel.isActive }

    /// Closes the connection; calls under way fail with ``PeerError/Code/closed``. Returns when it is closed; any number of
    /// calls is fine.
    public func close() async {
        channel.close(promise: nil)
        // Completed when the channel is closed, whoever closed it; it has no failure.
        try? await channel.closeFuture.get()
    }

    /// Sends a command and returns the agent's answer; an error that the agent answers with is a value here.
    /// - Parameter timeoutMilliseconds: nil for the configuration's.
    public func command(_ arguments: [[UInt8]], timeoutMilliseconds: Int? = nil) async throws -> RESPValue {
        guard let name = arguments.first else {
            throw PeerError(.badArgument, address: "\(address)", "a command needs at least a name")
        }
        try Task.checkCancellation()
        var request = channel.allocator.buffer(capacity: arguments.reduce(16) { $0 + $1.count + 16 })
        RESPWriter.writeCommand(arguments, to: &request)
        let promise = channel.eventLoop.makePromise(of: RESPValue.self)
        let timeout = timeoutMilliseconds ?? configuration.requestTimeoutMilliseconds
        let call = PeerCall(
            name: String(decoding: name, as: UTF8.self), request: request,
            timeoutMilliseconds: max(1, timeout), promise: promise)
        // A channel that is closed has lost its handlers: then nobody but this completes the call.
        channel.writeAndFlush(call).whenFailure { [address] _ in
            promise.fail(PeerError(.closed, address: "\(address)", "the connection is closed"))
        }
        return try await withTaskCancellationHandler {
            try await promise.futureResult.get()
        } onCancel: {
            promise.fail(CancellationError())
        }
    }

    /// The time that a call may take which the agent is told to answer late.
    func timeoutMilliseconds(blocking blockMilliseconds: Int) -> Int {
        blockMilliseconds + configuration.requestTimeoutMilliseconds
    }
}
