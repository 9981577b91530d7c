public import HotKeyMitigation

/// What came over the connections on which cache nodes tell the agent that hot keys have changed.
public struct TrackingStatistics: Sendable {
    /// Nodes that track for the agent now.
    public var connections = 0
    /// Messages of nodes, each of one or more keys.
    public var invalidations: UInt64 = 0
    public var flushes: [TrackingFlush: UInt64] = [:]
    /// Reads for the local cache that went over such a connection, and those that did not.
    public var fillsTracked: UInt64 = 0
    public var fillsUntracked: UInt64 = 0

    public init() {}

    static func += (total: inout TrackingStatistics, part: TrackingStatistics) {
        total.connections += part.connections
        total.invalidations += part.invalidations
        total.flushes.merge(part.flushes, uniquingKeysWith: +)
        total.fillsTracked += part.fillsTracked
        total.fillsUntracked += part.fillsUntracked
    }
}

extension NodeStatistics {
    /// Whether the node tells the agent of changes.
    public enum Tracking: Sendable, Hashable {
        /// Nobody has asked for it, or its connection is being made.
        case off
        case on
        /// The node's own words.
        case refused(String)
    }
}
