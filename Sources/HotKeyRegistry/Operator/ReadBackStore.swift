import ZooKeeper

/// A store that refuses to write where an edit only wants to know whether it stands in the registry already: the edit's own
/// attempt is run once more, and what it would write tells that it does not.
struct ReadBackStore: ForwardingStore {
    /// What a write throws while ``isReadingBack``.
    struct Refusal: Error {}

    @TaskLocal static var isReadingBack = false

    let store: any CoordinationStore

    private func refuseWrite() throws(Refusal) { if Self.isReadingBack { throw Refusal() } }

    func set(_ path: String, _ data: [UInt8], version: Int32?) async throws -> NodeStat {
        try refuseWrite()
        return try await store.set(path, data, version: version)
    }
    func create(_ path: String, _ data: [UInt8], mode: CreateMode, acl: [AccessControl]) async throws -> String {
        try refuseWrite()
        return try await store.create(path, data, mode: mode, acl: acl)
    }
    func delete(_ path: String, version: Int32?) async throws {
        try refuseWrite()
        try await store.delete(path, version: version)
    }
    func multi(_ operations: [StoreOperation]) async throws -> [StoreOperationResult] {
        try refuseWrite()
        return try await store.multi(operations)
    }
    func setAccessControl(_ path: String, _ acl: [AccessControl], aclVersion: Int32?) async throws {
        try refuseWrite()
        try await store.setAccessControl(path, acl, aclVersion: aclVersion)
    }
}
