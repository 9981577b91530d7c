import HotKeyPeer
import RESP

/// The answer to `CLUSTER SLOTS`: ranges of slots, each with its master first.
enum ClusterReply {
    /// Each master once, in the order of the slots.
    static func masters(_ reply: RESPValue, askedAt seed: ScanNode) throws(ScanProblem) -> [ScanNode] {
        func malformed() -> ScanProblem {
            ScanProblem(
                .malformedReply,
                "\(seed.name) (\(seed.address)) answers CLUSTER SLOTS with something else than Redis does",
                remedy: "See that the topology's nodes are those of a Redis Cluster.")
        }
        guard case .array(let ranges) = reply else { throw malformed() }
        var masters: [ScanNode] = []
        for range in ranges {
            guard case .array(let parts) = range, parts.count >= 3, case .array(let master) = parts[2],
                master.count >= 2, case .integer(let number) = master[1], let port = UInt16(exactly: number), port > 0
            else { throw malformed() }
            // A node that does not know its own name leaves it to whoever has reached it.
            var host = master[0].string ?? ""
            if host.isEmpty, case .tcp(let dialled, _) = seed.address { host = dialled }
            let node = ScanNode(
                name: host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)",
                address: .tcp(host: host, port: Int(port)))
            guard !masters.contains(node) else { continue }
            guard masters.count < ScanLimits.clusterNodesMax else { throw malformed() }
            masters.append(node)
        }
        guard !masters.isEmpty else {
            throw ScanProblem(
                .malformedReply, "\(seed.name) (\(seed.address)) knows no slots: its cluster is not set up",
                remedy: "See 'redis-cli --cluster check'.")
        }
        return masters
    }
}
