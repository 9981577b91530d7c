import StrictCoding
public import ZooKeeper

/// Who may do what with an app's znodes: three roles, the identities that have them, and from both the access control
/// list of every node of the schema. Pure.
///
/// It stands in the registry itself (`/<app>/access`), because whoever creates a node there has to give it its list:
/// agents and coordinators read it before they create one. ZooKeeper shows a list's identities only to those that may change
/// it, so a list cannot be copied from the node above. Without such a node everyone may do everything.
public struct RegistryAccess: RegistryDocument {
    public enum Role: String, Codable, Sendable, Hashable, CaseIterable {
        /// Everything, access control included.
        case `operator`
        /// What agents, coordinators and detectors write; reads the rest.
        case agent
        /// Reads everything but the identities.
        case reader
    }

    public static let bytesMax = RegistryLimits.accessBytesMax
    public var schema: Int
    public var operators: [DigestIdentity]
    public var agents: [DigestIdentity]
    public var readers: [DigestIdentity]
    /// Whether reading needs no authentication.
    public var anyoneMayRead: Bool

    public init(
        operators: [DigestIdentity], agents: [DigestIdentity] = [], readers: [DigestIdentity] = [],
        anyoneMayRead: Bool = false
    ) {
        schema = RegistryLimits.schema
        self.operators = operators
        self.agents = agents
        self.readers = readers
        self.anyoneMayRead = anyoneMayRead
    }

    private enum CodingKeys: String, CodingKey, CaseIterable { case schema, operators, agents, readers, anyoneMayRead }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        schema = try fields.decode(Int.self, forKey: .schema)
        operators = try fields.decode([DigestIdentity].self, forKey: .operators)
        agents = try fields.decode(.agents, default: [])
        readers = try fields.decode(.readers, default: [])
        anyoneMayRead = try fields.decode(.anyoneMayRead, default: false)
    }

    public func validate() throws {
        try requireSchema()
        try require(!operators.isEmpty, "operators", expected: "at least one identity, or nobody could change anything")
        var seen: Set<DigestIdentity> = []
        for (field, identities) in [("operators", operators), ("agents", agents), ("readers", readers)] {
            try require(
                identities.count <= RegistryLimits.identitiesPerRoleMax, .field(field),
                expected: "at most \(RegistryLimits.identitiesPerRoleMax) identities", found: "\(identities.count)")
            for (index, identity) in identities.enumerated() where !seen.insert(identity).inserted {
                throw FieldProblem(at: [.field(field), .index(index)], expected: "each identity once, in one role")
            }
        }
    }

    public func identities(of role: Role) -> [DigestIdentity] {
        switch role {
        case .operator: operators
        case .agent: agents
        case .reader: readers
        }
    }

    public func role(of identity: DigestIdentity) -> Role? {
        Role.allCases.first { identities(of: $0).contains(identity) }
    }

    /// What a role may do with a node. A child may be deleted by whoever may `delete` in the node above it.
    ///
    /// A node in `leader/` is not writable for agents: the fence of a publication checks that the election node is at
    /// version 0, so an agent that could write it could depose its leader. Its node in `agents/` an agent writes to learn the
    /// ensemble's time.
    public static func permissions(of role: Role, on node: RegistryNode) -> AccessControl.Permissions {
        switch (role, node) {
        case (.operator, _): .all
        case (.agent, .hot), (.agent, .bucket): [.read, .write, .create]
        case (.agent, .sources), (.agent, .source), (.agent, .agent): [.read, .write, .create, .delete]
        case (.agent, .leader), (.agent, .candidate), (.agent, .agents): [.read, .create, .delete]
        case (.agent, _): .read
        case (.reader, .access): []
        case (.reader, _): .read
        }
    }

    /// The whole list of a node.
    public func accessControl(of node: RegistryNode) -> [AccessControl] {
        var entries: [AccessControl] = []
        for role in Role.allCases {
            let permissions = Self.permissions(of: role, on: node)
            guard !permissions.isEmpty else { continue }
            entries += identities(of: role).map { $0.entry(permissions) }
        }
        if anyoneMayRead, !Self.permissions(of: .reader, on: node).isEmpty {
            entries.append(AccessControl(permissions: .read, scheme: "world", identity: "anyone"))
        }
        return entries
    }

    /// The list of the root, which several apps may share: what other apps put there stays, what `former` asked for and
    /// this one does not goes, and so does a right of everyone to write.
    public static func rootAccessControl(
        _ current: [AccessControl], former: RegistryAccess?, now: RegistryAccess?
    ) -> [AccessControl] {
        let wanted = now?.accessControl(of: .root) ?? []
        let dropped = Set((former?.accessControl(of: .root) ?? []).filter { !wanted.contains($0) })
        let kept = current.filter { entry in
            !dropped.contains(entry) && !wanted.contains(entry) && !(entry.isForAnyone && entry.permissions != .read)
        }
        let result = kept + wanted
        return result.isEmpty ? AccessControl.openUnsafe : result
    }
}

extension AccessControl {
    var isForAnyone: Bool { scheme == "world" && identity == "anyone" }

    /// As ZooKeeper shows it to a session that may not change the list: without the hash.
    var redacted: AccessControl {
        guard scheme == DigestIdentity.scheme, let colon = identity.firstIndex(of: ":") else { return self }
        return AccessControl(permissions: permissions, scheme: scheme, identity: identity[..<colon] + ":x")
    }

    /// `digest ann cdrwa`: for people, without the hash.
    var summary: String {
        let letters: [(Permissions, String)] = [
            (.create, "c"), (.delete, "d"), (.read, "r"), (.write, "w"), (.admin, "a"),
        ]
        let who = scheme == DigestIdentity.scheme ? String(identity.prefix { $0 != ":" }) : "\(scheme):\(identity)"
        return "\(who) " + letters.filter { permissions.contains($0.0) }.map(\.1).joined()
    }
}
