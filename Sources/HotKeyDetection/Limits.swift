/// Every limit and default of detection, in one place. Units stand last.
public enum DetectionLimits {
    // MARK: Time

    /// Length of the slice that one report covers.
    public static let sliceMilliseconds = 100
    /// A frame that took longer is a sum of several slices: its counts say nothing about one.
    public static let usualSliceMillisecondsMax = 105
    /// Length of the slice on which an agent judges its own traffic: half a report's slice, so that two full slices
    /// fit into 200 ms whatever the phase at which the load starts.
    public static let localSliceMilliseconds = 50
    /// The windows a rule may ask for. The lower end holds the slices of a confirmation, the upper end sizes the rings.
    public static let windowMillisecondsRange = 300...1_000
    /// Slices by which a frame may arrive late and still be counted where it belongs.
    public static let lateSlices = 3
    /// After a takeover no key leaves for this long, because reports may simply not have been pulled yet.
    public static let takeoverGraceMilliseconds = 10_000

    // MARK: Keys and counters

    /// Longer keys are counted in the totals only: they can never be published.
    public static let keyBytesMax = 1_024
    /// Distinct keys that one event loop counts exactly in one slice.
    public static let counterKeysMax = 16_384
    /// Bytes of key names that one event loop keeps for one slice.
    public static let counterArenaBytesMax = 2 << 20
    /// Accesses of one event loop for which it is remembered where the bytes of their replies belong; a power of two.
    public static let awaitedRepliesMax = 1 << 15

    // MARK: Reports

    /// What one agent's reports may cost in a second.
    public static let reportBytesPerSecond = 64 << 10
    /// A frame above this is refused unread.
    public static let reportFrameBytesMax = 64 << 10
    /// Slices over which the long tail is summed before it is reported or given up.
    public static let tailSlices = 10
    /// Keys whose unreported counts an agent remembers.
    public static let residualKeysMax = 65_536
    /// Bytes of names of those keys.
    public static let residualArenaBytesMax = 4 << 20
    /// The longest slice a report may claim. A stalled agent makes a long slice, not several.
    public static let reportDurationMillisecondsMax = 600_000
    /// How long an agent keeps its frames for whoever pulls them.
    public static let reportRetentionMilliseconds = 10_000

    // MARK: Merging

    /// Keys in the coordinator's window.
    public static let mergedKeysMax = 100_000
    /// Bytes of names of those keys.
    public static let mergedArenaBytesMax = 8 << 20
    /// Keys in an agent's own window.
    public static let localKeysMax = 16_384
    /// Agents whose reports one coordinator merges.
    public static let agentsMax = 10_000
    /// An agent silent for this long is forgotten; should it come back, it starts anew.
    public static let agentForgottenMilliseconds = 60_000
    /// Entries looked at to find one to give up when the window is full.
    public static let evictionSampleEntries = 8

    // MARK: Sources

    /// Candidates of all sources together.
    public static let sourceCandidatesMax = 50_000
    /// Keys published as candidates because an estimate proposes them. Few: they take room in the hot set that hot keys may need.
    public static let proposedKeysMax = 256
    /// Names of sources that are published of one key.
    public static let sourceNamesMax = 16

    // MARK: Capacity

    /// A node whose thread is busy for less than this share of the time tells nothing of what it could do.
    public static let capacityBusyShareMin = 0.05
    /// Nor does one that has carried out fewer commands between two readings.
    public static let capacityCommandsMin = 1_000
    /// Pairs of readings of which the median is taken.
    public static let capacityReadingsMax = 12

    // MARK: Decisions

    /// Hot and cooling keys of one app.
    public static let hotKeysMax = 10_000
    /// All keys that have a state: candidates, hot, cooling, and those that left lately.
    public static let trackedKeysMax = 40_000
    /// A hot key that gave way for lack of room tries again after so long.
    public static let yieldMilliseconds = 5_000
    /// Pause between two looks for a key that there is no room for, where nobody had to leave.
    public static let roomLookMilliseconds = 1_000
    /// Bytes of a published record beside its key, about.
    public static let recordBytesUsual = 200
    /// Rules in one set.
    public static let rulesMax = 1_000
    /// Bytes of one rule's pattern.
    public static let patternBytesMax = 1_024
    /// Standard deviations by which a short run of slices must pass the threshold to count before the window is full.
    public static let shortEvidenceDeviations = 3.0
    /// Accesses below which one slice never makes a key hot at once, however low the threshold: a handful is no rate.
    public static let instantAccessesMin = 20.0
    /// Part of the cool-down that a hot key spends under the leave level before it is shown as cooling.
    public static let coolingDelayShare = 1.0 / 3.0
    /// Poisson deviations by which a window's writes must pass the ratio for the key to count as write-hot: by less, chance alone does.
    public static let writeHotDeviations = 2.0
    /// Part of a kind's level under which the key must stay, for a cool-down, to lose that kind.
    public static let kindReturnRatio = 0.5
    /// Part of the cool-down for which a hot key must look like the other one to pass from read to missing or back.
    public static let missingDelayShare = 1.0 / 3.0
    /// A key of which fewer reads miss is not called missing, whatever a rule says.
    public static let missingHotRatioRange = 0.1...1.0
}
