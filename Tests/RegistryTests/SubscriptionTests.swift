import Testing
import ZooKeeper

@testable import HotKeyRegistry

private let paths = try! RegistryPaths(app: "shop")

private func head(
    _ epoch: Int64, _ version: Int64, _ buckets: [Int: Int64] = [:], _ changes: [HotChange] = []
) -> HotHead {
    var versions = [Int64](repeating: 0, count: 64)
    for (index, version) in buckets { versions[index] = version }
    return HotHead(
        epoch: epoch, version: version, publishedAt: start, coordinator: "host-1", buckets: versions, changes: changes)
}

private func node(_ number: Int64) -> HeadIncarnation {
    HeadIncarnation(createdTransaction: number, createdAtMilliseconds: 0)
}

@Suite struct HotSetViewTests {
    // "a" is in bucket 0x0c, "foobar" in 0x28.
    private let a = 0x0c
    private let foobar = 0x28

    private func viewAt912() -> HotSetView {
        var view = HotSetView()
        let first = head(3, 912, [a: 905, foobar: 912])
        #expect(view.take(first, incarnation: node(7), nodeVersion: 1) == .read([a, foobar]))
        #expect(
            view.apply(
                first, incarnation: node(7), nodeVersion: 1,
                buckets: [
                    a: .good(HotBucket(version: 905, keys: [record("a")])),
                    foobar: .good(HotBucket(version: 912, keys: [record("foobar")])),
                ], isLastRound: false) == .applied)
        return view
    }

    @Test func emptyBucketsAreNotRead() {
        var view = HotSetView()
        #expect(view.take(head(3, 5), incarnation: node(7), nodeVersion: 0) == .applied)
        #expect(view.position == HotPosition(epoch: 3, version: 5) && view.records.isEmpty)
    }

    @Test func aGapThatTheChangesCoverIsAppliedWithoutReading() {
        var view = viewAt912()
        let next = head(
            4, 914, [a: 914, foobar: 0],
            [
                HotChange(version: 914, key: "a", record: record("a", .cooling)),
                HotChange(version: 913, key: "foobar", record: nil),
                HotChange(version: 913, key: "a", record: record("a", kind: .write)),
                HotChange(version: 912, key: "foobar", record: record("foobar")),
            ])
        #expect(view.take(next, incarnation: node(7), nodeVersion: 2) == .applied)
        #expect(Array(view.records) == [record("a", .cooling)])
    }

    @Test func aGapThatTheyDoNotCoverReadsOnlyWhatDiffers() {
        var view = viewAt912()
        let next = head(
            3, 915, [a: 914, foobar: 912], [HotChange(version: 915, key: "a", record: record("a", .cooling))])
        #expect(view.take(next, incarnation: node(7), nodeVersion: 2) == .read([a]))
        #expect(view.position == HotPosition(epoch: 3, version: 912), "not before the bucket is there")
    }

    @Test func aBucketThatTheChangesDoNotExplainIsRead() {
        var view = viewAt912()
        let next = head(
            3, 913, [a: 913, foobar: 913], [HotChange(version: 913, key: "a", record: nil)])
        #expect(view.take(next, incarnation: node(7), nodeVersion: 2) == .read([foobar]))
    }

    /// 912 was published, the data set back to 905, and 914 published by a coordinator that knew nothing of 912.
    @Test func aBucketOfALostTimeIsReadAgain() {
        var view = viewAt912()
        let next = head(4, 914, [a: 914, foobar: 904], [HotChange(version: 914, key: "a", record: nil)])
        #expect(view.take(next, incarnation: node(7), nodeVersion: 2) == .read([a, foobar]))
        // One that was read newer than the head is not of a lost time: the next head names it.
        var torn = viewAt912()
        let sooner = head(4, 913, [a: 905, foobar: 913])
        _ = torn.take(sooner, incarnation: node(7), nodeVersion: 2)
        _ = torn.apply(
            sooner, incarnation: node(7), nodeVersion: 2,
            buckets: [foobar: .good(HotBucket(version: 915, keys: [record("foobar")]))], isLastRound: false)
        #expect(torn.take(head(4, 914, [a: 914, foobar: 913]), incarnation: node(7), nodeVersion: 3) == .read([a]))
    }

    /// 912 was published and applied here, the data set back to 911, and another 912 published by a coordinator that knew nothing
    /// of the first.
    @Test func theSameVersionInAnotherEpochIsAnotherOne() {
        var view = viewAt912()
        let next = head(
            4, 912, [a: 912, foobar: 912], [HotChange(version: 912, key: "a", record: record("a", .cooling))])
        #expect(view.take(next, incarnation: node(7), nodeVersion: 1) == .read([a, foobar]))
        let buckets: [Int: HotSetView.BucketRead] = [
            a: .good(HotBucket(version: 912, keys: [record("a", .cooling)])),
            foobar: .good(HotBucket(version: 912, keys: [])),
        ]
        #expect(
            view.apply(next, incarnation: node(7), nodeVersion: 1, buckets: buckets, isLastRound: false) == .applied)
        #expect(Array(view.records) == [record("a", .cooling)])
    }

    /// The new time has overtaken the lost one, and a bucket has the same number in both; the head's transaction tells.
    @Test func whatIsHeldOfALostTimeIsNotComparedWithANewHead() {
        var view = viewAt912()
        let next = head(4, 950, [a: 905, foobar: 912], [HotChange(version: 950, key: "a", record: nil)])
        #expect(view.take(next, incarnation: node(7), nodeVersion: 9, isSetBack: true) == .read([a, foobar]))
        #expect(view.records.count == 2, "no change is applied to what is held")
        let only: [Int: HotSetView.BucketRead] = [
            a: .good(HotBucket(version: 905)),
            foobar: .good(HotBucket(version: 912, keys: [record("foobar", .cooling)])),
        ]
        #expect(
            view.apply(next, incarnation: node(7), nodeVersion: 9, isSetBack: true, buckets: only, isLastRound: false)
                == .applied)
        #expect(Array(view.records) == [record("foobar", .cooling)])
    }

    @Test func neverBackward() {
        var view = viewAt912()
        #expect(view.take(head(3, 911), incarnation: node(7), nodeVersion: 0) == .refused)
        #expect(view.take(head(2, 2_000), incarnation: node(7), nodeVersion: 0) == .refused)
        #expect(view.take(head(2, 2_000), incarnation: node(99), nodeVersion: 0) == .refused, "nor for another head")
        #expect(view.take(head(3, 912, [a: 905, foobar: 912]), incarnation: node(7), nodeVersion: 1) == .unchanged)
        #expect(view.records.count == 2)
    }

    @Test func aHeadThatWasMadeAnewIsReadInFull() {
        // Epoch newer, version passed by already, and by chance the same bucket version: nothing held here counts.
        var view = viewAt912()
        let next = head(
            9, 913, [a: 905], [HotChange(version: 913, key: "foobar", record: record("foobar"))])
        #expect(view.take(next, incarnation: node(8), nodeVersion: 0) == .read([a]))
        let bucket = HotBucket(version: 905, keys: [record("a", .cooling)])
        #expect(
            view.apply(next, incarnation: node(8), nodeVersion: 0, buckets: [a: .good(bucket)], isLastRound: false)
                == .applied)
        #expect(Array(view.records) == [record("a", .cooling)])
        // Also when its version starts over.
        var other = viewAt912()
        #expect(other.take(head(9, 0), incarnation: node(8), nodeVersion: 0) == .applied)
        #expect(other.records.isEmpty && other.position == HotPosition(epoch: 9, version: 0))
        // And when someone wrote it over in place.
        var rewritten = viewAt912()
        #expect(rewritten.take(head(9, 0), incarnation: node(7), nodeVersion: 5) == .applied)
        #expect(rewritten.records.isEmpty)
    }

    @Test func aBucketNewerThanItsHeadIsTakenAndItsChangesAreNotUndone() {
        var view = viewAt912()
        let next = head(3, 913, [a: 913, foobar: 912])
        #expect(view.take(next, incarnation: node(7), nodeVersion: 2) == .read([a]))
        // Read when version 915 stood there: "a" has gone.
        _ = view.apply(
            next, incarnation: node(7), nodeVersion: 2, buckets: [a: .good(HotBucket(version: 915))], isLastRound: false
        )
        #expect(view.records["a"] == nil)
        let later = head(
            3, 915, [a: 0, foobar: 912],
            [
                HotChange(version: 915, key: "a", record: nil),
                HotChange(version: 914, key: "a", record: record("a", .cooling)),
            ])
        #expect(view.take(later, incarnation: node(7), nodeVersion: 3) == .applied)
        #expect(view.records["a"] == nil)
    }

    @Test func aBucketOlderThanItsHeadAsksForTheHeadAgain() {
        var view = viewAt912()
        let next = head(3, 913, [a: 913, foobar: 912])
        _ = view.take(next, incarnation: node(7), nodeVersion: 2)
        let old: [Int: HotSetView.BucketRead] = [a: .good(HotBucket(version: 905, keys: [record("a")]))]
        #expect(
            view.apply(next, incarnation: node(7), nodeVersion: 2, buckets: old, isLastRound: false) == .readHeadAgain)
        #expect(view.apply(next, incarnation: node(7), nodeVersion: 2, buckets: old, isLastRound: true) == .applied)
        #expect(view.problems[a] != nil && view.records.count == 2, "the old content stays")
        #expect(view.take(next, incarnation: node(7), nodeVersion: 2) == .read([a]), "and is tried again")
    }

    @Test func aDamagedBucketKeepsItsLastGoodContent() {
        var view = viewAt912()
        let next = head(3, 913, [a: 913, foobar: 912])
        _ = view.take(next, incarnation: node(7), nodeVersion: 2)
        #expect(
            view.apply(next, incarnation: node(7), nodeVersion: 2, buckets: [a: .bad("not JSON")], isLastRound: false)
                == .applied)
        #expect(view.records.count == 2 && view.problems == [a: "not JSON"])
        // A covered change to it is not enough: its base is unknown.
        let later = head(
            3, 914, [a: 914, foobar: 912], [HotChange(version: 914, key: "a", record: record("a", .cooling))])
        #expect(view.take(later, incarnation: node(7), nodeVersion: 3) == .read([a]))
    }

    /// Whatever a planner publishes, by any interleaving of reads, a view that follows ends with the same records.
    @Test(arguments: [1, 2, 3, 4, 5] as [UInt64]) func followsARandomHistory(seed: UInt64) throws {
        var generator = SplitMix(state: seed)
        var truth = HotRecords()
        var version: Int64 = 0
        var bucketVersions: [Int: Int64] = [:]
        var changes: [HotChange] = []
        var view = HotSetView()
        for _ in 0..<300 {
            version += 1
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let key = KeyName("k\(Int.random(in: 0..<40, using: &generator))")
                let isHot = Bool.random(using: &generator)
                truth[key] = isHot ? record(key, reads: Double(version)) : nil
                changes.insert(HotChange(version: version, key: key, record: truth[key]), at: 0)
                bucketVersions[key.bucket] = truth[bucket: key.bucket].isEmpty ? 0 : version
            }
            while changes.count > 12 {
                let oldest = changes.last?.version
                changes.removeAll { $0.version == oldest }
            }
            if Int.random(in: 0..<3, using: &generator) > 0 { continue }  // The subscriber sleeps.
            // Two changes of one key in one version do not happen: keep the last.
            var seen: Set<String> = []
            let inline = changes.filter { seen.insert("\($0.version) \($0.key)").inserted }
            let current = head(1, version, bucketVersions, inline)
            switch view.take(current, incarnation: node(1), nodeVersion: 0) {
            case .read(let indices):
                let buckets = indices.map { index in
                    let keys = Array(truth[bucket: index].values)
                    return (index, HotSetView.BucketRead.good(HotBucket(version: bucketVersions[index]!, keys: keys)))
                }
                let read = Dictionary(uniqueKeysWithValues: buckets)
                #expect(
                    view.apply(current, incarnation: node(1), nodeVersion: 0, buckets: read, isLastRound: false)
                        == .applied)
            case .applied: break
            case let other: Issue.record("\(other)")
            }
            #expect(view.records == truth, "seed \(seed), version \(version)")
        }
    }
}

private struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

@Suite struct SubscriptionStateTests {
    private let now = ContinuousClock.now

    private func value(_ document: some RegistryDocument, transaction: Int64, version: Int32 = 0) throws -> NodeValue {
        NodeValue(
            data: try RegistryCodec.encode(document, source: ""),
            stat: NodeStat(createdTransaction: 1, modifiedTransaction: transaction, version: version))
    }

    private func takeAll(_ subscription: inout Subscription, transaction: Int64 = 10, epoch: Int64 = 3) throws {
        let connection = subscription.connectionNumber
        let read = subscription.takeHead(
            try value(head(epoch, 0), transaction: transaction), connection: connection, at: now)
        #expect(read.pending == nil)
        _ = subscription.take(
            .control, try value(ControlDocument(), transaction: transaction), connection: connection, at: now)
        _ = subscription.take(
            .rules, try value(RulesDocument(), transaction: transaction), connection: connection, at: now)
        _ = subscription.take(
            .pins, try value(PinsDocument(), transaction: transaction), connection: connection, at: now)
        _ = subscription.take(.topology, nil, connection: connection, at: now)
    }

    @Test func freshOnlyWhenEverythingWasReadInThisConnection() throws {
        var subscription = Subscription(paths: paths)
        #expect(subscription.snapshot(at: now).view == .none)
        subscription.connected()
        try takeAll(&subscription)
        #expect(subscription.snapshot(at: now).view == .fresh)
        #expect(subscription.snapshot(at: now).isInitialised == true)
        subscription.disconnected(at: now)
        #expect(subscription.snapshot(at: now + .seconds(5)).view == .stale(since: now))
        #expect(subscription.snapshot(at: now).ageMilliseconds(at: now + .seconds(5)) == 5_000)
        // An answer to a read of the old connection confirms nothing in the new one.
        let old = subscription.connectionNumber
        subscription.connected()
        for node in [WatchedNode.control, .rules, .pins, .topology] {
            _ = subscription.take(node, nil, connection: old, at: now)
        }
        _ = subscription.takeHead(try value(head(3, 0), transaction: 10), connection: old, at: now)
        #expect(subscription.snapshot(at: now).view == .stale(since: now))
    }

    @Test func aBadDocumentLeavesTheLastGoodOneInForce() throws {
        var subscription = Subscription(paths: paths)
        subscription.connected()
        try takeAll(&subscription)
        let bad = NodeValue(data: Array("{".utf8), stat: NodeStat(modifiedTransaction: 11, version: 1))
        let connection = subscription.connectionNumber
        guard case .refused(paths.rules, _) = subscription.take(.rules, bad, connection: connection, at: now) else {
            Issue.record("accepted")
            return
        }
        #expect(subscription.take(.rules, bad, connection: connection, at: now) == nil, "told once")
        let snapshot = subscription.snapshot(at: now)
        #expect(snapshot.rules == RulesDocument() && snapshot.versions.rules == 0 && snapshot.view == .fresh)
        #expect(snapshot.problems.contains { $0.path == paths.rules })
        let good = try value(RulesDocument(rules: []), transaction: 12, version: 2)
        #expect(subscription.take(.rules, good, connection: connection, at: now) == nil)
        #expect(subscription.snapshot(at: now).rules?.rules == [])
        #expect(!subscription.snapshot(at: now).problems.contains { $0.path == paths.rules })
    }

    @Test func anOlderDocumentIsRefusedUntilTheEnsembleIsAnother() throws {
        var subscription = Subscription(paths: paths)
        subscription.connected()
        try takeAll(&subscription, transaction: 100)
        let connection = subscription.connectionNumber
        let older = try value(RulesDocument(rules: []), transaction: 99)
        #expect(subscription.take(.rules, older, connection: connection, at: now) == .backward(path: paths.rules))
        #expect(subscription.snapshot(at: now).rules == RulesDocument())
        #expect(subscription.snapshot(at: now).view == .stale(since: now))
        // A registry initialised on new servers: transactions start over, the epoch does not.
        let anew = subscription.takeHead(try value(head(9, 0), transaction: 5), connection: connection, at: now)
        #expect(anew.events == [.anotherEnsemble])
        #expect(subscription.take(.rules, older, connection: connection, at: now) == nil)
        #expect(subscription.snapshot(at: now).rules?.rules == [])
    }

    /// What an ensemble shows whose data was set back: an older document, whose transaction may still be a large one.
    @Test func anOlderDocumentIsTakenFromASetBackEnsembleOnly() throws {
        var subscription = Subscription(paths: paths)
        subscription.connected()
        try takeAll(&subscription, transaction: 100)
        let connection = subscription.connectionNumber
        let older = try value(RulesDocument(rules: []), transaction: 99)
        func take(_ isCaughtUp: Bool) -> Subscription.Event? {
            subscription.take(.rules, older, connection: connection, isCaughtUp: isCaughtUp, at: now)
        }
        #expect(take(true) == .backward(path: paths.rules), "no coordinator has published since")
        // The next epoch, in a transaction above the ones seen: nothing but the epoch tells of it.
        let next = subscription.takeHead(try value(head(4, 1), transaction: 101), connection: connection, at: now)
        #expect(next.events.isEmpty)
        #expect(take(false) == .backward(path: paths.rules), "the server may lag")
        #expect(
            subscription.take(.rules, older, connection: connection - 1, isCaughtUp: true, at: now)
                == .backward(path: paths.rules), "another server may lag")
        #expect(take(true) == nil)
        #expect(subscription.snapshot(at: now).rules?.rules == [])
        // From there on as ever.
        let oldest = try value(RulesDocument(), transaction: 98)
        #expect(
            subscription.take(.rules, oldest, connection: connection, isCaughtUp: true, at: now)
                == .backward(path: paths.rules))
    }

    /// The registry's documents are older than those held here, and nobody has published since.
    @Test func aRegistryThatIsOlderThanWhatIsHeldIsToldOnceTheServerHasCaughtUp() throws {
        var subscription = Subscription(paths: paths)
        subscription.connected()
        try takeAll(&subscription, transaction: 100)
        let connection = subscription.connectionNumber
        let older = try value(ControlDocument(mode: .off), transaction: 99)
        func take(_ isCaughtUp: Bool) -> Bool {
            _ = subscription.take(.control, older, connection: connection, isCaughtUp: isCaughtUp, at: now)
            return subscription.snapshot(at: now).isRegistryOlder
        }
        #expect(!take(false), "the server may lag")
        let revision = subscription.revision
        #expect(take(true) && subscription.revision > revision)
        _ = subscription.takeHead(try value(head(4, 1), transaction: 101), connection: connection, at: now)
        #expect(!take(true) && subscription.snapshot(at: now).mode == .off, "followed in the new epoch")
        // A new connection knows nothing of it yet.
        let oldest = try value(ControlDocument(), transaction: 98)
        _ = subscription.take(.control, oldest, connection: connection, isCaughtUp: true, at: now)
        #expect(subscription.snapshot(at: now).isRegistryOlder)
        subscription.connected()
        #expect(!subscription.snapshot(at: now).isRegistryOlder)
    }

    /// A document that was looked at in an epoch, and had not changed, was seen in that epoch.
    @Test func aDocumentIsSeenInTheEpochInWhichItsMetadataWas() throws {
        var subscription = Subscription(paths: paths)
        subscription.connected()
        try takeAll(&subscription, transaction: 100)
        let connection = subscription.connectionNumber
        let held = try value(RulesDocument(), transaction: 100)
        _ = subscription.takeHead(try value(head(4, 1), transaction: 101), connection: connection, at: now)
        let isUnchanged = subscription.take(unchanged: held.stat, of: .rules, connection: connection)
        #expect(isUnchanged)
        let older = try value(RulesDocument(rules: []), transaction: 99)
        #expect(
            subscription.take(.rules, older, connection: connection, isCaughtUp: true, at: now)
                == .backward(path: paths.rules), "nothing has been published since")
    }

    /// The same head in an earlier transaction is another ensemble's state: the transactions are forgotten, and everything is read.
    @Test func theSameHeadInAnEarlierTransactionIsAnotherEnsemble() throws {
        var subscription = Subscription(paths: paths)
        subscription.connected()
        try takeAll(&subscription, transaction: 100)
        let outcome = subscription.takeHead(
            try value(head(3, 0), transaction: 90), connection: subscription.connectionNumber, at: now)
        #expect(outcome.pending == nil && outcome.events == [.anotherEnsemble])
        let older = try value(RulesDocument(rules: []), transaction: 80)
        #expect(subscription.take(.rules, older, connection: subscription.connectionNumber, at: now) == nil)
    }

    @Test func nothingThereIsAStateOfItsOwn() throws {
        var subscription = Subscription(paths: paths)
        subscription.connected()
        let connection = subscription.connectionNumber
        for node in [WatchedNode.control, .rules, .pins, .topology] {
            _ = subscription.take(node, nil, connection: connection, at: now)
        }
        _ = subscription.takeHead(nil, connection: connection, at: now)
        let snapshot = subscription.snapshot(at: now)
        #expect(snapshot.isInitialised == false && snapshot.view == .none && snapshot.mode == .off)
    }

    @Test func whatWasSavedComesBackStaleWithItsAge() throws {
        var subscription = Subscription(paths: paths)
        subscription.connected()
        try takeAll(&subscription)
        let saved = try #require(subscription.saved(at: now, wallClock: start))
        let restored = Subscription(
            paths: paths, saved: saved, at: now, wallClock: start.advanced(by: .seconds(60)))
        let snapshot = restored.snapshot(at: now)
        #expect(snapshot.ageMilliseconds(at: now) == 60_000)
        #expect(snapshot.rules == RulesDocument() && snapshot.position == HotPosition(epoch: 3, version: 0))
        // Below what was saved nothing is taken after the restart either.
        var again = restored
        again.connected()
        let older = again.takeHead(
            try value(head(2, 5), transaction: 11), connection: again.connectionNumber, at: now)
        #expect(older.events == [.backward(path: paths.hot)])
    }

    @Test func pinsAndDeniesOverrideDetection() {
        var snapshot = RegistrySnapshot.none
        snapshot.hot = HotRecords([
            record("detected"), record("denied"), record("candidate", .candidate), record("denied-expired"),
            record("both"),
        ])
        func entry(_ key: KeyName, copies: Int? = nil, expires: Duration? = nil) -> PinEntry {
            PinEntry(
                key: key, copies: copies, author: "ann", at: start, expiresAt: expires.map { start.advanced(by: $0) })
        }
        snapshot.pins = PinsDocument(
            pins: [entry("pinned"), entry("pin-expired", expires: .seconds(10)), entry("both", copies: 7)],
            denies: [entry("denied"), entry("denied-expired", expires: .seconds(20)), entry("both")])
        let before = snapshot.effectiveHotSet(at: start)
        #expect(Set(before.keys) == ["detected", "pinned", "pin-expired", "both"])
        #expect(before["both"]?.copies == 7 && before["detected"]?.copies == 3 && before["pinned"]?.copies == nil)
        #expect(snapshot.nextExpiry(after: start) == start.advanced(by: .seconds(10)))
        let after = snapshot.effectiveHotSet(at: start.advanced(by: .seconds(20)))
        #expect(Set(after.keys) == ["detected", "pinned", "both", "denied-expired"])
        #expect(snapshot.nextExpiry(after: start.advanced(by: .seconds(20))) == nil)
    }
}
