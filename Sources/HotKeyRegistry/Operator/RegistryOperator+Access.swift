import ZooKeeper

/// What ``RegistryOperator/applyAccess(_:)`` did.
public struct AccessOutcome: Sendable, Hashable {
    /// Whether the document itself was another one before.
    public var changed: Bool
    /// Nodes whose access control list was another one before.
    public var rewritten: [String]
}

extension RegistryOperator {
    /// Gives every node of the app the access control list that its role in the schema asks for; nil opens them to everyone.
    ///
    /// The document goes first, so that what agents create meanwhile is right; then each node. ZooKeeper changes one list at
    /// a time: when this is interrupted, running it again completes it, and the inspection names what is left. Nodes that the
    /// schema does not know, and those above the root, are left alone.
    ///
    /// - Throws: ``RegistryError/Code/store`` with `noAuthentication` when this session may not.
    public func applyAccess(_ access: RegistryAccess?) async throws -> AccessOutcome {
        if let access { try Self.checkArgument { try access.validate() } }
        let former = try await readableAccess()
        var result = AccessOutcome(changed: false, rewritten: [])
        result.changed = try await writeAccess(access)
        for _ in 0..<RegistryLimits.accessRoundsMax {
            var rewritten: [String] = []
            for (path, node) in try await knownNodes() {
                let changed = try await registry.translating(path) {
                    try await rewrite(path, node, former: former, access)
                }
                if changed { rewritten.append(path) }
            }
            result.rewritten += rewritten
            if rewritten.isEmpty { return result }
        }
        return result
    }

    /// Nil when there is none, and when it cannot be read: it is replaced then.
    private func readableAccess() async throws -> RegistryAccess? {
        do {
            return try await registry.access()
        } catch let error as RegistryError where error.code == .badDocument {
            return nil
        }
    }

    private func writeAccess(_ access: RegistryAccess?) async throws -> Bool {
        let path = paths.access
        return try await retrying(path) {
            let found = try await registry.store.exists(path)
            guard let access else {
                guard let found else { return .unchanged(0) }
                try await registry.store.delete(path, version: found.version)
                return .done(0)
            }
            let data = try registry.encode(access, for: path)
            guard found != nil else {
                try await registry.store.create(
                    path, data, mode: .persistent, acl: access.accessControl(of: .access))
                return .done(0)
            }
            let value = try await registry.store.get(path)
            if value.data == data { return .unchanged(value.stat.version) }
            return .done(try await registry.store.set(path, data, version: value.stat.version).version)
        }.changed
    }

    /// False when the node has the right list already, or is gone.
    private func rewrite(
        _ path: String, _ node: RegistryNode, former: RegistryAccess?, _ access: RegistryAccess?
    ) async throws -> Bool {
        do {
            let (current, stat) = try await registry.store.accessControl(path)
            let wanted =
                node == .root
                ? RegistryAccess.rootAccessControl(current, former: former, now: access)
                : access?.accessControl(of: node) ?? AccessControl.openUnsafe
            guard Set(current) != Set(wanted) else { return false }
            try await registry.store.setAccessControl(path, wanted, aclVersion: stat.aclVersion)
            return true
        } catch let error as StoreError where error.code == .noNode || error.code == .badVersion {
            return false
        }
    }

    /// Every node that exists and that the schema knows, the root first.
    func knownNodes() async throws -> [(path: String, node: RegistryNode)] {
        var nodes: [(path: String, node: RegistryNode)] = []
        for node in [RegistryNode.root, .app] + RegistryPaths.appChildren {
            guard let path = paths.path(of: node), try await registry.store.exists(path) != nil else { continue }
            nodes.append((path, node))
            guard RegistryNode.directories.contains(node) else { continue }
            let names = try await registry.translating(path) { try await registry.store.children(path).names }
            nodes += names.sorted().compactMap { name in
                node.child(named: name).map { ("\(path)/\(name)", $0) }
            }
        }
        return nodes
    }
}
