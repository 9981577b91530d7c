import HotKeyDetection
import HotKeyMitigation
import HotKeyRegistry
import HotKeyRules
import HotKeyScan
import Logging
import NIOCore

/// While this agent coordinates and a rule has a threshold that is a share of a node: asks the cache nodes for their work every few
/// seconds, and tells what each can carry.
struct CapacityWatch: Sendable {
    private struct Asked {
        var nodes: [ScanNode?]
        var names: [String]
        var home: @Sendable (UnsafeRawBufferPointer) -> Int?
    }

    private let scan: ScheduledScan
    private let logger: Logger

    /// - Parameter scan: for how nodes are reached and which there are.
    init(_ scan: ScheduledScan, logger: Logger) {
        self.scan = scan
        self.logger = logger
    }

    /// Until cancelled.
    /// - Parameter onChange: called with what is known now whenever that, or where keys live, has changed.
    func run(isNeeded: () -> Bool, onChange: (NodeCapacities) async -> Void) async throws {
        var meters: [ScanNode: CapacityMeter] = [:]
        var known = NodeCapacities.unknown
        var topology: TopologyDocument?
        var told: Set<String> = []
        while true {
            try await Task.sleep(for: .milliseconds(AgentLimits.capacityReadingMilliseconds))
            let registry = scan.subscriber.current
            guard isNeeded(), registry.mode != .off, !registry.isDetectionExternal, let document = registry.topology
            else {
                meters = [:]
                topology = nil
                if !known.nodes.isEmpty {
                    known = .unknown
                    await onChange(known)
                }
                continue
            }
            let asked: Asked
            var problems: Set<String> = []
            do {
                asked = try await nodes(of: document)
            } catch is CancellationError {
                throw CancellationError()
            } catch {
                report(["\(error)"], since: &told)
                continue
            }
            let present = asked.nodes.compactMap { $0 }
            let answers = try await scan.scanner().work(of: present)
            let now = NIODeadline.now().uptimeNanoseconds
            meters = meters.filter { present.contains($0.key) }
            for (node, answer) in zip(present, answers) {
                switch answer {
                case .success(let work):
                    meters[node, default: CapacityMeter()].add(
                        NodeReading(
                            runID: work.runID, commandsProcessed: work.commandsProcessed,
                            busySeconds: work.busySeconds, nanoseconds: now))
                // What was measured holds: a node that does not answer now carries no less when it does.
                case .failure(let problem): problems.insert("\(problem)")
                }
            }
            report(problems, since: &told)
            let capacities = NodeCapacities(
                nodes: zip(asked.names, asked.nodes).map { name, node in
                    .init(name: name, accessesPerSecond: node.flatMap { meters[$0]?.commandsPerSecond })
                }, home: asked.home)
            // Before a Redis Cluster slots move without a change of the document.
            guard capacities.nodes != known.nodes || topology != document || document.kind == .cluster else { continue }
            known = capacities
            topology = document
            await onChange(capacities)
        }
    }

    private func nodes(of document: TopologyDocument) async throws -> Asked {
        guard document.kind == .cluster else {
            let placement = try Placement(registry: document)
            return Asked(nodes: document.nodes.map { ScanNode($0) }, names: document.nodes.map(\.name)) {
                placement.home($0)
            }
        }
        let ranges = try await scan.scanner().clusterSlots(document.nodes.compactMap { ScanNode($0) })
        var masters: [ScanNode] = []
        var owners = [UInt16](repeating: .max, count: ClusterSlot.count)
        for range in ranges {
            if !masters.contains(range.master) { masters.append(range.master) }
            let number = UInt16(masters.firstIndex(of: range.master) ?? 0)
            for slot in range.slots { owners[slot] = number }
        }
        return Asked(nodes: masters, names: masters.map(\.name)) { [owners] key in
            let owner = owners[ClusterSlot.of(key)]
            return owner == .max ? nil : Int(owner)
        }
    }

    /// Said when it is something else than the last time, not at every reading.
    private func report(_ problems: Set<String>, since told: inout Set<String>) {
        for problem in problems.subtracting(told) {
            logger.warning(
                "a cache node does not tell its work: for its keys what was measured before holds, or absolute thresholds alone",
                metadata: ["reason": "\(problem)"])
        }
        told = problems
    }
}

extension NodeCapacities {
    /// Of each node that was measured.
    var known: [(label: String, value: UInt64)] {
        nodes.compactMap { node in node.accessesPerSecond.map { (node.name, UInt64($0)) } }
    }
}
