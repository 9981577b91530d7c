import HotKeyRegistry
import HotKeyTestSupport
import Testing
import ZooKeeper

extension WithServers {
    /// Servers whose disk is full, that take smaller requests than others, that hang, that were set back.
    @Suite(.timeLimit(.minutes(5))) struct ServerFaultTests {
        @Test func aFullDiskLosesNothingThatWasAcknowledged() async throws {
            let server = try await ZooKeeperServer.start()
            try await server.use { server in
                let app = try await TestApp(address: server.address)
                try await app.with(session: 4_000, operation: 2_000) { client in
                    try await app.initialise(client)
                    try await app.with(session: 4_000) { one in
                        try await app.with(session: 4_000) { two in
                            let agents = [TestAgent(app, one, id: "one"), TestAgent(app, two, id: "two")]
                            for agent in agents { agent.heat([record("a")]) }
                            try await running(agents.map { agent in { try await agent.run() } }) {
                                try await fillTheDisk(server, app, client, agents)
                            }
                        }
                    }
                }
            }
        }

        private func fillTheDisk(
            _ server: ZooKeeperServer, _ app: TestApp, _ client: ZooKeeperClient, _ agents: [TestAgent]
        ) async throws {
            for agent in agents { try await follow(agent.subscriber, "the hot set") { $0.hot.count == 1 } }
            let ann = try app.makeOperator(client)
            // The server's log has less than this by now; some of the next pins still fit.
            try await server.fillDisk(fileBytesMax: 96 << 10)
            var acknowledged: [KeyName] = []
            var failure: RegistryError?
            while failure == nil {
                let key = KeyName("pin-\(acknowledged.count)")
                do {
                    _ = try await ann.pin(key, reason: String(repeating: "r", count: 500))
                    acknowledged.append(key)
                } catch let error as RegistryError {
                    failure = error
                }
            }
            print("full disk: \(acknowledged.count) pins, then: \(failure.map { "\($0)" } ?? "")")
            #expect(acknowledged.count > 2 && server.log.contains("File too large"))
            #expect(
                failure.map { [.unknownOutcome, .store].contains($0.code) } == true && failure?.path == app.paths.pins)
            #expect(failure?.description.contains("no connection to \(server.address)") == true)
            try await eventually("the server has given up") { !server.isRunning }
            for agent in agents {
                try await follow(agent.subscriber, "stale") { $0.view != .fresh && $0.view != .none }
                #expect(agent.subscriber.current.hot.count == 1, "and serves from what it knows")
            }
            // Room again.
            try await server.start()
            let pins = try await eventually(
                "the connection", value: { try await ann.pins().document.pins.map(\.key) }, until: { _ in true })
            #expect(Array(pins.prefix(acknowledged.count)) == acknowledged, "everything that was acknowledged")
            #expect(pins.count <= acknowledged.count + 1, "and at most the one in doubt")
            _ = try await ann.pin("after")
            for agent in agents { agent.heat([record("a"), record("b")]) }
            for agent in agents {
                try await follow(agent.subscriber, "fresh and equal") {
                    $0.view == .fresh && $0.hot.count == 2 && $0.pins?.pins.map(\.key) == pins + ["after"]
                }
            }
        }

        @Test func aServerThatDropsLargeRequestsIsNamed() async throws {
            var configuration = ZooKeeperServer.Configuration()
            configuration.systemProperties["jute.maxbuffer"] = "20000"
            let server = try await ZooKeeperServer.start(configuration)
            try await server.use { server in
                let app = try await TestApp(address: server.address)
                try await app.with { client in
                    try await app.initialise(client)
                    try await app.with { agentClient in
                        try await app.with { readerClient in
                            let agent = TestAgent(app, agentClient, id: "one", heat: [record("a")])
                            let reader = RegistrySubscriber(store: readerClient, paths: app.paths, logger: app.logger)
                            try await running([{ try await agent.run() }, { try await reader.run() }]) {
                                try await writeTooMuch(app, client, agent, reader)
                            }
                        }
                    }
                }
            }
        }

        private func writeTooMuch(
            _ app: TestApp, _ client: ZooKeeperClient, _ agent: TestAgent, _ reader: RegistrySubscriber
        ) async throws {
            try await follow(reader, "the hot set") { $0.hot.count == 1 }
            let ann = try app.makeOperator(client)
            let rules = RulesDocument(
                rules: (0..<400).map { Rule(pattern: "shop:product:\($0):*", thresholdPerSecond: 500) })
            let began = ContinuousClock.now
            let refused = await #expect(throws: RegistryError.self) { try await ann.applyRules(rules) }
            print("too large for the server, after \(ContinuousClock.now - began): \(refused.map { "\($0)" } ?? "")")
            #expect(refused?.code == .requestDropped && refused?.path == app.paths.rules)
            #expect(refused?.description.contains("jute.maxbuffer") == true)
            #expect(refused?.description.contains("the request of about 234") == true)
            #expect(try await ann.rules().version == 0, "nothing was written")
            #expect(try await ann.setMode(.observe).changed, "what fits is written")

            // A publication that is too large is told, and goes through in parts that are not.
            let long = String(repeating: "k", count: 1_000)
            let fitting = [record("a")] + (0..<40).map { record(KeyName("\(long)\($0)")) }
            agent.heat(fitting)
            func isTold(_ how: String) -> Bool {
                app.lines.all.contains {
                    $0.hasPrefix("warning") && $0.contains("jute.maxbuffer") && $0.contains(app.paths.hot)
                        && $0.contains(how)
                }
            }
            try await follow(reader, "in smaller transactions") { $0.hot.count == 41 }
            #expect(isTold("smaller transactions"))
            let learned = agent.reigns
            #expect(learned <= 10, "\(learned)")
            // What is learned stays.
            agent.heat(fitting.map { record($0.key, .cooling) })
            try await follow(reader, "all of them changed") { $0.hot.allSatisfy { $0.state == .cooling } }
            #expect(agent.reigns == learned)
            // A single bucket that is too large ends the coordinator's attempts for a while, not in a loop.
            agent.heat(fitting.map { record($0.key, .cooling) } + keysThatOverfillABucket.prefix(30).map { record($0) })
            try await eventually("it gives up") { isTold("standing again") && agent.publisher == nil }
            let reigns = agent.reigns
            print("jute.maxbuffer 20000: \(learned) leaderships until everything was published, \(reigns) in all")
            #expect(reigns <= learned + 6, "\(reigns)")
            // The others are not concerned: news reach them, and nobody tries again and again.
            for round in 1...20 {
                _ = try await ann.pin(KeyName("k\(round)"))
                try await follow(reader, "the pin") { $0.pins?.pins.count == round && $0.view == .fresh }
                try await follow(agent.subscriber, "the pin at the coordinator's") {
                    $0.pins?.pins.count == round && $0.view == .fresh
                }
                try await Task.sleep(for: .milliseconds(100))
            }
            #expect(agent.reigns == reigns && reader.current.hot.count == 41)
        }

        @Test func oneServerOfThreeHangsAndTwoAreKilled() async throws {
            let ensemble = try await ZooKeeperEnsemble.start(servers: 3)
            try await ensemble.use { ensemble in
                let app = try await TestApp(address: ensemble.connectString)
                try await app.with { operatorClient in
                    try await app.initialise(operatorClient)
                    // One client at each server first, so that whichever hangs is somebody's.
                    try await app.with(at: ensemble.servers[0].address, session: 4_000) { one in
                        try await app.with(at: ensemble.connectString, session: 4_000) { two in
                            try await app.with(at: ensemble.connectString, session: 4_000) { three in
                                let agents = [one, two, three].enumerated().map {
                                    TestAgent(app, $1, id: "host-\($0)", heat: [record("a")])
                                }
                                try await running(agents.map { agent in { try await agent.run() } }) {
                                    try await hangAndKill(ensemble, app, agents)
                                }
                            }
                        }
                    }
                }
            }
        }

        private func hangAndKill(_ ensemble: ZooKeeperEnsemble, _ app: TestApp, _ agents: [TestAgent]) async throws {
            func heat(_ keys: [KeyName]) { for agent in agents { agent.heat(keys.map { record($0) }) } }
            func everyone(_ what: String, _ fleet: [TestAgent], _ keys: Int, _ pins: Int) async throws {
                for agent in fleet {
                    try await follow(agent.subscriber, "\(what) at \(agent.id)") {
                        $0.view == .fresh && $0.hot.count == keys && $0.pins?.pins.count == pins
                    }
                }
            }
            try await everyone("the hot set", agents, 1, 0)
            // The server that the first agent is bound to does not answer any more.
            ensemble.servers[0].suspend()
            try await follow(agents[0].subscriber, "stale") { $0.view != .fresh }
            heat(["a", "b"])
            let others = "\(ensemble.servers[1].address),\(ensemble.servers[2].address)"
            let began = ContinuousClock.now
            try await app.with(at: others) { _ = try await app.makeOperator($0).pin("meanwhile") }
            try await everyone("what happened meanwhile", Array(agents.dropFirst()), 2, 1)
            print("one of three stopped: news after \(ContinuousClock.now - began)")
            #expect(agents[0].subscriber.current.hot.count == 1, "its only server does not answer")
            ensemble.servers[0].resume()
            try await everyone("what happened meanwhile", agents, 2, 1)

            await ensemble.servers[1].kill()
            await ensemble.servers[2].kill()
            for agent in agents {
                try await follow(agent.subscriber, "stale") { $0.view != .fresh && $0.hot.count == 2 }
            }
            heat(["a", "b", "c"])
            try await ensemble.start()
            try await app.with { _ = try await app.makeOperator($0).pin("after") }
            try await everyone("everything", agents, 3, 2)
            let positions = Set(agents.map { $0.subscriber.current.position })
            #expect(
                positions.count == 1
                    && agents.allSatisfy { $0.subscriber.current.hot == agents[0].subscriber.current.hot })
        }
    }
}
