import NIOCore
import SocketIO

/// What a client is sent beside whole replies.
extension FrontSession {
    /// Sends a pub/sub message. It may stand between any two replies. A client that does not read its messages is let go, as
    /// Redis does: back-pressure has no hold on it, because it sends nothing.
    func push(_ text: ByteBuffer) {
        guard let connection else { return }
        pushedBytes = connection.isWritable ? 0 : pushedBytes + text.readableBytes
        guard pushedBytes < loop.configuration.outputBytesMax else {
            close()
            return
        }
        if streaming != nil {
            pushedMeanwhile.writeImmutableBuffer(text)
        } else {
            write(text)
        }
        touch()
    }

    // MARK: A large reply, part by part

    /// Whether a reply may go out while it still arrives.
    func mayStream(_ slot: UInt32) -> Bool { connection != nil && streaming == nil && replies.isOldest(slot) }

    func beginStream(from connection: UpstreamConnection) { streaming = connection }

    func passOn(part: ByteBuffer) {
        guard connection != nil else { return }
        write(part)
        touch()
    }

    func endStream() {
        streaming = nil
        replies.removeOldest()
        write(pushedMeanwhile)
        pushedMeanwhile = ByteBuffer()
        writeReady()
        touch()
    }

    /// Whether more waits for this client than may.
    var isBackedUp: Bool { waitingOutputBytes > loop.configuration.outputBytesMax }

    /// What the client has not taken yet; 0 when it is gone.
    var waitingOutputBytes: Int {
        connection.map { $0.unsentBytes + output.readableBytes } ?? 0
    }

    // MARK: What a connection of this client's own says beside replies

    func isNext(_ slot: UInt32) -> Bool { replies.isOldest(slot) }

    func passOn(_ message: ReplyView) {
        guard connection != nil else { return }
        write(message.passedOn())
        touch()
    }

    func passOn(_ messages: ByteBuffer) {
        guard connection != nil else { return }
        write(messages)
        touch()
    }

    /// Nothing is asked on that connection, but a reply may still be held back.
    func passOnBehindReplies(_ message: ReplyView) {
        guard connection != nil else { return }
        if replies.isEmpty { passOn(message) } else { complete(reserveReply(), message) }
    }

    /// Messages wait for an older reply, or (negative) do so no more.
    func holds(_ bytes: Int) { heldBytes += bytes }
}
