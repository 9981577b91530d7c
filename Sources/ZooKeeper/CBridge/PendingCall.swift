internal import CZooKeeper
import NIOConcurrencyHelpers

/// What the library answered, copied out of its memory (P23).
enum CallReply: Sendable, Hashable {
    case failure(Int32)
    case done
    case stat(NodeStat)
    case data([UInt8], NodeStat)
    case names([String], NodeStat)
    case path(String)
    case accessControl([AccessControl], NodeStat)

    /// Whether a server, not the library, said this: proof of contact.
    var isServerAnswer: Bool {
        guard case .failure(let rc) = self else { return true }
        switch rc {
        case ZSESSIONEXPIRED.rawValue, ZCLOSING.rawValue, ZAUTHFAILED.rawValue: return false
        default: return rc < ZAPIERROR.rawValue
        }
    }
}

/// A call between `zoo_a…` and its completion: in the session's table, and owned with +1 by the library.
final class PendingCall: Sendable {
    let session: NativeSession
    let id: UInt64
    let sentAtMilliseconds: Int64
    let isProof: Bool
    let watchToken: UInt?
    let deliver: @Sendable (CallReply) -> Void
    private let armsOnMissing: Bool
    /// P24: the library writes into it until the completion; it lives as long as the call is registered, however long
    /// ago the caller's wait was abandoned (P32).
    private let arena: MultiArena?
    private let isConsumed = NIOLockedValueBox(false)

    init(
        session: NativeSession, id: UInt64, sentAtMilliseconds: Int64, isProof: Bool, watchToken: UInt?,
        armsOnMissing: Bool,
        arena: MultiArena?, deliver: @escaping @Sendable (CallReply) -> Void
    ) {
        self.session = session
        self.id = id
        self.sentAtMilliseconds = sentAtMilliseconds
        self.isProof = isProof
        self.watchToken = watchToken
        self.armsOnMissing = armsOnMissing
        self.arena = arena
        self.deliver = deliver
        BridgeCensus.count { $0.calls += 1 }
    }

    deinit {
        BridgeCensus.count { $0.calls -= 1 }
    }

    /// True for the first caller: completion and sweep each drop the library's +1, and only one of them may.
    func consume() -> Bool {
        isConsumed.withLockedValue { isConsumed in
            defer { isConsumed = true }
            return !isConsumed
        }
    }

    /// P11: whether the library armed the call's watch.
    func arms(_ reply: CallReply) -> Bool {
        switch reply {
        case .failure(ZNONODE.rawValue): armsOnMissing
        case .failure: false
        default: true
        }
    }
}
