/// The values of a node, as snapshots: the current one first, then a new one whenever it is another.
///
/// A one-shot watch says only that something happened, so that each snapshot is a fresh read that re-arms the watch
/// (P13).
/// - Survives lost connections and expired sessions: arms and reads again, after a `sync` in a new session, so that it
///   does not fall back to what a lagging server has.
/// - A slow reader gets the newest snapshot, not every one in between.
/// - A snapshot with the same ``NodeStat/createdTransaction`` and ``NodeStat/version`` as the one before is not
///   repeated; a node that was deleted and made again is a new snapshot.
/// - Ends when the client is closed or the reading task is cancelled. Throws a ``StoreError`` that waiting cannot
///   mend, for example ``StoreError/Code/noAuthentication``.
///
/// Each iterator reads for itself, and only while someone waits for its next element.
public struct NodeValues: AsyncSequence, Sendable {
    public typealias Element = NodeSnapshot
    let store: any CoordinationStore
    let path: String

    public struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate var reader: SnapshotReader<NodeSnapshot>

        public mutating func next(isolation actor: isolated (any Actor)?) async throws -> NodeSnapshot? {
            try await reader.next(isolation: actor)
        }
    }

    public func makeAsyncIterator() -> AsyncIterator {
        let store = store
        let path = path
        return AsyncIterator(
            reader: SnapshotReader(store: store, path: path, isSame: Self.isSame) { onEvent in
                try await store.whereThere(path, onEvent) { try await store.get(path, onEvent: onEvent) }
                    .map(NodeSnapshot.present) ?? .missing
            })
    }

    private static func isSame(_ one: NodeSnapshot, _ other: NodeSnapshot) -> Bool {
        switch (one, other) {
        case (.missing, .missing): true
        case (.present(let one), .present(let other)):
            one.stat.createdTransaction == other.stat.createdTransaction && one.stat.version == other.stat.version
        default: false
        }
    }
}

/// The children of a node, as snapshots. Promises as ``NodeValues``; a snapshot is the same when
/// ``NodeStat/createdTransaction`` and ``NodeStat/childrenVersion`` are.
public struct ChildrenValues: AsyncSequence, Sendable {
    public typealias Element = ChildrenSnapshot
    let store: any CoordinationStore
    let path: String

    public struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate var reader: SnapshotReader<ChildrenSnapshot>

        public mutating func next(isolation actor: isolated (any Actor)?) async throws -> ChildrenSnapshot? {
            try await reader.next(isolation: actor)
        }
    }

    public func makeAsyncIterator() -> AsyncIterator {
        let store = store
        let path = path
        return AsyncIterator(
            reader: SnapshotReader(store: store, path: path, isSame: Self.isSame) { onEvent in
                try await store.whereThere(path, onEvent) { try await store.children(path, onEvent: onEvent) }
                    .map(ChildrenSnapshot.present) ?? .missing
            })
    }

    private static func isSame(_ one: ChildrenSnapshot, _ other: ChildrenSnapshot) -> Bool {
        switch (one, other) {
        case (.missing, .missing): true
        case (.present(let one), .present(let other)):
            one.stat.createdTransaction == other.stat.createdTransaction
                && one.stat.childrenVersion == other.stat.childrenVersion
        default: false
        }
    }
}

extension CoordinationStore {
    /// The node's values from now on, as long as someone reads them.
    public func values(of path: String) -> NodeValues {
        NodeValues(store: self, path: path)
    }

    /// The node's children from now on, as long as someone reads them.
    public func childrenValues(of path: String) -> ChildrenValues {
        ChildrenValues(store: self, path: path)
    }
}

extension CoordinationStore {
    /// What `read` brings, or nil where there is no node; a watch is left in either case.
    fileprivate func whereThere<Value: Sendable>(
        _ path: String, _ onEvent: @escaping @Sendable (WatchEvent) -> Void, _ read: () async throws -> Value
    ) async throws -> Value? {
        // A read of a missing node leaves no watch; `exists` does. When the node appears between the two, it is read after all, and
        // the second watch is one wake-up too many.
        while true {
            do {
                return try await read()
            } catch let error as StoreError where error.code == .noNode {
                if try await exists(path, onEvent: onEvent) == nil { return nil }
            }
        }
    }
}
