import Dispatch
import Glibc

/// A blocking TCP or Unix-socket connection with a time limit on each operation. Not for use on the concurrency pool:
/// see ``onOwnThread(_:)``.
final class TestSocket {
    private let descriptor: Int32
    private var isClosed = false
    var timeout: Duration

    /// Connects to 127.0.0.1:`port`.
    init(port: Int, timeout: Duration = TestSupportLimits.socketTimeout) throws {
        descriptor = try Self.makeSocket(AF_INET)
        self.timeout = timeout
        let result = withLoopbackAddress(port: port) { connect(descriptor, $0, $1) }
        do { try finishConnect(result, to: "127.0.0.1:\(port)") } catch {
            close()
            throw error
        }
        var one: Int32 = 1
        setsockopt(
            descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
    }

    /// Connects to a Unix socket.
    init(unixPath: String, timeout: Duration = TestSupportLimits.socketTimeout) throws {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(unixPath.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
            throw TestSupportError(.misuse, "\(unixPath) is too long for a Unix socket")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        descriptor = try Self.makeSocket(AF_UNIX)
        self.timeout = timeout
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        do { try finishConnect(result, to: unixPath) } catch {
            close()
            throw error
        }
    }

    deinit { close() }

    func write(_ bytes: [UInt8]) throws {
        let deadline = ContinuousClock.now + timeout
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                send(descriptor, $0.baseAddress! + sent, $0.count - sent, Int32(MSG_NOSIGNAL))
            }
            if count >= 0 {
                sent += count
            } else if errno == EAGAIN {
                try wait(POLLOUT, until: deadline, for: "room to send")
            } else if errno != EINTR {
                throw closed("send")
            }
        }
    }

    /// At least one byte, or none when the other side has closed. Throws `timeout` when nothing comes.
    func read(upTo countMax: Int) throws -> [UInt8] {
        let deadline = ContinuousClock.now + timeout
        while true {
            var failure: Int32 = 0
            let bytes = [UInt8](unsafeUninitializedCapacity: countMax) { buffer, filled in
                let count = recv(descriptor, buffer.baseAddress, countMax, 0)
                if count < 0 { failure = errno }
                filled = max(0, count)
            }
            if failure == 0 { return bytes }
            if failure == EAGAIN {
                try wait(POLLIN, until: deadline, for: "bytes")
            } else if failure != EINTR {
                errno = failure
                throw closed("receive")
            }
        }
    }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        Glibc.close(descriptor)
    }

    /// Ends this side's stream; the other direction stays.
    func finishWriting() {
        shutdown(descriptor, Int32(SHUT_WR))
    }

    /// Closes with RST instead of FIN.
    func reset() {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
        close()
    }

    private static func makeSocket(_ family: Int32) throws -> Int32 {
        let descriptor = socket(
            family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else {
            throw TestSupportError(.system, "socket: \(String(cString: strerror(errno)))")
        }
        return descriptor
    }

    private func finishConnect(_ result: Int32, to target: String) throws {
        var failure = result == 0 ? 0 : errno
        if failure == EINPROGRESS {
            try wait(POLLOUT, until: ContinuousClock.now + timeout, for: "the connection to \(target)")
            var size = socklen_t(MemoryLayout<Int32>.size)
            getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &failure, &size)
        }
        guard failure == 0 else {
            throw TestSupportError(
                failure == ECONNREFUSED || failure == ENOENT ? .connectionRefused : .system,
                "connect to \(target): \(String(cString: strerror(failure)))")
        }
    }

    private func wait(_ event: Int32, until deadline: ContinuousClock.Instant, for awaited: String) throws {
        var entry = pollfd(fd: descriptor, events: Int16(event), revents: 0)
        while true {
            let left = deadline - ContinuousClock.now
            guard left > .zero else { throw TestSupportError(.timeout, "waited \(timeout) for \(awaited)") }
            let milliseconds = left.components.seconds * 1000 + left.components.attoseconds / 1_000_000_000_000_000
            if poll(&entry, 1, Int32(clamping: milliseconds + 1)) > 0 { return }
        }
    }

    private func closed(_ what: String) -> TestSupportError {
        TestSupportError(.connectionClosed, "\(what): \(String(cString: strerror(errno)))")
    }
}

/// Runs blocking work off the concurrency pool, which has only as many threads as the machine has cores.
func onOwnThread<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
        DispatchQueue(label: "blocking").async { continuation.resume(with: Result(catching: body)) }
    }
}
