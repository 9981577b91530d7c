import HotKeyDetection
import HotKeyPeer
import HotKeyRegistry
import HotKeyRules
import HotKeyTestSupport
import NIOCore
import Testing

@testable import HotKeyAgent

@Suite struct ReportMergerTests {
    private let agents = ["a", "b", "c"].map { try! AgentID($0) }
    private let start = NIODeadline.now()

    private func merger(
        rules: RuleBook = .standard, published: [HotRecord] = [], clock: Timestamp = .now
    ) async -> ReportMerger {
        let merger = ReportMerger(rules: rules, published: HotRecords(published), clock: clock, now: start)
        await merger.setWanted(Set(agents))
        return merger
    }

    /// Frames of slices 1 to `count` in which each key had these accesses.
    private func reply(
        epoch: UInt64 = 1, sequences: ClosedRange<UInt64> = 1...10, _ entries: [Report.Entry] = []
    ) throws -> ReportsReply {
        let totals = AccessTotals(
            reads: entries.reduce(0) { $0 + $1.reads }, writes: entries.reduce(0) { $0 + $1.writes },
            replyBytes: entries.reduce(0) { $0 + $1.replyBytes })
        return ReportsReply(
            epoch: epoch, lastSequence: sequences.upperBound,
            frames: try sequences.map { try Report(sequence: $0, totals: totals, entries: entries).encoded() })
    }

    private func entry(_ key: String, reads: UInt64, writes: UInt64 = 0) -> Report.Entry {
        Report.Entry(key: Array(key.utf8), reads: reads, writes: writes)
    }

    /// Decides slice by slice until something comes of it: what was counted last counts once its slice has ended. In times of
    /// its own, because what is ingested ages, however long the test is kept waiting.
    private func decisions(_ merger: ReportMerger, rules: RuleBook = .standard) async throws -> [HotUpdate] {
        for slice in 1...10 {
            let updates = await merger.decide(rules: rules, at: start + .milliseconds(100 * Int64(slice)))
            if !updates.isEmpty { return updates }
        }
        throw TestSupportError(.timeout, "nothing was decided within ten slices")
    }

    @Test func aKeyThatIsHotOnlyInSumIsFound() async throws {
        let merger = await merger()
        // 400 reads a second at each of three agents is 1,200 in sum; 300 at each is 900, under the threshold of 1,000.
        for (epoch, agent) in zip(UInt64(1)..., agents) {
            _ = try await merger.ingest(
                agent, reply(epoch: epoch, [entry("sum", reads: 40), entry("under", reads: 30)]), at: start)
        }
        let updates = try await decisions(merger)
        #expect(updates.map(\.key) == ["sum"])
        guard case .set(let record)? = updates.first else {
            Issue.record("expected the record of a hot key, found \(updates)")
            return
        }
        #expect(record.state == .hot)
        #expect(record.kind == .read)
        #expect(record.sources == ["agents"])
        #expect((1_000...1_200).contains(record.readsPerSecond))
        #expect(abs(record.since.millisecondsSince1970 - Timestamp.now.millisecondsSince1970) < 60_000)
        try record.validate()
    }

    @Test func missesAreCarriedIntoTheRecord() async throws {
        let merger = await merger()
        let gone = Report.Entry(key: Array("gone".utf8), reads: 200, misses: 190)
        _ = try await merger.ingest(agents[0], reply([gone]), at: start)
        let updates = try await decisions(merger)
        guard case .set(let record)? = updates.first else {
            Issue.record("expected the record of a hot key, found \(updates)")
            return
        }
        #expect(record.kind == .missing)
        #expect(abs(record.missesPerSecond / record.readsPerSecond - 0.95) < 0.01)
        // A successor takes it over as it is.
        let successor = ReportMerger(rules: .standard, published: HotRecords([record]), clock: .now, now: start)
        #expect(await successor.live(.key(record.key.bytes), at: start).keys.map(\.heat.kind) == [.missing])
    }

    @Test func aShareOfTheNodeIsAThresholdOnceItIsMeasured() async throws {
        let rules = try RuleBook(
            RulesDocument(rules: [Rule(pattern: "*", thresholdPerSecond: 100_000, thresholdShareOfNode: 0.05)]))
        let merger = await merger(rules: rules)
        _ = try await merger.ingest(agents[0], reply([entry("k", reads: 150)]), at: start)
        for slice in 1...3 {
            #expect(await merger.decide(rules: rules, at: start + .milliseconds(100 * Int64(slice))).isEmpty)
        }
        await merger.update(
            capacities: NodeCapacities(nodes: [.init(name: "a", accessesPerSecond: 20_000)]) { _ in 0 })
        // What was counted before is in the window; a key is looked at when more of it comes.
        _ = await merger.decide(rules: rules, at: start + .milliseconds(400))
        _ = try await merger.ingest(
            agents[0], reply(sequences: 11...15, [entry("k", reads: 150)]), at: start + .milliseconds(450))
        let updates = await merger.decide(rules: rules, at: start + .milliseconds(500))
        #expect(updates.map(\.key) == ["k"])
        let live = await merger.live(.key(Array("k".utf8)), at: start + .milliseconds(500)).keys[0].heat
        #expect(live.threshold?.accessesPerSecond == 1_000 && live.threshold?.node?.name == "a")
    }

    @Test func writesMakeAKeyWriteHot() async throws {
        let merger = await merger()
        _ = try await merger.ingest(agents[0], reply([entry("w", reads: 200, writes: 100)]), at: start)
        let updates = try await decisions(merger)
        guard case .set(let record)? = updates.first else {
            Issue.record("expected the record of a hot key, found \(updates)")
            return
        }
        #expect(record.kind == .write)
        #expect(record.writesPerSecond > 0)
    }

    @Test func aTakeoverForgetsNoKey() async throws {
        let since = Timestamp.now.advanced(byMilliseconds: -40_000)
        let merger = await merger(published: [
            record("old", since: since), record("cooling", .cooling, since: since),
            record("candidate", .candidate, since: since), record("changes", since: since),
        ])
        // No report has come yet, which says nothing about the keys. What does change carries its old age on.
        _ = try await merger.ingest(agents[0], reply([entry("changes", reads: 100, writes: 100)]), at: start)
        let updates = try await decisions(merger)
        #expect(updates.map(\.key) == ["changes"])
        guard case .set(let changed)? = updates.first else {
            Issue.record("expected the record of a hot key, found \(updates)")
            return
        }
        #expect(changed.kind == .write)
        #expect(abs(changed.since.millisecondsSince1970 - since.millisecondsSince1970) <= 1_000)
        // That the others are held shows when no rule covers them any more: they leave at once, and so does a
        // candidate, which is held as long as its source may not have been read.
        let narrow = try RuleBook(RulesDocument(rules: [Rule(pattern: "changes")]))
        let left = try await decisions(merger, rules: narrow)
        #expect(Set(left) == [.remove("old"), .remove("cooling"), .remove("candidate")])
    }

    /// Three agents of a hundred can be reached, and nobody asks them for the key.
    @Test(arguments: [(100, 0), (3, 1)])
    func nothingCoolsUntilHalfOfAllAgentsAreReached(agentCount: Int, removed: Int) async throws {
        let merger = await merger(published: [record("old", since: .now.advanced(byMilliseconds: -40_000))])
        await merger.expect(agents: agentCount)
        var updates: [HotUpdate] = []
        for slice in 1...400 {
            let now = start + .milliseconds(100 * Int64(slice))
            for (epoch, agent) in zip(UInt64(1)..., agents) {
                let number = UInt64(slice)
                _ = try await merger.ingest(agent, reply(epoch: epoch, sequences: number...number), at: now)
            }
            updates += await merger.decide(rules: .standard, at: now + .milliseconds(5))
        }
        #expect(updates.count { $0 == .remove("old") } == removed)
        #expect(removed > 0 || updates.isEmpty)
    }

    /// The previous coordinator dated by a clock that was minutes ahead or behind, or this process's clock began lately.
    @Test(arguments: [-600_000, 600_000, .max / 4] as [Int64])
    func aWrongClockNeitherHoldsAKeyNorEndsIt(lead: Int64) async throws {
        let clock = Timestamp.now
        let since = clock.advanced(byMilliseconds: lead)
        let merger = await merger(
            published: [record("old", since: since)], clock: clock)
        #expect(
            await merger.live(.key(Array("old".utf8)), clock: clock, at: start).keys.map(\.since) == [min(since, clock)]
        )
        var removedAt: Int?
        for slice in 1...600 where removedAt == nil {
            let now = start + .milliseconds(100 * Int64(slice))
            _ = try await merger.ingest(
                agents[0], reply(sequences: UInt64(slice)...UInt64(slice)), at: now)
            let updates = await merger.decide(rules: .standard, at: now + .milliseconds(5))
            if updates.contains(.remove("old")) { removedAt = slice }
        }
        // 10 s of grace and 15 s of cool-down; and 30 s hot at least, from now on where its age is not known.
        let seconds = try #require(removedAt) / 10
        #expect(lead > 0 ? (30...31).contains(seconds) : (25...26).contains(seconds), "\(seconds) s")
    }

    /// Hot for longer than this host has been up.
    @Test func whatIsPublishedAnewKeepsItsDate() async throws {
        let clock = Timestamp.now
        let since = clock.advanced(byMilliseconds: -400 * 86_400_000)
        let merger = await merger(published: [record("changes", since: since)], clock: clock)
        _ = try await merger.ingest(agents[0], reply([entry("changes", reads: 100, writes: 100)]), at: start)
        guard case .set(let changed)? = try await decisions(merger).first else {
            Issue.record("expected the record of a hot key")
            return
        }
        #expect(changed.kind == .write && changed.since == since)
    }

    @Test func theTopHasKeysThatOnlyASourceHoldsHot() async throws {
        let merger = await merger()
        let clock = Timestamp.now
        let candidate = SourceDocument.Candidate(
            key: "elsewhere", readsPerSecond: 5_000, errorPerSecond: 10,
            expiresAt: clock.advanced(byMilliseconds: 60_000))
        let cool = SourceDocument.Candidate(
            key: "cool", readsPerSecond: 50, expiresAt: clock.advanced(byMilliseconds: 60_000))
        let sources = [try AgentID("flink"): SourceDocument(grade: .exact, candidates: [candidate, cool])]
        _ = try await merger.ingest(agents[0], reply([entry("here", reads: 200), entry("less", reads: 3)]), at: start)
        for slice in 1...3 {
            _ = await merger.decide(
                rules: .standard, sources: sources, clock: clock, at: start + .milliseconds(100 * Int64(slice)))
        }
        let live = await merger.live(.top(10), clock: clock, at: start + .milliseconds(300))
        #expect(live.keys.map { KeyName($0.heat.key) } == ["elsewhere", "here", "less"])
        #expect(live.keys.map(\.heat.state) == [.hot, .hot, .cold])
        #expect(live.keys[0].heat.sample.readsPerSecond == 5_000 && live.keys[0].heat.sample.errorPerSecond == 10)
        #expect(live.keys[0].sources == ["flink"] && live.keys[0].since != nil)
        #expect(live.hotKeyCount == 2)
        let first = await merger.live(.top(1), clock: clock, at: start + .milliseconds(300))
        #expect(first.keys.map { KeyName($0.heat.key) } == ["elsewhere"] && first.hotKeyCount == 2)
        let one = await merger.live(.key(Array("elsewhere".utf8)), clock: clock, at: start + .milliseconds(300))
        #expect(one.keys.map(\.heat.state) == [.hot] && one.keys[0].heat.kind == .read && one.hotKeyCount == 2)
    }

    /// The registry keeps a key's record with those of its bucket.
    @Test func roomInABucketIsMadeByItsCoolest() async throws {
        let merger = await merger()
        let bucket = KeyName("new").bucket
        let rival = try #require((0..<10_000).map { KeyName("key:\($0)") }.first { $0.bucket == bucket })
        let other = try #require((0..<10_000).map { KeyName("key:\($0)") }.first { $0.bucket != bucket })
        _ = try await merger.ingest(
            agents[0],
            reply([
                entry("new", reads: 900), entry("\(rival)", reads: 300), entry("\(other)", reads: 200),
            ]), at: start)
        _ = try await decisions(merger)
        // As long as nothing may cool nobody leaves.
        let keys = [KeyName("new")]
        #expect(await merger.makeRoom(for: keys, at: start + .milliseconds(900)) == [])
        for slice in 11...120 as ClosedRange<UInt64> {
            let now = start + .milliseconds(100 * Int64(slice))
            _ = try await merger.ingest(
                agents[0],
                reply(
                    sequences: slice...slice,
                    [entry("new", reads: 900), entry("\(rival)", reads: 300), entry("\(other)", reads: 200)]), at: now)
            _ = await merger.decide(rules: .standard, at: now + .milliseconds(5))
        }
        // Nor while most agents are not heard, nor one that has no record itself.
        await merger.expect(agents: 3)
        #expect(await merger.makeRoom(for: keys, at: start + .seconds(12)) == [])
        await merger.expect(agents: 1)
        #expect(await merger.makeRoom(for: keys, absent: [rival], at: start + .seconds(12)) == [])
        #expect(await merger.makeRoom(for: keys, at: start + .milliseconds(13_000)) == [.remove(rival)])
        #expect(await merger.makeRoom(for: keys, at: start + .milliseconds(13_000)) == [])
    }

    @Test func framesOfAnAgentThatRegistersAgainCountOnce() async throws {
        let merger = await merger()
        let frames = try reply([entry("k", reads: 60)])
        _ = try await merger.ingest(agents[0], frames, at: start)
        await merger.forget(agents[0])
        await merger.setWanted(Set(agents))
        let again = try await merger.ingest(agents[0], frames, at: start)
        #expect(again.counted == 0 && again.repeated == 10)
    }

    /// The agent has left the registry and lives on: what was asked of it before is answered up to 100 ms later.
    @Test func whatComesAfterAnAgentHasLeftIsDropped() async throws {
        let merger = await merger()
        _ = try await merger.ingest(agents[0], reply(epoch: 7), at: start)
        _ = try await merger.ingest(agents[1], reply(epoch: 7), at: start)
        await merger.forget(agents[0])
        await merger.forget(agents[1])
        for agent in agents.prefix(2) {
            let late = try await merger.ingest(agent, reply(epoch: 7, sequences: 11...11), at: start)
            #expect(late.counted == 0 && late.duplicateOf == nil)
            #expect(await merger.position(of: agent).epoch == nil)
        }
        #expect(await merger.live(.top(1), at: start).agentCount == 0)
        #expect(await merger.duplicateCount == 0)
        // Another id that leads to the same agent is not taken for a second one.
        #expect(try await merger.ingest(agents[2], reply(epoch: 7, sequences: 11...11), at: start).counted == 1)
    }

    @Test func busyKeysDoNotGatherWhileSomebodyElseDecides() async throws {
        let merger = await merger()
        _ = try await merger.ingest(agents[0], reply(sequences: 1...5, [entry("k", reads: 200)]), at: start)
        await merger.decideNothing()
        let idle = try await merger.ingest(agents[0], reply(sequences: 6...6), at: start + .milliseconds(100))
        #expect(!idle.mayShowHeat)
        let next = try await merger.ingest(
            agents[0], reply(sequences: 7...7, [entry("k", reads: 200)]), at: start + .milliseconds(200))
        #expect(next.mayShowHeat)
        #expect(await merger.decide(rules: .standard, at: start + .milliseconds(300)).map(\.key) == ["k"])
    }

    /// The ensemble's clock was an hour behind when the leadership began.
    @Test func aKeyIsDatedByTheClockOfTheTurn() async throws {
        let clock = Timestamp.now
        let merger = await merger(clock: clock.advanced(byMilliseconds: -3_600_000))
        _ = try await merger.ingest(agents[0], reply([entry("k", reads: 200)]), at: start)
        var since: [Timestamp] = []
        for slice in 1...10 as ClosedRange<Int64> where since.isEmpty {
            let now = clock.advanced(byMilliseconds: 100 * slice)
            for case .set(let record) in await merger.decide(
                rules: .standard, clock: now, at: start + .milliseconds(100 * slice))
            {
                since.append(record.since)
                // And shown a minute later it has the same.
                let live = await merger.live(
                    .key(record.key.bytes), clock: now.advanced(byMilliseconds: 60_000),
                    at: start + .milliseconds(100 * slice + 60_000))
                #expect(live.keys.map(\.since) == [record.since])
            }
        }
        let found = try #require(since.first)
        #expect((0...1_000).contains(found.millisecondsSince1970 - clock.millisecondsSince1970))
    }

    @Test func ofAnUnknownAgentEverythingIsAskedFor() async throws {
        let position = await merger().position(of: agents[0])
        #expect(position.epoch == nil)
        #expect(position.sequence == 0)
    }

    @Test func aRestartedAgentStartsAnew() async throws {
        let merger = await merger()
        #expect(try await merger.ingest(agents[0], reply(epoch: 1), at: start).counted == 10)
        #expect(await merger.position(of: agents[0]) == (1, 10))
        let again = try await merger.ingest(agents[0], reply(epoch: 2, sequences: 1...3), at: start)
        #expect(again.counted == 3)
        #expect(again.missing == 0)
        #expect(await merger.position(of: agents[0]) == (2, 3))
    }

    @Test func oneAgentUnderTwoIDsIsCountedOnce() async throws {
        let merger = await merger()
        // Twice 600 a second would be over the threshold of 1,000.
        let both = try reply(epoch: 7, [entry("once", reads: 60), entry("hot", reads: 200)])
        #expect(try await merger.ingest(agents[0], both, at: start).counted == 10)
        for _ in 0..<3 {
            let again = try await merger.ingest(agents[1], both, at: start)
            #expect(again.counted == 0)
            #expect(again.duplicateOf == agents[0])
        }
        #expect(await merger.duplicateCount == 1)
        // It is asked on from there: from the beginning would be a pull after the other without a pause.
        #expect(await merger.position(of: agents[1]) == (7, 10))
        #expect(try await decisions(merger).map(\.key) == ["hot"])
        // The first goes on as if nothing was.
        #expect(try await merger.ingest(agents[0], reply(epoch: 7, sequences: 11...12), at: start).counted == 2)
    }

    @Test func ofTwoIDsOfOneAgentTheOneThatStaysIsCounted() async throws {
        let merger = await merger()
        _ = try await merger.ingest(agents[0], reply(epoch: 7), at: start)
        _ = try await merger.ingest(agents[1], reply(epoch: 7), at: start)
        await merger.forget(agents[0])
        let next = try await merger.ingest(agents[1], reply(epoch: 7, sequences: 11...12), at: start)
        #expect(next.counted == 2)
        #expect(next.duplicateOf == nil)
        #expect(await merger.duplicateCount == 0)
        // And an id whose address is put right is counted as the agent that it means.
        _ = try await merger.ingest(agents[2], reply(epoch: 7), at: start)
        #expect(await merger.duplicateCount == 1)
        #expect(try await merger.ingest(agents[2], reply(epoch: 8), at: start).counted == 10)
        #expect(await merger.duplicateCount == 0)
        await merger.setWanted(Set(agents))
        // A restarted agent gives its old epoch up.
        _ = try await merger.ingest(agents[1], reply(epoch: 9), at: start)
        #expect(try await merger.ingest(agents[0], reply(epoch: 7, sequences: 20...21), at: start).duplicateOf == nil)
        await merger.forget(agents[2])
        #expect(await merger.duplicateCount == 0)
    }

    @Test func framesThatNeverCameAreCounted() async throws {
        let merger = await merger()
        _ = try await merger.ingest(agents[0], reply(sequences: 1...2), at: start)
        let ingested = try await merger.ingest(agents[0], reply(sequences: 5...6), at: start)
        #expect(ingested.missing == 2)
        // The same frames once more are not counted twice.
        let repeated = try await merger.ingest(agents[0], reply(sequences: 5...6), at: start)
        #expect(repeated.counted == 0)
        #expect(repeated.repeated == 2)
    }

    @Test func anAgentThatLeftIsAskedForEverythingAgain() async throws {
        let merger = await merger()
        _ = try await merger.ingest(agents[0], reply(), at: start)
        await merger.forget(agents[0])
        #expect(await merger.position(of: agents[0]).sequence == 0)
    }

    @Test func aFrameThatIsNotOneIsRefusedWithoutBeingPassedOver() async throws {
        let merger = await merger()
        _ = try await merger.ingest(agents[0], reply(sequences: 1...2), at: start)
        let bad = ReportsReply(epoch: 1, lastSequence: 3, frames: [[0x48, 0x4b, 0x01]])
        let error = try await #require(throws: DetectionError.self) {
            _ = try await merger.ingest(agents[0], bad, at: start)
        }
        #expect(error.code == .malformedReport)
        #expect(error.message.contains("agent a"))
        #expect(await merger.position(of: agents[0]) == (1, 2))
    }
}
