/// What a configuration may cost to read. The bounds of the settings themselves stand in their table, ``Setting/all``.
public enum ConfigurationLimits {
    /// Bytes of a configuration file.
    public static let fileBytesMax = 1 << 20
    /// Characters of a refused value that an error repeats.
    static let quotedCharactersMax = 64
    /// What the agent takes, after `shutdownGraceMilliseconds`, to leave the registry and close, before it is cancelled.
    public static let shutdownMarginMilliseconds = 5_000
}
