import HotKeyRegistry
import HotKeyTestSupport
import Testing
import ZooKeeper

private actor Journal {
    private(set) var entries: [String] = []
    func note(_ entry: String) { entries.append(entry) }
    func count(_ entry: String) -> Int { entries.filter { $0 == entry }.count }
}

/// Leads until cancelled, and says so.
@Sendable private func reign(_ name: String, _ journal: Journal) async throws {
    await journal.note("\(name) leads")
    do {
        try await Task.sleep(for: .seconds(600))
    } catch {
        await journal.note("\(name) ends")
        throw error
    }
}

extension WithServers {
    @Suite struct ElectionTests {
        @Test func leadershipGoesFromOneToTheNextAndEachWatchesOnlyItsPredecessor() async throws {
            let server = try await ZooKeeperServer.start()
            try await server.use { server in
                let app = try await TestApp(address: server.address)
                let journal = Journal()
                try await app.with { first in
                    try await app.initialise(first)
                    try await app.with { second in
                        try await app.with { third in
                            let clients = [first, second, third]
                            let elections = try clients.enumerated().map { index, client in
                                LeaderElection(
                                    store: client, paths: app.paths, id: try AgentID("host-\(index)"),
                                    logger: app.logger)
                            }
                            var tasks: [Task<Void, any Error>] = []
                            for (index, election) in elections.enumerated() {
                                tasks.append(
                                    Task { try await election.run { _ in try await reign("host-\(index)", journal) } })
                                try await eventually("candidate \(index)") {
                                    try await app.makeOperator(first).candidates().count == index + 1
                                }
                            }
                            try await eventually("the first leads") { await journal.count("host-0 leads") == 1 }
                            #expect(
                                try await app.makeOperator(first).candidates().map(\.agent)
                                    == ["host-0", "host-1", "host-2"])
                            // The leader watches its own node, each other one the node before it.
                            try await eventually(
                                "watches", value: { try await server.fourLetterWord("wchs") },
                                until: { $0.contains("Total watches:3") })
                            let token = try #require(elections[0].leadership)
                            #expect(elections[1].leadership == nil)

                            // The second one's end moves nobody but the third's watch.
                            tasks[1].cancel()
                            try await tasks[1].value
                            try await eventually("it is gone") {
                                try await app.makeOperator(first).candidates().count == 2
                            }
                            #expect(await journal.entries == ["host-0 leads"])
                            tasks[0].cancel()
                            try await tasks[0].value
                            try await eventually("the third leads") { await journal.count("host-2 leads") == 1 }
                            #expect(await journal.entries == ["host-0 leads", "host-0 ends", "host-2 leads"])
                            let next = try #require(elections[2].leadership)
                            #expect(next.createdTransaction > token.createdTransaction)
                            // What the first still holds is worth nothing now.
                            let fenced = await #expect(throws: StoreError.self) { try await first.multi([token.fence]) }
                            #expect(fenced?.code == .noNode)
                            tasks[2].cancel()
                            try await tasks[2].value
                        }
                    }
                }
            }
        }

        @Test func aLeaderStepsDownWhenTheConnectionIsSuspendedAndAnotherTakesOver() async throws {
            let app = try await TestApp()
            let server = try await SharedServer.shared.server()
            let proxy = try await FaultProxy.start(to: server)
            let journal = Journal()
            try await app.with { second in
                try await app.initialise(second)
                try await app.with(at: proxy.address, session: 4_000) { first in
                    let one = LeaderElection(
                        store: first, paths: app.paths, id: try AgentID("one"), logger: app.logger)
                    let two = LeaderElection(
                        store: second, paths: app.paths, id: try AgentID("two"), logger: app.logger)
                    try await running([
                        { try await one.run { _ in try await reign("one", journal) } },
                        {
                            try await eventually("one leads") { await journal.count("one leads") == 1 }
                            try await two.run { _ in try await reign("two", journal) }
                        },
                    ]) {
                        try await eventually("two stands") {
                            try await app.makeOperator(second).candidates().count == 2
                        }
                        // A short break: it steps down at once and leads again with the node it has.
                        let token = try #require(one.leadership)
                        try await proxy.resetConnections()
                        try await eventually("one leads again") { await journal.count("one leads") == 2 }
                        #expect(await journal.count("one ends") == 1)
                        #expect(one.leadership == token)
                        // A long one: the session ends, the other takes over.
                        try await proxy.cut()
                        try await eventually("one steps down") { await journal.count("one ends") == 2 }
                        #expect(one.leadership == nil)
                        try await eventually("two leads") { await journal.count("two leads") == 1 }
                        try await proxy.heal()
                        try await eventually("one stands again, behind") {
                            try await app.makeOperator(second).candidates().map(\.agent) == ["two", "one"]
                        }
                        #expect(await journal.count("one leads") == 2)
                    }
                }
            }
            await proxy.stop()
        }

        @Test func aBodyThatFailsResignsAndStandsAgain() async throws {
            let app = try await TestApp()
            let journal = Journal()
            try await app.with { client in
                try await app.initialise(client)
                try await app.lead(client) { _ in
                    await journal.note("leads")
                    if await journal.entries.count < 3 { throw RegistryError(.conflictingWriter, "by hand") }
                }
                #expect(await journal.entries.count == 3)
                #expect(try await app.makeOperator(client).candidates().isEmpty, "resigned")
                struct Fatal: Error {}
                await #expect(throws: Fatal.self) { try await app.lead(client) { _ in throw Fatal() } }
                #expect(try await app.makeOperator(client).candidates().isEmpty)
            }
        }

        @Test func deletingTheElectionNodeEndsTheLeadership() async throws {
            let app = try await TestApp()
            let journal = Journal()
            try await app.with { client in
                // Standing before the app is there waits for it.
                let election = LeaderElection(
                    store: client, paths: app.paths, id: try AgentID("one"), logger: app.logger)
                try await running([{ try await election.run { _ in try await reign("one", journal) } }]) {
                    try await eventually("it waits") { app.lines.all.contains { $0.contains("not initialised") } }
                    try await app.initialise(client)
                    try await eventually("it leads") { await journal.count("one leads") == 1 }
                    try await client.delete(try #require(election.leadership).path, version: nil)
                    try await eventually("it leads anew") { await journal.count("one leads") == 2 }
                    #expect(await journal.count("one ends") == 1)
                }
            }
        }
    }

    @Suite struct MembershipTests {
        private func document(_ peer: String) -> AgentDocument {
            AgentDocument(peer: peer, version: "0.1.0", startedAt: start)
        }

        @Test func agentsComeGoAndComeBack() async throws {
            let app = try await TestApp()
            let server = try await SharedServer.shared.server()
            let proxy = try await FaultProxy.start(to: server)
            let id = try AgentID("host-1")
            try await app.with { observer in
                try await app.initialise(observer)
                let directory = AgentDirectory(store: observer, paths: app.paths, logger: app.logger)
                try await running([{ try await directory.run() }]) {
                    try await app.with(at: proxy.address, session: 1_500) { client in
                        let presence = AgentPresence(
                            store: client, paths: app.paths, id: id, document: document("127.0.0.1:1"),
                            logger: app.logger)
                        try await running([{ try await presence.run() }]) {
                            try await eventually("the agent appears") {
                                directory.current == [id: document("127.0.0.1:1")]
                            }
                            try await eventually("it knows") { presence.isRegistered }
                            // Deleted by hand: made again.
                            let first = try #require(try await observer.exists(app.paths.agent(id)))
                            try await observer.delete(app.paths.agent(id), version: nil)
                            let second = try await eventually(
                                "it is made again", value: { try await observer.exists(app.paths.agent(id)) },
                                until: { ($0?.createdTransaction ?? 0) > first.createdTransaction })
                            // The session is lost, and with it the node.
                            try await proxy.cut()
                            // Asked of the store first: the directory may still be about to tell of the deletion by hand.
                            try await eventually("it is gone") { try await observer.exists(app.paths.agent(id)) == nil }
                            try await eventually("the directory tells so") { directory.current.isEmpty }
                            try await eventually("it knows that, too") { !presence.isRegistered }
                            try await proxy.heal()
                            try await eventually("it is back") { directory.current[id] != nil }
                            let third = try #require(try await observer.exists(app.paths.agent(id)))
                            #expect(third.ephemeralOwner != second?.ephemeralOwner)
                            #expect(try await directory.read() == directory.current)
                        }
                        #expect(try await observer.exists(app.paths.agent(id)) == nil, "deleted on the way out")
                    }
                    try await eventually("the directory follows") { directory.current.isEmpty }
                }
            }
            await proxy.stop()
        }

        @Test func aLeftoverIsReplacedARivalIsWaitedFor() async throws {
            let app = try await TestApp()
            let id = try AgentID("host-1")
            try await app.with { old in
                try await app.initialise(old)
                let left = try RegistryCodec.encode(document("127.0.0.1:1"), source: "")
                try await old.create(app.paths.agent(id), left, mode: .ephemeral)
                try await app.with { client in
                    let same = AgentPresence(
                        store: client, paths: app.paths, id: id, document: document("127.0.0.1:1"), logger: app.logger)
                    try await running([{ try await same.run() }]) {
                        try await eventually("the leftover is replaced") { same.isRegistered }
                    }
                    try await old.create(app.paths.agent(id), left, mode: .ephemeral)
                    let other = AgentPresence(
                        store: client, paths: app.paths, id: id, document: document("127.0.0.1:2"), logger: app.logger)
                    try await running([{ try await other.run() }]) {
                        try await eventually("the conflict is told") {
                            app.lines.all.contains { $0.contains("another agent is registered") }
                        }
                        #expect(!other.isRegistered)
                        try await old.delete(app.paths.agent(id), version: nil)
                        try await eventually("its turn") { other.isRegistered }
                    }
                }
            }
        }

        @Test func sourcesAreFollowedAndABadOneKeepsItsLastGoodContent() async throws {
            let app = try await TestApp()
            let flink = try AgentID("flink")
            try await app.with { client in
                try await app.initialise(client)
                let sources = SourceDirectory(store: client, paths: app.paths, logger: app.logger)
                try await running([{ try await sources.run() }]) {
                    func document(_ rate: Double) -> SourceDocument {
                        SourceDocument(candidates: [.init(key: "k", readsPerSecond: rate, expiresAt: start)])
                    }
                    func write(_ document: SourceDocument) throws -> [UInt8] {
                        try RegistryCodec.encode(document, source: "")
                    }
                    try await client.create(app.paths.source(flink), try write(document(1)))
                    try await eventually("it appears") { sources.current == [flink: document(1)] }
                    for rate in 2...5 {
                        try await client.set(app.paths.source(flink), try write(document(Double(rate))), version: nil)
                        try await eventually("change \(rate)") { sources.current == [flink: document(Double(rate))] }
                    }
                    try await client.set(app.paths.source(flink), Array("{".utf8), version: nil)
                    try await eventually("the refusal") { app.lines.all.contains { $0.contains("was refused") } }
                    #expect(sources.current == [flink: document(5)])
                    try await client.delete(app.paths.source(flink), version: nil)
                    try await eventually("it is gone") { sources.current.isEmpty }
                }
            }
        }
    }
}
