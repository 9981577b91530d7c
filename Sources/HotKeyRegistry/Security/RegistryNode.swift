/// What a znode is in the schema.
public enum RegistryNode: Sendable, Hashable {
    case root, app
    case access, control, rules, pins, topology
    case hot
    case bucket(Int)
    case sources, source
    case leader, candidate
    case agents, agent

    /// The most bytes it may hold; nil for those whose data means nothing.
    public var bytesMax: Int? {
        switch self {
        case .root, .sources, .leader, .agents: nil
        case .app: AppDocument.bytesMax
        case .access: RegistryAccess.bytesMax
        case .control: ControlDocument.bytesMax
        case .rules: RulesDocument.bytesMax
        case .pins: PinsDocument.bytesMax
        case .topology: TopologyDocument.bytesMax
        case .hot: HotHead.bytesMax
        case .bucket: HotBucket.bytesMax
        case .source: SourceDocument.bytesMax
        case .candidate: LeaderDocument.bytesMax
        case .agent: AgentDocument.bytesMax
        }
    }

    /// Whether the session of whoever made it holds it; nil where both are fine.
    public var isEphemeral: Bool? {
        switch self {
        case .candidate, .agent: true
        case .source: nil
        default: false
        }
    }

    /// Nodes whose children stand in the schema too.
    static let directories: [RegistryNode] = [.hot, .sources, .leader, .agents]

    private static let buckets: [String: RegistryNode] = Dictionary(
        uniqueKeysWithValues: (0..<RegistryLimits.bucketCount).map {
            (RegistryPaths.bucketName($0), .bucket($0))
        })

    /// What a child of this directory is; nil for a name that the schema does not know.
    func child(named name: String) -> RegistryNode? {
        switch self {
        case .hot:
            return Self.buckets[name]
        case .sources: return (try? AgentID(name)) == nil ? nil : .source
        case .leader: return ElectionQueue.isCandidate(name) ? .candidate : nil
        case .agents: return (try? AgentID(name)) == nil ? nil : .agent
        default: return nil
        }
    }
}

extension RegistryPaths {
    /// Where a node of which there is one stands.
    func path(of node: RegistryNode) -> String? {
        switch node {
        case .root: root
        case .app: appNode
        case .access: access
        case .control: control
        case .rules: rules
        case .pins: pins
        case .topology: topology
        case .hot: hot
        case .bucket(let index): bucket(index)
        case .sources: sources
        case .leader: leader
        case .agents: agents
        case .source, .candidate, .agent: nil
        }
    }

    /// What the node at `path` is, nil for one that the schema does not know.
    func node(at path: String) -> RegistryNode? {
        let single = [.root, .app] + Self.appChildren
        if let node = single.first(where: { self.path(of: $0) == path }) { return node }
        for directory in RegistryNode.directories {
            guard let above = self.path(of: directory), path.hasPrefix(above + "/") else { continue }
            return directory.child(named: String(path.dropFirst(above.count + 1)))
        }
        return nil
    }

    /// The children of the app's node that the schema knows.
    static let appChildren: [RegistryNode] = [
        .access, .control, .rules, .pins, .topology, .hot, .sources, .leader, .agents,
    ]
}
