import HotKeyTestSupport
import RESP

/// A connection whose replies are kept as the bytes they came in.
final class RawReplies {
    private let connection: RedisTestConnection
    private var received: [UInt8] = []
    private var start = 0

    init(port: Int) throws {
        connection = try RedisTestConnection(port: port, timeout: .seconds(20))
    }

    func send(_ bytes: [UInt8]) throws { try connection.send(raw: bytes) }
    func close() { connection.close() }

    /// The next value, whatever it is.
    func next() throws -> [UInt8] {
        var scanner = ReplyScanner()
        while true {
            let length = try received.withUnsafeBytes {
                try scanner.scan(UnsafeRawBufferPointer(rebasing: $0[start...]))
            }
            if let length {
                let value = Array(received[start..<start + length])
                start += length
                if start == received.count {
                    received.removeAll(keepingCapacity: true)
                    start = 0
                }
                return value
            }
            let chunk = try connection.receiveRaw()
            guard !chunk.isEmpty else { throw TestSupportError(.connectionClosed, "closed by the other side") }
            received += chunk
        }
    }

    /// `count` values that are no messages, with the messages between them.
    func next(count: Int, isSubscribed: Bool) throws -> [[UInt8]] {
        var values: [[UInt8]] = []
        var left = count
        while left > 0 {
            let value = try next()
            values.append(value)
            if !Self.isMessage(value, isSubscribed: isSubscribed) { left -= 1 }
        }
        return values
    }

    /// What the server sends unasked. `isSubscribed`: in RESP2 only then an array with these words is a message.
    static func isMessage(_ value: [UInt8], isSubscribed: Bool) -> Bool {
        guard value[0] == UInt8(ascii: ">") || isSubscribed && value[0] == UInt8(ascii: "*") else { return false }
        return ["$7\r\nmessage", "$8\r\npmessage", "$8\r\nsmessage", "$10\r\ninvalidate"].contains {
            value.dropFirst(4).starts(with: $0.utf8)
        }
    }
}
