/// What the cache nodes can carry, as far as it was measured, and which of them owns a key.
public struct NodeCapacities: Sendable {
    public struct Node: Sendable, Hashable {
        public var name: String
        /// Accesses a second; nil while it is not known.
        public var accessesPerSecond: Double?

        public init(name: String, accessesPerSecond: Double?) {
            self.name = name
            self.accessesPerSecond = accessesPerSecond
        }
    }

    public let nodes: [Node]
    private let home: @Sendable (UnsafeRawBufferPointer) -> Int?

    /// - Parameter home: the number in `nodes` of the node that owns a key; nil where that is not known.
    public init(nodes: [Node], home: @escaping @Sendable (UnsafeRawBufferPointer) -> Int?) {
        self.nodes = nodes
        self.home = home
    }

    public static let unknown = NodeCapacities(nodes: []) { _ in nil }

    public func home(of key: UnsafeRawBufferPointer) -> Node? {
        guard let number = home(key), nodes.indices.contains(number) else { return nil }
        return nodes[number]
    }

    /// The lowest capacity that is known of any node.
    var least: Double? { nodes.compactMap(\.accessesPerSecond).min() }
}

/// From how many accesses a second on a key is hot, and why just there.
public struct ThresholdInForce: Sendable, Hashable {
    public enum Origin: String, Sendable, Hashable {
        /// The rule's `thresholdPerSecond`.
        case rule
        /// The rule's share of what the key's node can carry.
        case share
        /// The rule's `thresholdFloorPerSecond`: the share is less.
        case floor
    }
    public var accessesPerSecond: Int
    public var origin: Origin
    /// The key's home, where it is known and the rule has a share.
    public var node: NodeCapacities.Node?

    /// The lower one of the rule's two thresholds; its floor bounds the one that was measured. Without a measure the rule's own holds.
    public init(_ rule: DetectionRule, home: NodeCapacities.Node?) {
        accessesPerSecond = rule.thresholdPerSecond
        origin = .rule
        guard rule.thresholdShareOfNode > 0 else { return }
        node = home
        guard let capacity = home?.accessesPerSecond else { return }
        let share = min(rule.thresholdShareOfNode * capacity, Double(rule.thresholdPerSecond)).rounded(.up)
        guard Int(share) < rule.thresholdPerSecond else { return }
        let isUnderFloor = Int(share) < rule.thresholdFloorPerSecond
        accessesPerSecond = isUnderFloor ? rule.thresholdFloorPerSecond : Int(share)
        origin = isUnderFloor ? .floor : .share
    }
}

extension DetectionRule {
    /// The rule with the threshold that is in force for a key.
    @inline(__always)
    func inForce(for key: UnsafeRawBufferPointer, _ capacities: NodeCapacities) -> DetectionRule {
        guard thresholdShareOfNode > 0 else { return self }
        var rule = self
        rule.thresholdPerSecond = ThresholdInForce(self, home: capacities.home(of: key)).accessesPerSecond
        return rule
    }
}
