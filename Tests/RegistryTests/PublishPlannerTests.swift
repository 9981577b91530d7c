import Testing
import ZooKeeper

@testable import HotKeyRegistry

private let paths = try! RegistryPaths(app: "shop")
private let host = try! AgentID("host-1")

/// A registry in memory that applies what a planner writes, and gives it back as it would be read.
private struct Registry {
    var nodes: [String: (data: [UInt8], version: Int32)] = [:]

    init(epoch: Int64 = 3) throws {
        nodes[paths.hot] = (try RegistryCodec.encode(HotHead(epoch: epoch, publishedAt: start), source: ""), 0)
        for index in 0..<64 { nodes[paths.bucket(index)] = (try RegistryCodec.encode(HotBucket(), source: ""), 0) }
    }

    var head: HotHead { try! RegistryCodec.decode(HotHead.self, from: nodes[paths.hot]!.data, source: "") }

    func bucket(_ index: Int) -> HotBucket {
        try! RegistryCodec.decode(HotBucket.self, from: nodes[paths.bucket(index)]!.data, source: "")
    }

    mutating func apply(_ step: PublishPlanner.Step) {
        for case .set(let path, let data, let version) in step.operations {
            #expect(nodes[path]?.version == version, "expected version of \(path)")
            nodes[path] = (data, (nodes[path]?.version ?? -1) + 1)
        }
        for case .create(let path, let data, _, _) in step.operations {
            #expect(nodes[path] == nil)
            nodes[path] = (data, 0)
        }
    }

    var published: PublishedHotSet {
        let reads: [PublishedHotSet.BucketRead] = (0..<64).map { index in
            guard let node = nodes[paths.bucket(index)] else { return .missing }
            let value = NodeValue(data: node.data, stat: NodeStat(version: node.version))
            return PublishedHotSet.decode(value, bucket: index, path: paths.bucket(index))
        }
        var result = PublishedHotSet(
            head: head, headStat: NodeStat(version: nodes[paths.hot]!.version), records: HotRecords(), problems: [],
            buckets: reads)
        for (index, read) in reads.enumerated() {
            if case .good(let bucket, _) = read, bucket.version >= head.buckets[index],
                head.buckets[index] > 0 || bucket.version > head.version
            {
                result.records.replace(bucket: index, with: bucket.keys)
            }
        }
        return result
    }

    mutating func publish(_ planner: inout PublishPlanner) throws -> PublishPlanner.Publication? {
        guard let publication = try planner.plan(now: start, coordinator: host) else { return nil }
        for (index, step) in publication.steps.enumerated() {
            apply(step)
            planner.committed(index, of: publication)
        }
        return publication
    }
}

@Suite struct PublishPlannerTests {
    @Test func onlyChangedBucketsAreWrittenTheHeadLast() throws {
        var registry = try Registry()
        var planner = PublishPlanner(registry.published, paths: paths)
        #expect(try planner.plan(now: start, coordinator: host) == nil)
        #expect(planner.submit([.set(record("a")), .set(record("foobar"))]).isEmpty)
        let publication = try #require(try registry.publish(&planner))
        #expect(publication.steps.count == 1)
        let written = publication.steps[0].operations.compactMap { operation -> String? in
            if case .set(let path, _, _) = operation { path } else { nil }
        }
        #expect(written == [paths.bucket(0x0c), paths.bucket(0x28), paths.hot])
        #expect(registry.head.position == HotPosition(epoch: 4, version: 1))
        #expect(registry.head.buckets[0x0c] == 1 && registry.head.buckets[0x0d] == 0)
        #expect(registry.head.changes.map(\.key) == ["a", "foobar"])
        #expect(registry.bucket(0x0c).keys == [record("a")])
    }

    @Test func ratesAloneAreNotPublished() throws {
        var registry = try Registry()
        var planner = PublishPlanner(registry.published, paths: paths)
        _ = planner.submit([.set(record("a"))])
        _ = try registry.publish(&planner)
        _ = planner.submit([.set(record("a", reads: 9_999)), .remove("b")])
        #expect(planner.isIdle)
        _ = planner.submit([.set(record("a", .cooling))])
        _ = planner.submit([.set(record("a"))])
        #expect(planner.isIdle, "back to what is published: nothing to write")
        _ = planner.submit([.remove("a")])
        _ = try registry.publish(&planner)
        #expect(registry.head.version == 2 && registry.head.buckets[0x0c] == 0)
        #expect(registry.head.changes.map(\.version) == [2, 1])
        #expect(registry.bucket(0x0c).keys.isEmpty && registry.bucket(0x0c).version == 2)
    }

    @Test func aSourceThatNamesAKeyForTheFirstTimeIsPublished() throws {
        var registry = try Registry()
        var planner = PublishPlanner(registry.published, paths: paths)
        func submit(_ sources: [String]) throws -> [String]? {
            var named = record("a")
            named.sources = sources
            #expect(planner.submit([.set(named)]).isEmpty)
            return try registry.publish(&planner)?.head.changes.first?.record?.sources
        }
        #expect(try submit(["agents"]) == ["agents"])
        #expect(try submit(["agents", "scan"]) == ["agents", "scan"])
        // One that has gone is no news, nor is its return.
        #expect(try submit(["agents"]) == nil)
        #expect(try submit(["scan", "agents"]) == nil)
    }

    @Test func inlineChangesAreWholeVersionsThatFit() throws {
        var registry = try Registry()
        var planner = PublishPlanner(registry.published, paths: paths)
        for round in 0..<20 {
            _ = planner.submit((0..<5).map { .set(record(KeyName("key-\(round)-\($0)"))) })
            _ = try registry.publish(&planner)
            let head = registry.head
            #expect(registry.nodes[paths.hot]!.data.count <= RegistryLimits.headBytesMax)
            let versions = Set(head.changes.map(\.version))
            #expect(head.changes.count == versions.count * 5, "no version is cut")
            #expect(versions == Set(head.version - Int64(versions.count) + 1...head.version), "without a gap")
        }
        #expect(registry.head.changes.count < 100 && registry.head.changes.count >= 50)
        // Too many at once for the head: none inline.
        _ = planner.submit((0..<500).map { .set(record(KeyName("burst-\($0)"))) })
        _ = try registry.publish(&planner)
        #expect(registry.head.changes.isEmpty)
        // And what came before is not listed behind the gap.
        _ = planner.submit([.remove("burst-1")])
        _ = try registry.publish(&planner)
        #expect(registry.head.changes.map(\.version) == [22])
    }

    @Test func largePublicationsAreSplitWithTheHeadLast() throws {
        var registry = try Registry()
        var planner = PublishPlanner(registry.published, paths: paths)
        let long = String(repeating: "k", count: 300)
        let records = (0..<4_000).map { record(KeyName("\(long)\($0)")) }
        #expect(planner.submit(records.map(HotUpdate.set)).isEmpty)
        let publication = try #require(try registry.publish(&planner))
        #expect(publication.steps.count > 2)
        for (index, step) in publication.steps.enumerated() {
            let bytes = step.operations.reduce(0) { sum, operation in
                if case .set(_, let data, _) = operation { sum + data.count } else { sum }
            }
            #expect(bytes <= RegistryLimits.multiBytesMax)
            let hasHead = step.operations.contains { if case .set(paths.hot, _, _) = $0 { true } else { false } }
            #expect(hasHead == (index == publication.steps.count - 1))
        }
        #expect(registry.published.records == HotRecords(records))
    }

    @Test func aSuccessorRepairsWhatADeadCoordinatorLeftHalfWritten() throws {
        var registry = try Registry()
        var first = PublishPlanner(registry.published, paths: paths)
        let long = String(repeating: "k", count: 300)
        _ = first.submit((0..<3_000).map { .set(record(KeyName("\(long)\($0)"))) })
        let publication = try #require(try first.plan(now: start, coordinator: host))
        #expect(publication.steps.count > 1)
        registry.apply(publication.steps[0])
        // Here the first one dies: buckets of version 1 under a head of version 0.
        let adopted = registry.published.records
        #expect(!adopted.isEmpty)
        var second = PublishPlanner(registry.published, paths: paths)
        #expect(!second.isIdle, "what is torn is written without any new change")
        _ = try registry.publish(&second)
        #expect(registry.head.position == HotPosition(epoch: 4, version: 2), "newer than every bucket")
        #expect(registry.head.changes.isEmpty, "a reader cannot conclude anything about the torn version")
        #expect(registry.published.records == adopted)
        #expect(second.isIdle)
    }

    @Test func aMissingBucketIsCreatedAndADamagedOneReplaced() throws {
        var registry = try Registry()
        registry.nodes[paths.bucket(0x0c)] = nil
        registry.nodes[paths.bucket(1)] = (Array("garbage".utf8), 7)
        var planner = PublishPlanner(registry.published, paths: paths)
        _ = planner.submit([.set(record("a"))])
        _ = try registry.publish(&planner)
        #expect(registry.bucket(0x0c).keys.map(\.key) == ["a"])
        #expect(registry.bucket(1).keys.isEmpty && registry.nodes[paths.bucket(1)]!.version == 8)
        _ = planner.submit([.set(record("a", .cooling))])
        _ = try registry.publish(&planner)
        #expect(registry.bucket(0x0c).keys.map(\.state) == [.cooling])
    }

    @Test func whatCannotBePublishedIsRefusedWithItsReason() throws {
        let registry = try Registry()
        var planner = PublishPlanner(registry.published, paths: paths)
        let tooLong = KeyName([UInt8](repeating: 1, count: 1_025))
        #expect(planner.submit([.set(record(tooLong)), .set(record("ok"))]).map(\.reason) == [.keyTooLong])
        var bad = record("bad")
        bad.readsPerSecond = -1
        guard case .invalid = planner.submit([.set(bad)]).first?.reason else {
            Issue.record("accepted a negative rate")
            return
        }
        let all = planner.submit((0..<10_001).map { .set(record(KeyName("k\($0)"))) })
        #expect(all.count == 2 && all.allSatisfy { $0.reason == .tooManyKeys }, "10,000 with \"ok\"")
        _ = planner.submit([.remove("ok")])
        #expect(planner.submit([.set(record("k10000"))]).isEmpty, "room was made")
    }

    @Test func aFullBucketRefusesAndIsNeverCut() throws {
        var registry = try Registry()
        var planner = PublishPlanner(registry.published, paths: paths)
        let refused = planner.submit(keysThatOverfillABucket.map { .set(record($0)) })
        #expect(!refused.isEmpty && refused.allSatisfy { $0.reason == .bucketFull })
        _ = try registry.publish(&planner)
        #expect(registry.nodes[paths.bucket(5)]!.data.count <= RegistryLimits.bucketBytesMax)
        #expect(registry.bucket(5).keys.count == 70 - refused.count)
    }

    /// A registry whose bucket 5 is full, and the keys that did not fit, hottest first: the later, the hotter.
    private func fullBucket() throws -> (Registry, PublishPlanner, published: [KeyName], waiting: [KeyName]) {
        var registry = try Registry()
        var planner = PublishPlanner(registry.published, paths: paths)
        let records = keysThatOverfillABucket.enumerated().map { record($1, reads: Double(1_000 + $0)) }
        let refused = planner.submit(records.map(HotUpdate.set)).map(\.key)
        #expect(refused.count > 3 && planner.waitingCount == refused.count)
        _ = try registry.publish(&planner)
        #expect(planner.isIdle, "what waits is not tried before there is room")
        #expect(planner.waitingCount == refused.count)
        return (registry, planner, keysThatOverfillABucket.filter { !refused.contains($0) }, refused.reversed())
    }

    @Test func aKeyThatWasRefusedIsPublishedWhenThereIsRoomTheHottestFirst() throws {
        var (registry, planner, published, waiting) = try fullBucket()
        _ = planner.submit([.remove(published[0]), .remove(published[7])])
        _ = try registry.publish(&planner)
        let now = Set(registry.bucket(5).keys.map(\.key))
        #expect(now.isSuperset(of: waiting.prefix(2)) && now.isDisjoint(with: waiting.dropFirst(2)))
        #expect(registry.nodes[paths.bucket(5)]!.data.count <= RegistryLimits.bucketBytesMax)
        #expect(planner.isIdle && planner.waitingCount == waiting.count - 2)
        #expect(Set(registry.head.changes.filter { $0.record != nil }.map(\.key)).isSuperset(of: waiting.prefix(2)))
    }

    @Test func whatWaitsForItsBucketIsTold() throws {
        var (registry, planner, published, waiting) = try fullBucket()
        #expect(planner.waitingKeys == WaitingKeys(absent: Set(waiting), crowded: waiting))
        // One whose record has grown takes room all the same.
        var grown = record(published[0], reads: 500)
        grown.sources = (0..<8).map { String(repeating: "\($0)", count: 40) }
        #expect(planner.submit([.set(grown)]).map(\.reason) == [.bucketFull])
        #expect(planner.waitingKeys == WaitingKeys(absent: Set(waiting), crowded: waiting + [published[0]]))
        // With room all of them fit, each for itself.
        _ = planner.submit([.remove(published[1]), .remove(published[2])])
        #expect(planner.waitingKeys == WaitingKeys(absent: Set(waiting), crowded: []))
        _ = try registry.publish(&planner)
        #expect(planner.waitingKeys.absent == Set(waiting.dropFirst(2)))
    }

    @Test func aRefusedKeyThatIsNotHotAnyMoreDoesNotComeBack() throws {
        var (registry, planner, published, waiting) = try fullBucket()
        _ = planner.submit([.remove(waiting[0]), .remove(published[0])])
        _ = try registry.publish(&planner)
        let now = Set(registry.bucket(5).keys.map(\.key))
        #expect(!now.contains(waiting[0]) && now.contains(waiting[1]))
        // Nor one that is not among those that are to be the whole set.
        _ = planner.submit(planner.updates(towards: [record("a")]))
        _ = try registry.publish(&planner)
        #expect(planner.waitingCount == 0 && registry.published.records.map(\.key) == ["a"])
    }

    @Test func roomThatWasTakenAndGivenUpBeforeAPublicationIsUsed() throws {
        var registry = try Registry()
        var planner = PublishPlanner(registry.published, paths: paths)
        let refused = planner.submit(keysThatOverfillABucket.map { .set(record($0)) }).map(\.key)
        _ = planner.submit(keysThatOverfillABucket.filter { !refused.contains($0) }.map(HotUpdate.remove))
        #expect(!planner.isIdle, "nothing is pending, but there is room for what waits")
        _ = try registry.publish(&planner)
        #expect(Set(registry.published.records.map(\.key)) == Set(refused))
        #expect(planner.isIdle && planner.waitingCount == 0)
    }

    @Test func aPublishedKeyWhoseChangeDoesNotFitFollowsWhenItDoes() throws {
        var (registry, planner, published, _) = try fullBucket()
        // "cooling" takes four bytes more than "hot".
        let cooled = published.map { record($0, .cooling, reads: 9_999) }
        #expect(!planner.submit(cooled.map(HotUpdate.set)).isEmpty, "or nothing is tested: choose other lengths")
        _ = try registry.publish(&planner)
        #expect(!published.allSatisfy { registry.published.records[$0]?.state == .cooling })
        _ = planner.submit([.remove(published[0])])
        _ = try registry.publish(&planner)
        #expect(published.dropFirst().allSatisfy { registry.published.records[$0]?.state == .cooling })
    }

    @Test func changesDuringAPublicationGoIntoTheNext() throws {
        var registry = try Registry()
        var planner = PublishPlanner(registry.published, paths: paths)
        _ = planner.submit([.set(record("a")), .set(record("b"))])
        let publication = try #require(try planner.plan(now: start, coordinator: host))
        _ = planner.submit([.set(record("a")), .remove("b"), .set(record("c"))])
        registry.apply(publication.steps[0])
        planner.committed(0, of: publication)
        let second = try #require(try registry.publish(&planner))
        #expect(second.head.changes.filter { $0.version == 2 }.map(\.key) == ["b", "c"])
        #expect(Set(registry.published.records.map(\.key)) == ["a", "c"])
    }

    @Test func replacingTheWholeSetRemovesTheRest() throws {
        var registry = try Registry()
        var planner = PublishPlanner(registry.published, paths: paths)
        _ = planner.submit([.set(record("a")), .set(record("b"))])
        _ = try registry.publish(&planner)
        _ = planner.submit(planner.updates(towards: [record("b"), record("c")]))
        _ = try registry.publish(&planner)
        #expect(Set(registry.published.records.map(\.key)) == ["b", "c"])
    }

    /// Whoever held anything of the lost time reads everything again.
    @Test(arguments: [HotPosition(epoch: 7, version: 9), HotPosition(epoch: 4, version: 2)])
    func aRegistryThatWasSetBackIsPublishedAnewAboveEverythingSeen(_ seen: HotPosition) throws {
        var registry = try Registry()
        var first = PublishPlanner(registry.published, paths: paths)
        _ = first.submit([.set(record("a")), .set(record("foobar"))])
        _ = try registry.publish(&first)
        var same = PublishPlanner(registry.published, paths: paths, seen: registry.head.position)
        #expect(same.isIdle)
        #expect(try registry.publish(&same) == nil, "nothing was set back")

        var planner = PublishPlanner(registry.published, paths: paths, seen: seen)
        #expect(!planner.isIdle)
        let publication = try #require(try registry.publish(&planner))
        #expect(registry.head.position.epoch == seen.epoch + 1 && registry.head.version > seen.version + 1_000_000)
        #expect(registry.head.changes.isEmpty, "no inline changes lead there")
        #expect(Set(publication.steps.flatMap(\.buckets)) == Set(0..<64))
        #expect(
            registry.head.buckets[0x0c] == registry.head.version && registry.head.buckets[0x28] == registry.head.version
        )
        #expect(registry.head.buckets[0] == 0 && registry.bucket(0x0c).keys == [record("a")])
        #expect(planner.isIdle)
    }

    @Test func anEpochIsAtLeastTheSecondsOfItsBeginning() throws {
        var registry = try Registry()
        var planner = PublishPlanner(registry.published, paths: paths, epochMin: 1_000)
        #expect(planner.isIdle, "no reason to publish")
        _ = planner.submit([.set(record("a"))])
        _ = try registry.publish(&planner)
        #expect(registry.head.position == HotPosition(epoch: 1_000, version: 1))
        var next = PublishPlanner(registry.published, paths: paths, epochMin: 1_000)
        _ = next.submit([.remove("a")])
        _ = try registry.publish(&next)
        #expect(registry.head.position == HotPosition(epoch: 1_001, version: 2), "in the same second too")
    }

    @Test func onlyLargePublicationsThatAreNeverAnsweredCountAsDropped() {
        var memory = UnansweredPublications()
        let small = RegistryLimits.droppedRequestBytesMin - 1
        for _ in 0..<10 { memory.unanswered(small) }
        var dropped = memory.dropped()
        #expect(dropped == nil)
        for _ in 0..<2 { memory.unanswered(50_000) }
        memory.answered(60_000)
        for _ in 0..<2 { memory.unanswered(50_000) }
        dropped = memory.dropped()
        #expect(dropped == nil, "larger ones are answered")
        memory.unanswered(40_000)
        memory.answered(small)
        dropped = memory.dropped()
        #expect(dropped == .init(bytes: 40_000, isSplit: true))
        dropped = memory.dropped()
        #expect(dropped == nil, "the next try decides")
        #expect(memory.multiBytesMax == 20_000, "and it is smaller")
        memory.unanswered(18_000)
        dropped = memory.dropped()
        #expect(dropped == .init(bytes: 18_000, isSplit: true))
        memory.answered(9_000)
        #expect(memory.multiBytesMax == 9_000)
        memory.unanswered(9_500)
        dropped = memory.dropped()
        #expect(dropped == .init(bytes: 9_500, isSplit: true))
        #expect(memory.multiBytesMax == RegistryLimits.multiBytesMin)
        memory.unanswered(9_500)
        dropped = memory.dropped()
        #expect(dropped == .init(bytes: 9_500, isSplit: false), "not less than a bucket or two")
        #expect(memory.multiBytesMax == RegistryLimits.multiBytesMin)
    }

    /// The memory outlives its publishers, and with it the bound of a second.
    @Test func aSecondOfTransactionsIsOneForAllPublishersOfAnAgent() {
        let memory = PublisherMemory()
        let now = ContinuousClock.now
        for _ in 0..<RegistryLimits.transactionsPerSecondMax {
            #expect(memory.wait(at: now) == nil)
            memory.noteTransaction(answeredAt: now)
        }
        #expect(memory.wait(at: now) == RegistryLimits.transactionWindow)
        #expect(RegistryLimits.transactionsPerSecondMax < 20)
    }

    /// A bound that was learned holds for what is split, and for the head.
    @Test func smallBoundsMakeSmallTransactions() throws {
        var registry = try Registry()
        var planner = PublishPlanner(
            registry.published, paths: paths, bounds: .init(multiBytesMax: RegistryLimits.multiBytesMin))
        _ = planner.submit((0..<300).map { .set(record(KeyName("key-\($0)"))) })
        let publication = try #require(try registry.publish(&planner))
        #expect(publication.steps.count > 5)
        for step in publication.steps {
            let data = step.operations.reduce(0) { sum, operation in
                if case .set(_, let data, _) = operation { sum + data.count } else { sum }
            }
            #expect(data <= RegistryLimits.multiBytesMin && step.requestBytes > data)
        }
        for round in 0..<20 {
            _ = planner.submit((0..<3).map { .set(record(KeyName("key-\(round)-\($0)"))) })
            _ = try registry.publish(&planner)
            #expect(registry.nodes[paths.hot]!.data.count <= RegistryLimits.multiBytesMin / 2)
        }
    }

    /// An agent that is one version behind, and whose content of a torn bucket no list of changes takes away.
    @Test func agentsReadATornBucketThatAChangeIsPublishedWith() throws {
        var registry = try Registry()
        var first = PublishPlanner(registry.published, paths: paths)
        let keys = keysThatOverfillABucket
        _ = first.submit([.set(record(keys[0])), .set(record(keys[1]))])
        _ = try registry.publish(&first)
        var view = HotSetView()
        let incarnation = HeadIncarnation(createdTransaction: 7, createdAtMilliseconds: 0)
        func follow(_ isReadExpected: Bool) {
            let head = registry.head
            let decision = view.take(head, incarnation: incarnation, nodeVersion: 0)
            guard case .read(let buckets) = decision else { return }
            #expect(isReadExpected)
            let read = buckets.map { ($0, HotSetView.BucketRead.good(registry.bucket($0))) }
            let taken = view.apply(
                head, incarnation: incarnation, nodeVersion: 0, buckets: Dictionary(uniqueKeysWithValues: read),
                isLastRound: false)
            #expect(taken == .applied)
        }
        follow(true)
        #expect(view.records.count == 2)
        // Rubbish, nothing, and an older one.
        for (round, damage) in [("rubbish", 3 as Int32), nil, (#"{"schema":1,"version":1,"keys":[]}"#, 9)].enumerated()
        {
            registry.nodes[paths.bucket(5)] = damage.map { (Array($0.0.utf8), $0.1) }
            var next = PublishPlanner(registry.published, paths: paths)
            _ = next.submit([.set(record(keys[2 + round]))])
            _ = try registry.publish(&next)
            follow(true)
            #expect(view.records == registry.published.records)
            #expect(Set(view.records[bucket: 5].keys) == [keys[2 + round]])
            _ = next.submit([.set(record("a", copies: round))])
            _ = try registry.publish(&next)
            follow(false)
            #expect(view.records == registry.published.records, "and on from there by changes alone")
            _ = next.submit([.set(record(keys[10]))])
            _ = try registry.publish(&next)
            follow(false)
        }
    }

    /// Somebody else wrote a bucket and said the version that the head names: agents that hold that version do not read it.
    @Test func aBucketThatWasWrittenSinceItsHeadIsWrittenAnew() throws {
        var registry = try Registry()
        var first = PublishPlanner(registry.published, paths: paths)
        _ = first.submit([.set(record("a"))])
        _ = try registry.publish(&first)
        var published = registry.published
        published.headStat.modifiedTransaction = 100
        func setBucket(_ transaction: Int64) {
            guard case .good(let bucket, var stat) = published.buckets[0x0c] else { return }
            stat.modifiedTransaction = transaction
            published.buckets[0x0c] = .good(bucket, stat)
        }
        setBucket(100)
        #expect(PublishPlanner(published, paths: paths).isIdle)
        setBucket(101)
        var next = PublishPlanner(published, paths: paths)
        let publication = try #require(try registry.publish(&next))
        #expect(publication.steps.flatMap(\.buckets) == [0x0c] && registry.head.changes.isEmpty)
    }

    @Test func anEpochIsBegunOnce() throws {
        var registry = try Registry()
        var planner = PublishPlanner(registry.published, paths: paths)
        planner.beginEpoch()
        #expect(!planner.isIdle)
        let publication = try #require(try registry.publish(&planner))
        #expect(
            publication.steps.flatMap(\.buckets).isEmpty && registry.head.position == HotPosition(epoch: 4, version: 1))
        planner.beginEpoch()
        #expect(planner.isIdle, "it is this one's already")
    }
}
