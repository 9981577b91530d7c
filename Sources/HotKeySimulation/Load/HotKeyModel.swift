import HotKeyMitigation

/// What agents would do with one hot key: who answers a read, and what a write costs. The times of its policy, the placement and the
/// choice among copies are the data path's; the stores are reduced to until when they hold a value.
struct HotKeyModel {
    enum Answer: Sendable {
        case local, copy, home
    }

    private(set) var policy: HotKeyPolicy
    /// Home first.
    private let nodes: [Int]
    /// By agent: until when its memory holds the value.
    private var localUntil: [UInt64]
    /// By copy, from 0: until when it holds the value, and until when a tombstone.
    private var copyUntil: [UInt64]
    private var tombstoneUntil: [UInt64]
    /// Agents read copies once they have been invalidating them for a whole lifetime (`CopyReadGate`).
    private let copiesReadableFrom: UInt64

    init(policy: HotKeyPolicy, placement: Placement, agents: Int, now: UInt64) {
        self.policy = policy
        nodes = policy.key.withUnsafeBytes { placement.successors($0, count: 1 + policy.copies) }
        localUntil = policy.kind.usesLocalCache ? Array(repeating: 0, count: agents) : []
        copyUntil = Array(repeating: 0, count: nodes.count - 1)
        tombstoneUntil = copyUntil
        copiesReadableFrom = now + policy.copyLifetimeNanoseconds
    }

    mutating func read(
        agent: Int, access: TraceRequest.Access, now: UInt64, random: UInt64, loads: inout NodeLoads
    ) -> Answer {
        guard access.isRepeatable, policy.kind != .none else { return readHome(&loads) }
        if policy.kind.usesLocalCache {
            if now < localUntil[agent] { return .local }
            localUntil[agent] = now + policy.localLifetimeNanoseconds
        }
        guard policy.kind.usesCopies, access.isCopyRead, now >= copiesReadableFrom else { return readHome(&loads) }
        let chosen = TwoChoices.choose(
            count: nodes.count, random: random, score: { loads.score(nodes[$0]) }, usable: { _ in true })
        guard let chosen, chosen > 0 else { return readHome(&loads) }
        let copy = chosen - 1
        loads.addAfter(1, node: nodes[chosen])
        if now < copyUntil[copy] { return .copy }
        // Nothing there, or a tombstone: home is asked, and its value stored where nothing was.
        if now >= tombstoneUntil[copy] {
            loads.addAfter(1, node: nodes[chosen])
            copyUntil[copy] = now + policy.copyLifetimeNanoseconds
        }
        return readHome(&loads)
    }

    /// Home first, then a tombstone for every copy; every agent's memory is invalidated.
    mutating func write(count: UInt64, now: UInt64, loads: inout NodeLoads) {
        loads.addAfter(count, node: nodes[0])
        for agent in localUntil.indices { localUntil[agent] = 0 }
        let milliseconds = CopyLease.tombstoneLifetimeMilliseconds(
            copyLifetimeNanoseconds: policy.copyLifetimeNanoseconds)
        for copy in copyUntil.indices {
            loads.addAfter(count, node: nodes[copy + 1])
            copyUntil[copy] = 0
            tombstoneUntil[copy] = now + UInt64(milliseconds) * 1_000_000
        }
    }

    private func readHome(_ loads: inout NodeLoads) -> Answer {
        loads.addAfter(1, node: nodes[0])
        return .home
    }
}
