/// Creating a sequential node whose reply may get lost.
extension CoordinationStore {
    /// As `create` with a sequential mode, but a lost reply neither leaves a second node behind nor hides the first.
    ///
    /// A `connectionLoss` on a create means "unknown" (P31), and a sequential name cannot be looked up because the
    /// caller never learnt it. So the name gets a prefix that nobody else has, `_c_<token>-`, as Curator's protected
    /// mode gives it; after an unknown outcome the parent's children are searched for it, and only when none has it
    /// is the create repeated.
    ///
    /// - Parameters:
    ///   - mode: `persistentSequential` or `ephemeralSequential`.
    ///   - token: unique to this node, without `/`.
    /// - Returns: the path of the node, prefix and sequence number included.
    /// - Throws: as `create`, `connectionLoss` or `deadlineExceeded` only after several attempts.
    ///   ``StoreError/Code/sessionExpired``: an ephemeral node that may have been made goes with its session; begin
    ///   anew.
    public func createProtected(
        _ path: String, _ data: [UInt8] = [], mode: CreateMode, acl: [AccessControl] = AccessControl.openUnsafe,
        token: String = randomToken()
    ) async throws -> String {
        guard mode == .persistentSequential || mode == .ephemeralSequential else {
            throw StoreError(.badArguments, path: path, message: "a protected create needs a sequential mode")
        }
        let (parent, name) = NodePath.split(path)
        let prefix = "_c_\(token)-"
        let protected = parent == "/" ? "/\(prefix)\(name)" : "\(parent)/\(prefix)\(name)"
        var isUnknown = false
        var attempt = 1
        while true {
            do {
                if isUnknown {
                    // The server that answers now may be behind the one that has the node.
                    try await sync(parent)
                    if let found = try await children(parent).names.first(where: { $0.hasPrefix(prefix) }) {
                        return parent == "/" ? "/\(found)" : "\(parent)/\(found)"
                    }
                    isUnknown = false
                }
                return try await create(protected, data, mode: mode, acl: acl)
            } catch let error as StoreError where error.code == .connectionLoss || error.code == .deadlineExceeded {
                guard attempt < ZooKeeperLimits.protectedCreateAttemptsMax else { throw error }
                isUnknown = true
                attempt += 1
            }
        }
    }
}

/// 128 random bits in hexadecimal.
public func randomToken() -> String {
    var generator = SystemRandomNumberGenerator()
    let high: UInt64 = generator.next()
    let low: UInt64 = generator.next()
    return [high, low].map { value in
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }.joined()
}
