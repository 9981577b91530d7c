import HotKeyMitigation
import NIOCore
import RESP

/// The replicas of a Redis Cluster that `GET`s of hot keys may go to where the rule says so (`replicaReads`), as one event loop knows
/// them.
///
/// A replica is behind its primary, nobody knows how much. So every replica is asked, after its primary, how far it is
/// (``ReplicaFreshness``), and is read only for keys whose last write through this agent it is known to hold, and only within the
/// staleness cap. A missing key is always asked for at home: while a slot moves, the old primary's replicas have lost keys
/// that the new one holds.
final class ReplicaReads {
    final class Replica {
        /// With connections of its own, which have said `READONLY`: on those that commands for a primary take, one that has become
        /// a replica must go on redirecting.
        let node: NodeState
        fileprivate(set) var freshness = ReplicaFreshness()
        fileprivate var isAsked = false

        init(node: NodeState) { self.node = node }
    }

    private unowned let loop: ProxyLoop
    private unowned let cluster: ClusterState
    private var byPrimary: [ClusterAddress: [ClusterAddress: Replica]] = [:]
    /// When slots changed hands: what was proven before does not count.
    private var fencedAt: UInt64
    /// By hot key, when it was last written through this agent; or became hot, because what was written before was not noted.
    private var writtenAt: [[UInt8]: UInt64] = [:]
    private var ticksUntilQuestion = 0

    init(loop: ProxyLoop, cluster: ClusterState) {
        self.loop = loop
        self.cluster = cluster
        fencedAt = loop.now
    }

    func fence() { fencedAt = loop.now }

    /// The loop serves another table from now on.
    func adopt(_ new: HotKeyTable, old: HotKeyTable) {
        var kept: [[UInt8]: UInt64] = [:]
        for index in 0..<new.count {
            let key = new[index].key
            let isKnown = key.withUnsafeBytes { old.index(of: $0, hash: FastHash.hash($0, seed: old.seed)) } != nil
            kept[key] = (isKnown ? writtenAt[key] : nil) ?? loop.now
        }
        writtenAt = kept
    }

    /// The keys' writes are about to be acknowledged.
    func written(_ keys: [[UInt8]]) {
        for key in keys where loop.hotIndex(of: key) != nil { writtenAt[key] = loop.now }
    }

    /// The replicas that may be read for the hot key at `index` now.
    func readable(_ index: Int) -> [Replica] {
        let policy = loop.table[index]
        guard policy.readsReplicas else { return [] }
        let home = ClusterAddress(loop.home(policy.key).node)
        return byPrimary[home]?.values.filter { replica in
            guard replica.node.isUsable, let heldUntil = replica.freshness.heldUntil else { return false }
            return covers(replica, heldUntil: heldUntil, policy)
        } ?? []
    }

    /// Whether what this replica answers may be handed out now.
    /// - Parameter heldUntil: as it was when the replica was asked. What is proven later says nothing about an earlier answer.
    func covers(_ replica: Replica, heldUntil: UInt64, _ policy: HotKeyPolicy) -> Bool {
        // A replica that was started again may have gone back in time.
        let fences = [fencedAt, writtenAt[policy.key] ?? 0, replica.node.copiesQuarantinedAt ?? 0]
        return ReplicaFreshness.covers(
            heldUntil: heldUntil, fencedAt: fences.max()!, ageMax: policy.copyLifetimeNanoseconds, now: loop.now)
    }

    /// It answered with an error: it is not asked again before it has proven anew how far it is.
    func refused(_ replica: Replica) { replica.freshness = ReplicaFreshness() }

    // MARK: Keeping up

    func tick(timeoutNanoseconds: UInt64) {
        for replicas in byPrimary.values {
            for replica in replicas.values { replica.node.tick(timeoutNanoseconds: timeoutNanoseconds) }
        }
        ticksUntilQuestion -= 1
        guard ticksUntilQuestion <= 0 else { return }
        ticksUntilQuestion = RedisProxyLimits.replicaQuestionTicks
        let wanted = wantedReplicas()
        let old = byPrimary
        byPrimary = [:]
        for (primary, addresses) in wanted {
            for address in addresses {
                byPrimary[primary, default: [:]][address] =
                    old[primary]?[address]
                    ?? Replica(
                        node: NodeState(
                            node: ProxyNode(name: address.text, host: address.host, port: address.port), loop: loop,
                            isReplica: true))
            }
        }
        for (primary, replicas) in old {
            for (address, replica) in replicas where byPrimary[primary]?[address] == nil { loop.letGo(replica.node) }
        }
        for primary in byPrimary.keys { ask(primary) }
    }

    private func wantedReplicas() -> [ClusterAddress: [ClusterAddress]] {
        var wanted: [ClusterAddress: [ClusterAddress]] = [:]
        for index in 0..<loop.table.count where loop.table[index].readsReplicas {
            let primary = ClusterAddress(loop.home(loop.table[index].key).node)
            if wanted[primary] == nil {
                wanted[primary] = Array(cluster.replicas(of: primary).prefix(RedisProxyLimits.replicasReadMax))
            }
        }
        return wanted
    }

    /// Asks a primary, and then its replicas.
    private func ask(_ address: ClusterAddress) {
        guard let primary = cluster.node(at: address) else { return }
        let askedAt = loop.now
        send(to: primary) { [weak self] info in
            guard let self, let info, info.isPrimary else { return }
            for replica in (byPrimary[address] ?? [:]).values {
                replica.freshness.primarySaid(offset: info.offset, history: info.history, askedAt: askedAt)
                askReplica(replica)
            }
        }
    }

    private func askReplica(_ replica: Replica) {
        guard !replica.isAsked else { return }
        replica.isAsked = true
        send(to: replica.node) { info in
            replica.isAsked = false
            guard let info, !info.isPrimary, info.isLinked else { return }
            replica.freshness.replicaSaid(offset: info.offset, history: info.history)
        }
    }

    private func send(to node: NodeState, then: @escaping (ReplicationInfo?) -> Void) {
        let request = ClosureRequest(isHousekeeping: true) { result in
            guard case .reply(let view, _) = result, case .bulk(let text)? = try? RESPValue(decoding: Array(view.bytes))
            else { return then(nil) }
            then(text.withUnsafeBytes { ReplicationInfo($0) })
        }
        let failure = infoReplication.withUnsafeReadableBytes { node.transmit($0, .request(request), .resp2) }
        if failure != nil { then(nil) }
    }

    func shutDown() {
        for node in takeNodes() { node.shutDown() }
    }

    /// Every replica's node, which are the caller's to let go now.
    func takeNodes() -> [NodeState] {
        defer { byPrimary = [:] }
        return byPrimary.values.flatMap { $0.values.map(\.node) }
    }
}

private let infoReplication = ByteBuffer(string: "*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n")
