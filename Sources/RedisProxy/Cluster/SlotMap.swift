import HotKeyMitigation
import RESP

/// Which primary serves which slot, as one node of a Redis Cluster tells it.
struct SlotMap: Sendable, Hashable {
    static let nobody = UInt16.max

    private(set) var primaries: [ClusterAddress] = []
    /// By slot: a place in ``primaries``, or ``nobody``.
    private(set) var owners = [UInt16](repeating: nobody, count: ClusterSlot.count)
    /// By the primary, the replicas of its slots.
    private(set) var replicas: [ClusterAddress: [ClusterAddress]] = [:]
    /// Everyone who belongs to the cluster, primaries included, by every name that it goes by: who else may be asked for the slots,
    /// and whom a redirection may name.
    private(set) var members: Set<ClusterAddress> = []

    func owner(_ slot: Int) -> ClusterAddress? {
        owners[slot] == Self.nobody ? nil : primaries[Int(owners[slot])]
    }

    struct Malformed: Error, CustomStringConvertible {
        var description: String
    }

    /// - Parameters:
    ///   - slots: the reply to `CLUSTER SLOTS`: for each range its first and last slot, the primary and its replicas.
    ///   - nodes: the reply to `CLUSTER NODES`, for members without slots. A node that does not give it has those of `slots`.
    ///   - asked: the host that was asked: a node that does not know its own address gives none, or an empty one.
    init(slots: RESPValue, nodes: RESPValue, asked: String) throws(Malformed) {
        guard case .array(let ranges) = slots, ranges.count <= ClusterSlot.count else {
            throw Malformed(description: "CLUSTER SLOTS gave no list of ranges")
        }
        var places: [ClusterAddress: UInt16] = [:]
        for range in ranges {
            guard case .array(let parts) = range, parts.count >= 3, parts.count <= RedisProxyLimits.clusterNodesMax + 2,
                case .integer(let first) = parts[0], case .integer(let last) = parts[1],
                0 <= first, first <= last, last < Int64(ClusterSlot.count)
            else { throw Malformed(description: "CLUSTER SLOTS gave a range that is none") }
            let replicas = parts.dropFirst(3).compactMap { Self.address($0, asked) }
            for replica in replicas { try insert(replica) }
            // One that nobody can connect to serves nobody: its slots are asked for again.
            guard let primary = Self.address(parts[2], asked) else { continue }
            try insert(primary)
            let place = places[primary] ?? UInt16(primaries.count)
            if places.updateValue(place, forKey: primary) == nil { primaries.append(primary) }
            for slot in Int(first)...Int(last) { owners[slot] = place }
            self.replicas[primary] = replicas
        }
        guard !primaries.isEmpty else {
            throw Malformed(description: "CLUSTER SLOTS names no node that serves a slot")
        }
        if let text = nodes.string { for address in Self.addresses(nodes: text) { try insert(address) } }
    }

    private mutating func insert(_ address: ClusterAddress) throws(Malformed) {
        members.insert(address)
        guard members.count <= RedisProxyLimits.clusterNodesMax else {
            throw Malformed(description: "the cluster has more than \(RedisProxyLimits.clusterNodesMax) addresses")
        }
    }

    /// `[host, port, id, …]`; the host is null where it is the one that was asked.
    private static func address(_ value: RESPValue, _ asked: String) -> ClusterAddress? {
        guard case .array(let parts) = value, parts.count >= 2, case .integer(let port) = parts[1] else { return nil }
        let host = parts[0].string ?? ""
        return ClusterAddress(host: host.isEmpty ? asked : host, port: port)
    }

    /// `id ip:port@busport[,hostname] flags …`, a line for each node.
    private static func addresses(nodes text: String) -> [ClusterAddress] {
        var found: [ClusterAddress] = []
        for line in text.split(separator: "\n").prefix(RedisProxyLimits.clusterNodesMax) {
            let words = line.split(separator: " ", maxSplits: 3)
            guard words.count == 4, !words[2].contains("noaddr"), !words[2].contains("handshake") else { continue }
            let names = words[1].split(separator: ",", omittingEmptySubsequences: false)
            let address = names[0].prefix { $0 != "@" }
            guard let colon = address.lastIndex(of: ":"), let port = Int64(address[address.index(after: colon)...])
            else { continue }
            for host in [address[..<colon]] + names.dropFirst().prefix(1) {
                if let known = ClusterAddress(host: String(host), port: port) { found.append(known) }
            }
        }
        return found
    }
}
