import HotKeyRegistry
import HotKeyScan
import Logging
import NIOCore
import RedisProxy
import TransportSecurity
import ZooKeeper

/// While this agent coordinates: scans the cache nodes from time to time for hot keys by their LFU counters, and writes what it found
/// to `sources/scan`.
struct ScheduledScan: Sendable {
    let settings: AgentConfiguration.Scan
    let upstream: UpstreamSecurity
    let requestTimeoutMilliseconds: Int
    let store: any CoordinationStore
    let paths: RegistryPaths
    let id: AgentID
    let subscriber: RegistrySubscriber
    let group: any EventLoopGroup
    let clock: EnsembleClock
    let logger: Logger

    var isOn: Bool { settings.everySeconds > 0 }

    /// Until cancelled. The first scan is due when the latest one, by whomever, is old enough: a coordinator that follows another
    /// does not begin anew at once.
    func run() async throws {
        let period = Int64(settings.everySeconds) * 1_000
        let registry = try RegistryOperator(store: store, paths: paths, author: id.description, logger: logger)
        let name = try AgentID(ScanResult.sourceName)
        let latest = (try? await registry.source(name))?.stat.modifiedAtMilliseconds ?? 0
        let age = max(0, clock.now.millisecondsSince1970 - latest)
        var pause = max(0, period - age)
        var told: [String] = []
        while true {
            try await Task.sleep(for: .milliseconds(pause))
            pause = period
            let known = subscriber.current
            guard known.mode != .off, !known.isDetectionExternal, let topology = known.topology else { continue }
            let problems: [String]
            do {
                problems = try await scanOnce(topology, registry, name)
            } catch is CancellationError {
                throw CancellationError()
            } catch {
                problems = ["\(error)"]
            }
            // Said when it is something else than the last time, not at every scan.
            for problem in problems where !told.contains(problem) {
                logger.warning("the nodes' LFU counters are not known, or not all", metadata: ["reason": "\(problem)"])
            }
            told = problems
        }
    }

    /// What asks the nodes, with the logins that are in force now.
    func scanner() -> KeyspaceScan {
        var configuration = KeyspaceScan.Configuration()
        configuration.keysPerSecondMax = settings.keysPerSecondMax
        configuration.topMax = AgentLimits.scanTopKeys
        configuration.timeoutMilliseconds = requestTimeoutMilliseconds
        configuration.tls = upstream.tls
        let logins = upstream.logins?()
        configuration.login = { logins?.login(node: $0) }
        return KeyspaceScan(configuration, group: group)
    }

    /// How long what a scan found holds: until the next but one is written, as far as that can be known, so that one that fails does not
    /// take back what the one before found. Scans begin so long after each other's end, and by their bounded rate the next takes as
    /// long as this one did.
    static func lifetimeMilliseconds(everySeconds: Int, took: Duration) -> Int64 {
        2 * (Int64(everySeconds) * 1_000 + took.components.seconds * 1_000 + 1_000)
    }

    /// Returns why nodes could not be scanned.
    private func scanOnce(
        _ topology: TopologyDocument, _ registry: RegistryOperator, _ name: AgentID
    ) async throws -> [String] {
        let scan = scanner()
        var nodes = topology.nodes.compactMap { ScanNode($0) }
        if topology.kind == .cluster { nodes = try await scan.clusterMasters(nodes) }
        let began = ContinuousClock.now
        let result = try await scan.run(nodes)
        let took = ContinuousClock.now - began
        if result.nodes.contains(where: \.wasScanned) {
            let expiresAt = clock.now.advanced(
                byMilliseconds: Self.lifetimeMilliseconds(everySeconds: settings.everySeconds, took: took))
            try await registry.putSource(name, result.document(expiresAt: expiresAt))
        }
        return result.nodes.compactMap(\.problem).map { "\($0)" }
    }
}
