/// How many nodes may be given up at once for no more than being slow.
///
/// A node that fails is of no use to anybody. One that is slow still answers, and when many are slow at once the cause is elsewhere: the
/// network, this host, too much load for all of them. Giving them all up would turn slow into gone, and what is left would get their
/// load. (Envoy bounds its outlier ejection for the same reason: `max_ejection_percent`.)
public struct SlownessQuota: Sendable, Hashable {
    /// Of the nodes, from 0 to 1; one node at least.
    public var share: Double

    public static let `default` = SlownessQuota(share: 0.5)

    public init(share: Double) { self.share = share }

    /// Whether one more may be.
    ///
    /// - Parameters:
    ///   - open: nodes that have been given up for slowness and are not well again.
    ///   - nodes: all of them.
    public func allowsOneMore(open: Int, of nodes: Int) -> Bool {
        open < max(1, Int(share * Double(nodes)))
    }
}
