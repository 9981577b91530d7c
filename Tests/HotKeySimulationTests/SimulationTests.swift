import HotKeyDetection
import HotKeyMitigation
import HotKeyRegistry
import HotKeyRules
import HotKeySimulation
import Testing

private let second: UInt64 = 1_000_000_000

/// A fleet before three nodes, and requests made up for it.
private final class Replay {
    let simulation: Simulation
    let placement: Placement
    private let start: UInt64 = 1_700_000_000 * second + 123_456_789

    init(agents: Int = 1, nodeCapacity: Double? = nil, _ change: (inout Rule) -> Void = { _ in }) throws {
        var rule = Rule(pattern: "*")
        change(&rule)
        let nodes = (1...3).map { TopologyDocument.Node(name: "n\($0)", address: "10.0.0.\($0):6379") }
        placement = try Placement(registry: TopologyDocument(nodes: nodes))
        simulation = Simulation(
            rules: try RuleBook(RulesDocument(rules: [rule])), placement: placement, agentCount: agents,
            fleetCapMilliseconds: 5_000, seed: 7, nodeCapacityPerSecond: nodeCapacity)
    }

    /// A steady rate of one key, from and to seconds after the start.
    func steady(_ key: String, perSecond: UInt64, from: Double, to: Double, writes: Bool = false) throws {
        let step = second / perSecond
        var time = UInt64(from * 1e9)
        while time < UInt64(to * 1e9) {
            try access(key, at: time, writes: writes)
            time += step
        }
    }

    func access(
        _ key: String, at nanoseconds: UInt64, count: UInt32 = 1, writes: Bool = false, bytes size: Int = 0,
        misses: UInt32 = 0
    ) throws {
        let access = TraceRequest.Access(
            key: bytes(key), reads: writes ? 0 : count, writes: writes ? count : 0, replyBytes: size,
            misses: misses,
            isRepeatable: !writes,
            isCopyRead: !writes)
        try simulation.add(TraceRequest(nanoseconds: start + nanoseconds, accesses: [access]))
    }

    func home(_ key: String) -> Int { bytes(key).withUnsafeBytes { placement.home($0) } }
}

private func seconds(_ nanoseconds: UInt64?) -> Double { nanoseconds.map { Double($0) / 1e9 } ?? -1 }

@Suite struct SimulationTests {
    /// 2,000 accesses a second from second 5 to 15 over a threshold of 1,000: two full slices are over at 5.2 s, and 3 slices
    /// hold enough for short evidence by then; under 40 % of it from 15.6 s on.
    @Test func aKeyBecomesHotAtTheExpectedMomentAndCools() throws {
        let replay = try Replay {
            ($0.coolDownSeconds, $0.minimumHotSeconds) = (6, 3)
            $0.action = .cache
        }
        try replay.access("background", at: 0)
        try replay.steady("hot", perSecond: 2_000, from: 5, to: 15)
        try replay.steady("background", perSecond: 10, from: 15, to: 30)
        let result = try replay.simulation.finish()
        #expect(result.keys.map { String(decoding: $0.key, as: UTF8.self) } == ["hot"])
        let key = result.keys[0]
        #expect(key.spellCount == 1 && key.spells.count == 1)
        #expect(abs(seconds(key.spells[0].hotAt) - 5.2) < 0.11, "\(key.spells)")
        // The window falls under 400 accesses 800 ms after the last one; a third of the cool-down later it is shown, and gone after all of it.
        #expect(abs(seconds(key.spells[0].coolingAt) - 17.8) < 0.21, "\(key.spells)")
        #expect(abs(seconds(key.spells[0].coldAt) - 21.8) < 0.21, "\(key.spells)")
        #expect(key.peakPerSecond == 2_000 && key.kind == .read && key.home == replay.home("hot"))
        #expect(abs(seconds(key.hotNanoseconds) - 16.6) < 0.31)
        #expect(result.requests == 20_151 && result.reads == 20_151 && result.writes == 0)
        #expect(abs(seconds(result.durationNanoseconds) - 29.9) < 0.01)
        #expect(result.hotAtOnceMax == 1)
    }

    @Test func aKeyUnderTheThresholdStaysCold() throws {
        let replay = try Replay()
        try replay.steady("warm", perSecond: 900, from: 0, to: 10)
        #expect(try replay.simulation.finish().keys.isEmpty)
    }

    /// Nothing that agents share of a key is lost among them: each sees a tenth of the threshold.
    @Test func aKeyThatIsHotOnlyInSumIsFoundOverManyAgents() throws {
        let replay = try Replay(agents: 20)
        try replay.access("other", at: 0)
        try replay.steady("sum", perSecond: 2_000, from: 2, to: 8)
        let result = try replay.simulation.finish()
        #expect(result.keys.count == 1)
        #expect(abs(seconds(result.keys[0].spells[0].hotAt) - 2.2) < 0.31, "\(result.keys)")
    }

    /// A local lifetime of one second and one agent: home is asked once a second.
    @Test func aLocalCacheTakesTheReadsOffTheHome() throws {
        let replay = try Replay { $0.action = .cache }
        try replay.steady("hot", perSecond: 5_000, from: 0, to: 20)
        let result = try replay.simulation.finish()
        let (home, key) = (result.nodes[replay.home("hot")], result.keys[0])
        #expect(home.before.requests == 100_000 && home.before.peakPerSecond == 5_000)
        let untilHot = UInt64(seconds(key.spells[0].hotAt) * 5_000)
        #expect(home.after.requests >= untilHot && home.after.requests <= untilHot + 21, "\(home)")
        #expect(key.localReads + home.after.requests == 100_000)
        #expect(
            result.nodes.enumerated().allSatisfy { $0.offset == replay.home("hot") || $0.element.after.requests == 0 })
    }

    @Test func eachAgentHasAMemoryOfItsOwn() throws {
        let replay = try Replay(agents: 10) { $0.action = .cache }
        try replay.steady("hot", perSecond: 5_000, from: 0, to: 10)
        let result = try replay.simulation.finish()
        let (home, key) = (result.nodes[replay.home("hot")], result.keys[0])
        let untilHot = UInt64(seconds(key.spells[0].hotAt) * 5_000)
        let fills = home.after.requests - untilHot
        #expect((90...110).contains(fills), "\(fills) fills")
    }

    @Test func copiesSpreadTheReadsOverTheNodes() throws {
        let replay = try Replay {
            $0.action = .copies
            $0.copies = 2
        }
        try replay.steady("hot", perSecond: 6_000, from: 0, to: 20)
        let result = try replay.simulation.finish()
        // Two copies beside home, readable a lifetime after it became hot: a third each, within a tenth.
        #expect(result.nodes.allSatisfy { (1_800...2_200).contains($0.after.requests / 20) || $0.before.requests > 0 })
        let home = result.nodes[replay.home("hot")]
        #expect(home.after.requests < home.before.requests / 2)
        #expect(Double(result.keys[0].copyReads) > 0.55 * Double(result.keys[0].reads), "\(result.keys[0])")
    }

    /// 2,000 reads and 400 writes a second: over a tenth of the reads, so nothing is done.
    @Test func aWriteHotKeyIsLeftToItsHome() throws {
        let replay = try Replay()
        for slice in 0..<100 {
            let time = UInt64(slice) * second / 10
            for step in 0..<200 { try replay.access("hot", at: time + UInt64(step) * 500_000) }
            try replay.access("hot", at: time + second / 10 - 1, count: 40, writes: true)
        }
        let result = try replay.simulation.finish()
        #expect(result.keys.map(\.kind) == [.write])
        #expect(result.keys[0].localReads == 0 && result.keys[0].copyReads == 0)
        let home = result.nodes[replay.home("hot")]
        #expect(home.after == home.before && home.before.requests == 24_000)
    }

    /// Each write empties the memory of every agent and leaves a tombstone at each copy.
    @Test func writesOfAReadHotKeyCostTheirInvalidations() throws {
        let replay = try Replay {
            $0.action = .both
            $0.copies = 2
            $0.writeHotRatio = 1
        }
        try replay.steady("hot", perSecond: 4_000, from: 0, to: 5)
        for write in 0..<100 {
            try replay.steady("hot", perSecond: 4_000, from: 5 + Double(write) * 0.1, to: 5.1 + Double(write) * 0.1)
            try replay.access("hot", at: 5 * second + UInt64(write + 1) * second / 10, writes: true)
        }
        let result = try replay.simulation.finish()
        let others = result.nodes.indices.filter { $0 != replay.home("hot") }
        #expect(others.allSatisfy { result.nodes[$0].after.requests >= 100 })
        #expect(result.keys[0].writes == 100)
        // A read behind each write finds nothing in memory.
        #expect(result.keys[0].reads - result.keys[0].localReads >= 100, "\(result.keys[0])")
        #expect(Double(result.keys[0].localReads) > 0.9 * Double(result.keys[0].reads))
    }

    @Test func replyBytesMakeAKeyBigAndOnlyItsHostKeepsIt() throws {
        let replay = try Replay { $0.thresholdBytesPerSecond = 1 << 20 }
        for request in 0..<2_000 { try replay.access("big", at: UInt64(request) * 5_000_000, bytes: 64 << 10) }
        let result = try replay.simulation.finish()
        #expect(result.keys.map(\.kind) == [.big])
        #expect(result.keys[0].localReads > 0 && result.keys[0].copyReads == 0)
    }

    /// Its host says that it is missing for 250 ms at a time: eight agents ask for it four times a second each.
    @Test func missesMakeAKeyMissingAndOnlyItsHostKeepsIt() throws {
        let replay = try Replay(agents: 8)
        for slice in 0..<100 { try replay.access("gone", at: UInt64(slice) * second / 10, count: 300, misses: 290) }
        let result = try replay.simulation.finish()
        #expect(result.misses == 29_000)
        #expect(result.keys.map(\.kind) == [.missing])
        #expect(result.keys[0].copyReads == 0)
        let home = result.nodes[replay.home("gone")]
        #expect(home.before.requests == 30_000 && home.after.peakPerSecond <= 3_000)
        let asked = result.keys[0].reads - result.keys[0].localReads
        #expect((250...400).contains(asked), "\(asked)")
        #expect(result.keys[0].spells[0].sample.missesPerSecond > 0)
    }

    @Test(arguments: [(nil, nil), (40_000.0, 2_000), (4_000.0, 500), (4_000_000.0, nil)] as [(Double?, Int?)])
    func aShareOfWhatANodeCarriesIsAThreshold(nodeCapacity: Double?, threshold: Int?) throws {
        let replay = try Replay(nodeCapacity: nodeCapacity) {
            ($0.thresholdPerSecond, $0.thresholdShareOfNode, $0.thresholdFloorPerSecond) = (100_000, 0.05, 500)
        }
        try replay.steady("k", perSecond: 3_000, from: 0, to: 2)
        let result = try replay.simulation.finish()
        #expect(result.keys.map(\.thresholdPerSecond) == (threshold.map { [$0] } ?? []))
    }

    /// A day without a request is skipped, not lived through; and what was there before is not taken for what is there after.
    @Test func aLongPauseCostsNothingAndEndsEveryHeat() throws {
        let replay = try Replay { ($0.coolDownSeconds, $0.minimumHotSeconds, $0.reentrySeconds) = (1, 1, 5) }
        try replay.steady("hot", perSecond: 2_000, from: 0, to: 3)
        let day = UInt64(86_300) * second
        try replay.steady("hot", perSecond: 2_000, from: Double(day / second), to: Double(day / second) + 2)
        let result = try replay.simulation.finish()
        let spells = result.keys[0].spells
        #expect(spells.count == 2)
        #expect(seconds(spells[0].coldAt) < 6)
        #expect(seconds(spells[1].hotAt) > 86_300 && seconds(spells[1].hotAt) < 86_300.6, "\(spells)")
    }

    @Test func timesThatCannotFollowAreRefused() throws {
        let replay = try Replay()
        try replay.access("k", at: 10 * second)
        try replay.access("k", at: 10 * second - 900_000_000)
        #expect { try replay.access("k", at: 8 * second) } throws: {
            "\($0)" == "expected a trace sorted by time (sort -n FILE…), found a step back by 2000 ms"
        }
        #expect { try replay.access("k", at: 100_000 * second) } throws: {
            "\($0)".contains("expected times in seconds, at most 86400 from one request to the next")
        }
        let result = try replay.simulation.finish()
        #expect(result.requests == 2 && result.backwardRequests == 1)
    }

    @Test func anEmptyTraceHasNoResult() throws {
        let result = try Replay().simulation.finish()
        #expect(result.requests == 0 && result.keys.isEmpty && result.nodes.count == 3)
    }
}
