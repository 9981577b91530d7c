import HotKeyMitigation
import NIOCore
import RESP

/// A Redis Cluster as one event loop knows it: its nodes, who serves which slot, and what became of that.
///
/// The slots come from ``SlotDiscovery``, for all event loops at once. Between two answers each loop puts right by itself what a
/// redirection shows to be old.
final class ClusterState {
    /// Where a command is sent again.
    enum Target: Hashable {
        case home
        /// - Parameter isAsking: for this one command only (`ASKING`).
        case node(ClusterAddress, isAsking: Bool)
    }

    private(set) var seeds: [ProxyNode]
    private unowned let loop: ProxyLoop
    /// Every node that this loop has to do with; ``ProxyLoop/nodes`` are the primaries among them.
    private(set) var known: [ClusterAddress: NodeState] = [:]
    private var owners = [NodeState?](repeating: nil, count: ClusterSlot.count)
    /// Who belongs to the cluster by its own word.
    private var members: Set<ClusterAddress> = []
    private var replicas: [ClusterAddress: [ClusterAddress]] = [:]
    private(set) lazy var replicaReads = ReplicaReads(loop: loop, cluster: self)
    private(set) lazy var copySlots = CopySlots(loop: loop, cluster: self)
    /// Whether the cluster has told its slots. Until then commands wait: a seed that is no node of a cluster would carry them out.
    private(set) var hasMap = false
    static let slotsAreUnknown =
        "CLUSTERDOWN no seed of the Redis Cluster has told its slots yet, nothing was sent; look at the addresses in the topology"
    private var lastNumber: UInt64 = 0
    private var slotsWantedAt: UInt64 = 0
    /// By slot, when it was last seen to be on its way to another node.
    private var movedAt: [Int: UInt64] = [:]
    private var troubles: [ClusterAddress: (since: UInt64, last: UInt64)] = [:]

    /// Takes over those of the loop's nodes that are seeds.
    init(seeds: [ProxyNode], loop: ProxyLoop) {
        self.seeds = seeds
        self.loop = loop
        for node in loop.nodes where seeds.contains(node.node) { known[ClusterAddress(node.node)] = node }
    }

    // MARK: Who serves what

    @inline(__always)
    func home(ofSlot slot: Int) -> NodeState { owners[slot] ?? anyNode(slot) }

    /// nil where that is not known, or nobody serves it.
    func owner(ofSlot slot: Int) -> NodeState? { owners[slot] }

    /// Of a slot that nobody serves: whoever it is says so, or who serves it now. The same one for the same slot, or commands of one
    /// client could overtake each other.
    private func anyNode(_ slot: Int) -> NodeState { loop.nodes[slot % loop.nodes.count] }

    /// As the cluster told them last.
    func replicas(of primary: ClusterAddress) -> [ClusterAddress] { replicas[primary] ?? [] }

    func node(for target: Target, slot: Int?) -> NodeState? {
        switch target {
        case .home: slot.map { home(ofSlot: $0) }
        // One that has left the cluster since is no place to ask.
        case .node(let address, _): node(at: address) ?? slot.map { home(ofSlot: $0) }
        }
    }

    /// nil when nobody has named it but a redirection, which anybody's script can forge: an agent connects only to what the
    /// cluster itself or its operator lists.
    func node(at address: ClusterAddress) -> NodeState? {
        if let node = known[address] { return node }
        let seed = seeds.first { ClusterAddress($0) == address }
        guard seed != nil || members.contains(address) else { return nil }
        let node = NodeState(
            node: seed ?? ProxyNode(name: address.text, host: address.host, port: address.port), loop: loop)
        known[address] = node
        return node
    }

    /// Who may be asked for the slots, the most promising first.
    func candidates() -> [ClusterAddress] {
        let now = loop.now
        func isWell(_ address: ClusterAddress) -> Bool {
            troubles[address].map { now - $0.last > RedisProxyLimits.troublePauseNanoseconds } ?? true
        }
        let primaries = loop.nodes.map { ClusterAddress($0.node) }.shuffled(using: &loop.random)
        let others = members.subtracting(primaries).sorted { ($0.host, $0.port) < ($1.host, $1.port) }
            .shuffled(using: &loop.random)
        let all = primaries + others + seeds.map { ClusterAddress($0) }
        return all.filter(isWell) + all.filter { !isWell($0) }
    }

    /// Takes what a node of the cluster said. What leads to a node that does not serve a slot any more is held back in the clients'
    /// inputs until what is out has been answered: a command that is still on its way to the old owner comes back redirected, and a
    /// later one on the way to the new owner would overtake it.
    func adopt(_ map: SlotMap) {
        hasMap = true
        members = map.members
        replicas = map.replicas
        var nodes: [NodeState] = []
        for address in map.primaries { if let node = node(at: address) { nodes.append(node) } }
        var isChanged = false
        for slot in owners.indices {
            let owner = map.owners[slot] == SlotMap.nobody ? nil : nodes[Int(map.owners[slot])]
            if owners[slot] !== owner {
                owners[slot] = owner
                isChanged = true
            }
        }
        if !nodes.elementsEqual(loop.nodes, by: { $0 === $1 }) {
            loop.nodes = nodes
            isChanged = true
            for node in nodes { node.warmUp() }
            loop.configuration.upstreamSecurity.problems.keep(nodes.map(\.node.name))
        }
        for (address, node) in known where !members.contains(address) {
            known[address] = nil
            troubles[address] = nil
            loop.letGo(node)
        }
        if isChanged {
            ownersChanged()
            // Nodes may have left.
            copySlots.planAnew()
        }
    }

    /// The operator names other places to ask. Until they have answered, what is known holds.
    func change(seeds: [ProxyNode]) { self.seeds = seeds }

    /// Whether commands for the slot are likely to be redirected.
    func isMoving(slot: Int) -> Bool {
        guard let at = movedAt[slot] else { return false }
        if loop.now - min(at, loop.now) <= RedisProxyLimits.slotMovingNanoseconds { return true }
        movedAt[slot] = nil
        return false
    }

    private func ownersChanged() {
        replicaReads.fence()
        copySlots.ownersChanged()
        holdClients()
        loop.hub.topologyChanged()
        loop.tracking.placesChanged()
    }

    func holdClients() {
        for session in loop.sessions.values { session.holdBehindReplies() }
    }

    /// Takes note of a redirection.
    /// - Returns: what it means for the command that it answers, and where that command goes then.
    func note(_ redirection: Redirection, from node: NodeState) -> (refusal: ResendDecision.Refusal, target: Target) {
        func place(_ host: String, _ port: Int64) -> ClusterAddress? {
            guard let address = ClusterAddress(host: host.isEmpty ? node.node.host : host, port: port),
                self.node(at: address) != nil
            else { return nil }
            return address
        }
        switch redirection {
        case .moved(let slot, let host, let port):
            wantSlots()
            guard let address = place(host, port), let owner = known[address] else { return (.elsewhereUnknown, .home) }
            if owners[slot] !== owner {
                owners[slot] = owner
                if !loop.nodes.contains(where: { $0 === owner }) { loop.nodes.append(owner) }
                ownersChanged()
            }
            return (.elsewhere, .home)
        case .ask(let slot, let host, let port):
            movedAt[slot] = loop.now
            guard let address = place(host, port) else {
                wantSlots()
                return (.elsewhereUnknown, .home)
            }
            return (.elsewhere, .node(address, isAsking: true))
        case .tryAgain: return (.tryAgain, .home)
        case .clusterDown:
            wantSlots()
            return (.clusterDown, .home)
        }
    }

    private func wantSlots(isUrgent: Bool = true) {
        // A node that is killed says so once for each command that was on its way.
        let pause =
            isUrgent ? RedisProxyLimits.slotRefreshPauseNanoseconds / 4 : RedisProxyLimits.troublePauseNanoseconds
        guard loop.now - min(loop.now, slotsWantedAt) >= pause else { return }
        slotsWantedAt = loop.now
        loop.wantSlots()
    }

    // MARK: Trouble

    /// A node was not reached.
    func noteTrouble(_ node: ProxyNode) {
        let address = ClusterAddress(node)
        let now = loop.now
        if let known = troubles[address], now - known.last < RedisProxyLimits.troublePauseNanoseconds {
            troubles[address]!.last = now
        } else {
            troubles[address] = (now, now)
        }
        if loop.nodes.contains(where: { $0.node == node }) {
            // A node that nobody replaces is found again by the refresh that comes anyway, if not by a redirection.
            wantSlots(isUrgent: mayFailOver(node))
        }
    }

    /// Whether the cluster may still be about to put another node in the place of one that was just found in trouble.
    func mayFailOver(_ node: ProxyNode) -> Bool {
        guard let trouble = troubles[ClusterAddress(node)] else { return false }
        return trouble.last - trouble.since < RedisProxyLimits.failoverNanosecondsMax
    }

    // MARK: Sending

    /// What ``NodeState/send(_:_:_:client:counter:)`` does before a Redis Cluster.
    func send(
        _ command: UnsafeRawBufferPointer, _ target: PendingReply.Target, _ version: ProtocolVersion, _ client: UInt64,
        _ counter: UInt64, to node: NodeState
    ) -> UpstreamFailure? {
        lastNumber += 1
        let request = ClusterRequest(
            loop: loop, for: target, version: version, client: client, counter: counter, command: Array(command),
            number: lastNumber)
        return request.start(to: node)
    }

    func shutDown() {
        replicaReads.shutDown()
        for node in known.values { node.shutDown() }
        known = [:]
        owners = [NodeState?](repeating: nil, count: ClusterSlot.count)
    }
}

extension ProxyLoop {
    /// Steps of ``changeTopology(_:)``.
    func enterCluster(seeds: [ProxyNode]) {
        if let cluster {
            guard cluster.seeds != seeds else { return }
            cluster.change(seeds: seeds)
        } else {
            for index in gates.indices { gates[index].fenced(at: now) }
            placement = nil
            let new = ClusterState(seeds: seeds, loop: self)
            cluster = new
            let old = nodes
            nodes = seeds.compactMap { new.node(at: ClusterAddress($0)) }
            for node in old {
                if nodes.contains(where: { $0 === node }) { node.part { _ in true } } else { letGo(node) }
            }
            for node in nodes { node.warmUp() }
            new.holdClients()
        }
        discoverSlots()
    }

    func leaveCluster() {
        guard let old = cluster else { return }
        old.holdClients()
        cluster = nil
        slotDiscovery = nil
        // One node alone is another matter than a cluster of one.
        chooseRoutes()
        for node in old.replicaReads.takeNodes() { letGo(node) }
        for node in old.known.values where !nodes.contains(where: { $0 === node }) { letGo(node) }
    }

    /// On the first event loop, which asks for all.
    func discoverSlots() {
        guard index == 0, let cluster else { return }
        slotDiscovery = SlotDiscovery(loop: self, seeds: cluster.seeds)
        slotDiscovery?.tick()
    }

    func wantSlots() {
        if let slotDiscovery { return slotDiscovery.wanted() }
        // In the order of the loops, this one left out.
        guard index > 0, let first = peers.first else { return }
        first.eventLoop.execute { first.value.slotDiscovery?.wanted() }
    }
}
