/// The bounds of the wire: nothing read from a socket makes memory grow past what these allow.
public enum RESPLimits {
    /// Longest line that is not data: a length header or an inline command. Redis: `PROTO_INLINE_MAX_SIZE`.
    public static let lineBytesMax = 64 * 1024
    /// Longest line of a reply that is data: an error, a simple string, a big number.
    public static let textLineBytesMax = 64 * 1024 * 1024
    /// Largest single argument. Redis: `proto-max-bulk-len`, 512 MB by default.
    public static let bulkBytesMax = 512 * 1024 * 1024
    /// Largest command. Redis: `client-query-buffer-limit`, 1 GB by default.
    public static let commandBytesMax = 1024 * 1024 * 1024
    /// Most arguments of one command. Redis accepts `INT_MAX`; this is what it accepted up to version 6.
    public static let argumentsMax = 1024 * 1024
    /// Places for arguments that a parser keeps for its next command.
    static let keptArgumentsMax = 4096
    /// Deepest nesting that ``RESPValue`` decodes. Redis replies nest no deeper than 7 levels.
    public static let depthMax = 32
    /// Most elements of one aggregate that ``RESPValue`` decodes.
    public static let elementsMax = 1024 * 1024
}
