/// Whether and when a command that a Redis Cluster has not carried out is sent again.
///
/// A write goes out again only when it is sure that it was not carried out; a read also when nobody knows. All of it ends with the
/// time that a request has (``ProxyConfiguration/requestTimeoutMilliseconds``).
enum ResendDecision: Hashable {
    case resend(afterNanoseconds: UInt64)
    case giveUp

    enum Refusal: Hashable {
        /// `MOVED` or `ASK`: it is known where to go.
        case elsewhere
        /// `MOVED` or `ASK` to somebody whom the slots that are known do not name.
        case elsewhereUnknown
        case tryAgain
        case clusterDown
        /// The node could not be connected to, or its breaker is open.
        case notSent
        /// Sent, and its reply lost.
        case lost
        case other
    }

    /// - Parameters:
    ///   - resends: how often it has been sent again already.
    ///   - elapsed, budget: nanoseconds since it was sent first, and how long it may take.
    init(_ refusal: Refusal, isRead: Bool, resends: Int, elapsed: UInt64, budget: UInt64) {
        let isPossible =
            switch refusal {
            case .elsewhere, .elsewhereUnknown, .tryAgain, .clusterDown, .notSent: true
            case .lost: isRead
            case .other: false
            }
        guard isPossible, resends < RedisProxyLimits.resendsMax else {
            self = .giveUp
            return
        }
        // Two nodes that each take the other for the owner: a few turns are a failover seen from two sides.
        let isDirect = refusal == .elsewhere && resends < RedisProxyLimits.directRedirectsMax
        let pause =
            isDirect
            ? 0
            : min(
                RedisProxyLimits.resendPauseNanoseconds << UInt64(min(resends, 16)),
                RedisProxyLimits.resendPauseNanosecondsMax)
        self = elapsed + pause < budget ? .resend(afterNanoseconds: pause) : .giveUp
    }
}
