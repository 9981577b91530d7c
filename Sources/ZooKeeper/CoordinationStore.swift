/// The operations of a ZooKeeper-like store that the registry is built on.
///
/// ``ZooKeeperClient`` is the implementation that talks to an ensemble. Whoever needs znodes takes
/// `some CoordinationStore` or `any CoordinationStore`: the same code runs on any store that keeps these promises.
///
/// Promises every store keeps:
/// - Paths are absolute, relative to the store's chroot, and validated before anything is sent
///   (``StoreError/Code/badArguments``).
/// - An operation resumes exactly once: with its result, with a ``StoreError``, or with `CancellationError`.
///   A deadline or a cancellation abandons the wait, not the operation: a write may still take effect.
/// - ``StoreError/Code/connectionLoss`` and ``StoreError/Code/deadlineExceeded`` on a write mean *unknown*: it may or
///   may not have happened. Read and compare before doing it again.
public protocol CoordinationStore: Sendable {
    /// The connection state now and every change of it, beginning with the current one. Several readers may listen;
    /// a slow reader sees the newest state, not every state in between.
    var connectionStates: ConnectionStates { get }

    /// What is proven of the session's life, `nil` while there is none: before the first connection, while lost, after
    /// the close.
    var lease: SessionLease? { get }

    /// The data and metadata of a node. Errors: ``StoreError/Code/noNode``.
    func get(_ path: String) async throws -> NodeValue
    /// As ``get(_:)``, and `onEvent` is called at most once, when the node changes or is deleted, or when the session
    /// that holds the watch is lost (``WatchEvent/sessionLost``). When this throws `noNode`, no watch is left.
    func get(_ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void) async throws -> NodeValue
    /// Metadata of a node, `nil` when there is none.
    func exists(_ path: String) async throws -> NodeStat?
    /// As ``exists(_:)``, with a watch in both cases: creation, change and deletion fire it, once.
    func exists(_ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void) async throws -> NodeStat?
    /// Names (not paths) of the children, unsorted. Errors: ``StoreError/Code/noNode``.
    func children(_ path: String) async throws -> NodeChildren
    /// As ``children(_:)``, with a watch that fires once when a child is added or removed or the node is deleted.
    func children(_ path: String, onEvent: @escaping @Sendable (WatchEvent) -> Void) async throws -> NodeChildren
    /// Replaces the data. `version` nil means any version. Errors: `noNode`, `badVersion`.
    @discardableResult
    func set(_ path: String, _ data: [UInt8], version: Int32?) async throws -> NodeStat
    /// Creates a node and returns its path (with the sequence number where `mode` is sequential).
    /// Errors: `nodeExists`, `noNode` (the parent is missing), `noChildrenForEphemerals`.
    @discardableResult
    func create(_ path: String, _ data: [UInt8], mode: CreateMode, acl: [AccessControl]) async throws -> String
    /// Deletes a node without children. `version` nil means any version. Errors: `noNode`, `badVersion`, `notEmpty`.
    func delete(_ path: String, version: Int32?) async throws
    /// All of the operations or none. The results stand in the order of the operations. When the store refuses, the
    /// error is that of the first operation that failed and carries its index (``StoreError/operationIndex``).
    @discardableResult
    func multi(_ operations: [StoreOperation]) async throws -> [StoreOperationResult]
    /// Waits until this session's server has caught up with the leader, so that a read after it is not older than the
    /// call.
    func sync(_ path: String) async throws
    func accessControl(_ path: String) async throws -> (acl: [AccessControl], stat: NodeStat)
    func setAccessControl(_ path: String, _ acl: [AccessControl], aclVersion: Int32?) async throws
}

extension CoordinationStore {
    @discardableResult
    public func create(_ path: String, _ data: [UInt8] = [], mode: CreateMode = .persistent) async throws -> String {
        try await create(path, data, mode: mode, acl: AccessControl.openUnsafe)
    }
}

/// What an application has to know of the connection; the seven states of the C library collapse to these.
public enum ConnectionState: Sendable, Hashable {
    /// A session is established. `sessionID` changes only when a new session replaced a lost one: ephemeral nodes of
    /// the old one are gone (or about to go) and everything read before is of unknown version.
    case connected(sessionID: Int64)
    /// No server is reached; the session may or may not still live. Leaders step down here.
    case suspended
    /// The session is gone for good; the client goes on trying to establish a new one. Also the state before the first
    /// connection and after `close()`.
    case lost
}

/// Why a watch fired. Never act on the event alone: read again.
public enum WatchEvent: Sendable, Hashable {
    case created
    case changed
    case deleted
    case childrenChanged
    /// The session that held the watch is gone (or the client was closed): nothing is known, read again.
    case sessionLost
}

public struct NodeStat: Sendable, Hashable {
    /// Transaction that created the node: tells a node from a later one of the same name.
    public var createdTransaction: Int64
    /// Transaction of the last change of the data.
    public var modifiedTransaction: Int64
    /// Milliseconds since 1970 by the server's clock.
    public var createdAtMilliseconds: Int64
    public var modifiedAtMilliseconds: Int64
    /// Counts changes of the data; starts at 0.
    public var version: Int32
    public var childrenVersion: Int32
    public var aclVersion: Int32
    /// Session that owns an ephemeral node, 0 for others.
    public var ephemeralOwner: Int64
    public var dataLengthBytes: Int32
    public var childCount: Int32

    public init(
        createdTransaction: Int64 = 0, modifiedTransaction: Int64 = 0, createdAtMilliseconds: Int64 = 0,
        modifiedAtMilliseconds: Int64 = 0, version: Int32 = 0, childrenVersion: Int32 = 0, aclVersion: Int32 = 0,
        ephemeralOwner: Int64 = 0, dataLengthBytes: Int32 = 0, childCount: Int32 = 0
    ) {
        self.createdTransaction = createdTransaction
        self.modifiedTransaction = modifiedTransaction
        self.createdAtMilliseconds = createdAtMilliseconds
        self.modifiedAtMilliseconds = modifiedAtMilliseconds
        self.version = version
        self.childrenVersion = childrenVersion
        self.aclVersion = aclVersion
        self.ephemeralOwner = ephemeralOwner
        self.dataLengthBytes = dataLengthBytes
        self.childCount = childCount
    }
}

public struct NodeValue: Sendable, Hashable {
    public var data: [UInt8]
    public var stat: NodeStat

    public init(data: [UInt8], stat: NodeStat) {
        self.data = data
        self.stat = stat
    }
}

public struct NodeChildren: Sendable, Hashable {
    public var names: [String]
    public var stat: NodeStat

    public init(names: [String], stat: NodeStat) {
        self.names = names
        self.stat = stat
    }
}

public enum CreateMode: Sendable, Hashable, CaseIterable {
    case persistent
    case persistentSequential
    case ephemeral
    case ephemeralSequential
    /// Removed by the server some time after its last child was deleted.
    case container
}

public struct AccessControl: Sendable, Hashable {
    public struct Permissions: OptionSet, Sendable, Hashable {
        public let rawValue: Int32
        public init(rawValue: Int32) { self.rawValue = rawValue }
        public static let read = Permissions(rawValue: 1)
        public static let write = Permissions(rawValue: 2)
        public static let create = Permissions(rawValue: 4)
        public static let delete = Permissions(rawValue: 8)
        public static let admin = Permissions(rawValue: 16)
        public static let all: Permissions = [.read, .write, .create, .delete, .admin]
    }
    public var permissions: Permissions
    public var scheme: String
    public var identity: String

    public init(permissions: Permissions, scheme: String, identity: String) {
        self.permissions = permissions
        self.scheme = scheme
        self.identity = identity
    }

    /// Everyone may do everything: ZooKeeper's default, and ours where no credentials are configured.
    public static let openUnsafe = [AccessControl(permissions: .all, scheme: "world", identity: "anyone")]
    /// Only sessions that authenticated as the creator may touch the node.
    public static let creatorAll = [AccessControl(permissions: .all, scheme: "auth", identity: "")]
}

/// One part of a ``CoordinationStore/multi(_:)``.
public enum StoreOperation: Sendable, Hashable {
    /// Fails the multi unless the node exists and has this version; -1 asks for existence alone.
    case check(String, version: Int32)
    /// Any mode but ``CreateMode/container``, which is refused as `badArguments` here.
    case create(String, data: [UInt8], mode: CreateMode, acl: [AccessControl])
    case set(String, data: [UInt8], version: Int32?)
    case delete(String, version: Int32?)
}

public enum StoreOperationResult: Sendable, Hashable {
    case checked
    case created(String)
    case set(NodeStat)
    case deleted
}

/// The error of a store. `code` says what happened; `rawCode` is what the library returned, where it did.
public struct StoreError: Error, Sendable, Hashable, CustomStringConvertible {
    public enum Code: Sendable, Hashable {
        case noNode
        case nodeExists
        case badVersion
        case notEmpty
        case noChildrenForEphemerals
        case noAuthentication
        case authenticationFailed
        case invalidACL
        /// A path or argument that can never work; nothing was sent.
        case badArguments
        /// The connection broke while the call was under way. A write may have happened.
        case connectionLoss
        /// The session of the call is gone. A write may have happened.
        case sessionExpired
        /// Our own deadline passed before an answer came. A write may still happen.
        case deadlineExceeded
        /// The client was closed; nothing more will be sent.
        case closed
        /// More calls in flight than the client allows; nothing was sent.
        case tooManyInFlight
        /// What the store sent cannot be what was asked for.
        case marshalling
        case other
    }
    public var code: Code
    public var rawCode: Int32?
    public var path: String?
    /// Which operation of a multi failed.
    public var operationIndex: Int?
    /// About how large the write was that a broken connection cut off; nil for anything else.
    public var requestBytes: Int?
    public var message: String
    public var file: String
    public var line: Int

    public init(
        _ code: Code, path: String? = nil, rawCode: Int32? = nil, operationIndex: Int? = nil, message: String = "",
        file: String = #fileID, line: Int = #line
    ) {
        self.code = code
        self.rawCode = rawCode
        self.path = path
        self.operationIndex = operationIndex
        self.message = message
        self.file = file
        self.line = line
    }

    /// Whether trying the same call again may succeed without anything else changing.
    /// For writes, see ``CoordinationStore``: the first attempt may have happened.
    public var isRetriable: Bool {
        switch code {
        case .connectionLoss, .sessionExpired, .deadlineExceeded, .tooManyInFlight: true
        default: false
        }
    }

    public var description: String {
        var text = "\(code)"
        if let rawCode { text += " (\(rawCode))" }
        if let path { text += " at \(path)" }
        if let operationIndex { text += ", operation \(operationIndex) of the multi" }
        if let requestBytes { text += ", a request of \(requestBytes) bytes" }
        return message.isEmpty ? text : "\(text): \(message)"
    }
}

/// Connection states as they come: the current one first, then every change; a slow reader gets the newest.
public struct ConnectionStates: AsyncSequence, Sendable {
    public typealias Element = ConnectionState
    private let makeStream: @Sendable () -> AsyncStream<ConnectionState>

    /// `makeStream` is called once for each reader and must yield the current state at once.
    public init(makeStream: @escaping @Sendable () -> AsyncStream<ConnectionState>) {
        self.makeStream = makeStream
    }

    public struct AsyncIterator: AsyncIteratorProtocol {
        var base: AsyncStream<ConnectionState>.AsyncIterator
        public mutating func next() async -> ConnectionState? { await base.next() }
    }

    public func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(base: makeStream().makeAsyncIterator())
    }
}
