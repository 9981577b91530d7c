import NIOCore
import RESP

/// One reply inside the buffer it arrived in. Valid only during the call it is handed to.
struct ReplyView {
    let buffer: ByteBuffer
    /// Index in `buffer`.
    let start: Int
    let length: Int
    /// The reply's bytes; they live as long as the call.
    let bytes: UnsafeRawBufferPointer

    var isError: Bool { bytes[0] == UInt8(ascii: "-") || bytes[0] == UInt8(ascii: "!") }

    /// A copy of the reply that may be kept: it does not hold on to the (larger) buffer it arrived in unless it is most of it.
    func detached() -> ByteBuffer {
        if length > RedisProxyLimits.copyBytesMax, let slice = buffer.getSlice(at: start, length: length) {
            return slice
        }
        return ByteBuffer(bytes: bytes)
    }
}

/// Where a reply goes once it is known. Every sink is completed exactly once.
enum ReplySink {
    /// Nobody waits: a refresh ahead of expiry, a copy being filled.
    case none
    case slot(FrontSession, UInt32)
    /// One part of a command that was split over nodes.
    case part(SplitJoin, Int)

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
