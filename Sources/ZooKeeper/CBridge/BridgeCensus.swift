import NIOConcurrencyHelpers

/// What of the bridge is alive in this process: the library's memory cannot be counted from Swift, what we lent it can.
/// All are zero when every client is closed and dropped; a call that stays is a +1 that nobody took back.
struct BridgeCensus: Sendable, Hashable {
    var drivers = 0
    var sessions = 0
    var handles = 0
    var calls = 0

    private static let current = NIOLockedValueBox(BridgeCensus())
    private static let lost = NIOLockedValueBox(0)

    static var now: BridgeCensus { current.withLockedValue { $0 } }
    /// Replies that the library never gave (P1), since the process began: what it allocated for them is never freed.
    static var lostReplies: Int { lost.withLockedValue { $0 } }

    static func count(_ change: (inout BridgeCensus) -> Void) {
        current.withLockedValue { change(&$0) }
    }

    static func countLostReply() {
        lost.withLockedValue { $0 += 1 }
    }
}
