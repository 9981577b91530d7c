/// Bytes that no log line, error or dump shows.
public struct SecretBytes: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable
{
    /// The bytes themselves: for the one place that has to send them.
    public let revealed: [UInt8]

    public init(_ bytes: some Sequence<UInt8>) { revealed = Array(bytes) }

    public var description: String { "(set)" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: []) }
}
