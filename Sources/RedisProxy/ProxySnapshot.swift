public import HotKeyMitigation

/// Everything the data path acts on, as one immutable value. Handed to ``ProxyServer/apply(_:since:)``.
public struct ProxySnapshot: Sendable {
    public enum Mode: Sendable, Hashable {
        /// A plain proxy: nothing is counted, cached or copied.
        case off
        /// Keys are counted; nothing is served otherwise than by their home.
        case observe
        case mitigate
    }
    public var mode: Mode
    public var topology: ProxyTopology
    /// The hot keys to act on, built with ``ProxyConfiguration/hashSeed``.
    public var table: HotKeyTable

    public init(mode: Mode, topology: ProxyTopology, table: HotKeyTable) {
        self.mode = mode
        self.topology = topology
        self.table = table
    }

    /// What is served: nothing unless the mode is `mitigate`.
    var servedTable: HotKeyTable { mode == .mitigate ? table : .empty }
}

/// The cache nodes and where keys live among them.
public struct ProxyTopology: Sendable {
    /// Of a Redis Cluster: where to ask for its slots.
    public var nodes: [ProxyNode]
    /// nil for a Redis Cluster, which places keys itself.
    public var placement: Placement?

    /// `placement` must have been made of as many nodes, in the same order.
    public init(nodes: [ProxyNode], placement: Placement) {
        precondition(!nodes.isEmpty, "a topology has at least one node")
        self.nodes = nodes
        self.placement = placement
    }

    /// A Redis Cluster. Its nodes are found by asking `seeds`, one after the other.
    public init(clusterSeeds seeds: [ProxyNode]) {
        precondition(!seeds.isEmpty, "a topology has at least one node")
        nodes = seeds
        placement = nil
    }
}

public struct ProxyNode: Sendable, Hashable {
    /// For people: error texts, metrics, `HK.ROUTE`.
    public var name: String
    public var host: String
    public var port: Int

    public init(name: String, host: String, port: Int) {
        self.name = name
        self.host = host
        self.port = port
    }

    public var address: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
