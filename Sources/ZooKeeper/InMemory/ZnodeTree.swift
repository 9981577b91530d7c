/// ZooKeeper's tree of nodes as a state machine: a write in, its result and what changed out.
///
/// No clock, no randomness, no lock, no I/O. Two trees that apply the same writes in the same order are equal, results
/// and transaction numbers included, so that a follower is a tree that has applied a prefix of the leader's writes.
/// Whoever drives it numbers the sessions, tells the time, and hands over requests that were checked
/// (paths absolute and well formed, sizes within bounds).
///
/// Semantics are ZooKeeper 3.8's with its security fixes up to CVE-2024-23944: the order in which a request's faults are looked for, sequence numbers from the count
/// of children ever created, `childrenVersion` counting creations and deletions, a failed write that takes a
/// transaction number too. Not modelled: quotas, TTL nodes, the `ip`, `x509` and `sasl` schemes, reconfiguration.
public struct ZnodeTree: Sendable {
    /// A request that changes the tree, as it stands in the log.
    public struct Write: Sendable, Hashable {
        public var sessionID: Int64
        /// As whom the session has authenticated.
        public var identities: [ZnodeIdentity]
        /// Wall clock, since 1970; becomes the nodes' creation and modification times.
        public var timeMilliseconds: Int64
        public var operation: Operation

        public init(sessionID: Int64, identities: [ZnodeIdentity] = [], timeMilliseconds: Int64, operation: Operation) {
            self.sessionID = sessionID
            self.identities = identities
            self.timeMilliseconds = timeMilliseconds
            self.operation = operation
        }
    }

    public enum Operation: Sendable, Hashable {
        case openSession
        /// Ends the session, asked for or by expiry; its ephemeral nodes go with it.
        case closeSession
        case one(StoreOperation)
        case multi([StoreOperation])
        case setAccessControl(String, [AccessControl], aclVersion: Int32?)
        /// Removes containers that had children and have none; ZooKeeper's servers do so once a minute.
        case reapContainers
    }

    /// What a write that succeeded gives: one result for each operation, none for the others.
    public typealias Outcome = Result<[StoreOperationResult], StoreError>

    public struct Applied: Sendable {
        public var transaction: Int64
        public var outcome: Outcome
        /// In the order in which ZooKeeper tells watches; empty after a failure.
        public var changes: [Change]
    }

    public struct Change: Sendable, Hashable {
        public var path: String
        public var event: WatchEvent
        /// Who may read this may hear of it.
        var acl: [AccessControl]
    }

    struct Node: Sendable {
        var data: [UInt8]
        var acl: [AccessControl]
        var createdTransaction: Int64
        var modifiedTransaction: Int64
        /// The last creation or deletion of a child.
        var childrenTransaction: Int64
        var createdAtMilliseconds: Int64
        var modifiedAtMilliseconds: Int64
        var version: Int32 = 0
        var aclVersion: Int32 = 0
        /// Children ever created; the next sequence number.
        var createdChildren: Int32 = 0
        var ephemeralOwner: Int64 = 0
        var isContainer = false
    }

    private enum Undo {
        case node(String, Node?)
        case childAdded(parent: String, String)
        case childRemoved(parent: String, String)
    }

    /// The newest transaction that was applied.
    public private(set) var lastTransaction: Int64 = 0
    private(set) var nodes: [String: Node] = [:]
    private(set) var childNames: [String: Set<String>] = [:]
    private var ephemerals: [Int64: Set<String>] = [:]
    private var containers: Set<String> = []
    public private(set) var sessions: Set<Int64> = []
    private var journal: [Undo]?

    /// A new ensemble's tree: the root and ZooKeeper's own nodes.
    public init() {
        for path in Self.ownPaths.sorted() {
            nodes[path] = Node(
                data: [], acl: AccessControl.openUnsafe, createdTransaction: 0, modifiedTransaction: 0,
                childrenTransaction: 0, createdAtMilliseconds: 0, modifiedAtMilliseconds: 0)
            let (parent, name) = NodePath.split(path)
            if path != "/" { childNames[parent, default: []].insert(name) }
        }
    }

    private static let ownPaths: Set<String> = ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"]

    public var nodeCount: Int { nodes.count }

    /// Every path, sorted.
    public var paths: [String] { nodes.keys.sorted() }

    // MARK: Writing

    public mutating func apply(_ write: Write) -> Applied {
        lastTransaction += 1
        var changes: [Change] = []
        let outcome: Outcome
        do throws(StoreError) {
            outcome = .success(try run(write, &changes))
        } catch {
            outcome = .failure(error)
            changes = []
        }
        return Applied(transaction: lastTransaction, outcome: outcome, changes: changes)
    }

    private mutating func run(_ write: Write, _ changes: inout [Change]) throws(StoreError) -> [StoreOperationResult] {
        switch write.operation {
        case .openSession:
            sessions.insert(write.sessionID)
            return []
        case .closeSession:
            sessions.remove(write.sessionID)
            for path in (ephemerals[write.sessionID] ?? []).sorted() { remove(path, &changes) }
            ephemerals[write.sessionID] = nil
            return []
        case .reapContainers:
            for path in containers.sorted()
            where nodes[path]!.createdChildren > 0 && childNames[path, default: []].isEmpty {
                remove(path, &changes)
            }
            return []
        case .one, .multi, .setAccessControl: break
        }
        // A server may have taken a request just before the session's end was committed.
        guard sessions.contains(write.sessionID) else { throw refusal(.sessionExpired, nil) }
        switch write.operation {
        case .setAccessControl(let path, let acl, let aclVersion):
            try setAccessControl(path, acl, aclVersion: aclVersion, write)
            return []
        case .one(let operation):
            return [try perform(operation, write, &changes)]
        case .multi(let operations):
            return try performAll(operations, write, &changes)
        case .openSession, .closeSession, .reapContainers:
            return []
        }
    }

    /// All or nothing: what was done before the operation that failed is undone.
    private mutating func performAll(
        _ operations: [StoreOperation], _ write: Write, _ changes: inout [Change]
    ) throws(StoreError) -> [StoreOperationResult] {
        journal = []
        var results: [StoreOperationResult] = []
        for (index, operation) in operations.enumerated() {
            do throws(StoreError) {
                results.append(try perform(operation, write, &changes))
            } catch {
                rollBack()
                var error = error
                error.operationIndex = index
                throw error
            }
        }
        journal = nil
        return results
    }

    private mutating func rollBack() {
        let entries = journal ?? []
        journal = nil
        for entry in entries.reversed() {
            switch entry {
            case .node(let path, let node): put(path, node)
            case .childAdded(let parent, let name): childNames[parent]?.remove(name)
            case .childRemoved(let parent, let name): childNames[parent, default: []].insert(name)
            }
        }
    }

    private mutating func perform(
        _ operation: StoreOperation, _ write: Write, _ changes: inout [Change]
    ) throws(StoreError) -> StoreOperationResult {
        switch operation {
        case .check(let path, let version):
            let node = try node(path)
            try require(.read, node.acl, write.identities, path)
            guard version == -1 || version == node.version else { throw refusal(.badVersion, path) }
            return .checked
        case .create(let path, let data, let mode, let acl):
            return .created(try create(path, data, mode, acl, write, &changes))
        case .set(let path, let data, let version):
            var node = try node(path)
            try require(.write, node.acl, write.identities, path)
            guard version == nil || version == -1 || version == node.version else { throw refusal(.badVersion, path) }
            node.data = data
            node.version &+= 1
            node.modifiedTransaction = lastTransaction
            node.modifiedAtMilliseconds = write.timeMilliseconds
            put(path, node)
            changes.append(Change(path: path, event: .changed, acl: node.acl))
            return .set(stat(path, node))
        case .delete(let path, let version):
            guard !Self.ownPaths.contains(path) else { throw refusal(.badArguments, path) }
            let parent = try self.node(NodePath.split(path).parent, for: path)
            try require(.delete, parent.acl, write.identities, path)
            let node = try node(path)
            guard version == nil || version == -1 || version == node.version else { throw refusal(.badVersion, path) }
            guard childNames[path, default: []].isEmpty else { throw refusal(.notEmpty, path) }
            remove(path, &changes)
            return .deleted
        }
    }

    private mutating func create(
        _ path: String, _ data: [UInt8], _ mode: CreateMode, _ acl: [AccessControl], _ write: Write,
        _ changes: inout [Change]
    ) throws(StoreError) -> String {
        let acl = try resolve(acl, write.identities, path)
        let (parentPath, name) = NodePath.split(path)
        let parent = try node(parentPath, for: path)
        try require(.create, parent.acl, write.identities, path)
        let isSequential = mode == .persistentSequential || mode == .ephemeralSequential
        let created = isSequential ? path + Self.tenDigits(parent.createdChildren) : path
        guard nodes[created] == nil else { throw refusal(.nodeExists, path) }
        guard parent.ephemeralOwner == 0 else { throw refusal(.noChildrenForEphemerals, path) }
        put(
            created,
            Node(
                data: data, acl: acl, createdTransaction: lastTransaction, modifiedTransaction: lastTransaction,
                childrenTransaction: lastTransaction, createdAtMilliseconds: write.timeMilliseconds,
                modifiedAtMilliseconds: write.timeMilliseconds,
                ephemeralOwner: mode == .ephemeral || mode == .ephemeralSequential ? write.sessionID : 0,
                isContainer: mode == .container))
        let createdName = isSequential ? NodePath.split(created).name : name
        touchParent(parentPath) { $0.createdChildren &+= 1 }
        childNames[parentPath, default: []].insert(createdName)
        journal?.append(.childAdded(parent: parentPath, createdName))
        changes.append(Change(path: created, event: .created, acl: acl))
        changes.append(Change(path: parentPath, event: .childrenChanged, acl: parent.acl))
        return created
    }

    private mutating func remove(_ path: String, _ changes: inout [Change]) {
        let (parent, name) = NodePath.split(path)
        let acl = nodes[path]?.acl ?? []
        put(path, nil)
        touchParent(parent) { _ in }
        if childNames[parent]?.remove(name) != nil { journal?.append(.childRemoved(parent: parent, name)) }
        if childNames[path]?.isEmpty == true { childNames[path] = nil }
        changes.append(Change(path: path, event: .deleted, acl: acl))
        changes.append(Change(path: parent, event: .childrenChanged, acl: nodes[parent]?.acl ?? []))
    }

    private mutating func touchParent(_ path: String, _ change: (inout Node) -> Void) {
        guard var parent = nodes[path] else { return }
        parent.childrenTransaction = lastTransaction
        change(&parent)
        put(path, parent)
    }

    private mutating func setAccessControl(
        _ path: String, _ acl: [AccessControl], aclVersion: Int32?, _ write: Write
    ) throws(StoreError) {
        let acl = try resolve(acl, write.identities, path)
        var node = try node(path)
        try require(.admin, node.acl, write.identities, path)
        guard aclVersion == nil || aclVersion == -1 || aclVersion == node.aclVersion else {
            throw refusal(.badVersion, path)
        }
        node.acl = acl
        node.aclVersion &+= 1
        put(path, node)
    }

    /// The one place where a node comes, changes or goes.
    private mutating func put(_ path: String, _ node: Node?) {
        let old = nodes[path]
        journal?.append(.node(path, old))
        if let old {
            if old.ephemeralOwner != 0 { ephemerals[old.ephemeralOwner]?.remove(path) }
            if old.isContainer { containers.remove(path) }
        }
        if let node {
            if node.ephemeralOwner != 0 { ephemerals[node.ephemeralOwner, default: []].insert(path) }
            if node.isContainer { containers.insert(path) }
        }
        nodes[path] = node
    }

    private static func tenDigits(_ number: Int32) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 10 - digits.count)) + digits
    }

    // MARK: Reading

    public func get(_ path: String, as identities: [ZnodeIdentity] = []) throws(StoreError) -> NodeValue {
        let node = try node(path)
        try require(.read, node.acl, identities, path)
        return NodeValue(data: node.data, stat: stat(path, node))
    }

    /// Needs no permission, as in ZooKeeper.
    public func exists(_ path: String) -> NodeStat? {
        nodes[path].map { stat(path, $0) }
    }

    /// Names in alphabetical order.
    public func children(_ path: String, as identities: [ZnodeIdentity] = []) throws(StoreError) -> NodeChildren {
        let node = try node(path)
        try require(.read, node.acl, identities, path)
        return NodeChildren(names: childNames[path, default: []].sorted(), stat: stat(path, node))
    }

    /// Whoever may read but not administer sees digests as `x`, as in ZooKeeper.
    public func accessControl(
        _ path: String, as identities: [ZnodeIdentity] = []
    ) throws(StoreError) -> (acl: [AccessControl], stat: NodeStat) {
        let node = try node(path)
        try require([.read, .admin], node.acl, identities, path)
        guard !allows(.admin, node.acl, identities) else { return (node.acl, stat(path, node)) }
        let masked = node.acl.map { entry -> AccessControl in
            guard entry.scheme == ZnodeIdentity.digestScheme, let colon = entry.identity.lastIndex(of: ":") else {
                return entry
            }
            var entry = entry
            entry.identity = entry.identity[...colon] + "x"
            return entry
        }
        return (masked, stat(path, node))
    }

    private func node(_ path: String, for culprit: String? = nil) throws(StoreError) -> Node {
        guard let node = nodes[path] else { throw refusal(.noNode, culprit ?? path) }
        return node
    }

    private func stat(_ path: String, _ node: Node) -> NodeStat {
        let count = Int32(childNames[path]?.count ?? 0)
        // Creations are counted; deletions are the creations that are not there any more.
        return NodeStat(
            createdTransaction: node.createdTransaction, modifiedTransaction: node.modifiedTransaction,
            createdAtMilliseconds: node.createdAtMilliseconds, modifiedAtMilliseconds: node.modifiedAtMilliseconds,
            version: node.version, childrenVersion: node.createdChildren &* 2 &- count, aclVersion: node.aclVersion,
            ephemeralOwner: node.ephemeralOwner, dataLengthBytes: Int32(node.data.count), childCount: count)
    }
}
