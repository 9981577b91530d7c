import HotKeyMitigation
import Logging
import NIOCore
import RESP
import SocketIO

/// Everything one event loop owns: its clients, its connections to the nodes, its cache and its counters. Used on that loop
/// only, so nothing in it is locked.
///
/// The way of a request, all of it on one loop:
///
///     client ─▶ FrontSession: parse, reserve a reply slot, count the key
///                 │
///                 ├─ not hot ───────▶ NodeState ─▶ UpstreamConnection ─▶ cache node
///                 ├─ hot, read ─────▶ HotRead:  local cache │ a copy │ home
///                 ├─ hot, written ──▶ HotWrite: home, then every local cache and copy
///                 ├─ several keys ──▶ SplitJoin: one command a node
///                 ├─ all nodes ─────▶ NodeGather: the same command to every node
///                 ├─ SUBSCRIBE … ───▶ SubscriptionHub: one connection a node for all who listen
///                 ├─ carries state ─▶ BoundConnection: to the node, over a connection of its own
///                 └─ HK.…, CLIENT …─▶ answered here or by the agent
///     client ◀─ reply slots, in order ◀───────────────────────────────────┘
///
/// What gathers during one turn of the loop leaves at its end: one write for each client and each node.
final class ProxyLoop: TurnObserver {
    let index: Int
    let eventLoop: SocketEventLoop
    let configuration: ProxyConfiguration
    let logger: Logger
    let recorder: KeyAccessRecorder?
    /// ``recorder``, which keeps it.
    let borrowedRecorder: Borrowed<KeyAccessRecorder>?
    let agentCommands: any AgentCommandHandler
    let descriptors: DescriptorReserve
    /// The other loops of this process, the first one first; a write invalidates on all of them.
    var peers: [NIOLoopBound<ProxyLoop>] = []

    private(set) var now: UInt64 = 0
    var statistics = ProxyStatistics()
    var random: any RandomNumberGenerator

    var mode = ProxySnapshot.Mode.off
    /// nil until the first snapshot, after which a listener for apps opens; and before a Redis Cluster.
    var placement: Placement? {
        didSet { borrowedPlacement = placement.map(Borrowed.init) }
    }
    /// ``placement``, which keeps it.
    private(set) var borrowedPlacement: Borrowed<Placement>?
    /// Before a Redis Cluster: who serves which slot.
    var cluster: ClusterState?
    /// On the first event loop of the process: asks for the slots on behalf of all.
    var slotDiscovery: SlotDiscovery?
    var nodes: [NodeState] = [] {
        didSet {
            borrowedNodes = nodes.map(Borrowed.init)
            chooseRoutes()
        }
    }
    /// ``nodes``, which keeps them.
    private(set) var borrowedNodes: [Borrowed<NodeState>] = []
    /// What is done with the commands of apps, by ``CommandSpec/index``.
    private(set) var routes = CommandRoute.byIndex
    /// The same, before the configuration's denials.
    private(set) var allowedRoutes = CommandRoute.byIndex
    /// What is known ahead of commands of one key at a fixed place, which are nearly all; by ``CommandSpec/index``.
    private(set) var oneKeyCommands: [OneKeyCommand] = []
    /// Whether the agent stands before one node alone: then it is to be as transparent as a wire.
    private(set) var hasOneNode = false
    /// Nodes that a snapshot took away and that still owe replies.
    var leavingNodes: [NodeState] = []
    /// What is served now.
    var table = HotKeyTable.empty {
        didSet { servedCount = table.count }
    }
    private(set) var servedCount = 0
    /// The hot set where it is only observed; `nil` otherwise.
    var observed: ObservedMitigation? {
        didSet { isObserving = observed != nil }
    }
    private(set) var isObserving = false
    /// Tables whose keys a write must invalidate: what is served now, and while a snapshot changes what is served next.
    var fences: [HotKeyTable] = []
    /// A change of snapshot that waits for replies; nil when there is none.
    var preparing: EventLoopPromise<Void>?
    var cache: LocalCache<ByteBuffer>
    /// Which local hits are compared with home, and how many comparisons are under way.
    var hitSampler: HitSampler
    var stalenessProbesInFlight = 0
    /// By the index of ``table``.
    var readsHeld: [UInt64] = []
    /// Reads of values that are gone. By the index of ``table``, how many have been held; what is held now; when that is looked at; and which
    /// commands the first event loop knows to have brought a value.
    var missesHeld: [UInt64] = []
    var missHold = MissHold<HeldMiss>()
    var missTimer: Scheduled<Void>?
    var missTimerAt = UInt64.max
    var valuesTold = CommandsByKey()
    /// On the first event loop, for all; where the fleet only observes, each its own.
    var missTurns = MissTurns()
    /// By the index of ``table``.
    var gates: [CopyReadGate] = []
    /// Until when this loop deletes copies of hot keys where a change of places leaves them behind: one loop of one agent does.
    var managesCopiesUntil: UInt64 = 0
    var removesMovedCopies: Bool { now < managesCopiesUntil }
    /// Counts the changes of copies' places.
    var copyPlaceChanges: UInt64 { cluster?.copySlots.changes ?? 0 }
    /// Reads that wait for another's fill.
    var waiting: [FillToken: [WaitingRead]] = [:]

    var sessions: [ObjectIdentifier: FrontSession] = [:]
    /// Sessions that have ended, while connections to nodes still hold borrowed references to them.
    private var departed: [ObjectIdentifier: FrontSession] = [:]
    var subscribers: [String: [ObjectIdentifier: FrontSession]] = [:]
    /// What clients listen to on several nodes.
    private(set) lazy var hub = SubscriptionHub(loop: self)
    /// Which nodes tell of changes.
    private(set) lazy var tracking = TrackingHub(loop: self)
    /// How `SCAN` goes through the nodes.
    private(set) var scanOrder = ScanOrder(addresses: [])
    private var dirtySessions = TurnList<FrontSession>()
    private var dirtyConnections = TurnList<UpstreamConnection>()
    /// Sessions whose replies so far wait for the rest of them, the longest waiting first.
    private var heldSessions = TurnList<FrontSession>()
    private var tickTask: RepeatedTask?
    var ticksUntilIdleCheck = RedisProxyLimits.idleCheckTicks
    private(set) var isShutDown = false

    init(
        index: Int, eventLoop: SocketEventLoop, configuration: ProxyConfiguration, topology: ProxyTopology?,
        recorder: KeyAccessRecorder?, agentCommands: any AgentCommandHandler, logger: Logger,
        cacheBytes: Int, descriptors: DescriptorReserve, random: any RandomNumberGenerator
    ) {
        self.index = index
        self.eventLoop = eventLoop
        self.configuration = configuration
        self.recorder = recorder
        borrowedRecorder = recorder.map(Borrowed.init)
        self.agentCommands = agentCommands
        self.descriptors = descriptors
        self.logger = logger
        var random = random
        self.hitSampler = HitSampler(permille: configuration.cacheProbePermille, random: random.next())
        self.random = random
        self.placement = topology?.placement
        borrowedPlacement = placement.map(Borrowed.init)
        self.cache = LocalCache(capacityBytes: cacheBytes, valueBytesMax: configuration.cacheValueBytesMax)
        updateNow()
        nodes = (topology?.nodes ?? []).map { NodeState(node: $0, loop: self) }
        borrowedNodes = nodes.map(Borrowed.init)
        if let topology, topology.placement == nil { cluster = ClusterState(seeds: topology.nodes, loop: self) }
        chooseRoutes()
    }

    func chooseRoutes() {
        hasOneNode = nodes.count == 1 && cluster == nil
        allowedRoutes = hasOneNode ? CommandRoute.ofOneNode : CommandRoute.byIndex
        routes = configuration.deniedCommands.screening(allowedRoutes)
        oneKeyCommands = zip(CommandTable.redis70.commands, routes).map { OneKeyCommand($0, $1) }
        scanOrder = ScanOrder(addresses: nodes.map(\.node.address))
    }

    func start() {
        updateNow()
        eventLoop.setObserver(self)
        for node in nodes { node.warmUp() }
        if cluster != nil { discoverSlots() }
        let timeout = UInt64(configuration.requestTimeoutMilliseconds) * 1_000_000
        // The task holds the loop's state until ``shutDown()`` cancels it.
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        tickTask = eventLoop.scheduleRepeatedTask(
            initialDelay: .milliseconds(RedisProxyLimits.tickMilliseconds),
            delay: .milliseconds(RedisProxyLimits.tickMilliseconds)
        ) { _ in bound.value.tick(timeoutNanoseconds: timeout) }
    }

    private func tick(timeoutNanoseconds: UInt64) {
        updateNow()
        // Others than clients take descriptors, too.
        if index == 0 { _ = descriptors.isShort(now: now) }
        for node in cluster.map({ Array($0.known.values) }) ?? nodes {
            node.tick(timeoutNanoseconds: timeoutNanoseconds)
        }
        cluster?.replicaReads.tick(timeoutNanoseconds: timeoutNanoseconds)
        cluster?.copySlots.tick()
        slotDiscovery?.tick()
        for node in leavingNodes { node.checkTimeouts(timeoutNanoseconds: timeoutNanoseconds) }
        if !leavingNodes.isEmpty { endLeaving() }
        hub.tick()
        tracking.tick()
        closeIdleClientsIfDue()
    }

    func shutDown() {
        // First, so that what fails now is not tried again elsewhere.
        isShutDown = true
        preparing?.succeed()
        preparing = nil
        tickTask?.cancel()
        missTimer?.cancel()
        // What is held for the rest of a pipeline will have no other end of a turn.
        for session in heldSessions.take() { session.flush() }
        for session in Array(sessions.values) { session.close() }
        hub.shutDown()
        tracking.shutDown()
        for node in nodes + leavingNodes { node.shutDown() }
        cluster?.shutDown()
        slotDiscovery = nil
        // The nodes point back here.
        nodes = []
        leavingNodes = []
        peers = []
        eventLoop.setObserver(nil)
        (dirtySessions, dirtyConnections, heldSessions) = (TurnList(), TurnList(), TurnList())
    }

    /// Reads the clock; once for each batch of input, not once for each request.
    @inline(__always)
    func updateNow() { now = NIODeadline.now().uptimeNanoseconds }

    /// Whether keys are counted.
    var isCounting: Bool { mode != .off }

    // MARK: Scratch space

    private var scratch: ByteBuffer?

    /// An empty buffer, used again and again, so that nothing is allocated for a request.
    func takeScratch() -> ByteBuffer {
        defer { scratch = nil }
        return scratch ?? ByteBuffer()
    }

    func giveBack(_ buffer: ByteBuffer) {
        var buffer = buffer
        // A large command must not leave its memory behind.
        guard buffer.capacity <= RedisProxyLimits.copyBytesMax else { return }
        buffer.clear()
        scratch = buffer
    }

    // MARK: What leaves at the end of the turn

    @inline(__always)
    func markDirty(_ session: FrontSession) {
        dirtySessions.append(session)
        eventLoop.requestEndOfTurn()
    }

    @inline(__always)
    func markDirty(_ connection: UpstreamConnection) {
        dirtyConnections.append(connection)
        eventLoop.requestEndOfTurn()
    }

    func endOfTurn() {
        // Commands that waited in a client's input are looked at below, and nothing may have come in since the last tick.
        updateNow()
        // Flushing may make more (a client's paused commands are read on): that goes out with the next turn.
        let connections = dirtyConnections.take()
        for connection in connections { connection.flush() }
        dirtyConnections.giveBack(connections)
        let held = heldSessions.take()
        for session in held {
            let isOver = now - session.heldSince >= RedisProxyLimits.repliesHeldNanosecondsMax
            if !isOver, session.gainsByWaiting { heldSessions.append(session) } else { session.flush() }
        }
        heldSessions.giveBack(held)
        let sessions = dirtySessions.take()
        for session in sessions {
            if session.gainsByWaiting, heldSessions.count < RedisProxyLimits.heldSessionsMax {
                session.heldSince = now
                heldSessions.append(session)
            } else {
                session.flush()
            }
        }
        dirtySessions.giveBack(sessions)
        if let longest = heldSessions.first {
            let heldFor = min(now - longest.heldSince, RedisProxyLimits.repliesHeldNanosecondsMax)
            eventLoop.requestTurn(withinNanoseconds: RedisProxyLimits.repliesHeldNanosecondsMax - heldFor)
        }
    }

    // MARK: Clients

    /// False when there are too many: the caller refuses this one.
    func add(_ session: FrontSession) {
        sessions[ObjectIdentifier(session)] = session
        statistics.clientsConnected += 1
        statistics.clientsAccepted += 1
    }

    func remove(_ session: FrontSession) {
        guard sessions.removeValue(forKey: ObjectIdentifier(session)) != nil else { return }
        statistics.clientsConnected -= 1
        dropMisses(of: session)
        session.leaveEverything()
    }

    var departedCount: Int { departed.count }

    func keepWhileAwaiting(_ session: FrontSession) {
        if session.awaitedReplies > 0 { departed[ObjectIdentifier(session)] = session }
    }

    /// The last reply that it waited for has come.
    func dropDeparted(_ session: Borrowed<FrontSession>) {
        // It ends when the dictionary has been left, or its end would find it in the middle of a change.
        withExtendedLifetime(departed.removeValue(forKey: ObjectIdentifier(session.object))) {}
    }

    func subscribe(_ session: FrontSession, to channel: String) {
        subscribers[channel, default: [:]][ObjectIdentifier(session)] = session
    }

    func unsubscribe(_ session: FrontSession, from channel: String) {
        subscribers[channel]?[ObjectIdentifier(session)] = nil
    }

    func publish(_ message: [UInt8], to channel: String) {
        guard let sessions = subscribers[channel] else { return }
        let parts: [RESPValue] = [.bulk("message"), .bulk(channel), .bulk(message)]
        for session in sessions.values {
            session.push(ProxyReply.value(session.version == .resp3 ? .push(parts) : .array(parts), session.version))
        }
    }

    func currentStatistics() -> ProxyStatistics {
        var current = statistics
        current.cacheBytes = cache.usedBytes
        current.cacheEntries = cache.entryCount
        current.nodes = nodes.map { $0.currentStatistics() }
        tracking.add(to: &current)
        return current
    }
}
