import HotKeyDetection
import HotKeyMitigation
import HotKeyRegistry
import HotKeyRules
import Testing

@testable import HotKeyAgent

@Suite struct ActingPlanTests {
    private func plan(
        _ snapshot: RegistrySnapshot, local: [LocalHotKey] = [], rules: RuleBook = .standard, at now: Timestamp = noon
    ) -> ActingPlan {
        ActingPlan(snapshot: snapshot, local: local, rules: rules, at: now)
    }

    // MARK: Where a key's state comes from

    @Test func nothingKnownMeansAPlainProxyWithoutHotKeys() {
        let plan = plan(.none)
        #expect(plan.mode == .off)
        #expect(plan.keys.isEmpty)
        #expect(plan.denied.isEmpty)
        #expect(plan.policies.isEmpty)
    }

    @Test(arguments: ControlDocument.Mode.allCases)
    func theModeIsTheRegistrysAndKeysAreKeptForEveryMode(mode: ControlDocument.Mode) {
        // Switched off or only watched, the keys stay known: switching back on must not have to find them again.
        let plan = plan(registry(mode: mode, hot: [record("a")]))
        #expect(plan.mode == mode)
        #expect(plan.keys["a"]?.state == .hot)
    }

    @Test func publishedKeysAreActedUponWhenHotOrCoolingOnly() {
        let plan = plan(registry(hot: [record("hot"), record("cooling", .cooling), record("candidate", .candidate)]))
        #expect(plan.keys.mapValues(\.state) == ["hot": .hot, "cooling": .cooling])
        #expect(plan.keys["hot"]?.record?.readsPerSecond == 5_000)
        #expect(plan.keys["hot"]?.isLocalDecision == false)
    }

    @Test func aPinMakesAKeyHotAndKeepsItsRecord() {
        let plan = plan(registry(pins: [pin("a"), pin("b", copies: 1)], hot: [record("b", .cooling, copies: 5)]))
        #expect(plan.keys.mapValues(\.state) == ["a": .pinned, "b": .pinned])
        #expect(plan.keys["a"]?.record == nil)
        #expect(plan.keys["a"]?.pin?.reason == "launch")
        #expect(plan.keys["b"]?.record?.state == .cooling)
        // The pin's number of copies goes before the record's.
        #expect(plan.keys["b"]?.policy.copies == 1)
    }

    @Test func pinsAndDeniesEndWithTheirTime() {
        let snapshot = registry(
            pins: [pin("pinned", expiresAt: noon.advanced(byMilliseconds: 1))],
            denies: [pin("denied", expiresAt: noon.advanced(byMilliseconds: 1))], hot: [record("denied")])
        let before = plan(snapshot)
        #expect(Set(before.keys.keys) == ["pinned"])
        #expect(before.denied == ["denied"])
        let after = plan(snapshot, at: noon.advanced(byMilliseconds: 1))
        #expect(Set(after.keys.keys) == ["denied"])
        #expect(after.denied.isEmpty)
    }

    @Test func aDenyOverridesThePublishedStateAndTheAgentsOwnButNotAPin() {
        let plan = plan(
            registry(
                pins: [pin("both")], denies: [pin("published"), pin("local"), pin("both")], hot: [record("published")]),
            local: [LocalHotKey(key: "local", kind: .read, isCooling: false)])
        #expect(plan.keys.mapValues(\.state) == ["both": .pinned])
        #expect(plan.denied == ["published", "local"])
    }

    @Test func withExternalDetectionTheAgentsOwnDecisionsDoNotCount() {
        let plan = plan(
            registry(detection: .external, pins: [pin("pinned")], hot: [record("published")]),
            local: [LocalHotKey(key: "own", kind: .read, isCooling: false)])
        #expect(plan.keys.mapValues(\.state) == ["pinned": .pinned, "published": .hot])
    }

    @Test func theAgentsOwnDecisionHoldsUntilTheCoordinatorHasSpoken() {
        let local = [
            LocalHotKey(key: "new", kind: .read, isCooling: false),
            LocalHotKey(key: "going", kind: .big, isCooling: true),
            LocalHotKey(key: "published", kind: .read, isCooling: true),
        ]
        let plan = plan(registry(hot: [record("published", .hot, .write)]), local: local)
        #expect(plan.keys.mapValues(\.isLocalDecision) == ["new": true, "going": true, "published": false])
        #expect(plan.keys.mapValues(\.state) == ["new": .hot, "going": .cooling, "published": .hot])
        #expect(plan.keys.mapValues(\.kind) == ["new": .read, "going": .big, "published": .write])
        #expect(plan.keys["new"]?.policy.kind == .both)
    }

    // MARK: What is done with it

    @Test(arguments: [
        (Rule.Action.both, HotKind.read, MitigationKind.both), (.both, .big, .cache), (.both, .write, .none),
        (.copies, .read, .copies), (.copies, .big, .cache), (.copies, .write, .none),
        (.cache, .read, .cache), (.cache, .big, .cache), (.cache, .write, .none),
        (.both, .missing, .cache), (.copies, .missing, .cache), (.cache, .missing, .cache), (.observe, .missing, .none),
        (.observe, .read, .none), (.observe, .big, .none), (.observe, .write, .none),
    ])
    func theRulesActionIsWeighedWithTheKeysKind(
        action: Rule.Action, kind: HotKind, expected: MitigationKind
    ) throws {
        let snapshot = registry(hot: [record("k", .hot, kind)])
        let replicas = try book { ($0.action, $0.replicaReads) = (action, true) }
        #expect(plan(snapshot, rules: replicas).keys["k"]?.policy.readsReplicas == expected.usesCopies)
        let plan = plan(snapshot, rules: try book { $0.action = action })
        let key = try #require(plan.keys["k"])
        #expect(!key.policy.readsReplicas)
        #expect(key.policy.kind == expected)
        #expect(key.policy.copies == (expected.usesCopies ? 3 : 0))
        #expect(MitigationKind(key.action, .read) == expected)
    }

    @Test func thatAKeyIsMissingIsKeptForAMomentOnly() throws {
        func policy(_ kind: HotKind, capMilliseconds: Int) throws -> HotKeyPolicy {
            let rules = try book { $0.stalenessCapMilliseconds = capMilliseconds }
            return try #require(plan(registry(hot: [record("k", .hot, kind, copies: 5)]), rules: rules).keys["k"])
                .policy
        }
        let missing = try policy(.missing, capMilliseconds: 1_000)
        #expect(missing.localLifetimeNanoseconds == HotKeyMitigationLimits.missingLifetimeNanosecondsMax)
        // Whatever somebody wishes: there is nothing to copy.
        #expect(missing.copies == 0 && missing.copyLifetimeNanoseconds == 0)
        #expect(try policy(.missing, capMilliseconds: 100).localLifetimeNanoseconds == 100_000_000)
        #expect(try policy(.big, capMilliseconds: 1_000).localLifetimeNanoseconds == 1_000_000_000)
    }

    @Test func withoutCopiesOnlyTheCacheIsLeft() throws {
        let snapshot = registry(pins: [pin("none", copies: 0)])
        #expect(plan(snapshot).keys["none"]?.policy.kind == .cache)
        let onlyCopies = try book { $0.action = .copies }
        #expect(plan(snapshot, rules: onlyCopies).keys["none"]?.policy.kind == MitigationKind.none)
        let ruleWithout = try book { $0.copies = 0 }
        #expect(plan(registry(pins: [pin("k")]), rules: ruleWithout).keys["k"]?.policy.kind == .cache)
    }

    @Test func copiesComeFromPinThenRecordThenRuleAndAreBounded() throws {
        let rules = try book { $0.copies = 2 }
        let plan = plan(
            registry(
                pins: [pin("pin", copies: 4), pin("many", copies: RegistryLimits.copiesMax)],
                hot: [record("record", copies: 7), record("rule")]),
            rules: rules)
        #expect(
            plan.keys.mapValues(\.policy.copies)
                == ["pin": 4, "many": HotKeyMitigationLimits.copiesMax, "record": 7, "rule": 2])
    }

    @Test func theFleetsStalenessCapBoundsTheRules() throws {
        let rules = try book {
            $0.stalenessCapMilliseconds = 1_000
            $0.staleOnErrorCapSeconds = 1.5
        }
        func policy(fleetCapMilliseconds: Int) throws -> HotKeyPolicy {
            let snapshot = registry(stalenessCapMilliseconds: fleetCapMilliseconds, pins: [pin("k")])
            return try #require(plan(snapshot, rules: rules).keys["k"]).policy
        }
        // A value may pass through a copy into a cache, so the two lifetimes share the cap.
        let rule = try policy(fleetCapMilliseconds: 5_000)
        #expect(rule.localLifetimeNanoseconds + rule.copyLifetimeNanoseconds == 1_000_000_000)
        #expect(rule.localLifetimeNanoseconds > 0)
        #expect(rule.copyLifetimeNanoseconds > 0)
        let fleet = try policy(fleetCapMilliseconds: 400)
        #expect(fleet.localLifetimeNanoseconds + fleet.copyLifetimeNanoseconds == 400_000_000)
        let zero = try policy(fleetCapMilliseconds: 0)
        #expect(zero.localLifetimeNanoseconds + zero.copyLifetimeNanoseconds == 0)
        #expect(rule.staleOnErrorNanoseconds == 1_500_000_000)
    }

    @Test func aPinnedKeyThatNoRuleCoversIsTreatedByTheStandardRule() throws {
        let rules = try RuleBook(RulesDocument(rules: [Rule(pattern: "other:*", action: .observe, copies: 1)]))
        let key = try #require(plan(registry(pins: [pin("k")]), rules: rules).keys["k"])
        #expect(key.policy.kind == .both)
        #expect(key.policy.copies == Rule(pattern: "*").copies)
    }

    @Test func thePoliciesAreInTheOrderOfTheKeys() {
        let names = (0..<100).map { KeyName("key:\($0)") }
        let plan = plan(registry(pins: names.map { pin($0) }))
        #expect(plan.policies.map(\.key) == names.sorted().map(\.bytes))
    }

    // MARK: What apps are told

    @Test func appsAreToldOfEveryChangeOfState() {
        let old = plan(
            registry(pins: [pin("same")], hot: [record("cools"), record("goes"), record("forbidden")]))
        let new = plan(
            registry(
                pins: [pin("same"), pin("comes")], denies: [pin("forbidden"), pin("never hot")],
                hot: [record("cools", .cooling), record("forbidden")]))
        let changes = new.changes(since: old)
        #expect(changes.map(\.key) == ["comes", "cools", "forbidden", "goes", "never hot"])
        #expect(changes.map(\.state) == ["pinned", "cooling", "denied", "cold", "denied"])
        #expect(new.changes(since: new).isEmpty)
        #expect(old.changes(since: .nothing).map(\.state) == ["hot", "hot", "hot", "pinned"])
    }
}
