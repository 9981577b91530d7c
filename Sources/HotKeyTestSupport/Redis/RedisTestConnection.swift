/// A blocking RESP connection for tests. It belongs to one thread; ``RedisTestClient`` is the same for async code.
public final class RedisTestConnection {
    private let socket: TestSocket
    private var received: [UInt8] = []
    private var position = 0

    /// Pushes (RESP3) that came while a reply was awaited, oldest first.
    public private(set) var pushes: [RedisTestValue] = []

    /// Throws `connectionRefused` when nobody listens on 127.0.0.1:`port`.
    public init(port: Int, timeout: Duration = TestSupportLimits.socketTimeout) throws {
        socket = try TestSocket(port: port, timeout: timeout)
    }

    public init(unixPath: String, timeout: Duration = TestSupportLimits.socketTimeout) throws {
        socket = try TestSocket(unixPath: unixPath, timeout: timeout)
    }

    /// The limit of each wait for bytes.
    public var timeout: Duration {
        get { socket.timeout }
        set { socket.timeout = newValue }
    }

    /// Sends a command and returns its reply; pushes that come before it go to ``pushes``.
    @discardableResult
    public func command(_ words: [String]) throws -> RedisTestValue {
        try command(bytes: words.map { Array($0.utf8) })
    }

    @discardableResult
    public func command(bytes words: [[UInt8]]) throws -> RedisTestValue {
        try send(raw: Self.encode(words))
        return try receiveReply()
    }

    /// Sends all commands at once, then reads all replies.
    public func pipeline(_ commands: [[String]]) throws -> [RedisTestValue] {
        try send(raw: commands.flatMap { Self.encode($0.map { Array($0.utf8) }) })
        return try commands.map { _ in try receiveReply() }
    }

    public func send(raw bytes: [UInt8]) throws { try socket.write(bytes) }

    /// The next value of any kind.
    public func receive() throws -> RedisTestValue { try readValue(depth: 0) }

    /// The next value that is not a push.
    public func receiveReply() throws -> RedisTestValue {
        while true {
            let value = try receive()
            guard case .push = value else { return value }
            pushes.append(value)
        }
    }

    /// The oldest push that was not taken yet; waits for one.
    public func nextPush() throws -> RedisTestValue {
        if !pushes.isEmpty { return pushes.removeFirst() }
        let value = try receive()
        guard case .push = value else {
            throw TestSupportError(.malformedReply, "awaited a push, received \(value)")
        }
        return value
    }

    /// Bytes as they come: at least one, none when the other side has closed.
    public func receiveRaw(upTo countMax: Int = 64 << 10) throws -> [UInt8] {
        if position < received.count {
            let bytes = Array(received[position...].prefix(countMax))
            position += bytes.count
            return bytes
        }
        return try socket.read(upTo: countMax)
    }

    /// Every byte until the other side closes; at most ``TestSupportLimits/bulkBytesMax``.
    public func receiveRawToEnd() throws -> [UInt8] {
        var all: [UInt8] = []
        while all.count < TestSupportLimits.bulkBytesMax {
            let chunk = try receiveRaw()
            if chunk.isEmpty { return all }
            all += chunk
        }
        throw TestSupportError(.malformedReply, "more than \(TestSupportLimits.bulkBytesMax) bytes")
    }

    public func close() { socket.close() }
    /// Closes with RST.
    public func reset() { socket.reset() }
    /// Sends FIN and goes on reading.
    public func finishWriting() { socket.finishWriting() }

    /// A command as an array of bulk strings.
    public static func encode(_ words: [[UInt8]]) -> [UInt8] {
        var bytes = Array("*\(words.count)\r\n".utf8)
        for word in words { bytes += Array("$\(word.count)\r\n".utf8) + word + [13, 10] }
        return bytes
    }

    // MARK: Reading

    private func readValue(depth: Int) throws -> RedisTestValue {
        guard depth <= TestSupportLimits.nestingMax else { throw malformed("nested too deeply") }
        let line = try readLine()
        guard let marker = line.first else { throw malformed("an empty line") }
        let rest = String(decoding: line.dropFirst(), as: UTF8.self)
        switch UnicodeScalar(marker) {
        case "+": return .simple(rest)
        case "-": return .error(rest)
        case ":": return .integer(try number(rest))
        case "$": return try readBulk(rest).map { .bulk($0) } ?? .nullBulk
        case "*": return try readValues(rest, depth: depth).map { .array($0) } ?? .nullArray
        case "_": return .null
        case "#":
            guard rest == "t" || rest == "f" else { throw malformed("boolean \(rest)") }
            return .boolean(rest == "t")
        case ",":
            guard let value = Double(rest) else { throw malformed("double \(rest)") }
            return .double(value)
        case "(": return .bigNumber(rest)
        case "!":
            guard let bytes = try readBulk(rest) else { throw malformed("null bulk error") }
            return .bulkError(bytes)
        case "=":
            guard let bytes = try readBulk(rest), bytes.count >= 4, bytes[3] == UInt8(ascii: ":") else {
                throw malformed("verbatim string")
            }
            return .verbatim(format: String(decoding: bytes.prefix(3), as: UTF8.self), Array(bytes.dropFirst(4)))
        case "%": return .map(try readPairs(rest, depth: depth))
        case "~": return .set(try readValues(rest, depth: depth) ?? [])
        case ">": return .push(try readValues(rest, depth: depth) ?? [])
        case "|":
            let pairs = try readPairs(rest, depth: depth)
            return .attributed(pairs, try readValue(depth: depth + 1))
        default: throw malformed("line \(String(reflecting: String(decoding: line, as: UTF8.self)))")
        }
    }

    private func readBulk(_ length: String) throws -> [UInt8]? {
        if length == "-1" { return nil }
        let count = try number(length)
        guard (0...Int64(TestSupportLimits.bulkBytesMax)).contains(count) else {
            throw malformed("bulk length \(length)")
        }
        let bytes = try readExactly(Int(count) + 2)
        guard bytes.suffix(2) == [13, 10] else { throw malformed("bulk without CRLF") }
        return Array(bytes.dropLast(2))
    }

    private func readCount(_ length: String) throws -> Int {
        let count = try number(length)
        guard (0...Int64(TestSupportLimits.aggregateCountMax)).contains(count) else {
            throw malformed("aggregate length \(length)")
        }
        return Int(count)
    }

    private func readValues(_ length: String, depth: Int) throws -> [RedisTestValue]? {
        if length == "-1" { return nil }
        return try (0..<readCount(length)).map { _ in try readValue(depth: depth + 1) }
    }

    private func readPairs(_ length: String, depth: Int) throws -> [RedisTestValue.Pair] {
        try (0..<readCount(length)).map { _ in
            .init(try readValue(depth: depth + 1), try readValue(depth: depth + 1))
        }
    }

    private func number(_ text: String) throws -> Int64 {
        guard let number = Int64(text) else { throw malformed("number \(text)") }
        return number
    }

    private func readLine() throws -> [UInt8] {
        var searched = position
        while true {
            if let end = received[searched...].firstIndex(of: 10) {
                guard end > position, received[end - 1] == 13 else { throw malformed("a line without CR") }
                let line = Array(received[position..<end - 1])
                position = end + 1
                return line
            }
            guard received.count - position <= 64 << 10 else { throw malformed("a line over 64 KiB") }
            let unread = received.count - position
            try fill()
            searched = position + unread
        }
    }

    private func readExactly(_ count: Int) throws -> [UInt8] {
        while received.count - position < count { try fill() }
        let bytes = Array(received[position..<position + count])
        position += count
        return bytes
    }

    private func fill() throws {
        if position > 0 {
            received.removeFirst(position)
            position = 0
        }
        let chunk = try socket.read(upTo: 64 << 10)
        guard !chunk.isEmpty else {
            throw TestSupportError(.connectionClosed, "the other side closed the connection")
        }
        received += chunk
    }

    private func malformed(_ what: String) -> TestSupportError {
        TestSupportError(.malformedReply, "not RESP: \(what)")
    }
}
