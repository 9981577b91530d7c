/// What keeps an agent from starting or from acting on what the registry says.
public struct AgentError: Error, Sendable, CustomStringConvertible {
    public enum Code: Sendable, Hashable {
        /// The registry's topology cannot be used by this version.
        case unusableTopology
        /// The peer listener is bound to an address under which other hosts would find themselves.
        case unreachablePeer
        /// The peer listener would let other hosts in without asking who they are.
        case openPeer
        /// A socket that was handed over at the start cannot be used.
        case unusableSocket
        /// What was asked is known to the coordinating agent alone.
        case notCoordinating
        /// So many ask for the same that another one has to wait.
        case tooBusy
        /// A service of the agent ended although nobody asked it to.
        case serviceEnded
    }
    public var code: Code
    public var message: String
    public var file: String
    public var line: Int

    init(_ code: Code, _ message: String, file: String = #fileID, line: Int = #line) {
        self.code = code
        self.message = message
        self.file = file
        self.line = line
    }

    public var description: String { message }
}
