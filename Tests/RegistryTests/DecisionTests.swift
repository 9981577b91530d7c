import Foundation
import HotKeyTestSupport
import Testing
import ZooKeeper

@testable import HotKeyRegistry

@Suite struct DecisionTests {
    @Test func candidatesQueueByTheServersSequence() {
        let names = ["candidate-aa-0000000007", "candidate-zz-0000000003", "noise", "candidate-bb-0000000012"]
        #expect(ElectionQueue.place(of: "zz", among: names) == .first(own: names[1]))
        #expect(ElectionQueue.place(of: "aa", among: names) == .behind(own: names[0], predecessor: names[1]))
        #expect(ElectionQueue.place(of: "bb", among: names) == .behind(own: names[3], predecessor: names[0]))
        #expect(ElectionQueue.place(of: "cc", among: names) == .absent)
    }

    @Test func anAgentReplacesOnlyItsOwnLeftover() {
        var plan = PresencePlan(peer: "h:1")
        #expect(plan.decide(nil, session: 1) == .create)
        #expect(plan.decide(.init(ephemeralOwner: 1, version: 0, peer: "h:1"), session: 1) == .keep)
        // A new session finds the old one's node, and a restarted agent its predecessor's.
        #expect(plan.decide(.init(ephemeralOwner: 1, version: 0, peer: "x:9"), session: 2) == .replace(version: 0))
        #expect(plan.decide(.init(ephemeralOwner: 8, version: 4, peer: "h:1"), session: 2) == .replace(version: 4))
        #expect(plan.decide(.init(ephemeralOwner: 9, version: 0, peer: "x:9"), session: 2) == .wait)
        #expect(plan.decide(.init(ephemeralOwner: 9, version: 0, peer: nil), session: 2) == .wait)
        #expect(plan.decide(.init(ephemeralOwner: 0, version: 3, peer: nil), session: 2) == .replace(version: 3))
    }

    @Test func twoAgentsWithOneIdentityDoNotFightForEver() {
        var plan = PresencePlan(peer: "h:1")
        let rival = PresencePlan.Found(ephemeralOwner: 9, version: 0, peer: "h:1")
        let actions = (0..<8).map { _ in plan.decide(rival, session: 2) }
        #expect(actions.contains(.wait))
    }

    @Test func aDirectoryReadsWhatIsNewAndEverythingWhenUnsure() {
        var plan = DirectoryPlan()
        #expect(plan.take(["a", "b"], childrenVersion: 2, changed: []) == ["a", "b"])
        #expect(plan.take(["a", "b", "c"], childrenVersion: 3, changed: []) == ["c"])
        #expect(plan.take(["a", "c"], childrenVersion: 4, changed: ["a", "b"]) == ["a"])
        // "a" went and came back: two changes that the names do not show.
        #expect(plan.take(["a", "c"], childrenVersion: 6, changed: []) == ["a", "c"])
        plan.forget()
        #expect(plan.take(["a"], childrenVersion: 7, changed: []) == ["a"])
    }

    @Test func waitsDoubleUpToTheirBound() {
        var backoff = Backoff(millisecondsMin: 10, millisecondsMax: 100)
        let waits = (0..<6).map { _ in backoff.next(random: 1) }
        #expect(waits == [10, 20, 40, 80, 100, 100].map { .milliseconds($0) })
        #expect(backoff.next(random: 0) == .zero)
        #expect(Reread.period(random: 0) == .seconds(24) && Reread.period(random: 1) == .seconds(36))
    }

    @Test func anEditIsMadeOnceAndPrunesWhatExpired() {
        func entry(_ key: KeyName, expires: Duration? = nil) -> PinEntry {
            PinEntry(key: key, author: "ann", at: start, expiresAt: expires.map { start.advanced(by: $0) })
        }
        let before = PinsDocument(
            pins: [entry("old", expires: .seconds(1)), entry("kept")], denies: [entry("k")],
            history: (0..<200).map {
                HistoryEntry(at: start, author: "ann", verb: .pin, key: KeyName("h\($0)"))
            })
        let later = start.advanced(by: .seconds(5))
        let edit = PinsEdit(
            change: .pin(entry("k")), entry: HistoryEntry(at: later, author: "bob", verb: .pin, key: "k"))
        #expect(!edit.isContained(in: before))
        let after = edit.apply(to: before, now: later)
        #expect(after?.pins.map(\.key) == ["kept", "k"] && after?.denies == [])
        #expect(after?.history.count == 200 && after?.history.first?.author == "bob")
        #expect(edit.isContained(in: after!))
        let nothing = PinsEdit(
            change: .unpin("nobody"), entry: HistoryEntry(at: later, author: "bob", verb: .unpin, key: "nobody"))
        #expect(nothing.apply(to: before, now: later) == nil)
    }
}

@Suite struct ViewFileTests {
    private func saved() throws -> Subscription.Saved {
        let paths = try RegistryPaths(app: "shop")
        var subscription = Subscription(paths: paths)
        subscription.connected()
        let head = HotHead(epoch: 3, publishedAt: start)
        _ = subscription.takeHead(
            .init(data: try RegistryCodec.encode(head, source: ""), stat: .init(createdTransaction: 4)), connection: 1,
            at: .now)
        return try #require(subscription.saved(at: .now, wallClock: start))
    }

    @Test func aViewComesBackAsItWasSaved() throws {
        let directory = try TemporaryDirectory()
        let file = ViewFile(directory: directory.file("state"), paths: try RegistryPaths(app: "shop"))
        #expect(try file.load() == nil)
        let saved = try saved()
        let bytes = try file.save(saved)
        #expect(try file.load() == saved)
        #expect(try FileManager.default.attributesOfItem(atPath: file.path)[.size] as? Int == bytes)
        #expect(try FileManager.default.contentsOfDirectory(atPath: file.directory).count == 1, "no leftover")
    }

    @Test func aDamagedOrForeignFileIsNotTaken() throws {
        let directory = try TemporaryDirectory()
        let file = ViewFile(directory: directory.path, paths: try RegistryPaths(app: "shop"))
        _ = try file.save(try saved())
        let good = [UInt8](try Data(contentsOf: URL(fileURLWithPath: file.path)))
        let url = URL(fileURLWithPath: file.path)
        for damage in [Array(good.dropLast(20)), Array("nonsense".utf8), [], good + [0x20]] {
            try Data(damage).write(to: url)
            #expect(throws: RegistryError.self) { try file.load() }
        }
        for index in stride(from: 0, to: good.count, by: 7) {
            var flipped = good
            flipped[index] ^= 0x01
            try Data(flipped).write(to: url)
            #expect(throws: RegistryError.self) { try file.load() }
        }
        try Data(good).write(to: url)
        let other = ViewFile(directory: directory.path, paths: try RegistryPaths(root: "/other", app: "shop"))
        #expect(throws: RegistryError.self) { try other.load() }
        #expect(try file.load() != nil)
    }
}

@Suite struct TransactionRateTests {
    @Test func noSecondSeesTwenty() {
        var generator = SeededGenerator(printing: "TransactionRateTests")
        var rate = TransactionRate()
        var now = ContinuousClock.now
        var effects: [ContinuousClock.Instant] = []
        for _ in 0..<2_000 {
            now += .milliseconds(Int.random(in: 0...60, using: &generator))
            if let wait = rate.wait(at: now) { now += wait }
            let trip = Int.random(in: 0...30, using: &generator)
            effects.append(now + .milliseconds(Int.random(in: 0...trip, using: &generator)))
            now += .milliseconds(trip)
            rate.note(answeredAt: now)
        }
        let shortest = zip(effects, effects.dropFirst(19)).map { $1 - $0 }.min()
        #expect(shortest.map { $0 >= .seconds(1) } == true, "\(String(describing: shortest))")
        #expect(effects.last! - effects[0] < .seconds(115), "and it does not wait for longer than that asks for")
    }

    /// Constant change of 20 times a second would be just over the bound: it waits once in so many, and not for as long as it gathers.
    @Test func whatGathersAnywayWaitsRarelyAndNotLong() {
        var rate = TransactionRate()
        var now = ContinuousClock.now
        var waits = 0
        for _ in 0..<190 {
            now += .milliseconds(RegistryLimits.gatherMilliseconds)
            if let wait = rate.wait(at: now) {
                #expect(wait < .milliseconds(RegistryLimits.gatherMilliseconds))
                waits += 1
                now += wait
            }
            now += .milliseconds(1)
            rate.note(answeredAt: now)
        }
        #expect(waits <= 190 / RegistryLimits.transactionsPerSecondMax, "\(waits)")
    }
}
