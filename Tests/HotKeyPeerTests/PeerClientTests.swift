import HotKeyPeer
import HotKeyTestSupport
import RESP
import Testing

/// The connection, against a real Redis.
@Suite struct PeerClientTests {
    /// For what is not about limits: a busy machine may take its time.
    private static let patient = PeerConfiguration(
        connectTimeoutMilliseconds: 60_000, requestTimeoutMilliseconds: 60_000)

    private func bytes(_ words: String...) -> [[UInt8]] { words.map { Array($0.utf8) } }

    @Test func answersComeInTurn() async throws {
        try await RedisServer.start().use { server in
            let client = try await PeerClient.connect(
                host: "127.0.0.1", port: server.port, configuration: Self.patient)
            #expect(try await client.command(bytes("PING")) == .simpleString("PONG"))
            try await withThrowingTaskGroup(of: (Int, RESPValue).self) { group in
                for number in 0..<1_000 {
                    group.addTask { (number, try await client.command(bytes("ECHO", "\(number)"))) }
                }
                for try await (number, reply) in group { #expect(reply == .bulk("\(number)")) }
            }
            #expect(client.isConnected)
            await client.close()
            await client.close()
            #expect(!client.isConnected)
        }
    }

    @Test func unixSocket() async throws {
        try await RedisServer.start().use { server in
            let client = try await PeerClient.connect(unixPath: server.unixSocketPath, configuration: Self.patient)
            #expect(try await client.command(bytes("ECHO", "here")) == .bulk("here"))
            #expect("\(client.address)" == "unix:\(server.unixSocketPath)")
            await client.close()
        }
    }

    @Test func anErrorIsAValueOfACommandAndThrownByTheAgentsCommands() async throws {
        try await RedisServer.start().use { server in
            let client = try await PeerClient.connect(
                host: "127.0.0.1", port: server.port, configuration: Self.patient)
            guard case .error = try await client.command(bytes("NOSUCH")) else {
                Issue.record("expected an error reply")
                return
            }
            let error = await #expect(throws: PeerError.self) { try await client.status() }
            #expect(error?.code == .refused)
            #expect(error?.message.contains("unknown command") == true)
            #expect(error?.address == "127.0.0.1:\(server.port)")
            #expect(client.isConnected)
            await client.close()
        }
    }

    @Test func refusedConnection() async throws {
        let port = try FreePort.next()
        let error = await #expect(throws: PeerError.self) {
            try await PeerClient.connect(host: "127.0.0.1", port: port, configuration: Self.patient)
        }
        #expect(error?.code == .unreachable)
        #expect(error?.description == "127.0.0.1:\(port): connection refused")
    }

    @Test func aSilentServerFailsEverythingUnderWayAndTheConnection() async throws {
        try await RedisServer.start().use { server in
            let client = try await PeerClient.connect(
                host: "127.0.0.1", port: server.port, configuration: Self.patient)
            #expect(try await client.command(bytes("PING")) == .simpleString("PONG"))
            server.suspend()
            let patient = Task { try await client.command(bytes("ECHO", "first")) }
            let hasty = Task { try await client.command(bytes("ECHO", "second"), timeoutMilliseconds: 100) }
            let start = ContinuousClock.now
            for result in [
                await Self.error { _ = try await patient.value }, await Self.error { _ = try await hasty.value },
            ] {
                #expect(result?.code == .timedOut)
                #expect(result?.message.contains("no answer to ECHO within 100 ms") == true)
            }
            #expect(ContinuousClock.now - start < .seconds(45))
            let later = await Self.error { _ = try await client.command(bytes("PING")) }
            #expect(later?.code == .timedOut || later?.code == .closed)
            try await eventually("the connection is closed") { !client.isConnected }
            server.resume()
        }
    }

    @Test func aDyingServerFailsWhatIsUnderWay() async throws {
        try await RedisServer.start().use { server in
            let client = try await PeerClient.connect(
                host: "127.0.0.1", port: server.port, configuration: Self.patient)
            let blocked = Task { try await client.command(bytes("BLPOP", "never", "0"), timeoutMilliseconds: 60_000) }
            try await eventually("the call is under way") {
                try await server.client().command("INFO", "clients").string?.contains("blocked_clients:1") == true
            }
            await server.kill()
            #expect(await Self.error { _ = try await blocked.value }?.code == .closed)
        }
    }

    @Test func closingFailsWhatIsUnderWay() async throws {
        try await RedisServer.start().use { server in
            let client = try await PeerClient.connect(
                host: "127.0.0.1", port: server.port, configuration: Self.patient)
            let blocked = Task { try await client.command(bytes("BLPOP", "never", "0"), timeoutMilliseconds: 60_000) }
            try await eventually("the call is under way") {
                try await server.client().command("INFO", "clients").string?.contains("blocked_clients:1") == true
            }
            await client.close()
            #expect(await Self.error { _ = try await blocked.value }?.code == .closed)
            #expect(await Self.error { _ = try await client.command(bytes("PING")) }?.code == .closed)
        }
    }

    /// The answer to a call that nobody waits for any more must not be taken for the next call's.
    @Test func aCancelledCallKeepsItsPlaceInLine() async throws {
        try await RedisServer.start().use { server in
            let client = try await PeerClient.connect(
                host: "127.0.0.1", port: server.port, configuration: Self.patient)
            let blocked = Task { try await client.command(bytes("BLPOP", "list", "0")) }
            try await eventually("the call is under way") {
                try await server.client().command("INFO", "clients").string?.contains("blocked_clients:1") == true
            }
            blocked.cancel()
            await #expect(throws: CancellationError.self) { try await blocked.value }
            async let next = client.command(bytes("ECHO", "mine"))
            _ = try await server.client().command("RPUSH", "list", "late")
            #expect(try await next == .bulk("mine"))
            await client.close()
        }
    }

    @Test func moreThanTheAllowedBytesEndTheConnection() async throws {
        try await RedisServer.start().use { server in
            _ = try await server.client().command("SETRANGE", "big", "\(2 << 20)", "x")
            let client = try await PeerClient.connect(
                host: "127.0.0.1", port: server.port,
                configuration: PeerConfiguration(
                    connectTimeoutMilliseconds: 60_000, requestTimeoutMilliseconds: 60_000, replyBytesMax: 1 << 20))
            #expect(await Self.error { _ = try await client.command(bytes("GET", "big")) }?.code == .replyTooLarge)
            try await eventually("the connection is closed") { !client.isConnected }
        }
    }

    @Test func tooManyCallsFailAtOnce() async throws {
        try await RedisServer.start().use { server in
            let client = try await PeerClient.connect(
                host: "127.0.0.1", port: server.port, configuration: Self.patient)
            server.suspend()
            let codes = await withTaskGroup(of: PeerError.Code?.self) { group in
                for _ in 0..<PeerLimits.callsInFlightMax + 3 {
                    group.addTask { await Self.error { _ = try await client.command(bytes("PING")) }?.code }
                }
                var codes: [PeerError.Code?] = []
                for await code in group {
                    codes.append(code)
                    // Only those that were not sent have an end while the server is suspended.
                    if codes.count == 3 { server.resume() }
                }
                return codes
            }
            #expect(codes.prefix(3) == [.tooManyInFlight, .tooManyInFlight, .tooManyInFlight])
            #expect(codes.dropFirst(3).allSatisfy { $0 == nil })
            await client.close()
        }
    }

    @Test func addresses() {
        #expect(PeerAddress("10.0.0.1:7380") == .tcp(host: "10.0.0.1", port: 7380))
        #expect(PeerAddress("[::1]:7380") == .tcp(host: "::1", port: 7380))
        #expect(PeerAddress("[::1]:7380")?.description == "[::1]:7380")
        #expect(PeerAddress("unix:/run/hk") == .unix(path: "/run/hk"))
        for bad in ["", "host", "host:", "host:0", "host:65536", "::1:7380", ":7380", "unix:rel"] {
            #expect(PeerAddress(bad) == nil, "\(bad)")
        }
    }

    private static func error(_ body: () async throws -> Void) async -> PeerError? {
        do {
            try await body()
            return nil
        } catch {
            return error as? PeerError
        }
    }
}
