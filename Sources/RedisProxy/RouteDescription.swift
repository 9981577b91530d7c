import HotKeyMitigation

/// Where a key lives and how it would be read.
public struct RouteDescription: Sendable, Hashable {
    public enum Reading: Sendable, Hashable {
        /// From the local cache, or from home when nothing is cached.
        case localCache
        case home
        /// From home or one of the copies.
        case copies
    }
    public var home: ProxyNode
    /// Before a Redis Cluster: the slot of the key.
    public var slot: Int?
    /// Copy 1 first; empty for keys that are not hot.
    public var copies: [ProxyNode]
    /// Which of the copies this agent may read now.
    public var readableCopies: [ProxyNode]
    public var isHot: Bool
    public var reading: Reading
}

extension ProxyLoop {
    func route(_ key: [UInt8]) -> RouteDescription {
        updateNow()
        let copies = copyNodes(of: key)
        let slot = cluster == nil ? nil : key.withUnsafeBytes { ClusterSlot.of($0) }
        guard let index = hotIndex(of: key) else {
            return RouteDescription(
                home: home(key).node, slot: slot, copies: [], readableCopies: [], isHot: false, reading: .home)
        }
        let readable = copies.enumerated().filter { mayRead(copy: $0.offset + 1, of: index, on: $0.element) }
        let kind = table[index].kind
        return RouteDescription(
            home: home(key).node, slot: slot, copies: copies.map(\.node), readableCopies: readable.map(\.element.node),
            isHot: true,
            reading: kind.usesLocalCache ? .localCache : kind.usesCopies ? .copies : .home)
    }
}
