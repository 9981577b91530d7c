/// Every bound of the files and handshakes in this module.
public enum TransportLimits {
    /// Certificates, authorities with all their roots, and keys.
    static let certificateFileBytesMax = 1 << 20
    /// A file of passwords.
    static let secretFileBytesMax = 256 << 10
    /// Users or passwords in one file.
    static let secretsMax = 1_000
    public static let passwordBytesMax = 512
    static let userBytesMax = 128
    /// From the first byte to the end of a TLS handshake, as a server. A client that is slower is disconnected.
    public static let handshakeMillisecondsDefault: Int64 = 10_000
}
