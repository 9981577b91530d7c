import Glibc
public import NIOCore
import NIOPosix

/// Why no address of a host could be connected to.
public struct ConnectError: Error, CustomStringConvertible {
    /// One for each address that was tried; none: the name was not looked up in time, or not found.
    public let errors: [IOError]
    public let reason: String

    public var description: String { reason }
}

/// Connects to a host: its addresses one after the other, each with its share of the time that is left.
public final class SocketConnector: PollTarget {
    /// Tells the descriptor of the socket that is connected, which does not block and is the caller's.
    public typealias Completion = (Result<CInt, any Error>) -> Void

    private let eventLoop: SocketEventLoop
    private let host: String
    private let options: TCPOptions
    private let deadline: NIODeadline
    private var check: (() throws -> Void)?
    private var timer: Scheduled<Void>?
    private var completion: Completion?
    private var addresses: ArraySlice<SocketAddress> = []
    private var errors: [IOError] = []
    private var descriptor: CInt = -1
    private var isRegistered = false

    private init(
        eventLoop: SocketEventLoop, host: String, options: TCPOptions, deadline: NIODeadline,
        check: @escaping () throws -> Void, completion: @escaping Completion
    ) {
        self.eventLoop = eventLoop
        self.host = host
        self.options = options
        self.deadline = deadline
        self.check = check
        self.completion = completion
    }

    /// Begins to connect. Call it on the event loop. The result is there to ``cancel()`` it.
    ///
    /// - Parameters:
    ///   - check: called when a socket has been taken; what it throws ends the attempt.
    ///   - completion: called on the event loop, later and once, with a ``ConnectError`` or what `check` has thrown.
    @discardableResult
    public static func connect(
        host: String, port: Int, on eventLoop: SocketEventLoop, timeoutMilliseconds: Int64, options: TCPOptions,
        check: @escaping () throws -> Void, completion: @escaping Completion
    ) -> SocketConnector {
        let connector = SocketConnector(
            eventLoop: eventLoop, host: host, options: options, deadline: .now() + .milliseconds(timeoutMilliseconds),
            check: check, completion: completion)
        if let address = HostAddresses.literal(host: host, port: port) {
            eventLoop.assumeIsolated().execute { connector.begin([address]) }
        } else {
            connector.resolve(port: port, timeoutMilliseconds: timeoutMilliseconds)
        }
        return connector
    }

    /// Gives up. The completion is not called any more.
    public func cancel() {
        stopWaiting()
        closeDescriptor()
        end()
    }

    private func resolve(port: Int, timeoutMilliseconds: Int64) {
        timer = eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(timeoutMilliseconds)) { [self] in
            finish(.failure(ConnectError(errors: [], reason: "the host \(host) was not looked up in time")))
        }
        NIOThreadPool.singleton.runIfActive(eventLoop: eventLoop) { [host] in
            try HostAddresses.resolve(host: host, port: port)
        }
        .assumeIsolated().whenComplete { [self] result in
            timer?.cancel()
            switch result {
            case .success(let addresses): begin(addresses[...])
            case .failure(let error): finish(.failure(ConnectError(errors: [], reason: "\(error)")))
            }
        }
    }

    private func begin(_ addresses: ArraySlice<SocketAddress>) {
        self.addresses = addresses
        tryNext()
    }

    private func tryNext() {
        guard completion != nil else { return }
        let left = deadline - .now()
        guard left > .zero, let address = addresses.popFirst() else { return giveUp() }
        do throws(IOError) {
            descriptor = try HostAddresses.socket(for: address)
        } catch {
            return failed(error)
        }
        do { try check?() } catch {
            closeDescriptor()
            return finish(.failure(error))
        }
        options.apply(descriptor)
        if address.withSockAddr({ Glibc.connect(descriptor, $0, socklen_t($1)) }) == 0 { return connected() }
        guard errno == EINPROGRESS else { return failed(IOError(errnoCode: errno, reason: "connect")) }
        do throws(IOError) {
            try eventLoop.register(self, descriptor, .writable)
            isRegistered = true
        } catch {
            return failed(error)
        }
        let share = max(left.nanoseconds / Int64(addresses.count + 1), SocketLimits.connectNanosecondsMin)
        timer = eventLoop.assumeIsolated().scheduleTask(in: .nanoseconds(min(left.nanoseconds, share))) { [self] in
            stopWaiting()
            failed(IOError(errnoCode: ETIMEDOUT, reason: "connect"))
        }
    }

    private func stopWaiting() {
        if isRegistered { eventLoop.deregister(descriptor) }
        isRegistered = false
        timer?.cancel()
        timer = nil
    }

    func ready(_ events: Epoll.Events) {
        stopWaiting()
        let code = Descriptor.takeError(descriptor)
        if code == 0 { connected() } else { failed(IOError(errnoCode: code, reason: "connect")) }
    }

    func loopEnds() {
        stopWaiting()
        closeDescriptor()
        finish(.failure(EventLoopError.shutdown))
    }

    private func connected() {
        let connected = descriptor
        descriptor = -1
        finish(.success(connected))
    }

    private func failed(_ error: IOError) {
        closeDescriptor()
        errors.append(error)
        tryNext()
    }

    private func giveUp() {
        let reason = errors.last.map { "\($0)" } ?? "the host \(host) has no address"
        finish(.failure(ConnectError(errors: errors, reason: reason)))
    }

    private func closeDescriptor() {
        if descriptor >= 0 { close(descriptor) }
        descriptor = -1
    }

    private func finish(_ result: Result<CInt, any Error>) {
        let completion = self.completion
        end()
        completion?(result)
    }

    /// Lets go of everything that may hold this.
    private func end() {
        timer?.cancel()
        timer = nil
        completion = nil
        check = nil
    }
}
