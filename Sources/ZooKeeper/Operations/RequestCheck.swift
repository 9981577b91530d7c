/// Arguments are checked before C sees them: the library's own answer is a catch-all (P25), and a request that is too
/// large costs the connection and every call on it.
enum RequestCheck {
    static func path(_ path: String, isSequential: Bool, index: Int? = nil) throws {
        if let fault = NodePath.fault(path, isSequential: isSequential) {
            throw StoreError(.badArguments, path: path, operationIndex: index, message: fault)
        }
    }

    static func accessControl(_ acl: [AccessControl], path: String, index: Int? = nil) throws {
        func refuse(_ message: String) -> StoreError {
            StoreError(.badArguments, path: path, operationIndex: index, message: message)
        }
        guard (1...ZooKeeperLimits.accessControlEntriesMax).contains(acl.count) else {
            throw refuse(
                "the access control list has \(acl.count) entries; expected 1 to "
                    + "\(ZooKeeperLimits.accessControlEntriesMax)")
        }
        for entry in acl where entry.scheme.isEmpty || (entry.scheme + entry.identity).utf8.contains(0) {
            throw refuse("an access control entry has an empty scheme or a zero byte")
        }
    }

    static func operation(_ operation: StoreOperation, index: Int?, chroot: String?) throws {
        var isSequential = false
        if case .create(_, _, let mode, let acl) = operation {
            isSequential = mode == .persistentSequential || mode == .ephemeralSequential
            try accessControl(acl, path: operation.path, index: index)
            if index != nil, mode == .container {
                // The library reads the server's longer reply for containers as if it were the short one, and takes its
                // rest for the next operation's result.
                throw StoreError(
                    .badArguments, path: operation.path, operationIndex: index,
                    message: "a container node cannot be created within a multi; create it by itself")
            }
        }
        try path(operation.path, isSequential: isSequential, index: index)
        if case .check(_, let version) = operation, version < -1 {
            throw StoreError(
                .badArguments, path: operation.path, operationIndex: index,
                message: "version \(version); expected 0 or more, or -1 for any")
        }
        let bytes = requestBytes(operation, chroot: chroot)
        guard bytes <= ZooKeeperLimits.requestBytesMax else {
            throw StoreError(
                .badArguments, path: operation.path, operationIndex: index, message: tooLarge(bytes))
        }
    }

    static func multi(_ operations: [StoreOperation], chroot: String?) throws {
        guard operations.count <= ZooKeeperLimits.multiOperationsMax else {
            throw StoreError(
                .badArguments,
                message: "a multi of \(operations.count) operations; at most \(ZooKeeperLimits.multiOperationsMax)")
        }
        for (index, operation) in operations.enumerated() {
            try Self.operation(operation, index: index, chroot: chroot)
        }
        let bytes = requestBytes(operations, chroot: chroot)
        guard bytes <= ZooKeeperLimits.requestBytesMax else {
            throw StoreError(.badArguments, message: tooLarge(bytes))
        }
    }

    private static func tooLarge(_ bytes: Int) -> String {
        "the request has about \(bytes) bytes; at most \(ZooKeeperLimits.requestBytesMax) are allowed, "
            + "as the server would cut the connection"
    }

    static func requestBytes(_ operations: [StoreOperation], chroot: String?) -> Int {
        operations.reduce(0) { $0 + requestBytes($1, chroot: chroot) }
    }

    /// What the request takes on the wire, from above: strings, data and a generous constant for lengths and headers.
    private static func requestBytes(_ operation: StoreOperation, chroot: String?) -> Int {
        let overhead = 64 + operation.path.utf8.count + (chroot?.utf8.count ?? 0)
        return switch operation {
        case .check, .delete: overhead
        case .set(_, let data, _): overhead + data.count
        case .create(_, let data, _, let acl):
            acl.reduce(overhead + data.count) { $0 + 16 + $1.scheme.utf8.count + $1.identity.utf8.count }
        }
    }
}

extension StoreOperation {
    var path: String {
        switch self {
        case .check(let path, _), .create(let path, _, _, _), .set(let path, _, _), .delete(let path, _): path
        }
    }

    func withPath(_ change: (String) -> String) -> StoreOperation {
        switch self {
        case .check(let path, let version): .check(change(path), version: version)
        case .create(let path, let data, let mode, let acl): .create(change(path), data: data, mode: mode, acl: acl)
        case .set(let path, let data, let version): .set(change(path), data: data, version: version)
        case .delete(let path, let version): .delete(change(path), version: version)
        }
    }
}
