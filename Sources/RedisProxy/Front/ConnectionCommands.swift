import NIOCore
import RESP
import SocketIO

enum ConnectionCommandText {
    static let authWithoutPassword =
        "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is "
        + "correct?"
    static let syntax = "ERR syntax error"
    static let wrongPassword = "WRONGPASS invalid username-password pair or user is disabled."
    static let authenticationRequired = "NOAUTH Authentication required."
    static let helloWithoutAuthentication =
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option "
        + "can be used to authenticate the client and select the RESP protocol version at the same time"
}

/// The commands that concern the client's connection: answered here, because the client's connection ends here.
extension FrontSession {
    func handlePing(_ command: UnsafeRawBufferPointer) {
        guard arguments.count <= 2 else {
            answer(error: ProxyReply.wrongArgumentCount("ping"))
            return
        }
        let text = arguments.count == 2 ? Array(argument(1, of: command)) : nil
        if isListening, version == .resp2 {
            answer(.array([.bulk("pong"), .bulk(text ?? [])]))
        } else if let text {
            answer(.bulk(text))
        } else {
            answer(ProxyReply.pong)
        }
    }

    /// `HELLO [version [AUTH user password] [SETNAME name]]`
    func handleHello(_ command: UnsafeRawBufferPointer) {
        var newVersion = version
        var newName = name
        if arguments.count > 1 {
            guard let number = Int(String(decoding: argument(1, of: command), as: UTF8.self)) else {
                answer(error: "ERR Protocol version is not an integer or out of range")
                return
            }
            guard let asked = UInt8(exactly: number).flatMap(ProtocolVersion.init(rawValue:)) else {
                answer(error: "NOPROTO unsupported protocol version")
                return
            }
            newVersion = asked
        }
        var index = 2
        while index < arguments.count {
            let option = argument(index, of: command)
            if CommandTable.equalsIgnoringCase(option, "SETNAME"), index + 1 < arguments.count {
                newName = Array(argument(index + 1, of: command))
                index += 2
            } else if CommandTable.equalsIgnoringCase(option, "AUTH"), index + 2 < arguments.count {
                if isTransparent, access == nil { return bindAndHandle(nil, command) }
                guard authenticate(argument(index + 1, of: command), argument(index + 2, of: command)) else {
                    return answer(error: ConnectionCommandText.wrongPassword)
                }
                index += 3
            } else {
                answer(error: "ERR Syntax error in HELLO option '\(ProxyReply.text(option, max: 128))'")
                return
            }
        }
        guard isValidName(newName) else { return }
        guard isAuthenticated else { return answer(error: ConnectionCommandText.helloWithoutAuthentication) }
        change(to: newVersion)
        name = newName
        guard isTransparent else {
            answer(greeting)
            return
        }
        // What the server says of itself, in the new protocol version. Asked without arguments it changes nothing.
        let slot = reserveReply()
        let request = GreetingRequest(session: self, slot: slot, otherwise: ProxyReply.value(greeting, version))
        let failure = hello.withUnsafeReadableBytes {
            loop.nodes[0].send($0, .request(request), version, client: id)
        }
        if let failure { request.fail(failure, loop.nodes[0].node) }
    }

    private var greeting: RESPValue {
        .map([
            .init(.bulk("server"), .bulk("redis")),
            .init(.bulk("version"), .bulk(CommandTable.redisVersion)),
            .init(.bulk("proto"), .integer(Int64(version.rawValue))),
            .init(.bulk("id"), .integer(Int64(id))),
            .init(.bulk("mode"), .bulk("standalone")),
            .init(.bulk("role"), .bulk("master")),
            .init(.bulk("modules"), .array([])),
        ])
    }

    func handleSelect(_ command: UnsafeRawBufferPointer) {
        let text = String(decoding: argument(1, of: command), as: UTF8.self)
        if isTransparent, text != "0" { return bindAndHandle(nil, command) }
        guard let database = Int(text) else {
            answer(error: "ERR value is not an integer or out of range")
            return
        }
        if database == 0 {
            answer(ProxyReply.ok)
        } else {
            answer(error: "ERR DB index is out of range: hkagent serves database 0, as twemproxy and Redis Cluster do")
        }
    }

    func handleReset() {
        guard listening != nil else {
            answer(ProxyReply.reset)
            forgetByReset()
            return
        }
        guard settle() else { return }
        let slot = reserveReply()
        leaveEverything { [self] in complete(slot, ProxyReply.reset) }
        forgetByReset()
        halt()
    }

    func forgetByReset() {
        leaveEverything()
        name = []
        deauthenticate()
        change(to: .resp2)
    }

    func handleClient(_ command: UnsafeRawBufferPointer) {
        let word = String(decoding: argument(1, of: command), as: UTF8.self).lowercased()
        let more = arguments.count - 2
        // The name alone would not be worth a connection of the client's own; everything else is the node's matter.
        if isTransparent, !(word == "getname" && more == 0 || word == "setname" && more == 1) {
            bindAndHandle(nil, command)
            return
        }
        switch (word, more) {
        case ("id", 0): answer(.integer(Int64(id)))
        case ("getname", 0): answer(name.isEmpty ? .null : .bulk(name))
        case ("info", 0): answer(.bulk(clientLine))
        case ("list", 0): answer(.bulk(loop.sessions.values.map(\.clientLine).sorted().joined()))
        case ("setname", 1):
            let newName = Array(argument(2, of: command))
            guard isValidName(newName) else { return }
            name = newName
            answer(ProxyReply.ok)
        // What a client library calls itself; nothing here depends on it.
        case ("setinfo", 2): answer(ProxyReply.ok)
        case ("no-evict", 1), ("no-touch", 1): answer(ProxyReply.ok)
        case ("reply", 1):
            if CommandTable.equalsIgnoringCase(argument(2, of: command), "ON") {
                answer(ProxyReply.ok)
            } else {
                answer(error: ProxyReply.unsupported("client|reply", "replies cannot be switched off here"))
            }
        default:
            if let container = CommandTable.redis70.find(argument(0, of: command)),
                let spec = CommandTable.redis70.find(container, subcommand: argument(1, of: command))
            {
                answer(
                    error: spec.accepts(argumentCount: arguments.count)
                        ? ProxyReply.unsupported(spec.name, "the client's connection ends at the agent")
                        : ProxyReply.wrongArgumentCount(spec.name))
            } else {
                answer(ProxyReply.unknownSubcommand(argument(1, of: command), of: "client"))
            }
        }
    }

    private var clientLine: String {
        let address = connection?.remoteAddress.map { "\($0.ipAddress ?? "?"):\($0.port ?? 0)" } ?? "unix:0"
        return "id=\(id) addr=\(address) name=\(String(decoding: name, as: UTF8.self)) resp=\(version.rawValue) "
            + "sub=\(channels.count + (listening?.count(of: .channel) ?? 0)) psub=\(listening?.count(of: .pattern) ?? 0) "
            + "ssub=\(listening?.count(of: .shard) ?? 0) loop=\(loop.index)\n"
    }

    /// Answers with Redis's error when not.
    private func isValidName(_ name: [UInt8]) -> Bool {
        if name.allSatisfy({ (0x21...0x7E).contains($0) }) { return true }
        answer(error: "ERR Client names cannot contain spaces, newlines or special characters.")
        return false
    }

    // MARK: COMMAND and INFO

    func handleCommand(_ command: UnsafeRawBufferPointer) {
        let table = CommandTable.redis70
        let word = arguments.count > 1 ? String(decoding: argument(1, of: command), as: UTF8.self).lowercased() : ""
        switch word {
        case "":
            answer(.array(table.commands.filter { !$0.name.contains("|") }.map(Self.description(of:))))
        case "count" where arguments.count == 2:
            answer(.integer(Int64(table.commands.count { !$0.name.contains("|") })))
        case "info":
            answer(
                .array(
                    (2..<max(2, arguments.count)).map { index in
                        table.find(argument(index, of: command)).map(Self.description(of:)) ?? .null
                    }))
        // Descriptions for people, which redis-cli asks for at its start: it works without them.
        case "docs":
            answer(.map([]))
        case _ where role == .app: forwardToAnyNode(command)
        default:
            answer(error: ProxyReply.unsupported("command|\(word)", "ask a cache node"))
        }
    }

    private static func description(of spec: CommandSpec) -> RESPValue {
        var first: Int64 = 0
        var last: Int64 = 0
        var step: Int64 = 0
        if case .index(let index)? = spec.keySpecifications.first?.begin,
            case .range(let end, let width, _)? = spec.keySpecifications.first?.find
        {
            first = Int64(index)
            last = Int64(end < 0 ? end : index + end)
            step = Int64(width)
        }
        return .array([
            .bulk(spec.name), .integer(Int64(spec.arity)), .set(spec.flags.names.map { .simpleString($0) }),
            .integer(first), .integer(last), .integer(step), .set([]), .set([]), .set([]), .array([]),
        ])
    }

    /// Enough for clients that look at INFO before they work: which command set this is, and that nothing is loading.
    func handleInfo() {
        let statistics = loop.statistics
        let lines = [
            "# Server", "redis_version:\(CommandTable.redisVersion)", "redis_mode:standalone", "proxy:hkagent",
            "", "# Clients", "connected_clients_this_loop:\(statistics.clientsConnected)",
            "", "# Persistence", "loading:0",
            "", "# Replication", "role:master", "",
        ]
        let text = lines.joined(separator: "\r\n")
        answer(version == .resp3 ? .verbatim(format: "txt", Array(text.utf8)) : .bulk(text))
    }

    // MARK: SUBSCRIBE

    func handleSubscribe(_ command: UnsafeRawBufferPointer) {
        let isOurs = (1..<arguments.count).allSatisfy { isHotKeyChannel(argument($0, of: command)) }
        if isTransparent, !isOurs { return bindAndHandle(nil, command) }
        if role == .app, !isTransparent { return handleSubscription(CommandTable.subscribe, command) }
        guard isOurs else {
            answer(
                error: ProxyReply.unsupported(
                    "subscribe", "this listener serves only the channel \(ProxyServer.hotKeyChannel)"))
            return
        }
        for _ in 1..<arguments.count { changeOwnChannel(isLeaving: false) }
    }

    func isHotKeyChannel(_ name: UnsafeRawBufferPointer) -> Bool { name.elementsEqual(ProxyServer.hotKeyChannel.utf8) }

    func changeOwnChannel(isLeaving: Bool) {
        let channel = ProxyServer.hotKeyChannel
        if isLeaving {
            channels.remove(channel)
            loop.unsubscribe(self, from: channel)
        } else {
            channels.insert(channel)
            loop.subscribe(self, to: channel)
        }
        acknowledge(isLeaving ? "unsubscribe" : "subscribe", channel)
    }

    func handleUnsubscribe(_ command: UnsafeRawBufferPointer) {
        if role == .app, !isTransparent { return handleSubscription(CommandTable.unsubscribe, command) }
        let named = (1..<max(1, arguments.count)).map { String(decoding: argument($0, of: command), as: UTF8.self) }
        let left = named.isEmpty ? channels.sorted() : named
        if left.isEmpty { acknowledge("unsubscribe", nil) }
        for channel in left {
            channels.remove(channel)
            loop.unsubscribe(self, from: channel)
            acknowledge("unsubscribe", channel)
        }
    }

    private func acknowledge(_ verb: String, _ channel: String?) {
        let parts: [RESPValue] = [
            .bulk(verb), channel.map { .bulk($0) } ?? .null,
            .integer(Int64(channels.count + (bound?.counts.ordinary ?? 0))),
        ]
        answer(version == .resp3 ? .push(parts) : .array(parts))
    }
}

/// `HELLO` passed on to the only node. When the node cannot be asked, a client must still be able to choose its protocol: hot keys
/// are answered without the node.
private final class GreetingRequest: UpstreamRequest {
    private let session: FrontSession
    private let slot: UInt32
    private let otherwise: ByteBuffer

    init(session: FrontSession, slot: UInt32, otherwise: ByteBuffer) {
        self.session = session
        self.slot = slot
        self.otherwise = otherwise
    }

    override func receive(_ reply: ReplyView, sentAt: UInt64) { session.complete(slot, reply) }
    override func fail(_ failure: UpstreamFailure, _ node: ProxyNode) { session.complete(slot, otherwise) }
}

private let hello = ByteBuffer(string: "*1\r\n$5\r\nHELLO\r\n")
