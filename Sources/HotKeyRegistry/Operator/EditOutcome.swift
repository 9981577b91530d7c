/// What an operator's edit came to.
public struct EditOutcome: Sendable, Hashable {
    /// False when everything already was as asked: nothing was written.
    public var changed: Bool
    public var path: String
    /// The znode's version that holds the edit (or the state that needed none).
    public var version: Int32

    public init(changed: Bool, path: String, version: Int32) {
        self.changed = changed
        self.path = path
        self.version = version
    }
}

/// What ``RegistryOperator/initialise(topology:control:rules:pins:access:)`` did.
public struct InitialiseReport: Sendable, Hashable {
    /// Nodes that were missing, in the order of their paths.
    public var created: [String]
    /// Nodes of the hot set that could not be read and were written anew.
    public var rewritten: [String]
    /// Operators' documents that cannot be read. They were left alone: `rules apply` and its like replace them.
    public var damaged: [DocumentProblem]
    /// The registry already holds another topology than the one given; it was kept.
    public var topologyDiffers: Bool
}
