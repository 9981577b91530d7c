/// The fixed bounds of the data path; what an operator may change is in ``ProxyConfiguration``.
public enum RedisProxyLimits {
    /// A command or reply up to this size is copied into the buffer that goes out with its neighbours in one write; a larger
    /// one is passed on as a slice, because copying would cost more than a write of its own.
    static let copyBytesMax = 16 * 1024
    /// `$-1` and `*-1`, and `_` in RESP3, with their ends of line.
    static let nullReplyBytesMax = 5
    /// How long the replies that are there wait for the rest of the replies to the same pipeline, to leave with them (up to a millisecond
    /// more where the system has no `epoll_pwait2`); and for how many clients at a time, because each end of a turn looks at them all.
    static let repliesHeldNanosecondsMax: UInt64 = 1_000_000
    static let heldSessionsMax = 128
    /// A value this large is passed on while it still arrives instead of being gathered first; the bytes by which its header is known;
    /// and from which size on its reply is not waited for by what is asked meanwhile.
    static let streamBytesMin = 1024 * 1024
    static let streamHeaderBytesMin = 13
    static let retireBytesMin = 8 * 1024 * 1024
    /// How long a client that was told of a protocol error may go on sending before its connection is closed.
    static let lingerMilliseconds: Int64 = 5_000
    /// Requests that one upstream connection may hold unsent or unanswered; beyond it new ones fail at once. At 64 bytes
    /// a request this bounds the book-keeping of a hanging node to a few MB until its timeout ends it.
    static let upstreamPendingMax = 100_000
    /// Bytes waiting for one upstream connection while it connects or its node does not read.
    static let upstreamOutboundBytesMax = 64 * 1024 * 1024
    /// How often timeouts, half-open probes and reconnects are looked after.
    static let tickMilliseconds: Int64 = 100
    /// How often a node's clock is read for the expiry times of copies.
    static let clockSampleNanoseconds: UInt64 = 1_000_000_000
    /// Bytes of one client's commands that wait for its own connection before no more of them are read.
    static let boundOutboundBytesMax = 1024 * 1024
    /// Connections to one node that clients of one event loop have given back and that wait for the next client, and how long they
    /// do.
    static let idleBoundMax = 32
    static let idleBoundNanoseconds: UInt64 = 30_000_000_000
    /// A node that owes replies and has said nothing for so many request timeouts hangs: what waits there without a limit of its
    /// own is ended.
    static let silentTimeoutsMax = 3
    /// Bytes of keys that one client's unfinished transaction remembers for invalidation; beyond it every hot key is invalidated.
    static let writtenKeyBytesMax = 1024 * 1024
    /// How long a transaction may go on at a node that a topology has taken away.
    static let leavingNanoseconds: UInt64 = 10_000_000_000
    /// How often `RANDOMKEY` draws again when it has drawn a name that is no key of the app.
    static let randomKeyDrawsMax = 64
    /// Channels and patterns that one client may listen to before several nodes.
    static let subscriptionsMax = 65_536
    /// A node that messages come from is asked every so many ticks whether it is still there.
    static let listenerProbeTicks = 10
    /// How often the loop that owns the tracking connections is told that a node without one is wanted.
    static let trackingWantedNanoseconds: UInt64 = 1_000_000_000
    /// A read that a tracking connection has not answered by then, or by half the request timeout, is asked for in the ordinary way, and
    /// so are the next ones until it answers: the connection may have been cut, which is known for certain only later.
    static let trackingAnswerNanosecondsMax: UInt64 = 200_000_000
    /// Comparisons of local hits with their homes that one event loop has under way at once; a hit beyond it is not compared.
    static let stalenessProbesMax = 16
    /// Keys with copies of this agent's filling that it heeds announcements for; a hot set has at most as many keys.
    static let copiedKeysMax = 10_000
    /// Connections that wait to be accepted; the kernel has a limit of its own (`net.core.somaxconn`).
    static let backlog: Int32 = 4096
    /// Connections to the peer listener at once: the coordinator's, and those of tools.
    static let peersMax = 128
    /// How long nothing is accepted after the process had no file descriptor for a connection.
    static let acceptPauseMilliseconds: Int64 = 100
    /// File descriptors held to be let go when they run out; how many must be free besides; and how often they are asked for again. While
    /// they are, for some microseconds, none is free.
    static let heldDescriptors = 16
    static let spareDescriptors = 4
    static let descriptorRegainNanoseconds: UInt64 = 1_000_000_000
    /// As Redis with `tcp-keepalive 300`: a client whose host is gone is found out within ten minutes.
    static let keepAliveSeconds: Int = 300
    static let keepAliveIntervalSeconds: Int = 100
    static let keepAliveProbes: Int = 3
    /// A client that has just connected has a command on its way: it is let go this long after it connected, not at once.
    static let newClientNanoseconds: UInt64 = 1_000_000_000
    /// How often clients that have been idle for too long are looked for.
    static let idleCheckTicks = 10
    /// As Redis: what a client may send before it has authenticated itself.
    static let unauthenticatedArgumentsMax = 10
    static let unauthenticatedBulkBytesMax = 16 * 1024
    /// No number that matters is longer.
    static let unauthenticatedNumberBytesMax = 24
    /// Characters of a node's refusal that are repeated.
    static let refusalTextMax = 200
    /// Characters of a key that an error text shows.
    static let keyTextMax = 64
    /// Places of a queue that are kept when a burst is over.
    static let keptPlacesMax = 1024
    /// Bytes that small replies may take, waiting or already sent, before those that have been sent are looked for; and the most
    /// that are kept together, so that a place among them fits 32 bits.
    static let heldBytesKept = 64 * 1024
    static let heldBytesMax = 1 << 30
    /// Capacity of a client's output that is kept for its next replies.
    static let outputBytesKept = 16 * 1024

    // Redis Cluster
    /// Bytes of one client's commands that are kept until their replies have come, because they may have to be sent again, before
    /// no more of its commands are read.
    static let resendBytesMax = 1024 * 1024
    /// How often one command is sent again, and how often of these at once. Cluster clients allow five to sixteen redirections.
    static let resendsMax = 64
    static let directRedirectsMax = 5
    /// The pause before a command is sent again doubles from one to the other.
    static let resendPauseNanoseconds: UInt64 = 10_000_000
    static let resendPauseNanosecondsMax: UInt64 = 200_000_000
    /// While a node has failed for less than this, commands wait for the cluster to put another in its place; after it they fail at
    /// once. `cluster-node-timeout` is 15 s by default, and an election follows.
    static let failoverNanosecondsMax: UInt64 = 30_000_000_000
    /// Failures of a node that lie further apart are two troubles.
    static let troublePauseNanoseconds: UInt64 = 5_000_000_000
    /// The least time between two questions for the slots; how long one node may take to answer; how often it is asked when
    /// nothing happens.
    static let slotRefreshPauseNanoseconds: UInt64 = 100_000_000
    static let slotAnswerNanosecondsMax: UInt64 = 1_000_000_000
    static let slotRefreshPeriodNanoseconds: UInt64 = 30_000_000_000
    /// How many nodes are asked one after the other before there is a pause.
    static let slotCandidatesMax = 16
    /// How long after an `ASK` a slot counts as moving.
    static let slotMovingNanoseconds: UInt64 = 10_000_000_000
    /// Replicas of one primary that are read, and how often they and their primary are asked how far they are.
    static let replicasReadMax = 4
    static let replicaQuestionTicks = 2
    /// Addresses of one cluster, and bytes of one.
    static let clusterNodesMax = 4096
    static let hostBytesMax = 255
    /// Bytes of a reply to `CLUSTER SLOTS` or `CLUSTER NODES`.
    static let slotReplyBytesMax = 16 * 1024 * 1024
    /// How long an agent that manages the fleet's copies goes on doing so without being told again.
    public static let copyManagementNanoseconds: UInt64 = 2_000_000_000
}
