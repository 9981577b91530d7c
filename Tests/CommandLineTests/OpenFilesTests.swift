import Foundation
import HotKeyTestSupport
import Testing

/// An agent that may have few files open.
@Suite struct OpenFilesTests {
    private struct Started {
        let agent: SpawnedProcess
        let redis: RedisServer
        let port: Int
    }

    /// - Parameter files: soft and hard limit, as `prlimit` takes them.
    private func start(files: String) async throws -> Started {
        let redis = try await RedisServer.start()
        let port = try FreePort.next()
        let agent = try await SpawnedProcess.start(
            SystemTool.path("prlimit", debianPackage: "util-linux"),
            [
                "--nofile=\(files)", "--", BinaryLocator.path("hkagent"), "run", "--standalone", "--nodes",
                "a=\(redis.address)", "--threads", "1", "--listen", "127.0.0.1:\(port)", "--peer",
                "127.0.0.1:\(try FreePort.next())", "--admin", "127.0.0.1:\(try FreePort.next())",
            ])
        try await agent.waitForLine(containing: "serving apps")
        return Started(agent: agent, redis: redis, port: port)
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

    /// With no descriptor left, who is there is served, the listener stays, and the event loop does not spin over the connection that
    /// it cannot take.
    @Test func runningOutOfFilesEndsNothing() async throws {
        let started = try await start(files: "256:256")
        let there = try await RedisTestClient.connect(port: started.port)
        #expect(try await there.command("SET", "k", "v") == .simple("OK"))
        let pid = started.agent.processIdentifier
        let open = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").compactMap { Int($0) }
        // Every number below the limit is taken.
        try await limit(pid, to: open.max()! + 1)
        var fillers: [RedisTestClient] = []
        for _ in 0..<(open.max()! + 1 - open.count + 1) {
            fillers.append(try await RedisTestClient.connect(port: started.port))
        }
        for filler in fillers { try await filler.send(["PING"]) }
        let before = try processorTicks(pid)
        let start = ContinuousClock.now
        while ContinuousClock.now - start < .seconds(2) {
            #expect(try await there.command("GET", "k") == .bulk(Array("v".utf8)))
            try await Task.sleep(for: .milliseconds(20))
        }
        // A loop that spins takes all of its two seconds, 200 ticks.
        #expect(try processorTicks(pid) - before < 120)
        try await limit(pid, to: 256)
        for filler in fillers { #expect(try await filler.receive() == .simple("PONG")) }
        for client in fillers + [there] { await client.close() }
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
