import HotKeyMitigation
import HotKeyRegistry
import HotKeyRules
import Testing

@testable import HotKeyAgent

@Suite struct CopyPlanTests {
    private static let second: UInt64 = 1_000_000_000

    /// A coordinator whose publications everybody sees at once.
    private final class Fleet {
        var plan: CopyPlan
        var registry: RegistrySnapshot
        var rules: RuleBook
        var placeCount = 3
        var now: UInt64 = 10 * CopyPlanTests.second

        init(_ registry: RegistrySnapshot, _ rules: RuleBook) {
            self.registry = registry
            self.rules = rules
            plan = CopyPlan(published: registry.hot, now: now)
        }

        var situation: CopyPlan.Situation {
            .init(registry: registry, rules: rules, placeCount: placeCount, clock: noon, now: now)
        }

        func turn(_ updates: [HotUpdate] = [], heats: [KeyName: CopyPlan.Heat] = [:]) {
            _ = plan.heatQuestion(updates, situation)
            for update in plan.turn(updates, heats: heats, situation) {
                switch update {
                case .set(let record): registry.hot[record.key] = record
                case .remove(let key): registry.hot[key] = nil
                }
            }
        }

        /// Lets time pass, with all work done.
        func pass(_ seconds: UInt64) -> [CopyLifecycle.Job.Work] {
            var work: [CopyLifecycle.Job.Work] = []
            for _ in 0..<(seconds * 10) {
                now += CopyPlanTests.second / 10
                turn()
                for job in plan.due(now: now, jobsMax: 99) {
                    work.append(job.work)
                    plan.done(job, succeeded: true, now: now)
                }
            }
            turn()
            return work
        }

        func state(_ key: KeyName) -> ManagedCopies? { registry.hot[key].flatMap { ManagedCopies($0) } }
    }

    @Test func aKeysRecordFollowsItsCopiesFromHotToCold() throws {
        let fleet = Fleet(registry(), try book())
        fleet.turn([.set(record("a"))])
        // Three nodes have room for two copies.
        #expect(fleet.registry.hot["a"]?.copies == 2 && fleet.registry.hot["a"]?.copyState == .warming)
        #expect(fleet.pass(3) == [.fill(copies: 2)])
        #expect(fleet.registry.hot["a"]?.copyState == .ready)
        fleet.turn([.set(record("a", .cooling))])
        #expect(fleet.registry.hot["a"]?.state == .cooling && fleet.registry.hot["a"]?.copyState == .ready)
        fleet.turn([.remove("a")])
        let leaving = try #require(fleet.registry.hot["a"])
        #expect(leaving.isOnlyOfCopies && leaving.copyState == .leaving)
        #expect(!leaving.state.isActedUpon)
        #expect(fleet.pass(3) == [.remove(1...2)])
        #expect(fleet.registry.hot.isEmpty)
        #expect(fleet.plan.counts.isEmpty)
    }

    @Test func aPinnedKeyHasARecordOfItsCopiesOnly() throws {
        let fleet = Fleet(registry(pins: [pin("a", copies: 1)]), try book())
        fleet.turn()
        #expect(fleet.pass(3) == [.fill(copies: 1)])
        let record = try #require(fleet.registry.hot["a"])
        #expect(record.isOnlyOfCopies && record.copies == 1 && record.copyState == .ready)
        let acting = ActingPlan(snapshot: fleet.registry, local: [], rules: fleet.rules, at: noon)
        #expect(acting.keys["a"]?.state == .pinned && acting.keys["a"]?.record == nil)
        #expect(acting.keys["a"]?.copyState == .ready && acting.keys["a"]?.policy.readsCopies == true)
        fleet.registry.pins = PinsDocument()
        fleet.turn()
        #expect(fleet.registry.hot["a"]?.copyState == .leaving)
        #expect(fleet.pass(3) == [.remove(1...1)])
        #expect(fleet.registry.hot.isEmpty)
    }

    @Test func aDenyEndsTheCopies() throws {
        let fleet = Fleet(registry(), try book())
        fleet.turn([.set(record("a"))])
        _ = fleet.pass(3)
        fleet.registry.pins = PinsDocument(denies: [pin("a")])
        // At once, whatever the record says still.
        #expect(ActingPlan(snapshot: fleet.registry, local: [], rules: fleet.rules, at: noon).keys.isEmpty)
        fleet.turn([.remove("a")])
        #expect(fleet.registry.hot["a"]?.copyState == .leaving)
        #expect(fleet.pass(3) == [.remove(1...2)])
        #expect(fleet.registry.hot.isEmpty)
    }

    @Test func whatIsNotToHaveCopiesHasNone() throws {
        for (kind, change) in [
            (HotKind.write, { _ in }), (.big, { _ in }), (.missing, { _ in }), (.read, { $0.action = .cache }),
            (.read, { $0.action = .observe }), (.read, { $0.copies = 0 }), (.read, { $0.stalenessCapMilliseconds = 0 }),
        ] as [(HotKind, (inout Rule) -> Void)] {
            let fleet = Fleet(registry(), try book(change))
            fleet.turn([.set(record("a", .hot, kind))])
            #expect(fleet.registry.hot["a"]?.copyState == nil, "\(kind)")
            #expect(fleet.pass(3) == [])
        }
        let alone = Fleet(registry(), try book())
        alone.placeCount = 1
        alone.turn([.set(record("a"))])
        #expect(alone.registry.hot["a"]?.copyState == nil)
        let observing = Fleet(registry(mode: .observe), try book())
        observing.turn([.set(record("a"))])
        #expect(observing.registry.hot["a"]?.copyState == nil)
    }

    @Test func anotherRuleChangesTheNumberOfCopiesOfEveryKey() throws {
        let fleet = Fleet(registry(), try book())
        fleet.placeCount = 9
        fleet.turn([.set(record("a")), .set(record("b"))])
        _ = fleet.pass(3)
        fleet.rules = try book { $0.copies = 1 }
        fleet.turn()
        #expect(fleet.state("a")?.copies == 1 && fleet.state("a")?.state == .ready)
        #expect(fleet.pass(3) == [.remove(2...3), .remove(2...3)])
        fleet.rules = try book { $0.copies = 5 }
        fleet.turn()
        #expect(fleet.state("b")?.copies == 5 && fleet.state("b")?.state == .warming)
        #expect(fleet.pass(3) == [.fill(copies: 5), .fill(copies: 5)])
    }

    @Test func theNumberFollowsTheHeatOnlyWhereTheRuleSaysSo() throws {
        let fleet = Fleet(
            registry(),
            try book {
                $0.copies = 8
                $0.copiesByHeat = true
            })
        fleet.placeCount = 12
        func heat(_ reads: Double, _ capacity: Double?) -> [KeyName: CopyPlan.Heat] {
            ["a": CopyPlan.Heat(readsPerSecond: reads, homeAccessesPerSecond: capacity)]
        }
        // A tenth of 30,000 for each place.
        fleet.turn([.set(record("a"))], heats: heat(11_000, 30_000))
        #expect(fleet.state("a")?.copies == 3)
        fleet.now += 6 * Self.second
        fleet.turn(heats: heat(80_000, 30_000))
        #expect(fleet.state("a")?.copies == 8, "never more than the rule allows")
        // Without a measure, what makes a key hot.
        let unmeasured = Fleet(fleet.registry, fleet.rules)
        unmeasured.registry.hot = HotRecords()
        unmeasured.plan = CopyPlan(published: [], now: unmeasured.now)
        unmeasured.placeCount = 12
        unmeasured.turn([.set(record("a"))], heats: heat(5_000, nil))
        #expect(unmeasured.state("a")?.copies == 4)
        // An operator's number goes before it.
        unmeasured.registry.pins = PinsDocument(pins: [pin("a", copies: 1)])
        unmeasured.turn(heats: heat(5_000, nil))
        #expect(unmeasured.state("a")?.copies == 1)
    }

    @Test func anotherCoordinatorGoesOnWithWhatIsPublished() throws {
        let fleet = Fleet(registry(pins: [pin("p")]), try book())
        fleet.turn([.set(record("a")), .set(record("b"))])
        _ = fleet.pass(3)
        fleet.turn([.remove("b"), .set(record("c"))])
        let states = ["a", "b", "c", "p"].map { fleet.state(KeyName(Array($0.utf8)))?.state }
        #expect(states == [.ready, .leaving, .warming, .ready])
        let next = Fleet(fleet.registry, fleet.rules)
        next.turn()
        #expect(["a", "b", "c", "p"].map { next.state(KeyName(Array($0.utf8)))?.state } == states)
        _ = next.pass(4)
        #expect(
            ["a", "b", "c", "p"].map { next.state(KeyName(Array($0.utf8)))?.state } == [.ready, nil, .ready, .ready])
    }

    @Test func copiesThatMayBeGoneAreFilledAgainAfterASuspension() throws {
        let fleet = Fleet(registry(), try book())
        fleet.turn([.set(record("a"))])
        _ = fleet.pass(3)
        fleet.plan.suspend()
        #expect(fleet.pass(2) == [.fill(copies: 2)])
        #expect(fleet.pass(2) == [])
    }

    @Test func anAgentAloneMakesCopiesOnlyWhileItHearsOfNoCoordinator() throws {
        let local = [LocalHotKey(key: "a", kind: .read, isCooling: false)]
        var snapshot = registry()
        snapshot.view = .fresh
        let reachable = ActingPlan(snapshot: snapshot, local: local, rules: .standard, at: noon)
        #expect(reachable.policies.map(\.copies) == [0] && reachable.policies.map(\.kind) == [.cache])
        snapshot.view = .stale(since: .now)
        let alone = ActingPlan(snapshot: snapshot, local: local, rules: .standard, at: noon)
        #expect(alone.policies.map(\.copies) == [3] && alone.policies.map(\.readsCopies) == [true])
    }

    @Test func agentsReadCopiesOfAManagedKeyOnlyWhenTheyAreReady() throws {
        for (state, reads) in [(CopyState.warming, false), (.ready, true), (.leaving, false), (nil, true)] {
            var hot = record("a", copies: 2)
            hot.copyState = state
            let plan = ActingPlan(snapshot: registry(hot: [hot]), local: [], rules: .standard, at: noon)
            #expect(plan.policies.map(\.readsCopies) == [reads])
            #expect(plan.policies.map(\.copies) == [2])
        }
        // An operator's wish for fewer holds at once, one for more when the coordinator has seen to it.
        for (wish, copies) in [(1, 1), (5, 2)] {
            var hot = record("a", copies: 2)
            hot.copyState = .ready
            let plan = ActingPlan(
                snapshot: registry(pins: [pin("a", copies: wish)], hot: [hot]), local: [], rules: .standard, at: noon)
            #expect(plan.policies.map(\.copies) == [copies])
        }
    }
}
