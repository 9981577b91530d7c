public import TransportSecurity

/// How a client reaches an agent's peer listener: encrypted or not, and with which password.
public struct PeerSecurity: Sendable {
    /// nil: the connection is not encrypted.
    public var tls: TLSClient?
    /// nil: no password is sent. Asked for every new connection.
    public var password: (@Sendable () -> SecretBytes)?

    public init(tls: TLSClient? = nil, password: (@Sendable () -> SecretBytes)? = nil) {
        self.tls = tls
        self.password = password
    }
}
