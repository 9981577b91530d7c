import Logging
import NIOConcurrencyHelpers
import NIOCore
import RESP
public import TransportSecurity

/// How the agent connects to cache nodes, whichever they are and however they were found: encrypted or not, and as whom.
public struct UpstreamSecurity: Sendable {
    /// nil: connections are not encrypted.
    public var tls: TLSClient?
    /// nil: the agent does not log in. Asked for every new connection.
    public var logins: (@Sendable () -> NodeLogins)?
    /// What the nodes say to it, by all event loops.
    public let problems = UpstreamProblems()

    public init(tls: TLSClient? = nil, logins: (@Sendable () -> NodeLogins)? = nil) {
        self.tls = tls
        self.logins = logins
    }

    func login(_ node: ProxyNode) -> Login? { logins?().login(node: node.name) }
}

/// Why nodes do not let this agent in, by the nodes' names.
public final class UpstreamProblems: Sendable {
    private let byNode = NIOLockedValueBox<[String: String]>([:])

    public var all: [(node: String, problem: String)] {
        byNode.withLockedValue { $0.sorted { $0.key < $1.key }.map { (node: $0.key, problem: $0.value) } }
    }

    var isEmpty: Bool { byNode.withLockedValue { $0.isEmpty } }

    /// - Returns: whether that is news.
    func set(_ node: String, _ problem: String?) -> Bool {
        byNode.withLockedValue { problems in
            defer { problems[node] = problem }
            return problems[node] != problem
        }
    }

    /// Forgets nodes that are no more.
    func keep(_ nodes: [String]) {
        byNode.withLockedValue { problems in problems = problems.filter { nodes.contains($0.key) } }
    }
}

extension Login {
    /// The first thing that a node is sent. In RESP3 the version is chosen with it.
    func command(_ version: ProtocolVersion) -> ByteBuffer {
        let password = password.revealed
        let words: [[UInt8]]
        switch version {
        case .resp3: words = [Array("HELLO".utf8), Array("3".utf8), Array("AUTH".utf8), Array(user.utf8), password]
        // The form that servers without users know, too.
        case .resp2 where user == AccessList.defaultUser: words = [Array("AUTH".utf8), password]
        case .resp2: words = [Array("AUTH".utf8), Array(user.utf8), password]
        }
        var buffer = ByteBuffer()
        RESPWriter.writeCommand(words, to: &buffer)
        return buffer
    }
}

extension Login? {
    /// The node asks nobody for a password: it is no mistake to have one ready before the nodes ask for it.
    func needsNone(_ errorText: String) -> Bool { self?.needsNone(errorText) ?? false }
}

extension Login {
    func needsNone(_ errorText: String) -> Bool {
        user == AccessList.defaultUser
            && (errorText.hasPrefix("ERR AUTH <password> called without any password configured")
                || errorText.hasPrefix("ERR Client sent AUTH, but no password is set"))
    }
}

extension NodeState {
    /// What a node says of a login never repeats the password.
    static func refusedLogin(_ errorText: String) -> String {
        "it refuses the agent's login (upstream.credentialsFile): \(errorText.prefix(RedisProxyLimits.refusalTextMax))"
    }

    func refused(_ reason: String) {
        refusal = reason
        guard loop.configuration.upstreamSecurity.problems.set(node.name, reason) else { return }
        loop.logger.error(
            "a cache node does not let the agent in: what it holds is not served until that is put right",
            metadata: ["node": "\(node.name)", "address": "\(node.address)", "reason": "\(reason)"])
    }

    func admitted() {
        refusal = nil
        guard loop.configuration.upstreamSecurity.problems.set(node.name, nil) else { return }
        loop.logger.notice("a cache node lets the agent in again", metadata: ["node": "\(node.name)"])
    }

    /// The agent asks the node for its time without being a client's: an error there is the agent's own.
    func heedDemandForLogin(_ reply: ReplyView) {
        let security = loop.configuration.upstreamSecurity
        guard security.login(node) == nil else { return }
        guard reply.bytes.starts(with: "-NOAUTH".utf8) else {
            // TLS may have failed before.
            if refusal != nil || !security.problems.isEmpty { admitted() }
            return
        }
        let reason = "it asks for a password and the agent has none (upstream.credentialsFile)"
        guard security.problems.set(node.name, reason) else { return }
        loop.logger.warning(
            "a cache node asks for a password: clients have to log in there themselves, and no hot key of it is served",
            metadata: ["node": "\(node.name)", "address": "\(node.address)"])
    }
}
