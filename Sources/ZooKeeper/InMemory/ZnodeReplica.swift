/// One server's copy of the tree, and the watches of the sessions that are connected to it.
///
/// Pure, as ``ZnodeTree``: watches that a write fires come out of ``apply(_:)`` in the order in which ZooKeeper sends
/// them. A watch is a token that the driver chose nothing about: it hands the token's event to whoever asked for it,
/// before that session's next reply.
///
/// A session that may not read a node does not hear of its changes, and the watch is used up all the same (ZooKeeper's
/// answer to CVE-2024-23944). Such a watch stays silent until another one of the session on the same path is told of
/// something, as the client library knows watches by their path alone, or until the session's end.
public struct ZnodeReplica: Sendable {
    public enum WatchKind: Sendable, Hashable {
        /// Left by `get`, and by `exists` on a node that is there or is not: creation, change and deletion fire it.
        case data
        /// Left by `children`: a child that comes or goes and the node's deletion fire it.
        case children
    }

    public struct FiredWatch: Sendable, Hashable {
        public var token: UInt64
        public var sessionID: Int64
        public var path: String
        public var event: WatchEvent
    }

    private struct Place: Hashable {
        var path: String
        var kind: WatchKind
    }

    public private(set) var tree: ZnodeTree
    private var armed: [Place: [UInt64]] = [:]
    /// Used up without a word, and still kept by the client.
    private var silenced: [Place: [UInt64]] = [:]
    private struct Watch {
        var place: Place
        var sessionID: Int64
        var identities: [ZnodeIdentity]
    }

    private var places: [UInt64: Watch] = [:]
    private var nextToken: UInt64 = 1

    public init(tree: ZnodeTree = ZnodeTree()) {
        self.tree = tree
    }

    public var watchCount: Int { places.count }

    /// Applies a write, and takes the watches that it fires.
    public mutating func apply(_ write: ZnodeTree.Write) -> (applied: ZnodeTree.Applied, fired: [FiredWatch]) {
        let applied = tree.apply(write)
        var fired: [FiredWatch] = []
        for change in applied.changes {
            let kinds: [WatchKind] =
                switch change.event {
                case .childrenChanged: [.children]
                case .deleted: [.data, .children]
                case .created, .changed, .sessionLost: [.data]
                }
            let before = fired.count
            for kind in kinds { take(change, kind, into: &fired) }
            guard fired.count > before, !silenced.isEmpty else { continue }
            let told = Set(fired[before...].map(\.sessionID))
            for kind in kinds { takeSilenced(change, kind, of: told, into: &fired) }
        }
        return (applied, fired)
    }

    private mutating func takeSilenced(
        _ change: ZnodeTree.Change, _ kind: WatchKind, of sessions: Set<Int64>, into fired: inout [FiredWatch]
    ) {
        let place = Place(path: change.path, kind: kind)
        for token in silenced[place] ?? [] {
            guard let watch = places[token], sessions.contains(watch.sessionID) else { continue }
            places[token] = nil
            silenced[place]?.removeAll { $0 == token }
            fired.append(
                FiredWatch(token: token, sessionID: watch.sessionID, path: change.path, event: change.event))
        }
        if silenced[place]?.isEmpty == true { silenced[place] = nil }
    }

    private mutating func take(_ change: ZnodeTree.Change, _ kind: WatchKind, into fired: inout [FiredWatch]) {
        for token in armed.removeValue(forKey: Place(path: change.path, kind: kind)) ?? [] {
            guard let watch = places[token] else { continue }
            guard tree.allows(.read, change.acl, watch.identities) else {
                silenced[watch.place, default: []].append(token)
                continue
            }
            places[token] = nil
            fired.append(
                FiredWatch(token: token, sessionID: watch.sessionID, path: change.path, event: change.event))
        }
    }

    /// Leaves a watch and returns its token, which is never used again.
    public mutating func arm(
        _ kind: WatchKind, _ path: String, sessionID: Int64, as identities: [ZnodeIdentity] = []
    ) -> UInt64 {
        defer { nextToken += 1 }
        arm(token: nextToken, kind, path, sessionID: sessionID, as: identities)
        return nextToken
    }

    /// As ``arm(_:_:sessionID:as:)`` with a token of the driver's own numbering; do not mix the two.
    public mutating func arm(
        token: UInt64, _ kind: WatchKind, _ path: String, sessionID: Int64, as identities: [ZnodeIdentity] = []
    ) {
        let place = Place(path: path, kind: kind)
        armed[place, default: []].append(token)
        places[token] = Watch(place: place, sessionID: sessionID, identities: identities)
    }

    /// Drops a session's watches (its connection to this server is gone) and returns their tokens in order.
    @discardableResult
    public mutating func dropWatches(sessionID: Int64) -> [UInt64] {
        let tokens = places.filter { $0.value.sessionID == sessionID }.keys.sorted()
        for token in tokens {
            guard let watch = places.removeValue(forKey: token) else { continue }
            for table in [\ZnodeReplica.armed, \.silenced] {
                self[keyPath: table][watch.place]?.removeAll { $0 == token }
                if self[keyPath: table][watch.place]?.isEmpty == true { self[keyPath: table][watch.place] = nil }
            }
        }
        return tokens
    }

    /// What a watch that was left on another server missed, for a session that moved here: the event to deliver at once,
    /// or `nil` when nothing happened since and the watch is to be armed here.
    ///
    /// - Parameters:
    ///   - sinceTransaction: the newest transaction that the session has seen.
    ///   - onMissing: the node was missing when the watch was left (`exists`).
    public func missedEvent(
        _ kind: WatchKind, _ path: String, sinceTransaction: Int64, onMissing: Bool
    ) -> WatchEvent? {
        guard let node = tree.nodes[path] else { return onMissing ? nil : .deleted }
        switch kind {
        case .data where onMissing: return .created
        case .data: return node.modifiedTransaction > sinceTransaction ? .changed : nil
        case .children: return node.childrenTransaction > sinceTransaction ? .childrenChanged : nil
        }
    }
}
