/// A user and a password to log in with.
public struct Login: Sendable, Hashable {
    public var user: String
    public var password: SecretBytes

    public init(user: String, password: SecretBytes) {
        self.user = user
        self.password = password
    }
}

/// As whom to log in at cache nodes: one login for all, others for single nodes.
public struct NodeLogins: Sendable, Hashable {
    public var common: Login?
    public var byNode: [String: Login] = [:]

    public func login(node: String) -> Login? { byNode[node] ?? common }

    /// From a file of lines `USER:PASSWORD` (for every node; at most one) and `node NAME USER:PASSWORD`.
    public static func reloaded(
        _ path: String, name: String
    ) throws(TransportSecurityError) -> ReloadedFiles<NodeLogins> {
        try ReloadedFiles(name: name, paths: [path]) { () throws(TransportSecurityError) in
            let lines = try SecretLines(path, name: name)
            var logins = NodeLogins()
            for line in lines.all where line.bytes.first != UInt8(ascii: "#") { try logins.add(line, in: lines) }
            return logins
        }
    }

    init() {}

    private mutating func add(_ line: SecretLines.Line, in lines: SecretLines) throws(TransportSecurityError) {
        // A user has no blank, so what has one before its first colon names a node.
        let words = line.bytes.split(separator: UInt8(ascii: " "), maxSplits: 2, omittingEmptySubsequences: false)
        guard words.count == 3, words[0].elementsEqual("node".utf8) else {
            let (user, password) = try lines.login(line)
            guard common == nil else {
                throw lines.problem(
                    at: line.number, "expected one USER:PASSWORD for all nodes, others as node NAME USER:PASSWORD")
            }
            common = Login(user: String(decoding: user, as: UTF8.self), password: SecretBytes(password))
            return
        }
        let node = String(decoding: words[1], as: UTF8.self)
        let (user, password) = try lines.login(.init(number: line.number, bytes: Array(words[2])))
        guard
            byNode.updateValue(
                Login(user: String(decoding: user, as: UTF8.self), password: SecretBytes(password)), forKey: node)
                == nil
        else { throw lines.problem(at: line.number, "expected each node once") }
    }
}

/// The password that a fleet's agents and tools share: all of the file's lines are accepted, the first one is presented. So it
/// can be changed agent by agent: add the new one below, everywhere; move it to the top, everywhere; take the old one out.
public struct SharedPassword: Sendable {
    public let accepted: AccessList
    public let presented: SecretBytes

    public static func reloaded(
        _ path: String, name: String
    ) throws(TransportSecurityError) -> ReloadedFiles<SharedPassword> {
        try ReloadedFiles(name: name, paths: [path]) { () throws(TransportSecurityError) in
            let lines = try SecretLines(path, name: name)
            var list = AccessList()
            for line in lines.all {
                try list.add(
                    Array(AccessList.defaultUser.utf8), line.bytes, in: lines, at: line.number, mayBeDigest: false)
            }
            return SharedPassword(accepted: list, presented: SecretBytes(lines.all[0].bytes))
        }
    }
}
