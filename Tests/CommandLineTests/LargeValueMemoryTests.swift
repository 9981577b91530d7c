import Foundation
import HotKeyTestSupport
import Testing

/// What a whole agent holds of values that are larger than what it may hold.
@Suite struct LargeValueMemoryTests {
    private static func start(_ redis: RedisServer, _ flags: String...) async throws -> (SpawnedProcess, port: Int) {
        let port = try FreePort.next()
        let agent = try await SpawnedProcess.start(
            BinaryLocator.path("hkagent"),
            [
                "run", "--standalone", "--nodes", "a=\(redis.address)", "--threads", "1",
                "--listen", "127.0.0.1:\(port)", "--peer", "127.0.0.1:\(try FreePort.next())", "--admin",
                "127.0.0.1:\(try FreePort.next())",
            ] + flags)
        try await agent.waitForLine(containing: "serving apps")
        return (agent, port)
    }

    /// The most memory that the process has ever had.
    private static func peakMegabytes(_ agent: SpawnedProcess) throws -> Int {
        let status = try String(contentsOfFile: "/proc/\(agent.processIdentifier)/status", encoding: .utf8)
        let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") })
        return try #require(Int(line.split(separator: " ")[1])) / 1024
    }

    private static func ask(_ script: String, _ port: Int) async throws {
        let outcome = try await SpawnedProcess.run(
            SystemTool.python(), ["-c", script, "\(port)"], timeout: .seconds(180))
        #expect(outcome.status == 0, "\(outcome)")
    }

    /// Half a gigabyte is the most that Redis takes. Written, read, and read by one who takes its time.
    @Test func theLargestValueOfRedisPassesWithoutBeingHeld() async throws {
        let redis = try await RedisServer.start()
        let (agent, port) = try await Self.start(redis, "--upstream-request-timeout-milliseconds", "20000")
        try await Self.ask(Self.passing, port)
        // The output limit is 16 MiB; the rest is the agent itself.
        let peak = try Self.peakMegabytes(agent)
        #expect(peak < 150, "\(peak) MiB")
        #expect(await agent.stop() == .exited(0))
        await redis.stop()
    }

    @Test func aValueBeyondTheLimitIsRefusedAndTheAgentLives() async throws {
        let redis = try await RedisServer.start()
        let (agent, port) = try await Self.start(redis, "--limits-request-bytes-max", "\(256 << 20)")
        try await Self.ask(Self.refused, port)
        let peak = try Self.peakMegabytes(agent)
        #expect(peak < 150, "\(peak) MiB")
        #expect(await agent.stop() == .exited(0))
        await redis.stop()
    }

    private static let passing = """
        import socket, sys, time
        client = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=60)
        size, block = 512 << 20, bytes(range(256)) * 4096
        client.sendall(b"*3\\r\\n$3\\r\\nSET\\r\\n$5\\r\\nlarge\\r\\n$%d\\r\\n" % size)
        for _ in range(size // len(block)): client.sendall(block)
        client.sendall(b"\\r\\n")
        said = client.recv(100)
        assert said == b"+OK\\r\\n", said
        file = client.makefile("rb", 1 << 20)
        for pause in (0, 0.3):
            client.sendall(b"*2\\r\\n$3\\r\\nGET\\r\\n$5\\r\\nlarge\\r\\n")
            line = file.readline(1000)
            assert line == b"$%d\\r\\n" % size, line
            for number in range(size // len(block)):
                if number % 128 == 0: time.sleep(pause)
                assert file.read(len(block)) == block, number
            assert file.read(2) == b"\\r\\n"
        client.sendall(b"PING\\r\\n")
        assert file.readline() == b"+PONG\\r\\n"
        """

    private static let refused = """
        import socket, sys
        port, size = int(sys.argv[1]), 1 << 30
        there = socket.create_connection(("127.0.0.1", port), timeout=60)
        client = socket.create_connection(("127.0.0.1", port), timeout=60)
        block = b"x" * (1 << 20)
        try:
            client.sendall(b"*3\\r\\n$3\\r\\nSET\\r\\n$5\\r\\nlarge\\r\\n$%d\\r\\n" % size)
            for _ in range(size // len(block)): client.sendall(block)
        except (ConnectionResetError, BrokenPipeError):
            pass  # Let go before everything was sent, as it should be; the error came first.
        said = client.recv(1000)
        assert said == b"-ERR Protocol error: invalid bulk length\\r\\n", said
        there.sendall(b"PING\\r\\n")
        assert there.recv(100) == b"+PONG\\r\\n"
        """
}
