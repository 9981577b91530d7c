@testable import HotKeyTestSupport
import Testing

@testable import ZooKeeper

@Suite struct ZnodeTreeTests {
    @Test func sha1IsSHA1() {
        let hex = { (text: String) in
            SHA1.digest(Array(text.utf8)).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        }
        #expect(hex("") == "da39a3ee5e6b4b0d3255bfef95601890afd80709")
        #expect(hex("abc") == "a9993e364706816aba3e25717850c26c9cd0d89d")
        #expect(
            hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")
                == "84983e441c3bd26ebaae4aa1f95129e5e54670f1")
        #expect(hex(String(repeating: "a", count: 1_000)) == "291e9a6c66994949b57ba5e650361e98fc36b1ba")
    }

    /// As `org.apache.zookeeper.server.auth.DigestAuthenticationProvider` prints it for super:test.
    @Test func theDigestIdentityIsZooKeepers() {
        #expect(AccessControl.digestIdentity(user: "super", password: "test") == "super:D/InIHSb7yEEbrWz8b9l71RjZJU=")
    }

    @Test func containersGoWhenTheirLastChildHasGone() {
        var tree = ZnodeTree()
        func apply(_ operation: ZnodeTree.Operation) -> ZnodeTree.Applied {
            tree.apply(ZnodeTree.Write(sessionID: 1, timeMilliseconds: 5, operation: operation))
        }
        _ = apply(.openSession)
        _ = apply(.one(.create("/c", data: [], mode: .container, acl: AccessControl.openUnsafe)))
        #expect(apply(.reapContainers).changes.isEmpty, "it never had a child")
        _ = apply(.one(.create("/c/x", data: [], mode: .ephemeral, acl: AccessControl.openUnsafe)))
        #expect(apply(.reapContainers).changes.isEmpty)
        #expect(apply(.closeSession).changes.map(\.path) == ["/c/x", "/c"])
        let reaped = apply(.reapContainers).changes.first
        #expect(reaped?.path == "/c" && reaped?.event == .deleted)
        #expect(tree.exists("/c") == nil)
        let late = apply(.one(.set("/", data: [], version: nil)))
        guard case .failure(let error) = late.outcome else {
            Issue.record("a session that was closed wrote")
            return
        }
        #expect(error.code == .sessionExpired && error.rawCode == -112)
        #expect(late.transaction == tree.lastTransaction && late.transaction == 8)
    }
}

@Suite struct InMemoryStoreTests {
    @Test func callsWaitWhileSuspendedAndEventsToo() async throws {
        let ensemble = InMemoryEnsemble()
        let store = try InMemoryStore(ensemble: ensemble)
        let other = try InMemoryStore(ensemble: ensemble)
        let events = Recorder<WatchEvent>()
        _ = try await store.get("/") { events.record($0) }
        store.suspend()
        #expect(store.connectionState == .suspended)
        let reading = Task { try await store.get("/").data }
        try await other.set("/", [1], version: nil)
        try await other.flushEvents()
        #expect(events.all.isEmpty)
        store.resume()
        #expect(try await reading.value == [1])
        #expect(events.all == [.changed])
        await store.close()
        await other.close()
    }

    @Test func theDeadlineOfAWaitingCallPasses() async throws {
        let store = try InMemoryStore(operationTimeoutMilliseconds: 20, maxInFlight: 1)
        store.suspend()
        let first = Task { try await store.set("/", [], version: nil) }
        let error = await storeError { try await first.value }
        #expect(error?.code == .deadlineExceeded)
        store.resume()
        #expect(try await store.get("/").stat.version == 0, "it was not done later either")
        await store.close()
    }

    @Test func anExpiryTakesEphemeralsAndWatchesAndGivesANewSession() async throws {
        let store = try InMemoryStore()
        let before = store.sessionID
        let events = Recorder<WatchEvent>()
        try await store.create("/e", mode: .ephemeral)
        _ = try await store.get("/e") { events.record($0) }
        _ = try await store.exists("/later") { events.record($0) }
        let states = Recorder<ConnectionState>()
        let listening = Task { for await state in store.connectionStates { states.record(state) } }
        try await states.eventually("the first") { $0 == [.connected(sessionID: before)] }
        store.suspend()
        try await states.eventually("the second") { $0.last == .suspended }
        store.expire()
        #expect(store.sessionID != before)
        #expect(try await store.exists("/e") == nil)
        #expect(events.all == [.sessionLost, .sessionLost])
        try await states.eventually("the new session") { $0.last == .connected(sessionID: store.sessionID) }
        #expect(store.ensemble.watchCount == 0)
        await store.close()
        await listening.value
        #expect(states.all.last == .lost)
    }

    @Test func aWriteMayHappenOrNotWhenItsReplyIsLost() async throws {
        let store = try InMemoryStore()
        store.failNextWrite(.requestIsLost)
        await expectError(.connectionLoss) { try await store.create("/a") }
        #expect(try await store.exists("/a") == nil)
        store.failNextWrite(.replyIsLost)
        await expectError(.connectionLoss) { try await store.create("/a") }
        #expect(try await store.exists("/a") != nil)
        store.failNextWrite(.replyIsLost)
        let path = try await store.createProtected("/s-", mode: .ephemeralSequential)
        #expect(try await store.children("/").names.filter { "/\($0)" == path }.count == 1)
        #expect(try await store.children("/").names.filter { $0.hasPrefix("_c_") }.count == 1)
        await store.close()
    }

    /// The wrapper of sequences works on it as on the real one.
    @Test func snapshotsGoOnAfterAnExpiry() async throws {
        let store = try InMemoryStore()
        let seen = Recorder<[UInt8]?>()
        let reader = Task {
            for try await snapshot in store.values(of: "/n") {
                if case .present(let value) = snapshot { seen.record(value.data) } else { seen.record(nil) }
            }
        }
        try await seen.eventually("missing") { $0 == [nil] }
        try await store.create("/n", [1])
        try await seen.eventually("there") { $0.last == [1] }
        store.expire()
        try await store.set("/n", [2], version: nil)
        try await seen.eventually("changed") { $0.last == [2] }
        await store.close()
        try await reader.value
    }

    /// Cheap enough to stand in an agent: printed, and bounded from far above.
    @Test func manyTasksAtOnceLoseNothing() async throws {
        let ensemble = InMemoryEnsemble()
        let stores = try (0..<4).map { _ in try InMemoryStore(ensemble: ensemble) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<16 {
                group.addTask {
                    for _ in 0..<50 {
                        let store = stores[task % 4]
                        while true {
                            let value = try await store.get("/")
                            do {
                                try await store.set("/", [], version: value.stat.version)
                                break
                            } catch let error as StoreError where error.code == .badVersion {}
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(try await stores[0].get("/").stat.version == 800)
        for store in stores { await store.close() }
        #expect(ensemble.tree.sessions.isEmpty)
    }
}

/// Clients that write, read and watch at random, and what ZooKeeper promises them.
private struct Workload {
    var ensemble: SimulatedEnsemble
    var generator: SeededGenerator
    var trace: [SimulatedEnsemble.Delivery] = []
    var violations: [String] = []
    private var open: [SimulatedEnsemble.CallID: SimulatedEnsemble.Request] = [:]
    /// The watches that each client has on each path, and the version it had then.
    private var watching: [SimulatedEnsemble.CallID: (client: Int, path: String, transaction: Int64)] = [:]
    private var newest: [Int: [String: Int64]] = [:]
    private(set) var replies = 0
    private(set) var events = 0

    init(seed: UInt64, clients: Int) {
        ensemble = SimulatedEnsemble(seed: seed)
        generator = SeededGenerator(seed: seed ^ 0xa5a5)
        for _ in 0..<clients { _ = ensemble.addClient() }
    }

    private static let paths = ["/a", "/b", "/c"]

    mutating func callSomething() {
        let client = Int.random(in: 0..<3, using: &generator)
        let path = Self.paths.randomElement(using: &generator)!
        let request: SimulatedEnsemble.Request
        switch Int.random(in: 0..<10, using: &generator) {
        case 0..<3: request = .get(path, watch: true)
        case 3: request = .exists(path, watch: true)
        case 4: request = .children("/", watch: true)
        case 5: request = .sync
        case 6, 7: request = .write(.one(.set(path, data: [1], version: nil)))
        case 8:
            request = .write(
                .one(
                    .create(
                        path, data: [], mode: Bool.random(using: &generator) ? .ephemeral : .persistent,
                        acl: AccessControl.openUnsafe)))
        default: request = .write(.one(.delete(path, version: nil)))
        }
        open[ensemble.call(client, request)] = request
    }

    mutating func hear(_ delivery: SimulatedEnsemble.Delivery) {
        trace.append(delivery)
        switch delivery {
        // What is promised is promised to a session. The next one may be cut off before it has heard anything, and then come to a server
        // that lags: nothing tells that server what the one before had seen.
        case .connection(let client, .lost): newest[client] = nil
        case .connection: break
        case .watch(_, let call, _):
            events += 1
            if watching.removeValue(forKey: call) == nil { violations.append("\(call): an event without a watch") }
        case .reply(let client, let call, let result):
            replies += 1
            guard let request = open.removeValue(forKey: call) else {
                violations.append("\(call): a second reply")
                return
            }
            check(client, call, request, result)
        }
    }

    private mutating func check(
        _ client: Int, _ call: UInt64, _ request: SimulatedEnsemble.Request,
        _ result: Result<SimulatedEnsemble.Reply, StoreError>
    ) {
        guard case .get(let path, _) = request, case .success(.value(let value)) = result else {
            if case .success(let reply) = result {
                switch (request, reply) {
                case (.exists(let path, _), _): watching[call] = (client, path, .max)
                case (.children(let path, _), _): watching[call] = (client, path, .max)
                default: break
                }
            }
            return
        }
        let transaction = value.stat.modifiedTransaction
        if transaction < newest[client, default: [:]][path] ?? 0 { violations.append("\(path) went backward") }
        newest[client, default: [:]][path] = transaction
        for (watch, seen) in watching
        where seen.client == client && seen.path == path && seen.transaction < transaction {
            violations.append("client \(client) sees \(transaction) of \(path) before the event of watch \(watch)")
        }
        watching[call] = (client, path, transaction)
    }

    var unanswered: Int { open.count }
}

@Suite struct SimulatedEnsembleTests {
    private func run(_ seed: UInt64, faults: SimulatedEnsemble.FaultRates) -> Workload {
        var work = Workload(seed: seed, clients: 3)
        for _ in 0..<400 {
            if Int.random(in: 0..<3, using: &work.generator) == 0 { work.callSomething() }
            for delivery in work.ensemble.step(faults: faults) ?? [] { work.hear(delivery) }
        }
        var heard: [SimulatedEnsemble.Delivery] = []
        work.ensemble.settle { _, delivery in heard.append(delivery) }
        for delivery in heard { work.hear(delivery) }
        return work
    }

    @Test func whatZooKeeperPromisesHoldsInEverySchedule() {
        var seeds = SeededGenerator(printing: "simulation")
        var replies = 0
        var events = 0
        for _ in 0..<500 {
            let seed = seeds.next()
            let work = run(seed, faults: .init(cut: 0.02, expire: 0.005, abandon: 0.005))
            #expect(work.violations.isEmpty, "seed \(seed): \(work.violations.prefix(3))")
            #expect(work.unanswered == 0, "seed \(seed): every call is answered once")
            #expect(work.ensemble.servers.allSatisfy { $0.replica.tree.paths == work.ensemble.committed.paths })
            for client in 0..<3 {
                #expect(work.ensemble.lag(of: client) == 0)
                let session = work.ensemble.sessionID(of: client)
                #expect(session.map { work.ensemble.committed.sessions.contains($0) } == true)
            }
            #expect(work.ensemble.committed.sessions.count == 3, "seed \(seed): no session is left behind")
            replies += work.replies
            events += work.events
            if !work.violations.isEmpty { return }
        }
        print("simulation: 500 schedules, \(replies) replies, \(events) events")
        #expect(replies > 10_000 && events > 1_000)
    }

    @Test func aSeedReproduces() {
        let faults = SimulatedEnsemble.FaultRates(cut: 0.02, expire: 0.01, abandon: 0.01)
        for seed in 1...UInt64(10) {
            #expect(run(seed, faults: faults).trace == run(seed, faults: faults).trace)
        }
        #expect(run(1, faults: faults).trace != run(2, faults: faults).trace)
    }

    @Test func aFollowerLagsUntilSync() {
        var ensemble = SimulatedEnsemble(servers: 2, seed: 1)
        let writer = ensemble.addClient()
        let reader = ensemble.addClient()
        _ = ensemble.connect(writer, to: 0)
        _ = ensemble.connect(reader, to: 1)
        let write = ensemble.call(writer, .write(.one(.set("/", data: [7], version: nil))))
        let read = ensemble.call(reader, .get("/", watch: false))
        var replies: [SimulatedEnsemble.CallID: Result<SimulatedEnsemble.Reply, StoreError>] = [:]
        ensemble.pausedServers = [1]
        while let deliveries = ensemble.step() {
            for case .reply(_, let call, let result) in deliveries { replies[call] = result }
        }
        #expect(replies[write] != nil)
        #expect(ensemble.lag(of: reader) == 1)
        guard case .success(.value(let old))? = replies[read] else {
            Issue.record("no value")
            return
        }
        #expect(old.data == [])
        let sync = ensemble.call(reader, .sync)
        let again = ensemble.call(reader, .get("/", watch: false))
        ensemble.settle { _, delivery in
            if case .reply(_, let call, let result) = delivery { replies[call] = result }
        }
        guard case .success(.synced)? = replies[sync], case .success(.value(let new))? = replies[again] else {
            Issue.record("no value after sync")
            return
        }
        #expect(new.data == [7])
    }

    @Test func aServerThatIsBehindRefusesAClientThatHasSeenMore() {
        var ensemble = SimulatedEnsemble(servers: 2, seed: 1)
        let client = ensemble.addClient()
        _ = ensemble.connect(client, to: 0)
        ensemble.pausedServers = [1]
        let write = ensemble.call(client, .write(.one(.set("/", data: [7], version: nil))))
        var isDone = false
        while !isDone {
            for case .reply(_, write, _) in ensemble.step() ?? [] { isDone = true }
        }
        #expect(ensemble.servers[1].replica.tree.lastTransaction < ensemble.servers[0].replica.tree.lastTransaction)
        _ = ensemble.cut(client)
        ensemble.pausedServers = []
        #expect(ensemble.connect(client, to: 1).isEmpty)
        #expect(!ensemble.isConnected(client))
        #expect(ensemble.connect(client, to: 0) == [.connection(client, .connected(sessionID: 1))])
    }
}
