/// A store that passes on to another one whatever it does not do in its own way.
package protocol ForwardingStore: CoordinationStore {
    var store: any CoordinationStore { get }
}

extension ForwardingStore {
    package var connectionStates: ConnectionStates { store.connectionStates }
    package var lease: SessionLease? { store.lease }

    package func get(_ path: String) async throws -> NodeValue { try await store.get(path) }
    package func get(_ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void) async throws -> NodeValue {
        try await store.get(path, onEvent: onEvent)
    }
    package func exists(_ path: String) async throws -> NodeStat? { try await store.exists(path) }
    package func exists(
        _ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void
    ) async throws -> NodeStat? {
        try await store.exists(path, onEvent: onEvent)
    }
    package func children(_ path: String) async throws -> NodeChildren { try await store.children(path) }
    package func children(
        _ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void
    ) async throws -> NodeChildren {
        try await store.children(path, onEvent: onEvent)
    }
    package func set(_ path: String, _ data: [UInt8], version: Int32?) async throws -> NodeStat {
        try await store.set(path, data, version: version)
    }
    package func create(
        _ path: String, _ data: [UInt8], mode: CreateMode, acl: [AccessControl]
    ) async throws -> String {
        try await store.create(path, data, mode: mode, acl: acl)
    }
    package func delete(_ path: String, version: Int32?) async throws { try await store.delete(path, version: version) }
    package func multi(_ operations: [StoreOperation]) async throws -> [StoreOperationResult] {
        try await store.multi(operations)
    }
    package func sync(_ path: String) async throws { try await store.sync(path) }
    package func accessControl(_ path: String) async throws -> (acl: [AccessControl], stat: NodeStat) {
        try await store.accessControl(path)
    }
    package func setAccessControl(_ path: String, _ acl: [AccessControl], aclVersion: Int32?) async throws {
        try await store.setAccessControl(path, acl, aclVersion: aclVersion)
    }
}
