import Foundation
import HotKeyPeer
import HotKeyTestSupport
import RESP
import RedisProxy
import Testing
import TransportSecurity

extension ProxyTests.Security {
    /// TLS to apps, between agents, and to the nodes.
    @Suite struct ProxyTLS {
        @Test func appsUseTheirOwnClients() async throws {
            let authority = try await TestAuthority()
            let server = try await authority.sign("server")
            let own = try await authority.sign("client")
            let secrets = try SecretFiles()
            try await Rig.with { rig in
                let port = try await rig.listen(
                    access: secrets.users(users: "ann:secret\n"), tls: try TLSServer(server, clients: authority))
                let cli = try await SpawnedProcess.run(
                    try SystemTool.redisCLI(),
                    [
                        "-p", "\(port)", "--tls", "--cacert", authority.certificate, "--cert", own.certificate, "--key",
                        own.key,
                        "--user", "ann", "--pass", "secret", "--no-auth-warning", "SET", "cli", "value",
                    ])
                #expect(cli.standardOutput == "OK\n", "\(cli)")
                let result = try await SpawnedProcess.run(
                    try SystemTool.python(),
                    ["-c", Self.script, "\(port)", authority.certificate, own.certificate, own.key])
                #expect(result.standardOutput.contains("all is well"), "\(result)")
                // Plain text, and TLS without a certificate, get nowhere.
                let plain = try await RedisTestClient.connect(port: port)
                try await plain.send(raw: encode(["PING"]))
                let answer = try? await plain.receiveRawToEnd()
                #expect(answer?.contains(UInt8(ascii: "+")) != true)
                let bare = try await SpawnedProcess.run(
                    try SystemTool.redisCLI(), ["-p", "\(port)", "--tls", "--cacert", authority.certificate, "PING"])
                #expect(!bare.standardOutput.contains("PONG") && !bare.standardOutput.contains("NOAUTH"), "\(bare)")
                await plain.close()
                try await eventually("nobody is left") { try await rig.server.statistics().clientsConnected == 0 }
            }
        }

        private static let script = """
            import sys, redis
            port, ca, certificate, key = int(sys.argv[1]), *sys.argv[2:]
            def client(**more):
                return redis.Redis(port=port, ssl=True, ssl_ca_certs=ca, ssl_certfile=certificate, ssl_keyfile=key,
                                   ssl_check_hostname=True, host='localhost', username='ann', **more)
            r = client(password='secret')
            large = b'x' * (3 << 20)
            assert r.get('cli') == b'value' and r.set('large', large) and r.get('large') == large
            p = r.pipeline(transaction=False)
            for i in range(2000): p.set('p%d' % i, i)
            assert p.execute() == [True] * 2000
            try:
                client(password='wrong').ping()
                raise SystemExit('let in')
            except redis.exceptions.RedisError as error: assert 'WRONGPASS' in str(error), error
            print('all is well')
            """

        @Test func nodesAreReachedEncryptedAndByTheirName() async throws {
            let (authority, stranger) = (try await TestAuthority(), try await TestAuthority())
            let (node, tlsPort) = try await RedisServer.startWithTLS(
                try await authority.sign("node"), authority: authority, asksForCertificates: true,
                extraArguments: ["--requirepass", "pw"])
            let own = try await authority.sign("agent")
            let secrets = try SecretFiles()
            let logins = try secrets.logins("default:pw\n")
            func with(_ tls: TLSClient, _ body: (Rig) async throws -> Void) async throws {
                try await Rig.with(nodes: [node], ports: [tlsPort]) {
                    $0.upstreamSecurity = UpstreamSecurity(tls: tls, logins: { logins.current })
                } _: {
                    try await body($0)
                }
            }
            try await with(TLSClient(trusting: authority, as: own)) { rig in
                for version in ["2", "3"] {
                    let client = try await rig.client()
                    try await client.command("HELLO", version)
                    let large = String(repeating: "x", count: 3 << 20)
                    let commands = [
                        ["SET", "k", large], ["MULTI"], ["GET", "k"], ["EXEC"], ["RESET"], ["STRLEN", "k"],
                    ]
                    let replies = try await client.pipeline(commands)
                    #expect(replies[0] == .ok && replies[3] == .array([.text(large)]))
                    #expect(replies[5] == .integer(3 << 20))
                    await client.close()
                }
                #expect(rig.server.upstreamProblems.isEmpty)
            }
            let wrong: [(TLSClient, String)] = [
                (try TLSClient(trusting: stranger, as: own), "is not signed by the given authority"),
                (try TLSClient(trusting: authority, as: own, serverName: "other.example"), "is for another name"),
                (try TLSClient(trusting: authority), "client certificate"),
                (
                    try TLSClient(trusting: authority, as: try await stranger.sign("agent")),
                    "certificate that it was shown"
                ),
            ]
            for (tls, reason) in wrong {
                try await with(tls) { rig in
                    let client = try await rig.client()
                    let text = try await client.line("GET k").errorMessage ?? ""
                    #expect(text.contains("cannot be used by the agent") && text.contains(reason), "\(text)")
                    #expect(rig.server.upstreamProblems.first?.problem.contains(reason) == true)
                    await client.close()
                }
            }
            // TLS to where plain text is spoken.
            try await Rig.with(nodes: [node]) {
                $0.upstreamSecurity.tls = try? TLSClient(trusting: authority)
            } _: { rig in
                let client = try await rig.client()
                #expect(try await client.line("GET k").errorMessage != nil)
                await client.close()
            }
            await node.stop()
        }

        @Test func certificatesAreRenewedUnderLiveConnections() async throws {
            let (old, new) = (try await TestAuthority(), try await TestAuthority())
            let directory = try TemporaryDirectory(prefix: "hotkey-tls")
            func install(_ identity: TestAuthority.Identity) throws {
                try directory.write(String(contentsOfFile: identity.certificate, encoding: .utf8), to: "cert.pem")
                try directory.writeSecret(String(contentsOfFile: identity.key, encoding: .utf8), to: "key.pem")
            }
            try install(try await old.sign("one"))
            let tls = try TLSServer(
                TLSFiles(certificate: directory.file("cert.pem"), key: directory.file("key.pem"), names: .test),
                name: "listener")
            try await Rig.with { rig in
                let port = try await rig.listen(tls: tls)
                func connect(_ authority: TestAuthority) async throws -> PeerClient {
                    try await PeerClient.connect(
                        host: "127.0.0.1", port: port, security: PeerSecurity(tls: try TLSClient(trusting: authority)))
                }
                let before = try await connect(old)
                #expect(try await before.words("SET", "k", "v") == .simpleString("OK"))
                try install(try await new.sign("two"))
                #expect(tls.files.refresh() == .renewed)
                #expect(try await before.words("GET", "k") == .bulk("v"), "what stands goes on")
                let after = try await connect(new)
                #expect(try await after.words("GET", "k") == .bulk("v"))
                let error = await #expect(throws: PeerError.self) { _ = try await connect(old) }
                #expect(error?.code == .notAdmitted && error?.message.contains("is not signed") == true)
                for client in [before, after] { await client.close() }
            }
        }

        @Test func oneClientTooManyIsDisconnectedWithoutAHandshake() async throws {
            let authority = try await TestAuthority()
            let tls = try TLSServer(try await authority.sign("server"))
            try await Rig.with {
                $0.clientsMax = 1
            } _: { rig in
                let port = try await rig.listen(tls: tls)
                let security = PeerSecurity(tls: try TLSClient(trusting: authority))
                let first = try await PeerClient.connect(host: "127.0.0.1", port: port, security: security)
                #expect(try await first.words("PING") == .simpleString("PONG"))
                let error = await #expect(throws: PeerError.self) {
                    _ = try await PeerClient.connect(host: "127.0.0.1", port: port, security: security)
                }
                #expect(error?.message.contains("during the TLS handshake") == true)
                #expect(try await rig.server.statistics().clientsRefused == 1)
                await first.close()
            }
        }

        @Test func toolsAndAgentsReachAPeerListenerWithPasswordAndCertificate() async throws {
            let authority = try await TestAuthority()
            let (server, own) = (try await authority.sign("server"), try await authority.sign("tool"))
            let secrets = try SecretFiles()
            try await Rig.with { rig in
                let port = try await rig.listen(
                    .peer, access: try secrets.users(passwords: "shared\n"),
                    tls: try TLSServer(server, clients: authority))
                func connect(_ tls: TLSClient?, _ password: String?) async throws -> PeerClient {
                    var security = PeerSecurity(tls: tls)
                    if let password { security.password = { SecretBytes(Array(password.utf8)) } }
                    return try await PeerClient.connect(host: "127.0.0.1", port: port, security: security)
                }
                let good = try TLSClient(trusting: authority, as: own)
                let client = try await connect(good, "shared")
                #expect(try await client.words("HK.ECHO", "a") == .array([.bulk("a")]))
                await client.close()
                var error = await #expect(throws: PeerError.self) { _ = try await connect(good, "wrong") }
                #expect(error?.code == .notAdmitted && error?.message.contains("does not accept the password") == true)
                #expect(error?.isRetriable == false && error?.message.contains("wrong") == false)
                error = await #expect(throws: PeerError.self) {
                    _ = try await connect(try TLSClient(trusting: try await TestAuthority()), "shared")
                }
                #expect(error?.code == .notAdmitted)
                error = await #expect(throws: PeerError.self) {
                    let client = try await connect(good, nil)
                    _ = try await client.status()
                }
                #expect(error?.code == .notAdmitted && error?.message.contains("asks for a password") == true)
                // Without TLS, and without a certificate: the connection ends.
                for tls in [nil, try TLSClient(trusting: authority)] {
                    await #expect(throws: PeerError.self) {
                        let client = try await connect(tls, "shared")
                        _ = try await client.words("HK.ECHO", "a")
                    }
                }
                // A password that nobody asks for does no harm.
                let open = try await rig.listen(.peer)
                let plain = try await PeerClient.connect(
                    host: "127.0.0.1", port: open,
                    security: PeerSecurity(password: { SecretBytes(Array("shared".utf8)) }))
                #expect(try await plain.words("HK.ECHO", "a") == .array([.bulk("a")]))
                await plain.close()
            }
        }
    }
}
