/// Why a file of certificates or passwords cannot be used, or a connection cannot be secured. Secrets are never part of it.
public struct TransportSecurityError: Error, Sendable, Hashable, CustomStringConvertible {
    public enum Code: Sendable, Hashable {
        /// A file cannot be read, is open to others, or does not hold what it should.
        case badFile
        /// A TLS handshake failed.
        case handshakeFailed
        /// A TLS handshake took too long.
        case handshakeTimedOut
    }
    public var code: Code
    public var message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}
