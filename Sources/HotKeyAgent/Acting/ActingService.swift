import Foundation
import HotKeyDetection
import HotKeyMitigation
import HotKeyPeer
import HotKeyRegistry
import HotKeyRules
import Logging
import NIOConcurrencyHelpers
import RedisProxy

/// Brings what the agent knows into the data path: follows the registry and the agent's own decisions, works out an
/// ``ActingPlan``, and hands it to the proxy as one snapshot. Tells apps of every change.
final class ActingService: Sendable {
    /// What is in force now.
    struct Applied: Sendable {
        var plan = ActingPlan.nothing
        var registry = RegistrySnapshot.none
        var hasTopology = false
        /// From the publication of the newest hot set to its being in force here, by the ensemble's clock.
        var pushLagMilliseconds: Int64?
        /// Why what the registry says is not in force.
        var problem: String?
    }

    private let subscriber: RegistrySubscriber
    private let proxy: ProxyServer
    private let hashSeed: UInt64
    /// By which pins and denies expire, and publications are dated.
    let clock: EnsembleClock
    private let logger: Logger
    private let applied = NIOLockedValueBox(Applied())
    private let local = NIOLockedValueBox<[LocalHotKey]>([])
    private let pokes: AsyncStream<Void>
    private let poke: AsyncStream<Void>.Continuation
    /// Called with the rules in force, and with the hashes of the keys that are published, whenever they change.
    private let onRules: @Sendable (RuleBook) -> Void
    private let onHotKeys: @Sendable (Set<UInt64>) -> Void

    init(
        subscriber: RegistrySubscriber, proxy: ProxyServer, hashSeed: UInt64, clock: EnsembleClock, logger: Logger,
        onRules: @escaping @Sendable (RuleBook) -> Void, onHotKeys: @escaping @Sendable (Set<UInt64>) -> Void
    ) {
        self.subscriber = subscriber
        self.proxy = proxy
        self.hashSeed = hashSeed
        self.clock = clock
        self.logger = logger
        self.onRules = onRules
        self.onHotKeys = onHotKeys
        // Only "something changed" is queued, never what: the newest state is read when there is time for it.
        (pokes, poke) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    var current: Applied { applied.withLockedValue { $0 } }

    /// Replaces the keys that this agent alone holds for hot.
    func setLocalHotKeys(_ keys: [LocalHotKey]) {
        let changed = local.withLockedValue { old in
            defer { old = keys }
            return Set(old) != Set(keys)
        }
        if changed { poke.yield() }
    }

    /// 0 while decisions are not the agents'.
    var localHotKeyCount: Int { current.registry.isDetectionExternal ? 0 : local.withLockedValue { $0.count } }

    static let externalDetectionWarning = """
        detection is external: no agent decides what is hot, and what is hot stays as it was published last, plus pins and \
        minus denies, until another publisher writes it; "detection":"embedded" in the control document ends this
        """

    /// Follows until cancelled. `onTopology` is called once, when the proxy can serve apps.
    func run(onTopology: @escaping @Sendable () async throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for await _ in self.subscriber.updates {
                    // Ahead of the queue: an earlier change may be waiting for a node that hangs.
                    if self.subscriber.current.control?.mode == .off { try await self.proxy.switchOff() }
                    self.poke.yield()
                }
            }
            group.addTask { try await self.pokeAtExpiry() }
            group.addTask { try await self.follow(onTopology) }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    /// Time alone changes the hot set when a pin expires.
    private func pokeAtExpiry() async throws {
        while true {
            let now = clock.now
            var wait = AgentLimits.expiryCheckMillisecondsMax
            if let expiry = subscriber.current.nextExpiry(after: now) {
                wait = min(wait, Int(expiry.millisecondsSince1970 - now.millisecondsSince1970) + 1)
            }
            try await Task.sleep(for: .milliseconds(max(1, wait)))
            if subscriber.current.nextExpiry(after: now).map({ $0 <= clock.now }) ?? false { poke.yield() }
        }
    }

    private func follow(_ onTopology: @escaping @Sendable () async throws -> Void) async throws {
        var topology: (document: TopologyDocument, proxy: ProxyTopology)?
        var rules = RuleBook.standard
        var isExternal = false
        onRules(rules)
        for await _ in pokes {
            try Task.checkCancellation()
            let mark = proxy.switchOffMark
            let registry = subscriber.current
            var problems = registry.problems.map { "\($0)" }
            if let document = registry.rules, document != rules.document {
                do {
                    rules = try RuleBook(document)
                    onRules(rules)
                } catch { problems.append("\(error)") }
            }
            let isFirst = topology == nil
            if let document = registry.topology, document != topology?.document {
                do {
                    topology = (document, try ProxyTopology(registry: document))
                } catch { problems.append("\(error)") }
            }
            report(problems)
            if registry.isDetectionExternal != isExternal {
                isExternal = registry.isDetectionExternal
                if isExternal {
                    logger.warning("\(Self.externalDetectionWarning)")
                } else {
                    logger.notice("detection is embedded again: the agents decide what is hot")
                }
            }
            let plan = ActingPlan(
                snapshot: registry, local: local.withLockedValue { $0 }, rules: rules, at: clock.now)
            guard let proxyTopology = topology?.proxy else {
                applied.withLockedValue {
                    $0.registry = registry
                    $0.problem = problems.first
                }
                continue
            }
            try await apply(plan, proxyTopology, registry, problems.first, since: mark)
            if isFirst {
                // First, so that an agent that calls itself ready is one that apps can connect to.
                try await onTopology()
                applied.withLockedValue { $0.hasTopology = true }
            }
        }
    }

    /// A document that cannot be used is told once, not at every change.
    private func report(_ problems: [String]) {
        guard let problem = problems.first, problem != applied.withLockedValue({ $0.problem }) else { return }
        logger.error("what was good before stays in force", metadata: ["problem": "\(problem)"])
    }

    private func apply(
        _ plan: ActingPlan, _ topology: ProxyTopology, _ registry: RegistrySnapshot, _ problem: String?,
        since mark: ProxyServer.SwitchOffMark
    ) async throws {
        let old = current
        let table = HotKeyTable(plan.policies, seed: hashSeed)
        let snapshot = ProxySnapshot(mode: .init(plan.mode), topology: topology, table: table)
        // Switched off meanwhile: the change that said so is next.
        guard try await proxy.apply(snapshot, since: mark) else { return }
        onHotKeys(
            Set(plan.keys.keys.map { key in key.bytes.withUnsafeBytes { FastHash.hash($0, seed: hashSeed) } }))
        applied.withLockedValue {
            $0.plan = plan
            $0.problem = problem
            if let position = registry.position, position != $0.registry.position, registry.view == .fresh,
                let publishedAt = registry.publishedAt
            {
                $0.pushLagMilliseconds = clock.now.millisecondsSince1970 - publishedAt.millisecondsSince1970
            }
            $0.registry = registry
        }
        announce(plan.changes(since: old.plan), registry)
    }

    private func announce(_ changes: [(key: KeyName, state: String)], _ registry: RegistrySnapshot) {
        guard !changes.isEmpty else { return }
        for change in changes {
            logger.info(
                "hot set changed", metadata: ["key": "\(change.key)", "state": "\(change.state)"])
        }
        let encoder = PeerJSON.encoder()
        for start in stride(from: 0, to: changes.count, by: AgentLimits.changesPerMessageMax) {
            let part = changes[start..<min(start + AgentLimits.changesPerMessageMax, changes.count)]
            let message = HotKeyMessage(
                epoch: registry.position?.epoch ?? 0, version: registry.position?.version ?? 0,
                changes: part.map { .init(key: PeerKey($0.key.bytes), state: $0.state) })
            guard let data = try? encoder.encode(message) else { continue }
            proxy.publish(Array(data))
        }
    }
}

extension ProxySnapshot.Mode {
    init(_ mode: ControlDocument.Mode) {
        switch mode {
        case .off: self = .off
        case .observe: self = .observe
        case .mitigate: self = .mitigate
        }
    }
}

/// The JSON of the agent's own commands: sorted keys, so that equal replies are equal bytes.
enum PeerJSON {
    static func encoder() -> JSONEncoder {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return encoder
    }
}
