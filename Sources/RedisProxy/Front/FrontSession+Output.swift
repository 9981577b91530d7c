import NIOCore
import RESP
import SocketIO

// What goes back to the client: replies in the order of its commands, gathered into one write a turn.
extension FrontSession {
    @inline(__always)
    func reserveReply() -> UInt32 { replies.reserve() }

    /// Answers the command in hand, in its turn.
    @inline(__always)
    func answer(_ reply: ByteBuffer) {
        if replies.isEmpty {
            write(reply)
        } else {
            replies.store(reply, in: replies.reserve())
        }
        touch()
    }

    func answer(error text: String) { answer(ProxyReply.error(text)) }
    func answer(_ value: RESPValue) { answer(ProxyReply.value(value, version)) }

    /// The reply of a slot has come.
    @inline(__always)
    func complete(_ slot: UInt32, _ reply: ReplyView) {
        guard connection != nil else { return }
        let isSmall = reply.length <= RedisProxyLimits.copyBytesMax
        if replies.isOldest(slot) {
            if streaming != nil { return endStream() }
            replies.removeOldest()
            if isSmall { output.append(reply.bytes) } else { write(reply.passedOn()) }
            if !replies.isEmpty { writeReady() }
        } else if isSmall {
            replies.store(reply.bytes, in: slot)
        } else {
            replies.store(reply.detached(), in: slot)
        }
        touch()
    }

    func complete(_ slot: UInt32, _ reply: ByteBuffer) {
        guard connection != nil else { return }
        if replies.isOldest(slot) {
            if streaming != nil { return endStream() }
            replies.removeOldest()
            write(reply)
            writeReady()
        } else {
            replies.store(reply, in: slot)
        }
        touch()
    }

    /// Whether its own connection may read more for this client.
    var mayTakeMore: Bool {
        output.readableBytes + replies.waitingBytes + heldBytes < loop.configuration.outputBytesMax
            && connection?.isWritable ?? true
    }

    @inline(__always)
    func writeReady() {
        while true {
            switch replies.popReady(into: &output) {
            case .nothing: return
            case .copied: continue
            case .large(let reply): write(reply)
            }
        }
    }

    @inline(__always)
    func write(_ reply: ByteBuffer) {
        if reply.readableBytes <= RedisProxyLimits.copyBytesMax {
            reply.withUnsafeReadableBytes { output.append($0) }
        } else {
            if output.readableBytes > 0 {
                connection?.write(output)
                output = ByteBuffer()
            }
            connection?.write(reply)
            hasUnflushed = true
        }
    }

    /// Whether what there is goes out better with the rest of the replies to the same pipeline: they come from several nodes at about
    /// the same time, and a write costs as much as dozens of requests. Held for ``RedisProxyLimits/repliesHeldNanosecondsMax`` at
    /// most, so that a client of which one reply is late does not wait for the others.
    ///
    /// Only what was read together counts as a pipeline. A client that sends on while it waits, as those do that share one connection
    /// among many callers, always waits for something, and would always be held up; so callers whose commands were read together may
    /// be held for each other, and no others.
    var gainsByWaiting: Bool {
        !replies.isEmpty && !loop.hasOneNode && output.readableBytes > 0
            && output.readableBytes <= RedisProxyLimits.copyBytesMax
            && replies.isOldestBehind(newestCommands) && !hasUnflushed && isUndisturbed
    }

    func flushOutput(_ connection: SocketConnection) {
        activeAt = loop.now
        if output.readableBytes > 0 {
            connection.writeAndFlush(output)
            // When it was sent whole, the storage is ours alone again and is used again; otherwise a new one is made.
            if output.capacity > RedisProxyLimits.outputBytesKept { output = ByteBuffer() } else { output.clear() }
        } else if hasUnflushed {
            connection.flush()
        }
        hasUnflushed = false
    }
}
