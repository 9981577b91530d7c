import NIOCore
import RESP
import TransportSecurity

/// The list of who may use a listener, as it is now.
typealias AccessSource = @Sendable () -> AccessList

/// What a client may send before it has authenticated itself. As Redis: whoever is not known yet must not make the process hold
/// much for it.
enum UnauthenticatedInput {
    /// - Parameter bytes: from the first byte of a command on.
    static func check(_ bytes: UnsafeRawBufferPointer) throws(RESPError) {
        guard bytes.first == UInt8(ascii: "*"), let (count, first) = number(bytes, at: 0) else { return }
        guard count <= RedisProxyLimits.unauthenticatedArgumentsMax else {
            throw RESPError(.malformedRequest, "unauthenticated multibulk length")
        }
        var position = first
        while position < bytes.count, bytes[position] == UInt8(ascii: "$"),
            let (length, data) = number(bytes, at: position)
        {
            guard length <= RedisProxyLimits.unauthenticatedBulkBytesMax else {
                throw RESPError(.malformedRequest, "unauthenticated bulk length")
            }
            // What is malformed is the parser's matter.
            guard length >= 0 else { return }
            position = data + length + 2
        }
    }

    /// The number behind a type byte, and where the next line begins; `nil` when it is not there whole.
    private static func number(_ bytes: UnsafeRawBufferPointer, at start: Int) -> (Int, next: Int)? {
        let line = bytes[(start + 1)...].prefix(RedisProxyLimits.unauthenticatedNumberBytesMax)
        guard let end = line.firstIndex(of: UInt8(ascii: "\r")), end + 1 < bytes.count else { return nil }
        return Int(String(decoding: bytes[(start + 1)..<end], as: UTF8.self)).map { ($0, end + 2) }
    }
}

/// Clients that have to say who they are. Where a listener has users, `AUTH` is answered here and never reaches a node: the nodes
/// know the agent, not its clients.
extension FrontSession {
    /// As Redis: what is wrong in any case is said first.
    func handleUnauthenticated(_ command: UnsafeRawBufferPointer) {
        let name = argument(0, of: command)
        guard let spec = CommandTable.redis70.find(name) else {
            if isForAgentOrNobody(command), !isFromBrowser(name) {
                answer(error: ConnectionCommandText.authenticationRequired)
            } else if isFromBrowser(name) {
                loop.statistics.protocolErrors += 1
                close()
            } else {
                let rest = (1..<arguments.count).prefix(ProxyReply.argumentTextMax).map { argument($0, of: command) }
                answer(ProxyReply.unknownCommand(name, rest))
            }
            return
        }
        guard spec.accepts(argumentCount: arguments.count) else {
            return answer(error: ProxyReply.wrongArgumentCount(spec.name))
        }
        guard Self.needsNoAuthentication.contains(spec.index) else {
            let prefix = spec.name == "exec" ? "EXECABORT Transaction discarded because of: " : ""
            return answer(error: prefix + ConnectionCommandText.authenticationRequired)
        }
        // Left over from before a RESET: the connection still carries what RESET does not take away.
        if let bound { handleBound(bound, command) } else { dispatch(spec, CommandRoute.byIndex[spec.index], command) }
    }

    private static let needsNoAuthentication = Set(
        CommandTable.redis70.commands.filter { ["auth", "hello", "quit", "reset"].contains($0.name) }.map(\.index))

    /// Without users of its own the agent has Redis's default user, without a password: it is let in whatever it gives.
    func authenticate(_ user: UnsafeRawBufferPointer, _ password: UnsafeRawBufferPointer) -> Bool {
        let isKnown =
            access.map { $0().accepts(user: user, password: password) }
            ?? user.elementsEqual(AccessList.defaultUser.utf8)
        guard isKnown else {
            loop.statistics.authenticationFailures += 1
            return false
        }
        if access != nil { self.user = Array(user) }
        isAuthenticated = true
        return true
    }

    /// `RESET`
    func deauthenticate() {
        user = nil
        isAuthenticated = access == nil
    }

    func handleAuth(_ command: UnsafeRawBufferPointer) {
        if isTransparent, access == nil { return bindAndHandle(nil, command) }
        handleOwnAuth(command)
    }

    /// `AUTH [user] password`, where it is the agent's matter.
    func handleOwnAuth(_ command: UnsafeRawBufferPointer) {
        let reply: ByteBuffer
        switch arguments.count {
        case 2 where access == nil: reply = ProxyReply.error(ConnectionCommandText.authWithoutPassword)
        case 2:
            let user = Array(AccessList.defaultUser.utf8)
            let isKnown = user.withUnsafeBytes { authenticate($0, argument(1, of: command)) }
            reply = isKnown ? ProxyReply.ok : ProxyReply.error(ConnectionCommandText.wrongPassword)
        case 3:
            let isKnown = authenticate(argument(1, of: command), argument(2, of: command))
            reply = isKnown ? ProxyReply.ok : ProxyReply.error(ConnectionCommandText.wrongPassword)
        default: reply = ProxyReply.error(ConnectionCommandText.syntax)
        }
        answerOwn(reply)
    }

    /// Answers what the node is not asked, unless replies are switched off.
    private func answerOwn(_ reply: ByteBuffer) {
        if let bound, bound.takeSilence() { bound.sendSilentlyInstead() } else { answer(reply) }
    }

    /// `HELLO … AUTH user password …` on a connection of the client's own: who the client is, is the agent's matter; the rest is
    /// the node's, which must not see a password that is not for it.
    /// - Returns: whether that was all. If not, nothing in it is for the agent.
    func handleHelloOfOwnUser(_ command: UnsafeRawBufferPointer) -> Bool {
        guard arguments.count > 2 else { return false }
        var hasUser = false
        let version = String(decoding: argument(1, of: command), as: UTF8.self)
        let isVersion = UInt8(version).flatMap(ProtocolVersion.init(rawValue:)) != nil
        var rest = [Array(argument(0, of: command)), Array(argument(1, of: command))]
        var index = 2
        while index < arguments.count {
            let option = argument(index, of: command)
            if CommandTable.equalsIgnoringCase(option, "AUTH"), index + 2 < arguments.count {
                hasUser = true
                // A wrong version is refused before a password is looked at.
                if isVersion, !authenticate(argument(index + 1, of: command), argument(index + 2, of: command)) {
                    answerOwn(ProxyReply.error(ConnectionCommandText.wrongPassword))
                    return true
                }
                index += 3
            } else if CommandTable.equalsIgnoringCase(option, "SETNAME"), index + 1 < arguments.count {
                rest += [Array(option), Array(argument(index + 1, of: command))]
                index += 2
            } else {
                // A mistake, whatever follows.
                let shown = ProxyReply.text(option, max: ProxyReply.argumentTextMax)
                answerOwn(ProxyReply.error("ERR Syntax error in HELLO option '\(shown)'"))
                return true
            }
        }
        guard isAuthenticated else {
            answerOwn(ProxyReply.error(ConnectionCommandText.helloWithoutAuthentication))
            return true
        }
        guard hasUser else { return false }
        // It is the same command.
        loop.statistics.requests &-= 1
        handleInline(rest)
        return true
    }
}
