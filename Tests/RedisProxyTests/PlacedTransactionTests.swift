import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Transactions before several nodes: all keys on one.
    @Suite struct PlacedTransactions {
        /// A name that a transaction gives is the agent's to remember; the client is no more tied to the node afterwards than by any other.
        @Test(arguments: [2, 3])
        func aNameGivenInATransactionTiesNobody(version: Int) async throws {
            try await Rig.with { rig in
                let client = try await rig.client()
                try await client.command(["HELLO", "\(version)"])
                let key = rig.key(on: 0, "named\(version)")
                let elsewhere = rig.key(on: 1, "named\(version)")
                func transaction(_ name: String, _ end: String) async throws {
                    for line in ["MULTI", "SET \(key) 1"] { _ = try await client.line(line) }
                    #expect(try await client.command(["CLIENT", "SETNAME", name]) == .simple("QUEUED"))
                    _ = try await client.line(end)
                    #expect(try await client.line("SET \(elsewhere) 2") == .ok)
                }
                try await transaction("first", "EXEC")
                #expect(try await client.line("CLIENT GETNAME") == .text("first"))
                try await transaction("second", "DISCARD")
                #expect(try await client.line("CLIENT GETNAME") == .text("first"))
                try await transaction("no name", "EXEC")
                #expect(try await client.line("CLIENT GETNAME") == .text("first"))
                // What it watches is written: nothing is carried out.
                _ = try await client.line("WATCH \(key)")
                let other = try await rig.client()
                _ = try await other.line("SET \(key) 3")
                try await transaction("third", "EXEC")
                #expect(try await client.line("CLIENT GETNAME") == .text("first"))
                // Node and agent mean the same client by it.
                try await transaction("fourth", "EXEC")
                _ = try await client.line("WATCH \(elsewhere)")
                #expect(try await client.line("CLIENT GETNAME") == .text("fourth"))
                _ = try await client.line("UNWATCH")
                await client.close()
                await other.close()
            }
        }

        @Test(arguments: [2, 3])
        func aTransactionOfOneNodesKeysWorks(_ version: Int) async throws {
            try await Rig.with { rig in
                let reference = try await RedisServer.start()
                let expected = try await reference.client()
                let client = try await rig.client()
                for each in [expected, client] { try await each.command("HELLO", "\(version)") }
                for node in 0..<3 {
                    let keys = rig.keys(on: node, "tx\(version)", count: 2)
                    let (k, l) = (keys[0], keys[1])
                    let scripts = [
                        "MULTI|SET \(k) 1|INCR \(k)|MGET \(k) \(l)|PING|EXEC|GET \(k)", "MULTI|EXEC",
                        "MULTI|DISCARD|GET \(k)",
                        "MULTI|GET \(k)|DISCARD|EXEC", "EXEC", "DISCARD", "UNWATCH", "MULTI|MULTI|WATCH \(k)|EXEC",
                        "MULTI|GET|EXEC", "MULTI|SET \(k) x|GET|EXEC|GET \(k)", "MULTI|NOSUCH a|EXEC",
                        "MULTI|SET \(k) x|NOSUCH|EXEC",
                        "WATCH \(k)|GET \(k)|MULTI|SET \(k) 5|EXEC|GET \(k)",
                        "WATCH \(k)|SET \(k) 6|MULTI|GET \(k)|EXEC",
                        "WATCH \(k) \(l)|UNWATCH|MULTI|EXEC", "MULTI|BLPOP none{\(k)} 0|GET \(k)|EXEC",
                        "MULTI|EXEC x|EXEC", "MULTI|RESET|HELLO \(version)|EXEC",
                        "MULTI|LPUSH \(k) x|SET \(k) 7|EXEC|DEL \(k)",
                    ]
                    for script in scripts {
                        for isPipelined in [false, true] {
                            let lines = script.split(separator: "|").map(String.init).filter {
                                !$0.hasPrefix("BLPOP") && !$0.hasPrefix("HELLO")
                            }
                            if isPipelined {
                                #expect(try await client.lines(lines) == expected.lines(lines), "\(script)")
                            } else {
                                for line in lines {
                                    #expect(try await client.line(line) == expected.line(line), "\(script): \(line)")
                                }
                            }
                            for each in [expected, client] { try await each.command("HELLO", "\(version)") }
                        }
                    }
                }
                await client.close()
                await expected.close()
                await reference.stop()
            }
        }

        @Test func keysOfTwoNodesInATransactionAreNamed() async throws {
            try await Rig.with { rig in
                let client = try await rig.client()
                let first = rig.key(on: 0, "txapart")
                let second = rig.key(on: 1, "txapart")
                try await client.command("MSET", first, "1", second, "2")
                for script in [
                    ["MULTI", "SET \(first) x", "SET \(second) x", "EXEC"],
                    ["MULTI", "MSET \(first) x \(second) x", "EXEC"],
                    ["WATCH \(first)", "MULTI", "GET \(second)", "EXEC"],
                    ["MULTI", "GET \(first)", "RENAME \(first) \(second)", "EXEC"],
                ] {
                    let replies = try await client.lines(script)
                    let text = try #require(replies[replies.count - 2].errorMessage, "\(script)")
                    #expect(
                        text.contains("'\(first)' is on node a") && text.contains("'\(second)' on node b"), "\(text)")
                    #expect(replies.last?.errorMessage?.hasPrefix("EXECABORT") == true, "\(script): \(replies.last!)")
                }
                #expect(try await client.line("MGET \(first) \(second)") == .array([.text("1"), .text("2")]))
                for line in ["DBSIZE", "SELECT 0", "FLUSHALL", "CLIENT LIST"] {
                    let replies = try await client.lines(["MULTI", line, "GET \(first)", "EXEC"])
                    #expect(replies[1].errorMessage?.contains("hkagent") == true, "\(line)")
                    #expect(replies[2] == .simple("QUEUED"))
                    #expect(replies[3].errorMessage?.hasPrefix("EXECABORT") == true, "\(line)")
                }
                #expect(try await client.line("WATCH \(first) \(second)").errorMessage?.contains("on node b") == true)
                #expect(try await client.line("PING") == .simple("PONG"))
                await client.close()
            }
        }

        /// Copies and local values of every loop are gone before `EXEC` is answered.
        @Test func whatATransactionWritesIsSeenByTheNextRead() async throws {
            try await Rig.with { rig in
                let keys = (0..<3).map { rig.key(on: $0, "txhot") }
                try await rig.apply(.mitigate, keys.map { hot($0, .both, capMilliseconds: 60_000) })
                let writer = try await rig.client(onLoop: 0)
                let readers = [try await rig.client(onLoop: 0), try await rig.client(onLoop: 1)]
                for round in 0..<20 {
                    for key in keys {
                        for reader in readers { _ = try await reader.pipeline([["GET", key], ["GET", key]]) }
                        let replies = try await writer.pipeline([
                            ["MULTI"], ["SET", key, "\(round)"], ["EXEC"], ["GET", key],
                        ])
                        #expect(replies[3] == .text("\(round)"))
                        for reader in readers { #expect(try await reader.command("GET", key) == .text("\(round)")) }
                    }
                }
                for each in readers + [writer] { await each.close() }
            }
        }
    }
}
