public import StrictCoding
public import ZooKeeper

/// The error of the registry: what happened, what it means, what to do.
public struct RegistryError: Error, Sendable, CustomStringConvertible {
    public enum Code: Sendable, Hashable {
        /// An argument that can never work: a bad name, path, key or value. Nothing was sent.
        case badArgument
        /// A document in the registry, or one about to be written, is not valid. ``RegistryError/document`` says where.
        case badDocument
        /// A document would pass the cap of its znode. Nothing was written.
        case tooLarge
        /// The app has no znodes yet: `hkctl init` creates them.
        case notInitialised
        /// Another coordinator leads; this one must not write any more.
        case deposed
        /// Someone else wrote the published hot set although this coordinator still holds its election node. Read it
        /// again before writing.
        case conflictingWriter
        /// An edit lost against other writers in every attempt. Nothing was written; trying again may succeed.
        case contention
        /// Whether the write happened is not known and could not be found out.
        case unknownOutcome
        /// The connection broke each time a large request was sent: most likely it is larger than what the servers take. Nothing
        /// was written.
        case requestDropped
        /// The store failed. ``RegistryError/store`` says how.
        case store
        /// The state directory cannot be used.
        case stateDirectory
    }
    public var code: Code
    public var message: String
    public var path: String?
    public var document: DocumentError?
    public var store: StoreError?
    public var file: String
    public var line: Int

    public init(
        _ code: Code, _ message: String, path: String? = nil, document: DocumentError? = nil,
        store: StoreError? = nil, file: String = #fileID, line: Int = #line
    ) {
        self.code = code
        self.message = message
        self.path = path
        self.document = document
        self.store = store
        self.file = file
        self.line = line
    }

    /// Whether the same call may succeed later without anything else changing.
    public var isRetriable: Bool {
        switch code {
        case .contention, .unknownOutcome: true
        case .store: store?.isRetriable ?? false
        default: false
        }
    }

    public var description: String {
        var text = message
        if let document { text += text.isEmpty ? "\(document)" : ": \(document)" }
        if let store { text += text.isEmpty ? "\(store)" : ": \(store)" }
        return text
    }
}
