import Glibc
public import NIOCore
import NIOPosix

/// Whose a listener is. Called on the listener's event loop.
public protocol SocketListenerHandler: AnyObject {
    /// A connection has come; the descriptor is the handler's now. It does not block.
    func accepted(_ descriptor: CInt)
    /// One waits, and the system does not hand it over for that reason; nothing more is accepted for a pause.
    func acceptFailed(_ error: IOError)
    /// Whether more may be accepted; if not, it is asked again after a pause.
    var mayAccept: Bool { get }
}

/// A socket that listens. Belongs to its event loop.
public final class SocketListener: PollTarget {
    private let eventLoop: SocketEventLoop
    private let descriptor: CInt
    private let options: TCPOptions?
    private let pauseMilliseconds: Int64
    private let handler: any SocketListenerHandler
    private var isPausing = false
    private(set) var isOpen = true

    /// Takes the descriptor over, which listens already.
    ///
    /// - Parameters:
    ///   - options: for what is accepted; `nil` for a Unix socket.
    ///   - pauseMilliseconds: how long nothing is accepted when no more may be.
    ///
    /// Errors: `IOError`; the descriptor is closed then.
    public init(
        descriptor: CInt, eventLoop: SocketEventLoop, options: TCPOptions?, pauseMilliseconds: Int64,
        handler: any SocketListenerHandler
    ) throws(IOError) {
        self.descriptor = descriptor
        self.eventLoop = eventLoop
        self.options = options
        self.pauseMilliseconds = pauseMilliseconds
        self.handler = handler
        do throws(IOError) {
            guard Descriptor.setNonBlocking(descriptor) else { throw IOError(errnoCode: errno, reason: "fcntl") }
            try eventLoop.register(self, descriptor, .readable)
        } catch {
            Glibc.close(descriptor)
            throw error
        }
    }

    func ready(_ events: Epoll.Events) {
        for _ in 0..<SocketLimits.acceptsPerTurn where isOpen && !isPausing {
            let accepted = LinuxCalls.accept(
                descriptor, nil, nil, CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue))
            if accepted >= 0 {
                options?.apply(accepted)
                handler.accepted(accepted)
                if !handler.mayAccept { pause() }
                continue
            }
            switch errno {
            case EAGAIN: return
            // Gone again before it was accepted.
            case EINTR, ECONNABORTED: continue
            // Somebody else who has this socket has shut it down for all.
            case EINVAL: return close()
            case let code:
                handler.acceptFailed(IOError(errnoCode: code, reason: "accept4"))
                pause()
            }
        }
    }

    /// A process without a descriptor cannot accept, and the connection that it cannot take keeps the listener readable: without a
    /// pause the event loop would spin.
    private func pause() {
        if !isPausing { eventLoop.deregister(descriptor) }
        isPausing = true
        eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(pauseMilliseconds)) { [self] in
            guard isOpen else { return }
            guard handler.mayAccept else { return pause() }
            do throws(IOError) {
                try eventLoop.register(self, descriptor, .readable)
                isPausing = false
            } catch {
                pause()
            }
        }
    }

    /// Nothing more is accepted. What waits in the socket's queue stays there for whoever else has the socket open.
    public func close() {
        guard isOpen else { return }
        isOpen = false
        if !isPausing { eventLoop.deregister(descriptor) }
        Glibc.close(descriptor)
    }

    func loopEnds() { close() }

    /// The address that a socket is bound to; `nil` for a Unix socket.
    public static func address(of descriptor: CInt) -> SocketAddress? { Descriptor.localAddress(descriptor) }

    // MARK: Making one

    /// A socket that listens on the first of the addresses of `host` that can be bound, and the address it got.
    ///
    /// Errors: `IOError`, or ``ResolveError``.
    public static func bind(
        host: String, port: Int, backlog: CInt
    ) async throws -> (descriptor: CInt, address: SocketAddress) {
        // To look a name up blocks.
        try await NIOThreadPool.singleton.runIfActive {
            try bindNow(host: host, port: port, backlog: backlog)
        }
    }

    private static func bindNow(host: String, port: Int, backlog: CInt) throws -> (CInt, SocketAddress) {
        var failure: (any Error)?
        for address in try HostAddresses.resolve(host: host, port: port) {
            do throws(IOError) {
                return try bind(address, backlog: backlog)
            } catch {
                failure = failure ?? error
            }
        }
        throw failure ?? ResolveError(host: host, reason: "it has no address")
    }

    private static func bind(
        _ address: SocketAddress, backlog: CInt
    ) throws(IOError) -> (CInt, SocketAddress) {
        let descriptor = try HostAddresses.socket(for: address)
        func fail(_ reason: String) -> IOError {
            let error = IOError(errnoCode: errno, reason: reason)
            Glibc.close(descriptor)
            return error
        }
        // What waits from a process before it must not keep the address from this one.
        Descriptor.set(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
        guard address.withSockAddr({ Glibc.bind(descriptor, $0, socklen_t($1)) }) == 0 else { throw fail("bind") }
        guard listen(descriptor, backlog) == 0 else { throw fail("listen") }
        return (descriptor, Descriptor.localAddress(descriptor) ?? address)
    }
}
