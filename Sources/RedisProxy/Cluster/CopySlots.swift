import HotKeyMitigation

/// The copies of hot keys in a Redis Cluster as one event loop knows them: in which slots, and so on which primaries, they lie
/// (``ClusterCopies``).
final class CopySlots {
    private struct Plan {
        var slots: [Int]
        var nodes: [NodeState]

        func isSame(_ other: Plan) -> Bool {
            slots == other.slots && nodes.elementsEqual(other.nodes, by: { $0 === $1 })
        }
    }

    private unowned let loop: ProxyLoop
    private unowned let cluster: ClusterState
    /// Of keys whose copies have been asked for.
    private var plans: [[UInt8]: Plan] = [:]
    /// Slots have changed hands since all was planned.
    private var isOld = false
    /// Counts the changes of any key's plan.
    private(set) var changes: UInt64 = 0

    init(loop: ProxyLoop, cluster: ClusterState) {
        self.loop = loop
        self.cluster = cluster
    }

    /// The primaries of copy 1, 2, …; at most `count`.
    func nodes(of key: [UInt8], count: Int) -> [NodeState] { Array(plan(of: key).nodes.prefix(count)) }

    /// nil when there is no such copy by what is known of the slots now.
    func name(of key: [UInt8], copy: Int) -> [UInt8]? {
        let slots = plan(of: key).slots
        guard slots.indices.contains(copy - 1) else { return nil }
        return ClusterCopies.name(key: key, copy: copy, slot: slots[copy - 1])
    }

    private func plan(of key: [UInt8]) -> Plan {
        if let known = plans[key] { return known }
        let new = made(for: key)
        // Keys that are hot no more are asked for once or twice, when their copies are deleted.
        if loop.hotIndex(of: key) != nil { plans[key] = new }
        return new
    }

    /// Of as many copies as there may ever be, so that another number changes no place.
    private func made(for key: [UInt8]) -> Plan {
        guard cluster.hasMap else { return Plan(slots: [], nodes: []) }
        let count = min(HotKeyMitigationLimits.copiesMax, loop.nodes.count - 1)
        let slots = ClusterCopies.slots(of: key, count: count) {
            cluster.owner(ofSlot: $0).map { ObjectIdentifier($0) }
        }
        return Plan(slots: slots, nodes: slots.compactMap { cluster.owner(ofSlot: $0) })
    }

    /// Redirections tell of slots that have changed hands. Until the next tick the copies are looked for where they were, and what is
    /// not there any more is redirected, which counts as missing: so a cluster that moves its slots one after the other does not have
    /// every key planned anew for each of them.
    func ownersChanged() { isOld = true }

    func tick() { if isOld { planAnew() } }

    /// What is in the copies that lie elsewhere now came there while nobody went by them, or came with its slot.
    func planAnew() {
        isOld = false
        for (key, old) in plans {
            let new = made(for: key)
            guard !new.isSame(old) else { continue }
            plans[key] = new
            changes &+= 1
            if let index = loop.hotIndex(of: key) { loop.gates[index].fenced(at: loop.now) }
            if loop.removesMovedCopies { clear(key, old, new) }
        }
    }

    /// Deletes what lies where no copy belongs any more; and overwrites what a node has that has taken another one's place.
    private func clear(_ key: [UInt8], _ old: Plan, _ new: Plan) {
        for (offset, slot) in old.slots.enumerated() {
            if new.slots.indices.contains(offset), new.slots[offset] == slot {
                guard new.nodes[offset] !== old.nodes[offset] else { continue }
                loop.retractCopy(offset + 1, of: key)
            } else if let owner = cluster.owner(ofSlot: slot) {
                loop.deleteCopy(ClusterCopies.name(key: key, copy: offset + 1, slot: slot), on: owner) { _ in }
            }
        }
    }

    /// The loop serves another table from now on.
    func forget() {
        plans = plans.filter { loop.hotIndex(of: $0.key) != nil }
    }
}
