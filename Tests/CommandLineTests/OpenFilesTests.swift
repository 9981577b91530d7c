import Foundation
import HotKeyTestSupport
import Testing

/// An agent that may have few files open.
@Suite struct OpenFilesTests {
    private struct Started {
        let agent: SpawnedProcess
        let redis: RedisServer
        let port: Int
        let adminPort: Int
    }

    /// - Parameter files: soft and hard limit, as `prlimit` takes them.
    private func start(files: String) async throws -> Started {
        let redis = try await RedisServer.start()
        let port = try FreePort.next()
        let adminPort = try FreePort.next()
        let agent = try await SpawnedProcess.start(
            SystemTool.path("prlimit", debianPackage: "util-linux"),
            [
                "--nofile=\(files)", "--", BinaryLocator.path("hkagent"), "run", "--standalone", "--nodes",
                "a=\(redis.address)", "--upstream-connect-timeout-milliseconds", "30000",
                "--upstream-request-timeout-milliseconds", "30000", "--threads", "1", "--listen", "127.0.0.1:\(port)",
                "--peer",
                "127.0.0.1:\(try FreePort.next())", "--admin", "127.0.0.1:\(adminPort)",
            ])
        try await agent.waitForLine(containing: "serving apps")
        return Started(agent: agent, redis: redis, port: port, adminPort: adminPort)
    }

    private func stop(_ started: Started) async {
        #expect(await started.agent.stop() == .exited(0))
        await started.redis.stop()
    }

    @Test func asManyClientsAsThereIsRoomFor() async throws {
        let started = try await start(files: "64:128")
        // The soft limit has been raised to the hard one, and half of that is the agent's.
        #expect(
            started.agent.allOutput.contains(
                "this process may have 128 files open, which are too few for 10000 clients: more than 64 are refused"))
        var clients: [RedisTestClient] = []
        for _ in 0..<64 {
            let client = try await RedisTestClient.connect(port: started.port)
            #expect(try await client.command("PING") == .simple("PONG"))
            clients.append(client)
        }
        for _ in 0..<20 {
            let refused = try await RedisTestClient.connect(port: started.port)
            #expect(try await refused.receiveRawToEnd() == Array("-ERR max number of clients reached\r\n".utf8))
            await refused.close()
        }
        // The agent still has sockets for its node.
        #expect(try await clients[63].command("SET", "k", "v") == .simple("OK"))
        await clients.removeFirst().close()
        try await eventually("a place is free again") {
            let client = try await RedisTestClient.connect(port: started.port)
            clients.append(client)
            return try await client.command("PING") == .simple("PONG")
        }
        for client in clients { await client.close() }
        await stop(started)
    }

    /// With no descriptor left, who is there is served, the agent goes on, and the event loop does not spin over the connections that it
    /// cannot take.
    @Test func runningOutOfFilesEndsNothing() async throws {
        let started = try await start(files: "256:256")
        let there = try await RedisTestClient.connect(port: started.port)
        #expect(try await there.command("SET", "k", "v") == .simple("OK"))
        let pid = started.agent.processIdentifier
        let open = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").compactMap { Int($0) }
        // A few are left, which clients take, and more of them come than the agent has descriptors held back.
        let limit = open.max()! + 9
        try await self.limit(pid, to: limit)
        var fillers: [RedisTestClient] = []
        for _ in 0..<(limit - open.count + 30) {
            fillers.append(try await RedisTestClient.connect(port: started.port))
        }
        for filler in fillers { try await filler.send(["PING"]) }
        try await started.agent.waitForLine(containing: "this process has no file descriptors left")
        let before = try processorTicks(pid)
        let start = ContinuousClock.now
        while ContinuousClock.now - start < .seconds(2) {
            #expect(try await there.command("GET", "k") == .bulk(Array("v".utf8)))
            try await Task.sleep(for: .milliseconds(20))
        }
        // A loop that spins takes all of its two seconds, 200 ticks.
        #expect(try processorTicks(pid) - before < 120)
        // Nobody was sent away, and not all were taken.
        let taken = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").count
        #expect(taken < limit, "\(taken) of \(limit)")
        try await self.limit(pid, to: 256)
        for filler in fillers { #expect(try await filler.receive() == .simple("PONG")) }
        #expect(started.agent.allOutput.contains("there are file descriptors again"))
        for client in fillers + [there] { await client.close() }
        await stop(started)
    }

    /// Clients that wait for something take a connection of their own to the node. Who finds no descriptor for that is told so; the
    /// others are served on, and the node does not count as failing.
    @Test func connectionsOfTheirOwnEndWhereFilesEnd() async throws {
        let started = try await start(files: "128:128")
        let there = try await RedisTestClient.connect(port: started.port)
        var clients: [RedisTestClient] = []
        for _ in 0..<63 {
            let client = try await RedisTestClient.connect(port: started.port)
            #expect(try await client.command("PING") == .simple("PONG"))
            clients.append(client)
        }
        for (index, client) in clients.enumerated() { try await client.send(["BLPOP", "list:\(index)", "0"]) }
        try await started.agent.waitForLine(containing: "this process has no file descriptors left")
        for index in clients.indices {
            #expect(try await there.command("RPUSH", "list:\(index)", "v") == .integer(1))
        }
        var served: [RedisTestClient] = []
        var told: [RedisTestClient] = []
        for (index, client) in clients.enumerated() {
            switch try await client.receive() {
            case .error(let text):
                #expect(text.hasPrefix("ERR hkagent has no file descriptor left to connect to cache node a ("))
                #expect(
                    text.hasSuffix(
                        "nothing was sent; raise its limit of open files (ulimit -n, LimitNOFILE=) or lower clientsMax")
                )
                told.append(client)
            case let reply:
                #expect(reply == .array([.bulk(Array("list:\(index)".utf8)), .bulk(Array("v".utf8))]))
                served.append(client)
            }
        }
        // So many that descriptors have been held back all the time.
        #expect(served.count > 10 && told.count > 20, "\(served.count) served")
        for client in served + told { #expect(try await client.command("SET", "k", "v") == .simple("OK")) }
        for client in served { await client.close() }
        try await eventually("there is room for connections of their own") {
            try await told[0].command("BLPOP", "none", "0.01") == .nullArray
        }
        for client in told + [there] { await client.close() }
        await stop(started)
    }

    /// Who can reach the admin listener cannot take every descriptor of the process.
    @Test func theAdminListenerTakesNoMoreThanItsShare() async throws {
        let started = try await start(files: "1024:1024")
        let descriptors = "/proc/\(started.agent.processIdentifier)/fd"
        let before = try FileManager.default.contentsOfDirectory(atPath: descriptors).count
        var clients: [RedisTestClient] = []
        try await eventually("the admin listener is open") {
            clients.append(try await RedisTestClient.connect(port: started.adminPort))
            return true
        }
        for _ in 1..<100 { clients.append(try await RedisTestClient.connect(port: started.adminPort)) }
        try await eventually("its places are taken") {
            try FileManager.default.contentsOfDirectory(atPath: descriptors).count >= before + 60
        }
        let late = try await RedisTestClient.connect(port: started.adminPort)
        try await late.send(raw: "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        let client = try await RedisTestClient.connect(port: started.port)
        #expect(try await client.command("SET", "k", "v") == .simple("OK"))
        #expect(try FileManager.default.contentsOfDirectory(atPath: descriptors).count < before + 80)
        // Whoever waits is answered when there is a place.
        for client in clients { await client.close() }
        #expect(String(decoding: try await late.receiveRaw(), as: UTF8.self).hasPrefix("HTTP/1.1 200 OK"))
        for client in [late, client] { await client.close() }
        await stop(started)
    }

    private func limit(_ pid: pid_t, to files: Int) async throws {
        let outcome = try await SpawnedProcess.run(
            SystemTool.path("prlimit", debianPackage: "util-linux"), ["--pid", "\(pid)", "--nofile=\(files):256"])
        #expect(outcome.status == 0, "\(outcome)")
    }

    /// User and system time so far, in hundredths of a second.
    private func processorTicks(_ pid: pid_t) throws -> Int {
        let text = try String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
        let fields = text[text.lastIndex(of: ")")!...].split(separator: " ")
        return try #require(Int(fields[12])) + #require(Int(fields[13]))
    }
}
