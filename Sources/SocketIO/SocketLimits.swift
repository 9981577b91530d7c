/// The fixed bounds of sockets and their event loops.
enum SocketLimits {
    /// Events that one call of `epoll_wait` may hand over.
    static let eventsPerPoll = 256
    /// The buffer that an event loop reads into, one for all its connections.
    static let readBytes = 64 * 1024
    /// What a connection's owner has left unread up to this size is moved in front of what is read next; more is read on to instead,
    /// because moving it each time would cost its square.
    static let movedBytesMax = 16 * 1024
    /// Space that must be free to read into, and capacity for unread bytes that a connection keeps for the next ones.
    static let readBytesMin = 16 * 1024
    static let unreadBytesKept = 1024
    /// Above so many bytes that wait for the other side a connection is not writable, and below so many it is again.
    static let writableBytesHigh = 64 * 1024
    static let writableBytesLow = 32 * 1024
    /// Buffers handed over by one call of `sendmsg`.
    static let buffersPerWrite = 64
    /// Connections that are accepted before other sockets have their turn.
    static let acceptsPerTurn = 64
    /// Timers that were cancelled stay in the heap until they are due, or until they outnumber the others by so many.
    static let cancelledTimersMax = 4096
    /// Addresses of a host name that are tried.
    static let addressesMax = 8
    /// The least time for one of several addresses of a host.
    static let connectNanosecondsMin: Int64 = 250_000_000
}
