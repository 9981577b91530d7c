import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests.Security {
    /// Commands that the configuration denies.
    @Suite struct Denied {
        private static let names = ["flushall", "config|set", "keys", "DEBUG", "client|kill", "object|freq"]

        private func text(_ name: String) -> String {
            "ERR command '\(name)' is denied by the agent's configuration (denyCommands); ask the agent's operator, or send it to "
                + "a cache node itself"
        }

        @Test(arguments: [1, 3]) func whatIsDeniedReachesNoNode(nodeCount: Int) async throws {
            let nodes = try await Rig.startNodes(nodeCount)
            try await Rig.with(nodes: nodes) {
                $0.deniedCommands = DeniedCommands(Self.names)!
            } _: { rig in
                let client = try await rig.client()
                #expect(try await client.line("SET k v") == .ok)
                for (line, name) in [
                    ("FLUSHALL", "flushall"), ("flushall ASYNC", "flushall"),
                    ("CONFIG SET maxmemory 1mb", "config|set"),
                    ("config set maxmemory 1mb", "config|set"), ("KEYS *", "keys"), ("debug SLEEP 0", "debug"),
                    ("CLIENT KILL ID 1", "client|kill"), ("OBJECT FREQ k", "object|freq"),
                ] { #expect(try await client.line(line).errorMessage == text(name), "\(line)") }
                // Their neighbours are what they were.
                #expect(try await client.line("CLIENT SETNAME me") == .ok)
                #expect(try await client.line("OBJECT ENCODING k") == .text("embstr"))
                #expect(try await client.line("GET k") == .text("v"))
                if nodeCount == 1 {
                    #expect(try await client.line("CONFIG GET maxmemory")["maxmemory"] != nil)
                    #expect(
                        try await client.line("CONFIG NOTHING").errorMessage?.hasPrefix("ERR unknown subcommand")
                            == true)
                }
                #expect(try await rig.server.statistics().commandsDenied == 8)
                // Inside a transaction, before and after its first key, it spoils it.
                for lines in [["MULTI", "FLUSHALL", "SET k w"], ["MULTI", "SET k w", "KEYS *"]] {
                    let replies = try await client.lines(lines + ["EXEC", "GET k"])
                    #expect(replies[3].errorMessage == "EXECABORT Transaction discarded because of previous errors.")
                    #expect(replies[4] == .text("v"))
                }
                // On a connection of the client's own, and with replies switched off.
                if nodeCount == 1 {
                    #expect(try await client.line("SELECT 1") == .ok)
                    #expect(try await client.line("FLUSHALL").errorMessage == text("flushall"))
                    try await client.send(raw: encode(["CLIENT", "REPLY", "SKIP"]) + encode(["FLUSHALL"]))
                    #expect(try await client.line("PING x") == .text("x"))
                }
                await client.close()
                for node in 0..<nodeCount {
                    #expect(try await rig.calls("flushall", at: node) == 0)
                    #expect(try await rig.calls("keys", at: node) == 0)
                    #expect(try await rig.calls("config|set", at: node) == 0)
                }
            }
            for node in nodes { await node.stop() }
        }

        @Test func namesAreThoseOfRedis() {
            #expect(DeniedCommands.unknownName(in: ["flushall", "Config|Set", "flushal"]) == "flushal")
            #expect(DeniedCommands(["flushal"]) == nil && DeniedCommands(["config|"]) == nil)
            #expect(DeniedCommands(["CONFIG|SET"])?.names == ["config|set"])
        }

        @Test func nothingIsDeniedUnlessAskedFor() {
            #expect(ProxyConfiguration(hashSeed: 0).deniedCommands == DeniedCommands())
        }
    }
}
