import ZooKeeper

extension RegistryOperator {
    /// Writes what a source proposes, in place of all that it proposed before. Stands in no history: it is no operator's decision.
    @discardableResult
    public func putSource(_ name: AgentID, _ document: SourceDocument) async throws -> EditOutcome {
        let path = paths.source(name)
        let data = try registry.encode(document, for: path)
        return try await retrying(path) {
            do {
                return .done(try await registry.store.set(path, data, version: nil).version)
            } catch let error as StoreError where error.code == .noNode {
                let acl = try await registry.accessControl(of: .source)
                try await registry.store.create(path, data, mode: .persistent, acl: acl)
                return .done(0)
            }
        }
    }

    /// What a source proposes; nil when it is not there.
    public func source(_ name: AgentID) async throws -> Stored<SourceDocument>? {
        do {
            return try await registry.read(SourceDocument.self, at: paths.source(name))
        } catch let error as RegistryError where error.code == .notInitialised {
            return nil
        }
    }
}
