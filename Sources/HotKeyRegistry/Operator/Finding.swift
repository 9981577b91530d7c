/// Something that is not as it should be, and what to do about it.
public struct Finding: Sendable, Hashable, Codable {
    public enum Severity: String, Codable, Sendable, Hashable, CaseIterable {
        /// Something does not work, or may stop working at any time.
        case error
        /// It works; look at it.
        case warning
    }
    /// Stable: scripts may rely on it.
    public enum Code: String, Codable, Sendable, Hashable, CaseIterable {
        // The ensemble.
        case serverUnreachable = "server-unreachable"
        case serverNotServing = "server-not-serving"
        case serverSilent = "server-silent"
        case serversSeparate = "servers-separate"
        case serverVersionsDiffer = "server-versions-differ"
        // The nodes.
        case nodeMissing = "node-missing"
        case nodeUnknown = "node-unknown"
        case nodeRefused = "node-refused"
        case ownerWrong = "owner-wrong"
        case documentInvalid = "document-invalid"
        case documentTooLarge = "document-too-large"
        case documentNearCap = "document-near-cap"
        case hotSetTorn = "hot-set-torn"
        // Access control.
        case accessOpen = "access-open"
        case accessWrong = "access-wrong"
        case accessUnverified = "access-unverified"
        // The fleet.
        case agentsNone = "agents-none"
        case leaderNone = "leader-none"
        case agentSilent = "agent-silent"
        case agentStale = "agent-stale"
        case agentBehind = "agent-behind"
        case agentModeDiffers = "agent-mode-differs"
        case agentUntracked = "agent-untracked"
        case agentServesStale = "agent-serves-stale"
        case agentUncached = "agent-uncached"
        case clockSkew = "clock-skew"
        case clockUnknown = "clock-unknown"
    }
    public var severity: Severity
    public var code: Code
    /// The znode, the server or the agent.
    public var subject: String
    /// What is wrong and what it means.
    public var message: String
    public var remedy: String

    public init(_ severity: Severity, _ code: Code, _ subject: String, _ message: String, remedy: String) {
        self.severity = severity
        self.code = code
        self.subject = subject
        self.message = message
        self.remedy = remedy
    }
}
