import DequeModule
import NIOCore

/// Keeps one client's replies in the order of its commands, whatever order they come back in.
///
/// A slot is reserved for each command and named by a number that counts up; a reply that is not the oldest waits in its
/// slot.
struct ReplyQueue {
    private var slots: Deque<ByteBuffer?> = []
    private var head: UInt32 = 0

    var isEmpty: Bool { slots.isEmpty }
    var count: Int { slots.count }
    /// Bytes of replies that wait for an older one.
    private(set) var waitingBytes = 0

    mutating func reserve() -> UInt32 {
        slots.append(nil)
        return head &+ UInt32(truncatingIfNeeded: slots.count &- 1)
    }

    @inline(__always)
    func isOldest(_ slot: UInt32) -> Bool { slot == head }

    /// Gives up the oldest slot, whose reply the caller sends itself.
    @inline(__always)
    mutating func removeOldest() {
        slots.removeFirst()
        head &+= 1
    }

    /// Puts a reply into a slot that is not the oldest, or that has older replies still to be sent.
    mutating func store(_ reply: ByteBuffer, in slot: UInt32) {
        slots[Int(slot &- head)] = reply
        waitingBytes += reply.readableBytes
    }

    /// The oldest reply if it is there; its slot is given up.
    @inline(__always)
    mutating func popReady() -> ByteBuffer? {
        guard let first = slots.first, let reply = first else { return nil }
        removeOldest()
        waitingBytes -= reply.readableBytes
        return reply
    }

    mutating func removeAll() {
        head &+= UInt32(truncatingIfNeeded: slots.count)
        slots.removeAll()
        waitingBytes = 0
    }
}
