import HotKeyPeer
import RESP

/// What a node has done since its start, by its own word (`INFO`).
public struct NodeWork: Sendable, Hashable {
    /// Drawn anew at each start.
    public var runID: String
    public var commandsProcessed: UInt64
    /// Processor time of its main thread, which carries commands out.
    public var busySeconds: Double

    /// Nil where something is missing: Redis before 6.2 does not tell its main thread's time apart.
    init?(info: String) {
        var fields: [Substring: Substring] = [:]
        for line in info.split(whereSeparator: \.isNewline) {
            guard let colon = line.firstIndex(of: ":") else { continue }
            fields[line[..<colon]] = line[line.index(after: colon)...]
        }
        guard let runID = fields["run_id"], let commands = fields["total_commands_processed"].flatMap({ UInt64($0) }),
            let system = fields["used_cpu_sys_main_thread"].flatMap({ Double($0) }),
            let user = fields["used_cpu_user_main_thread"].flatMap({ Double($0) }), system >= 0, user >= 0
        else { return nil }
        self.runID = String(runID.prefix(ScanLimits.quotedBytesMax))
        commandsProcessed = commands
        busySeconds = system + user
    }
}

extension KeyspaceScan {
    /// Asks each node for its work. The answers stand in the order of the nodes. Throws only when cancelled.
    public func work(of nodes: [ScanNode]) async throws -> [Result<NodeWork, ScanProblem>] {
        try await withThrowingTaskGroup(of: (Int, Result<NodeWork, ScanProblem>).self) { group in
            var results: [Int: Result<NodeWork, ScanProblem>] = [:]
            for (index, node) in nodes.enumerated() {
                if index >= ScanLimits.nodesAtOnceMax, let (done, result) = try await group.next() {
                    results[done] = result
                }
                group.addTask {
                    do {
                        return (index, .success(try await work(of: node)))
                    } catch let problem as ScanProblem {
                        return (index, .failure(problem))
                    }
                }
            }
            for try await (index, result) in group { results[index] = result }
            return nodes.indices.compactMap { results[$0] }
        }
    }

    private func work(of node: ScanNode) async throws -> NodeWork {
        try await withConnection(to: node) { client in
            let info = try await ask(client, node, "INFO", "everything").string ?? ""
            guard let work = NodeWork(info: info) else {
                throw ScanProblem(
                    .malformedReply,
                    "\(node.name) (\(node.address)) does not tell in INFO how long its main thread was busy",
                    remedy: "Redis does from 6.2 on. Until then absolute thresholds hold for its keys.")
            }
            return work
        }
    }
}
