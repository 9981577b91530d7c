import Foundation
import HotKeyPeer
import HotKeyTestSupport
import RESP
import RedisProxy
import Testing
import TransportSecurity

extension ProxyTests {
    /// Who gets in, on every side of the proxy.
    @Suite struct Security {}
}

/// Files of passwords for one test.
struct SecretFiles {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory(prefix: "hotkey-secrets") }

    func users(passwords: String? = nil, users: String? = nil) throws -> ReloadedFiles<AccessList> {
        try AccessList.reloaded(
            passwordFile: passwords.map { try directory.writeSecret($0, to: "passwords") },
            usersFile: users.map { try directory.writeSecret($0, to: "users") }, names: ("passwordFile", "usersFile"))
    }

    func logins(_ text: String) throws -> ReloadedFiles<NodeLogins> {
        try NodeLogins.reloaded(directory.writeSecret(text, to: "logins"), name: "credentialsFile")
    }
}

extension TLSServer {
    init(_ identity: TestAuthority.Identity, clients authority: TestAuthority? = nil) throws {
        try self.init(
            TLSFiles(
                certificate: identity.certificate, key: identity.key, authority: authority?.certificate, names: .test),
            name: "listener")
    }
}

extension TLSClient {
    init(
        trusting authority: TestAuthority, as identity: TestAuthority.Identity? = nil, serverName: String? = nil
    ) throws {
        try self.init(
            TLSFiles(
                certificate: identity?.certificate, key: identity?.key, authority: authority.certificate, names: .test),
            serverName: serverName, name: "client")
    }
}

extension TLSFiles.Names {
    static let test = TLSFiles.Names(certificate: "certFile", key: "keyFile", authority: "caFile")
}

extension Rig {
    /// Another listener of the same proxy.
    func listen(
        _ role: ProxyServer.Role = .app, access: ReloadedFiles<AccessList>? = nil, tls: TLSServer? = nil
    ) async throws -> Int {
        var security = ListenerSecurity()
        if let access { security.access = { access.current } }
        security.tls = tls
        let address = try await server.listen(on: .tcp(host: "127.0.0.1", port: 0), role: role, security: security)
        guard case .tcp(_, let port) = address else { throw TestSupportError(.misuse, "no TCP address") }
        return port
    }
}

extension RedisServer {
    /// A server that also speaks TLS, on the port returned.
    static func startWithTLS(
        _ identity: TestAuthority.Identity, authority: TestAuthority, asksForCertificates: Bool = false,
        extraArguments: [String] = []
    ) async throws -> (server: RedisServer, tlsPort: Int) {
        let port = try FreePort.next()
        let server = try await RedisServer.start(
            extraArguments: [
                "--tls-port", "\(port)", "--tls-cert-file", identity.certificate, "--tls-key-file", identity.key,
                "--tls-ca-cert-file", authority.certificate, "--tls-auth-clients", asksForCertificates ? "yes" : "no",
            ] + extraArguments)
        return (server, port)
    }
}

extension PeerClient {
    func words(_ words: String...) async throws -> RESPValue {
        try await command(words.map { Array($0.utf8) }, timeoutMilliseconds: 20_000)
    }
}
