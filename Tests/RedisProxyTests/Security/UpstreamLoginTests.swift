import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing
import TransportSecurity

extension ProxyTests.Security {
    /// Nodes that ask who the proxy is.
    @Suite struct UpstreamLogin {
        private func with(
            _ logins: ReloadedFiles<NodeLogins>?, nodes: [RedisServer], _ body: (Rig) async throws -> Void
        ) async throws {
            try await Rig.with(nodes: nodes) { configuration in
                if let logins { configuration.upstreamSecurity.logins = { logins.current } }
                configuration.breaker.openNanoseconds = 50_000_000
                configuration.breaker.openNanosecondsMax = 100_000_000
            } _: {
                try await body($0)
            }
        }

        /// A node with a password and a user.
        private func node(_ password: String = "pw") async throws -> RedisServer {
            let node = try await RedisServer.start(extraArguments: ["--requirepass", password])
            let client = try await node.client()
            try await client.command("AUTH", password)
            try await client.command("ACL", "SETUSER", "agent", "on", ">agents", "~*", "&*", "+@all")
            try await client.command(
                "ACL", "SETUSER", "reader", "on", ">readers", "~*", "&*", "+@read", "+acl|whoami", "+reset")
            // As docs/security.md advises.
            _ = try await client.line(
                "ACL SETUSER narrow on >narrow ~* &* +@all -@admin -@dangerous +client +info +acl|whoami")
            await client.close()
            return node
        }

        @Test(arguments: [
            ("default:pw\n", "default"), ("agent:agents\n", "agent"), ("node a agent:agents\n", "agent"),
            ("narrow:narrow\n", "narrow"),
        ])
        func everyConnectionIsTheAgents(logins: String, user: String) async throws {
            let (node, secrets) = (try await node(), try SecretFiles())
            try await with(secrets.logins(logins), nodes: [node]) { rig in
                for version in ["2", "3"] {
                    let client = try await rig.client()
                    try await client.command("HELLO", version)
                    #expect(try await client.line("SET k v") == .ok)
                    #expect(try await client.line("ACL WHOAMI") == .text(user), "shared or bound")
                    #expect(try await client.lines(["MULTI", "ACL WHOAMI", "EXEC"])[2] == .array([.text(user)]))
                    #expect(try await client.line("BLPOP none 0.01").isNull)
                    await client.close()
                }
                #expect(rig.server.upstreamProblems.isEmpty)
            }
            await node.stop()
        }

        /// RESET takes the node's knowledge of the agent, too.
        @Test func afterResetTheConnectionIsTheAgentsAgain() async throws {
            let (node, secrets) = (try await node(), try SecretFiles())
            try await with(secrets.logins("agent:agents\n"), nodes: [node]) { rig in
                let client = try await rig.client()
                for round in 0..<20 {
                    // Kept on its own connection by what RESET does not take away.
                    #expect(try await client.line("CLIENT ID").integer ?? 0 > 0)
                    let replies = try await client.lines([
                        "SELECT 1", "SET k \(round)", "RESET", "ACL WHOAMI", "SET k \(round)", "MULTI", "RESET",
                        "GET k",
                        // The client's own user, and away with it.
                        "AUTH reader readers", "ACL WHOAMI", "SET k never", "RESET", "ACL WHOAMI", "SET k again",
                    ])
                    #expect(replies[2] == .simple("RESET") && replies[3] == .text("agent") && replies[4] == .ok)
                    #expect(replies[7] == .text("\(round)"))
                    #expect(replies[8] == .ok && replies[9] == .text("reader"))
                    #expect(replies[10].errorMessage?.hasPrefix("NOPERM") == true)
                    #expect(replies[11] == .simple("RESET") && replies[12] == .text("agent") && replies[13] == .ok)
                }
                // One that leaves its own connection behind RESET leaves a good one.
                let other = try await rig.client()
                for _ in 0..<20 {
                    let replies = try await other.lines(["SELECT 1", "RESET", "MULTI", "ACL WHOAMI", "EXEC"])
                    #expect(replies[4] == .array([.text("agent")]))
                }
                for client in [client, other] { await client.close() }
            }
            await node.stop()
        }

        @Test func aWrongPasswordIsToldWithoutBeingShownAndPutRightWithoutARestart() async throws {
            let (node, secrets) = (try await node(), try SecretFiles())
            let logins = try secrets.logins("agent:hunter2\n")
            try await with(logins, nodes: [node]) { rig in
                for version in ["2", "3"] {
                    let client = try await rig.client()
                    try await client.command("HELLO", version)
                    for line in ["GET k", "SET k v", "SELECT 1"] {
                        let text = try await client.line(line).errorMessage ?? ""
                        #expect(
                            text.contains("refuses the agent's login (upstream.credentialsFile): WRONGPASS"), "\(text)")
                        #expect(!text.contains("hunter2"))
                    }
                    await client.close()
                }
                let problems = rig.server.upstreamProblems
                #expect(problems.map(\.node) == ["a"] && problems.allSatisfy { $0.problem.contains("WRONGPASS") })
                // Nothing was done as another user.
                let direct = try await node.client()
                try await direct.command("AUTH", "pw")
                #expect(try await direct.line("EXISTS k") == .integer(0))
                await direct.close()

                try secrets.directory.writeSecret("agent:agents\n", to: "logins")
                #expect(logins.refresh() == .renewed)
                let client = try await rig.client()
                try await eventually("the node is used again") { try await client.line("SET k v") == .ok }
                try await eventually("nothing is wrong any more") { rig.server.upstreamProblems.isEmpty }
                await client.close()
            }
            await node.stop()
        }

        /// A node that serves whoever says nothing must not be asked anything by an agent that it has refused.
        @Test(arguments: ["2", "3"]) func nothingIsAskedBeforeTheLoginIsAccepted(version: String) async throws {
            let (node, secrets) = (try await RedisServer.start(), try SecretFiles())
            try await with(secrets.logins("agent:wrong\n"), nodes: [node]) { rig in
                let client = try await rig.client()
                for line in ["HELLO \(version)", "SET k v", "MULTI"] {
                    let text = try await client.line(line).errorMessage
                    #expect(line.hasPrefix("HELLO") || text?.contains("WRONGPASS") == true, "\(line): \(text ?? "")")
                }
                let direct = try await node.client()
                #expect(try await direct.line("EXISTS k") == .integer(0))
                for client in [client, direct] { await client.close() }
            }
            await node.stop()
        }

        @Test func nodesMayDifferAndOneThatRefusesDoesNotHarmTheOthers() async throws {
            let nodes = [try await node("one"), try await node("two"), try await RedisServer.start()]
            let secrets = try SecretFiles()
            // The third asks nobody.
            try await with(secrets.logins("default:one\nnode b default:wrong\n"), nodes: nodes) { rig in
                let client = try await rig.client()
                #expect(try await client.command("SET", rig.key(on: 0, "k"), "v") == .ok)
                #expect(try await client.command("SET", rig.key(on: 2, "k"), "v") == .ok)
                let refused = try await client.command("SET", rig.key(on: 1, "k"), "v").errorMessage ?? ""
                #expect(refused.contains("cache node b") && refused.contains("WRONGPASS"), "\(refused)")
                #expect(rig.server.upstreamProblems.map(\.node) == ["b"])
                await client.close()
            }
            for node in nodes { await node.stop() }
        }

        @Test func aNodeThatAsksAnAgentWithoutAPasswordIsToldOf() async throws {
            let node = try await node()
            try await with(nil, nodes: [node]) { rig in
                try await eventually("it is known") {
                    rig.server.upstreamProblems.first?.problem.contains("asks for a password") == true
                }
                // Before one node a client still logs in by itself, as directly.
                let client = try await rig.client()
                #expect(try await client.line("GET k").errorMessage == "NOAUTH Authentication required.")
                #expect(try await client.line("AUTH pw") == .ok)
                #expect(try await client.line("SET k v") == .ok)
                await client.close()
            }
            await node.stop()
        }
    }
}
