import StrictCoding
public import ZooKeeper

/// A store seen as documents: bytes go through ``RegistryCodec``, errors become ``RegistryError``.
struct RegistryStore: Sendable {
    let store: any CoordinationStore
    let paths: RegistryPaths

    func read<Document: RegistryDocument>(_ type: Document.Type, at path: String) async throws -> Stored<Document> {
        let value = try await translating(path) { try await store.get(path) }
        do {
            return Stored(document: try RegistryCodec.decode(type, from: value.data, source: path), stat: value.stat)
        } catch {
            throw RegistryError(.badDocument, "", path: path, document: error)
        }
    }

    /// What a node that is created now has to be given, as the registry itself says. Everything for everyone where it says
    /// nothing. Errors: those of the store, ``RegistryError/Code/badDocument``.
    func accessControl(of node: RegistryNode) async throws -> [AccessControl] {
        do {
            return try await access()?.accessControl(of: node) ?? AccessControl.openUnsafe
        } catch let error as RegistryError {
            // Callers tell what may pass from what may not by the store's own error.
            throw error.store ?? error
        }
    }

    /// Nil when the app's nodes are open to everyone.
    func access() async throws -> RegistryAccess? {
        do {
            return try await read(RegistryAccess.self, at: paths.access).document
        } catch let error as RegistryError where error.code == .notInitialised {
            return nil
        }
    }

    func encode(_ document: some RegistryDocument, for path: String) throws(RegistryError) -> [UInt8] {
        do {
            return try RegistryCodec.encode(document, source: path)
        } catch {
            if error.code == .tooLarge {
                throw RegistryError(
                    .tooLarge, "nothing was written: \(path) would pass its cap", path: path, document: error)
            }
            throw RegistryError(.badDocument, "nothing was written", path: path, document: error)
        }
    }

    func translating<Result>(_ path: String, _ body: () async throws -> Result) async throws -> Result {
        do {
            return try await body()
        } catch let error as StoreError {
            throw Self.translate(error, path: path, app: paths)
        }
    }

    /// What to say when the connection broke whenever a write of so many bytes was sent.
    static func dropped(_ bytes: Int, path: String) -> RegistryError {
        RegistryError(
            .requestDropped,
            "\(path) was not written: the connection broke each time that the request of about \(bytes) bytes was sent. The "
                + "servers' jute.maxbuffer may be smaller than that: leave it at its default of 1048575 (-Djute.maxbuffer) on "
                + "all servers, and restart them", path: path)
    }

    static func translate(_ error: StoreError, path: String, app: RegistryPaths) -> RegistryError {
        switch error.code {
        case .noNode:
            RegistryError(
                .notInitialised,
                "\(error.path ?? path) does not exist: the app \"\(app.app)\" is not initialised; `hkctl init` creates it",
                path: path, store: error)
        case .noAuthentication:
            RegistryError(
                .store,
                "ZooKeeper refuses access to \(error.path ?? path): its access control list does not give what was asked "
                    + "for to the user that this session authenticated as", path: path, store: error)
        case .authenticationFailed, .invalidACL:
            RegistryError(
                .store, "ZooKeeper refuses the credentials of this session at \(path)", path: path, store: error)
        default: RegistryError(.store, "\(path) cannot be reached", path: path, store: error)
        }
    }
}

extension StoreError {
    /// The session may not do what it asked for.
    var isRefusal: Bool { [.noAuthentication, .authenticationFailed, .invalidACL].contains(code) }

    /// A server cuts the connection when a request is larger than it takes, and says nothing. One such end proves nothing.
    var mayBeDropped: Bool {
        code == .connectionLoss && (requestBytes ?? 0) >= RegistryLimits.droppedRequestBytesMin
    }

    /// After this error a write may have happened or may still happen.
    var leavesOutcomeUnknown: Bool {
        switch code {
        case .connectionLoss, .sessionExpired, .deadlineExceeded: true
        default: false
        }
    }
}

/// A document and the state of its znode.
public struct Stored<Document: RegistryDocument>: Sendable, Hashable {
    public var document: Document
    public var stat: NodeStat
    /// The znode's version: what a compare-and-set compares.
    public var version: Int32 { stat.version }

    public init(document: Document, stat: NodeStat) {
        self.document = document
        self.stat = stat
    }
}

/// Runs what must still happen although the caller has been cancelled, such as deleting an ephemeral node on the way out:
/// the task is not a child, so it does not inherit the cancellation, and its end is awaited all the same.
func uncancelled(_ body: @escaping @Sendable () async -> Void) async {
    await Task { await body() }.value
}
