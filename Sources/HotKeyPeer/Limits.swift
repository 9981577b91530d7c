/// Every bound of a conversation with an agent.
public enum PeerLimits {
    public static let connectTimeoutMillisecondsDefault = 2_000
    public static let requestTimeoutMillisecondsDefault = 2_000
    public static let timeoutMillisecondsRange = 1...600_000
    /// `HK.LIST` is the longest reply: 10,000 keys of up to 1 KiB, which JSON may spell with six bytes for one.
    public static let replyBytesMaxDefault = 96 << 20
    public static let replyBytesMaxRange = 1 << 10...512 << 20
    /// Calls under way on one connection; one more fails at once instead of queueing.
    public static let callsInFlightMax = 1_024
    /// What `HK.REPORTS` may be told to wait for news; agents refuse more.
    public static let blockMillisecondsRange = 0...10_000
    /// Keys that `HK.TOP` answers with.
    public static let topKeysDefault = 20
    public static let topKeysRange = 1...1_000
    /// Text of an agent's error that is repeated in ours.
    static let quotedBytesMax = 512
}
