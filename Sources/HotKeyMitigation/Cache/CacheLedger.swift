/// All of `LocalCache` that does not depend on the type of a reply: which entries there are, how long they live, who fills
/// them and who goes first. Apart, so that it is compiled once and the generic part is thin enough to inline.
///
/// Entries lie in one array; each key has a singly linked list of its commands' entries, usually one long.
@usableFromInline
struct CacheLedger {
    @usableFromInline
    enum Verdict {
        case hit(Int)
        case refresh(Int, FillToken)
        case fill(FillToken)
        case wait(FillToken)
        case bypass
    }

    struct Entry {
        /// The key's index, or -1 for a free entry.
        var key: Int32 = -1
        /// The key's next entry, or the next free one; -1 ends the list.
        var next: Int32 = -1
        var commandHash: UInt64 = 0
        var command: [UInt8] = []
        var protocolVersion: UInt8 = 0
        var hasReply = false
        /// Read since the clock hand came by.
        var referenced = false
        var replyBytes = 0
        /// The serial of the fill under way; 0 is none.
        var fill: UInt64 = 0
        /// With a fill under way, the oldest one since the entry's key was last known to have changed: newer ones took its place because
        /// it took too long.
        var oldestFill: UInt64 = 0
        var fillStartedAt: UInt64 = 0
        var requestSentAt: UInt64 = 0
        /// For ``CacheLedger/origin(index:command:protocolVersion:)``: what the reply may have been old when its request was sent, and the
        /// staleness cap by then.
        var ageMax: UInt64 = 0
        var cap: UInt64 = 0
        var refreshAt: UInt64 = 0
        var expiresAt: UInt64 = 0
        var staleUntil: UInt64 = 0
        /// The tracking connection that the reply came over; 0 for none.
        var source: UInt32 = 0
        /// The reply was too big: until then the command is not cached.
        var bypassUntil: UInt64 = 0

        var charge: Int { HotKeyMitigationLimits.cacheEntryOverheadBytes + command.count + replyBytes }

        func fillIsUnderWay(_ now: UInt64) -> Bool {
            fill != 0 && now < saturatingSum(fillStartedAt, HotKeyMitigationLimits.fillFlightNanoseconds)
        }
    }

    struct Key {
        var first: Int32 = -1
        var entries: Int32 = 0
        var keeps: Bool
        var localLifetime: UInt64
        var cap: UInt64
        var staleOnError: UInt64

        init(_ policy: HotKeyPolicy) {
            localLifetime = policy.localLifetimeNanoseconds
            cap = saturatingSum(policy.localLifetimeNanoseconds, policy.copyLifetimeNanoseconds)
            staleOnError = policy.staleOnErrorNanoseconds
            keeps = policy.kind.usesLocalCache && localLifetime > 0
        }
    }

    @usableFromInline private(set) var table = HotKeyTable.empty
    @usableFromInline private(set) var usedBytes = 0
    @usableFromInline private(set) var entryCount = 0
    /// Entries given back in the last call: their replies must be let go.
    @usableFromInline var freed: [Int32] = []
    private let capacityBytes: Int
    private let valueBytesMax: Int
    private var keys: [Key] = []
    private(set) var entries: [Entry] = []
    private var firstFree: Int32 = -1
    private var hand = 0
    private var lastSerial: UInt64 = 0

    @usableFromInline
    init(capacityBytes: Int, valueBytesMax: Int) {
        precondition(capacityBytes >= 0 && valueBytesMax >= 0, "a cache's sizes cannot be negative")
        self.capacityBytes = capacityBytes
        self.valueBytesMax = valueBytesMax
    }

    // MARK: - Reading

    @usableFromInline
    mutating func lookup(
        index: Int, command: UnsafeRawBufferPointer, protocolVersion: UInt8, now: UInt64
    ) -> Verdict {
        guard keys[index].keeps, command.count <= HotKeyMitigationLimits.cacheCommandBytesMax else { return .bypass }
        let hash = commandHash(command, protocolVersion)
        let found = find(index, command, protocolVersion, hash)
        if found >= 0 { return lookup(entry: found, localLifetime: keys[index].localLifetime, now: now) }

        if keys[index].entries >= HotKeyMitigationLimits.cacheVariantsPerKey, !reclaimEntry(of: index, now: now) {
            return .bypass
        }
        let charge = HotKeyMitigationLimits.cacheEntryOverheadBytes + command.count
        guard makeRoom(charge, sparing: -1, now: now) else { return .bypass }
        let entry = allocate()
        entries[entry].key = Int32(index)
        entries[entry].next = keys[index].first
        entries[entry].commandHash = hash
        entries[entry].command = Array(command)
        entries[entry].protocolVersion = protocolVersion
        keys[index].first = Int32(entry)
        keys[index].entries += 1
        usedBytes += charge
        entryCount += 1
        return .fill(startFill(entry, now))
    }

    private mutating func lookup(entry: Int, localLifetime: UInt64, now: UInt64) -> Verdict {
        if entries[entry].hasReply, now < entries[entry].expiresAt {
            entries[entry].referenced = true
            if now >= entries[entry].refreshAt, !entries[entry].fillIsUnderWay(now) {
                return .refresh(entry, startFill(entry, now))
            }
            return .hit(entry)
        }
        if now < entries[entry].bypassUntil { return .bypass }
        // The reply of a fill may have left home as early as the fill began, so who joins it late would be served a value older
        // than the lifetime allows.
        if entries[entry].fillIsUnderWay(now), now < saturatingSum(entries[entry].fillStartedAt, localLifetime) {
            return .wait(FillToken(entry: Int32(entry), serial: entries[entry].fill))
        }
        return .fill(startFill(entry, now))
    }

    @usableFromInline
    mutating func stale(
        index: Int, command: UnsafeRawBufferPointer, protocolVersion: UInt8, now: UInt64
    ) -> Int? {
        guard keys[index].keeps, command.count <= HotKeyMitigationLimits.cacheCommandBytesMax else { return nil }
        let entry = find(index, command, protocolVersion, commandHash(command, protocolVersion))
        guard entry >= 0, entries[entry].hasReply,
            now < max(entries[entry].expiresAt, entries[entry].staleUntil)
        else { return nil }
        entries[entry].referenced = true
        return entry
    }

    @usableFromInline
    func origin(index: Int, command: UnsafeRawBufferPointer, protocolVersion: UInt8) -> CachedOrigin? {
        let entry = find(index, command, protocolVersion, commandHash(command, protocolVersion))
        guard entry >= 0, entries[entry].hasReply else { return nil }
        let sentAt = entries[entry].requestSentAt
        return CachedOrigin(
            lastKnownAt: sentAt - min(entries[entry].ageMax, sentAt),
            capNanoseconds: max(entries[entry].cap, keys[index].cap))
    }

    private func commandHash(_ command: UnsafeRawBufferPointer, _ protocolVersion: UInt8) -> UInt64 {
        FastHash.hash(command, seed: table.seed &+ UInt64(protocolVersion))
    }

    private func find(
        _ index: Int, _ command: UnsafeRawBufferPointer, _ protocolVersion: UInt8, _ hash: UInt64
    ) -> Int {
        var entry = Int(keys[index].first)
        while entry >= 0 {
            if entries[entry].commandHash == hash, entries[entry].protocolVersion == protocolVersion,
                entries[entry].command.withUnsafeBytes({ bytesEqual($0, command) })
            {
                return entry
            }
            entry = Int(entries[entry].next)
        }
        return -1
    }

    // MARK: - Filling

    private mutating func startFill(_ entry: Int, _ now: UInt64) -> FillToken {
        lastSerial += 1
        if entries[entry].fill == 0 { entries[entry].oldestFill = lastSerial }
        entries[entry].fill = lastSerial
        entries[entry].fillStartedAt = now
        return FillToken(entry: Int32(entry), serial: lastSerial)
    }

    private func entry(of token: FillToken) -> Int? {
        let entry = Int(token.entry)
        return entries.indices.contains(entry) && entries[entry].fill == token.serial ? entry : nil
    }

    @usableFromInline
    func isCurrent(_ token: FillToken) -> Bool { entry(of: token) != nil }

    @usableFromInline
    func isWithoutNews(since token: FillToken) -> Bool {
        let entry = Int(token.entry)
        guard entries.indices.contains(entry), entries[entry].fill != 0 else { return false }
        return entries[entry].oldestFill...entries[entry].fill ~= token.serial
    }

    /// The entry that the reply goes to, or nil when it is not kept.
    @usableFromInline
    mutating func accept(
        _ token: FillToken, bytes: Int, heldBytes: Int, requestSentAt: UInt64, lifetimeNanosecondsMax: UInt64,
        ageNanosecondsMax: UInt64, source: UInt32, now: UInt64
    ) -> Int? {
        precondition(bytes >= 0, "a reply's size cannot be negative")
        guard let entry = entry(of: token) else { return nil }
        entries[entry].fill = 0
        if bytes > valueBytesMax {
            dropReply(entry)
            entries[entry].bypassUntil = saturatingSum(now, HotKeyMitigationLimits.oversizeBypassNanoseconds)
            return nil
        }
        let key = keys[Int(entries[entry].key)]
        let lifetime = min(key.localLifetime, lifetimeNanosecondsMax)
        let expiresAt = saturatingSum(requestSentAt, lifetime)
        let staleUntil = saturatingSum(requestSentAt, key.staleOnError - min(ageNanosecondsMax, key.staleOnError))
        guard now < max(expiresAt, staleUntil),
            makeRoom(heldBytes - entries[entry].replyBytes, sparing: entry, now: now)
        else {
            free(entry)
            return nil
        }
        usedBytes += heldBytes - entries[entry].replyBytes
        entries[entry].replyBytes = heldBytes
        entries[entry].hasReply = true
        entries[entry].referenced = false
        entries[entry].requestSentAt = requestSentAt
        entries[entry].ageMax = ageNanosecondsMax
        entries[entry].cap = key.cap
        entries[entry].expiresAt = expiresAt
        entries[entry].staleUntil = staleUntil
        entries[entry].source = source
        entries[entry].refreshAt = saturatingSum(
            requestSentAt, refreshAfter(lifetime, salt: token.serial ^ requestSentAt))
        entries[entry].bypassUntil = 0
        return entry
    }

    @usableFromInline
    mutating func fillFailed(_ token: FillToken) {
        guard let entry = entry(of: token) else { return }
        entries[entry].fill = 0
        if !entries[entry].hasReply { free(entry) }
    }

    @usableFromInline
    mutating func foundNothing(_ token: FillToken) {
        if let entry = entry(of: token) { free(entry) }
    }

    private func refreshAfter(_ lifetime: UInt64, salt: UInt64) -> UInt64 {
        let jitter = FastHash.mix(salt ^ table.seed) % (HotKeyMitigationLimits.refreshJitterPercent + 1)
        let percent = HotKeyMitigationLimits.refreshAtPercent + jitter
        // Without overflow for any lifetime.
        return lifetime / 100 * percent + lifetime % 100 * percent / 100
    }

    // MARK: - Dropping

    @usableFromInline
    mutating func invalidate(index: Int) {
        while keys[index].first >= 0 { free(Int(keys[index].first)) }
    }

    @usableFromInline
    mutating func expire(index: Int) {
        var entry = Int(keys[index].first)
        while entry >= 0 {
            let next = Int(entries[entry].next)
            expire(entry: entry)
            entry = next
        }
    }

    private mutating func expire(entry: Int) {
        if entries[entry].hasReply {
            entries[entry].fill = 0
            entries[entry].expiresAt = 0
            entries[entry].source = 0
        } else {
            free(entry)
        }
    }

    @usableFromInline
    mutating func expireTracked(where isMeant: (Int, UInt32) -> Bool) {
        for entry in entries.indices where entries[entry].hasReply && entries[entry].source != 0 {
            if isMeant(Int(entries[entry].key), entries[entry].source) { expire(entry: entry) }
        }
    }

    @usableFromInline
    mutating func adopt(_ newTable: HotKeyTable) {
        var newKeys: [Key] = []
        newKeys.reserveCapacity(newTable.count)
        for index in 0..<newTable.count { newKeys.append(Key(newTable[index])) }
        for oldIndex in keys.indices where keys[oldIndex].first >= 0 {
            let newIndex = table[oldIndex].key.withUnsafeBytes { newTable.index(of: $0) }
            guard let newIndex, newKeys[newIndex].keeps else {
                invalidate(index: oldIndex)
                continue
            }
            newKeys[newIndex].first = keys[oldIndex].first
            newKeys[newIndex].entries = keys[oldIndex].entries
            var entry = Int(keys[oldIndex].first)
            while entry >= 0 {
                entries[entry].key = Int32(newIndex)
                carryOver(entry, newKeys[newIndex], rehash: newTable.seed == table.seed ? nil : newTable.seed)
                entry = Int(entries[entry].next)
            }
        }
        table = newTable
        keys = newKeys
    }

    /// A longer lifetime in the new snapshot must not revive or prolong what was read under the old one.
    private mutating func carryOver(_ entry: Int, _ key: Key, rehash seed: UInt64?) {
        let sentAt = entries[entry].requestSentAt
        entries[entry].expiresAt = min(entries[entry].expiresAt, saturatingSum(sentAt, key.localLifetime))
        entries[entry].staleUntil = min(entries[entry].staleUntil, saturatingSum(sentAt, key.staleOnError))
        entries[entry].refreshAt = min(
            entries[entry].refreshAt, saturatingSum(sentAt, refreshAfter(key.localLifetime, salt: sentAt)))
        if let seed {
            entries[entry].commandHash = entries[entry].command.withUnsafeBytes {
                FastHash.hash($0, seed: seed &+ UInt64(entries[entry].protocolVersion))
            }
        }
    }

    @usableFromInline
    mutating func removeAll() {
        for index in keys.indices { invalidate(index: index) }
    }

    private mutating func dropReply(_ entry: Int) {
        guard entries[entry].hasReply else { return }
        usedBytes -= entries[entry].replyBytes
        entries[entry].replyBytes = 0
        entries[entry].hasReply = false
        entries[entry].expiresAt = 0
        entries[entry].staleUntil = 0
        freed.append(Int32(entry))
    }

    private mutating func free(_ entry: Int) {
        let index = Int(entries[entry].key)
        if Int(keys[index].first) == entry {
            keys[index].first = entries[entry].next
        } else {
            var before = Int(keys[index].first)
            while Int(entries[before].next) != entry { before = Int(entries[before].next) }
            entries[before].next = entries[entry].next
        }
        keys[index].entries -= 1
        usedBytes -= entries[entry].charge
        entryCount -= 1
        entries[entry] = Entry()
        entries[entry].next = firstFree
        firstFree = Int32(entry)
        freed.append(Int32(entry))
    }

    // MARK: - Room

    private mutating func allocate() -> Int {
        if firstFree >= 0 {
            let entry = Int(firstFree)
            firstFree = entries[entry].next
            entries[entry].next = -1
            return entry
        }
        entries.append(Entry())
        return entries.count - 1
    }

    /// Frees one of the key's entries that nobody can be served from now. False when all are in use.
    private mutating func reclaimEntry(of index: Int, now: UInt64) -> Bool {
        var entry = Int(keys[index].first)
        while entry >= 0 {
            let live = entries[entry].hasReply && now < entries[entry].expiresAt
            if !live, !entries[entry].fillIsUnderWay(now), now >= entries[entry].bypassUntil {
                free(entry)
                return true
            }
            entry = Int(entries[entry].next)
        }
        return false
    }

    private mutating func makeRoom(_ bytes: Int, sparing spared: Int, now: UInt64) -> Bool {
        // What cannot fit in the empty cache must not empty it.
        guard bytes + (spared < 0 ? 0 : entries[spared].charge) <= capacityBytes else { return false }
        while usedBytes + bytes > capacityBytes {
            guard evictOne(sparing: spared, now: now) else { return false }
        }
        return true
    }

    /// CLOCK with a bounded look-ahead for expired entries. Two rounds find one whenever there is one: the first clears every
    /// reference mark.
    private mutating func evictOne(sparing spared: Int, now: UInt64) -> Bool {
        var candidate = -1
        var looked = 0
        for _ in 0..<(2 * entries.count) {
            hand = hand + 1 < entries.count ? hand + 1 : 0
            if entries[hand].key < 0 || hand == spared { continue }
            let underWay = entries[hand].fillIsUnderWay(now)
            if !entries[hand].hasReply {
                if underWay { continue }
                free(hand)
                return true
            }
            if now >= entries[hand].expiresAt, !underWay {
                free(hand)
                return true
            }
            if entries[hand].referenced {
                entries[hand].referenced = false
            } else if candidate < 0 {
                candidate = hand
            }
            looked += 1
            if looked >= HotKeyMitigationLimits.evictionScan, candidate >= 0 { break }
        }
        guard candidate >= 0 else { return false }
        free(candidate)
        return true
    }
}
