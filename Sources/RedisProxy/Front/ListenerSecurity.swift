public import TransportSecurity

/// Who may use a listener, and how it is reached.
public struct ListenerSecurity: Sendable {
    /// Who may use it, asked whenever a client says who it is; nil: everyone.
    public var access: (@Sendable () -> AccessList)?
    /// nil: connections are not encrypted.
    public var tls: TLSServer?
    /// Permissions of a Unix socket. Connecting needs the right to write.
    public var socketMode: UInt32 = ListenerSecurity.socketModeDefault
    /// The group that a Unix socket belongs to, by name; nil: the process's own.
    public var socketGroup: String?

    /// Its owner and its group.
    public static let socketModeDefault: UInt32 = 0o660

    public init() {}
}
