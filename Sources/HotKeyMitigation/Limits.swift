/// Every bound of this module. Sizes are in bytes, times in nanoseconds of a monotonic clock, unless the name says otherwise.
public enum HotKeyMitigationLimits {
    // Placement
    /// The most nodes one placement may hold.
    public static let placementNodes = 1024
    /// The largest sum of weights: `modula` keeps one slot for each unit of weight.
    public static let placementWeightSum = 1 << 20
    /// Points that twemproxy gives a node of average weight.
    static let ketamaPointsPerNode = 160
    /// Points that one MD5 digest yields.
    static let ketamaPointsPerHash = 4
    /// twemproxy formats "name-index" into a buffer of 86 bytes, one of them the terminator. A longer text makes it hash
    /// bytes past the buffer, so where its keys went cannot be computed.
    static let ketamaPointNameBytesMax = 85

    // Local cache
    /// What an entry costs besides its command and its reply: the bookkeeping, the array slots and the allocations' heads.
    public static let cacheEntryOverheadBytes = 192
    /// How many different commands of one key are kept at once; the next one bypasses the cache.
    public static let cacheVariantsPerKey = 8
    /// Longer commands bypass the cache.
    public static let cacheCommandBytesMax = 4096
    /// How long the host may go on saying that a missing-hot key is not there.
    public static let missingLifetimeNanosecondsMax: UInt64 = 250_000_000
    /// A fill that has not ended after this time is given up, so that a lost reply cannot block a key.
    public static let fillFlightNanoseconds: UInt64 = 2_000_000_000
    /// A command whose reply was too big is not tried again for this time.
    public static let oversizeBypassNanoseconds: UInt64 = 1_000_000_000
    /// The share of a lifetime, in percent, after which a hit also asks for a refresh …
    static let refreshAtPercent: UInt64 = 75
    /// … plus up to this many percent, so that the entries filled together are not refreshed together.
    static let refreshJitterPercent: UInt64 = 10
    /// How many entries one eviction looks at.
    static let evictionScan = 16

    /// How long a local value may be served that no node would say the change of, where a rule allows more.
    public static let untrackedLifetimeNanosecondsMax: UInt64 = 1_000_000_000

    // Values that are gone
    /// Commands whose value an agent remembers to have seen: a hot set's keys, each read in a few ways.
    public static let missCommandsMax = 20_000
    /// … and of one key, so that the fields of one large hash do not take the room of all.
    public static let missCommandsPerKeyMax = 8
    /// Reads that one event loop holds at once.
    public static let missReadsMax = 4_096
    /// How long reads are held for a value that does not come back; it was deleted for good then, as it seems, …
    public static let missEpisodeNanosecondsMax: UInt64 = 5_000_000_000
    /// … and for how long none are held after that.
    public static let missRestNanoseconds: UInt64 = 60_000_000_000
    /// Held reads whose time ends within so long of each other are let go together, the later ones early.
    static let missReleaseNanoseconds: UInt64 = 10_000_000

    // Tracking connections
    /// How often a node is asked on its tracking connection whether it is still there, …
    public static let trackingProbeNanoseconds: UInt64 = 1_000_000_000
    /// … and how long it may be since the last question that it has answered was sent.
    public static let trackingSilenceNanosecondsMax: UInt64 = 2_000_000_000
    /// How long making one may take.
    public static let trackingConnectNanosecondsMax: UInt64 = 10_000_000_000
    /// One that no read has wanted for so long ends. No value lives longer, so nothing that came over it is left then.
    public static let trackingIdleNanoseconds: UInt64 = 3_600_000_000_000
    /// How long after it was wanted last it is tried again and again.
    public static let trackingRetryNanoseconds: UInt64 = 60_000_000_000
    /// The pause before it is made again doubles from one to the other, half of it by chance.
    static let trackingPauseNanoseconds: UInt64 = 100_000_000
    static let trackingPauseNanosecondsMax: UInt64 = 5_000_000_000
    /// When a node that does not track is asked again: somebody may have given the agent's user the right.
    public static let trackingRefusedNanoseconds: UInt64 = 60_000_000_000

    // Replicas
    /// How many answers of a primary are kept until a replica has got that far.
    static let replicaMarksMax = 16

    // Copies
    /// The most copies of one key, home not counted.
    public static let copiesMax = 16
    /// What every comparison of two clocks' intervals leaves as room: clock drift over a copy's lifetime and small steps of
    /// a node's clock.
    public static let copySlackNanoseconds: UInt64 = 200_000_000
    /// An estimate of a node's clock that is older than this is not used for fills.
    public static let nodeClockAgeNanosecondsMax: UInt64 = 5_000_000_000
    /// How fast two clocks may drift apart: NTP slews a clock by at most 500 parts per million, and both may be slewed.
    static let clockDriftPartsPerMillion: UInt64 = 1000
    /// How long an agent goes on protecting a key for the longer lifetime after a rule made it shorter: agents read the
    /// registry again every 30 s even when no watch fired, so each has the new rule by then.
    public static let lifetimeShrinkHoldNanoseconds: UInt64 = 60_000_000_000
    /// The part of what a node can carry that one key may take of it, where the number of its copies goes by heat and its rule names no
    /// share.
    public static let copyShareOfNode = 0.1
    /// How long the number of copies rests after a change before it grows …
    static let copyNumberRestNanoseconds: UInt64 = 5_000_000_000
    /// … and for how long fewer must do before it shrinks.
    static let copyNumberHoldNanoseconds: UInt64 = 30_000_000_000
    /// By how much later than the coordinator the last agent acts on what is published.
    static let copySettleNanoseconds: UInt64 = 200_000_000
    /// How long after agents have been told to stop reading copies these are deleted: reads and fills that were on their way are over.
    static let copyRemovalDelayNanoseconds: UInt64 = 1_000_000_000
    /// Copies that nobody is to read any more are deleted after so long although that does not stand in the registry yet.
    static let copyAnnouncementNanosecondsMax: UInt64 = 10_000_000_000
    /// The pause after an attempt to fill or to delete copies, …
    static let copyRetryNanoseconds: UInt64 = 250_000_000
    /// of which nothing is heard after so long that it counts as failed, …
    static let copyJobNanosecondsMax: UInt64 = 5_000_000_000
    /// … and how many there are: then a copy that could not be filled is left to its readers, and one that could not be deleted to its
    /// expiry.
    static let copyTriesMax = 4

    // Load
    /// The latency assumed of a node that has not answered yet.
    static let loadFloorNanoseconds: Double = 100_000
    /// No latency counts as more than this, so that one long pause is forgotten in time.
    static let loadCeilingNanoseconds: Double = 1_000_000_000
}
