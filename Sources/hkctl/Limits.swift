/// Every bound of the tool that is not the registry's or the agents' own.
enum ControlLimits {
    static let timeoutMillisecondsDefault: Int64 = 5_000
    /// The tool holds nothing that ends with its session. ZooKeeper's library gives up a connection that is silent after two
    /// thirds of this, so a shorter one makes a decision wait less for a connection that has died without a word. Servers
    /// grant no less than two of their ticks, 4 s by default.
    static let sessionTimeoutMilliseconds = 4_000
    /// The longest time to live that can be asked for.
    static let timeSpanMillisecondsMax: Int64 = 3_650 * 86_400_000
    /// Agents that are asked at the same time.
    static let agentsAskedAtOnceMax = 64
    /// Of a ZooKeeper server's answer to a four-letter word.
    static let serverAnswerBytesMax = 64 << 10
    /// Agents that are asked for a route before giving up; they all know the same.
    static let routeAgentsMax = 16
    /// Names and reasons that an error lists.
    static let listedMax = 20
    /// A key is not shortened below this many columns, even when the table gets wider than the terminal.
    static let shortenedColumnsMin = 12
    /// Narrower than this, `COLUMNS` is not believed.
    static let terminalColumnsMin = 40
    /// How often `watch` looks whether a pin or a deny has expired.
    static let expiryCheckMilliseconds = 250
    /// How often `top` asks, and how many keys it shows when it is not told.
    static let topIntervalMillisecondsDefault: Int64 = 1_000
    static let topIntervalMillisecondsRange: ClosedRange<Int64> = 100...3_600_000
    /// A rate that changed by less than this part of itself between two turns is steady.
    static let trendShareMin = 0.1
}
