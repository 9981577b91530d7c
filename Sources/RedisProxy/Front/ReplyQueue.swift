import NIOCore

/// Keeps one client's replies in the order of its commands, whatever order they come back in.
///
/// A slot is reserved for each command and named by a number that counts up. A reply that is not the oldest waits: a small one
/// among the others in one buffer, so that none costs an allocation; a large one by itself.
struct ReplyQueue: ~Copyable {
    /// Not private: Swift 6.3 cannot compile a class that holds this in a file of its own then.
    enum Slot {
        /// Not there yet.
        case open
        /// In ``held``.
        case small(start: Int32, length: Int32)
        /// In ``large``.
        case large
    }

    enum Ready {
        case nothing
        /// Its bytes have been appended.
        case copied
        case large(ByteBuffer)
    }

    private var slots = Ring<Slot>()
    private var head: UInt32 = 0
    /// Small replies that wait, in the order in which they came, with those between them that have gone out.
    private var held = ByteBuffer()
    private var smallBytes = 0
    private var large: [UInt32: ByteBuffer] = [:]
    private var largeBytes = 0

    var isEmpty: Bool { slots.isEmpty }
    var count: Int { slots.count }
    /// Bytes of replies that wait for an older one.
    var waitingBytes: Int { smallBytes &+ largeBytes }

    @inline(__always)
    mutating func reserve() -> UInt32 {
        slots.append(.open)
        return head &+ UInt32(truncatingIfNeeded: slots.count &- 1)
    }

    @inline(__always)
    func isOldest(_ slot: UInt32) -> Bool { slot == head }

    /// The slot that is reserved next.
    var nextSlot: UInt32 { head &+ UInt32(truncatingIfNeeded: slots.count) }

    /// Whether the oldest slot was reserved behind this one. Slots that are compared are less than 2^31 apart.
    func isOldestBehind(_ slot: UInt32) -> Bool { Int32(bitPattern: head &- slot) > 0 }

    /// Gives up the oldest slot, whose reply the caller sends itself.
    @inline(__always)
    mutating func removeOldest() {
        _ = slots.removeFirst()
        head &+= 1
    }

    /// Puts a reply of up to ``RedisProxyLimits/copyBytesMax`` into a slot that is not the oldest, or that has older replies still
    /// to be sent.
    @inline(__always)
    mutating func store(_ reply: UnsafeRawBufferPointer, in slot: UInt32) {
        if held.writerIndex > RedisProxyLimits.heldBytesKept, held.writerIndex > 2 * smallBytes { compact() }
        let start = held.writerIndex
        guard start < RedisProxyLimits.heldBytesMax else { return storeLarge(ByteBuffer(bytes: reply), in: slot) }
        held.append(reply)
        smallBytes &+= reply.count
        slots[Int(slot &- head)] = .small(
            start: Int32(truncatingIfNeeded: start), length: Int32(truncatingIfNeeded: reply.count))
    }

    mutating func store(_ reply: ByteBuffer, in slot: UInt32) {
        guard reply.readableBytes > RedisProxyLimits.copyBytesMax else {
            reply.withUnsafeReadableBytes { store($0, in: slot) }
            return
        }
        storeLarge(reply, in: slot)
    }

    private mutating func storeLarge(_ reply: ByteBuffer, in slot: UInt32) {
        large[slot] = reply
        largeBytes += reply.readableBytes
        slots[Int(slot &- head)] = .large
    }

    /// The oldest reply if it is there; its slot is given up.
    @inline(__always)
    mutating func popReady(into output: inout ByteBuffer) -> Ready {
        guard let first = slots.first else { return .nothing }
        switch first {
        case .open: return .nothing
        case .small(let start, let length):
            held.withUnsafeReadableBytes { bytes in
                output.append(UnsafeRawBufferPointer(rebasing: bytes[Int(start)..<Int(start) + Int(length)]))
            }
            smallBytes &-= Int(length)
            if smallBytes == 0 { held.clear() }
            removeOldest()
            return .copied
        case .large:
            let reply = large.removeValue(forKey: head)!
            largeBytes -= reply.readableBytes
            removeOldest()
            return .large(reply)
        }
    }

    mutating func removeAll() {
        head &+= UInt32(truncatingIfNeeded: slots.count)
        _ = slots.takeAll()
        held = ByteBuffer()
        large = [:]
        smallBytes = 0
        largeBytes = 0
    }

    /// A client that never has all its replies would let those that have gone out gather for ever.
    private mutating func compact() {
        var kept = ByteBuffer()
        kept.reserveCapacity(2 * smallBytes)
        for offset in 0..<slots.count {
            guard case .small(let start, let length) = slots[offset] else { continue }
            slots[offset] = .small(start: Int32(truncatingIfNeeded: kept.writerIndex), length: length)
            held.withUnsafeReadableBytes { bytes in
                kept.append(UnsafeRawBufferPointer(rebasing: bytes[Int(start)..<Int(start) + Int(length)]))
            }
        }
        held = kept
    }
}

extension ByteBuffer {
    /// As `writeBytes`, which is not inlined into other modules.
    @inline(__always)
    mutating func append(_ bytes: UnsafeRawBufferPointer) {
        _ = writeWithUnsafeMutableBytes(minimumWritableBytes: bytes.count) { space in
            space.copyMemory(from: bytes)
            return bytes.count
        }
    }
}
