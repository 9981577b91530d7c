import HotKeyMitigation
import Testing

/// A reference, so that what changes it can stand in an expectation.
private final class Copies {
    private var base = CopyLifecycle()

    var keys: [[UInt8]] { base.keys }
    var unannounced: [[UInt8]] { base.unannounced }
    func published(_ key: [UInt8]) -> CopyLifecycle.Published? { base.published(key) }
    func adopt(_ key: [UInt8], _ published: CopyLifecycle.Published, now: UInt64) {
        base.adopt(key, published, now: now)
    }
    func want(_ key: [UInt8], copies: Int, lifetimeNanoseconds: UInt64, now: UInt64) -> Bool {
        base.want(key, copies: copies, lifetimeNanoseconds: lifetimeNanoseconds, now: now)
    }
    func placesChanged(now: UInt64) { base.placesChanged(now: now) }
    func announced(_ key: [UInt8], _ published: CopyLifecycle.Published?, now: UInt64) {
        base.announced(key, published, now: now)
    }
    func due(now: UInt64, jobsMax: Int) -> (jobs: [CopyLifecycle.Job], changed: [[UInt8]]) {
        base.due(now: now, jobsMax: jobsMax)
    }
    func done(_ job: CopyLifecycle.Job, succeeded: Bool, now: UInt64) -> Bool {
        base.done(job, succeeded: succeeded, now: now)
    }
}

@Suite struct CopyLifecycleTests {

    private static let lifetime: UInt64 = 500 * 1_000_000
    private let key = Array("k".utf8)

    private typealias Published = CopyLifecycle.Published

    @Test(
        "filled when agents have left tombstones for a lifetime, read when filled, deleted when nobody reads any more")
    func whole() throws {
        let copies = Copies()
        #expect(copies.want(key, copies: 2, lifetimeNanoseconds: Self.lifetime, now: 0))
        #expect(copies.published(key) == Published(state: .warming, copies: 2))
        // It does not stand in the registry: no agent leaves tombstones yet, however long it takes.
        #expect(copies.due(now: 60_000 * millisecond, jobsMax: 9).jobs.isEmpty)
        #expect(copies.unannounced == [key])
        copies.announced(key, Published(state: .warming, copies: 2), now: 60_000 * millisecond)
        #expect(copies.due(now: 60_899 * millisecond, jobsMax: 9).jobs.isEmpty)
        let fill = try #require(copies.due(now: 60_900 * millisecond, jobsMax: 9).jobs.first)
        #expect(fill.work == .fill(copies: 2))
        #expect(copies.due(now: 60_901 * millisecond, jobsMax: 9).jobs.isEmpty)
        #expect(copies.done(fill, succeeded: true, now: 60_902 * millisecond))
        #expect(copies.published(key) == Published(state: .ready, copies: 2))
        copies.announced(key, Published(state: .ready, copies: 2), now: 60_950 * millisecond)
        #expect(copies.due(now: 90_000 * millisecond, jobsMax: 9).jobs.isEmpty)

        #expect(copies.want(key, copies: 0, lifetimeNanoseconds: 0, now: 90_000 * millisecond))
        #expect(copies.published(key) == Published(state: .leaving, copies: 2))
        copies.announced(key, Published(state: .leaving, copies: 2), now: 90_100 * millisecond)
        #expect(copies.due(now: 91_099 * millisecond, jobsMax: 9).jobs.isEmpty)
        let removal = try #require(copies.due(now: 91_100 * millisecond, jobsMax: 9).jobs.first)
        #expect(removal.work == .remove(1...2))
        #expect(copies.done(removal, succeeded: true, now: 91_101 * millisecond))
        #expect(copies.published(key) == nil)
        #expect(copies.keys.isEmpty)
    }

    @Test("hot again while the copies leave: warming again, and the deletion that was under way ends nothing")
    func reentry() throws {
        let copies = Copies()
        copies.adopt(key, Published(state: .leaving, copies: 3), now: 0)
        let removal = try #require(copies.due(now: 1_000 * millisecond, jobsMax: 9).jobs.first)
        #expect(copies.want(key, copies: 3, lifetimeNanoseconds: Self.lifetime, now: 1_001 * millisecond))
        #expect(copies.published(key) == Published(state: .warming, copies: 3))
        #expect(!copies.done(removal, succeeded: true, now: 1_002 * millisecond))
        #expect(copies.published(key) == Published(state: .warming, copies: 3))
    }

    @Test("fewer copies are read at once and the others deleted; more are warmed")
    func otherNumbers() throws {
        let copies = Copies()
        copies.adopt(key, Published(state: .ready, copies: 5), now: 0)
        #expect(!copies.want(key, copies: 5, lifetimeNanoseconds: Self.lifetime, now: 0))
        _ = copies.due(now: 0, jobsMax: 9)
        #expect(copies.want(key, copies: 2, lifetimeNanoseconds: Self.lifetime, now: 600 * millisecond))
        #expect(copies.published(key) == Published(state: .ready, copies: 2))
        let due = copies.due(now: 2_000 * millisecond, jobsMax: 9).jobs
        let fillAgain = try #require(due.first)
        // The first look at an adopted key learns its lifetime.
        #expect(fillAgain.work == .fill(copies: 2))
        #expect(!copies.done(fillAgain, succeeded: true, now: 2_000 * millisecond))
        let removal = try #require(copies.due(now: 2_001 * millisecond, jobsMax: 9).jobs.first)
        #expect(removal.work == .remove(3...5))
        #expect(!copies.done(removal, succeeded: true, now: 2_002 * millisecond))
        #expect(copies.due(now: 60_000 * millisecond, jobsMax: 9).jobs.isEmpty)
        #expect(copies.want(key, copies: 4, lifetimeNanoseconds: Self.lifetime, now: 60_000 * millisecond))
        #expect(copies.published(key) == Published(state: .warming, copies: 4))
    }

    @Test("what cannot be filled is left to its readers, what cannot be deleted to its expiry")
    func failures() {
        for answers in [true, false] {
            let copies = Copies()
            _ = copies.want(key, copies: 1, lifetimeNanoseconds: Self.lifetime, now: 0)
            copies.announced(key, Published(state: .warming, copies: 1), now: 0)
            var now: UInt64 = 0
            func pass(until state: CopyLifecycle.State?) {
                for _ in 0..<1_000 where copies.published(key)?.state != state {
                    now += 100 * millisecond
                    for job in copies.due(now: now, jobsMax: 9).jobs where answers {
                        _ = copies.done(job, succeeded: false, now: now)
                    }
                }
                #expect(copies.published(key)?.state == state)
            }
            pass(until: .ready)
            _ = copies.want(key, copies: 0, lifetimeNanoseconds: 0, now: now)
            pass(until: nil)
        }
    }

    @Test("when copies lie elsewhere they are filled there once agents may read them again")
    func places() throws {
        let copies = Copies()
        copies.adopt(key, Published(state: .ready, copies: 1), now: 0)
        _ = copies.want(key, copies: 1, lifetimeNanoseconds: Self.lifetime, now: 0)
        let first = try #require(copies.due(now: 500 * millisecond, jobsMax: 9).jobs.first)
        _ = copies.done(first, succeeded: true, now: 500 * millisecond)
        #expect(copies.due(now: 9_000 * millisecond, jobsMax: 9).jobs.isEmpty)
        copies.placesChanged(now: 10_000 * millisecond)
        #expect(copies.due(now: 10_499 * millisecond, jobsMax: 9).jobs.isEmpty)
        #expect(copies.due(now: 10_500 * millisecond, jobsMax: 9).jobs.map(\.work) == [.fill(copies: 1)])
        #expect(copies.published(key) == Published(state: .ready, copies: 1))
    }

    /// What agents see of one key, and whether it went as it may.
    private struct Witness {
        var seen: Published?
        mutating func see(_ published: Published?) {
            defer { seen = published }
            guard published != seen else { return }
            switch (seen?.state, published?.state) {
            case (nil, .warming), (.warming, .ready), (.warming, .leaving), (.ready, .warming), (.ready, .leaving),
                (.leaving, .warming), (.leaving, nil), (.warming, .warming):
                break
            case (.ready, .ready): #expect(published!.copies < seen!.copies, "more copies were read without warming")
            default: Issue.record("\(String(describing: seen)) became \(String(describing: published))")
            }
        }
    }

    @Test(
        "200 random schedules a seed: never ready without warming, nothing read while it is deleted, never stuck",
        arguments: 1...5 as ClosedRange<UInt64>)
    func schedules(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let keys = (0..<4).map { Array("k\($0)".utf8) }
        for _ in 0..<200 {
            var copies = Copies()
            var witnesses = keys.map { _ in Witness() }
            var wanted = keys.map { _ in 0 }
            var open: [CopyLifecycle.Job] = []
            var now: UInt64 = 1_000 * millisecond
            func check(_ job: CopyLifecycle.Job) {
                guard case .remove(let range) = job.work, let published = copies.published(job.key) else { return }
                if published.state != .leaving {
                    #expect(range.lowerBound > published.copies, "a copy that is read is deleted")
                }
            }
            func step(hasFaults: Bool) {
                now += .random(in: 1...400, using: &random) * millisecond
                for job in copies.due(now: now, jobsMax: .random(in: 1...3, using: &random)).jobs {
                    check(job)
                    open.append(job)
                }
                for (index, key) in keys.enumerated() { witnesses[index].see(copies.published(key)) }
                for key in copies.unannounced where !hasFaults || Bool.random(using: &random) {
                    copies.announced(key, copies.published(key), now: now)
                }
                for job in open where !hasFaults || Bool.random(using: &random) {
                    open.removeAll { $0 == job }
                    // Some are never heard of again.
                    if hasFaults, Int.random(in: 0..<8, using: &random) == 0 { continue }
                    let succeeded = !hasFaults || Bool.random(using: &random)
                    let before = copies.published(job.key)
                    let changed = copies.done(job, succeeded: succeeded, now: now)
                    #expect(changed == (copies.published(job.key) != before))
                }
                for (index, key) in keys.enumerated() { witnesses[index].see(copies.published(key)) }
            }
            for _ in 0..<120 {
                if Int.random(in: 0..<4, using: &random) == 0 {
                    let index = Int.random(in: 0..<keys.count, using: &random)
                    wanted[index] = Bool.random(using: &random) ? 0 : .random(in: 1...6, using: &random)
                    let before = copies.published(keys[index])
                    let changed = copies.want(
                        keys[index], copies: wanted[index],
                        lifetimeNanoseconds: .random(in: 1...3, using: &random) * Self.lifetime, now: now)
                    #expect(changed == (copies.published(keys[index]) != before))
                    witnesses[index].see(copies.published(keys[index]))
                }
                if Int.random(in: 0..<40, using: &random) == 0 { copies.placesChanged(now: now) }
                if Int.random(in: 0..<60, using: &random) == 0 {
                    // Another coordinator takes over what stands in the registry.
                    let next = Copies()
                    for key in keys { if let known = copies.published(key) { next.adopt(key, known, now: now) } }
                    copies = next
                    open = []
                    for (index, key) in keys.enumerated() {
                        _ = copies.want(
                            key, copies: wanted[index], lifetimeNanoseconds: Self.lifetime, now: now)
                        witnesses[index].see(copies.published(key))
                    }
                }
                step(hasFaults: true)
            }
            for _ in 0..<200 { step(hasFaults: false) }
            for (index, key) in keys.enumerated() {
                let settled = copies.published(key)
                #expect(settled == (wanted[index] == 0 ? nil : Published(state: .ready, copies: wanted[index])))
            }
            #expect(copies.due(now: now, jobsMax: 9).jobs.isEmpty)
        }
    }
}
