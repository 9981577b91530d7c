import Foundation

/// A certificate authority for one test, made by the `openssl` program, and the certificates that it signs.
public final class TestAuthority: Sendable {
    /// A certificate and its key, PEM. The key belongs to its owner alone.
    public struct Identity: Sendable {
        public let certificate: String
        public let key: String
    }

    /// The authority's own certificate, PEM.
    public let certificate: String
    private let directory: TemporaryDirectory
    private let key: String

    public init() async throws {
        directory = try TemporaryDirectory(prefix: "hotkey-ca")
        certificate = directory.file("ca.pem")
        key = directory.file("ca.key")
        try await Self.openSSL(
            ["req", "-x509"] + Self.newKey(key) + ["-out", certificate, "-days", "2", "-subj", "/CN=test authority"])
    }

    /// - Parameters:
    ///   - name: of the files; signing the same name again replaces them.
    ///   - subjects: as OpenSSL's `subjectAltName` takes them.
    ///   - days: until it expires; negative: it has.
    public func sign(
        _ name: String, for subjects: String = "DNS:localhost,IP:127.0.0.1", days: Int = 2
    ) async throws -> Identity {
        let identity = Identity(certificate: directory.file("\(name).pem"), key: directory.file("\(name).key"))
        let request = directory.file("\(name).csr")
        let extensions = try directory.write("subjectAltName=\(subjects)\n", to: "\(name).ext")
        try await Self.openSSL(
            ["req", "-new"] + Self.newKey(identity.key) + ["-out", request, "-subj", "/CN=\(name)"])
        try await Self.openSSL([
            "x509", "-req", "-in", request, "-CA", certificate, "-CAkey", key, "-CAcreateserial", "-out",
            identity.certificate, "-days", "\(days)", "-extfile", extensions,
        ])
        return identity
    }

    private static func newKey(_ path: String) -> [String] {
        ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-batch", "-keyout", path]
    }

    private static func openSSL(_ arguments: [String]) async throws {
        let outcome = try await SpawnedProcess.run(try SystemTool.openSSL(), arguments)
        guard outcome.status == 0 else {
            throw TestSupportError(.process, "openssl \(arguments[0]): \(outcome)")
        }
    }
}
