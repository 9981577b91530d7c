/// How busy one node looks from here: a moving average of its latency, and the requests that are out.
public struct NodeLoad: Sendable {
    /// Requests sent and not yet ended.
    public private(set) var inFlight = 0
    /// The moving average of latency in nanoseconds; each sample weighs one eighth.
    public private(set) var latencyNanoseconds = HotKeyMitigationLimits.loadFloorNanoseconds
    private var endedSinceRelax = false

    public init() {}

    public mutating func sent() {
        inFlight += 1
    }

    public mutating func completed(latencyNanoseconds sample: UInt64) {
        end()
        let bounded = min(Double(sample), HotKeyMitigationLimits.loadCeilingNanoseconds)
        latencyNanoseconds += (bounded - latencyNanoseconds) / 8
    }

    /// A request failed. A node that fails at once must not look like a fast one, so a failure doubles the average.
    public mutating func failed() {
        end()
        latencyNanoseconds = min(
            max(latencyNanoseconds, HotKeyMitigationLimits.loadFloorNanoseconds) * 2,
            HotKeyMitigationLimits.loadCeilingNanoseconds)
    }

    /// A request was sent but its end says nothing more about the node: another on the same connection has said it.
    public mutating func cancelled() {
        end()
    }

    /// To be called about ten times a second. A node whose average rose is chosen no more, so no sample could bring the
    /// average down again; here it falls by three tenths whenever nothing ended since the last call.
    public mutating func relax() {
        if !endedSinceRelax {
            latencyNanoseconds = max(latencyNanoseconds * 0.7, HotKeyMitigationLimits.loadFloorNanoseconds)
        }
        endedSinceRelax = false
    }

    /// What choosing this node costs: lower is better.
    public var score: Double { latencyNanoseconds * Double(inFlight + 1) }

    private mutating func end() {
        precondition(inFlight > 0, "a request of this node ended that was never counted as sent")
        inFlight -= 1
        endedSinceRelax = true
    }
}
