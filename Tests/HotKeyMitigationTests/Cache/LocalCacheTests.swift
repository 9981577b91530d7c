import HotKeyMitigation
import Testing

/// The cache behind a reference, because `#expect` cannot call what mutates.
private final class Subject<Reply> {
    private var cache: LocalCache<Reply>

    init(capacity: Int, valueMax: Int) {
        cache = LocalCache(capacityBytes: capacity, valueBytesMax: valueMax)
    }

    var usedBytes: Int { cache.usedBytes }
    var entryCount: Int { cache.entryCount }

    func lookup(_ index: Int, _ command: [UInt8], _ version: UInt8, _ now: UInt64) -> LocalCache<Reply>.Lookup {
        command.withRaw { cache.lookup(index: index, command: $0, protocolVersion: version, now: now) }
    }
    func insert(
        _ token: FillToken, reply: Reply, bytes: Int, heldBytes: Int? = nil, requestSentAt: UInt64, now: UInt64,
        lifetimeNanosecondsMax: UInt64 = .max, ageNanosecondsMax: UInt64 = 0, source: UInt32 = 0
    ) -> Bool {
        cache.insert(
            token, reply: reply, bytes: bytes, heldBytes: heldBytes ?? bytes, requestSentAt: requestSentAt, now: now,
            lifetimeNanosecondsMax: lifetimeNanosecondsMax, ageNanosecondsMax: ageNanosecondsMax, source: source)
    }
    func staleValue(_ index: Int, _ command: [UInt8], _ now: UInt64) -> Reply? {
        command.withRaw { cache.staleValue(index: index, command: $0, protocolVersion: 2, now: now) }
    }
    func origin(_ index: Int, _ command: [UInt8], version: UInt8 = 2) -> CachedOrigin? {
        command.withRaw { cache.origin(index: index, command: $0, protocolVersion: version) }
    }
    func fillFailed(_ token: FillToken) { cache.fillFailed(token) }
    func foundNothing(_ token: FillToken) { cache.foundNothing(token) }
    func isCurrent(_ token: FillToken) -> Bool { cache.isCurrent(token) }
    func isWithoutNews(since token: FillToken) -> Bool { cache.isWithoutNews(since: token) }
    func invalidate(index: Int) { cache.invalidate(index: index) }
    func expire(index: Int) { cache.expire(index: index) }
    func expire(source: UInt32) { cache.expireTracked { $1 == source } }
    func adopt(table: HotKeyTable) { cache.adopt(table: table) }
    func removeAll() { cache.removeAll() }
}

@Suite struct LocalCacheTests {
    private let get = Array("*2\r\n$3\r\nGET\r\n$1\r\na\r\n".utf8)

    private func cache(_ policies: [HotKeyPolicy], capacity: Int = 1 << 20, valueMax: Int = 1 << 16) -> Subject<String>
    {
        let cache = Subject<String>(capacity: capacity, valueMax: valueMax)
        cache.adopt(table: HotKeyTable(policies, seed: 42))
        return cache
    }

    /// What a look-up said, without its payload.
    private enum Kind { case hit, refresh, fill, wait, bypass }

    private func look(
        _ cache: Subject<String>, _ now: UInt64, index: Int = 0, command: String? = nil, version: UInt8 = 2
    ) -> (kind: Kind, reply: String?, token: FillToken?) {
        let bytes = command.map { Array($0.utf8) } ?? get
        switch cache.lookup(index, bytes, version, now) {
        case .hit(let reply): return (.hit, reply, nil)
        case .refresh(let reply, let token): return (.refresh, reply, token)
        case .fill(let token): return (.fill, nil, token)
        case .wait(let token): return (.wait, nil, token)
        case .bypass: return (.bypass, nil, nil)
        }
    }

    private func stale(_ cache: Subject<String>, _ now: UInt64) -> String? {
        cache.staleValue(0, get, now)
    }

    @Test("a fill is served until its request plus the lifetime, not a nanosecond longer, however often it is read")
    func lifetime() throws {
        let cache = self.cache([policy("a")])
        let token = try #require(look(cache, 100).token)
        #expect(cache.insert(token, reply: "v1", bytes: 10, requestSentAt: 200, now: 500 * millisecond))
        for now in stride(from: 600 * millisecond, to: 750 * millisecond, by: 10_000_000) {
            #expect(look(cache, now).reply == "v1")
        }
        #expect(look(cache, second + 199).reply == "v1")
        #expect(look(cache, second + 200).reply == nil)
    }

    @Test("one fill at a time: others wait for it")
    func singleFlight() throws {
        let cache = self.cache([policy("a")])
        let first = look(cache, 0)
        #expect(first.kind == .fill)
        let second = look(cache, 1)
        #expect(second.kind == .wait)
        #expect(second.token == first.token)
        // Another protocol or another command is another reply.
        #expect(look(cache, 1, version: 3).kind == .fill)
        #expect(look(cache, 1, command: "*2\r\n$6\r\nSTRLEN\r\n$1\r\na\r\n").kind == .fill)
        cache.fillFailed(try #require(first.token))
        let third = look(cache, 2)
        #expect(third.kind == .fill)
        #expect(third.token != first.token)
    }

    @Test("a write between a fill's read and its reply makes the fill fail, and a later look-up does not join it")
    func invalidatedFill() throws {
        let cache = self.cache([policy("a", stale: 60 * second)])
        let old = try #require(look(cache, 0).token)
        cache.invalidate(index: 0)
        let new = look(cache, 1)
        #expect(new.kind == .fill)
        #expect(!cache.insert(old, reply: "old", bytes: 3, requestSentAt: 0, now: 2))
        #expect(look(cache, 3).kind == .wait)
        #expect(cache.insert(try #require(new.token), reply: "new", bytes: 3, requestSentAt: 1, now: 4))
        #expect(look(cache, 5).reply == "new")
        cache.fillFailed(old)
        #expect(look(cache, 6).reply == "new")
    }

    @Test("a fill that finds nothing takes its own reply along, for errors too, and nothing else")
    func nothingFound() throws {
        let cache = self.cache([policy("a", stale: 60 * second)])
        let other = "*2\r\n$6\r\nSTRLEN\r\n$1\r\na\r\n"
        let length = try #require(look(cache, 0, command: other).token)
        #expect(cache.insert(length, reply: "1", bytes: 1, requestSentAt: 0, now: 1))
        let first = try #require(look(cache, 0).token)
        #expect(cache.insert(first, reply: "v", bytes: 1, requestSentAt: 0, now: 1))
        let refresh = look(cache, 900 * millisecond)
        #expect(refresh.kind == .refresh)
        cache.foundNothing(first)
        #expect(stale(cache, second) == "v")
        cache.foundNothing(try #require(refresh.token))
        #expect(stale(cache, second) == nil)
        #expect(look(cache, 900 * millisecond, command: other).reply == "1")
    }

    @Test("a fill that only a newer one has ended is without news")
    func news() throws {
        let cache = self.cache([policy("a")])
        let first = try #require(look(cache, 0).token)
        let second = try #require(look(cache, HotKeyMitigationTests.second).token)
        #expect(second != first && !cache.isCurrent(first))
        #expect(cache.isWithoutNews(since: first) && cache.isWithoutNews(since: second))
        cache.invalidate(index: 0)
        #expect(!cache.isWithoutNews(since: first) && !cache.isWithoutNews(since: second))
        let third = try #require(look(cache, HotKeyMitigationTests.second).token)
        #expect(!cache.isWithoutNews(since: second) && cache.isWithoutNews(since: third))
        #expect(cache.insert(third, reply: "v", bytes: 1, requestSentAt: 1, now: HotKeyMitigationTests.second))
        #expect(!cache.isWithoutNews(since: third))
    }

    @Test("an invalidation drops every variant, and the values for errors too")
    func invalidation() throws {
        let cache = self.cache([policy("a", stale: 60 * second)])
        for version in [UInt8(2), 3] {
            let token = try #require(look(cache, 0, version: version).token)
            #expect(cache.insert(token, reply: "v", bytes: 1, requestSentAt: 0, now: 1))
        }
        cache.invalidate(index: 0)
        #expect(cache.entryCount == 0)
        #expect(cache.usedBytes == 0)
        #expect(stale(cache, 2) == nil)
        #expect(look(cache, 2, version: 3).kind == .fill)
    }

    @Test("what was read from a copy may have been old then, which counts against the time for errors")
    func ageCountsAgainstTheTimeForErrors() throws {
        let cache = self.cache([policy("a", local: 500 * millisecond, copy: 500 * millisecond, stale: 4 * second)])
        let token = try #require(look(cache, 0).token)
        #expect(
            cache.insert(
                token, reply: "v", bytes: 1, requestSentAt: second, now: second + millisecond,
                ageNanosecondsMax: 500 * millisecond))
        #expect(look(cache, 1499 * millisecond).reply == "v")
        #expect(stale(cache, 4500 * millisecond - 1) == "v")
        #expect(stale(cache, 4500 * millisecond) == nil)
        // Older than that time allows at all: kept for its lifetime only.
        let other = self.cache([policy("a", stale: 200 * millisecond)])
        let aged = try #require(look(other, 0).token)
        #expect(
            other.insert(aged, reply: "w", bytes: 1, requestSentAt: 0, now: 1, ageNanosecondsMax: 300 * millisecond))
        #expect(stale(other, 999 * millisecond) == "w")
        #expect(stale(other, 1000 * millisecond) == nil)
    }

    @Test("one refresh at a time, from three quarters of the lifetime on; it does not lengthen the old reply's life")
    func refresh() throws {
        let cache = self.cache([policy("a")])
        #expect(cache.insert(try #require(look(cache, 0).token), reply: "v1", bytes: 2, requestSentAt: 0, now: 1))
        #expect(look(cache, 749 * millisecond).kind == .hit)
        let refresh = look(cache, 860 * millisecond)
        #expect(refresh.kind == .refresh)
        #expect(refresh.reply == "v1")
        #expect(look(cache, 861 * millisecond).kind == .hit)
        // The old reply's time is over before the refresh has ended: who comes now waits for it.
        #expect(look(cache, second).kind == .wait)
        let token = try #require(refresh.token)
        #expect(cache.insert(token, reply: "v2", bytes: 2, requestSentAt: 860 * millisecond, now: second + 1))
        #expect(look(cache, second + 2).reply == "v2")
        #expect(look(cache, 1859 * millisecond).reply == "v2")
        #expect(look(cache, 1860 * millisecond).reply == nil)
    }

    @Test(
        "a reply is known to have been home's when its request was sent, less what it was old by then; the longer cap counts"
    )
    func origin() throws {
        let cache = self.cache([policy("a", .both, local: second, copy: 2 * second)])
        let token = try #require(look(cache, 10 * second).token)
        #expect(cache.origin(0, get) == nil)
        #expect(
            cache.insert(
                token, reply: "v", bytes: 1, requestSentAt: 10 * second, now: 10 * second,
                ageNanosecondsMax: 2 * second))
        #expect(cache.origin(0, get) == CachedOrigin(lastKnownAt: 8 * second, capNanoseconds: 3 * second))
        #expect(cache.origin(0, get, version: 3) == nil)
        // It was read under the longer cap of before, which it may have used up.
        cache.adopt(table: HotKeyTable([policy("a", .cache, local: second, copy: 0)], seed: 42))
        #expect(cache.origin(0, get) == CachedOrigin(lastKnownAt: 8 * second, capNanoseconds: 3 * second))
        // A fill from home says what it is.
        let refresh = try #require(look(cache, 10 * second + 900 * millisecond).token)
        #expect(cache.insert(refresh, reply: "w", bytes: 1, requestSentAt: 11 * second, now: 11 * second))
        #expect(cache.origin(0, get) == CachedOrigin(lastKnownAt: 11 * second, capNanoseconds: second))
        cache.invalidate(index: 0)
        #expect(cache.origin(0, get) == nil)
    }

    @Test("refreshes of entries filled together are spread")
    func refreshJitter() throws {
        let cache = self.cache((0..<100).map { policy("k\($0)") })
        for index in 0..<100 {
            let token = try #require(look(cache, 0, index: index).token)
            #expect(cache.insert(token, reply: "v", bytes: 1, requestSentAt: 0, now: 0))
        }
        let early = (0..<100).filter { look(cache, 800 * millisecond, index: $0).kind == .refresh }
        #expect((20...80).contains(early.count), "\(early.count)")
    }

    @Test("a fill is not joined beyond the lifetime, and is given up beyond its bound")
    func lostFill() throws {
        let long = self.cache([policy("a", local: 10 * second)])
        let lost = try #require(look(long, 0).token)
        #expect(look(long, 2 * second - 1).kind == .wait)
        let next = look(long, 2 * second)
        #expect(next.kind == .fill)
        #expect(!long.insert(lost, reply: "late", bytes: 4, requestSentAt: 0, now: 2 * second))
        #expect(look(long, 2 * second + 1).token == next.token)

        let short = self.cache([policy("a", local: 100 * millisecond)])
        _ = look(short, 0)
        #expect(look(short, 99 * millisecond).kind == .wait)
        #expect(look(short, 100 * millisecond).kind == .fill)
    }

    @Test("beyond its lifetime a reply is given only on error, and only so long")
    func staleOnError() throws {
        let cache = self.cache([policy("a", stale: 60 * second)])
        #expect(stale(cache, 0) == nil)
        #expect(cache.insert(try #require(look(cache, 0).token), reply: "v", bytes: 1, requestSentAt: 0, now: 1))
        let fill = look(cache, 30 * second)
        #expect(fill.kind == .fill)
        cache.fillFailed(try #require(fill.token))
        #expect(stale(cache, 60 * second - 1) == "v")
        #expect(stale(cache, 60 * second) == nil)

        let never = self.cache([policy("a")])
        #expect(never.insert(try #require(look(never, 0).token), reply: "v", bytes: 1, requestSentAt: 0, now: 1))
        #expect(stale(never, second - 1) == "v")
        #expect(stale(never, second) == nil)
    }

    @Test("expired replies are for errors only, and fills from before count no more")
    func expire() throws {
        let cache = self.cache([policy("a", stale: 60 * second)])
        #expect(cache.insert(try #require(look(cache, 0).token), reply: "v", bytes: 1, requestSentAt: 0, now: 1))
        let refresh = try #require(look(cache, 900 * millisecond).token)
        _ = look(cache, 900 * millisecond, version: 3)
        cache.expire(index: 0)
        #expect(!cache.insert(refresh, reply: "late", bytes: 4, requestSentAt: 1, now: 901 * millisecond))
        #expect(stale(cache, 902 * millisecond) == "v")
        #expect(look(cache, 902 * millisecond).kind == .fill)
        #expect(cache.entryCount == 1)
    }

    @Test("a reply that comes after its lifetime is kept for errors, if at all")
    func lateReply() throws {
        let cache = self.cache([policy("a", local: 10 * millisecond, stale: second)])
        let token = try #require(look(cache, 0).token)
        #expect(cache.insert(token, reply: "v", bytes: 1, requestSentAt: 0, now: 20 * millisecond))
        #expect(look(cache, 21 * millisecond).kind == .fill)
        #expect(stale(cache, 22 * millisecond) == "v")
        let never = self.cache([policy("a", local: 10 * millisecond)])
        #expect(!never.insert(try #require(look(never, 0).token), reply: "v", bytes: 1, requestSentAt: 0, now: second))
        #expect(never.entryCount == 0)
    }

    @Test("a shorter lifetime can be given to one reply")
    func shorter() throws {
        let cache = self.cache([policy("a")])
        let token = try #require(look(cache, 0).token)
        #expect(
            cache.insert(
                token, reply: "nil", bytes: 3, requestSentAt: 0, now: 1, lifetimeNanosecondsMax: 50 * millisecond))
        #expect(look(cache, 10 * millisecond).kind == .hit)
        #expect(look(cache, 50 * millisecond).kind == .fill)
    }

    @Test("what a reply holds counts against the capacity; what it says decides whether it is too big")
    func heldBytes() throws {
        let cache = self.cache([policy("a")], valueMax: 100)
        let token = try #require(look(cache, 0).token)
        let before = cache.usedBytes
        #expect(cache.insert(token, reply: "v", bytes: 100, heldBytes: 128, requestSentAt: 0, now: 1))
        #expect(cache.usedBytes - before == 128)
        cache.invalidate(index: 0)
        #expect(cache.usedBytes == 0)
    }

    @Test("what is too big, too long or too varied goes past the cache")
    func bypass() throws {
        let cache = self.cache([policy("a"), policy("b", .copies), policy("c", .none)], valueMax: 100)
        #expect(look(cache, 0, index: 1).kind == .bypass)
        #expect(look(cache, 0, index: 2).kind == .bypass)
        #expect(look(cache, 0, command: String(repeating: "x", count: 5000)).kind == .bypass)
        let token = try #require(look(cache, 0).token)
        #expect(!cache.insert(token, reply: "big", bytes: 101, requestSentAt: 0, now: 1))
        #expect(look(cache, 2).kind == .bypass)
        #expect(look(cache, second + 1).kind == .fill)
        for number in 1..<HotKeyMitigationLimits.cacheVariantsPerKey {
            #expect(look(cache, second + 2, command: "GETRANGE a 0 \(number)").kind == .fill)
        }
        #expect(look(cache, second + 3, command: "GETRANGE a 0 99").kind == .bypass)
        // The places of fills that were given up are free again.
        #expect(look(cache, 4 * second, command: "GETRANGE a 0 99").kind == .fill)
        let none = self.cache([policy("a")], capacity: 0)
        #expect(look(none, 0).kind == .bypass)
    }

    @Test("a new snapshot keeps what stays hot, under its new index, and never lengthens a life")
    func adopt() throws {
        let cache = self.cache([policy("a", local: second, stale: 5 * second), policy("b"), policy("c")])
        for index in 0..<3 {
            let token = try #require(look(cache, 0, index: index).token)
            #expect(cache.insert(token, reply: "v\(index)", bytes: 2, requestSentAt: 0, now: 1))
        }
        let refreshA = try #require(look(cache, 900 * millisecond, index: 0).token)
        let refreshB = try #require(look(cache, 900 * millisecond, index: 1).token)
        for seed in [UInt64(42), 43] {
            cache.adopt(
                table: HotKeyTable(
                    [
                        policy("c", local: 500 * millisecond), policy("new"),
                        policy("a", local: 9 * second, stale: 99 * second),
                    ],
                    seed: seed))
        }
        #expect(cache.entryCount == 2)
        #expect(look(cache, 499 * millisecond, index: 0).reply == "v2")
        #expect(look(cache, 501 * millisecond, index: 0).reply == nil)
        #expect(look(cache, 950 * millisecond, index: 2).reply == "v0")
        #expect(look(cache, second, index: 2).kind == .wait)
        #expect(cache.staleValue(2, get, 5 * second) == nil)
        #expect(!cache.insert(refreshB, reply: "x", bytes: 1, requestSentAt: 1, now: second))
        #expect(cache.insert(refreshA, reply: "v9", bytes: 2, requestSentAt: 900 * millisecond, now: second))
        #expect(look(cache, second, index: 2).reply == "v9")
        cache.adopt(table: HotKeyTable([policy("a", .copies)], seed: 43))
        #expect(cache.entryCount == 0)
        #expect(look(cache, second).kind == .bypass)
    }

    @Test("what expired goes first, what was read stays, and the bytes stay in bounds")
    func eviction() throws {
        let size = 1000 + get.count + HotKeyMitigationLimits.cacheEntryOverheadBytes
        let cache = self.cache(
            (0..<12).map { policy("k\($0)", local: $0 == 5 ? 10 * millisecond : second, stale: 9 * second) },
            capacity: 10 * size)
        func fill(_ index: Int, _ now: UInt64) throws {
            let token = try #require(look(cache, now, index: index).token)
            #expect(cache.insert(token, reply: "v\(index)", bytes: 1000, requestSentAt: now, now: now))
        }
        for index in 0..<10 { try fill(index, 0) }
        #expect(cache.usedBytes == 10 * size)
        for index in [0, 1, 2, 3, 4, 6, 7, 8] { _ = look(cache, 20 * millisecond, index: index) }
        try fill(10, 21 * millisecond)
        #expect(
            cache.staleValue(5, get, 22 * millisecond) == nil)
        try fill(11, 22 * millisecond)
        #expect(cache.usedBytes <= 10 * size)
        for index in [0, 1, 2, 3, 4, 6, 7, 8] { #expect(look(cache, 23 * millisecond, index: index).kind == .hit) }
        cache.removeAll()
        #expect(cache.usedBytes == 0)
        #expect(cache.entryCount == 0)
    }

    @Test("replies that are dropped are let go of at once")
    func releases() throws {
        final class Reply {}
        let cache = Subject<Reply>(capacity: 1 << 20, valueMax: 100)
        cache.adopt(table: HotKeyTable([policy("a")], seed: 1))
        weak var watched: Reply?
        func fill() {
            let reply = Reply()
            watched = reply
            guard case .fill(let token) = cache.lookup(0, get, 2, 0) else {
                Issue.record("expected a fill")
                return
            }
            #expect(cache.insert(token, reply: reply, bytes: 1, requestSentAt: 0, now: 0))
        }
        fill()
        #expect(watched != nil)
        cache.invalidate(index: 0)
        #expect(watched == nil)
        fill()
        cache.adopt(table: .empty)
        #expect(watched == nil)
    }

    /// A tracking connection is lost: what came over it is served no more, and nothing else is touched.
    @Test func aFlushFindsWhatCameOverOneConnection() throws {
        let names = ["a", "b", "c"]
        let cache = cache(names.map { policy($0, local: 10 * second, stale: 60 * second) })
        for (index, source) in [UInt32(7), 8, 0].enumerated() {
            let token = try #require(look(cache, 0, index: index).token)
            #expect(
                cache.insert(token, reply: names[index], bytes: 1, requestSentAt: 0, now: 1, source: source))
        }
        // Another command of the first key is on its way.
        let late = try #require(look(cache, 2, index: 0, command: "STRLEN").token)
        cache.expire(source: 7)
        #expect(look(cache, 3, index: 1).reply == "b" && look(cache, 3, index: 2).reply == "c")
        #expect(cache.staleValue(0, get, 3) == "a", "kept for when home is down")
        #expect(cache.insert(late, reply: "1", bytes: 1, requestSentAt: 2, now: 4, source: 9))
        let token = try #require(look(cache, 5, index: 0).token)
        // What has been flushed is not flushed again, or its new fill would end with it.
        cache.expire(source: 7)
        #expect(cache.insert(token, reply: "new", bytes: 3, requestSentAt: 5, now: 6, source: 9))
        #expect(look(cache, 7, index: 0).reply == "new")
    }
}
