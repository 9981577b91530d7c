import Testing

@testable import HotKeyMitigation

/// Random operations against a plain model of the promises.
@Suite struct LocalCacheModelTests {
    @Test("with room for everything the cache says exactly what the model says", arguments: UInt64(1)...6)
    func roomy(seed: UInt64) {
        var run = CacheRun(seed: seed, capacity: 1 << 24)
        run.run(steps: 20_000, exact: true)
        #expect(run.hits > 1000)
    }

    @Test("with little room it forgets, but never says what the model forbids", arguments: UInt64(11)...16)
    func tight(seed: UInt64) {
        var run = CacheRun(seed: seed, capacity: 12_000)
        run.run(steps: 20_000, exact: false)
        #expect(run.hits > 300)
    }
}

private struct CacheRun {
    private struct Variant: Hashable {
        var key: Int
        var command: Int
        var version: UInt8
    }

    private struct Kept {
        var reply: Int
        var sentAt: UInt64
        var expiresAt: UInt64
        var staleUntil: UInt64
    }

    private struct Fill {
        var variant: Variant
        var startedAt: UInt64
        var sentAt: UInt64
        /// Whether the reply may still be kept.
        var valid = true
    }

    private let seed: UInt64
    private let capacity: Int
    private var random: SeededRandom
    private var cache: LocalCache<Int>
    private var now: UInt64 = 1
    private var nextReply = 0
    private var hot: [Int: HotKeyPolicy] = [:]
    private var kept: [Variant: Kept] = [:]
    private var fills: [FillToken: Fill] = [:]
    private var current: [Variant: FillToken] = [:]
    /// Every token there was, and when it was given.
    private var given: [FillToken: UInt64] = [:]
    private(set) var hits = 0

    init(seed: UInt64, capacity: Int) {
        self.seed = seed
        self.capacity = capacity
        random = SeededRandom(seed: seed)
        cache = LocalCache(capacityBytes: capacity, valueBytesMax: 2000)
    }

    mutating func run(steps: Int, exact: Bool) {
        adopt()
        for step in 0..<steps {
            now += random.next() % (3 * millisecond)
            switch random.next() % 100 {
            case 0: adopt()
            case 1..<5: invalidate()
            case 5..<7: expire()
            case 7..<10: checkStale(exact)
            case 10..<50: endFill(exact)
            default: look(exact)
            }
            #expect(cache.usedBytes <= capacity, "seed \(seed) step \(step)")
            if step % 500 == 0 { checkBytes(step) }
        }
        cache.removeAll()
        #expect(cache.usedBytes == 0 && cache.entryCount == 0, "seed \(seed)")
    }

    private func bytes(_ command: Int) -> [UInt8] { Array("COMMAND \(command)".utf8) }

    private func index(_ key: Int) -> Int? { Array("key\(key)".utf8).withRaw { cache.table.index(of: $0) } }

    private mutating func hotVariant() -> (Variant, Int)? {
        let key = Int(random.next() % 12)
        guard let index = index(key) else { return nil }
        let variant = Variant(key: key, command: Int(random.next() % 2), version: random.next() % 2 == 0 ? 2 : 3)
        return (variant, index)
    }

    // MARK: - Operations

    private mutating func adopt() {
        var policies: [HotKeyPolicy] = []
        hot = [:]
        for key in 0..<12 where random.next() % 5 != 0 {
            let kind: MitigationKind = random.next() % 8 == 0 ? .copies : .cache
            let chosen = policy(
                "key\(key)", kind, local: (20 + random.next() % 200) * millisecond,
                stale: random.next() % 2 == 0 ? 0 : random.next() % (2 * second))
            policies.append(chosen)
            hot[key] = chosen
        }
        policies.shuffle(using: &random)
        cache.adopt(table: HotKeyTable(policies, seed: random.next() % 2))
        for key in 0..<12 {
            guard let policy = hot[key], policy.kind.usesLocalCache else {
                drop(key)
                continue
            }
            for variant in kept.keys where variant.key == key {
                let sentAt = kept[variant]!.sentAt
                kept[variant]!.expiresAt = min(kept[variant]!.expiresAt, sentAt + policy.localLifetimeNanoseconds)
                kept[variant]!.staleUntil = min(kept[variant]!.staleUntil, sentAt + policy.staleOnErrorNanoseconds)
            }
        }
    }

    private mutating func drop(_ key: Int) {
        for variant in kept.keys where variant.key == key { kept[variant] = nil }
        endFills(of: key)
    }

    private mutating func endFills(of key: Int) {
        for token in fills.keys where fills[token]!.variant.key == key { fills[token]!.valid = false }
        for variant in current.keys where variant.key == key { current[variant] = nil }
    }

    private mutating func invalidate() {
        guard let (variant, index) = hotVariant() else { return }
        cache.invalidate(index: index)
        drop(variant.key)
    }

    private mutating func expire() {
        guard let (variant, index) = hotVariant() else { return }
        cache.expire(index: index)
        for other in kept.keys where other.key == variant.key { kept[other]!.expiresAt = 0 }
        endFills(of: variant.key)
    }

    private mutating func checkStale(_ exact: Bool) {
        guard let (variant, index) = hotVariant() else { return }
        let reply = bytes(variant.command).withRaw {
            cache.staleValue(index: index, command: $0, protocolVersion: variant.version, now: now)
        }
        let allowed = kept[variant].flatMap { now < max($0.expiresAt, $0.staleUntil) ? $0.reply : nil }
        if exact || reply != nil { #expect(reply == allowed, "seed \(seed) at \(now)") }
    }

    private mutating func endFill(_ exact: Bool) {
        guard let token = fills.keys.sorted(by: { $0.serial < $1.serial }).randomElement(using: &random),
            let fill = fills.removeValue(forKey: token)
        else { return }
        switch random.next() % 10 {
        case 0:
            return  // Lost.
        case 1:
            cache.fillFailed(token)
            if current[fill.variant] == token { current[fill.variant] = nil }
            return
        default:
            break
        }
        nextReply += 1
        let tooBig = random.next() % 20 == 0
        let bytes = tooBig ? 2001 : Int(random.next() % 2000)
        let policy = hot[fill.variant.key]
        let age = random.next() % 3 == 0 ? random.next() % (2 * (policy?.staleOnErrorNanoseconds ?? 0) + 1) : 0
        let kept = cache.insert(
            token, reply: nextReply, bytes: bytes, heldBytes: bytes, requestSentAt: fill.sentAt, now: now,
            ageNanosecondsMax: age)
        if !fill.valid {
            #expect(!kept, "seed \(seed) at \(now): a fill that had ended was kept")
            return
        }
        current[fill.variant] = nil
        guard let policy else { preconditionFailure("a valid fill is of a hot key") }
        let value = Kept(
            reply: nextReply, sentAt: fill.sentAt, expiresAt: fill.sentAt + policy.localLifetimeNanoseconds,
            staleUntil: fill.sentAt + policy.staleOnErrorNanoseconds - min(age, policy.staleOnErrorNanoseconds))
        let expected = !tooBig && now < max(value.expiresAt, value.staleUntil)
        if exact || kept { #expect(kept == expected, "seed \(seed) at \(now)") }
        self.kept[fill.variant] = expected ? value : nil
    }

    private mutating func look(_ exact: Bool) {
        guard let (variant, index) = hotVariant() else { return }
        let policy = hot[variant.key]!
        let lookup = bytes(variant.command).withRaw {
            cache.lookup(index: index, command: $0, protocolVersion: variant.version, now: now)
        }
        let allowed = kept[variant].flatMap { now < $0.expiresAt ? $0.reply : nil }
        switch lookup {
        case .hit(let reply):
            hits += 1
            #expect(reply == allowed, "seed \(seed) at \(now): hit")
        case .refresh(let reply, let token):
            hits += 1
            #expect(reply == allowed, "seed \(seed) at \(now): refresh")
            if let value = kept[variant] {
                let quarters = (value.expiresAt - value.sentAt) / 4 * 3
                #expect(now >= value.sentAt + quarters - 100, "seed \(seed) at \(now): refreshed too early")
            }
            begin(token, variant, joinable: HotKeyMitigationLimits.fillFlightNanoseconds, exact)
        case .fill(let token):
            if exact { #expect(allowed == nil, "seed \(seed) at \(now): a reply was forgotten") }
            let joinable = min(HotKeyMitigationLimits.fillFlightNanoseconds, policy.localLifetimeNanoseconds)
            begin(token, variant, joinable: joinable, exact)
        case .wait(let token):
            #expect(current[variant] == token, "seed \(seed) at \(now): waits for a fill that had ended")
            #expect(now - given[token]! < policy.localLifetimeNanoseconds, "seed \(seed) at \(now): joined too late")
            if exact { #expect(allowed == nil) }
        case .bypass:
            if policy.kind.usesLocalCache, exact { #expect(allowed == nil, "seed \(seed) at \(now): bypass") }
        }
    }

    private mutating func begin(_ token: FillToken, _ variant: Variant, joinable: UInt64, _ exact: Bool) {
        #expect(given.updateValue(now, forKey: token) == nil, "seed \(seed): a token was given twice")
        if let old = current[variant], let fill = fills[old] {
            if exact {
                #expect(now >= fill.startedAt + joinable, "seed \(seed) at \(now): two fills at once")
            }
            fills[old]!.valid = false
        }
        current[variant] = token
        fills[token] = Fill(variant: variant, startedAt: now, sentAt: now + random.next() % millisecond)
    }

    private func checkBytes(_ step: Int) {
        let live = cache.ledger.entries.filter { $0.key >= 0 }
        #expect(cache.usedBytes == live.reduce(0) { $0 + $1.charge }, "seed \(seed) step \(step)")
        #expect(cache.entryCount == live.count, "seed \(seed) step \(step)")
        for (entry, reply) in cache.replies.enumerated() {
            #expect((reply != nil) == cache.ledger.entries[entry].hasReply, "seed \(seed) step \(step) entry \(entry)")
        }
    }
}
