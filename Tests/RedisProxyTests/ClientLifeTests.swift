import Foundation
import HotKeyTestSupport
import Testing

@testable import RedisProxy

extension ProxyTests {
    /// How long clients stay, and what is done for those who come in great numbers.
    @Suite struct ClientLife {
        /// As Redis's `timeout`: who says nothing goes, who waits or listens stays.
        @Test func anIdleClientIsLetGo() async throws {
            try await Rig.with(configure: { $0.clientIdleSeconds = 1 }) { rig in
                let idle = try await rig.client()
                #expect(try await idle.command("PING") == .simple("PONG"))
                let silent = try await rig.client()
                let busy = try await rig.client()
                let listening = try await rig.client()
                _ = try await listening.command("SUBSCRIBE", "idle")
                let waiting = try await rig.client()
                try await waiting.send(["BLPOP", "idle:list", "0"])
                let start = ContinuousClock.now
                let pump = Task {
                    var replies: [RedisTestValue] = []
                    while ContinuousClock.now - start < .seconds(4) {
                        replies.append(try await busy.command("PING"))
                        try await Task.sleep(for: .milliseconds(100))
                    }
                    return replies
                }
                #expect(try await idle.receiveRaw().isEmpty)
                #expect(ContinuousClock.now - start > .milliseconds(900))
                #expect(try await silent.receiveRaw().isEmpty)
                #expect(try await pump.value.allSatisfy { $0 == .simple("PONG") })
                // Both are served on, and the one that waited has its time anew.
                #expect(try await busy.command("PUBLISH", "idle", "m") != .integer(0))
                #expect(try await listening.receive() == .array([.text("message"), .text("idle"), .text("m")]))
                #expect(try await busy.command("RPUSH", "idle:list", "v") == .integer(1))
                #expect(try await waiting.receive() == .array([.text("idle:list"), .text("v")]))
                #expect(try await waiting.command("PING") == .simple("PONG"))
                for client in [idle, silent, busy, listening, waiting] { await client.close() }
            }
        }

        /// A client whose host is gone never says so; the kernel asks for it.
        @Test func theKernelAsksWhetherAClientIsStillThere() async throws {
            try await Rig.with { rig in
                let client = try await rig.client()
                #expect(try await client.command("PING") == .simple("PONG"))
                // The proxy is in this process, and so is its side of the connection.
                let server = try #require((3..<4096).first { Self.isAccepted($0, port: rig.port) })
                #expect(Self.option(server, SOL_SOCKET, SO_KEEPALIVE) == 1)
                #expect(Self.option(server, CInt(IPPROTO_TCP), TCP_KEEPIDLE) == 300)
                #expect(Self.option(server, CInt(IPPROTO_TCP), TCP_KEEPINTVL) == 100)
                #expect(Self.option(server, CInt(IPPROTO_TCP), TCP_KEEPCNT) == 3)
                await client.close()
            }
        }

        private static func option(_ descriptor: CInt, _ level: CInt, _ name: CInt) -> CInt? {
            var value: CInt = 0
            var size = socklen_t(MemoryLayout<CInt>.size)
            return getsockopt(descriptor, level, name, &value, &size) == 0 ? value : nil
        }

        /// Whether this is a connection to this port of ours, seen from the side that was connected to.
        private static func isAccepted(_ descriptor: CInt, port: Int) -> Bool {
            guard option(descriptor, SOL_SOCKET, SO_ACCEPTCONN) == 0 else { return false }
            var address = sockaddr_in()
            var size = socklen_t(MemoryLayout<sockaddr_in>.size)
            let result = withUnsafeMutablePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
            }
            return result == 0 && CInt(address.sin_family) == AF_INET
                && Int(UInt16(bigEndian: address.sin_port)) == port
        }

        /// What a node still owes clients that have left is told nobody, and the agent keeps nothing of them afterwards.
        @Test(arguments: [2, 3], [false, true])
        func whatIsOwedToClientsThatHaveLeft(version: Int, isKilled: Bool) async throws {
            let nodes = try await Rig.startNodes(2)
            try await Rig.with(nodes: nodes, loops: 1, configure: { $0.requestTimeoutMilliseconds = 120_000 }) { rig in
                let stays = try await rig.client(onLoop: 0, version: version)
                let key = rig.key(on: 0, "owed")
                let other = rig.key(on: 1, "owed")
                #expect(try await stays.command("SET", key, "v") == .ok)
                nodes[0].suspend()
                for number in 0..<20 {
                    let client = try await rig.client(onLoop: 0, version: version)
                    let asked = try await rig.server.statistics().requests
                    // Some get a part of what they ask for.
                    if number % 2 == 0 {
                        #expect(try await client.command("GET", other) == (version == 2 ? .nullBulk : .null))
                    }
                    for words in Array(repeating: ["GET", key], count: 50) + [["GET", other], ["STRLEN", key]] {
                        try await client.send(words)
                    }
                    try await eventually("its commands have been read") {
                        try await rig.server.statistics().requests >= asked + 52
                    }
                    // One that only sends no more would still be answered.
                    await client.reset()
                }
                try await eventually("they are gone") { try await rig.server.statistics().clientsConnected == 1 }
                #expect(try await rig.server.onEveryLoop { $0.departedCount }[0] == 20)
                if isKilled { await nodes[0].stop() } else { nodes[0].resume() }
                try await eventually("nothing is kept of them") {
                    try await rig.server.onEveryLoop { $0.departedCount }[0] == 0
                }
                #expect(try await stays.command("SET", other, "w") == .ok)
                #expect(try await stays.command("GET", other) == .text("w"))
                if !isKilled { #expect(try await stays.command("GET", key) == .text("v")) }
                await stays.close()
            }
            for node in nodes { await node.stop() }
        }

        /// Many more than there are places connect at once, again and again.
        @Test func stormsOfConnectionsAreOutlived() async throws {
            try await Rig.with(configure: { $0.clientsMax = 50 }) { rig in
                let refusal = Array("-ERR max number of clients reached\r\n".utf8)
                let stays = try await rig.client()
                #expect(try await stays.command("SET", "storm", "v") == .ok)
                var refused = 0
                for _ in 0..<5 {
                    let clients = try await withThrowingTaskGroup(of: RedisTestClient.self) { group in
                        for _ in 0..<200 { group.addTask { try await rig.client() } }
                        return try await group.reduce(into: []) { $0.append($1) }
                    }
                    #expect(try await stays.command("GET", "storm") == .text("v"))
                    for client in clients {
                        // A reset takes the refusal's text away, but not that it was one.
                        try? await client.send(["PING"])
                        let said = try? await client.receiveRaw()
                        if said == Array("+PONG\r\n".utf8) { continue }
                        refused += 1
                        #expect(said == nil || said == refusal)
                    }
                    for client in clients { await client.close() }
                    try await eventually("they are gone") { try await rig.server.statistics().clientsConnected == 1 }
                }
                #expect(refused == 5 * (200 - 49))
                #expect(try await rig.server.statistics().clientsRefused == UInt64(refused))
                await stays.close()
            }
        }
    }
}
