import NIOCore
import RESP

/// A large reply on its way to its client while it still arrives: of a value of hundreds of megabytes no more is held than the client
/// lags behind.
///
/// On a shared connection everything behind such a reply waits for it. So what is asked from then on takes another connection
/// (``NodeState/retire(_:)``), and a client that does not read while others wait behind its reply is let go.
struct ReplyStream {
    /// Stands for a reply whose bytes have been passed on.
    static let passedOnReply = ByteBuffer(string: "$-1\r\n")

    let session: FrontSession
    /// With what stands before and behind the value.
    let totalBytes: Int
    private(set) var left: Int
    /// When the node last sent something of it, or the client last was the one to wait for.
    var progressAt: UInt64
    private var lastWaitingBytes = 0

    init(session: FrontSession, totalBytes: Int, now: UInt64) {
        self.session = session
        self.totalBytes = totalBytes
        left = totalBytes
        progressAt = now
    }

    var isComplete: Bool { left == 0 }

    /// A client that reads, however slowly, is not one that reads nothing.
    mutating func noteDrain(now: UInt64) {
        let waiting = session.waitingOutputBytes
        if waiting < lastWaitingBytes { progressAt = now }
        lastWaitingBytes = waiting
    }

    /// What of `buffer` belongs to the reply, taken out of it.
    mutating func take(_ buffer: inout ByteBuffer, now: UInt64) -> ByteBuffer? {
        progressAt = now
        let part = buffer.readSlice(length: min(left, buffer.readableBytes))
        left -= part?.readableBytes ?? 0
        return part
    }

    /// The whole length of a bulk string whose beginning is there, if that is too large to be held.
    static func length(of bytes: UnsafeRawBufferPointer) -> Int? {
        guard bytes.count >= RedisProxyLimits.streamHeaderBytesMin, bytes[0] == UInt8(ascii: "$") else { return nil }
        var value = 0
        var index = 1
        while index < RedisProxyLimits.streamHeaderBytesMin - 1, bytes[index] != UInt8(ascii: "\r") {
            let digit = Int(bytes[index]) - Int(UInt8(ascii: "0"))
            guard (0...9).contains(digit) else { return nil }
            value = value * 10 + digit
            index += 1
        }
        guard bytes[index] == UInt8(ascii: "\r"), value >= RedisProxyLimits.streamBytesMin,
            value <= RESPLimits.bulkBytesMax
        else { return nil }
        return index + 2 + value + 2
    }
}
