import Testing

@testable import HotKeyDetection

/// One fusion with a clock, and what it published, second by second.
private struct Scene {
    var fusion: SourceFusion
    var now = milliseconds(1_000_000)
    /// The wall clock that candidates expire by.
    var wall: Int64 = 1_700_000_000_000
    var log: [String] = []
    var last: [String: FusedHeat] = [:]
    private var second = 0

    init(publishedKeysMax: Int = 10_000, _ change: (inout DetectionRule) -> Void = { _ in }) throws {
        fusion = SourceFusion(rules: try RuleSet([try .forAll(change)]), publishedKeysMax: publishedKeysMax)
    }

    mutating func list(_ source: String, _ grade: SourceGrade = .exact, _ candidates: SourceCandidate...) {
        sources[source] = SourceProposals(grade: grade, candidates: candidates)
        fusion.update(sources: sources)
    }

    mutating func remove(_ source: String) {
        sources[source] = nil
        fusion.update(sources: sources)
    }

    private var sources: [String: SourceProposals] = [:]

    func candidate(
        _ key: String, reads: Double, writes: Double = 0, bytes: Double = 0, misses: Double = 0, error: Double = 0,
        seconds: Int64 = 3_600
    ) -> SourceCandidate {
        SourceCandidate(
            key: Array(key.utf8), readsPerSecond: reads, writesPerSecond: writes, bytesPerSecond: bytes,
            missesPerSecond: misses, errorPerSecond: error, expiresAtMilliseconds: wall + seconds * 1_000)
    }

    /// What the tracker would say of a key.
    func report(
        _ key: String, _ state: HeatState, reads: Double = 0, kind: HeatKind = .read, error: Double = 0
    ) -> HeatChange {
        var sample = HeatSample.zero
        sample.readsPerSecond = reads
        sample.windowHeat = reads / 1_000
        sample.errorPerSecond = error
        sample.leastHeat = (reads - error) / 1_000
        sample.mostHeat = (reads + error) / 1_000
        return HeatChange(
            key: Array(key.utf8), state: state, kind: kind, cause: .threshold, sample: sample, sinceNanoseconds: now)
    }

    /// Decides ten times a second for so long; the log has "second key state kind sources".
    mutating func run(_ seconds: Int, agents: [HeatChange] = []) {
        var agents = agents
        for _ in 0..<max(1, seconds * 10) {
            now += milliseconds(100)
            wall += 100
            for change in fusion.decide(agents: agents, nowNanoseconds: now, wallMilliseconds: wall) {
                let at = "\((now - milliseconds(1_000_000)) / 1_000_000_000)"
                switch change {
                case .set(let heat):
                    last[String(decoding: heat.key, as: UTF8.self)] = heat
                    log.append(
                        "\(at) \(String(decoding: heat.key, as: UTF8.self)) \(heat.state) \(heat.kind) "
                            + heat.sources.joined(separator: "+"))
                case .remove(let key): log.append("\(at) \(String(decoding: key, as: UTF8.self)) cold")
                }
            }
            agents = []
        }
    }
}

@Suite struct SourceFusionTests {
    // MARK: Room

    /// Keys of the agents and of a source compete for the same places, by what is sure of the one and possible of the other.
    @Test func oneRankingHoldsOverAgentsAndSources() throws {
        var scene = try Scene(publishedKeysMax: 3)
        scene.run(
            1,
            agents: [
                scene.report("low", .hot, reads: 1_500), scene.report("unsure", .hot, reads: 1_200, error: 2_000),
                scene.report("high", .hot, reads: 9_000),
            ])
        #expect(scene.log == ["0 high hot read agents", "0 low hot read agents", "0 unsure hot read agents"])
        scene.log = []
        // Hotter than the coolest, but not by a quarter; then one that is, and one of which it is not sure.
        scene.list("flink", .exact, scene.candidate("equal", reads: 1_800))
        scene.run(30)
        #expect(scene.log == [])
        scene.list(
            "flink", .exact, scene.candidate("equal", reads: 1_800), scene.candidate("hot", reads: 3_000),
            scene.candidate("maybe", reads: 5_000, error: 3_900))
        scene.run(30)
        #expect(scene.log.map { $0.dropFirst(3) } == ["hot hot read flink", "low cold"])
        scene.log = []
        // Room again: the hottest of those that wait take it.
        scene.run(1, agents: [scene.report("high", .cold)])
        scene.run(10)
        #expect(Set(scene.log.map { $0.dropFirst(3) }) == ["high cold", "equal hot read flink"])
        #expect(scene.fusion.publishedCount == 3)
    }

    /// Keys whose agents are not heard look cool.
    @Test func noneLeavesForANewcomerWhileNothingMayCool() throws {
        var scene = try Scene(publishedKeysMax: 1)
        scene.run(1, agents: [scene.report("old", .hot, reads: 1_100)])
        func decide(mayCool: Bool, _ name: String) -> [FusedChange] {
            scene.now += milliseconds(10_000)
            return scene.fusion.decide(
                agents: [scene.report(name, .hot, reads: 9_000)], nowNanoseconds: scene.now,
                wallMilliseconds: scene.wall, mayCool: mayCool)
        }
        #expect(decide(mayCool: false, "new") == [])
        #expect(decide(mayCool: true, "new").map(\.key) == [bytes("new"), bytes("old")])
    }

    /// For more keys than room is looked for at once each has its turn.
    @Test func thoseThatFindNoRoomKeepNobodyElseWaiting() throws {
        var scene = try Scene()
        scene.run(
            1,
            agents: [
                scene.report("a-new", .hot, reads: 9_000), scene.report("a-more", .hot, reads: 8_000),
                scene.report("b-new", .hot, reads: 3_000), scene.report("b-old", .hot, reads: 1_100),
            ])
        let turns = (0..<3).map { _ in
            scene.fusion.makeRoom(
                for: ["a-new", "a-more", "b-new"].map { (bytes($0), Int(bytes($0)[0])) }, keysMax: 1,
                nowNanoseconds: scene.now, wallMilliseconds: scene.wall
            ) { ["a-new", "a-more"].map(bytes).contains($0) ? nil : Int($0[0]) }
        }
        #expect(turns == [[], [], [.remove(bytes("b-old"))]])
    }

    @Test func whatIsOnlyProposedGivesWayFirst() throws {
        var scene = try Scene(publishedKeysMax: 2)
        scene.list("scan", .estimate, scene.candidate("guess", reads: 90_000))
        scene.run(1, agents: [scene.report("one", .hot, reads: 1_100)])
        scene.run(1, agents: [scene.report("two", .hot, reads: 1_100)])
        #expect(
            scene.log == [
                "0 guess candidate read scan", "0 one hot read agents", "1 guess cold", "1 two hot read agents",
            ])
        scene.run(20)
        #expect(scene.log.count == 4)
    }

    /// What the registry keeps in one place is full: the coolest there leave, if they are cooler for sure.
    @Test func roomIsMadeWhereItIsMissing() throws {
        var scene = try Scene()
        scene.run(
            1,
            agents: [
                scene.report("a-cool", .hot, reads: 1_100), scene.report("a-unsure", .hot, reads: 1_050, error: 900),
                scene.report("b-coolest", .hot, reads: 1_000), scene.report("a-new", .hot, reads: 1_500),
            ])
        func room(for key: String, later: Int = 0, mayCool: Bool = true, absent: String = "") -> [FusedChange] {
            let name = Array(key.utf8)
            return scene.fusion.makeRoom(
                for: [(name, Int(name[0]))], nowNanoseconds: scene.now + milliseconds(later),
                wallMilliseconds: scene.wall, mayCool: mayCool
            ) { $0 == Array(absent.utf8) ? nil : Int($0[0]) }
        }
        // Nobody while most agents are not heard, and nobody who has no record and would leave no room.
        #expect(room(for: "a-new", mayCool: false) == [])
        #expect(room(for: "a-new", absent: "a-cool") == [])
        // Looked for again a while later.
        #expect(room(for: "a-new", later: 900) == [])
        #expect(room(for: "a-new", later: 1_000) == [.remove(Array("a-cool".utf8))])
        // There is nobody cooler left, and what left does not take the room back at once.
        #expect(room(for: "a-new", later: 6_100) == [])
        scene.now += milliseconds(1_000)
        scene.log = []
        scene.run(4)
        #expect(scene.log == [])
        scene.run(3)
        #expect(scene.log.count == 1 && scene.log[0].hasSuffix("a-cool hot read agents"))
    }

    @Test func anExactSourceMakesAKeyHotByItsLowerBound() throws {
        var scene = try Scene()
        scene.list(
            "flink", .exact, scene.candidate("at", reads: 990, writes: 10),
            scene.candidate("under", reads: 1_100, error: 101), scene.candidate("over", reads: 1_100, error: 100),
            scene.candidate("write", reads: 1_000, writes: 121), scene.candidate("big", reads: 1, bytes: 100e6))
        scene.run(60)
        #expect(
            scene.log == [
                "0 at hot read flink", "0 big hot big flink", "0 over hot read flink", "0 write hot write flink",
            ])
        #expect(scene.last["over"]?.readsPerSecond == 1_100 && scene.last["over"]?.errorPerSecond == 100)
    }

    @Test func aKeyThatIsMissingForOneIsMissing() throws {
        var scene = try Scene()
        scene.list("flink", .exact, scene.candidate("said", reads: 2_000, misses: 1_900))
        scene.run(1)
        scene.list(
            "flink", .exact, scene.candidate("said", reads: 2_000, misses: 1_900),
            scene.candidate("seen", reads: 3_000))
        scene.run(2, agents: [scene.report("seen", .hot, reads: 2_000, kind: .missing)])
        #expect(scene.log == ["0 said hot missing flink", "1 seen hot missing agents+flink"])
        #expect(scene.last["said"]?.missesPerSecond == 1_900)
    }

    /// Each look at the counters brings other rates.
    @Test func aProposedKeyKeepsItsKind() throws {
        var scene = try Scene()
        for look in 0..<10 {
            scene.list("scan", .estimate, scene.candidate("k", reads: 2_000, misses: look % 2 == 0 ? 0 : 2_000))
            scene.run(1)
        }
        #expect(scene.log == ["0 k candidate read scan"])
        scene.list("scan", .estimate, scene.candidate("k", reads: 2_000, writes: 1_000))
        scene.run(1)
        #expect(scene.log.last == "10 k candidate write scan")
    }

    @Test func whatExpiresCoolsByTheRule() throws {
        var scene = try Scene()
        scene.list("flink", .exact, scene.candidate("k", reads: 2_000, seconds: 40))
        scene.run(120)
        // Gone at 40 s: cooling after a third of the cool-down of 15 s, cold after it; the minimum of 30 s is over.
        #expect(scene.log == ["0 k hot read flink", "45 k cooling read flink", "55 k cold"])
    }

    @Test func aKeyStaysHotForTheMinimum() throws {
        var scene = try Scene()
        scene.list("flink", .exact, scene.candidate("k", reads: 2_000, seconds: 1))
        scene.run(60)
        #expect(scene.log == ["0 k hot read flink", "6 k cooling read flink", "30 k cold"])
    }

    @Test func aSourceThatGoesAndComesBackDoesNotFlap() throws {
        var scene = try Scene()
        let candidate = scene.candidate("k", reads: 2_000)
        for _ in 0..<20 {
            scene.list("flink", .exact, candidate)
            scene.run(3)
            scene.remove("flink")
            scene.run(4)
        }
        #expect(scene.log == ["0 k hot read flink"])
    }

    @Test func aRateBetweenLeavingAndEnteringKeepsWhatIs() throws {
        var scene = try Scene()
        scene.list("flink", .exact, scene.candidate("hot", reads: 1_500), scene.candidate("cold", reads: 900))
        scene.run(1)
        scene.list("flink", .exact, scene.candidate("hot", reads: 500), scene.candidate("cold", reads: 900))
        scene.run(120)
        #expect(scene.log == ["0 hot hot read flink"])
    }

    @Test func nothingIsAddedUp() throws {
        var scene = try Scene()
        // Two that may have counted the same traffic.
        scene.list("a", .exact, scene.candidate("k", reads: 900))
        scene.list("b", .exact, scene.candidate("k", reads: 900))
        scene.run(5)
        #expect(scene.log == [])
    }

    @Test func theLargestLowerBoundIsShown() throws {
        var scene = try Scene()
        scene.list("a", .exact, scene.candidate("k", reads: 5_000, error: 4_000))
        scene.list("b", .exact, scene.candidate("k", reads: 2_000, error: 10))
        scene.list("scan", .estimate, scene.candidate("k", reads: 9_000))
        scene.run(1)
        #expect(scene.log == ["0 k hot read b+a+scan"])
        #expect(scene.last["k"]?.readsPerSecond == 2_000)
        scene.run(1, agents: [scene.report("k", .hot, reads: 3_000)])
        #expect(scene.log.last == "1 k hot read b+a+scan+agents")
        #expect(scene.last["k"]?.readsPerSecond == 3_000)
    }

    @Test func anEstimateOnlyProposes() throws {
        var scene = try Scene()
        scene.list(
            "scan", .estimate, scene.candidate("k", reads: 5_000, error: 500, seconds: 60),
            scene.candidate("wide", reads: 5_000, error: 4_500))
        scene.run(10)
        #expect(scene.log == ["0 k candidate read scan"])
        // What counts the traffic confirms it, and ends it: the estimate keeps nothing hot.
        scene.run(10, agents: [scene.report("k", .hot, reads: 1_200)])
        #expect(scene.log.last == "10 k hot read scan+agents")
        #expect(scene.last["k"]?.readsPerSecond == 1_200)
        scene.run(10, agents: [scene.report("k", .cooling)])
        scene.run(10, agents: [scene.report("k", .cold)])
        scene.run(60)
        #expect(
            scene.log.suffix(3) == ["20 k cooling read scan+agents", "30 k candidate read scan+agents", "60 k cold"])
    }

    @Test func anEntrySaysWhoNamedIt() throws {
        var scene = try Scene()
        scene.run(1, agents: [scene.report("k", .hot, reads: 1_200)])
        // At whatever rate, and once: a source whose list changes to and fro is not published again and again.
        for _ in 0..<5 {
            scene.list("scan", .estimate, scene.candidate("k", reads: 3))
            scene.run(2)
            scene.remove("scan")
            scene.run(2)
        }
        #expect(scene.log == ["0 k hot read agents", "1 k hot read agents+scan"])
    }

    @Test func aKeyThatTheAgentsLetGoStaysHotBySource() throws {
        var scene = try Scene()
        scene.list("flink", .exact, scene.candidate("k", reads: 2_000, seconds: 40))
        scene.run(1, agents: [scene.report("k", .hot, reads: 1_200, kind: .write)])
        scene.run(1, agents: [scene.report("k", .cooling, kind: .write)])
        scene.run(1, agents: [scene.report("k", .cold)])
        #expect(scene.log == ["0 k hot write agents+flink", "2 k hot read agents+flink"])
        scene.run(60)
        #expect(scene.log.last == "55 k cold")
    }

    @Test func aDeniedKeyIsNotHotBySources() throws {
        var scene = try Scene()
        scene.list(
            "flink", .exact, scene.candidate("k", reads: 2_000), scene.candidate("other", reads: 2_000))
        scene.list("scan", .estimate, scene.candidate("p", reads: 2_000))
        scene.run(1)
        scene.fusion.update(denied: [Array("k".utf8): scene.wall + 20_000, Array("p".utf8): .max])
        scene.run(10)
        #expect(
            scene.log == [
                "0 k hot read flink", "0 other hot read flink", "0 p candidate read scan", "1 k cold", "1 p cold",
            ])
        // The deny ends by itself.
        scene.run(20)
        #expect(scene.log.last == "21 k hot read flink")
    }

    @Test func otherRulesJudgeAnew() throws {
        var scene = try Scene()
        scene.list("flink", .exact, scene.candidate("k", reads: 2_000))
        scene.run(40)
        scene.fusion.update(rules: try RuleSet([try .forAll { $0.thresholdPerSecond = 10_000 }]))
        scene.run(20)
        scene.fusion.update(rules: .empty)
        scene.run(1)
        #expect(scene.log == ["0 k hot read flink", "45 k cooling read flink", "55 k cold"])
        scene.fusion.update(rules: try RuleSet([try .forAll { $0.thresholdPerSecond = 100 }]))
        scene.run(1)
        #expect(scene.log.last == "61 k hot read flink")
    }

    @Test func aTakeoverEndsNothingBeforeTheSourcesAreRead() throws {
        var scene = try Scene()
        func adopted(_ key: String, _ state: HeatState, _ sources: [String]) -> FusedHeat {
            FusedHeat(
                key: Array(key.utf8), state: state, kind: .read, sources: sources, sinceNanoseconds: scene.now)
        }
        let ofAgents = scene.fusion.adopt(
            [
                adopted("a", .hot, ["agents"]), adopted("b", .hot, ["flink"]),
                adopted("ab", .cooling, ["agents", "flink"]),
                adopted("old", .hot, []), adopted("p", .candidate, ["scan"]),
            ], nowNanoseconds: scene.now)
        #expect(Set(ofAgents.map { String(decoding: $0.key, as: UTF8.self) }) == ["a", "ab", "old"])
        scene.run(9)
        #expect(scene.log == [])
        scene.list("flink", .exact, scene.candidate("b", reads: 2_000))
        scene.run(60, agents: [scene.report("ab", .cold), scene.report("a", .cold)])
        // What the agents let go leaves unless a source holds it; what no source names any more cools.
        #expect(scene.log.first == "9 a cold")
        #expect(scene.log.contains("10 p cold") && !scene.log.contains { $0.contains(" b ") })
        #expect(scene.log.last == "30 ab cold")
    }

    @Test func whatIsTooMuchIsLeftOut() throws {
        var scene = try Scene()
        let proposals = (0..<(DetectionLimits.proposedKeysMax + 10)).map {
            scene.candidate("p\($0)", reads: 2_000 + Double($0))
        }
        let many = (0..<DetectionLimits.sourceCandidatesMax).map { scene.candidate("m\($0)", reads: 1) }
        scene.fusion.update(sources: [
            "scan": SourceProposals(grade: .estimate, candidates: proposals),
            "many": SourceProposals(grade: .exact, candidates: many),
        ])
        #expect(scene.fusion.candidateCount == DetectionLimits.sourceCandidatesMax)
        // Of the estimates there is nothing left: what was counted comes first.
        #expect(scene.fusion.leftOutCount == proposals.count)
        scene.fusion.update(sources: ["scan": SourceProposals(grade: .estimate, candidates: proposals)])
        scene.run(1)
        #expect(scene.log.count == DetectionLimits.proposedKeysMax)
        #expect(scene.last["p0"] == nil && scene.last["p\(DetectionLimits.proposedKeysMax + 9)"]?.state == .candidate)
    }
}
