public import ZooKeeper

/// An ensemble, its clients and the network between them as one value: calls go in, deliveries come out, and a seed
/// decides the order of everything.
///
/// There is no task, no clock and no hash order in it: the same seed and the same calls give the same deliveries, so that
/// a seed that fails reproduces. Pure decision structs are driven against it directly: take what ``step(faults:)``
/// delivers, hand it to the struct of that client, make the calls that it asks for, step again.
///
/// What it keeps of ZooKeeper:
/// - One log of writes. Each server applies it in order, at its own pace; a client reads what its server has applied
///   (a prefix of the log), never less than what it has read before, on whichever server.
/// - A client's calls are executed in order; a read waits for the write before it; `sync` waits until the server has
///   applied everything that was in the log when it was asked.
/// - A watch fires once; its event is delivered before any reply that shows the change, and before the reply of the
///   own write that fired it. A watch that was missed while disconnected fires on the return, by the rules of
///   ZooKeeper's `setWatches` (what happened twice may be told once, and creation with deletion not at all).
/// - A broken connection loses what is on its way in either direction: a write may have happened or not.
/// - Ephemeral nodes go when the *ensemble* ends a session, which the client learns when it comes back.
///
/// And of ``ZooKeeperClient``: calls wait while there is no connection; reads that are hit by a broken one are repeated,
/// writes fail with `connectionLoss`; a lost session is followed by a new one; its watches fire `sessionLost`.
public struct SimulatedEnsemble: Sendable {
    public typealias ClientID = Int
    /// Stands for a call, and for the watch that it left.
    public typealias CallID = UInt64

    public enum Request: Sendable, Hashable {
        case get(String, watch: Bool)
        case exists(String, watch: Bool)
        case children(String, watch: Bool)
        case sync
        /// `one`, `multi` or `setAccessControl`.
        case write(ZnodeTree.Operation)
    }

    public enum Reply: Sendable, Hashable {
        case value(NodeValue)
        case stat(NodeStat?)
        case children(NodeChildren)
        case synced
        case written([StoreOperationResult])
    }

    public enum Delivery: Sendable, Hashable {
        case reply(ClientID, CallID, Result<Reply, StoreError>)
        /// The watch that the call left has fired; it is gone.
        case watch(ClientID, CallID, WatchEvent)
        case connection(ClientID, ConnectionState)

        public var client: ClientID {
            switch self {
            case .reply(let client, _, _), .watch(let client, _, _), .connection(let client, _): client
            }
        }
    }

    /// Probabilities of a fault in one step, each for one client that is picked at random.
    public struct FaultRates: Sendable, Hashable {
        /// The connection breaks.
        public var cut = 0.0
        /// The ensemble ends the session.
        public var expire = 0.0
        /// The client gives its session up by its own clock; the ensemble has it still, ephemeral nodes included, until
        /// a later step ends it.
        public var abandon = 0.0

        public init(cut: Double = 0, expire: Double = 0, abandon: Double = 0) {
            self.cut = cut
            self.expire = expire
            self.abandon = abandon
        }
    }

    enum Message: Sendable {
        case reply(CallID, Request, Result<Reply, StoreError>, transaction: Int64)
        case event(CallID, WatchEvent)
    }

    struct LeftWatch: Sendable {
        var kind: ZnodeReplica.WatchKind
        var path: String
        var onMissing: Bool
    }

    struct Client: Sendable {
        var identities: [ZnodeIdentity]
        var sessionID: Int64?
        var server: Int?
        /// The newest transaction that a reply has told of.
        var lastSeen: Int64 = 0
        /// Calls that wait for a connection.
        var waiting: [(CallID, Request)] = []
        /// Sent and not looked at by the server.
        var toServer: [(CallID, Request)] = []
        /// The call whose answer waits until the server has applied so many writes.
        var pending: (call: CallID, request: Request, appliedCount: Int)?
        var toClient: [Message] = []
        var watches: [CallID: LeftWatch] = [:]
    }

    /// A write that the ensemble has decided on, whether it succeeded or not.
    public struct Committed: Sendable {
        public var write: ZnodeTree.Write
        /// Who asked for it; nil for the ensemble itself.
        public var client: ClientID?
        public var transaction: Int64
        public var outcome: ZnodeTree.Outcome
    }

    struct Entry: Sendable {
        var write: ZnodeTree.Write
        var transaction: Int64
        var outcome: ZnodeTree.Outcome
        var client: ClientID?
        var call: CallID?
    }

    struct Server: Sendable {
        var replica = ZnodeReplica()
        var appliedCount = 0
    }

    /// Milliseconds since 1970, given to writes; the driver moves it.
    public var nowMilliseconds: Int64 = 0
    /// Servers that apply nothing for the time being and that nobody new connects to: their clients read what was
    /// then. ``settle(_:)`` lets them go on.
    public var pausedServers: Set<Int> = []
    /// What all committed writes give.
    public private(set) var committed = ZnodeTree()
    var servers: [Server]
    var clients: [Client] = []
    var log: [Entry] = []
    /// Sessions that clients have given up and the ensemble has not.
    var orphans: [Int64] = []
    var generator: SeededGenerator
    private var nextSession: Int64 = 1
    private var nextCall: CallID = 1

    public init(servers count: Int = 3, seed: UInt64) {
        precondition(count > 0)
        servers = Array(repeating: Server(), count: count)
        generator = SeededGenerator(seed: seed)
    }

    // MARK: Clients

    /// A client that is not connected yet; ``step(faults:)`` or ``connect(_:to:)`` does it.
    public mutating func addClient(as identities: [ZnodeIdentity] = []) -> ClientID {
        clients.append(Client(identities: identities))
        return clients.count - 1
    }

    public func isConnected(_ client: ClientID) -> Bool { clients[client].server != nil }
    public func sessionID(of client: ClientID) -> Int64? { clients[client].sessionID }
    public func server(of client: ClientID) -> Int? { clients[client].server }
    /// How many committed writes the client's server has not applied; `nil` without a connection.
    public func lag(of client: ClientID) -> Int? {
        clients[client].server.map { log.count - servers[$0].appliedCount }
    }

    /// Makes a call; its reply is among a later step's deliveries, exactly once.
    public mutating func call(_ client: ClientID, _ request: Request) -> CallID {
        let call = nextCall
        nextCall += 1
        if clients[client].server == nil {
            clients[client].waiting.append((call, request))
        } else {
            clients[client].toServer.append((call, request))
        }
        return call
    }

    /// Connects to a server, or to one that fits, picked at random. A server that has applied less than the client has
    /// seen refuses, and nothing happens.
    public mutating func connect(_ client: ClientID, to server: Int? = nil) -> [Delivery] {
        guard clients[client].server == nil else { return [] }
        var deliveries: [Delivery] = []
        if let session = clients[client].sessionID, !committed.sessions.contains(session) {
            deliveries += lose(client)
        }
        let fitting = servers.indices.filter { accepts($0, client) && (server ?? $0) == $0 }
        guard let chosen = fitting.randomElement(using: &generator) else { return deliveries }
        let session: Int64
        if let kept = clients[client].sessionID {
            session = kept
            clients[client].server = chosen
        } else {
            session = nextSession
            nextSession += 1
            append(.openSession, sessionID: session, client: nil, call: nil)
            // The server answers when it has applied the new session itself.
            while servers[chosen].appliedCount < log.count { applyNext(chosen) }
            clients[client].sessionID = session
            clients[client].server = chosen
        }
        deliveries.append(.connection(client, .connected(sessionID: session)))
        setWatches(client, session, chosen)
        clients[client].toServer = clients[client].waiting
        clients[client].waiting = []
        return deliveries
    }

    func accepts(_ server: Int, _ client: ClientID) -> Bool {
        !pausedServers.contains(server)
            && servers[server].replica.tree.lastTransaction >= clients[client].lastSeen
    }

    /// Leaves the client's watches on the server it came to, or fires what it missed.
    private mutating func setWatches(_ client: ClientID, _ session: Int64, _ server: Int) {
        for (call, watch) in clients[client].watches.sorted(by: { $0.key < $1.key }) {
            let missed = servers[server].replica.missedEvent(
                watch.kind, watch.path, sinceTransaction: clients[client].lastSeen, onMissing: watch.onMissing)
            if let missed {
                clients[client].toClient.append(.event(call, missed))
            } else {
                servers[server].replica.arm(
                    token: call, watch.kind, watch.path, sessionID: session, as: clients[client].identities)
            }
        }
    }

    /// The connection breaks; the session lives.
    public mutating func cut(_ client: ClientID) -> [Delivery] {
        guard let server = clients[client].server, let session = clients[client].sessionID else { return [] }
        servers[server].replica.dropWatches(sessionID: session)
        var hit: [(CallID, Request)] = []
        for case .reply(let call, let request, _, _) in clients[client].toClient { hit.append((call, request)) }
        if let pending = clients[client].pending { hit.append((pending.call, pending.request)) }
        hit += clients[client].toServer
        clients[client].server = nil
        clients[client].toClient = []
        clients[client].pending = nil
        clients[client].toServer = []
        var deliveries: [Delivery] = [.connection(client, .suspended)]
        for (call, request) in hit {
            if case .write = request {
                deliveries.append(
                    .reply(
                        client, call,
                        .failure(StoreError(.connectionLoss, message: "a write may have happened"))))
            } else {
                clients[client].waiting.append((call, request))
            }
        }
        return deliveries
    }

    /// The ensemble ends the session; the client learns it when it connects again.
    public mutating func expire(_ client: ClientID) -> [Delivery] {
        guard let session = clients[client].sessionID, committed.sessions.contains(session) else { return [] }
        let deliveries = cut(client)
        append(.closeSession, sessionID: session, client: nil, call: nil)
        return deliveries
    }

    /// The client gives its session up by its own clock. The ensemble ends it later: with ``endOrphan()`` or by a
    /// step's fault.
    public mutating func abandon(_ client: ClientID) -> [Delivery] {
        guard let session = clients[client].sessionID else { return [] }
        let deliveries = cut(client) + lose(client)
        if committed.sessions.contains(session) { orphans.append(session) }
        return deliveries
    }

    /// The client's process ends without a word and starts again: it makes none of its calls and hears of none, and leaves its
    /// session to the ensemble.
    public mutating func restart(_ client: ClientID) {
        _ = abandon(client)
        clients[client].waiting = []
    }

    /// The ensemble ends the session that was given up first. Returns whether there was one.
    @discardableResult
    public mutating func endOrphan() -> Bool {
        guard !orphans.isEmpty else { return false }
        append(.closeSession, sessionID: orphans.removeFirst(), client: nil, call: nil)
        return true
    }

    private mutating func lose(_ client: ClientID) -> [Delivery] {
        let watches = clients[client].watches.keys.sorted()
        clients[client].watches = [:]
        clients[client].sessionID = nil
        clients[client].lastSeen = 0
        return [.connection(client, .lost)] + watches.map { .watch(client, $0, .sessionLost) }
    }

    // MARK: Log

    public var committedCount: Int { log.count }

    /// The writes in the order of their transactions, from 0 on.
    public func committedWrite(_ index: Int) -> Committed {
        let entry = log[index]
        return Committed(
            write: entry.write, client: entry.client, transaction: entry.transaction, outcome: entry.outcome)
    }

    mutating func append(_ operation: ZnodeTree.Operation, sessionID: Int64, client: ClientID?, call: CallID?) {
        let write = ZnodeTree.Write(
            sessionID: sessionID, identities: client.map { clients[$0].identities } ?? [],
            timeMilliseconds: nowMilliseconds, operation: operation)
        let applied = committed.apply(write)
        log.append(
            Entry(
                write: write, transaction: applied.transaction, outcome: applied.outcome, client: client, call: call))
    }
}
