import HotKeyDetection
import HotKeyMitigation
public import HotKeyRegistry
import HotKeyScan
public import Logging
import NIOCore
import RedisProxy
import ZooKeeper

/// Everything an agent is told at its start, validated. ``ConfigurationLoader`` makes one from flags, environment and file.
///
/// A property's initial value is the setting's default; nothing else states it. What a setting means, its bounds and its
/// names are in ``Setting``.
public struct AgentConfiguration: Sendable, Hashable {
    public var app: String
    /// Names the agent in the registry. One host, one agent: the host's name serves.
    public var id = ThisHost.name
    public var zookeeper = ZooKeeper()
    /// Run by itself: a registry in memory takes ZooKeeper's place.
    public var standalone = false
    /// The cache nodes of an agent that runs by itself.
    public var nodes: [TopologyDocument.Node] = []
    /// The file that ``standaloneRules`` come from.
    public var rulesFile: String?
    public var standaloneRules = RulesDocument()
    /// Where apps connect. See ``appListener``.
    public var listen = ListenAddress.tcp(HostPort(host: "127.0.0.1", port: 6380))
    /// Of the Unix socket that apps connect to.
    public var listenMode = Int(ListenerSecurity.socketModeDefault)
    /// The group of that socket; nil: the process's own.
    public var listenGroup: String?
    public var listenSecurity = ListenSecurity()
    public var peer = HostPort(host: "127.0.0.1", port: 7380)
    /// What other agents and tools dial, as it stands in `agents/<id>`; nil: the address that the peer listener is bound to,
    /// unless ``reasonNotToAdvertise(_:)`` knows better.
    public var advertisePeer: HostPort?
    public var peerSecurity = PeerSecurity()
    public var admin = ListenAddress.tcp(HostPort(host: "127.0.0.1", port: 8680))
    /// An absolute path that belongs to this agent alone; nil: nothing is kept on disk.
    public var stateDirectory: String?
    /// Event loops.
    public var threads = System.coreCount
    public var coordinator = CoordinatorRole.auto
    public var upstream = Upstream()
    /// What apps may not ask for, by names of Redis commands.
    public var denyCommands: [String] = []
    public var limits = Limits()
    public var localCache = LocalCache()
    public var detection = Detection()
    public var scan = Scan()
    public var breaker = Breaker()
    public var log = Log()
    /// From the signal to stop until requests in flight are given up.
    public var shutdownGraceMilliseconds = 10_000

    /// The configuration of an agent for which nothing but the required settings was set.
    public init(app: String, zookeeperServers: [HostPort]) {
        self.app = app
        zookeeper.servers = zookeeperServers
    }

    /// Where apps connect; nil for an agent that only coordinates.
    public var appListener: ListenAddress? { coordinator == .only ? nil : listen }

    /// Why the address that the peer listener is bound to must not be published for others to dial; nil when it may be, or
    /// when `advertisePeer` takes its place.
    ///
    /// A loopback address is another process on each host. With ZooKeeper elsewhere there may be other hosts, and whoever
    /// coordinates would pull the agent on its own host once for each of theirs. That all agents share one host cannot be
    /// seen from here; an operator says it by setting `advertisePeer`.
    func reasonNotToAdvertise(_ bound: HostPort) -> String? {
        guard advertisePeer == nil, bound.isLoopback, !zookeeper.isOnThisHost else { return nil }
        return """
            only this host can connect to it, and ZooKeeper (\(zookeeper.connectString)) serves other hosts too: the coordinator \
            on another host would take its own agent for this one, and this one's traffic would not be seen. Set peer to \
            an address that the other hosts reach, or advertisePeer to one that leads there; if all agents of the app run on \
            this host, say so with advertisePeer \(bound)
            """
    }

    public struct ZooKeeper: Sendable, Hashable {
        public var servers: [HostPort] = []
        /// Absolute path of the znode above all apps.
        public var root = RegistryPaths.defaultRoot
        public var sessionTimeoutMilliseconds = ZooKeeperLimits.sessionTimeoutMillisecondsDefault
        /// The file that `credentials` come from.
        public var digestFile: String?
        /// nil: the session does not authenticate.
        public var credentials: DigestLogin?
        /// The files of the TLS connection; all three or none.
        public var tlsCaFile: String?
        public var tlsCertificateFile: String?
        public var tlsKeyFile: String?
        /// The file that `tlsPassphrase` comes from, for a key that is encrypted.
        public var tlsPassphraseFile: String?
        public var tlsPassphrase: Secret?

        /// As the client library wants it: `HOST:PORT,HOST:PORT`.
        public var connectString: String { servers.map(\.description).joined(separator: ",") }

        /// Whether no other host can use this ensemble, so that all agents are on this one.
        var isOnThisHost: Bool { servers.allSatisfy(\.isLoopback) }
    }

    /// Who may use the app listener.
    public struct ListenSecurity: Sendable, Hashable {
        /// Passwords of the user `default`.
        public var passwordFile: String?
        public var usersFile: String?
        public var tlsCertificateFile: String?
        public var tlsKeyFile: String?
        /// Set: clients must show a certificate that this authority has signed.
        public var tlsClientCaFile: String?
        /// Other hosts may connect without saying who they are.
        public var allowUnauthenticated = false
    }

    /// Between agents, and between agents and tools: for the peer listener and for dialling others'.
    public struct PeerSecurity: Sendable, Hashable {
        public var passwordFile: String?
        /// These three together: TLS.
        public var tlsCertificateFile: String?
        public var tlsKeyFile: String?
        public var tlsCaFile: String?
        /// What the others' certificates must be for; nil: the host that is dialled.
        public var tlsServerName: String?
        public var requireClientCertificates = false
    }

    /// Towards each cache node.
    public struct Upstream: Sendable, Hashable {
        /// Of each event loop to each node.
        public var connectionsPerNode = AgentConfiguration.proxy.connectionsPerNode
        public var requestTimeoutMilliseconds = Int(AgentConfiguration.proxy.requestTimeoutMilliseconds)
        public var connectTimeoutMilliseconds = Int(AgentConfiguration.proxy.connectTimeoutMilliseconds)
        public var trackHotKeys = AgentConfiguration.proxy.tracksHotKeys
        /// As whom to log in.
        public var credentialsFile: String?
        /// Set: connections are encrypted.
        public var tlsCaFile: String?
        public var tlsCertificateFile: String?
        public var tlsKeyFile: String?
        /// What the nodes' certificates must be for; nil: the host in the topology.
        public var tlsServerName: String?
    }

    public struct Limits: Sendable, Hashable {
        public var requestBytesMax = AgentConfiguration.proxy.requestBytesMax
        public var heldRequestBytesMax = AgentConfiguration.proxy.heldRequestBytesMax
        public var pipelineDepthMax = AgentConfiguration.proxy.pipelineDepthMax
        public var clientsMax = AgentConfiguration.proxy.clientsMax
        /// 0: never.
        public var clientIdleSeconds = AgentConfiguration.proxy.clientIdleSeconds
        public var outputBytesMax = AgentConfiguration.proxy.outputBytesMax
        public var tlsHandshakeMilliseconds = Int(AgentConfiguration.proxy.handshakeMilliseconds)
    }

    public struct LocalCache: Sendable, Hashable {
        /// Of the whole process; 0: no local cache.
        public var capacityBytes = AgentConfiguration.proxy.cacheBytes
        public var valueBytesMax = AgentConfiguration.proxy.cacheValueBytesMax
        /// Hits that are compared with home; 0: none.
        public var probePermille = AgentConfiguration.proxy.cacheProbePermille
    }

    public struct Detection: Sendable, Hashable {
        public var keysPerSliceMax = DetectionLimits.counterKeysMax
        public var reportBytesPerSecondMax = DetectionLimits.reportBytesPerSecond
    }

    /// Scans of the cache nodes' LFU counters by whoever coordinates.
    public struct Scan: Sendable, Hashable {
        /// 0: none.
        public var everySeconds = 0
        public var keysPerSecondMax = ScanLimits.keysPerSecondDefault
    }

    /// When a node's breaker opens, and what it takes to close again.
    public struct Breaker: Sendable, Hashable {
        public var windowMilliseconds = milliseconds(AgentConfiguration.proxy.breaker.windowNanoseconds)
        public var callsMin = AgentConfiguration.proxy.breaker.minimumCalls
        public var failurePercent = percent(AgentConfiguration.proxy.breaker.failureRatio)
        public var consecutiveFailures = AgentConfiguration.proxy.breaker.consecutiveFailures
        public var slowCallMilliseconds = milliseconds(AgentConfiguration.proxy.breaker.slowCallNanoseconds)
        public var slowCallPercent = percent(AgentConfiguration.proxy.breaker.slowRatio)
        public var slowNodesPercentMax = percent(AgentConfiguration.proxy.slownessQuota.share)
        public var openMilliseconds = milliseconds(AgentConfiguration.proxy.breaker.openNanoseconds)
        public var openMillisecondsMax = milliseconds(AgentConfiguration.proxy.breaker.openNanosecondsMax)
        public var probesMax = AgentConfiguration.proxy.breaker.halfOpenProbes
        public var probeMilliseconds = milliseconds(AgentConfiguration.proxy.breaker.halfOpenDeadlineNanoseconds)

        private static func milliseconds(_ nanoseconds: UInt64) -> Int { Int(nanoseconds / 1_000_000) }
        private static func percent(_ ratio: Double) -> Int { Int((ratio * 100).rounded()) }
    }

    public struct Log: Sendable, Hashable {
        public var level = Logger.Level.info
        public var format = LogFormat.text
    }
}

extension AgentConfiguration {
    /// Whose values are the defaults of the data path; the seed is of no account here.
    private static let proxy = ProxyConfiguration(hashSeed: 0)

    /// As the data path wants it. `hashSeed` is new for every process.
    func proxyConfiguration(hashSeed: UInt64, upstreamSecurity: UpstreamSecurity) -> ProxyConfiguration {
        var proxy = ProxyConfiguration(hashSeed: hashSeed)
        proxy.connectionsPerNode = upstream.connectionsPerNode
        proxy.requestTimeoutMilliseconds = Int64(upstream.requestTimeoutMilliseconds)
        proxy.connectTimeoutMilliseconds = Int64(upstream.connectTimeoutMilliseconds)
        proxy.tracksHotKeys = upstream.trackHotKeys
        proxy.requestBytesMax = limits.requestBytesMax
        proxy.heldRequestBytesMax = limits.heldRequestBytesMax
        proxy.pipelineDepthMax = limits.pipelineDepthMax
        proxy.outputBytesMax = limits.outputBytesMax
        proxy.clientsMax = limits.clientsMax
        proxy.clientIdleSeconds = limits.clientIdleSeconds
        proxy.cacheBytes = localCache.capacityBytes
        proxy.cacheValueBytesMax = localCache.valueBytesMax
        proxy.cacheProbePermille = localCache.probePermille
        proxy.breaker = breaker.circuitBreaker
        proxy.slownessQuota = SlownessQuota(share: Double(breaker.slowNodesPercentMax) / 100)
        proxy.handshakeMilliseconds = Int64(limits.tlsHandshakeMilliseconds)
        proxy.upstreamSecurity = upstreamSecurity
        // The loader has refused names that no command has.
        proxy.deniedCommands = DeniedCommands(denyCommands) ?? DeniedCommands()
        return proxy
    }
}

extension AgentConfiguration.Breaker {
    var circuitBreaker: CircuitBreaker.Configuration {
        func nanoseconds(_ milliseconds: Int) -> UInt64 { UInt64(milliseconds) * 1_000_000 }
        var breaker = CircuitBreaker.Configuration()
        breaker.windowNanoseconds = nanoseconds(windowMilliseconds)
        breaker.minimumCalls = callsMin
        breaker.failureRatio = Double(failurePercent) / 100
        breaker.consecutiveFailures = consecutiveFailures
        breaker.slowCallNanoseconds = nanoseconds(slowCallMilliseconds)
        breaker.slowRatio = Double(slowCallPercent) / 100
        breaker.openNanoseconds = nanoseconds(openMilliseconds)
        breaker.openNanosecondsMax = nanoseconds(openMillisecondsMax)
        breaker.halfOpenProbes = probesMax
        breaker.halfOpenDeadlineNanoseconds = nanoseconds(probeMilliseconds)
        return breaker
    }
}

/// What an agent does when it could lead.
public enum CoordinatorRole: String, Sendable, Hashable, CaseIterable {
    /// It stands for election.
    case auto
    /// It never stands for election.
    case never
    /// It stands for election and serves no apps.
    case only
}

public enum LogFormat: String, Sendable, Hashable, CaseIterable {
    /// One line for people.
    case text
    /// One JSON object a line.
    case json
}

/// A value that no log line, error or dump shows.
public struct Secret: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The value itself: for the one place that has to send it.
    public let revealed: String

    public init(_ value: String) { revealed = value }

    static let placeholder = "(set)"
    public var description: String { Self.placeholder }
    public var debugDescription: String { Self.placeholder }
    public var customMirror: Mirror { Mirror(self, children: []) }
}
