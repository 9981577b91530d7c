import HotKeyDetection
import HotKeyMitigation
import HotKeyRegistry
import HotKeyRules

/// One hot key as this agent acts on it.
struct ActingKey: Sendable, Hashable {
    enum State: String, Sendable, Hashable {
        case hot, cooling, pinned
    }
    var key: KeyName
    var state: State
    var kind: HotKind
    /// nil for keys that are only pinned, and for this agent's own decisions.
    var record: HotRecord?
    var pin: PinEntry?
    /// What the coordinator does about its copies.
    var copyState: CopyState?
    var action: Rule.Action
    var policy: HotKeyPolicy
    /// This agent's own counts alone make it hot; the coordinator has not spoken.
    var isLocalDecision: Bool
}

/// A key that this agent's own traffic alone makes hot.
struct LocalHotKey: Sendable, Hashable {
    var key: KeyName
    var kind: HotKind
    var isCooling: Bool
}

/// What the agent does, worked out from what it knows: registry and own counts in, policies out.
struct ActingPlan: Sendable {
    var mode: ControlDocument.Mode
    var keys: [KeyName: ActingKey]
    var denied: Set<KeyName>

    static let nothing = ActingPlan(mode: .off, keys: [:], denied: [])

    private init(mode: ControlDocument.Mode, keys: [KeyName: ActingKey], denied: Set<KeyName>) {
        self.mode = mode
        self.keys = keys
        self.denied = denied
    }

    init(snapshot: RegistrySnapshot, local: [LocalHotKey], rules: RuleBook, at now: Timestamp) {
        let cap = snapshot.control?.stalenessCapMilliseconds ?? ControlDocument().stalenessCapMilliseconds
        var keys: [KeyName: ActingKey] = [:]
        for (name, hot) in snapshot.effectiveHotSet(at: now) {
            let state: ActingKey.State =
                hot.pin != nil ? .pinned : hot.record?.state == .cooling ? .cooling : .hot
            keys[name] = Self.key(
                name, state, hot.kind, record: hot.record, pin: hot.pin, copies: hot.copies,
                hot.managedCopies?.state, rules, cap)
        }
        let pinned = Set((snapshot.pins?.pins ?? []).filter { !$0.isExpired(at: now) }.map(\.key))
        denied = Set((snapshot.pins?.denies ?? []).filter { !$0.isExpired(at: now) }.map(\.key)).subtracting(pinned)
        // Decisions that are somebody else's are not taken here either: nothing would ever end or confirm them.
        let ownDecisions = snapshot.isDetectionExternal ? [] : local
        for hot in ownDecisions where keys[hot.key] == nil && !denied.contains(hot.key) {
            // Copies are the coordinator's matter, which would not know of these; as long as nobody is heard of it, they are filled by
            // whoever finds them empty.
            var key = Self.key(
                hot.key, hot.isCooling ? .cooling : .hot, hot.kind, record: nil, pin: nil,
                copies: snapshot.view == .fresh ? 0 : nil, nil, rules, cap)
            key.isLocalDecision = true
            keys[hot.key] = key
        }
        self.keys = keys
        mode = snapshot.mode
    }

    private static func key(
        _ name: KeyName, _ state: ActingKey.State, _ kind: HotKind, record: HotRecord?, pin: PinEntry?, copies: Int?,
        _ copyState: CopyState?, _ rules: RuleBook, _ fleetCapMilliseconds: Int
    ) -> ActingKey {
        // A pinned key that no rule covers is treated by the rule that `hkctl init` writes.
        let rule = rules.rule(for: name.bytes) ?? Rule(pattern: "*")
        let policy = HotKeyPolicy(
            key: name.bytes, rule: rule, kind: kind, copies: copies, copyState: copyState,
            fleetCapMilliseconds: fleetCapMilliseconds)
        return ActingKey(
            key: name, state: state, kind: kind, record: record, pin: pin, copyState: copyState,
            action: Rule.Action(policy.kind),
            policy: policy, isLocalDecision: false)
    }

    /// In the order of the keys, so that the same plan makes the same table.
    var policies: [HotKeyPolicy] { keys.values.sorted { $0.key < $1.key }.map(\.policy) }

    /// What apps are told: the keys whose state differs from `old`, in the order of the keys.
    func changes(since old: ActingPlan) -> [(key: KeyName, state: String)] {
        Set(keys.keys).union(old.keys.keys).union(denied).union(old.denied).sorted().compactMap { key in
            let state = stateName(of: key)
            return state == old.stateName(of: key) ? nil : (key, state)
        }
    }

    /// As `HK.GET` names it.
    func stateName(of key: KeyName) -> String {
        keys[key]?.state.rawValue ?? (denied.contains(key) ? "denied" : "cold")
    }
}
