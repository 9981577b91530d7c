import HotKeyTestSupport
import Testing
import ZooKeeper

extension WithServers {
    @Suite(.timeLimit(.minutes(2))) struct Sessions {
        /// Records the states of a client until it is closed.
        private func states(of client: ZooKeeperClient) -> Recorder<ConnectionState> {
            let recorder = Recorder<ConnectionState>()
            let states = client.connectionStates
            Task {
                for await state in states { recorder.record(state) }
            }
            return recorder
        }

        @Test func aShortLossKeepsTheSession() async throws {
            let proxy = try await FaultProxy.start(to: try await SharedServer.shared.server())
            try await withClient(try configuration(proxy.address, session: 20_000)) { client, root in
                let id = try sessionID(client)
                try await client.create("\(root)/e", mode: .ephemeral)
                let states = states(of: client)
                try await states.eventually("the current state first") { $0 == [.connected(sessionID: id)] }
                try await proxy.cut()
                try await states.eventually("suspended") { $0.last == .suspended }
                // Waits for the connection, and is not sent twice.
                async let created = client.create("\(root)/s", mode: .persistentSequential)
                try await proxy.heal()
                try await states.eventually("connected again") { $0.last == .connected(sessionID: id) }
                #expect(try await created == "\(root)/s0000000001")
                #expect(try await client.exists("\(root)/e") != nil)
                #expect(!states.all.contains(.lost))
            }
            await proxy.stop()
        }

        @Test func P29_P30_aLongLossIsLostInTimeAndReplaced() async throws {
            let proxy = try await FaultProxy.start(to: try await SharedServer.shared.server())
            let ann = try ZooKeeperCredential.digest(user: "ann", password: "x")
            let timeout = 3_000
            try await withClient(try configuration(proxy.address, session: timeout, authentication: [ann])) {
                client, root in
                let id = try sessionID(client)
                try await client.create("\(root)/e", mode: .ephemeral)
                try await client.create("\(root)/mine", [5], mode: .persistent, acl: AccessControl.creatorAll)
                let events = Recorder<WatchEvent>()
                _ = try await client.get(root) { events.record($0) }
                let seen = Recorder<[UInt8]>()
                let reader = Task {
                    for try await case .present(let value) in client.values(of: root) { seen.record(value.data) }
                }
                try await seen.eventually("the first value") { $0 == [[]] }
                let states = states(of: client)

                let clock = ContinuousClock()
                let start = clock.now
                try await proxy.hang()
                try await states.eventually("suspended, then lost, while nothing is reachable") {
                    $0.suffix(2) == [.suspended, .lost]
                }
                let elapsed = start.duration(to: clock.now)
                // The last contact is before the fault, so that the deadline counts from before it.
                #expect(elapsed < .milliseconds(timeout + 1_500), "lost after \(elapsed)")
                #expect(elapsed > .milliseconds(timeout / 2), "not before the session can be gone: \(elapsed)")
                try await events.eventually("the watch has ended") { $0 == [.sessionLost] }

                try await withClient { other, _ in
                    try await other.set(root, [1], version: nil)
                    try await eventually("the ephemeral node is gone") { try await other.exists("\(root)/e") == nil }
                }
                try await proxy.heal()
                try await states.eventually("another session") {
                    if case .connected(let new) = $0.last { new != id } else { false }
                }
                try await seen.eventually("the sequence goes on, without repeating itself") { $0 == [[], [1]] }
                #expect(try await client.get("\(root)/mine").data == [5], "the credentials came along")
                try await client.set(root, [2], version: nil)
                try await seen.eventually("and is armed") { $0 == [[], [1], [2]] }
                #expect(events.all == [.sessionLost], "at most once")
                reader.cancel()
                try await reader.value
            }
            await proxy.stop()
        }

        /// Two servers that know nothing of each other: the second one declares the first one's session expired.
        @Test func P29_anExpiryByTheServerGivesANewHandle() async throws {
            let first = try await ZooKeeperServer.start()
            let second = try await SharedServer.shared.server()
            try await first.use { first in
                let proxy = try await FaultProxy.start(to: second)
                try await proxy.cut()
                let client = ZooKeeperClient(
                    configuration: try configuration(first.address, proxy.address, session: 60_000, operation: 30_000),
                    logger: testLogger())
                client.start()
                try await client.waitUntilConnected(timeoutMilliseconds: 30_000)
                let id = try sessionID(client)
                let events = Recorder<WatchEvent>()
                _ = try await client.exists("/x") { events.record($0) }
                let states = states(of: client)
                await first.kill()
                try await states.eventually("suspended") { $0.last == .suspended }
                try await proxy.heal()
                try await states.eventually("a new session, long before the old one's timeout") {
                    if case .connected(let new) = $0.last { new != id } else { false }
                }
                try await events.eventually("the watch is told") { $0 == [.sessionLost] }
                #expect(try await client.exists("/zookeeper") != nil)
                await client.close()
                await proxy.stop()
            }
        }

        @Test func P5_anUnresolvableNameIsTriedAgainAndClosable() async throws {
            // A label of more than 63 characters is refused by the resolver itself; no query leaves this machine.
            let host = String(repeating: "a", count: 64)
            let client = ZooKeeperClient(
                configuration: try configuration("\(host):2181", operation: 1_500), logger: testLogger(),
                random: { 0.1 })
            client.start()
            let error = await storeError { try await client.get("/x") }
            #expect(error?.code == .deadlineExceeded)
            #expect(error?.message.contains("Last failure") == true, "\(String(describing: error))")
            await client.close()
            #expect(client.connectionState == .lost)
        }

        @Test func operationsWaitForTheFirstConnection() async throws {
            let proxy = try await FaultProxy.start(to: try await SharedServer.shared.server())
            try await proxy.cut()
            let client = ZooKeeperClient(
                configuration: try configuration(proxy.address, operation: 30_000), logger: testLogger())
            let unstarted = ZooKeeperClient(
                configuration: try configuration(proxy.address, operation: 50), logger: testLogger())
            let unstartedError = await storeError { try await unstarted.get("/") }
            #expect(unstartedError?.message.contains("not started") == true)
            await unstarted.close()
            await expectError(.closed) { try await unstarted.get("/") }
            client.start()
            async let value = client.exists("/")
            try await Task.sleep(for: .milliseconds(300))
            try await proxy.heal()
            #expect(try await value != nil)
            await client.close()
            await proxy.stop()
        }

        @Test func P32_deadlineAndCancellationAbandonTheWait() async throws {
            let server = try await SharedServer.shared.server()
            let proxy = try await FaultProxy.start(to: server)
            try await withClient(
                try configuration(proxy.address, session: 40_000, operation: 1_000, maxInFlight: 8)
            ) { client, root in
                try await proxy.hang()
                let clock = ContinuousClock()
                let start = clock.now
                let error = await storeError { try await client.set(root, [1], version: nil) }
                #expect(error?.code == .deadlineExceeded)
                #expect(error?.isRetriable == true)
                #expect(start.duration(to: clock.now) >= .milliseconds(990))

                let task = Task { try await client.set(root, [2], version: nil) }
                task.cancel()
                await expectCancelled { try await task.value }
                let later = Task { try await client.set(root, [3], version: nil) }
                try await Task.sleep(for: .milliseconds(50))
                later.cancel()
                await expectCancelled { try await later.value }

                // What was abandoned is still the library's: the rest of the eight, then no more (P34).
                for _ in 0..<8 {
                    let waiting = Task { try await client.set(root, [4], version: nil) }
                    try await Task.sleep(for: .milliseconds(20))
                    waiting.cancel()
                }
                let refused = await storeError { try await client.set(root, [5], version: nil) }
                #expect(refused?.code == .tooManyInFlight)
                try await proxy.heal()
                try await eventually("the replies make room") {
                    try await client.get(root).stat.version >= 1
                }
            }
            await proxy.stop()
        }

        @Test func P31_aLostReplyLeavesOneNode() async throws {
            let proxy = try await FaultProxy.start(to: try await SharedServer.shared.server())
            try await withClient(try configuration(proxy.address, session: 40_000, operation: 1_000)) { client, root in
                try await proxy.stop(.serverToClient)
                let creating = Task {
                    try await client.createProtected("\(root)/n-", [1], mode: .ephemeralSequential)
                }
                try await withClient { other, _ in
                    try await eventually("the node is there, its reply is not") {
                        try await other.children(root).names.count == 1
                    }
                }
                try await Task.sleep(for: .milliseconds(1_200))
                try await proxy.heal()
                let path = try await creating.value
                #expect(try await client.children(root).names.map { "\(root)/\($0)" } == [path])
            }
            await proxy.stop()
        }

        @Test func P34_aThousandCallsAtOnce() async throws {
            try await withClient { client, root in
                try await withThrowingTaskGroup(of: NodeStat.self) { group in
                    for number in 0..<1_000 {
                        group.addTask { try await client.set(root, [UInt8(number % 256)], version: nil) }
                    }
                    var versions: Set<Int32> = []
                    for try await stat in group { versions.insert(stat.version) }
                    #expect(versions == Set(1...1_000))
                }
            }
        }

        @Test func runIsTheLifetimeAndCancellationIsGraceful() async throws {
            let address = try await SharedServer.address()
            let client = ZooKeeperClient(
                configuration: try configuration(address, session: 60_000), logger: testLogger())
            let run = Task { try await client.run() }
            let path = try await client.create("/test-\(randomToken())", mode: .ephemeral)
            let states = states(of: client)
            run.cancel()
            try await run.value
            try await states.eventually("the states end with lost") { $0.last == .lost }
            try await withClient { other, _ in
                let left = try await other.exists(path)
                #expect(left == nil, "gone at once, not after a minute")
            }
            await expectError(.closed) { try await client.get("/") }
            await expectError(.closed) { try await client.run() }
            await client.close()
        }

        @Test func anEnsembleCarriesTheSessionOn() async throws {
            let ensemble = try await ZooKeeperEnsemble.start(servers: 3)
            try await ensemble.use { ensemble in
                let connect = try ZooKeeperConfiguration(
                    connectString: ensemble.connectString, sessionTimeoutMilliseconds: 40_000,
                    operationTimeoutMilliseconds: 40_000)
                try await withClient(connect) { client, root in
                    let id = try sessionID(client)
                    let seen = Recorder<[UInt8]>()
                    let reader = Task {
                        for try await case .present(let value) in client.values(of: root) { seen.record(value.data) }
                    }
                    try await seen.eventually("the first value") { $0 == [[]] }
                    try await ensemble.leader().kill()
                    // A write may get lost with the leader: ask before repeating it.
                    try await eventually("a write", timeout: .seconds(60)) {
                        if try await client.get(root).data == [1] { return true }
                        try await client.set(root, [1], version: nil)
                        return true
                    }
                    try await seen.eventually("the change") { $0 == [[], [1]] }
                    #expect(try sessionID(client) == id)
                    reader.cancel()
                    try await reader.value
                }
            }
        }
    }
}
