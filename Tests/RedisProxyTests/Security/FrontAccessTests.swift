import Foundation
import HotKeyTestSupport
import RedisProxy
import Testing
import TransportSecurity

extension ProxyTests.Security {
    /// Passwords and users of the proxy's own.
    @Suite struct FrontAccess {
        /// What differs from connection to connection in a greeting.
        private static func comparable(_ value: RedisTestValue) -> String {
            guard value["server"] != nil else { return "\(value)" }
            return "greeting \(value["proto"].map { "\($0)" } ?? "")"
        }

        /// Every line of a session in turn, to Redis with the same users and to the proxy.
        @Test(arguments: [
            "GET k|NOSUCH a b|GET|HK.STATUS|PING|HELLO|HELLO 3|HELLO 9|HELLO x|HELLO 3 SETNAME me|HELLO 3 NONSENSE|RESET|MULTI|SUBSCRIBE c",
            "AUTH|AUTH a b c|AUTH wrong|AUTH default wrong|AUTH eve first|AUTH ann first|AUTH Ann secret|PING|AUTH first|PING|SET k v|GET k",
            "AUTH ann secret|GET k|AUTH ann wrong|GET k|AUTH bob x|PING|RESET|GET k|AUTH default first|GET k|RESET|AUTH nobody|PING",
            "HELLO 3 AUTH ann wrong|PING|HELLO 3 AUTH ann secret NONSENSE|PING|RESET|HELLO 2 AUTH ann|PING|HELLO 3 AUTH ann secret SETNAME me|CLIENT GETNAME|PING|RESET|PING",
            "AUTH first|MULTI|SET k 1|RESET|EXEC|AUTH first|EXEC|SELECT 1|RESET|AUTH first|GET k",
            "AUTH first|WATCH k|AUTH ann wrong|AUTH ann secret|MULTI|SET k 2|EXEC|HELLO 3 AUTH default wrong|HELLO 3 AUTH default first|GET k",
            "AUTH first|SELECT 3|HELLO 3 SETNAME auth|CLIENT GETNAME|HELLO 3 SETNAME auth AUTH ann secret|CLIENT GETNAME|HELLO 2 AUTH x|RESET|GET k",
        ])
        func sessionsAreThoseOfARedisWithTheSameUsers(session: String) async throws {
            let redis = try await RedisServer.start(extraArguments: ["--requirepass", "first"])
            let setUp = try await redis.client()
            try await setUp.command("AUTH", "first")
            try await setUp.command("ACL", "SETUSER", "ann", "on", ">secret", "~*", "&*", "+@all")
            let node = try await RedisServer.start()
            let secrets = try SecretFiles()
            try await Rig.with(nodes: [node]) { rig in
                let users = try secrets.users(passwords: "first\n", users: "ann:secret\n")
                let port = try await rig.listen(access: users)
                let direct = try await redis.client()
                let proxied = try await RedisTestClient.connect(port: port)
                for line in session.split(separator: "|") {
                    // A proxy has commands of its own; before a password is given that must not show.
                    let expected =
                        line == "HK.STATUS"
                        ? "\(RedisTestValue.error("NOAUTH Authentication required."))"
                        : Self.comparable(try await direct.line(String(line)))
                    let found = Self.comparable(try await proxied.line(String(line)))
                    #expect(found == expected, "\(line)")
                }
                // The same, pipelined.
                let again = [try await redis.client(), try await RedisTestClient.connect(port: port)]
                let lines = session.split(separator: "|").map(String.init).filter { $0 != "HK.STATUS" }
                var replies: [[String]] = []
                for client in again { replies.append(try await client.lines(lines).map(Self.comparable)) }
                #expect(replies[0] == replies[1])
                // No node was shown a password.
                #expect(try await rig.calls("auth", at: 0) == 0)
                for client in again + [direct, proxied] { await client.close() }
            }
            await setUp.close()
            await redis.stop()
            await node.stop()
        }

        @Test(arguments: [
            "*11\r\n", "*1000000\r\n", "*2\r\n$16385\r\n", "*2\r\n$3\r\nGET\r\n$16385\r\n",
            "*2\r\n$4\r\nAUTH\r\n$-5\r\n",
        ])
        func whoIsUnknownMaySendLittle(request: String) async throws {
            let redis = try await RedisServer.start(extraArguments: ["--requirepass", "first"])
            let secrets = try SecretFiles()
            try await Rig.with { rig in
                let port = try await rig.listen(access: try secrets.users(passwords: "first\n"))
                let direct = try await redis.client()
                try await direct.send(raw: request)
                let expected = try await direct.receiveRawToEnd()
                let whole = try await RedisTestClient.connect(port: port)
                try await whole.send(raw: request)
                #expect(try await whole.receiveRawToEnd() == expected)
                let split = try await RedisTestClient.connect(port: port)
                for byte in Array(request.utf8) { try? await split.send(raw: [byte]) }
                #expect(try await split.receiveRawToEnd() == expected)
                // Who is known may send more; and what fits, fits.
                let known = try await RedisTestClient.connect(port: port)
                let fits = String(repeating: "x", count: 16 * 1024)
                #expect(try await known.command("AUTH", fits).errorMessage?.hasPrefix("WRONGPASS") == true)
                let large = String(repeating: "x", count: 1 << 20)
                let replies = try await known.pipeline([
                    ["AUTH", "first"], ["SET", "large", large], ["STRLEN", "large"],
                ])
                #expect(replies == [.ok, .ok, .integer(1 << 20)])
                for client in [direct, whole, split, known] { await client.close() }
            }
            await redis.stop()
        }

        @Test func insideATransactionAUserDoesNotChange() async throws {
            let secrets = try SecretFiles()
            let node = try await RedisServer.start()
            try await Rig.with(nodes: [node]) { rig in
                let port = try await rig.listen(access: try secrets.users(users: "ann:secret\n"))
                let client = try await RedisTestClient.connect(port: port)
                #expect(try await client.line("AUTH secret").errorMessage?.hasPrefix("WRONGPASS") == true)
                #expect(try await client.line("AUTH ann secret") == .ok)
                #expect(try await client.line("MULTI") == .ok)
                #expect(try await client.line("AUTH ann secret").errorMessage?.contains("inside a transaction") == true)
                #expect(try await client.line("EXEC").errorMessage?.hasPrefix("EXECABORT") == true)
                // Replies that are switched off stay so.
                try await client.send(raw: encode(["CLIENT", "REPLY", "SKIP"]) + encode(["AUTH", "ann", "secret"]))
                #expect(try await client.line("PING x") == .text("x"))
                #expect(try await rig.calls("auth", at: 0) == 0)
                await client.close()
            }
            await node.stop()
        }

        @Test func whileKeysAreWatchedOnOneOfSeveralNodesAUserMayChange() async throws {
            let secrets = try SecretFiles()
            try await Rig.with { rig in
                let port = try await rig.listen(access: try secrets.users(users: "ann:secret\nbob:other\n"))
                let client = try await RedisTestClient.connect(port: port)
                let replies = try await client.lines([
                    "AUTH ann secret", "WATCH k", "AUTH bob wrong", "AUTH bob other", "HELLO 3 AUTH ann secret",
                    "MULTI",
                    "SET k v", "EXEC",
                ])
                #expect(replies[1] == .ok && replies[2].errorMessage?.hasPrefix("WRONGPASS") == true)
                #expect(replies[3] == .ok && replies[4]["proto"] == .integer(3) && replies[7] == .array([.ok]))
                await client.close()
            }
        }

        @Test func aUserWhoIsTakenAwayIsDisconnectedAndANewPasswordHoldsForNewClients() async throws {
            let secrets = try SecretFiles()
            try await Rig.with { rig in
                let users = try secrets.users(users: "ann:old\nbob:secret\n")
                let port = try await rig.listen(access: users)
                let (ann, bob) = (
                    try await RedisTestClient.connect(port: port), try await RedisTestClient.connect(port: port)
                )
                #expect(try await ann.line("AUTH ann old") == .ok)
                #expect(try await bob.line("AUTH bob secret") == .ok)
                try secrets.directory.writeSecret("ann:new\n", to: "users")
                #expect(users.refresh() == .renewed)
                try await rig.server.disconnectRemovedUsers()
                #expect(try await bob.receiveRaw().isEmpty)
                #expect(try await ann.line("PING") == .simple("PONG"))
                #expect(try await ann.line("AUTH ann old").errorMessage?.hasPrefix("WRONGPASS") == true)
                #expect(try await ann.line("AUTH ann new") == .ok)
                #expect(try await rig.server.statistics().authenticationFailures == 1)
                for client in [ann, bob] { await client.close() }
            }
        }

        @Test func thePeerListenerAsksAsWell() async throws {
            let secrets = try SecretFiles()
            try await Rig.with { rig in
                let port = try await rig.listen(.peer, access: try secrets.users(passwords: "shared\n"))
                let client = try await RedisTestClient.connect(port: port)
                let refusal = RedisTestValue.error("NOAUTH Authentication required.")
                for line in ["HK.ECHO a", "PING", "CLIENT LIST", "GET k", "HK.RECORD k", "SUBSCRIBE __hotkeys__"] {
                    #expect(try await client.line(line) == refusal, "\(line)")
                }
                #expect(try await client.line("AUTH shared") == .ok)
                #expect(try await client.line("HK.ECHO a") == .array([.text("a")]))
                #expect(try await client.line("GET k").errorMessage?.contains("peer listener") == true)
                await client.close()
            }
        }

        @Test func redisPyLogsIn() async throws {
            let secrets = try SecretFiles()
            try await Rig.with { rig in
                let port = try await rig.listen(access: try secrets.users(passwords: "first\n", users: "ann:secret\n"))
                let script = """
                    import sys, redis
                    port = int(sys.argv[1])
                    assert redis.Redis(port=port, password='first').set('k', 'v')
                    assert redis.Redis(port=port, username='ann', password='secret').get('k') == b'v'
                    for arguments in [{}, {'password': 'wrong'}, {'username': 'eve', 'password': 'secret'}]:
                        try:
                            redis.Redis(port=port, **arguments).ping()
                            raise SystemExit('let in: %r' % arguments)
                        except redis.exceptions.RedisError as error: assert any(w in str(error) for w in ('WRONGPASS', 'Authentication required')), error
                    print('all is well')
                    """
                let result = try await SpawnedProcess.run(try SystemTool.python(), ["-c", script, "\(port)"])
                #expect(result.standardOutput.contains("all is well"), "\(result)")
            }
        }
    }
}
