import HotKeyMitigation
import HotKeyPeer
import RESP

/// The answer to `CLUSTER SLOTS`: ranges of slots, each with its master first.
enum ClusterReply {
    /// Each master once, in the order of the slots.
    static func masters(_ slots: [SlotRange]) -> [ScanNode] {
        var masters: [ScanNode] = []
        for range in slots where !masters.contains(range.master) { masters.append(range.master) }
        return masters
    }

    static func slots(_ reply: RESPValue, askedAt seed: ScanNode) throws(ScanProblem) -> [SlotRange] {
        func malformed() -> ScanProblem {
            ScanProblem(
                .malformedReply,
                "\(seed.name) (\(seed.address)) answers CLUSTER SLOTS with something else than Redis does",
                remedy: "See that the topology's nodes are those of a Redis Cluster.")
        }
        guard case .array(let ranges) = reply else { throw malformed() }
        guard ranges.count <= ClusterSlot.count else { throw malformed() }
        var slots: [SlotRange] = []
        var known: Set<ScanNode> = []
        for range in ranges {
            guard case .array(let parts) = range, parts.count >= 3, case .integer(let first) = parts[0],
                case .integer(let last) = parts[1], first >= 0, first <= last, last < ClusterSlot.count,
                case .array(let master) = parts[2], master.count >= 2, case .integer(let number) = master[1],
                let port = UInt16(exactly: number), port > 0
            else { throw malformed() }
            // A node that does not know its own name leaves it to whoever has reached it.
            var host = master[0].string ?? ""
            if host.isEmpty, case .tcp(let dialled, _) = seed.address { host = dialled }
            let node = ScanNode(
                name: host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)",
                address: .tcp(host: host, port: Int(port)))
            known.insert(node)
            guard known.count <= ScanLimits.clusterNodesMax else { throw malformed() }
            slots.append(SlotRange(slots: Int(first)...Int(last), master: node))
        }
        guard !slots.isEmpty else {
            throw ScanProblem(
                .malformedReply, "\(seed.name) (\(seed.address)) knows no slots: its cluster is not set up",
                remedy: "See 'redis-cli --cluster check'.")
        }
        return slots
    }
}

/// Neighbouring slots of a Redis Cluster that one master has.
public struct SlotRange: Sendable, Hashable {
    public var slots: ClosedRange<Int>
    public var master: ScanNode
}
