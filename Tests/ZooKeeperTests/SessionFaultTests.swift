import HotKeyTestSupport
import Testing

@testable import ZooKeeper

extension WithServers {
    /// Servers and networks that fail in the ways they do, and what a client says of it, when.
    @Suite(.timeLimit(.minutes(3))) struct SessionFaults {
        /// The states of a client with the moments at which they came.
        private struct Seen: Sendable {
            let state: ConnectionState
            let at: ContinuousClock.Instant
        }

        private func states(of client: ZooKeeperClient) -> Recorder<Seen> {
            let recorder = Recorder<Seen>()
            let states = client.connectionStates
            Task {
                for await state in states { recorder.record(Seen(state: state, at: .now)) }
            }
            return recorder
        }

        /// Suspended well before lost, lost no later than the server could have given the session's place away, and a
        /// new session when the fault is over.
        private func expectOrderlyLoss(
            _ client: ZooKeeperClient, timeoutMilliseconds timeout: Int, fault: () async throws -> Void,
            repair: () async throws -> Void
        ) async throws {
            let id = try sessionID(client)
            try await client.renewLease()
            let seen = states(of: client)
            try await seen.eventually("the current state") { $0.count == 1 }
            let start = ContinuousClock.now
            try await fault()
            try await seen.eventually("suspended") { $0.dropFirst().first?.state == .suspended }
            // By the own clock two thirds after the last contact, when the lease is over too.
            #expect(client.lease?.isSafe() == false)
            try await seen.eventually("lost") { $0.last?.state == .lost }
            #expect(client.lease == nil)
            let suspendedAfter = seen.all[1].at - start
            let lostAfter = seen.all.last!.at - start
            #expect(seen.all.map(\.state) == [.connected(sessionID: id), .suspended, .lost])
            #expect(suspendedAfter < .milliseconds(timeout * 2 / 3 + 600), "suspended after \(suspendedAfter)")
            #expect(lostAfter < .milliseconds(timeout + 600), "lost after \(lostAfter)")
            #expect(lostAfter - suspendedAfter > .milliseconds(timeout / 6), "\(suspendedAfter), \(lostAfter)")
            try await repair()
            try await seen.eventually("another session") {
                if case .connected(let new)? = $0.last?.state { new != id } else { false }
            }
            try await client.renewLease()
            #expect(client.lease?.isSafe() == true)
        }

        @Test func aStoppedServerIsToldInTime() async throws {
            let server = try await ZooKeeperServer.start()
            try await server.use { server in
                try await withClient(try configuration(server.address, session: 3_000, operation: 30_000)) {
                    client, root in
                    try await expectOrderlyLoss(client, timeoutMilliseconds: 3_000) {
                        server.suspend()
                    } repair: {
                        server.resume()
                    }
                    #expect(try await client.exists(root) != nil)
                }
            }
        }

        @Test(arguments: [FaultProxy.Direction.clientToServer, .serverToClient])
        func aNetworkThatWorksOneWayIsToldInTime(_ direction: FaultProxy.Direction) async throws {
            let proxy = try await FaultProxy.start(to: try await SharedServer.shared.server())
            try await withClient(try configuration(proxy.address, session: 3_000, operation: 30_000)) { client, root in
                try await client.create("\(root)/e", mode: .ephemeral)
                let events = Recorder<WatchEvent>()
                _ = try await client.get(root) { events.record($0) }
                try await expectOrderlyLoss(client, timeoutMilliseconds: 3_000) {
                    try await proxy.stop(direction)
                } repair: {
                    try await proxy.heal()
                }
                #expect(events.all == [.sessionLost])
                // The node is its owner's to make again; it goes when the server notices, which may be now.
                try await eventually("the old session's node goes") { try await client.exists("\(root)/e") == nil }
            }
            await proxy.stop()
        }

        @Test func aServerThatAcceptsAndNeverAnswers() async throws {
            let server = try await SharedServer.shared.server()
            let proxy = try await FaultProxy.start(to: server)
            try await proxy.hang()
            // Alone: calls end at their deadline and say why.
            try await withStartedClient(try configuration(proxy.address, session: 3_000, operation: 1_000)) { alone in
                let error = await storeError { try await alone.get("/") }
                #expect(error?.code == .deadlineExceeded)
                #expect(error?.message.contains(proxy.address) == true)
                #expect(error?.message.contains("nothing was sent") == true)
                #expect(alone.connectionState == .lost && alone.lease == nil)
                // Beside one that works: the other one is found.
                try await withStartedClient(try configuration(proxy.address, server.address, session: 3_000)) { both in
                    try await both.waitUntilConnected(timeoutMilliseconds: 20_000)
                }
                try await proxy.heal()
                try await alone.waitUntilConnected(timeoutMilliseconds: 20_000)
            }
            await proxy.stop()
        }

        @Test func allServersGoneAndBackKeepTheSession() async throws {
            let ensemble = try await ZooKeeperEnsemble.start(servers: 3)
            try await ensemble.use { ensemble in
                let connect = try ZooKeeperConfiguration(
                    connectString: ensemble.connectString, sessionTimeoutMilliseconds: 40_000,
                    operationTimeoutMilliseconds: 40_000)
                try await withClient(connect) { client, root in
                    let id = try sessionID(client)
                    try await client.create("\(root)/e", mode: .ephemeral)
                    let seen = Recorder<[UInt8]>()
                    let reader = Task {
                        for try await case .present(let value) in client.values(of: root) { seen.record(value.data) }
                    }
                    try await seen.eventually("the first value") { $0 == [[]] }
                    let states = states(of: client)
                    await ensemble.kill()
                    try await states.eventually("suspended") { $0.last?.state == .suspended }
                    // A write that waits for a connection was not sent, and is sent once.
                    async let written = client.set(root, [1], version: 0)
                    try await ensemble.start()
                    #expect(try await written.version == 1)
                    try await seen.eventually("the change") { $0 == [[], [1]] }
                    #expect(try sessionID(client) == id)
                    #expect(try await client.exists("\(root)/e")?.ephemeralOwner == id)
                    reader.cancel()
                    try await reader.value
                }
            }
        }

        /// A follower goes on answering reads while its leader is away, and the leader does not hear of them: whoever
        /// trusts such answers leads on after the ensemble has ended its session.
        @Test func aFollowerWithoutItsLeaderProvesNothing() async throws {
            let ensemble = try await ZooKeeperEnsemble.start(servers: 3)
            try await ensemble.use { ensemble in
                let leader = try await ensemble.leader()
                let follower = try await ensemble.followers()[0]
                try await withClient(try configuration(follower.address, session: 3_000, operation: 30_000)) {
                    client, _ in
                    try await client.renewLease()
                    leader.suspend()
                    let lease = try await eventually(
                        "the lease is over", value: { client.lease }, until: { $0?.isSafe() == false })
                    let state = client.connectionState
                    let proof = try #require(lease?.lastProof)
                    #expect(try #require(lease?.lastContact) > proof + .milliseconds(500), "reads were answered")
                    if case .connected = state {} else { Issue.record("\(state): the follower still served") }
                    leader.resume()
                    try await eventually("proven again") { try await client.renewLease()?.isSafe() == true }
                }
            }
        }

        /// The library alone would knock six times a second, without end; a thousand clients do so together.
        @Test func anOutageIsWaitedOutWithPauses() async throws {
            // Nobody listens behind the proxy: it accepts and resets, as a server does that does not serve.
            let proxy = try await FaultProxy.start(to: try FreePort.next())
            try await withStartedClient(
                try configuration(proxy.address, session: 10_000, operation: 1_000), random: { 0.999 }
            ) { client in
                try await eventually("the first attempts") { try await proxy.acceptedCount() > 0 }
                var last = (count: 0, since: ContinuousClock.now)
                try await eventually("two seconds without an attempt") {
                    let count = try await proxy.acceptedCount()
                    if count != last.count { last = (count, .now) }
                    return last.since.duration(to: .now) > .seconds(2)
                }
                let error = await storeError { try await client.get("/") }
                #expect(error?.message.contains("no server accepts") == true, "\(String(describing: error))")
            }
            await proxy.stop()
        }

        @Test func aNameThatDoesNotResolveBesideOneThatDoes() async throws {
            let server = try await SharedServer.shared.server()
            let missing = String(repeating: "a", count: 64)
            for servers in [["\(missing):2181", server.address], [server.address, "\(missing):2181"]] {
                try await withStartedClient(
                    try ZooKeeperConfiguration(servers: servers, sessionTimeoutMilliseconds: 10_000)
                ) { try await $0.waitUntilConnected(timeoutMilliseconds: 20_000) }
            }
        }

        @Test func credentialsComeAlongToAnotherConnectionAndAnotherSession() async throws {
            let server = try await SharedServer.shared.server()
            let proxy = try await FaultProxy.start(to: server)
            let ann = try ZooKeeperCredential.digest(user: "ann", password: "x")
            try await withClient(try configuration(proxy.address, session: 4_000, operation: 30_000)) { client, root in
                try await client.addAuthentication(ann)
                let path = try await client.create("\(root)/m", [1], mode: .persistent, acl: AccessControl.creatorAll)
                let id = try sessionID(client)
                try await proxy.resetConnections()
                #expect(try await client.get(path).data == [1])
                #expect(try sessionID(client) == id, "another connection of the same session")
                try await proxy.hang()
                try await eventually("the session is lost") { client.connectionState == .lost }
                try await proxy.heal()
                #expect(try await client.get(path).data == [1])
                #expect(try sessionID(client) != id, "another session")
            }
            await proxy.stop()
        }

        @Test func refusedCredentialsAreToldAtOnceAndAgain() async throws {
            let unknown = try ZooKeeperCredential(scheme: "no-such-scheme", secret: [1])
            let configuration = try configuration(
                try await SharedServer.address(), operation: 20_000, authentication: [unknown])
            try await withStartedClient(configuration, random: { 0.999 }) { client in
                await expectError(.authenticationFailed) { try await client.get("/") }
                let start = ContinuousClock.now
                for _ in 0..<20 {
                    let error = await storeError { try await client.get("/") }
                    #expect(error?.code == .authenticationFailed)
                    #expect(error?.message.contains("authentication settings") == true)
                }
                #expect(start.duration(to: .now) < .seconds(5), "nobody waits for the next refusal")
                #expect(client.connectionState == .lost)
                await client.close()
                await expectError(.closed) { try await client.get("/") }
            }
        }
    }
}

@Suite struct TLSTests {
    private func file(_ directory: TemporaryDirectory, _ name: String) throws -> String {
        try directory.write("-", to: name)
    }

    /// With Debian's library. One that has TLS would be connected with instead, which no test here can do.
    @Test(.enabled(if: !ZooKeeperTLS.isAvailable))
    func aLibraryWithoutTLSIsRefusedWithTheRemedy() throws {
        let directory = try TemporaryDirectory(prefix: "hotkey-tls")
        let tls = try ZooKeeperTLS(
            certificateAuthorityFile: file(directory, "ca.pem"), certificateChainFile: file(directory, "client.pem"),
            privateKeyFile: file(directory, "client.key"), passphrase: "opensesame")
        let error = #expect(throws: StoreError.self) {
            try ZooKeeperConfiguration(connectString: "a:2281", tls: tls)
        }
        #expect(error?.code == .badArguments)
        for word in ["tls", "libzookeeper_mt", "OpenSSL", "stunnel"] {
            #expect(error?.message.contains(word) == true, "\(word) in \(String(describing: error))")
        }
        #expect(
            LibraryTLS.certificateList(tls)
                == "\(directory.file("ca.pem")),\(directory.file("client.pem")),\(directory.file("client.key")),opensesame"
        )
        var dumped = ""
        dump(tls, to: &dumped)
        for text in ["\(tls)", String(reflecting: tls), dumped] { #expect(!text.contains("opensesame")) }
    }

    @Test func whatIsWrongWithTheFilesIsNamed() throws {
        let directory = try TemporaryDirectory(prefix: "hotkey-tls")
        let good = try file(directory, "good.pem")
        let comma = try file(directory, "a,b.pem")
        for (place, build) in [
            (
                "tls.certificateAuthorityFile",
                {
                    try ZooKeeperTLS(
                        certificateAuthorityFile: "/nowhere", certificateChainFile: good, privateKeyFile: good)
                }
            ),
            (
                "tls.certificateChainFile",
                {
                    try ZooKeeperTLS(certificateAuthorityFile: good, certificateChainFile: comma, privateKeyFile: good)
                }
            ),
            (
                "tls.privateKeyFile",
                {
                    try ZooKeeperTLS(certificateAuthorityFile: good, certificateChainFile: good, privateKeyFile: "")
                }
            ),
            (
                "tls.passphrase",
                {
                    try ZooKeeperTLS(
                        certificateAuthorityFile: good, certificateChainFile: good, privateKeyFile: good,
                        passphrase: "open,sesame")
                }
            ),
        ] as [(String, () throws -> ZooKeeperTLS)] {
            let error = #expect(throws: StoreError.self) { try build() }
            #expect(error?.message.contains(place) == true && error?.message.contains("sesame") == false)
        }
    }
}
