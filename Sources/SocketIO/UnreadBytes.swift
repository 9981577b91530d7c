public import NIOCore

/// Bytes that have come and that their owner could not use yet: half a command, or commands that have to wait.
public struct UnreadBytes {
    private var bytes = ByteBuffer()

    public init() {}

    public var isEmpty: Bool { bytes.readableBytes == 0 }

    /// Keeps what is left of `buffer`. A little is copied: the storage may be the event loop's, which reads into it again, and a
    /// few bytes must not keep all of it. Nothing may be kept already.
    public mutating func keep(_ buffer: ByteBuffer) {
        assert(isEmpty)
        guard buffer.readableBytes > 0 else { return }
        if buffer.readableBytes <= SocketLimits.movedBytesMax {
            bytes.writeImmutableBuffer(buffer)
        } else {
            bytes = buffer
            // What has been used of a command that is gathered must not be carried along.
            if bytes.readerIndex > SocketLimits.readBytes { bytes.discardReadBytes() }
        }
    }

    /// Hands all over.
    public mutating func take() -> ByteBuffer {
        defer { bytes = ByteBuffer() }
        return bytes
    }

    /// So much that it is read on to where it is.
    var isLarge: Bool { bytes.readableBytes > SocketLimits.movedBytesMax }

    /// Puts all in front of what is read next.
    mutating func move(into buffer: inout ByteBuffer) {
        guard !isEmpty else { return }
        buffer.writeImmutableBuffer(bytes)
        if bytes.capacity > SocketLimits.unreadBytesKept { bytes = ByteBuffer() } else { bytes.clear() }
    }
}
