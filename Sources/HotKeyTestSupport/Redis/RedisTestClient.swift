import Dispatch

/// A RESP connection for async tests: ``RedisTestConnection`` on a thread of its own, one operation after the other.
// Unchecked: the connection is only touched in blocks on `queue`, which is serial.
public final class RedisTestClient: @unchecked Sendable {
    private let queue = DispatchQueue(label: "redis-test-client")
    private let connection: RedisTestConnection

    private init(_ connection: RedisTestConnection) {
        self.connection = connection
    }

    /// Connects to 127.0.0.1:`port`. Throws `connectionRefused` when nobody listens.
    public static func connect(
        port: Int, timeout: Duration = TestSupportLimits.socketTimeout
    ) async throws -> RedisTestClient {
        try await onOwnThread { RedisTestClient(try RedisTestConnection(port: port, timeout: timeout)) }
    }

    public static func connect(
        unixPath: String, timeout: Duration = TestSupportLimits.socketTimeout
    ) async throws -> RedisTestClient {
        try await onOwnThread { RedisTestClient(try RedisTestConnection(unixPath: unixPath, timeout: timeout)) }
    }

    /// Sends a command and returns its reply; an error reply is a value, not a thrown error. RESP3 pushes that come before
    /// the reply are kept for ``nextPush()``.
    @discardableResult
    public func command(_ words: String...) async throws -> RedisTestValue { try await command(words) }

    @discardableResult
    public func command(_ words: [String]) async throws -> RedisTestValue {
        try await run { try $0.command(words) }
    }

    @discardableResult
    public func command(bytes words: [[UInt8]]) async throws -> RedisTestValue {
        try await run { try $0.command(bytes: words) }
    }

    /// Sends all commands at once, then reads all replies.
    public func pipeline(_ commands: [[String]]) async throws -> [RedisTestValue] {
        try await run { try $0.pipeline(commands) }
    }

    /// Sends a command without reading its reply.
    public func send(_ words: [String]) async throws {
        try await run { try $0.send(raw: RedisTestConnection.encode(words.map { Array($0.utf8) })) }
    }

    public func send(raw bytes: [UInt8]) async throws { try await run { try $0.send(raw: bytes) } }
    public func send(raw text: String) async throws { try await send(raw: Array(text.utf8)) }

    /// The next value of any kind.
    public func receive() async throws -> RedisTestValue { try await run { try $0.receive() } }
    /// The oldest RESP3 push not taken yet; waits for one.
    public func nextPush() async throws -> RedisTestValue { try await run { try $0.nextPush() } }
    /// Bytes as they come: at least one, none when the other side has closed.
    public func receiveRaw() async throws -> [UInt8] { try await run { try $0.receiveRaw() } }
    /// Every byte until the other side closes.
    public func receiveRawToEnd() async throws -> [UInt8] { try await run { try $0.receiveRawToEnd() } }

    /// Changes the limit of each wait for bytes.
    public func setTimeout(_ timeout: Duration) async throws { try await run { $0.timeout = timeout } }

    public func close() async { try? await run { $0.close() } }
    /// Closes with RST.
    public func reset() async { try? await run { $0.reset() } }
    /// Sends FIN and goes on reading.
    public func finishWriting() async throws { try await run { $0.finishWriting() } }

    private func run<T: Sendable>(
        _ body: @escaping @Sendable (RedisTestConnection) throws -> T
    ) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            queue.async { continuation.resume(with: Result { try body(self.connection) }) }
        }
    }
}
