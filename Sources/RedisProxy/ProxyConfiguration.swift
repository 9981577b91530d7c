public import HotKeyMitigation
import RESP
import TransportSecurity

/// What an operator decides about the data path, the same for every event loop.
public struct ProxyConfiguration: Sendable {
    /// Shared connections from one event loop to one node, for each protocol version that clients speak; at least 1.
    public var connectionsPerNode = 1
    /// A reply that takes longer ends its connection: replies come in order, so everything behind it is late too.
    public var requestTimeoutMilliseconds: Int64 = 1000
    public var connectTimeoutMilliseconds: Int64 = 500
    /// Largest command that a client may send. As Redis's `client-query-buffer-limit`.
    public var requestBytesMax = RESPLimits.commandBytesMax
    /// Largest command that is held as a whole, and with it the most that one client's input takes in memory. A large value of a
    /// command of one key is passed on while it arrives and not held.
    public var heldRequestBytesMax = 64 * 1024 * 1024
    /// Unanswered commands of one client; more are left unread until replies have gone out.
    public var pipelineDepthMax = 1024
    /// Bytes of replies that wait for one client to read them; beyond it no more of its commands are read.
    public var outputBytesMax = 16 * 1024 * 1024
    /// Clients of all listeners together; more are refused with an error, as Redis does.
    public var clientsMax = 10_000
    /// A client that has said nothing and got nothing for this long is disconnected; 0: never. As Redis's `timeout`, it does not
    /// concern those that wait or listen.
    public var clientIdleSeconds = 0
    /// Local cache of the whole process; each event loop has its share.
    public var cacheBytes = 64 * 1024 * 1024
    public var cacheValueBytesMax = 1024 * 1024
    /// Of a thousand local hits, how many are compared with home afterwards; 0 to 1000.
    public var cacheProbePermille = 1
    /// Whether nodes are asked to tell of changes of hot keys.
    public var tracksHotKeys = true
    /// How long a local value may be served whose changes no node would tell of, where its policy allows more.
    public var untrackedLifetimeNanosecondsMax = HotKeyMitigationLimits.untrackedLifetimeNanosecondsMax
    public var breaker = CircuitBreaker.Configuration.default
    public var slownessQuota = SlownessQuota.default
    /// How to connect to the nodes, those that are found later too.
    public var upstreamSecurity = UpstreamSecurity()
    /// What clients of ``ProxyServer/Role/app`` listeners may not ask for.
    public var deniedCommands = DeniedCommands()
    /// A client that has not ended its TLS handshake by then is disconnected.
    public var handshakeMilliseconds = TransportLimits.handshakeMillisecondsDefault
    /// Seed of ``FastHash`` for this process. The tables of every ``ProxySnapshot`` must be built with it.
    public var hashSeed: UInt64

    public init(hashSeed: UInt64) {
        self.hashSeed = hashSeed
    }
}
