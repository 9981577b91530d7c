/// Every bound of replaying a trace.
public enum SimulationLimits {
    public static let agentsRange = 1...1_000
    /// Commands a second.
    public static let nodeCapacityRange = 1.0...1_000_000_000.0
    /// Of a line, what is beyond is not read: `MONITOR` prints whole values, and keys stand before them.
    public static let lineBytesMax = 1 << 20
    /// What one line of a `MONITOR` output may name.
    public static let argumentsMax = 1 << 16
    /// Columns of a CSV.
    public static let columnsMax = 64
    /// What one line of a CSV may stand for.
    public static let countMax: UInt32 = 1_000_000
    /// A request that is this much older than the one before counts at that one's time: servers' clocks are set now and then.
    /// An older one is a trace that is not sorted.
    public static let backwardMillisecondsMax: UInt64 = 1_000
    /// A longer pause between two requests is taken for times in another unit.
    public static let gapSecondsMax: UInt64 = 86_400
    /// Keys that were ever hot and of which is told.
    public static let keysMax = 20_000
    /// Times that one key was hot and of which is told one by one.
    public static let spellsMax = 100
    /// Counters that deal a key's requests to the agents in turn; keys that share one share the turns.
    static let dealersCount = 1 << 16
}
