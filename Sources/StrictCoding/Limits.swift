/// What a document may cost before it is refused.
public enum StrictCodingLimits {
    /// Bytes of a document when the caller names no bound of its own.
    public static let inputBytesMax = 1 << 20
    /// Mappings and sequences inside one another. The parsers recurse, so this also bounds the stack.
    public static let nestingMax = 64
    /// Characters of an offending value that an error repeats.
    public static let quotedCharactersMax = 64
}
