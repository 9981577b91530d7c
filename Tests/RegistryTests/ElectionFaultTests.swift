import HotKeyTestSupport
import Testing
import ZooKeeper

@testable import HotKeyRegistry

/// A store that counts what is asked of it, and does something before a create is sent.
private final class ObservedStore: CoordinationStore, Sendable {
    struct Counts: Sendable, Hashable {
        var reads = 0
        var events = 0
    }

    private let base: any CoordinationStore
    private let counts = Broadcast(Counts())
    private let beforeCreate: @Sendable () async throws -> Void

    init(_ base: any CoordinationStore, beforeCreate: @escaping @Sendable () async throws -> Void = {}) {
        self.base = base
        self.beforeCreate = beforeCreate
    }

    var current: Counts { counts.value }
    private func read() { counts.update { $0.reads += 1 } }
    private func counting(_ onEvent: @escaping @Sendable (WatchEvent) -> Void) -> @Sendable (WatchEvent) -> Void {
        { [counts] event in
            counts.update { $0.events += 1 }
            onEvent(event)
        }
    }

    var connectionStates: ConnectionStates { base.connectionStates }
    var lease: SessionLease? { base.lease }
    func get(_ path: String) async throws -> NodeValue {
        read()
        return try await base.get(path)
    }
    func get(_ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void) async throws -> NodeValue {
        read()
        return try await base.get(path, onEvent: counting(onEvent))
    }
    func exists(_ path: String) async throws -> NodeStat? {
        read()
        return try await base.exists(path)
    }
    func exists(_ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void) async throws -> NodeStat? {
        read()
        return try await base.exists(path, onEvent: counting(onEvent))
    }
    func children(_ path: String) async throws -> NodeChildren {
        read()
        return try await base.children(path)
    }
    func children(_ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void) async throws -> NodeChildren {
        read()
        return try await base.children(path, onEvent: counting(onEvent))
    }
    func set(_ path: String, _ data: [UInt8], version: Int32?) async throws -> NodeStat {
        try await base.set(path, data, version: version)
    }
    func create(_ path: String, _ data: [UInt8], mode: CreateMode, acl: [AccessControl]) async throws -> String {
        try await beforeCreate()
        return try await base.create(path, data, mode: mode, acl: acl)
    }
    func delete(_ path: String, version: Int32?) async throws { try await base.delete(path, version: version) }
    func multi(_ operations: [StoreOperation]) async throws -> [StoreOperationResult] {
        try await base.multi(operations)
    }
    func sync(_ path: String) async throws { try await base.sync(path) }
    func accessControl(_ path: String) async throws -> (acl: [AccessControl], stat: NodeStat) {
        try await base.accessControl(path)
    }
    func setAccessControl(_ path: String, _ acl: [AccessControl], aclVersion: Int32?) async throws {
        try await base.setAccessControl(path, acl, aclVersion: aclVersion)
    }
}

/// True the first time it is asked.
private final class Once: Sendable {
    private let wasAsked = Broadcast(false)
    func isNow() -> Bool {
        wasAsked.update { wasAsked in
            defer { wasAsked = true }
            return !wasAsked
        }
    }
}

/// When the bodies of candidates began and were cancelled, by the clock that all of a process share.
private final class Reigns: Sendable {
    struct Reign: Sendable {
        var name: String
        var began: ContinuousClock.Instant
        var cancelled: ContinuousClock.Instant?
        /// Whether the lease still held when the body was cancelled.
        var wasSafe: Bool?
    }
    private let reigns = Broadcast<[Reign]>([])

    var all: [Reign] { reigns.value }
    func count(_ name: String) -> Int { all.count { $0.name == name } }
    func ended(_ name: String) -> Int { all.count { $0.name == name && $0.cancelled != nil } }

    /// Leads until cancelled.
    func lead(_ name: String, _ store: any CoordinationStore) async throws {
        let index = reigns.update { reigns in
            reigns.append(Reign(name: name, began: .now))
            return reigns.count - 1
        }
        try await withTaskCancellationHandler {
            try await Task.sleep(for: .seconds(600))
        } onCancel: {
            let isSafe = store.lease?.isSafe()
            reigns.update { reigns in
                reigns[index].cancelled = .now
                reigns[index].wasSafe = isSafe
            }
        }
    }

    /// No body began before the one before it was cancelled.
    func expectNoOverlap() {
        let all = all.sorted { $0.began < $1.began }
        for (earlier, later) in zip(all, all.dropFirst()) {
            let cancelled = earlier.cancelled
            #expect(
                cancelled.map { $0 < later.began } == true,
                "\(later.name) began \(later.began), \(earlier.name) was cancelled \(String(describing: cancelled))")
        }
    }
}

@Suite struct LeaderLeaseTests {
    private let now = ContinuousClock.now
    private func lease(_ session: Int64, provenBefore milliseconds: Int64?) -> SessionLease {
        SessionLease(
            sessionID: session, timeoutMilliseconds: 12_000, lastContact: now,
            lastProof: milliseconds.map { now - .milliseconds($0) })
    }

    @Test func aLeaderStopsBeforeTheLeaseEnds() {
        #expect(LeaderLease.stopsAt(lease(1, provenBefore: 0), sessionID: 1) == now + .seconds(7))
        #expect(LeaderLease.allowsLeading(lease(1, provenBefore: 6_999), sessionID: 1, at: now))
        #expect(!LeaderLease.allowsLeading(lease(1, provenBefore: 7_000), sessionID: 1, at: now))
        #expect(lease(1, provenBefore: 7_000).isSafe(at: now), "there is time left to stop in")
        #expect(!LeaderLease.allowsLeading(lease(2, provenBefore: 0), sessionID: 1, at: now), "another session's")
        #expect(!LeaderLease.allowsLeading(lease(1, provenBefore: nil), sessionID: 1, at: now))
        #expect(!LeaderLease.allowsLeading(nil, sessionID: 1, at: now))
    }

    @Test func proofsAreAskedForSixTimesATimeout() {
        let long = now - .seconds(60)
        #expect(LeaderLease.provesAt(lease(1, provenBefore: 500), lastAttempt: long) == now + .milliseconds(1_500))
        // One that failed is repeated, after a pause.
        #expect(LeaderLease.provesAt(lease(1, provenBefore: 5_000), lastAttempt: now) == now + .milliseconds(500))
        #expect(LeaderLease.provesAt(nil, lastAttempt: now) > now)
    }
}

@Suite struct CandidacyTests {
    private func own(_ sequence: Int) -> String { "candidate-mine-000000000\(sequence)" }
    private let now = ContinuousClock.now
    private var lease: SessionLease {
        SessionLease(sessionID: 7, timeoutMilliseconds: 12_000, lastContact: now, lastProof: now)
    }

    @Test func theWayToTheFront() {
        var candidacy = Candidacy(guid: "mine", sessionID: 7)
        #expect(candidacy.listed([]) == .create(prefix: "candidate-mine-"))
        let other = "candidate-other-0000000001"
        #expect(candidacy.listed([own(2), other]) == .watch(other))
        #expect(candidacy.watched(NodeStat(ephemeralOwner: 1)) == .wait)
        #expect(candidacy.watched(nil) == .list, "it has gone in between")
        #expect(candidacy.listed([own(2)]) == .watch(own(2)))
        #expect(candidacy.watched(NodeStat(createdTransaction: 5, ephemeralOwner: 7)) == .prove)
        #expect(candidacy.proved(nil, at: now, hasNews: false) == .prove)
        #expect(candidacy.proved(lease, at: now, hasNews: true) == .list)
        #expect(candidacy.proved(lease, at: now, hasNews: false) == .lead(name: own(2), createdTransaction: 5))
    }

    @Test func aNodeOfAnEarlierSessionIsRemoved() {
        var candidacy = Candidacy(guid: "mine", sessionID: 7)
        #expect(candidacy.listed([own(1), own(2)]) == .watch(own(1)))
        #expect(candidacy.watched(NodeStat(ephemeralOwner: 6)) == .remove(own(1)))
    }
}

extension WithServers {
    @Suite(.timeLimit(.minutes(3))) struct ElectionFaults {
        private func election(_ store: any CoordinationStore, _ app: TestApp, _ id: String) throws -> LeaderElection {
            LeaderElection(store: store, paths: app.paths, id: try AgentID(id), logger: app.logger)
        }

        @Test(arguments: [nil, FaultProxy.Direction.clientToServer, .serverToClient])
        func aLeaderWhoseConnectionHangsStopsBeforeAnotherBegins(_ direction: FaultProxy.Direction?) async throws {
            let app = try await TestApp()
            let proxy = try await FaultProxy.start(to: try await SharedServer.shared.server())
            let reigns = Reigns()
            try await app.with { second in
                try await app.initialise(second)
                try await app.with(at: proxy.address, session: 3_000) { first in
                    let one = try election(first, app, "one")
                    let two = try election(second, app, "two")
                    try await running([
                        { try await one.run { _ in try await reigns.lead("one", first) } },
                        {
                            try await eventually("one leads") { reigns.count("one") == 1 }
                            try await two.run { _ in try await reigns.lead("two", second) }
                        },
                    ]) {
                        try await eventually("two stands") {
                            try await app.makeOperator(second).candidates().count == 2
                        }
                        if let direction { try await proxy.stop(direction) } else { try await proxy.hang() }
                        try await eventually("two leads") { reigns.count("two") == 1 }
                        #expect(one.leadership == nil)
                        #expect(reigns.all.first?.wasSafe == true, "cancelled while nobody else could lead")
                        reigns.expectNoOverlap()
                        try await proxy.heal()
                        try await eventually("one stands again") {
                            try await app.makeOperator(second).candidates().map(\.agent) == ["two", "one"]
                        }
                        #expect(reigns.count("one") == 1)
                    }
                }
            }
            await proxy.stop()
        }

        /// Only a connection that breaks during a request says anything about its size.
        @Test func whatWasNeverSentIsNotTakenForTooLarge() async throws {
            let app = try await TestApp()
            try await app.with { client in
                try await app.initialise(client)
                try await app.lead(client) { leadership in
                    let memory = PublisherMemory()
                    func publish(failing error: any Error) async throws {
                        let calls = Guarded(0)
                        // As a step-down does, the second time.
                        let store = FaultingStore(store: client) {
                            .instead(
                                calls.with {
                                    $0 += 1; return $0 == 1
                                } ? error : CancellationError())
                        }
                        let publisher = try await HotSetPublisher.open(
                            store: store, paths: app.paths, leadership: leadership, coordinator: leadership.agent,
                            memory: memory, logger: app.logger)
                        let long = String(repeating: "k", count: 1_000)
                        await publisher.submit((0..<5).map { .set(record(KeyName("\(long)\($0)"))) })
                        await #expect(throws: CancellationError.self) { try await publisher.flush() }
                        #expect(calls.with { $0 } == 2)
                    }
                    for _ in 1...4 {
                        try await publish(failing: StoreError(.deadlineExceeded))
                        #expect(memory.dropped() == nil && memory.multiBytesMax == RegistryLimits.multiBytesMax)
                    }
                    for _ in 1...3 { try await publish(failing: largeRequestCutOff) }
                    #expect(memory.dropped()?.isSplit == true)
                }
            }
        }

        /// Its server answers reads for a while, and the ensemble hears nothing of it.
        @Test func aLeaderBehindAFollowerWithoutItsLeaderStops() async throws {
            let ensemble = try await ZooKeeperEnsemble.start(servers: 3)
            try await ensemble.use { ensemble in
                let leader = try await ensemble.leader()
                let followers = try await ensemble.followers()
                let app = try await TestApp(address: followers[0].address)
                let reigns = Reigns()
                try await app.with(session: 3_000, operation: 30_000) { first in
                    try await app.initialise(first)
                    let one = try election(first, app, "one")
                    try await running([{ try await one.run { _ in try await reigns.lead("one", first) } }]) {
                        try await eventually("one leads") { reigns.count("one") == 1 }
                        leader.suspend()
                        try await eventually("one has stopped") { reigns.ended("one") == 1 }
                        #expect(reigns.all.first?.wasSafe == true)
                        #expect(one.leadership == nil)
                        leader.resume()
                        try await eventually("one leads again") { reigns.count("one") == 2 }
                    }
                }
            }
        }

        @Test func aLeadersEndWakesOneCandidateOfTwenty() async throws {
            let app = try await TestApp()
            let count = 20
            var clients: [ZooKeeperClient] = []
            for _ in 0..<count {
                let configuration = try ZooKeeperConfiguration(
                    servers: [app.address], sessionTimeoutMilliseconds: 30_000, operationTimeoutMilliseconds: 30_000)
                let client = ZooKeeperClient(configuration: configuration, logger: app.logger)
                client.start()
                try await client.waitUntilConnected(timeoutMilliseconds: 30_000)
                clients.append(client)
            }
            try await app.initialise(clients[0])
            let reigns = Reigns()
            let stores = clients.map { ObservedStore($0) }
            var tasks: [Task<Void, any Error>] = []
            for (index, store) in stores.enumerated() {
                let election = try election(store, app, "host-\(index)")
                tasks.append(Task { try await election.run { _ in try await reigns.lead("host-\(index)", store) } })
                let observer = clients[0]
                try await eventually("candidate \(index) stands") {
                    try await observer.children(app.paths.leader).names.count == index + 1
                }
                // The list, the roles, the list again, and the predecessor with a watch.
                if index > 0 { try await eventually("it waits") { store.current.reads == 4 } }
            }
            try await eventually("the first leads") { reigns.count("host-0") == 1 }
            let before = stores.map(\.current)
            tasks[0].cancel()
            try await tasks[0].value
            try await eventually("the second leads") { reigns.count("host-1") == 1 }
            try await eventually("it watches its own node again") { stores[1].current.reads == before[1].reads + 3 }
            // The list, its own node before it leads and while it leads.
            #expect(stores[1].current.events == before[1].events + 1)
            #expect(stores[2...].map(\.current) == Array(before[2...]), "nobody else heard or read anything")
            for task in tasks.dropFirst().reversed() {
                task.cancel()
                try await task.value
            }
            for client in clients { await client.close() }
        }

        @Test func aCreateWhoseReplyIsLostLeavesOneNode() async throws {
            let app = try await TestApp()
            let proxy = try await FaultProxy.start(to: try await SharedServer.shared.server())
            let reigns = Reigns()
            let once = Once()
            try await app.with { observer in
                try await app.initialise(observer)
                try await app.with(at: proxy.address, session: 20_000, operation: 20_000) { client in
                    let store = ObservedStore(client) {
                        if once.isNow() { try await proxy.stop(.serverToClient) }
                    }
                    let one = try election(store, app, "one")
                    try await running([{ try await one.run { _ in try await reigns.lead("one", client) } }]) {
                        let made = try await eventually(
                            "the node is made", value: { try await observer.children(app.paths.leader).names },
                            until: { $0.count == 1 })
                        #expect(one.leadership == nil)
                        try await proxy.resetConnections()
                        try await proxy.heal()
                        try await eventually("one leads") { reigns.count("one") == 1 }
                        #expect(try await observer.children(app.paths.leader).names == made)
                        #expect(one.leadership?.path == app.paths.candidate(made[0]))
                    }
                }
            }
            await proxy.stop()
        }

        /// A create that waits for a connection is carried out in the session that comes next.
        @Test func aCreateThatOutlivesItsSessionDoesNotStandInTheWay() async throws {
            let ensemble = InMemoryEnsemble()
            let app = try await TestApp(address: "nowhere:1")
            let (observer, store) = (try InMemoryStore(ensemble: ensemble), try InMemoryStore(ensemble: ensemble))
            try await app.initialise(observer)
            let reigns = Reigns()
            let once = Once()
            let one = try election(ObservedStore(store) { if once.isNow() { store.suspend() } }, app, "one")
            try await running([{ try await one.run { _ in try await reigns.lead("one", store) } }]) {
                try await eventually("the create waits") { store.connectionState == .suspended }
                store.expire()
                try await eventually("one leads") { reigns.count("one") == 1 }
                #expect(try await observer.children(app.paths.leader).names.count == 1)
                #expect(one.leadership?.sessionID == store.sessionID)
            }
            await store.close()
            await observer.close()
        }

        @Test func aPredecessorThatIsDeletedAndMadeAgain() async throws {
            let app = try await TestApp()
            let reigns = Reigns()
            try await app.with { observer in
                try await app.initialise(observer)
                try await app.with { first in
                    try await app.with { second in
                        let one = try election(first, app, "one")
                        let two = try election(second, app, "two")
                        try await running([
                            { try await one.run { _ in try await reigns.lead("one", first) } },
                            {
                                try await eventually("one leads") { reigns.count("one") == 1 }
                                try await two.run { _ in try await reigns.lead("two", second) }
                            },
                        ]) {
                            try await eventually("two stands") {
                                try await observer.children(app.paths.leader).names.count == 2
                            }
                            // In one transaction, so that nobody sees the gap but by the watch.
                            let node = try #require(one.leadership).path
                            let value = try await observer.get(node)
                            try await observer.multi([
                                .delete(node, version: nil),
                                .create(node, data: value.data, mode: .persistent, acl: AccessControl.openUnsafe),
                            ])
                            // The one whose name it bears takes it away; then whoever is first leads.
                            try await eventually("one has stopped") { reigns.ended("one") == 1 }
                            try await eventually("two leads") { reigns.count("two") == 1 }
                            #expect(try await observer.exists(node) == nil)
                            try await eventually("one stands behind") {
                                try await app.makeOperator(observer).candidates().map(\.agent) == ["two", "one"]
                            }
                            reigns.expectNoOverlap()
                        }
                    }
                }
            }
        }

        @Test func theRegistryIsRemovedAndMadeAnewUnderCandidates() async throws {
            let app = try await TestApp()
            let reigns = Reigns()
            try await app.with { observer in
                try await app.initialise(observer)
                try await app.with { first in
                    try await app.with { second in
                        let elections = [try election(first, app, "one"), try election(second, app, "two")]
                        try await running([
                            { try await elections[0].run { _ in try await reigns.lead("one", first) } },
                            { try await elections[1].run { _ in try await reigns.lead("two", second) } },
                        ]) {
                            try await eventually("both stand, one leads") {
                                try await observer.children(app.paths.leader).names.count == 2
                                    && elections.count { $0.leadership != nil } == 1
                            }
                            let before = elections.compactMap(\.leadership)[0].createdTransaction
                            try await removeAll(app.paths.appNode, observer)
                            try await eventually("nobody leads") { elections.allSatisfy { $0.leadership == nil } }
                            try await app.initialise(observer)
                            try await eventually("both stand, one leads") {
                                try await observer.children(app.paths.leader).names.count == 2
                                    && elections.count { $0.leadership != nil } == 1
                            }
                            #expect(elections.compactMap(\.leadership)[0].createdTransaction > before)
                        }
                    }
                }
            }
        }

        /// Candidates may stand up again while it goes on.
        private func removeAll(_ path: String, _ store: ZooKeeperClient) async throws {
            while true {
                do {
                    for name in try await store.children(path).names { try await removeAll("\(path)/\(name)", store) }
                    return try await store.delete(path, version: nil)
                } catch let error as StoreError where error.code == .notEmpty {
                } catch let error as StoreError where error.code == .noNode {
                    return
                }
            }
        }
    }
}
