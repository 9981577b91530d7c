import HotKeyTestSupport

@testable import HotKeyRegistry
@testable import ZooKeeper

/// One schedule: an ensemble of three servers, agents, operators and random heat, in an order that the seed decides, and what
/// must hold in every one of them.
final class SimulatedRegistry {
    struct Figures {
        var steps = 0
        var publications = 0
        var publicationsRefused = 0
        var fencedOff = 0
        var leaderships = 0
        var backwardRefused = 0
        var edits = 0
        var restarts = 0
        var damages = 0
        /// Of one agent after a connection, no watch having fired in between.
        var readsUntilFreshMax = 0
        /// The same where buckets are damaged, which may turn up in the middle of reading.
        var readsUntilFreshDamagedMax = 0
        /// Of one agent that is cut off and comes back when nothing has changed.
        var readsAfterReconnectMax = 0

        mutating func add(_ other: Figures) {
            steps += other.steps
            publications += other.publications
            publicationsRefused += other.publicationsRefused
            fencedOff += other.fencedOff
            leaderships += other.leaderships
            backwardRefused += other.backwardRefused
            edits += other.edits
            restarts += other.restarts
            damages += other.damages
            readsUntilFreshMax = max(readsUntilFreshMax, other.readsUntilFreshMax)
            readsUntilFreshDamagedMax = max(readsUntilFreshDamagedMax, other.readsUntilFreshDamagedMax)
            readsAfterReconnectMax = max(readsAfterReconnectMax, other.readsAfterReconnectMax)
        }
    }

    static let stepCount = 700
    static let faults = SimulatedEnsemble.FaultRates(cut: 0.012, expire: 0.004, abandon: 0.004)
    static let stepsToRestMax = 20_000

    let seed: UInt64
    let paths: RegistryPaths
    let bounds: PublishPlanner.Bounds
    var ensemble: SimulatedEnsemble
    private(set) var generator: SeededGenerator
    private(set) var heat: [KeyName: HotRecord] = [:]
    private(set) var violations: [String] = []
    /// What happened, for two runs to be compared.
    private(set) var trace: [Int] = []
    var figures = Figures()

    private(set) var agents: [SimulatedAgent] = []
    private(set) var operators: [SimulatedOperator] = []
    private var replies: [SimulatedEnsemble.CallID: (Result<SimulatedEnsemble.Reply, StoreError>) -> Void] = [:]
    private var watches: [SimulatedEnsemble.CallID: (WatchEvent) -> Void] = [:]
    private var timers: [() -> Void] = []
    private var checkedCount = 0
    private var newestPublication: HotPosition?
    private var writers: [Int64: String] = [:]
    /// What stood in a node before, the oldest first.
    private var past: [String: [NodeValue]] = [:]
    private var isDisturbed = true
    /// Writes what nobody should, past the coordinator.
    private var vandal = 0
    /// In two of three schedules.
    private let hasVandal: Bool
    /// Buckets that somebody else wrote at some time.
    private(set) var damaged: Set<String> = []

    /// Several to a bucket: the newest change of a bucket does not tell of the others in it.
    static let keys: [KeyName] = {
        let names = (0...).lazy.map { KeyName("key-\($0)") }
        return Array(names.filter { $0.bucket < 3 }.prefix(8))
    }()
    let buckets = Set(SimulatedRegistry.keys.map(\.bucket)).sorted()

    init(seed: UInt64) throws {
        self.seed = seed
        hasVandal = seed % 3 != 0
        paths = try RegistryPaths(app: "shop")
        ensemble = SimulatedEnsemble(servers: 3, seed: seed)
        generator = SeededGenerator(seed: seed ^ 0x5eed)
        // Small enough for a few inline changes, so that gaps are met that they do not cover; and every other time small
        // enough for a publication to take several transactions, so that a coordinator can die between two.
        let isSplit = Bool.random(using: &generator)
        bounds = PublishPlanner.Bounds(
            multiBytesMax: isSplit ? 900 + 150 : RegistryLimits.multiBytesMax, headBytesMax: 900)
        try initialise()
        vandal = ensemble.addClient()
        for index in 0..<Int.random(in: 3...5, using: &generator) {
            agents.append(
                SimulatedAgent(
                    self, id: try AgentID("host-\(index)"),
                    isCandidate: index < 2 || Bool.random(using: &generator)))
        }
        for index in 0..<Int.random(in: 1...2, using: &generator) {
            operators.append(SimulatedOperator(self, name: "operator-\(index)"))
        }
    }

    /// As `hkctl init` does, but without the buckets: one that is missing and not named is empty.
    private func initialise() throws {
        let setup = ensemble.addClient()
        var nodes: [(String, [UInt8])] = [(paths.root, []), (paths.appNode, [])]
        nodes.append((paths.control, try RegistryCodec.encode(ControlDocument(), source: "")))
        nodes.append((paths.rules, try RegistryCodec.encode(RulesDocument(), source: "")))
        nodes.append((paths.pins, try RegistryCodec.encode(PinsDocument(), source: "")))
        nodes.append((paths.topology, try RegistryCodec.encode(TestApp.topology, source: "")))
        nodes.append((paths.hot, try RegistryCodec.encode(HotHead(epoch: 1, publishedAt: start), source: "")))
        nodes.append((paths.leader, []))
        for (path, data) in nodes {
            let create = StoreOperation.create(path, data: data, mode: .persistent, acl: AccessControl.openUnsafe)
            _ = ensemble.call(setup, .write(.one(create)))
        }
        while ensemble.step() != nil {}
        checkedCount = ensemble.committedCount
        // Its session must not be taken for a candidate's; it ends before anything begins.
        ensemble.restart(setup)
        ensemble.endOrphan()
    }

    // MARK: - For the actors

    func noteFresh(reads: Int) {
        let figure: WritableKeyPath<Figures, Int> =
            damaged.isEmpty ? \.readsUntilFreshMax : \.readsUntilFreshDamagedMax
        figures[keyPath: figure] = max(figures[keyPath: figure], reads)
    }

    /// Milliseconds of the schedule's own time; no clock is read.
    private static let base = ContinuousClock.now
    var now: ContinuousClock.Instant { Self.base + .milliseconds(ensemble.nowMilliseconds) }
    var wallClock: Timestamp { start.advanced(byMilliseconds: ensemble.nowMilliseconds) }

    func call(
        _ client: Int, _ request: SimulatedEnsemble.Request, onEvent: ((WatchEvent) -> Void)?,
        _ reply: @escaping (Result<SimulatedEnsemble.Reply, StoreError>) -> Void
    ) {
        let id = ensemble.call(client, request)
        replies[id] = reply
        watches[id] = onEvent
    }

    /// At some moment of the schedule: a pause, a timer, a task that is slow to run.
    func later(_ body: @escaping () -> Void) { timers.append(body) }

    func makeGUID() -> String { String(generator.next(), radix: 16) }
    func random(_ range: Range<Int>) -> Int { Int.random(in: range, using: &generator) }
    func leaderDocument(_ id: AgentID) -> [UInt8] { Array(#"{"agent":"\#(id)","schema":1}"#.utf8) }

    func violation(_ text: String) {
        if violations.count < 10 { violations.append("step \(figures.steps): \(text)") }
    }

    // MARK: - Running

    func run() throws {
        for _ in 0..<Self.stepCount {
            disturb()
            deliver(ensemble.step(faults: Self.faults) ?? [])
            guard violations.isEmpty else { return }
        }
        try rest()
    }

    private func disturb() {
        ensemble.nowMilliseconds += Int64(random(0..<20))
        switch random(0..<1_000) {
        case 0..<40: changeHeat()
        case 40..<60: operators.randomElement(using: &generator)?.act()
        case 60..<75: ensemble.pausedServers = [random(0..<3)]
        case 75..<85: ensemble.pausedServers = []
        case 85..<90:
            figures.restarts += 1
            agents.randomElement(using: &generator)?.restart()
        case 90..<110: agents.randomElement(using: &generator)?.save()
        case 110..<120: agents.randomElement(using: &generator)?.rereadEverything()
        case 120..<400: fireTimer()
        case 400..<403 where hasVandal: damage()
        case 403..<410: for agent in agents { agent.candidate?.publisher?.check() }
        default: break
        }
    }

    /// What a server would say that has lost the end of its disk, older than what the asking agent has applied; most often
    /// nil.
    func outdated(_ path: String, before version: Int32) -> NodeValue? {
        guard isDisturbed, random(0..<20) == 0 else { return nil }
        return past[path]?.filter { $0.stat.version < version }.randomElement(using: &generator)
    }

    /// Rubbish, or a valid bucket that is older than any head names and holds nothing.
    private func damage() {
        guard let bucket = buckets.randomElement(using: &generator) else { return }
        let path = paths.bucket(bucket)
        guard let stat = ensemble.committed.exists(path) else { return }
        figures.damages += 1
        damaged.insert(path)
        let valid = (try? RegistryCodec.encode(HotBucket(), source: path)) ?? []
        let data = random(0..<2) == 0 ? Array("{rubbish".utf8) : valid
        call(vandal, .write(.one(.set(path, data: data, version: stat.version))), onEvent: nil) { _ in }
    }

    private func changeHeat() {
        guard let key = Self.keys.randomElement(using: &generator) else { return }
        let states: [HotState] = [.candidate, .hot, .cooling]
        heat[key] =
            random(0..<4) == 0
            ? nil : record(key, states.randomElement(using: &generator)!, reads: 1_000, copies: random(0..<4))
        for agent in agents { agent.candidate?.publisher?.submitAll() }
    }

    private func fireTimer() {
        guard !timers.isEmpty else { return }
        timers.remove(at: random(0..<timers.count))()
    }

    private func deliver(_ deliveries: [SimulatedEnsemble.Delivery]) {
        figures.steps += 1
        checkCommitted()
        for delivery in deliveries {
            switch delivery {
            case .reply(let client, let call, let result):
                trace.append(client &* 31 &+ Int(call))
                replies.removeValue(forKey: call)?(result)
            case .watch(_, let call, let event):
                watches.removeValue(forKey: call)?(event)
            case .connection(let client, let state):
                trace.append(-client)
                agents.first { $0.client == client }?.hear(state)
            }
        }
    }

    /// Until nothing is left to happen.
    private func settle() {
        ensemble.pausedServers = []
        for _ in 0..<Self.stepsToRestMax {
            if let deliveries = ensemble.step() {
                deliver(deliveries)
            } else if !timers.isEmpty {
                fireTimer()
            } else if ensemble.endOrphan() {
                checkCommitted()
            } else {
                return
            }
        }
        violation("it does not come to rest")
    }

    /// Faults have ended: everybody knows what is true, first by the watches alone, then after reading everything again.
    private func rest() throws {
        isDisturbed = false
        settle()
        // What somebody else wrote is found, and written anew by the next publisher.
        for agent in agents { agent.candidate?.publisher?.check() }
        settle()
        guard violations.isEmpty else { return }
        try checkAgents("by the watches")
        for agent in agents { agent.candidate?.publisher?.submitAll() }
        settle()
        try checkHeat()
        for agent in agents { agent.rereadEverything() }
        settle()
        try checkAgents("after the re-read")
        for edits in operators { edits.check(try committed(PinsDocument.self, paths.pins)) }
        for agent in agents {
            agent.resetReads()
            deliver(ensemble.cut(agent.client))
            settle()
            figures.readsAfterReconnectMax = max(figures.readsAfterReconnectMax, agent.reads)
        }
        try checkAgents("after a reconnect")
    }

    // MARK: - What must hold

    /// Of every write as it is committed: the head names no bucket that is missing or older, and whoever published was the
    /// first of the living candidates then.
    private func checkCommitted() {
        for index in checkedCount..<ensemble.committedCount {
            let committed = ensemble.committedWrite(index)
            guard case .multi(let operations) = committed.write.operation else { continue }
            switch committed.outcome {
            case .failure(let error):
                if error.operationIndex == 0 { figures.fencedOff += 1 }
                for path in operations.map(\.path)
                where ensemble.committed.exists(path)?.modifiedTransaction == committed.transaction {
                    violation("\(path) was changed by a transaction that failed")
                }
            case .success:
                do {
                    try check(operations, client: committed.client)
                } catch {
                    violation("\(error)")
                }
            }
        }
        checkedCount = ensemble.committedCount
    }

    private func check(_ operations: [StoreOperation], client: Int?) throws {
        let written = operations.map(\.path)
        for path in [paths.pins, paths.control] where written.contains(path) {
            past[path, default: []].append(try ensemble.committed.get(path))
        }
        guard written.contains(where: { $0.hasPrefix(paths.hot) }) else { return }
        let names = try ensemble.committed.children(paths.leader).names
        let first = names.min { $0.suffix(10) < $1.suffix(10) }.map(paths.candidate)
        let leader = try first.map { try committed(LeaderDocument.self, $0).agent }
        // By the agent and not by the session: as long as the node of a session that was given up stands, nobody else leads.
        let writer = agents.first { $0.client == client }?.id.description
        if leader == nil || leader != writer {
            violation("\(writer ?? "somebody") published while \(leader ?? "nobody") led")
        }
        guard written.contains(paths.hot) else { return }
        figures.publications += 1
        let head = try committed(HotHead.self, paths.hot)
        if let newestPublication, head.position <= newestPublication {
            violation("\(head.position) was published after \(newestPublication)")
        }
        newestPublication = head.position
        let leadership = "\(head.coordinator) as \(first ?? "")"
        if let other = writers.updateValue(leadership, forKey: head.epoch), other != leadership {
            violation("\(other) and \(leadership) both published in epoch \(head.epoch)")
        }
        past[paths.hot, default: []].append(try ensemble.committed.get(paths.hot))
        for bucket in buckets where head.buckets[bucket] > 0 {
            let version = (try? committed(HotBucket.self, paths.bucket(bucket)))?.version ?? 0
            if version < head.buckets[bucket], !damaged.contains(paths.bucket(bucket)) {
                violation("the head names version \(head.buckets[bucket]) of bucket \(bucket), there is \(version)")
            }
        }
    }

    private func committed<Document: RegistryDocument>(
        _ type: Document.Type, _ path: String
    ) throws -> Document {
        try RegistryCodec.decode(type, from: try ensemble.committed.get(path).data, source: path)
    }

    private func published() throws -> PublishedHotSet {
        var reads = Array(repeating: PublishedHotSet.BucketRead.missing, count: RegistryLimits.bucketCount)
        for bucket in buckets where ensemble.committed.exists(paths.bucket(bucket)) != nil {
            reads[bucket] = PublishedHotSet.decode(
                try ensemble.committed.get(paths.bucket(bucket)), bucket: bucket, path: paths.bucket(bucket))
        }
        return PublishedHotSet(
            head: try committed(HotHead.self, paths.hot), headStat: ensemble.committed.exists(paths.hot)!,
            buckets: reads, paths: paths)
    }

    private func checkAgents(_ how: String) throws {
        let published = try published()
        let control = try committed(ControlDocument.self, paths.control)
        let pins = try committed(PinsDocument.self, paths.pins)
        for agent in agents {
            let snapshot = agent.subscription.snapshot(at: now)
            let name = "\(agent.id) \(how)"
            if snapshot.view != .fresh { violation("\(name): the view is \(snapshot.view)") }
            if snapshot.position != published.head.position {
                violation("\(name): at \(String(describing: snapshot.position)), not \(published.head.position)")
            }
            if snapshot.hot != published.records { violation("\(name): another hot set at \(published.head.position)") }
            if snapshot.control != control { violation("\(name): another control") }
            if snapshot.pins != pins { violation("\(name): other pins") }
            if snapshot.topology != TestApp.topology { violation("\(name): another topology") }
            if snapshot.rules != RulesDocument() { violation("\(name): other rules") }
            if !snapshot.problems.isEmpty { violation("\(name): \(snapshot.problems)") }
        }
    }

    private func checkHeat() throws {
        let published = try published()
        if !published.problems.isEmpty { violation("published with problems: \(published.problems)") }
        if published.records != HotRecords(heat.values) { violation("the hot set is not what the heat is") }
        let leading = agents.filter { $0.candidate?.publisher?.isOpen == true }
        if leading.count != 1 { violation("\(leading.count) agents lead at rest") }
    }
}

/// Pins and switches as ``RegistryOperator`` does: read, change, compare and set, from the start when it was lost.
final class SimulatedOperator {
    private unowned let world: SimulatedRegistry
    private let name: String
    private let client: Int
    private var isBusy = false
    private var count = 0
    /// Decisions whose success was told, by key: whether it is pinned.
    private var acknowledged: [KeyName: Bool] = [:]
    private var entries: [HistoryEntry] = []

    init(_ world: SimulatedRegistry, name: String) {
        self.world = world
        self.name = name
        client = world.ensemble.addClient()
    }

    func act() {
        guard !isBusy else { return }
        isBusy = true
        count += 1
        let at = world.wallClock
        let pinned = acknowledged.filter(\.value).keys.sorted()
        switch world.random(0..<4) {
        case 0:
            let entry = HistoryEntry(at: at, author: name, verb: .mode, detail: "\(count)")
            let document = ControlDocument(
                mode: [.off, .observe, .mitigate][count % 3], stalenessCapMilliseconds: count)
            edit(PinsEdit(change: .record, entry: entry), control: document) {}
        case 1 where !pinned.isEmpty:
            let key = pinned[world.random(0..<pinned.count)]
            let entry = HistoryEntry(at: at, author: name, verb: .unpin, key: key, reason: "\(count)")
            edit(PinsEdit(change: .unpin(key), entry: entry)) { self.acknowledged[key] = false }
        default:
            let key = KeyName("\(name):\(count)")
            let entry = HistoryEntry(at: at, author: name, verb: .pin, key: key)
            let pin = PinEntry(key: key, copies: 1, author: name, at: at)
            edit(PinsEdit(change: .pin(pin), entry: entry)) { self.acknowledged[key] = true }
        }
    }

    private func edit(_ edit: PinsEdit, control: ControlDocument? = nil, _ done: @escaping () -> Void) {
        func call(_ request: SimulatedEnsemble.Request, _ reply: @escaping (SimulatedEnsemble.Reply) -> Void) {
            world.call(client, request, onEvent: nil) { result in
                guard case .success(let value) = result else {
                    return self.world.later { self.edit(edit, control: control, done) }
                }
                reply(value)
            }
        }
        func finish() {
            world.figures.edits += 1
            entries.append(edit.entry)
            isBusy = false
            done()
        }
        func attempt(controlVersion: Int32?, isCaughtUp: Bool = false) {
            call(.get(world.paths.pins, watch: false)) { reply in
                do {
                    guard case .value(let value) = reply else { return }
                    let document = try RegistryCodec.decode(PinsDocument.self, from: value.data, source: "pins")
                    if edit.isContained(in: document) { return finish() }
                    guard let changed = edit.apply(to: document, now: start) else {
                        guard isCaughtUp else {
                            return call(.sync) { _ in attempt(controlVersion: controlVersion, isCaughtUp: true) }
                        }
                        return self.world.violation("\(self.name): \(edit.change) found nothing to change")
                    }
                    var operations = [
                        StoreOperation.set(
                            self.world.paths.pins, data: try RegistryCodec.encode(changed, source: "pins"),
                            version: value.stat.version)
                    ]
                    if let control {
                        let data = try RegistryCodec.encode(control, source: "control")
                        operations.insert(.set(self.world.paths.control, data: data, version: controlVersion), at: 0)
                    }
                    call(.write(.multi(operations))) { _ in finish() }
                } catch {
                    self.world.violation("\(error)")
                }
            }
        }
        guard control != nil else { return attempt(controlVersion: nil) }
        call(.get(world.paths.control, watch: false)) { reply in
            if case .value(let value) = reply { attempt(controlVersion: value.stat.version) }
        }
    }

    /// Nothing that was acknowledged is lost, and nothing stands twice.
    func check(_ pins: PinsDocument) {
        for (key, isPinned) in acknowledged where pins.pins.contains(where: { $0.key == key }) != isPinned {
            world.violation("\(key) is\(isPinned ? " not" : "") pinned")
        }
        for entry in entries where pins.history.filter({ $0 == entry }).count != 1 {
            world.violation("the history does not hold \(entry) once")
        }
        if isBusy { world.violation("\(name) never had an answer") }
    }
}
