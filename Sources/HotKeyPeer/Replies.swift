/// The replies of the agent's own commands as both sides know them. On the wire they are JSON in one bulk string, except
/// `HK.REPORTS` (``ReportsReply``); `docs/hk-commands.md` describes them for everyone else.
///
/// Keys stand as in the registry's documents: a string where they are UTF-8, `{"b64":"…"}` where they are not (``PeerKey``).

/// `HK.STATUS`
public struct AgentStatus: Codable, Sendable, Hashable {
    public struct View: Codable, Sendable, Hashable {
        /// `fresh`, `stale` or `none`.
        public var state: String
        /// How long the view has been stale; 0 when fresh.
        public var ageMilliseconds: Int64
        public var epoch: Int64
        public var version: Int64

        public init(state: String, ageMilliseconds: Int64, epoch: Int64, version: Int64) {
            self.state = state
            self.ageMilliseconds = ageMilliseconds
            self.epoch = epoch
            self.version = version
        }
    }
    /// ZooKeeper's versions of the operators' documents that are in force; nil for one that is missing.
    public struct Documents: Codable, Sendable, Hashable {
        public var control: Int32?
        public var rules: Int32?
        public var pins: Int32?
        public var topology: Int32?

        public init(control: Int32?, rules: Int32?, pins: Int32?, topology: Int32?) {
            self.control = control
            self.rules = rules
            self.pins = pins
            self.topology = topology
        }
    }
    public struct Node: Codable, Sendable, Hashable {
        public var name: String
        public var address: String
        /// `closed`, `open` or `half-open`.
        public var breaker: String
        public var requests: UInt64
        public var failures: UInt64
        public var timeouts: UInt64
        public var inFlight: Int
        /// `on` while the node tells the agent of changes of hot keys, `off` while nobody asked for it, `refused: ` and why; nil
        /// from an agent that is too old to say.
        public var tracking: String?

        public init(
            name: String, address: String, breaker: String, requests: UInt64, failures: UInt64, timeouts: UInt64,
            inFlight: Int, tracking: String? = nil
        ) {
            self.tracking = tracking
            self.name = name
            self.address = address
            self.breaker = breaker
            self.requests = requests
            self.failures = failures
            self.timeouts = timeouts
            self.inFlight = inFlight
        }
    }
    public struct Counters: Codable, Sendable, Hashable {
        public var requests: UInt64
        public var localHits: UInt64
        public var copyReads: UInt64
        public var hotHomeReads: UInt64
        public var staleAnswers: UInt64
        public var hotWrites: UInt64
        public var breakerRejections: UInt64
        public var clients: Int
        public var cacheBytes: Int

        public init(
            requests: UInt64, localHits: UInt64, copyReads: UInt64, hotHomeReads: UInt64, staleAnswers: UInt64,
            hotWrites: UInt64, breakerRejections: UInt64, clients: Int, cacheBytes: Int
        ) {
            self.requests = requests
            self.localHits = localHits
            self.copyReads = copyReads
            self.hotHomeReads = hotHomeReads
            self.staleAnswers = staleAnswers
            self.hotWrites = hotWrites
            self.breakerRejections = breakerRejections
            self.clients = clients
            self.cacheBytes = cacheBytes
        }
    }
    public var id: String
    public var app: String
    public var version: String
    public var startedAt: String
    public var uptimeSeconds: Int64
    /// `off`, `observe` or `mitigate`, as the agent acts now.
    public var mode: String
    /// `embedded`, or `external` where no agent decides what is hot; nil while it is not known.
    public var detection: String?
    /// `leader`, `candidate` or `none`.
    public var leadership: String
    /// Id of the agent that coordinates, as far as this one knows.
    public var coordinator: String?
    public var view: View
    /// Nil from an agent that is too old to say.
    public var documents: Documents?
    public var hotKeys: Int
    /// Keys that this agent holds for hot on its own, before the coordinator has spoken.
    public var localHotKeys: Int
    public var reportEpoch: UInt64
    public var reportSequence: UInt64
    /// Milliseconds that the agent's newest change of the hot set was under way from its publication to here, by the two hosts'
    /// clocks.
    public var pushLagMilliseconds: Int64?
    public var nodes: [Node]
    public var counters: Counters
    /// Whether it runs by itself, without a registry that is shared; nil from an agent that is too old to say.
    public var isStandalone: Bool?
    /// The agent's clock, RFC 3339; nil from an agent that is too old to say.
    public var now: String?
    /// Nil from an agent that is too old to say.
    public var staleness: Staleness?
    /// What its local cache may take; 0 where it has none, nil from an agent that is too old to say.
    public var cacheCapacityBytes: Int?

    public init(
        id: String, app: String, version: String, startedAt: String, uptimeSeconds: Int64, mode: String,
        detection: String?, leadership: String, coordinator: String?, view: View, hotKeys: Int, localHotKeys: Int,
        reportEpoch: UInt64, reportSequence: UInt64, pushLagMilliseconds: Int64?, nodes: [Node], counters: Counters,
        documents: Documents? = nil, isStandalone: Bool? = nil, now: String? = nil, staleness: Staleness? = nil,
        cacheCapacityBytes: Int? = nil
    ) {
        self.id = id
        self.app = app
        self.version = version
        self.startedAt = startedAt
        self.uptimeSeconds = uptimeSeconds
        self.mode = mode
        self.detection = detection
        self.leadership = leadership
        self.coordinator = coordinator
        self.view = view
        self.documents = documents
        self.hotKeys = hotKeys
        self.localHotKeys = localHotKeys
        self.reportEpoch = reportEpoch
        self.reportSequence = reportSequence
        self.pushLagMilliseconds = pushLagMilliseconds
        self.nodes = nodes
        self.counters = counters
        self.isStandalone = isStandalone
        self.now = now
        self.staleness = staleness
        self.cacheCapacityBytes = cacheCapacityBytes
    }
}

/// One key as an agent holds it: `HK.GET` (one) and `HK.LIST` (``KeyList``).
public struct KeyStatus: Codable, Sendable, Hashable {
    public var key: PeerKey
    /// `hot`, `cooling`, `pinned`, `denied` or `cold`.
    public var state: String
    /// `read`, `write`, `big` or `missing`; nil for cold keys.
    public var kind: String?
    public var readsPerSecond: Double?
    public var writesPerSecond: Double?
    /// Of the reads: those that find nothing.
    public var missesPerSecond: Double?
    public var errorPerSecond: Double?
    public var copies: Int
    /// `warming`, `ready` or `leaving`; nil where nobody manages copies of it, and from an agent that is too old to say.
    public var copyState: String?
    public var sources: [String]
    /// When it became hot, RFC 3339.
    public var since: String?
    /// What this agent does with it: `cache`, `copies`, `both`, `observe` or `none`.
    public var action: String
    /// Whether only this agent holds it for hot, by its own counts.
    public var isLocalDecision: Bool
    public var reason: String?
    /// Reads of a key that this agent acts on, since it does: those that waited for another's fill or were told from memory that there is
    /// no value. Only in `HK.GET`; nil for other keys and from an agent that is too old to say.
    public var readsHeld: UInt64?
    /// The same of those that were held because the key's value was gone and another read had been told so.
    public var missesHeld: UInt64?

    public init(
        key: PeerKey, state: String, kind: String?, readsPerSecond: Double?, writesPerSecond: Double?,
        missesPerSecond: Double?, errorPerSecond: Double?, copies: Int, copyState: String? = nil,
        sources: [String], since: String?, action: String,
        isLocalDecision: Bool, reason: String?
    ) {
        self.key = key
        self.state = state
        self.kind = kind
        self.readsPerSecond = readsPerSecond
        self.writesPerSecond = writesPerSecond
        self.missesPerSecond = missesPerSecond
        self.errorPerSecond = errorPerSecond
        self.copies = copies
        self.copyState = copyState
        self.sources = sources
        self.since = since
        self.action = action
        self.isLocalDecision = isLocalDecision
        self.reason = reason
    }
}

/// `HK.LIST`
public struct KeyList: Codable, Sendable, Hashable {
    public var epoch: Int64
    public var version: Int64
    public var keys: [KeyStatus]

    public init(epoch: Int64, version: Int64, keys: [KeyStatus]) {
        self.epoch = epoch
        self.version = version
        self.keys = keys
    }
}

/// `HK.ROUTE key`
public struct RouteStatus: Codable, Sendable, Hashable {
    public struct Place: Codable, Sendable, Hashable {
        public var name: String
        public var address: String

        public init(name: String, address: String) {
            self.name = name
            self.address = address
        }
    }
    public var key: PeerKey
    public var home: Place
    /// The key's slot, before a Redis Cluster.
    public var slot: Int?
    public var copies: [Place]
    public var readableCopies: [Place]
    /// As in ``KeyStatus/copyState``.
    public var copyState: String?
    public var isHot: Bool
    /// `local-cache`, `copies` or `home`.
    public var reading: String

    public init(
        key: PeerKey, home: Place, slot: Int? = nil, copies: [Place], readableCopies: [Place],
        copyState: String? = nil, isHot: Bool, reading: String
    ) {
        self.key = key
        self.home = home
        self.slot = slot
        self.copies = copies
        self.readableCopies = readableCopies
        self.copyState = copyState
        self.isHot = isHot
        self.reading = reading
    }
}

/// One message on `__hotkeys__`.
public struct HotKeyMessage: Codable, Sendable, Hashable {
    public struct Change: Codable, Sendable, Hashable {
        public var key: PeerKey
        /// `hot`, `cooling`, `pinned`, `denied` or `cold`.
        public var state: String

        public init(key: PeerKey, state: String) {
            self.key = key
            self.state = state
        }
    }
    public var epoch: Int64
    public var version: Int64
    public var changes: [Change]

    public init(epoch: Int64, version: Int64, changes: [Change]) {
        self.epoch = epoch
        self.version = version
        self.changes = changes
    }
}

/// `HK.REPORTS after [BLOCK ms]`: an array of three, the agent's report epoch, the newest sequence number, and an array of frames as
/// bulk strings (see `docs/detection.md` for their bytes).
public struct ReportsReply: Sendable, Hashable {
    /// Tells a restarted agent: sequence numbers start anew with it.
    public var epoch: UInt64
    public var lastSequence: UInt64
    public var frames: [[UInt8]]

    public init(epoch: UInt64, lastSequence: UInt64, frames: [[UInt8]]) {
        self.epoch = epoch
        self.lastSequence = lastSequence
        self.frames = frames
    }
}
