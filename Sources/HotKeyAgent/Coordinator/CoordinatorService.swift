import HotKeyDetection
import HotKeyMitigation
import HotKeyPeer
import HotKeyRegistry
import HotKeyRules
import Logging
import NIOConcurrencyHelpers
import NIOCore
import RedisProxy
import ZooKeeper

/// Stands for election, and while it leads: pulls every agent's reports, merges them, decides, publishes.
final class CoordinatorService: Sendable {
    struct Metrics: Sendable {
        var isLeader = false
        var leaderships = 0
        var agentsPulled = 0
        /// Of these, agents that turned out to be another one of them, and whose reports are not counted once more.
        var agentsDuplicate = 0
        var framesMerged = 0
        var framesMissing = 0
        var pullFailures = 0
        var publications = 0
        var changesRefused = 0
        /// Keys that are hot and not published because there is no room.
        var keysWaiting = 0
        /// Documents under `sources/` that are in force, and the candidates in them.
        var sources = 0
        var sourceCandidates = 0
        /// Of each node, what it can carry; of those of which it is known.
        var nodeCapacities: [(label: String, value: UInt64)] = []
        /// Keys that have copies, by where these are on their way.
        var copyKeys: [CopyLifecycle.State: Int] = [:]
    }

    private let store: any CoordinationStore
    private let paths: RegistryPaths
    private let id: AgentID
    private let subscriber: RegistrySubscriber
    private let group: any EventLoopGroup
    private let clock: EnsembleClock
    private let peerSecurity: PeerSecurity
    private let scan: ScheduledScan
    private let proxy: ProxyServer
    private let logger: Logger
    private let rules: NIOLockedValueBox<RuleBook>
    private let counters = NIOLockedValueBox(Metrics())
    private let memory = PublisherMemory()
    /// While this agent leads: what it decides from.
    private let merging = NIOLockedValueBox<ReportMerger?>(nil)
    private let duplicateLoggedAt = NIOLockedValueBox<NIODeadline?>(nil)

    init(
        store: any CoordinationStore, paths: RegistryPaths, id: AgentID, subscriber: RegistrySubscriber,
        group: any EventLoopGroup, clock: EnsembleClock, peerSecurity: PeerSecurity, scan: ScheduledScan,
        proxy: ProxyServer, logger: Logger
    ) {
        self.proxy = proxy
        self.peerSecurity = peerSecurity
        self.scan = scan
        self.clock = clock
        self.store = store
        self.paths = paths
        self.id = id
        self.subscriber = subscriber
        self.group = group
        self.logger = logger
        rules = NIOLockedValueBox(.standard)
    }

    var metrics: Metrics { counters.withLockedValue { $0 } }

    /// What the coordinator sees now; nil while another agent coordinates.
    func liveHeat(_ question: LiveHeat.Question) async -> LiveHeat? {
        await merging.withLockedValue { $0 }?.live(question, clock: clock.now)
    }

    func setRules(_ book: RuleBook) { rules.withLockedValue { $0 = book } }

    /// Until cancelled.
    func run() async throws {
        let election = LeaderElection(store: store, paths: paths, id: id, logger: logger)
        try await election.run { leadership in try await self.lead(leadership) }
    }

    private func lead(_ leadership: Leadership) async throws {
        logger.notice("coordinating", metadata: ["fence": "\(leadership.createdTransaction)"])
        counters.withLockedValue {
            $0.isLeader = true
            $0.leaderships += 1
        }
        defer {
            merging.withLockedValue { $0 = nil }
            counters.withLockedValue {
                $0.isLeader = false
                $0.agentsPulled = 0
                $0.agentsDuplicate = 0
                $0.keysWaiting = 0
                $0.sources = 0
                $0.sourceCandidates = 0
                $0.nodeCapacities = []
                $0.copyKeys = [:]
            }
            logger.notice("coordinating no more")
        }
        let known = subscriber.current
        let publisher = try await HotSetPublisher.open(
            store: store, paths: paths, leadership: leadership, coordinator: id, seen: known.position,
            isRegistryOlder: known.isRegistryOlder, memory: memory, clock: clock, logger: logger)
        let merger = ReportMerger(
            rules: rules.withLockedValue { $0 }, published: await publisher.published, clock: clock.now)
        merging.withLockedValue { $0 = merger }
        let decisions = DecisionClock(timers: self.group.next())
        let copies = CopyKeeper(proxy: proxy, published: await publisher.published, logger: logger)
        let directory = AgentDirectory(store: store, paths: paths, logger: logger)
        let sources = SourceDirectory(store: store, paths: paths, logger: logger)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await publisher.run() }
            group.addTask { try await directory.run() }
            group.addTask { try await self.pullEveryone(in: directory, into: merger, decisions) }
            group.addTask { try await sources.run() }
            if scan.isOn { group.addTask { try await self.scan.run() } }
            group.addTask { try await self.measureCapacities(for: merger) }
            group.addTask { try await copies.run() }
            group.addTask {
                try await decisions.run { try await self.decide($0, merger, publisher, sources, copies) }
            }
            defer { group.cancelAll() }
            // Whatever ends first ends the leadership.
            try await group.next()
        }
    }

    private func measureCapacities(for merger: ReportMerger) async throws {
        try await CapacityWatch(scan, logger: logger).run {
            rules.withLockedValue { $0.needsCapacities }
        } onChange: { capacities in
            await merger.update(capacities: capacities)
            counters.withLockedValue { $0.nodeCapacities = capacities.known }
        }
    }

    // MARK: Pulling

    /// One task for each agent that is in the registry, for as long as it is there with the same document.
    private func pullEveryone(
        in directory: AgentDirectory, into merger: ReportMerger, _ decisions: DecisionClock
    ) async throws {
        struct Pull {
            var document: AgentDocument
            /// Tells a pull from an earlier one of the same agent: one that left and is back before its last call has ended
            /// would otherwise be pulled twice from then on.
            var number: Int
        }
        let running = NIOLockedValueBox<[AgentID: Pull]>([:])
        var pulls = 0
        // Discarding, because nobody awaits the pulls that end while the leadership lasts.
        try await withThrowingDiscardingTaskGroup { group in
            while true {
                let agents = directory.current
                // Before they are pulled, or the first that they bring would be dropped.
                await merger.setWanted(Set(agents.keys))
                for (id, document) in agents where running.withLockedValue({ $0[id]?.document != document }) {
                    pulls += 1
                    let number = pulls
                    running.withLockedValue { $0[id] = Pull(document: document, number: number) }
                    group.addTask {
                        try await self.pull(
                            id, document, while: { running.withLockedValue { $0[id]?.number == number } }, merger,
                            decisions)
                    }
                }
                let gone = running.withLockedValue { running in
                    let gone = running.keys.filter { agents[$0] == nil }
                    for id in gone { running[id] = nil }
                    return gone
                }
                for id in gone { await merger.forget(id) }
                let duplicates = await merger.duplicateCount
                await merger.expect(agents: agents.count - duplicates)
                counters.withLockedValue {
                    $0.agentsPulled = agents.count
                    $0.agentsDuplicate = duplicates
                }
                await nextChange(of: directory)
                try Task.checkCancellation()
            }
        }
    }

    /// Returns at the directory's next change, or after a while: a change that came between two looks is seen then.
    private func nextChange(of directory: AgentDirectory) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                // The first element is the current state.
                for await _ in directory.updates.dropFirst() { return }
            }
            group.addTask { try? await Task.sleep(for: .milliseconds(AgentLimits.directoryCheckMilliseconds)) }
            await group.next()
            group.cancelAll()
        }
    }

    private func pull(
        _ id: AgentID, _ document: AgentDocument, while isWanted: @escaping @Sendable () -> Bool,
        _ merger: ReportMerger,
        _ decisions: DecisionClock
    ) async throws {
        guard let address = HostPort(document.peer) else {
            logger.error(
                "an agent's peer address is not HOST:PORT", metadata: ["agent": "\(id)", "peer": "\(document.peer)"])
            return
        }
        var pause = AgentLimits.pullRetryMillisecondsMin
        var refusal: String?
        while isWanted(), !Task.isCancelled {
            do {
                let client = try await PeerClient.connect(
                    host: address.host, port: address.port, group: group,
                    configuration: PeerConfiguration(replyBytesMax: AgentLimits.pullReplyBytesMax),
                    security: peerSecurity)
                do {
                    while isWanted(), !Task.isCancelled {
                        let reply = try await Self.reports(of: client, after: await merger.position(of: id))
                        let ingested = try await merger.ingest(id, reply)
                        if ingested.mayShowHeat { decisions.note() }
                        counters.withLockedValue {
                            $0.framesMerged += ingested.counted
                            $0.framesMissing += ingested.missing
                        }
                        if let other = ingested.duplicateOf { warn(of: id, as: other, at: address) }
                        pause = AgentLimits.pullRetryMillisecondsMin
                        refusal = nil
                    }
                } catch {
                    await client.close()
                    throw error
                }
                await client.close()
            } catch is CancellationError {
                return
            } catch {
                counters.withLockedValue { $0.pullFailures += 1 }
                // Nothing that time alone puts right; said once, until it is right or something else is wrong.
                if let error = error as? PeerError, error.code == .notAdmitted, error.message != refusal {
                    refusal = error.message
                    logger.error(
                        "an agent does not let this one in: its traffic is not counted until peerSecurity is the same on both",
                        metadata: ["agent": "\(id)", "peer": "\(address)", "reason": "\(error.message)"])
                }
                if let error = error as? DetectionError, error.message != refusal {
                    refusal = error.message
                    logger.error(
                        "an agent's reports are not understood: its traffic is not counted until both run versions that go together",
                        metadata: ["agent": "\(id)", "peer": "\(address)", "reason": "\(error.message)"])
                }
                logger.debug(
                    "an agent's reports could not be pulled", metadata: ["agent": "\(id)", "error": "\(error)"])
                try await Task.sleep(for: .milliseconds(pause))
                pause = min(pause * 2, AgentLimits.pullRetryMillisecondsMax)
            }
        }
    }

    /// What an agent has to tell after what it has told. Of one that is new, or counts anew since a restart, that is what the window
    /// has room for, and not all that it keeps.
    private static func reports(
        of client: PeerClient, after position: (epoch: UInt64?, sequence: UInt64)
    ) async throws -> ReportsReply {
        var (epoch, after) = position
        if epoch == nil {
            let newest = try await client.reports(after: AgentLimits.reportSequenceNever)
            (epoch, after) = (newest.epoch, ReportMerger.start(newest: newest.lastSequence))
        }
        let reply = try await client.reports(after: after, blockMilliseconds: AgentLimits.pullBlockMilliseconds)
        guard reply.epoch != epoch else { return reply }
        // What a restarted agent has so far lies below the old number.
        return try await client.reports(after: ReportMerger.start(newest: reply.lastSequence))
    }

    /// Once a minute over all agents: where one address is everyone's, a thousand pulls find it ten times a second.
    private func warn(of id: AgentID, as other: AgentID, at address: HostPort) {
        let now = NIODeadline.now()
        let isDue = duplicateLoggedAt.withLockedValue { last in
            if let last, now - last < .seconds(Int64(AgentLimits.duplicateAgentLogSeconds)) { return false }
            last = now
            return true
        }
        guard isDue else { return }
        logger.error(
            """
            two agents of the registry answer as one: its reports are counted once, and the traffic of the host that was \
            meant is not seen; set peer or advertisePeer of each agent to an address that leads to it from every host
            """, metadata: ["agent": "\(id)", "answers-as": "\(other)", "peer": "\(address)"])
    }

    // MARK: Deciding

    private func decide(
        _ turn: DecisionTurns.Kind, _ merger: ReportMerger, _ publisher: HotSetPublisher, _ sources: SourceDirectory,
        _ copies: CopyKeeper
    ) async throws {
        // What is submitted now is published later, so this is told of each turn.
        let published = await publisher.metrics
        counters.withLockedValue {
            $0.publications = published.publications
            $0.keysWaiting = published.waiting
        }
        let registry = subscriber.current
        // Whether anything is hot or not, and also when off: the fleet follows no operator until there is a newer epoch.
        if registry.isRegistryOlder { await publisher.beginEpoch() }
        // Off, nothing is counted, so nothing can be said; external, someone else says it.
        guard registry.mode != .off, !registry.isDetectionExternal else {
            await merger.decideNothing()
            await copies.suspend()
            return
        }
        let book = rules.withLockedValue { $0 }
        let detected = await merger.decide(
            rules: book, sources: sources.current, pins: registry.pins, clock: clock.now, isEarly: turn == .early)
        let updates = try await copies.turn(detected, registry, book, clock: clock.now, merger)
        let copyKeys = await copies.counts
        let (listed, candidates) = await merger.sourceCounts
        counters.withLockedValue {
            $0.sources = listed
            $0.sourceCandidates = candidates
            $0.copyKeys = copyKeys
        }
        let refused = updates.isEmpty ? [] : await publisher.submit(updates)
        for refusal in refused.prefix(AgentLimits.refusalsLoggedMax) {
            logger.warning("a change of the hot set is not published", metadata: ["reason": "\(refusal)"])
        }
        counters.withLockedValue { $0.changesRefused += refused.count }
        // Also of what was refused in an earlier turn: nobody may have had to leave for it then, and the others of its bucket cool.
        guard turn == .full || !refused.isEmpty else { return }
        let waiting = await publisher.waitingKeys
        guard !waiting.crowded.isEmpty else { return }
        let leaving = await merger.makeRoom(for: waiting.crowded, absent: waiting.absent, clock: clock.now)
        guard !leaving.isEmpty else { return }
        _ = await publisher.submit(try await copies.turn(leaving, registry, book, clock: clock.now, merger))
    }
}
