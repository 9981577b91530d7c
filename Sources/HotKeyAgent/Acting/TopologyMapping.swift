import HotKeyMitigation
import HotKeyRegistry
import RedisProxy

extension ProxyTopology {
    /// Throws ``AgentError/Code/unusableTopology`` with what is wrong and what to do.
    init(registry document: TopologyDocument) throws {
        if document.kind == .cluster {
            self.init(clusterSeeds: try document.nodes.map { try ProxyNode(registry: $0) })
            return
        }
        guard let hash = KeyHash(rawValue: document.hash.rawValue),
            let distribution = Distribution(rawValue: document.distribution.rawValue)
        else {
            throw AgentError(
                .unusableTopology,
                "the topology's hash '\(document.hash.rawValue)' or distribution '\(document.distribution.rawValue)' is "
                    + "not known to this version")
        }
        var nodes: [ProxyNode] = []
        var places: [PlacementNode] = []
        for node in document.nodes {
            let proxied = try ProxyNode(registry: node)
            nodes.append(proxied)
            let ringName = node.ringName ?? PlacementNode.defaultRingName(host: proxied.host, port: proxied.port)
            places.append(PlacementNode(ringName: ringName, weight: node.weight))
        }
        do {
            let tag = Array(document.hashTag.utf8)
            let placement = try Placement(
                nodes: places, hash: hash, distribution: distribution,
                hashTag: tag.count == 2 ? (tag[0], tag[1]) : nil)
            self.init(nodes: nodes, placement: placement)
        } catch {
            throw AgentError(.unusableTopology, "the topology cannot be used: \(error)")
        }
    }
}

extension ProxyNode {
    fileprivate init(registry node: TopologyDocument.Node) throws {
        guard let address = HostPort(node.address) else {
            throw AgentError(
                .unusableTopology, "topology node '\(node.name)': '\(node.address)' is not an address HOST:PORT")
        }
        self.init(name: node.name, host: address.host, port: address.port)
    }
}
