public import StrictCoding

/// `/<app>/sources/<name>`: what a detector outside the agents proposes. One writer each.
public struct SourceDocument: RegistryDocument {
    public enum Grade: String, Codable, Sendable, Hashable, CaseIterable {
        /// The rates were counted.
        case exact
        /// The rates were sampled or inferred (an LFU scan).
        case estimate

        public init(from decoder: any Decoder) throws { try self.init(wordFrom: decoder) }
    }
    public struct Candidate: Codable, Sendable, Hashable, Validating {
        public var key: KeyName
        public var readsPerSecond: Double
        public var writesPerSecond: Double
        public var bytesPerSecond: Double
        /// Of the reads: those that find nothing.
        public var missesPerSecond: Double
        /// The most by which the true rate of reads and writes together may be above or below the two rates together.
        public var errorPerSecond: Double
        /// The proposal counts until then, by the coordinator's clock.
        public var expiresAt: Timestamp

        public init(
            key: KeyName, readsPerSecond: Double, writesPerSecond: Double = 0, bytesPerSecond: Double = 0,
            missesPerSecond: Double = 0, errorPerSecond: Double = 0, expiresAt: Timestamp
        ) {
            self.key = key
            self.readsPerSecond = readsPerSecond
            self.writesPerSecond = writesPerSecond
            self.bytesPerSecond = bytesPerSecond
            self.missesPerSecond = missesPerSecond
            self.errorPerSecond = errorPerSecond
            self.expiresAt = expiresAt
        }

        private enum CodingKeys: String, CodingKey, CaseIterable {
            case key, readsPerSecond, writesPerSecond, bytesPerSecond, missesPerSecond, errorPerSecond, expiresAt
        }

        public init(from decoder: any Decoder) throws {
            let fields = try decoder.container(keyedBy: CodingKeys.self)
            key = try fields.decode(KeyName.self, forKey: .key)
            readsPerSecond = try fields.decode(Double.self, forKey: .readsPerSecond)
            writesPerSecond = try fields.decode(.writesPerSecond, default: 0)
            bytesPerSecond = try fields.decode(.bytesPerSecond, default: 0)
            missesPerSecond = try fields.decode(.missesPerSecond, default: 0)
            errorPerSecond = try fields.decode(.errorPerSecond, default: 0)
            expiresAt = try fields.decode(Timestamp.self, forKey: .expiresAt)
        }

        public func validate() throws {
            for (name, rate) in [
                ("readsPerSecond", readsPerSecond), ("writesPerSecond", writesPerSecond),
                ("bytesPerSecond", bytesPerSecond), ("missesPerSecond", missesPerSecond),
                ("errorPerSecond", errorPerSecond),
            ] {
                try require(rate >= 0 && rate <= 1e15, .field(name), expected: "a rate of 0 or more")
            }
        }
    }

    public static let bytesMax = RegistryLimits.sourceBytesMax
    public var schema: Int
    public var grade: Grade
    public var candidates: [Candidate]

    public init(grade: Grade = .exact, candidates: [Candidate]) {
        schema = RegistryLimits.schema
        self.grade = grade
        self.candidates = candidates
    }

    /// With the first of `candidates` for which there is room in a znode.
    public init(grade: Grade, fitting candidates: [Candidate]) {
        var bytes = Self.emptyBytes
        let fitting = candidates.prefix { candidate in
            // One that cannot be encoded is told by the write.
            bytes += ((try? StrictEncoder.encode(candidate).count) ?? 0) + 1
            return bytes <= Self.bytesMax
        }
        self.init(grade: grade, candidates: Array(fitting))
    }

    /// Of a document without candidates, and more.
    private static let emptyBytes = 128

    private enum CodingKeys: String, CodingKey, CaseIterable { case schema, grade, candidates }

    public func validate() throws {
        try requireSchema()
        var seen: Set<KeyName> = []
        for (index, candidate) in candidates.enumerated() where !seen.insert(candidate.key).inserted {
            throw FieldProblem(at: ["candidates", .index(index), "key"], expected: "each key once")
        }
    }
}

/// `/<app>/agents/<id>`: a live agent.
public struct AgentDocument: RegistryDocument {
    public static let bytesMax = RegistryLimits.agentBytesMax
    public var schema: Int
    /// `host:port` of its peer listener.
    public var peer: String
    /// Of the program.
    public var version: String
    /// By the agent's clock.
    public var startedAt: Timestamp

    public init(peer: String, version: String, startedAt: Timestamp) {
        schema = RegistryLimits.schema
        self.peer = peer
        self.version = version
        self.startedAt = startedAt
    }

    private enum CodingKeys: String, CodingKey, CaseIterable { case schema, peer, version, startedAt }

    public func validate() throws {
        try requireSchema()
        try require(HostAndPort.isValid(peer), "peer", expected: "host:port with a port from 1 to 65535")
        try require(
            (1...RegistryLimits.agentIDBytesMax).contains(version.utf8.count), "version",
            expected: "1 to \(RegistryLimits.agentIDBytesMax) bytes")
    }
}

/// `/<app>/leader/<candidate>`: whose candidacy a node in the election is.
public struct LeaderDocument: RegistryDocument {
    public static let bytesMax = RegistryLimits.leaderBytesMax
    public var schema: Int
    public var agent: String

    public init(agent: String) {
        schema = RegistryLimits.schema
        self.agent = agent
    }

    private enum CodingKeys: String, CodingKey, CaseIterable { case schema, agent }

    public func validate() throws {
        try requireSchema()
        try require(
            ZnodeName.isValid(agent, bytesMax: RegistryLimits.agentIDBytesMax), "agent", expected: "an agent's id")
    }
}
