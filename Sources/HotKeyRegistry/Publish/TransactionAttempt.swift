import ZooKeeper

/// One transaction of a publication on its way into the registry. Pure: told what became of a call, it says what to do next.
///
/// After a broken connection the transaction may have happened, may still happen, or never will:
///   1. it is sent, the connection breaks, the outcome is unknown
///   2. we read the head's node: still the expected version
///   3. we send it again
///   4. the first one arrives after all, and the second finds newer versions
/// Both carry the same expected versions, so that at most one takes effect; which of "ours" and "somebody else's" the
/// newer node is, is told by comparing its bytes with those that were sent.
struct TransactionAttempt: Sendable {
    enum Action: Sendable, Hashable {
        /// Send the transaction, the fence first, and tell ``sent(_:)``.
        case send
        /// Read the node, no older than now, and tell ``compared(_:)``.
        case compare(path: String)
        case done
        /// Not ours to write any more, or somebody else wrote: look at the election node to tell which.
        case refused(StoreError?)
        case failed(StoreError)
        case unknown(StoreError?)
    }

    private let last: StoreOperation?
    private var attempts = 0
    private var isUnknown = false
    private var lastError: StoreError?

    init(_ operations: [StoreOperation]) { last = operations.last }

    /// The next attempt; a pause comes before it, unless it is the first.
    mutating func next() -> Action {
        guard attempts < RegistryLimits.publishAttemptsMax else { return .unknown(lastError) }
        attempts += 1
        guard isUnknown else { return .send }
        switch last {
        case .set(let path, _, _), .create(let path, _, _, _): return .compare(path: path)
        case .check, .delete, nil: return .send
        }
    }

    /// Nil for a pause and then ``next()``.
    mutating func sent(_ error: StoreError?) -> Action? {
        guard let error else { return .done }
        return take(error)
    }

    /// Takes what stands in the node by now, nil when there is none.
    mutating func compared(_ result: Result<NodeValue?, StoreError>) -> Action? {
        switch (result, last) {
        case (.failure(let error), _): return take(error)
        case (.success(let value?), .set(_, let data, let version)):
            if value.data == data { return .done }
            return value.stat.version == version ? .send : .refused(lastError)
        case (.success(let value?), .create(_, let data, _, _)):
            return value.data == data ? .done : .refused(lastError)
        case (.success(nil), .create): return .send
        case (.success, _): return .refused(lastError)
        }
    }

    private mutating func take(_ error: StoreError) -> Action? {
        lastError = error
        switch error.code {
        case .noNode, .badVersion, .nodeExists:
            // Operation 0 is the fence: nothing of the transaction can have been ours.
            if error.operationIndex == 0 || !isUnknown { return .refused(error) }
        case .connectionLoss, .sessionExpired, .deadlineExceeded: isUnknown = true
        case .tooManyInFlight: break
        default: return .failed(error)
        }
        return nil
    }
}
