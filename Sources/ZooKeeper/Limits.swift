/// Every bound of this module, in one place.
public enum ZooKeeperLimits {
    /// Data, paths and access control of one request. ZooKeeper's servers cut the connection (and with it every call
    /// that is under way) at `jute.maxbuffer`, 1,048,575 bytes by default; what would come near it is refused here.
    public static let requestBytesMax = 1_000_000
    public static let pathBytesMax = 4_096
    public static let multiOperationsMax = 1_024
    public static let accessControlEntriesMax = 256
    public static let serversMax = 64
    public static let credentialsMax = 16
    public static let credentialBytesMax = 4_096

    public static let sessionTimeoutMillisecondsRange = 100...600_000
    public static let operationTimeoutMillisecondsRange = 1...600_000
    /// The library writes one byte to a 64 KiB pipe for each call and drops its connection when that pipe is full
    /// (P34).
    public static let maxInFlightRange = 1...16_384

    public static let sessionTimeoutMillisecondsDefault = 10_000
    public static let operationTimeoutMillisecondsDefault = 5_000
    public static let maxInFlightDefault = 1_024
    public static let connectTimeoutMillisecondsDefault = 5_000

    /// Full-jitter back-off between two handles: 0 to base × 2ⁿ, at most the cap.
    static let backOffBaseMilliseconds: Int64 = 100
    static let backOffCapMilliseconds: Int64 = 10_000
    /// An idle connection is asked for a sign of life this often in a session timeout. The library's own ping comes
    /// at a third, cannot be seen from outside, and is not sent when something else was.
    static let probesPerSessionTimeout: Int64 = 4
    /// A connection that has proven nothing for so many thirds of the session timeout counts as suspended, whatever the
    /// library says; a lease ends as early.
    static let leaseThirds: Int64 = 2
    /// After this time without a session the handle is looked at: when no server is even being talked to, it is closed
    /// and the back-off decides when to try again. The library itself would try every server again at a sixtieth of
    /// the session timeout, without end and without jitter.
    static let connectPatienceMilliseconds: Int64 = 500
    /// Pause before a sequence of snapshots reads again after an error that may pass.
    static let rereadPauseMilliseconds = 50
    /// The path buffer of a create within a multi: the path, ten digits, a terminator, and some slack.
    static let sequenceSuffixBytes = 16
    static let protectedCreateAttemptsMax = 5

    /// How often the in-memory store looks for containers to remove, at most; ZooKeeper's servers do so as often.
    static let containerCheckMilliseconds: Int64 = 60_000

    /// Lines of one kind of the C library's log that are passed on in a minute; the rest is counted. One for each
    /// server of a usual ensemble.
    static let libraryLogLinesPerMinuteMax = 5
    /// The same for lines below `notice`. They are only written for a logger that asks for them, to find a fault.
    static let libraryLogDiagnosticLinesPerMinuteMax = 1_200
    /// The library has some 150 statements that log.
    static let libraryLogKindsMax = 256
}
