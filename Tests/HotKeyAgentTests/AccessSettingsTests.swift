import Foundation
import HotKeyTestSupport
import Logging
import RedisProxy
import Testing

@testable import HotKeyAgent

/// A certificate of its own and its key, for tests that need files and no conversation.
struct TestIdentity: Sendable {
    static let shared = TestIdentity()
    let certificate: String
    let key: String
    private let directory: TemporaryDirectory

    private init() {
        do {
            directory = try TemporaryDirectory(prefix: "hotkey-identity")
            certificate = directory.file("cert.pem")
            key = directory.file("key.pem")
            let process = Process()
            process.executableURL = URL(fileURLWithPath: try SystemTool.openSSL())
            process.arguments = [
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-batch",
                "-subj",
                "/CN=test", "-keyout", key, "-out", certificate,
            ]
            process.standardError = FileHandle.nullDevice
            try process.run()
            process.waitUntilExit()
        } catch { preconditionFailure("openssl makes no certificate: \(error)") }
    }
}

/// Who may connect from where.
@Suite struct AccessSettingsTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory(prefix: "cfg") }

    private func load(_ flags: [String: String]) throws -> EffectiveConfiguration {
        let standard = ["app": "shop", "zookeeper": "127.0.0.1:2181", "state-dir": "/x"]
        return try ConfigurationLoader(flags: standard.merging(flags) { $1 }).load()
    }

    private func problem(_ flags: [String: String]) throws -> String {
        try #require(throws: ConfigurationError.self) { _ = try load(flags) }.description
    }

    private var tls: [String: String] {
        let identity = TestIdentity.shared
        return [
            "peer-tls-certificate-file": identity.certificate, "peer-tls-key-file": identity.key,
            "peer-tls-ca-file": identity.certificate,
        ]
    }

    @Test(arguments: ["10.0.0.5:7380", "0.0.0.0:7380", "[::]:7380", "cache-1.example:7380"])
    func aPeerListenerForOtherHostsNeedsAuthentication(peer: String) throws {
        let flags = ["peer": peer, "advertise-peer": "cache-1.example:7380"]
        for open in [flags, flags.merging(tls) { $1 }] {
            let problem = try problem(open)
            #expect(problem.hasPrefix("--peer: expected authentication beside it, or a loopback address"), "\(problem)")
            #expect(problem.contains("peerSecurity.passwordFile") && problem.contains("requireClientCertificates"))
        }
        let password = try directory.secret("password")
        let withPassword = try load(flags.merging(["peer-password-file": password]) { $1 })
        #expect(withPassword.warnings.contains { $0.hasPrefix("peer takes passwords from other hosts") })
        let mutual = flags.merging(tls) { $1 }.merging(["peer-require-client-certificates": "true"]) { $1 }
        #expect(try load(mutual).warnings.isEmpty)
    }

    @Test func whoRunsAnAgentWithoutTheProgramIsRefusedAnOpenPeerAsWell() throws {
        var configuration = AgentConfiguration(app: "shop", zookeeperServers: [HostPort(host: "127.0.0.1", port: 2181)])
        configuration.peer = HostPort(host: "10.0.0.5", port: 7380)
        let error = try #require(throws: AgentError.self) {
            _ = try AgentRuntime(configuration: configuration, logger: Logger(label: "test"))
        }
        #expect(error.code == .openPeer && error.message.contains("peerSecurity.passwordFile"))
    }

    @Test func anAppListenerForOtherHostsNeedsAuthenticationOrTheOperatorsWord() throws {
        let open = try problem(["listen": "0.0.0.0:6380"])
        #expect(open.hasPrefix("--listen: expected authentication beside it"), "\(open)")
        #expect(open.contains("listenSecurity.allowUnauthenticated"))
        let said = try load(["listen": "0.0.0.0:6380", "listen-allow-unauthenticated": "true"])
        #expect(said.warnings.contains { $0.hasPrefix("listen accepts connections from other hosts (0.0.0.0:6380)") })
        let password = try directory.secret("password")
        let asked = try load(["listen": "0.0.0.0:6380", "listen-password-file": password])
        #expect(asked.warnings.contains { $0.hasPrefix("listen takes passwords from other hosts") })
        // An agent that serves no apps opens no listener for them.
        #expect(try load(["listen": "0.0.0.0:6380", "coordinator": "only"]).configuration.appListener == nil)
    }

    @Test(arguments: [
        (["listen-tls-certificate-file": "CERT"], "expected listenSecurity.tlsKeyFile beside it"),
        (["listen-tls-key-file": "KEY"], "expected listenSecurity.tlsCertificateFile beside it"),
        (["listen-tls-client-ca-file": "CERT"], "expected listenSecurity.tlsCertificateFile beside it"),
        (["peer-tls-ca-file": "CERT"], "peerSecurity.tlsCertificateFile: expected a file, found none"),
        (["peer-tls-server-name": "a.example"], "expected peerSecurity.tlsCertificateFile beside it"),
        (["peer-require-client-certificates": "true"], "expected peerSecurity.tlsCertificateFile beside it"),
        (
            ["upstream-tls-certificate-file": "CERT", "upstream-tls-key-file": "KEY"],
            "expected upstream.tlsCaFile beside it"
        ),
        (["upstream-tls-server-name": "a.example"], "expected upstream.tlsCaFile beside it"),
        (["upstream-tls-ca-file": "KEY"], "upstream.tlsCaFile KEY: expected certificates in PEM"),
        (["listen-users-file": "/no/such"], "listenSecurity.usersFile /no/such: expected a file that can be read"),
        (["upstream-credentials-file": "CERT"], "upstream.credentialsFile CERT: it holds a secret"),
        (["deny-commands": "flushall,FLUSH"], "there is no command flush"),
        (["deny-commands": "config|nothing"], "there is no command config|nothing"),
        (["deny-commands": "keys,,debug"], "expected names of Redis commands"),
        (["listen-mode": "660"], ""), (["listen-mode": "0060"], "expected octal permissions"),
        (["listen-mode": "0888"], "expected octal permissions"),
        (["listen-mode": "4777"], "expected octal permissions"),
    ])
    func whatDoesNotGoTogetherIsRefused(flags: [String: String], expected: String) throws {
        let identity = TestIdentity.shared
        func filled(_ text: String) -> String {
            text.replacingOccurrences(of: "CERT", with: identity.certificate).replacingOccurrences(
                of: "KEY", with: identity.key)
        }
        guard !expected.isEmpty else {
            #expect(try load(flags).configuration.listenMode == 0o660)
            return
        }
        let problem = try problem(flags.mapValues(filled))
        #expect(problem.contains(filled(expected)), "\(problem)")
    }

    @Test func deniedCommandsReachTheDataPathWhateverTheirCase() throws {
        let configuration = try load(["deny-commands": "FlushAll,CONFIG|SET"]).configuration
        #expect(
            configuration.proxyConfiguration(hashSeed: 0, upstreamSecurity: UpstreamSecurity()).deniedCommands.names
                == ["flushall", "config|set"])
        #expect(AgentConfiguration().denyCommands.isEmpty)
    }

    @Test func aModeWithoutAUnixSocketIsWarnedOf() throws {
        #expect(try load(["listen-mode": "0600"]).warnings == ["listenMode has no effect: listen is no Unix socket"])
        #expect(try load(["listen-mode": "0600", "listen": "unix:/run/app.sock"]).warnings.isEmpty)
    }
}
