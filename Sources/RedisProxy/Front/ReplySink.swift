import NIOCore
import RESP

/// One reply inside the buffer it arrived in. Valid only during the call it is handed to.
struct ReplyView {
    /// Lives as long as the call; a copy of the buffer would count a reference for each reply.
    let buffer: UnsafePointer<ByteBuffer>
    /// Index in `buffer`.
    let start: Int
    let length: Int
    /// The reply's bytes; they live as long as the call.
    let bytes: UnsafeRawBufferPointer

    var isError: Bool { bytes[0] == UInt8(ascii: "-") || bytes[0] == UInt8(ascii: "!") }

    /// No value: `$-1`, `*-1` or `_`. Asked by length first, because the bytes of a reply that was streamed are not its own.
    @inline(__always)
    var isNull: Bool { length <= RedisProxyLimits.nullReplyBytesMax && Self.isNull(bytes[0], bytes[1]) }

    @inline(__always)
    static func isNull(_ first: UInt8, _ second: UInt8) -> Bool {
        first == UInt8(ascii: "_")
            || second == UInt8(ascii: "-") && (first == UInt8(ascii: "$") || first == UInt8(ascii: "*"))
    }

    /// The node answers, but only to say that it serves nobody now: it loads its data, a script holds it up, or it is a replica
    /// that has lost its primary.
    @inline(__always)
    var isNotServing: Bool {
        bytes[0] == UInt8(ascii: "-") && Self.notServing.contains { bytes.starts(with: $0.utf8) }
    }

    /// A write that was not carried out, because the node serves nobody or has become a replica.
    var isRefusedWrite: Bool { isNotServing || bytes.starts(with: "-READONLY You can't write against a read".utf8) }

    /// An error that says what is wrong with the command or with the key it is for: every node that holds the key would answer so. Any
    /// other may be the node's own (`MOVED`, `LOADING`, `NOPERM`, a command that was renamed there).
    var isCommandError: Bool {
        bytes[0] == UInt8(ascii: "-") && Self.commandErrors.contains { bytes.starts(with: $0.utf8) }
    }

    private static let commandErrors = ["-WRONGTYPE ", "-ERR wrong number of arguments", "-ERR syntax error"]

    /// As Redis and Valkey say it, and long enough that no script says it by chance.
    private static let notServing = [
        "-LOADING Redis is loading", "-LOADING Valkey is loading", "-BUSY Redis is busy running",
        "-BUSY Valkey is busy running",
        "-MASTERDOWN Link with MASTER is down",
    ]

    /// The text of an error, without what RESP puts around it.
    var errorText: String { String(decoding: bytes.dropFirst().dropLast(2), as: UTF8.self) }

    /// The reply on its way out at once: a large one goes as a slice of the buffer that it arrived in.
    func passedOn() -> ByteBuffer {
        if length > RedisProxyLimits.copyBytesMax, let slice = buffer.pointee.getSlice(at: start, length: length) {
            return slice
        }
        return copied()
    }

    /// The reply to be held until older ones have gone out: it keeps no more than twice its size alive.
    func detached() -> ByteBuffer {
        length >= buffer.pointee.storageCapacity / 2 ? passedOn() : copied()
    }

    /// The reply to be kept for long: in memory of its own.
    func copied() -> ByteBuffer { ByteBuffer(bytes: bytes) }
}

extension ByteBuffer {
    /// As ``ReplyView/isNull``, of a reply that is held.
    var isNullReply: Bool {
        guard readableBytes <= RedisProxyLimits.nullReplyBytesMax,
            let start = getInteger(at: readerIndex, as: UInt16.self)
        else { return false }
        return ReplyView.isNull(UInt8(start >> 8), UInt8(truncatingIfNeeded: start))
    }
}

/// Where a reply goes once it is known. Every sink is completed exactly once.
enum ReplySink {
    /// Nobody waits: a refresh ahead of expiry, a copy being filled.
    case none
    case slot(FrontSession, UInt32)
    /// One part of a command that was split over nodes.
    case part(SplitJoin, Int)

    var isNobody: Bool { if case .none = self { true } else { false } }

    /// Whose command this answers; nil for the agent's own.
    var session: FrontSession? {
        switch self {
        case .none: nil
        case .slot(let session, _): session
        case .part(let join, _): join.session
        }
    }

    /// Whose command this answers; 0 for the agent's own.
    var client: UInt64 {
        switch self {
        case .none: 0
        case .slot(let session, _): session.id
        case .part(let join, _): join.client
        }
    }

    func deliver(_ view: ReplyView) {
        switch self {
        case .none: break
        case .slot(let session, let slot): session.complete(slot, view)
        case .part(let join, let part): join.complete(part, view.bytes)
        }
    }

    func deliver(_ reply: ByteBuffer) {
        switch self {
        case .none: break
        case .slot(let session, let slot): session.complete(slot, reply)
        case .part(let join, let part): reply.withUnsafeReadableBytes { join.complete(part, $0) }
        }
    }

    func fail(_ errorText: String) {
        if case .none = self { return }
        deliver(ProxyReply.error(errorText))
    }
}
