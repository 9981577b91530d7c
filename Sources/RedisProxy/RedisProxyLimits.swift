/// The fixed bounds of the data path; what an operator may change is in ``ProxyConfiguration``.
public enum RedisProxyLimits {
    /// A command or reply up to this size is copied into the buffer that goes out with its neighbours in one write; a larger
    /// one is passed on as a slice, because copying would cost more than a write of its own.
    static let copyBytesMax = 16 * 1024
    /// Requests that one upstream connection may hold unsent or unanswered; beyond it new ones fail at once. At 64 bytes
    /// a request this bounds the book-keeping of a hanging node to a few MB until its timeout ends it.
    static let upstreamPendingMax = 100_000
    /// Bytes waiting for one upstream connection while it connects or its node does not read.
    static let upstreamOutboundBytesMax = 64 * 1024 * 1024
    /// How often timeouts, half-open probes and reconnects are looked after.
    static let tickMilliseconds: Int64 = 100
    /// How often a node's clock is read for the expiry times of copies.
    static let clockSampleNanoseconds: UInt64 = 1_000_000_000
    /// Bytes of one client's commands that wait for its own connection before no more of them are read.
    static let boundOutboundBytesMax = 1024 * 1024
    /// Connections to one node that clients of one event loop have given back and that wait for the next client, and how long they
    /// do.
    static let idleBoundMax = 32
    static let idleBoundNanoseconds: UInt64 = 30_000_000_000
    /// A node that owes replies and has said nothing for so many request timeouts hangs: what waits there without a limit of its
    /// own is ended.
    static let silentTimeoutsMax = 3
    /// Bytes of keys that one client's unfinished transaction remembers for invalidation; beyond it every hot key is invalidated.
    static let writtenKeyBytesMax = 1024 * 1024
    /// Connections that wait to be accepted.
    static let backlog: Int32 = 1024
    /// As Redis: what a client may send before it has authenticated itself.
    static let unauthenticatedArgumentsMax = 10
    static let unauthenticatedBulkBytesMax = 16 * 1024
    /// No number that matters is longer.
    static let unauthenticatedNumberBytesMax = 24
    /// Characters of a node's refusal that are repeated.
    static let refusalTextMax = 200
    /// Characters of a key that an error text shows.
    static let keyTextMax = 64
    /// Spare bytes that an input buffer may keep in front before they are dropped.
    static let consumedBytesMax = 64 * 1024
}
