import HotKeyMitigation
import HotKeyRegistry
import HotKeyRules
import RedisProxy

extension ProxyTopology {
    /// Throws ``AgentError/Code/unusableTopology`` with what is wrong and what to do.
    init(registry document: TopologyDocument) throws {
        if document.kind == .cluster {
            self.init(clusterSeeds: try document.nodes.map { try ProxyNode(registry: $0) })
            return
        }
        let nodes = try document.nodes.map { try ProxyNode(registry: $0) }
        do {
            self.init(nodes: nodes, placement: try Placement(registry: document))
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
