import Foundation
import Glibc
import HotKeyTestSupport
import Testing

/// Agents, tools, an app and a cache node that all have to show who they are.
@Suite struct SecuredFleetTests {
    private let directory: TemporaryDirectory
    private static let secrets = ["node-secret", "fleet-secret", "app-secret", "ann-secret", "changed-secret"]

    init() throws { directory = try TemporaryDirectory(prefix: "secured") }

    private struct Agent {
        let process: SpawnedProcess
        let appPort: Int
        let adminPort: Int

        func http(_ path: String) async throws -> String {
            do {
                let client = try await RedisTestClient.connect(port: adminPort)
                try await client.send(raw: "GET \(path) HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                let bytes = try await client.receiveRawToEnd()
                await client.close()
                return String(decoding: bytes, as: UTF8.self)
            } catch let error as TestSupportError where error.code == .connectionRefused { return "" }
        }

        func metric(_ name: String) async throws -> Int? {
            let line = try await http("/metrics").split(separator: "\n").first { $0.hasPrefix("\(name) ") }
            return line.flatMap { Int($0.dropFirst(name.count + 1)) }
        }
    }

    private func start(_ hkctl: HKCtl, _ id: String, _ flags: [String: String]) async throws -> Agent {
        let (appPort, peerPort, adminPort) = (try FreePort.next(), try FreePort.next(), try FreePort.next())
        let all = [
            "--id": id, "--threads": "1", "--listen": "127.0.0.1:\(appPort)", "--peer": "127.0.0.1:\(peerPort)",
            "--admin": "127.0.0.1:\(adminPort)",
        ].merging(flags) { $1 }
        let process = try await SpawnedProcess.start(
            try BinaryLocator.path("hkagent"),
            ["run", "--peer-require-client-certificates"]
                + all.sorted { $0.key < $1.key }.flatMap { [$0.key, $0.value] },
            environment: hkctl.environment)
        let agent = Agent(process: process, appPort: appPort, adminPort: adminPort)
        try await eventually("agent \(id) is ready") {
            guard process.isRunning else { throw Unexpected("agent \(id) ended: \(process.allOutput)") }
            return try await agent.http("/readyz").hasPrefix("HTTP/1.1 200")
        }
        return agent
    }

    private func cli(_ port: Int, _ authority: TestAuthority, _ words: String...) async throws -> String {
        let outcome = try await SpawnedProcess.run(
            try SystemTool.redisCLI(),
            ["-p", "\(port)", "--tls", "--cacert", authority.certificate, "--no-auth-warning"] + words)
        return outcome.standardOutput.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    @Test func everyPartShowsWhoItIsAndFilesChangeUnderARunningFleet() async throws {
        let authority = try await TestAuthority()
        let (nodeTLS, agentTLS, toolTLS) = (
            try await authority.sign("node"), try await authority.sign("agent", for: "DNS:agents.example"),
            try await authority.sign("tool")
        )
        let nodePort = try FreePort.next()
        let node = try await RedisServer.start(extraArguments: [
            "--tls-port", "\(nodePort)", "--tls-cert-file", nodeTLS.certificate, "--tls-key-file", nodeTLS.key,
            "--tls-ca-cert-file", authority.certificate, "--tls-auth-clients", "no", "--requirepass", "node-secret",
        ])
        let hkctl = try await HKCtl()
        try await hkctl.done("init", "--nodes", "a=127.0.0.1:\(nodePort)")
        let front = (directory.file("front.pem"), directory.file("front.key"))
        func install(_ identity: TestAuthority.Identity) throws {
            try directory.write(String(contentsOfFile: identity.certificate, encoding: .utf8), to: "front.pem")
            try directory.writeSecret(String(contentsOfFile: identity.key, encoding: .utf8), to: "front.key")
        }
        try install(try await authority.sign("front"))
        let flags = [
            "--upstream-credentials-file": try directory.writeSecret("default:node-secret\n", to: "nodes"),
            "--upstream-tls-ca-file": authority.certificate,
            "--peer-password-file": try directory.writeSecret("fleet-secret\n", to: "fleet"),
            "--peer-tls-certificate-file": agentTLS.certificate, "--peer-tls-key-file": agentTLS.key,
            "--peer-tls-ca-file": authority.certificate, "--peer-tls-server-name": "agents.example",
            "--listen-password-file": try directory.writeSecret("app-secret\n", to: "front-passwords"),
            "--listen-users-file": try directory.writeSecret("ann:ann-secret\n", to: "front-users"),
            "--listen-tls-certificate-file": front.0, "--listen-tls-key-file": front.1,
            "--deny-commands": "flushall,keys",
        ]
        let agents = [try await start(hkctl, "one", flags), try await start(hkctl, "two", flags)]

        // Apps.
        #expect(try await cli(agents[0].appPort, authority, "-a", "app-secret", "SET", "k", "v") == "OK")
        #expect(try await cli(agents[1].appPort, authority, "--user", "ann", "--pass", "ann-secret", "GET", "k") == "v")
        #expect(try await cli(agents[1].appPort, authority, "GET", "k").contains("NOAUTH"))
        #expect(try await cli(agents[0].appPort, authority, "-a", "app-secret", "FLUSHALL").contains("denyCommands"))
        #expect(try await agents[0].metric("hotkey_commands_denied_total") == 1)

        // Agents: the coordinator pulls both.
        try await eventually("both agents are pulled") {
            for agent in agents where try await agent.metric("hotkey_agents_pulled") == 2 {
                return try await agent.metric("hotkey_frames_merged_total") ?? 0 > 20
            }
            return false
        }
        for agent in agents { #expect(try await agent.metric("hotkey_pull_failures_total") == 0) }

        // Tools.
        let tls = [
            "--peer-tls-ca-file", authority.certificate, "--peer-tls-certificate-file", toolTLS.certificate,
            "--peer-tls-key-file", toolTLS.key, "--peer-tls-server-name", "agents.example",
        ]
        let shared = directory.file("fleet")
        let good = try await hkctl.run(["agents", "--output", "json"] + tls + ["--peer-password-file", shared])
        #expect(good.status == 0 && good.standardOutput.contains("\"leader\""), "\(good)")
        let wrong = try directory.writeSecret("wrong-secret\n", to: "wrong")
        for (arguments, reason) in [
            (tls, "asks for a password"), (tls + ["--peer-password-file", wrong], "does not accept the password"),
            (["--peer-password-file", shared], "the connection"),
            (tls.dropLast(2) + ["--peer-password-file", shared], "another name"),
        ] {
            let outcome = try await hkctl.run(["agents"] + Array(arguments))
            let text = outcome.standardOutput + outcome.standardError
            let refusals = text.split(separator: "\n").filter { $0.contains("gave no answer: ") && $0.contains(reason) }
            #expect(refusals.count == 2 && !text.contains("wrong-secret"), "\(outcome)")
        }
        #expect(try await hkctl.run(["doctor"] + tls).standardOutput.contains("--peer-password-file"))
        #expect(try await hkctl.run("agents", "--peer-tls-server-name", "x").status == 2)

        // Files change: a broken one is told of and changes nothing, a good one holds.
        let next = try await TestAuthority()
        try directory.write("broken", to: "front.pem")
        agents[0].process.signal(SIGHUP)
        try await eventually("the broken file is told of") {
            try await agents[0].http("/readyz").contains(
                "warning: what was in use before stays in use: listenSecurity.tlsCer")
        }
        #expect(try await agents[0].metric("hotkey_security_files_refused") == 1)
        #expect(try await cli(agents[0].appPort, authority, "-a", "app-secret", "GET", "k") == "v")
        try install(try await next.sign("front"))
        try directory.writeSecret("ann:changed-secret\n", to: "front-users")
        agents[0].process.signal(SIGHUP)
        for agent in agents {
            try await eventually("the new certificate is shown") {
                try await cli(agent.appPort, next, "--user", "ann", "--pass", "changed-secret", "GET", "k") == "v"
            }
            #expect(try await agent.metric("hotkey_security_files_refused") == 0)
        }
        #expect(!agents[0].process.allOutput.isEmpty)
        for agent in agents {
            #expect(await agent.process.stop() == .exited(0))
            for secret in Self.secrets { #expect(!agent.process.allOutput.contains(secret)) }
        }
        await node.stop()
    }

    @Test func aUnixSocketHasItsPermissionsAndIsNeitherStolenNorLeftBehind() async throws {
        let redis = try await RedisServer.start()
        let path = directory.file("app.sock")
        let flags = [
            "run", "--standalone", "--nodes", "a=\(redis.address)", "--threads", "1", "--listen", "unix:\(path)",
            "--listen-mode", "0600", "--peer", "127.0.0.1:0", "--admin",
        ]
        let first = try await SpawnedProcess.start(
            BinaryLocator.path("hkagent"), flags + ["127.0.0.1:\(try FreePort.next())"])
        try await eventually("the socket answers") {
            guard first.isRunning else { throw Unexpected(first.allOutput) }
            guard let client = try? await RedisTestClient.connect(unixPath: path) else { return false }
            let reply = try await client.command("PING")
            await client.close()
            return reply == .simple("PONG")
        }
        var status = stat()
        #expect(lstat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
        let second = try await SpawnedProcess.run(
            BinaryLocator.path("hkagent"), flags + ["127.0.0.1:\(try FreePort.next())"])
        #expect(second.status == 1 && second.standardError.contains("another process is listening there"), "\(second)")
        // Killed, it leaves its socket; the next one takes it over and takes it away in the end.
        await first.kill()
        #expect(lstat(path, &status) == 0)
        let third = try await SpawnedProcess.start(
            BinaryLocator.path("hkagent"), flags + ["127.0.0.1:\(try FreePort.next())"])
        try await eventually("the socket answers again") {
            guard third.isRunning else { throw Unexpected(third.allOutput) }
            guard let client = try? await RedisTestClient.connect(unixPath: path) else { return false }
            await client.close()
            return true
        }
        #expect(await third.stop() == .exited(0))
        #expect(lstat(path, &status) != 0)
        await redis.stop()
    }
}
