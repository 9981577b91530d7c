/// What a node is, read at one moment.
public enum NodeSnapshot: Sendable, Hashable {
    case missing
    case present(NodeValue)
}

/// What children a node has, read at one moment.
public enum ChildrenSnapshot: Sendable, Hashable {
    /// The node itself is missing.
    case missing
    case present(NodeChildren)
}
