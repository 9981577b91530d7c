/// The replies that one event loop keeps of read-only commands on hot keys.
///
/// What it promises:
/// - **Nothing extends a lifetime.** A reply is served until `requestSentAt` plus the policy's local lifetime, however often it
///   is read, refreshed or carried over to a new snapshot. Beyond that it is only given by `staleValue`, until
///   `requestSentAt` plus the policy's stale-on-error time, and it is the first to go when room is needed.
/// - **A reply read before a write never gets in after it.** `invalidate` ends every fill of the key that is under way:
///   1. loop reads k = v1 for a fill;  2. a write k = v2 is acknowledged by home and invalidates k here;  3. the reply v1
///   arrives. Its token is no longer known, so `insert` refuses it. Nor does a look-up after the write join that fill: it gets
///   a new one.
/// - **One fill at a time** for each command of a key; other look-ups get the old reply within its lifetime, or `wait`. A
///   fill that is older than the local lifetime is not joined, since its reply may have left home that long ago, and one
///   older than `HotKeyMitigationLimits.fillFlightNanoseconds` is given up.
/// - **Bounded.** Commands, replies and `HotKeyMitigationLimits.cacheEntryOverheadBytes` for each entry add up to at most
///   `capacityBytes`. What goes first is what has expired, then what was not read lately (CLOCK; Corbató 1968).
///
/// Indices are those of the table adopted last; another index is a programming error and traps. Times are nanoseconds of one
/// monotonic clock. A hit allocates nothing. Used from one event loop: copy it nowhere.
public struct LocalCache<Reply> {
    public enum Lookup {
        /// Serve this reply.
        case hit(Reply)
        /// Serve this reply, and also fetch a new one and end that with `insert` or `fillFailed`.
        case refresh(Reply, FillToken)
        /// Fetch the reply, and end that with `insert` or `fillFailed`.
        case fill(FillToken)
        /// Another request fetches it: wait for that fill's reply.
        case wait(FillToken)
        /// Ask the node as if there were no cache: the policy keeps nothing here, the command is too long, the key has too
        /// many different commands, the reply was too big a moment ago, or there is no room.
        case bypass
    }

    @usableFromInline var ledger: CacheLedger
    @usableFromInline var replies: [Reply?] = []

    /// - Parameter capacityBytes: the bound on `usedBytes`; 0 makes every look-up a bypass.
    /// - Parameter valueBytesMax: bigger replies are not kept.
    @inlinable
    public init(capacityBytes: Int, valueBytesMax: Int) {
        ledger = CacheLedger(capacityBytes: capacityBytes, valueBytesMax: valueBytesMax)
    }

    /// The bytes that count against the capacity.
    @inlinable public var usedBytes: Int { ledger.usedBytes }
    /// Entries held: replies, and fills under way.
    @inlinable public var entryCount: Int { ledger.entryCount }
    /// The table whose indices count.
    @inlinable public var table: HotKeyTable { ledger.table }

    /// What to do with a read of the key at `index`. The reply is told apart by the command's bytes, taken as they are, and by
    /// the protocol version (2 or 3), because it is kept encoded.
    @inlinable
    public mutating func lookup(
        index: Int, command: UnsafeRawBufferPointer, protocolVersion: UInt8, now: UInt64
    ) -> Lookup {
        let verdict = ledger.lookup(index: index, command: command, protocolVersion: protocolVersion, now: now)
        switch verdict {
        case .hit(let entry):
            return .hit(replies[entry]!)
        case .refresh(let entry, let token):
            return .refresh(replies[entry]!, token)
        case .wait(let token):
            return .wait(token)
        case .fill(let token):
            dropFreed()
            return .fill(token)
        case .bypass:
            dropFreed()
            return .bypass
        }
    }

    /// Ends a fill with its reply. Returns whether the reply was kept: not when the key was invalidated or dropped from the hot
    /// set meanwhile, the fill was given up, the reply is too big or too old, or there is no room. The reply may be served
    /// to the fill's own waiters in each of these cases.
    /// - Parameter bytes: the size of the reply, which decides whether it is too big.
    /// - Parameter heldBytes: the memory that keeping it takes, at least `bytes`; it counts against the capacity.
    /// - Parameter requestSentAt: when the request was sent to the node; the lifetime counts from then.
    /// - Parameter lifetimeNanosecondsMax: shortens the policy's lifetime, for a reply that may be older than its request: what
    ///   was read from a copy has used up part of the cap before, by the policy that was in force when it was asked for.
    /// - Parameter ageNanosecondsMax: how old the reply may have been when its request was sent; it counts against the policy's
    ///   stale-on-error time.
    /// - Parameter source: the tracking connection that it came over, for `expireTracked(where:)`; 0 for none.
    @inlinable
    public mutating func insert(
        _ token: FillToken, reply: Reply, bytes: Int, heldBytes: Int, requestSentAt: UInt64, now: UInt64,
        lifetimeNanosecondsMax: UInt64 = .max, ageNanosecondsMax: UInt64 = 0, source: UInt32 = 0
    ) -> Bool {
        let entry = ledger.accept(
            token, bytes: bytes, heldBytes: max(bytes, heldBytes), requestSentAt: requestSentAt,
            lifetimeNanosecondsMax: lifetimeNanosecondsMax, ageNanosecondsMax: ageNanosecondsMax,
            source: source, now: now)
        dropFreed()
        guard let entry else { return false }
        while replies.count <= entry { replies.append(nil) }
        replies[entry] = reply
        return true
    }

    /// Whether a reply of this fill would still be accepted: the key has not changed, as far as is known, since it began.
    @inlinable
    public func isCurrent(_ token: FillToken) -> Bool { ledger.isCurrent(token) }

    /// As ``isCurrent(_:)``, and also where nothing but a newer fill of the same command has ended this one, because it took longer than the
    /// local lifetime, and is itself under way: what this one brings is still no older than what is known of the key.
    @inlinable
    public func isWithoutNews(since token: FillToken) -> Bool { ledger.isWithoutNews(since: token) }

    /// Ends a fill that has found no value, which is not to be kept: also the reply of before goes, for `staleValue` too. What is kept of the
    /// key's other commands stays. A fill that has ended changes nothing.
    @inlinable
    public mutating func foundNothing(_ token: FillToken) {
        ledger.foundNothing(token)
        dropFreed()
    }

    /// Ends a fill without a reply. The next look-up starts another. An old reply stays for `staleValue`.
    @inlinable
    public mutating func fillFailed(_ token: FillToken) {
        ledger.fillFailed(token)
        dropFreed()
    }

    /// A reply that may be served although its lifetime may be over, because home cannot be reached: within the policy's
    /// stale-on-error time of its request, less what it may have been old by then, and not invalidated since.
    @inlinable
    public mutating func staleValue(
        index: Int, command: UnsafeRawBufferPointer, protocolVersion: UInt8, now: UInt64
    ) -> Reply? {
        ledger.stale(index: index, command: command, protocolVersion: protocolVersion, now: now).map { replies[$0]! }
    }

    /// How old the reply may be that a look-up has just given; nil when there is none.
    public func origin(index: Int, command: UnsafeRawBufferPointer, protocolVersion: UInt8) -> CachedOrigin? {
        ledger.origin(index: index, command: command, protocolVersion: protocolVersion)
    }

    /// The key changed: drops its replies, those for `staleValue` too, and ends its fills.
    @inlinable
    public mutating func invalidate(index: Int) {
        ledger.invalidate(index: index)
        dropFreed()
    }

    /// The key may have changed unnoticed (the connection that would have said so is gone): its replies are served no more
    /// except by `staleValue`, and its fills are ended.
    @inlinable
    public mutating func expire(index: Int) {
        ledger.expire(index: index)
        dropFreed()
    }

    /// As ``expire(index:)`` for every reply that came over a tracking connection and of which `isMeant` says so, given the key's
    /// index and the connection's number. Walks the whole cache.
    @inlinable
    public mutating func expireTracked(where isMeant: (_ index: Int, _ source: UInt32) -> Bool) {
        ledger.expireTracked(where: isMeant)
        dropFreed()
    }

    /// A new snapshot. Replies and fills of keys that stay hot and cached stay, with the shorter of both lifetimes; the others
    /// are dropped, and their fills fail on `insert`.
    @inlinable
    public mutating func adopt(table: HotKeyTable) {
        ledger.adopt(table)
        dropFreed()
    }

    /// Drops all replies, and ends all fills. The table stays.
    @inlinable
    public mutating func removeAll() {
        ledger.removeAll()
        dropFreed()
    }

    /// Lets go of the replies whose entries the ledger gave back.
    @inlinable
    mutating func dropFreed() {
        if ledger.freed.isEmpty { return }
        for entry in ledger.freed where Int(entry) < replies.count { replies[Int(entry)] = nil }
        ledger.freed.removeAll(keepingCapacity: true)
    }
}

extension LocalCache.Lookup: Sendable where Reply: Sendable {}
