import ZooKeeper

/// Every bound of the registry. What the znode schema promises to others stands in docs/znode-schema.md too.
public enum RegistryLimits {
    /// The schema number this version writes, and the only one it reads.
    public static let schema = 1

    // Znodes: the most bytes each may hold.
    public static let appBytesMax = 1 << 10
    public static let accessBytesMax = 16 << 10
    public static let controlBytesMax = 1 << 10
    public static let rulesBytesMax = 64 << 10
    public static let pinsBytesMax = 512 << 10
    public static let topologyBytesMax = 64 << 10
    public static let headBytesMax = 16 << 10
    public static let bucketBytesMax = 64 << 10
    public static let sourceBytesMax = 512 << 10
    public static let agentBytesMax = 1 << 10
    public static let leaderBytesMax = 1 << 10

    // Keys.
    public static let keyBytesMax = 1 << 10
    public static let hotKeysMax = 10_000
    public static let bucketCount = 64

    // Names and free text.
    public static let appNameBytesMax = 64
    public static let rootBytesMax = 256
    public static let agentIDBytesMax = 128
    public static let authorBytesMax = 128
    public static let reasonBytesMax = 512
    public static let sourceNamesPerRecordMax = 16

    // Access control.
    public static let identitiesPerRoleMax = 64
    /// Of a file that holds a user and a password: what ZooKeeper's client takes, and the end of the line.
    public static let secretBytesMax = ZooKeeperLimits.credentialBytesMax + 2
    /// Times that all nodes are gone through, until none is left whose list is another: nodes are made meanwhile.
    static let accessRoundsMax = 5

    // What operators write.
    public static let copiesMax = 64
    public static let rulesMax = 1_000
    public static let nodesMax = 1_024
    public static let weightMax = 10_000
    public static let historyMax = 200
    public static let stalenessCapMillisecondsMax = 3_600_000
    public static let durationSecondsMax = 86_400
    public static let missIntervalMillisecondsRange = 1...60_000
    /// No client waits longer for a reply.
    public static let missHoldMillisecondsMax = 10_000
    public static let thresholdPerSecondMax = 1_000_000_000
    public static let thresholdBytesPerSecondMax = 1_000_000_000_000
    /// What detection counts by; a window is a whole number of these.
    public static let sliceMilliseconds = 100
    public static let windowMillisecondsRange = 300...1_000

    // What is read from the wire.
    public static let agentsMax = 10_000
    public static let sourcesMax = 64

    // Publishing.
    /// How long after a publication the publisher gathers changes before it writes again.
    public static let gatherMilliseconds = 50
    /// A multi carries at most this many bytes of data; ZooKeeper refuses requests of 1 MiB.
    public static let multiBytesMax = 512 << 10
    /// Where servers drop larger ones: so many, and not less. A transaction holds one bucket at least, whatever that has.
    static let multiBytesMin = 8 << 10
    public static let publishAttemptsMax = 8
    /// However a publication is split and however much changes: one coordinator's transactions in any second.
    public static let transactionsPerSecondMax = 19
    /// A second by the servers' clock, which may run faster than ours.
    static let transactionWindow = Duration.milliseconds(1_010)
    /// By so much the versions leap when the head is lost, or older than what was seen of it: agents may have seen later ones than
    /// the coordinator. At 19 publications a second this many take 15 hours.
    static let versionLeap: Int64 = 1 << 20
    /// The same for epochs when the head is lost. They are the seconds at which coordinators began, and more only where several began
    /// within one second.
    static let epochLeap: Int64 = 60
    /// How often a coordinator looks whether its own nodes can still be read.
    static let publishedCheckMilliseconds = rereadMilliseconds
    /// How long a coordinator stays out of the election after servers have dropped its publication for its size.
    static let droppedPauseMilliseconds = 30_000
    /// Keys that a publisher remembers because there was no room for them.
    public static let waitingKeysMax = hotKeysMax

    // Subscribing.
    public static let rereadMilliseconds = 30_000
    /// The share of the period by which a re-read may come earlier or later, so that a fleet does not read in step.
    public static let rereadJitter = 0.2
    /// A document up to this size is read again at once, of a larger one the metadata first.
    static let rereadWholeBytesMax = 4 << 10
    /// Rounds in which buckets may turn out older than the head that names them before the old content is kept.
    public static let bucketRoundsMax = 3
    /// Reads after an event are spread so that a fleet asks the ensemble for at most 50,000 nodes a second; a thousand agents
    /// take 20 ms.
    static let spreadMicrosecondsPerRead = 20
    static let spreadMillisecondsMax = 500
    /// A wait shorter than this is not worth a timer.
    static let spreadMillisecondsMin = 1
    public static let retryMillisecondsMin = 50
    public static let retryMillisecondsMax = 5_000
    public static let viewSaveMilliseconds = 1_000
    public static let viewFileBytesMax = 64 << 20

    // Export and import.
    /// What stands around the documents in an export, and the spaces with which it is laid out for people.
    static let exportFrameBytesMax = 2 << 20
    /// Names that one difference lists.
    static let differenceNamesMax = 10

    // Inspection.
    /// From this share of its cap on, a document is said to be near it.
    static let capWarningPercent = 80
    static let inspectionReadsAtOnceMax = 64
    /// Clocks that differ by this much are said to; by the second, something is wrong.
    public static let clockSkewWarningMilliseconds: Int64 = 1_000
    public static let clockSkewErrorMilliseconds: Int64 = 30_000

    // Operator edits.
    public static let editAttemptsMax = 64
    public static let editBackoffMillisecondsMax = 400
    /// Calls in a row that got no answer before their deadline after which an edit is given up.
    static let editDeadlinesMax = 2

    // Requests that servers drop for their size.
    /// Nobody sets `jute.maxbuffer` so low that a smaller request would be dropped.
    static let droppedRequestBytesMin = 4 << 10
    /// Connections in a row that break during one request of that size until the size is taken for the reason.
    static let droppedRequestsMax = 3

    // Presence and election.
    /// How long an agent waits before it looks again at a node that another live session holds under its id.
    public static let presenceConflictMilliseconds = 2_000
    /// How often an agent writes its own node anew to learn the ensemble's time.
    static let clockMeasurementSeconds = 3_600
    /// How long an agent waits at most until it tries again to learn it.
    static let clockRetryMillisecondsMax = 60_000
    /// When a measurement is replaced by any other.
    static let clockMeasurementAgeMax = Duration.seconds(2 * clockMeasurementSeconds)
    /// What half a round trip takes at most on an ordinary day.
    static let clockErrorUsual = Duration.milliseconds(100)
    /// A decision whose author's clock is off by more than this is written again with the ensemble's time.
    static let authorClockErrorMillisecondsMax: Int64 = 1_000
    /// How often a leader proves its session in a session timeout.
    static let leaseProofsPerTimeout = 6
    /// A leader stops one part of so many of a session timeout before its lease ends.
    static let leaseMarginsPerTimeout: Int64 = 12
    /// How long an elected body that failed stays out of the election.
    public static let candidacyPauseMilliseconds = 500
}
