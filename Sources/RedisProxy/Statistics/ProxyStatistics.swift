public import HotKeyMitigation

/// What the data path has done since it started, added up over its event loops.
public struct ProxyStatistics: Sendable {
    /// Commands of clients on the app listener.
    public var requests: UInt64 = 0
    public var protocolErrors: UInt64 = 0
    /// Reads of hot keys answered from the local cache.
    public var localHits: UInt64 = 0
    /// Of these, answers that there is no value.
    public var localMissingHits: UInt64 = 0
    /// Reads of hot keys that waited for another's fill instead of going to a node.
    public var fillWaits: UInt64 = 0
    /// Reads of hot keys that went to their home.
    public var hotHomeReads: UInt64 = 0
    /// Reads of hot keys answered by a copy.
    public var copyReads: UInt64 = 0
    /// Reads of hot keys answered by a replica of a Redis Cluster.
    public var replicaReads: UInt64 = 0
    /// Reads that found no value in the copy they chose.
    public var copyMisses: UInt64 = 0
    public var copyFills: UInt64 = 0
    /// Copies that were there and have been deleted.
    public var copiesRemoved: UInt64 = 0
    /// Reads answered with the last known value because the home could not be reached.
    public var staleAnswers: UInt64 = 0
    /// While the fleet only observes: reads of hot keys, and how many of them acting would have kept from their home, by what
    /// (``ObservedMitigation``).
    public var observedHotReads: UInt64 = 0
    public var observedLocalSavings: UInt64 = 0
    public var observedCopySavings: UInt64 = 0
    /// Reads of hot keys whose value was gone that were held until there was one, their turn came or their time was over; those whose turn
    /// came, at once or later, and that were told; and those let go without one, to be told what they found.
    public var missesHeld: UInt64 = 0
    public var missTurns: UInt64 = 0
    public var missesLetGo: UInt64 = 0
    /// While the fleet only observes: reads that acting would have held.
    public var observedMissesHeld: UInt64 = 0
    /// Writes that invalidated local values and copies.
    public var hotWrites: UInt64 = 0
    public var tombstoneFailures: UInt64 = 0
    /// Commands refused without being sent because a breaker was open.
    public var breakerRejections: UInt64 = 0
    /// Commands sent again because a Redis Cluster had not carried them out: redirected, or while another node took over.
    public var clusterResends: UInt64 = 0
    /// Passwords that were not accepted, on all listeners.
    public var authenticationFailures: UInt64 = 0
    /// Commands refused because the configuration denies them.
    public var commandsDenied: UInt64 = 0
    public var clientsConnected: Int = 0
    public var clientsAccepted: UInt64 = 0
    public var clientsRefused: UInt64 = 0
    public var cacheBytes: Int = 0
    public var cacheEntries: Int = 0
    public var tracking = TrackingStatistics()
    /// Local hits compared with their homes.
    public var staleness = ObservedStaleness()
    /// By the order of the topology.
    public var nodes: [NodeStatistics] = []

    public init() {}

    static func += (total: inout ProxyStatistics, part: ProxyStatistics) {
        total.requests += part.requests
        total.protocolErrors += part.protocolErrors
        total.localHits += part.localHits
        total.localMissingHits += part.localMissingHits
        total.fillWaits += part.fillWaits
        total.hotHomeReads += part.hotHomeReads
        total.copyReads += part.copyReads
        total.replicaReads += part.replicaReads
        total.copyMisses += part.copyMisses
        total.copyFills += part.copyFills
        total.copiesRemoved += part.copiesRemoved
        total.staleAnswers += part.staleAnswers
        total.observedHotReads += part.observedHotReads
        total.observedLocalSavings += part.observedLocalSavings
        total.observedCopySavings += part.observedCopySavings
        total.missesHeld += part.missesHeld
        total.missTurns += part.missTurns
        total.missesLetGo += part.missesLetGo
        total.observedMissesHeld += part.observedMissesHeld
        total.hotWrites += part.hotWrites
        total.tombstoneFailures += part.tombstoneFailures
        total.breakerRejections += part.breakerRejections
        total.clusterResends += part.clusterResends
        total.authenticationFailures += part.authenticationFailures
        total.commandsDenied += part.commandsDenied
        total.clientsConnected += part.clientsConnected
        total.clientsAccepted += part.clientsAccepted
        total.clientsRefused += part.clientsRefused
        total.cacheBytes += part.cacheBytes
        total.cacheEntries += part.cacheEntries
        total.tracking += part.tracking
        total.staleness += part.staleness
        for node in part.nodes {
            if let index = total.nodes.firstIndex(where: { $0.node == node.node }) {
                total.nodes[index] += node
            } else {
                total.nodes.append(node)
            }
        }
    }
}

public struct NodeStatistics: Sendable {
    public enum Breaker: Int, Sendable, Comparable {
        case closed, halfOpen, open
        public static func < (left: Breaker, right: Breaker) -> Bool { left.rawValue < right.rawValue }
    }
    public var node: ProxyNode
    public var requests: UInt64 = 0
    public var failures: UInt64 = 0
    public var timeouts: UInt64 = 0
    public var inFlight: Int = 0
    /// The worst of the event loops' breakers: each loop judges by what it sees itself.
    public var breaker: Breaker = .closed
    /// As the event loop knows it that owns the tracking connections.
    public var tracking: Tracking = .off
    /// From the command's leaving to its reply's arrival.
    public var latency = LatencyHistogram()

    public init(node: ProxyNode) {
        self.node = node
    }

    static func += (total: inout NodeStatistics, part: NodeStatistics) {
        total.requests += part.requests
        total.failures += part.failures
        total.timeouts += part.timeouts
        total.inFlight += part.inFlight
        total.breaker = max(total.breaker, part.breaker)
        if total.tracking == .off { total.tracking = part.tracking }
        total.latency += part.latency
    }
}

/// Durations counted in buckets that double from 16 µs to 8 s; the last one is open.
public struct LatencyHistogram: Sendable {
    public static let bucketCount = 21
    /// Upper bound of each bucket but the last.
    public static func upperBoundNanoseconds(_ bucket: Int) -> UInt64 { 16_384 << UInt64(bucket) }

    public private(set) var counts = [UInt64](repeating: 0, count: bucketCount)
    public private(set) var sumNanoseconds: UInt64 = 0
    public var count: UInt64 { counts.reduce(0, +) }

    public init() {}

    @inline(__always)
    mutating func record(nanoseconds: UInt64) {
        let bits = 64 - (nanoseconds >> 14).leadingZeroBitCount
        counts[min(bits, Self.bucketCount - 1)] += 1
        sumNanoseconds &+= nanoseconds
    }

    static func += (total: inout LatencyHistogram, part: LatencyHistogram) {
        for index in 0..<bucketCount { total.counts[index] += part.counts[index] }
        total.sumNanoseconds &+= part.sumNanoseconds
    }
}
