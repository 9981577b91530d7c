/// Every bound of a scan of cache nodes.
public enum ScanLimits {
    public static let keysPerSecondDefault = 5_000
    public static let keysPerSecondRange = 10...1_000_000
    /// Keys that a scan keeps.
    public static let topDefault = 20
    public static let topRange = 1...5_000
    /// Keys asked for at once; fewer at low rates, so that a second has several calls.
    static let batchKeysRange = 10...250
    static let batchesPerSecond = 20
    /// Nodes scanned at the same time, each at its own rate.
    static let nodesAtOnceMax = 16
    /// A longer reply of a node ends its scan: so many keys of a usual length are far shorter.
    static let replyBytesMax = 64 << 20
    /// `OBJECT FREQ` calls under way on one connection.
    static let callsAtOnceMax = 500
    /// Longer keys cannot be in the hot set, so they are passed over.
    static let keyBytesMax = 1 << 10
    /// Masters of a Redis Cluster.
    static let clusterNodesMax = 1_024
    /// How often a node's progress is told.
    static let progressMilliseconds: Int64 = 1_000
    /// Of a node's words that are repeated in ours.
    static let quotedBytesMax = 256
}
