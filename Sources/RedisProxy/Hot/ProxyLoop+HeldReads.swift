import HotKeyMitigation

/// Reads of hot keys that were kept from finding out again what another had just found out: they waited for another's fill, or were told from
/// memory that there is no value.
extension ProxyLoop {
    func readsHeld(of key: [UInt8]) -> UInt64? { hotIndex(of: key).map { readsHeld[$0] } }

    /// Counts by the indices of a table that is about to be served. A key that comes anew begins anew.
    func counts(_ counts: [UInt64], in new: HotKeyTable) -> [UInt64] {
        (0..<new.count).map { hotIndex(of: new[$0].key).map { counts[$0] } ?? 0 }
    }
}

extension ProxyServer {
    /// How many reads of a key have been held since it became hot here; `nil` when it is not.
    public func readsHeld(of key: [UInt8]) async throws -> UInt64? {
        let counts = try await onEveryLoop { $0.readsHeld(of: key) }.compactMap { $0 }
        return counts.isEmpty ? nil : counts.reduce(0, &+)
    }
}
