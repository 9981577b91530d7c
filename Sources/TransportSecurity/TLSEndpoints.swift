public import NIOCore
import NIOSSL

/// The files of one TLS endpoint, all PEM, and what they are called in errors.
public struct TLSFiles: Sendable, Hashable {
    /// The certificate and its chain, the endpoint's own first.
    public var certificate: String?
    public var key: String?
    /// The authorities that the other side's certificate must be signed by.
    public var authority: String?
    /// The settings that name the files.
    public var names: Names

    public struct Names: Sendable, Hashable {
        public var certificate: String
        public var key: String
        public var authority: String

        public init(certificate: String, key: String, authority: String) {
            self.certificate = certificate
            self.key = key
            self.authority = authority
        }
    }

    public init(certificate: String? = nil, key: String? = nil, authority: String? = nil, names: Names) {
        self.certificate = certificate
        self.key = key
        self.authority = authority
        self.names = names
    }

    var paths: [String] { [certificate, key, authority].compactMap { $0 } }

    func identity() throws(TransportSecurityError) -> (chain: [NIOSSLCertificateSource], key: NIOSSLPrivateKeySource)? {
        guard let certificate, let key else { return nil }
        let chain = try Self.certificates(certificate, names.certificate)
        let bytes = try ProtectedFile.read(
            key, name: names.key, bytesMax: TransportLimits.certificateFileBytesMax, isSecret: true)
        do {
            return (chain.map { .certificate($0) }, .privateKey(try NIOSSLPrivateKey(bytes: bytes, format: .pem)))
        } catch {
            throw .init(
                .badFile, "\(names.key) \(key): expected a key in PEM without a passphrase, found something else")
        }
    }

    func trustRoots() throws(TransportSecurityError) -> NIOSSLTrustRoots? {
        guard let authority else { return nil }
        return .certificates(try Self.certificates(authority, names.authority))
    }

    /// What `configuration` comes to; also finds a key that is not the certificate's.
    func context(_ configuration: TLSConfiguration) throws(TransportSecurityError) -> NIOSSLContext {
        var configuration = configuration
        configuration.minimumTLSVersion = .tlsv12
        do {
            return try NIOSSLContext(configuration: configuration)
        } catch {
            let place = certificate.map { "\(names.certificate) \($0)" } ?? "\(names.authority) \(authority ?? "")"
            throw .init(
                .badFile,
                "\(place): expected a certificate and the key that belongs to it\(key.map { " (\(names.key) \($0))" } ?? ""), "
                    + "found ones that do not go together: \(error)")
        }
    }

    private static func certificates(
        _ path: String, _ name: String
    ) throws(TransportSecurityError) -> [NIOSSLCertificate] {
        let bytes = try ProtectedFile.read(
            path, name: name, bytesMax: TransportLimits.certificateFileBytesMax, isSecret: false)
        let found = try? NIOSSLCertificate.fromPEMBytes(bytes)
        guard let found, !found.isEmpty else {
            throw .init(.badFile, "\(name) \(path): expected certificates in PEM, found something else")
        }
        return found
    }
}

/// TLS as a listener speaks it: 1.2 or later; with an authority, clients must show a certificate that it has signed.
public struct TLSServer: Sendable {
    private let contexts: ReloadedFiles<NIOSSLContext>
    public let requiresClientCertificate: Bool
    public var files: any Reloadable { contexts }

    /// - Parameter files: certificate and key are required.
    public init(_ files: TLSFiles, name: String) throws(TransportSecurityError) {
        requiresClientCertificate = files.authority != nil
        contexts = try ReloadedFiles(name: name, paths: files.paths) { () throws(TransportSecurityError) in
            guard let identity = try files.identity() else {
                throw .init(
                    .badFile, "\(files.names.certificate), \(files.names.key): expected both, found one at most")
            }
            var configuration = TLSConfiguration.makeServerConfiguration(
                certificateChain: identity.chain, privateKey: identity.key)
            if let roots = try files.trustRoots() {
                configuration.trustRoots = roots
                configuration.certificateVerification = .noHostnameVerification
            }
            return try files.context(configuration)
        }
    }

    /// Adds what a new connection needs, before every other handler. A handshake that is not done in time, or fails, closes the
    /// connection. Call it on the channel's event loop.
    public func secure(_ channel: any Channel, handshakeMilliseconds: Int64) throws {
        let pipeline = channel.pipeline.syncOperations
        try pipeline.addHandlers([
            NIOSSLServerHandler(context: contexts.current),
            TLSHandshake(milliseconds: handshakeMilliseconds, closesOnFailure: true, done: nil),
        ])
    }
}

/// TLS as a client speaks it: 1.2 or later. The server's certificate must be signed by the authority and be for the name that is
/// expected.
public struct TLSClient: Sendable {
    private let contexts: ReloadedFiles<NIOSSLContext>
    private let serverName: String?
    public var files: any Reloadable { contexts }

    /// - Parameters:
    ///   - files: the authority is required; certificate and key are shown where the server asks for them.
    ///   - serverName: what the server's certificate must be for; nil: the host or address that is dialled.
    public init(_ files: TLSFiles, serverName: String?, name: String) throws(TransportSecurityError) {
        self.serverName = serverName
        contexts = try ReloadedFiles(name: name, paths: files.paths) { () throws(TransportSecurityError) in
            var configuration = TLSConfiguration.makeClientConfiguration()
            guard let roots = try files.trustRoots() else {
                throw .init(.badFile, "\(files.names.authority): expected a file, found none")
            }
            configuration.trustRoots = roots
            if let identity = try files.identity() {
                configuration.certificateChain = identity.chain
                configuration.privateKey = identity.key
            }
            return try files.context(configuration)
        }
    }

    /// Adds what a new connection needs, before every other handler. Call it on the channel's event loop.
    /// - Parameter host: what is dialled, a name or an address.
    /// - Returns: done when the handshake is; fails with ``TransportSecurityError``. The connection is not closed for it.
    public func secure(
        _ channel: any Channel, host: String, handshakeMilliseconds: Int64
    ) throws -> EventLoopFuture<Void> {
        let name = serverName ?? host
        // Addresses are compared with the addresses in the certificate, and cannot be asked for by name.
        let isAddress = (try? SocketAddress(ipAddress: name, port: 0)) != nil
        let done = channel.eventLoop.makePromise(of: Void.self)
        do {
            try channel.pipeline.syncOperations.addHandlers([
                NIOSSLClientHandler(context: contexts.current, serverHostname: isAddress ? nil : name),
                TLSHandshake(
                    milliseconds: handshakeMilliseconds, closesOnFailure: false, expectedName: isAddress ? nil : name,
                    done: done),
            ])
        } catch {
            let failure = TransportSecurityError(
                .handshakeFailed, "TLS cannot expect the server name \(name): \(error)")
            done.fail(failure)
            throw failure
        }
        return done.futureResult
    }
}
