/// One key as the coordinator sees it now: in `HK.TOP` and `HK.HEAT`. Rates are means over the window of the key's rule, one second
/// for a key that no rule covers.
public struct LiveKey: Codable, Sendable, Hashable {
    public var key: PeerKey
    /// `pinned` and `denied`; else as ``detected``.
    public var state: String
    /// `hot`, `cooling`, `candidate` or `cold`: what detection says, whatever operators decided.
    public var detected: String
    /// `read`, `write`, `big` or `missing`; nil for cold keys.
    public var kind: String?
    public var readsPerSecond: Double
    public var writesPerSecond: Double
    public var bytesPerSecond: Double
    /// Of the reads: those that find nothing; nil from an agent that is too old to say.
    public var missesPerSecond: Double?
    /// By how much the rates of reads and writes together may be off, either way.
    public var errorPerSecond: Double
    /// 1 is the threshold.
    public var heat: Double
    /// Of the rule that covers it, with its place in the document from 1; nil when none does.
    public var pattern: String?
    public var rule: Int?
    /// As it is in force for this key.
    public var thresholdPerSecond: Int?
    /// What it comes from: `rule`, `share` (of what the key's home can carry) or `floor` (of that share); nil from an agent that
    /// is too old to say.
    public var thresholdFrom: String?
    /// The node that owns the key, and what it can carry as far as that was measured; where the rule has a share.
    public var home: String?
    public var homeCapacityPerSecond: Double?
    public var thresholdBytesPerSecond: Int?
    /// As `HK.GET` at the coordinating agent.
    public var action: String
    public var copies: Int
    public var sources: [String]
    public var since: String?

    public init(
        key: PeerKey, state: String, detected: String, kind: String?, readsPerSecond: Double, writesPerSecond: Double,
        bytesPerSecond: Double, missesPerSecond: Double?, errorPerSecond: Double, heat: Double, pattern: String?,
        rule: Int?,
        thresholdPerSecond: Int?, thresholdFrom: String?, home: String?, homeCapacityPerSecond: Double?,
        thresholdBytesPerSecond: Int?, action: String, copies: Int, sources: [String],
        since: String?
    ) {
        self.key = key
        self.state = state
        self.detected = detected
        self.kind = kind
        self.readsPerSecond = readsPerSecond
        self.writesPerSecond = writesPerSecond
        self.bytesPerSecond = bytesPerSecond
        self.missesPerSecond = missesPerSecond
        self.errorPerSecond = errorPerSecond
        self.heat = heat
        self.pattern = pattern
        self.rule = rule
        self.thresholdPerSecond = thresholdPerSecond
        self.thresholdFrom = thresholdFrom
        self.home = home
        self.homeCapacityPerSecond = homeCapacityPerSecond
        self.thresholdBytesPerSecond = thresholdBytesPerSecond
        self.action = action
        self.copies = copies
        self.sources = sources
        self.since = since
    }

    public var accessesPerSecond: Double { readsPerSecond + writesPerSecond }
}

/// `HK.TOP [count]` and `HK.HEAT key`: what the coordinating agent sees now.
public struct LiveStatus: Codable, Sendable, Hashable {
    /// Who says so.
    public var id: String
    /// Of the hot set in force there.
    public var epoch: Int64
    public var version: Int64
    /// Agents whose reports are merged.
    public var agents: Int
    /// Of all keys, over the last second.
    public var readsPerSecond: Double
    public var writesPerSecond: Double
    public var bytesPerSecond: Double
    /// Nil from an agent that is too old to say.
    public var missesPerSecond: Double?
    /// Hot and cooling ones, whether listed here or not.
    public var hotKeys: Int
    /// The busiest first.
    public var keys: [LiveKey]
    /// The agent's clock, RFC 3339.
    public var now: String

    public init(
        id: String, epoch: Int64, version: Int64, agents: Int, readsPerSecond: Double, writesPerSecond: Double,
        bytesPerSecond: Double, missesPerSecond: Double?, hotKeys: Int, keys: [LiveKey], now: String
    ) {
        self.id = id
        self.epoch = epoch
        self.version = version
        self.agents = agents
        self.readsPerSecond = readsPerSecond
        self.writesPerSecond = writesPerSecond
        self.bytesPerSecond = bytesPerSecond
        self.missesPerSecond = missesPerSecond
        self.hotKeys = hotKeys
        self.keys = keys
        self.now = now
    }
}
