public import HotKeyPeer

/// A cache node to scan.
public struct ScanNode: Sendable, Hashable {
    public var name: String
    public var address: PeerAddress

    public init(name: String, address: PeerAddress) {
        self.name = name
        self.address = address
    }
}

/// How far the scan of one node has come.
public struct ScanProgress: Sendable, Hashable {
    public var node: String
    public var keysScanned: Int
    /// As the node said at the beginning.
    public var keysTotal: Int
}

/// Why a node's keys are not known, or not all.
public struct ScanProblem: Error, Sendable, Hashable, CustomStringConvertible {
    public enum Code: String, Sendable, Hashable {
        /// No connection, no answer in time, or the connection ended.
        case unreachable
        /// The node does not let this client in, or not do what a scan needs.
        case refused
        /// The node keeps no access counters.
        case notLFU
        /// What it answers is not understood.
        case malformedReply
    }
    public var code: Code
    /// What happened and what it means.
    public var message: String
    /// What to do.
    public var remedy: String

    public init(_ code: Code, _ message: String, remedy: String) {
        self.code = code
        self.message = message
        self.remedy = remedy
    }

    public var description: String { "\(message). \(remedy)" }
}

/// What came of one node's scan.
public struct NodeScan: Sendable, Hashable {
    public var node: ScanNode
    /// Its `maxmemory-policy`; nil when it could not be asked.
    public var policy: String?
    /// Nil when the node does not tell them: then there are counters and no rates.
    public var settings: LFUSettings?
    public var keysScanned = 0
    /// Nil: every key of the node's database 0 was looked at.
    public var problem: ScanProblem?

    public init(node: ScanNode) { self.node = node }

    /// Whether its keys are known, all or those that were looked at before it broke off.
    public var wasScanned: Bool { problem == nil || keysScanned > 0 }
}

public struct ScannedKey: Sendable, Hashable {
    public var key: [UInt8]
    public var node: String
    /// 0 to 255.
    public var counter: Int
    public var estimate: LFUEstimate?
}

public struct ScanResult: Sendable {
    /// In the order in which they were given.
    public var nodes: [NodeScan]
    /// The hottest first. Those of which only the counter is known stand where it would put them with Redis's default settings.
    public var keys: [ScannedKey]

    public init(nodes: [NodeScan], keys: [ScannedKey]) {
        self.nodes = nodes
        self.keys = keys
    }
}
