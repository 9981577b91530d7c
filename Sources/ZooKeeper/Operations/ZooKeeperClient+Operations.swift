/// Every operation checks its arguments, puts the chroot before the path, and leaves the rest to the driver.
extension ZooKeeperClient {
    public func get(_ path: String) async throws -> NodeValue {
        try await read("get", path) { session, path, _, reply in session.get(path, watch: nil, reply: reply) }
    }

    public func get(_ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void) async throws -> NodeValue {
        try await read("get", path) { session, path, pending, reply in
            session.get(path, watch: pending.guarding(onEvent), reply: reply)
        }
    }

    public func exists(_ path: String) async throws -> NodeStat? {
        try await read("exists", path) { session, path, _, reply in session.exists(path, watch: nil, reply: reply) }
    }

    public func exists(_ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void) async throws -> NodeStat? {
        try await read("exists", path) { session, path, pending, reply in
            session.exists(path, watch: pending.guarding(onEvent), reply: reply)
        }
    }

    public func children(_ path: String) async throws -> NodeChildren {
        try await read("children", path) { session, path, _, reply in
            session.children(path, watch: nil, reply: reply)
        }
    }

    public func children(_ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void) async throws -> NodeChildren
    {
        try await read("children", path) { session, path, pending, reply in
            session.children(path, watch: pending.guarding(onEvent), reply: reply)
        }
    }

    public func sync(_ path: String) async throws {
        try await read("sync", path) { session, path, _, reply in session.sync(path, reply: reply) }
    }

    public func accessControl(_ path: String) async throws -> (acl: [AccessControl], stat: NodeStat) {
        try await read("accessControl", path) { session, path, _, reply in session.accessControl(path, reply: reply) }
    }

    @discardableResult
    public func set(_ path: String, _ data: [UInt8], version: Int32?) async throws -> NodeStat {
        let bytes = try check(.set(path, data: data, version: version))
        let version = version ?? -1
        return try await write("set", path, bytes) { session, path, reply in
            session.set(path, data, version: version, reply: reply)
        }
    }

    @discardableResult
    public func create(_ path: String, _ data: [UInt8], mode: CreateMode, acl: [AccessControl]) async throws -> String {
        let bytes = try check(.create(path, data: data, mode: mode, acl: acl))
        let created = try await write("create", path, bytes) { session, path, reply in
            session.create(path, data, mode: mode, acl: acl, reply: reply)
        }
        return NodePath.relative(created, chroot: configuration.chroot)
    }

    public func delete(_ path: String, version: Int32?) async throws {
        try check(.delete(path, version: version))
        let version = version ?? -1
        try await write("delete", path) { session, path, reply in
            session.delete(path, version: version, reply: reply)
        }
    }

    public func setAccessControl(_ path: String, _ acl: [AccessControl], aclVersion: Int32?) async throws {
        try RequestCheck.path(path, isSequential: false)
        try RequestCheck.accessControl(acl, path: path)
        let version = aclVersion ?? -1
        try await write("setAccessControl", path) { session, path, reply in
            session.setAccessControl(path, acl, version: version, reply: reply)
        }
    }

    @discardableResult
    public func multi(_ operations: [StoreOperation]) async throws -> [StoreOperationResult] {
        try RequestCheck.multi(operations, chroot: configuration.chroot)
        // The library writes results through the first element.
        guard !operations.isEmpty else { return [] }
        let chroot = configuration.chroot
        let absolute = operations.map { $0.withPath { NodePath.absolute($0, chroot: chroot) } }
        do {
            return try await driver.perform("multi", path: nil, isRead: false) { session, _, reply in
                session.multi(absolute, reply: reply)
            }.map { result in
                guard case .created(let path) = result else { return result }
                return .created(NodePath.relative(path, chroot: chroot))
            }
        } catch var error as StoreError {
            if let index = error.operationIndex { error.path = operations[index].path }
            throw Self.sized(error, RequestCheck.requestBytes(operations, chroot: chroot))
        }
    }

    /// Adds a credential to this session and to every later one.
    /// - Throws: ``StoreError/Code/authenticationFailed``: the server refused it. It ends the connection as well, so
    ///   that the session is lost and a new one is made without this credential.
    public func addAuthentication(_ credential: ZooKeeperCredential) async throws {
        try await driver.perform("addAuthentication", path: nil, isRead: false) { session, _, reply in
            session.authenticate(credential, reply: reply)
        }
        driver.keep(credential)
    }

    private func read<Value: Sendable>(
        _ name: String, _ path: String,
        _ submit:
            @escaping @Sendable (
                NativeSession, String, PendingOperation<Value>, @escaping NativeSession.Reply<Value>
            ) -> Submission
    ) async throws -> Value {
        try RequestCheck.path(path, isSequential: false)
        let absolute = NodePath.absolute(path, chroot: configuration.chroot)
        return try await driver.perform(name, path: path, isRead: true) { session, pending, reply in
            submit(session, absolute, pending, reply)
        }
    }

    /// - Parameter bytes: how large the request is, where that is known.
    private func write<Value: Sendable>(
        _ name: String, _ path: String, _ bytes: Int? = nil,
        _ submit: @escaping @Sendable (NativeSession, String, @escaping NativeSession.Reply<Value>) -> Submission
    ) async throws -> Value {
        let absolute = NodePath.absolute(path, chroot: configuration.chroot)
        do {
            return try await driver.perform(name, path: path, isRead: false) { session, _, reply in
                submit(session, absolute, reply)
            }
        } catch let error as StoreError {
            throw Self.sized(error, bytes)
        }
    }

    /// A server that is asked for more than its `jute.maxbuffer` cuts the connection: only the size tells it from any other
    /// broken connection.
    private static func sized(_ error: StoreError, _ bytes: Int?) -> StoreError {
        var error = error
        if error.code == .connectionLoss { error.requestBytes = bytes }
        return error
    }

    /// About how large the request is.
    @discardableResult
    private func check(_ operation: StoreOperation) throws -> Int {
        try RequestCheck.operation(operation, index: nil, chroot: configuration.chroot)
        return RequestCheck.requestBytes([operation], chroot: configuration.chroot)
    }
}

extension PendingOperation {
    /// The watch of an operation that was given up is nobody's: its caller got an error and expects no event.
    func guarding(_ onEvent: @escaping @Sendable (WatchEvent) -> Void) -> @Sendable (WatchEvent) -> Void {
        { event in
            if !self.wasAbandoned { onEvent(event) }
        }
    }
}
