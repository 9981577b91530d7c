/// The fixed bounds of the agent's own services; what an operator may change is in ``AgentConfiguration``.
enum AgentLimits {
    /// The longest reply to a pull: all frames that an agent keeps, each as large as a frame may be, with room to spare.
    static let pullReplyBytesMax = 8 << 20
    /// How long the coordinator lets an agent hold its pull; a frame comes every 100 ms, so more would only delay the notice
    /// that the agent is gone.
    static let pullBlockMilliseconds = 500
    /// The pause after a failed pull doubles from the first to the second.
    static let pullRetryMillisecondsMin = 100
    static let pullRetryMillisecondsMax = 2_000
    /// How often the coordinator looks whether an agent that is in the registry is being pulled.
    static let directoryCheckMilliseconds = 1_000
    /// How often the expiry of pins is looked at, at the latest: the wall clock may be set in between.
    static let expiryCheckMillisecondsMax = 5_000
    /// Reports are late when the process was stopped; more than this and the clock of the slices starts anew.
    static let reportLagMillisecondsMax = 1_000
    /// How often it is said, as long as it holds, that two agents of the registry are one.
    static let duplicateAgentLogSeconds = 60
    /// Changes that are logged each by itself when they cannot be published; the publisher's own line has their number.
    static let refusalsLoggedMax = 10
    /// The coordinator decides this long after each slice's end by its own clock, so that frames on their way are counted.
    static let decisionDelayMilliseconds = 5
    /// Early decisions are at least so far apart.
    static let earlyDecisionMillisecondsMin = 10
    /// Keys in one message on `__hotkeys__`; a larger change goes out in several.
    static let changesPerMessageMax = 1_000
    /// How often files of certificates and passwords are looked at.
    static let securityFilesCheckMilliseconds = 2_000
    /// Files and sockets that are kept free for the agent itself: connections to cache nodes, to ZooKeeper, between agents.
    static let ownFiles = 256
    /// Connections to the admin listener at once; more wait to be accepted.
    static let adminConnectionsMax = 64
    /// Sockets that the process which started this one may hand over.
    static let inheritedSocketsMax = 16
    /// How often an agent that takes over tries again to open its admin listener, which the one before it has until it has ended.
    static let adminRetryMilliseconds = 50
    /// After so many tries it says that it is still waiting.
    static let adminRetriesSilent = 200
    /// How often the cache nodes are asked for their work, where rules have thresholds that are shares of it.
    static let capacityReadingMilliseconds = 5_000
    /// Keys for which room is looked for in one turn, where their buckets are full.
    static let roomMadeKeysMax = 16
    /// Keys that a scheduled scan publishes at most.
    static let scanTopKeys = 1_000
    /// Frames without counts that are told at once, where something else is not told before: so many may come late to the
    /// coordinator (`DetectionLimits.lateSlices`).
    static let idleFramesTold = 3
    /// How often the coordinator looks at how many copies a key needs by its heat.
    static let copyNumberNanoseconds: UInt64 = 1_000_000_000
    /// Keys whose copies are filled or deleted at one time.
    static let copyJobsMax = 128
    /// Waiting `HK.REPORTS` calls that each frame wakes.
    static let reportWaitersMax = 1_000
    /// Further calls that wait, and that no frame wakes: they are answered after `reportDelayMilliseconds`. Still more are refused.
    static let reportDelayedMax = 10_000
    static let reportDelayMilliseconds = 100
    /// A sequence number that no agent comes to: asked for the frames above it, an agent tells only where it stands.
    static let reportSequenceNever: UInt64 = 1 << 62
}
