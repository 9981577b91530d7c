import HotKeyMitigation
import NIOCore

/// Taking a new snapshot in steps, so that guarantee 1 (a write acknowledged through the agent is seen by the next read through
/// it) holds across the change.
///
/// Were the new table simply swapped in, loop by loop, this could happen to a key that has just become hot:
///
///     loop 2 takes the new table, reads the key from home and keeps the value v1
///     loop 1, still on the old table, passes on a write of v2: not hot, so nothing is invalidated
///     the client reads on loop 2: v1
///
/// and this, even when all loops change at once:
///
///     a write of v2 leaves for home, not hot          (its reply is still to come)
///     the table changes; a read fills the cache: v1   (it overtook the write on another connection)
///     the write's reply comes; nothing is invalidated, because it left as an ordinary one
///     the client reads: v1
///
/// So: 1. every loop invalidates for the old table and the new one; 2. every command that left before that for the home of a
/// key that is served anew has been answered or has failed; 3. every loop serves the new table; 4. the old table's keys are no
/// longer invalidated.
extension ProxyLoop {
    /// Step 1. The future completes after step 2.
    func prepare(_ snapshot: ProxySnapshot) -> EventLoopFuture<Void> {
        updateNow()
        tracking.endJoining()
        fences = [table, snapshot.servedTable].filter { $0.count > 0 }
        if snapshot.mode != .mitigate { serve(.empty) }
        if snapshot.mode == .off { mode = .off }
        if snapshot.mode != .observe { observed = nil }
        let promise = eventLoop.makePromise(of: Void.self)
        let awaited = homes(ofKeysNewIn: snapshot.servedTable)
        guard !awaited.isEmpty else {
            promise.succeed()
            return promise.futureResult
        }
        preparing = promise
        var left = awaited.count
        for node in awaited {
            node.afterPending { [self] in
                left -= 1
                if left == 0, preparing?.futureResult === promise.futureResult { endPreparing() }
            }
        }
        return promise.futureResult
    }

    private func endPreparing() {
        preparing?.succeed()
        preparing = nil
    }

    /// Only writes of keys that are not invalidated for yet must be waited for, and they went to these nodes. So a node that
    /// hangs delays what becomes hot on it and nothing else.
    private func homes(ofKeysNewIn served: HotKeyTable) -> [NodeState] {
        var found: [NodeState] = []
        for index in 0..<served.count where found.count < nodes.count {
            let key = served[index].key
            guard hotIndex(of: key) == nil else { continue }
            let home = home(key)
            if !found.contains(where: { $0 === home }) { found.append(home) }
        }
        return found
    }

    /// At once, in the middle of another change too: nothing is counted, and nothing is served otherwise than by its home. Writes
    /// go on invalidating until the next ``settle()``: another loop may have its turn later and serve its values until then.
    func switchOff() {
        updateNow()
        mode = .off
        observed = nil
        serve(.empty)
        endPreparing()
    }

    /// Step 3.
    func activate(_ snapshot: ProxySnapshot) {
        updateNow()
        mode = snapshot.mode
        changeTopology(snapshot.topology)
        serve(snapshot.servedTable)
        chooseObserved(snapshot)
    }

    /// Step 4.
    func settle() {
        fences = table.count > 0 ? [table] : []
    }

    private func serve(_ new: HotKeyTable) {
        let old = table
        readsHeld = counts(readsHeld, in: new)
        missesHeld = counts(missesHeld, in: new)
        let oldGates = gates
        gates = (0..<new.count).map { index in
            let policy = new[index]
            let known = policy.key.withUnsafeBytes { key in
                old.index(of: key, hash: FastHash.hash(key, seed: old.seed))
            }
            if let known {
                var gate = oldGates[known]
                gate.adopt(copyLifetimeNanoseconds: policy.copyLifetimeNanoseconds, at: now)
                // A copy that the old policy did not have got no tombstones from this agent. Another agent that took the new
                // policy first may have filled it before a write that was acknowledged here.
                let isWider =
                    policy.kind.usesCopies && (!old[known].kind.usesCopies || old[known].copies < policy.copies)
                if isWider { gate.fenced(at: now) }
                return gate
            }
            var gate = CopyReadGate(copyLifetimeNanoseconds: policy.copyLifetimeNanoseconds)
            gate.fenced(at: now)
            return gate
        }
        table = new
        cache.adopt(table: new)
        cluster?.replicaReads.adopt(new, old: old)
        cluster?.copySlots.forget()
        keepMissTurns()
        letGoMissesOfOtherKeys()
    }

    func changeTopology(_ topology: ProxyTopology) {
        defer { tracking.placesChanged() }
        guard topology.placement != nil else { return enterCluster(seeds: topology.nodes) }
        leaveCluster()
        let isMoved = placement != topology.placement
        if isMoved, let placement { removeMovedCopies(from: placement, nodes, to: topology) }
        placement = topology.placement
        let isSameNodes = nodes.map(\.node) == topology.nodes
        // Copies lie by placement; which of them were written under the old one nobody knows. Another hash, tag or weight moves
        // them as another node does.
        if isMoved || !isSameNodes {
            for index in gates.indices { gates[index].fenced(at: now) }
        }
        defer {
            if isMoved { endBoundElsewhere() }
            if isMoved || !isSameNodes { hub.topologyChanged() }
        }
        guard !isSameNodes else { return }
        var known: [ProxyNode: NodeState] = [:]
        for state in nodes { known[state.node] = state }
        nodes = topology.nodes.map { node in known.removeValue(forKey: node) ?? NodeState(node: node, loop: self) }
        for node in nodes { node.warmUp() }
        configuration.upstreamSecurity.problems.keep(nodes.map(\.node.name))
        for removed in known.values { letGo(removed) }
    }

    /// A node that left answers what was sent to it; then its connections end.
    func letGo(_ removed: NodeState) {
        removed.part { _ in true }
        removed.leavingAt = now
        leavingNodes.append(removed)
        removed.afterPending { [self] in endLeaving() }
    }

    func endLeaving() {
        for node in leavingNodes where node.hasLeft(now) {
            leavingNodes.removeAll { $0 === node }
            node.shutDown()
        }
    }

    /// What waits for a write at a node that its keys have left would wait for ever: writes go elsewhere now. And a client that
    /// carries state on the only node does not carry it on several.
    private func endBoundElsewhere() {
        for node in nodes {
            node.part { keys in keys.map { $0.contains { home($0) !== node } } ?? !hasOneNode }
        }
    }
}
