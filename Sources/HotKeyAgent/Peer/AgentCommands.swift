import Foundation
import HotKeyMitigation
import HotKeyPeer
import HotKeyRegistry
import NIOConcurrencyHelpers
import NIOCore
import RESP
import RedisProxy

/// The agent's own commands, on the app listener and on the peer listener.
final class AgentCommands: AgentCommandHandler {
    /// Set once the runtime is complete: the listeners and what they ask need each other.
    private let agent = NIOLockedValueBox<AgentView?>(nil)

    func connect(to view: AgentView) { agent.withLockedValue { $0 = view } }

    func reply(to arguments: [[UInt8]], on eventLoop: any EventLoop) -> EventLoopFuture<RESPValue> {
        guard let agent = agent.withLockedValue({ $0 }) else {
            return eventLoop.makeSucceededFuture(.error("LOADING the agent is starting; try again in a moment"))
        }
        let words = arguments
        switch String(decoding: words[0], as: UTF8.self) {
        case "HK.STATUS":
            return json(words, count: 1, on: eventLoop) { try await agent.status() }
        case "HK.LIST":
            return json(words, count: 1, on: eventLoop) { agent.list() }
        case "HK.GET":
            return json(words, count: 2, on: eventLoop) { try await agent.answer(to: KeyName(words[1])) }
        case "HK.ROUTE":
            return json(words, count: 2, on: eventLoop) { try await agent.route(words[1]) }
        case "HK.REPORTS":
            return reports(words, agent, on: eventLoop)
        case "HK.TOP":
            return top(words, agent, on: eventLoop)
        case "HK.HEAT":
            return json(words, count: 2, on: eventLoop) { try await agent.liveHeat(.key(words[1]), asked: "HK.HEAT") }
        default:
            let name = String(decoding: words[0], as: UTF8.self)
            return eventLoop.makeSucceededFuture(
                .error("ERR unknown command '\(name)'; the agent knows \(Self.names.joined(separator: ", "))"))
        }
    }

    static let names = [
        "HK.GET", "HK.HEAT", "HK.LIST", "HK.RECORD", "HK.REPORTS", "HK.ROUTE", "HK.STATUS", "HK.TOP",
    ]

    /// `HK.TOP [count]`
    private func top(_ words: [[UInt8]], _ agent: AgentView, on eventLoop: any EventLoop) -> EventLoopFuture<RESPValue>
    {
        guard words.count > 1 else {
            return json(words, count: 1, on: eventLoop) {
                try await agent.liveHeat(.top(PeerLimits.topKeysDefault), asked: "HK.TOP")
            }
        }
        guard let count = Int(String(decoding: words[1], as: UTF8.self)), PeerLimits.topKeysRange.contains(count) else {
            return eventLoop.makeSucceededFuture(
                .error("ERR HK.TOP [count]: count is 1 to \(PeerLimits.topKeysRange.upperBound)"))
        }
        return json(words, count: 2, on: eventLoop) { try await agent.liveHeat(.top(count), asked: "HK.TOP") }
    }

    private func json(
        _ words: [[UInt8]], count: Int, on eventLoop: any EventLoop,
        _ body: @escaping @Sendable () async throws -> some Encodable & Sendable
    ) -> EventLoopFuture<RESPValue> {
        guard words.count == count else { return Self.wrongCount(words, on: eventLoop) }
        return eventLoop.makeFutureWithTask {
            .bulk(Array(try PeerJSON.encoder().encode(try await body())))
        }
    }

    private static func wrongCount(_ words: [[UInt8]], on eventLoop: any EventLoop) -> EventLoopFuture<RESPValue> {
        let name = String(decoding: words[0], as: UTF8.self).lowercased()
        return eventLoop.makeSucceededFuture(.error("ERR wrong number of arguments for '\(name)' command"))
    }

    /// `HK.REPORTS after [BLOCK ms]`
    private func reports(_ words: [[UInt8]], _ agent: AgentView, on eventLoop: any EventLoop) -> EventLoopFuture<
        RESPValue
    > {
        guard words.count == 2 || words.count == 4 else { return Self.wrongCount(words, on: eventLoop) }
        guard let after = UInt64(String(decoding: words[1], as: UTF8.self)) else {
            return eventLoop.makeSucceededFuture(.error("ERR HK.REPORTS: 'after' is a sequence number, 0 for all"))
        }
        var block = 0
        if words.count == 4 {
            guard String(decoding: words[2], as: UTF8.self).uppercased() == "BLOCK",
                let milliseconds = Int(String(decoding: words[3], as: UTF8.self)),
                PeerLimits.blockMillisecondsRange.contains(milliseconds)
            else {
                return eventLoop.makeSucceededFuture(
                    .error(
                        "ERR HK.REPORTS after [BLOCK ms]: ms is 0 to \(PeerLimits.blockMillisecondsRange.upperBound)"))
            }
            block = milliseconds
        }
        return agent.reports.reports(after: after, blockMilliseconds: block, on: eventLoop).map { reply in
            .array([
                .integer(Int64(bitPattern: reply.epoch)), .integer(Int64(bitPattern: reply.lastSequence)),
                .array(reply.frames.map { .bulk($0) }),
            ])
        }
    }
}

/// What the agent can say about itself, gathered from its parts.
struct AgentView: Sendable {
    let configuration: AgentConfiguration
    let startedAt: Timestamp
    let startedAtMonotonic = ContinuousClock.now
    let acting: ActingService
    let coordinator: CoordinatorService?
    let reports: ReportStore
    let subscriber: RegistrySubscriber
    let presence: AgentPresence
    let proxy: ProxyServer
    let security: AgentSecurity

    func status() async throws -> AgentStatus {
        let applied = acting.current
        let statistics = try await proxy.statistics()
        return AgentStatus(
            id: configuration.id, app: configuration.app, version: HotKeyVersion.current,
            startedAt: startedAt.description,
            uptimeSeconds: (ContinuousClock.now - startedAtMonotonic).components.seconds,
            mode: applied.plan.mode.rawValue, detection: applied.registry.control?.detection.rawValue,
            leadership: leadership,
            coordinator: applied.registry.coordinator.isEmpty ? nil : applied.registry.coordinator, view: view,
            hotKeys: applied.plan.keys.count, localHotKeys: acting.localHotKeyCount, reportEpoch: reports.epoch,
            reportSequence: reports.lastSequence, pushLagMilliseconds: applied.pushLagMilliseconds,
            nodes: statistics.nodes.map(AgentStatus.Node.init), counters: .init(statistics),
            documents: .init(applied.registry.versions), isStandalone: configuration.standalone,
            now: Timestamp.now.description, staleness: .init(statistics.staleness),
            cacheCapacityBytes: configuration.localCache.capacityBytes)
    }

    var leadership: String {
        guard let coordinator else { return "none" }
        return coordinator.metrics.isLeader ? "leader" : "candidate"
    }

    /// State and age as of now; epoch and version as applied.
    var view: AgentStatus.View {
        let registry = subscriber.current
        let position = acting.current.registry.position
        let state =
            switch registry.view {
            case .none: "none"
            case .stale: "stale"
            case .fresh: "fresh"
            }
        return AgentStatus.View(
            state: state, ageMilliseconds: Int64(registry.ageMilliseconds() ?? 0), epoch: position?.epoch ?? 0,
            version: position?.version ?? 0)
    }

    func list() -> KeyList {
        let applied = acting.current
        return KeyList(
            epoch: applied.registry.position?.epoch ?? 0, version: applied.registry.position?.version ?? 0,
            keys: applied.plan.keys.values.sorted { $0.key < $1.key }.map { KeyStatus($0, mode: applied.plan.mode) })
    }

    /// What `HK.GET` says.
    func answer(to name: KeyName) async throws -> KeyStatus {
        var status = key(name)
        status.readsHeld = try await proxy.readsHeld(of: name.bytes)
        status.missesHeld = try await proxy.missesHeld(of: name.bytes)
        return status
    }

    func key(_ name: KeyName) -> KeyStatus {
        let applied = acting.current
        if let key = applied.plan.keys[name] { return KeyStatus(key, mode: applied.plan.mode) }
        let deny = applied.registry.pins?.denies.first { $0.key == name && !$0.isExpired(at: acting.clock.now) }
        return KeyStatus(
            key: PeerKey(name.bytes), state: applied.plan.stateName(of: name), kind: nil,
            readsPerSecond: nil, writesPerSecond: nil, missesPerSecond: nil, errorPerSecond: nil, copies: 0,
            sources: [],
            since: nil, action: "none", isLocalDecision: false, reason: deny?.reason)
    }

    /// Throws ``AgentError/Code/notCoordinating`` at an agent that does not lead.
    func liveHeat(_ question: LiveHeat.Question, asked command: String) async throws -> LiveStatus {
        let applied = acting.current
        guard let live = await coordinator?.liveHeat(question) else {
            let other = applied.registry.coordinator
            throw AgentError(
                .notCoordinating,
                "\(command): this agent does not coordinate"
                    + (other.isEmpty || other == configuration.id ? "" : "; \(other) does, as far as it knows"))
        }
        return LiveStatus(live, applied, id: configuration.id, at: acting.clock.now)
    }

    func route(_ key: [UInt8]) async throws -> RouteStatus {
        guard acting.current.hasTopology else {
            throw AgentError(
                .unusableTopology, "no topology is known yet; run hkctl init, or look at /readyz for what is missing")
        }
        let route = try await proxy.route(key)
        let reading =
            switch route.reading {
            case .localCache: "local-cache"
            case .copies: "copies"
            case .home: "home"
            }
        return RouteStatus(
            key: PeerKey(key), home: .init(route.home), slot: route.slot,
            copies: route.copies.map(RouteStatus.Place.init),
            readableCopies: route.readableCopies.map(RouteStatus.Place.init),
            copyState: acting.current.plan.keys[KeyName(key)]?.copyState?.rawValue, isHot: route.isHot,
            reading: reading)
    }
}

extension RouteStatus.Place {
    init(_ node: ProxyNode) { self.init(name: node.name, address: node.address) }
}

extension AgentStatus.Node {
    init(_ node: NodeStatistics) {
        let breaker =
            switch node.breaker {
            case .closed: "closed"
            case .halfOpen: "half-open"
            case .open: "open"
            }
        let tracking =
            switch node.tracking {
            case .on: "on"
            case .off: "off"
            case .refused(let reason): "refused: \(reason)"
            }
        self.init(
            name: node.node.name, address: node.node.address, breaker: breaker, requests: node.requests,
            failures: node.failures, timeouts: node.timeouts, inFlight: node.inFlight, tracking: tracking)
    }
}

extension AgentStatus.Documents {
    init(_ versions: DocumentVersions) {
        self.init(
            control: versions.control, rules: versions.rules, pins: versions.pins, topology: versions.topology)
    }
}

extension AgentStatus.Counters {
    init(_ statistics: ProxyStatistics) {
        self.init(
            requests: statistics.requests, localHits: statistics.localHits, copyReads: statistics.copyReads,
            hotHomeReads: statistics.hotHomeReads, staleAnswers: statistics.staleAnswers,
            hotWrites: statistics.hotWrites, breakerRejections: statistics.breakerRejections,
            clients: statistics.clientsConnected, cacheBytes: statistics.cacheBytes)
    }
}

extension AgentStatus.Staleness {
    init(_ observed: ObservedStaleness) {
        let bounds = ObservedStaleness.boundsNanoseconds.map { Double($0) / 1e6 }
        self.init(
            probes: observed.probes, differing: observed.differing, violations: observed.violations,
            unanswered: observed.unanswered, worstMilliseconds: Double(observed.worstNanoseconds) / 1e6,
            histogram: observed.counts.enumerated().filter { $0.element > 0 }.map { bucket, count in
                Bucket(upToMilliseconds: bucket < bounds.count ? bounds[bucket] : nil, probes: count)
            })
    }
}

extension KeyStatus {
    /// What is done with it is nothing unless the fleet is in the mode `mitigate`.
    init(_ key: ActingKey, mode: ControlDocument.Mode) {
        self.init(
            key: PeerKey(key.key.bytes), state: key.state.rawValue, kind: key.kind.rawValue,
            readsPerSecond: key.record?.readsPerSecond, writesPerSecond: key.record?.writesPerSecond,
            missesPerSecond: key.record?.missesPerSecond, errorPerSecond: key.record?.errorPerSecond,
            copies: key.policy.copies, copyState: key.copyState?.rawValue, sources: key.record?.sources ?? [],
            since: (key.record?.since ?? key.pin?.at)?.description,
            action: mode == .mitigate ? key.action.rawValue : mode == .observe ? "observe" : "none",
            isLocalDecision: key.isLocalDecision, reason: key.pin?.reason)
    }
}
