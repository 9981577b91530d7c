import Glibc
import HotKeyTestSupport
import NIOCore

@testable import SocketIO

extension Guarded {
    var now: Value { with { $0 } }

    @discardableResult
    func update<R>(_ body: (inout Value) -> R) -> R { with(body) }
}

/// One event loop, ended after `body`.
@discardableResult
func withLoop<T>(_ body: (SocketEventLoop) async throws -> T) async throws -> T {
    let group = try SocketEventLoopGroup(count: 1)
    do {
        let result = try await body(group.loops[0])
        try await group.shutdownGracefully()
        return result
    } catch {
        try? await group.shutdownGracefully()
        throw error
    }
}

/// A connection on the event loop, and the other side of it, whose calls block.
final class Pair: Sendable {
    let loop: SocketEventLoop
    let near: CInt
    let far: CInt
    let seen = Guarded(Seen())
    // Used on the event loop alone.
    nonisolated(unsafe) private(set) var connection: SocketConnection!

    struct Seen {
        var bytes: [UInt8] = []
        var inputEnds = 0
        var writability: [Bool] = []
        var ends: [String] = []
        var closes = 0
    }

    /// - Parameter taking: how many bytes of what has come are used; the rest is left unread.
    convenience init(
        on loop: SocketEventLoop, allowsHalfClosure: Bool = true, taking: @escaping @Sendable (Int) -> Int = { $0 }
    ) async throws {
        try self.init(loop)
        try await loop.submit { try self.register(allowsHalfClosure, taking) }.get()
    }

    /// On the event loop already.
    convenience init(here loop: SocketEventLoop) throws {
        try self.init(loop)
        try register(true) { $0 }
    }

    private init(_ loop: SocketEventLoop) throws {
        self.loop = loop
        var ends: [CInt] = [-1, -1]
        guard socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &ends) == 0 else {
            throw TestSupportError(.misuse, "no socket pair")
        }
        (near, far) = (ends[0], ends[1])
    }

    private func register(_ allowsHalfClosure: Bool, _ taking: @escaping @Sendable (Int) -> Int) throws {
        guard Descriptor.setNonBlocking(near) else { throw TestSupportError(.misuse, "no non-blocking socket") }
        connection = try SocketConnection(
            descriptor: near, eventLoop: loop, allowsHalfClosure: allowsHalfClosure,
            handler: Handler(seen: seen, taking: taking))
        connection.onClose = { [seen] in seen.update { $0.closes += 1 } }
    }

    func forget() { connection = nil }

    deinit { close(far) }

    func onLoop<T: Sendable>(_ body: @escaping @Sendable (SocketConnection) throws -> T) async throws -> T {
        try await loop.submit { [self] in try body(connection) }.get()
    }

    func sendFar(_ bytes: [UInt8]) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes { send(far, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
            guard count > 0 else { return }
            sent += count
        }
    }

    /// What has come at the other side, up to `count` bytes; fewer at its end.
    func receiveFar(_ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var received = 0
        while received < count {
            let more = bytes[received...].withUnsafeMutableBytes { recv(far, $0.baseAddress, $0.count, 0) }
            guard more > 0 else { break }
            received += more
        }
        return Array(bytes[..<received])
    }

    private final class Handler: SocketHandler {
        var unread = UnreadBytes()
        private let seen: Guarded<Seen>
        private let taking: @Sendable (Int) -> Int

        init(seen: Guarded<Seen>, taking: @escaping @Sendable (Int) -> Int) {
            self.seen = seen
            self.taking = taking
        }

        func received(_ buffer: inout ByteBuffer) {
            let all = buffer.readableBytes
            let taken = buffer.readBytes(length: min(all, taking(all))) ?? []
            seen.update { $0.bytes += taken }
            unread.keep(buffer)
        }

        func inputClosed() { seen.update { $0.inputEnds += 1 } }
        func writabilityChanged(_ isWritable: Bool) { seen.update { $0.writability.append(isWritable) } }
        func closed(_ error: (any Error)?) {
            seen.update { $0.ends.append(error.map { "\($0)" } ?? "closed") }
        }
    }
}

/// Bytes that tell where they belong.
func pattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) } }
