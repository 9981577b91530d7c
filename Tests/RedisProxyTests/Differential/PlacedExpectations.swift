import HotKeyMitigation
import RESP
import RedisProxy

/// What an agent before several nodes does otherwise than one server, as `docs/redis-commands.md` says it. Everything that is not
/// told apart here must be the same.
struct PlacedExpectations: Sendable {
    let topology: ProxyTopology

    enum Expectation: Equatable {
        case same
        /// Only the agent gets it, and answers an error that holds all of these; so both sides stay equal in state.
        case refused([String])
        /// The agent's own matter: nothing is compared.
        case own
        /// A command of this transaction was refused: `EXEC` carries out nothing. The server is told `DISCARD`.
        case aborted
        /// `SCAN` from the beginning: both sides to the end.
        case scan
    }

    /// What a client's commands have led to by the time the next is carried out.
    struct Client {
        fileprivate enum Transaction {
            case none, open, spoiledByRefusal, spoiledAtBoth
        }
        fileprivate var transaction = Transaction.none
        /// The first key of its transaction or of what it watches.
        fileprivate var anchor: [UInt8]?
        fileprivate var isWatching = false

        var isFree: Bool { transaction == .none && !isWatching }

        fileprivate mutating func end() {
            self = Client()
        }
    }

    // MARK: What the documentation says

    private static let refused: Set = [
        "move", "swapdb", "debug", "lastsave", "role", "readonly", "readwrite", "asking", "function|stats", "save",
        "memory|doctor", "memory|stats", "memory|malloc-stats", "memory|purge",
    ]
    private static let refusedContainers: Set = ["acl", "config", "latency", "slowlog", "module", "cluster"]
    private static let own: Set = ["info", "command", "command|info", "command|docs"]
    /// Work without a key once a transaction or watched keys have chosen the node.
    private static let needNoKey: Set = [
        "ping", "echo", "time", "client|setname", "client|getname", "unwatch", "multi", "hello",
    ]

    /// Takes note of the command.
    func expectation(of words: [[UInt8]], version: Int, isSubscribed: Bool, _ client: inout Client) -> Expectation {
        let table = CommandTable.redis70
        guard let first = words[0].withUnsafeBytes({ table.find($0) }) else { return mistake(&client) }
        var spec = first
        if first.hasSubcommands, words.count > 1 {
            guard let sub = words[1].withUnsafeBytes({ table.find(first, subcommand: $0) }) else {
                // Newer servers have these, and client libraries send them.
                let isNewer = ["setinfo", "no-touch"].contains(String(decoding: words[1], as: UTF8.self).lowercased())
                if first.name == "client", isNewer, client.isFree { return .own }
                return client.isFree ? .same : refused(&client, [])
            }
            spec = sub
        }
        guard spec.accepts(argumentCount: words.count) else {
            if spec.name == "exec" { client.end() }
            return mistake(&client)
        }
        let worksAlways = ["ping", "quit", "reset"].contains(spec.name) || spec.name.hasSuffix("subscribe")
        // A server has a reason of its own that comes first.
        if isSubscribed, version == 2, spec.name == "debug" { return .refused(["Can't execute 'debug'"]) }
        if isSubscribed, version == 2, !worksAlways { return .same }
        if spec.name.hasSuffix("subscribe"), client.isFree { return .same }
        if client.transaction != .none, let expectation = ofTransaction(spec.name, &client) { return expectation }
        if !client.isFree {
            return ofTiedClient(spec, words, &client)
        }
        switch spec.name {
        case "multi":
            client.transaction = .open
            return .same
        case "watch":
            let expectation = ofKeys(spec, words, &client)
            if expectation == .same {
                client.isWatching = true
                client.anchor = words[1]
            }
            return expectation
        case "exec", "discard", "unwatch", "ping", "echo", "auth", "hello", "reset": return .same
        case "select":
            let number = Int(String(decoding: words[1], as: UTF8.self))
            return number ?? 0 == 0 ? .same : .refused(["hkagent serves database 0"])
        case "client|setname", "client|getname": return .same
        case _ where spec.name.hasPrefix("client|") || Self.own.contains(spec.name): return .own
        case "scan": return words[1] == [UInt8(ascii: "0")] ? .scan : .same
        default:
            if isRefused(spec.name) { return .refused(["ERR '\(spec.name)' does not work through hkagent: "]) }
            return ofKeys(spec, words, &client)
        }
    }

    private func isRefused(_ name: String) -> Bool {
        let container = String(name.prefix { $0 != "|" })
        return Self.refused.contains(name) || Self.refusedContainers.contains(container) && !name.hasSuffix("|help")
    }

    /// An error of both.
    private func mistake(_ client: inout Client) -> Expectation {
        if client.transaction == .open || client.transaction == .spoiledByRefusal {
            client.transaction = .spoiledAtBoth
        }
        return .same
    }

    private func refused(_ client: inout Client, _ words: [String]) -> Expectation {
        if client.transaction == .open { client.transaction = .spoiledByRefusal }
        return .refused(words)
    }

    private func ofTransaction(_ name: String, _ client: inout Client) -> Expectation? {
        switch name {
        case "exec":
            defer { client.end() }
            return client.transaction == .spoiledByRefusal ? .aborted : .same
        case "discard":
            client.end()
            return .same
        case "multi", "watch": return .same
        default: return nil
        }
    }

    /// In a transaction, or with watched keys.
    private func ofTiedClient(_ spec: CommandSpec, _ words: [[UInt8]], _ client: inout Client) -> Expectation {
        switch spec.name {
        case "multi":
            client.transaction = .open
            return .same
        case "unwatch":
            if client.transaction == .none { client.end() }
            return client.transaction == .none || client.anchor != nil
                ? .same : refused(&client, ["does not work through hkagent: "])
        case "exec", "discard": return .same
        case _ where client.anchor != nil && Self.needNoKey.contains(spec.name): return .same
        case _ where isRefused(spec.name): return refused(&client, ["hkagent"])
        default: return ofKeys(spec, words, &client)
        }
    }

    private func ofKeys(_ spec: CommandSpec, _ words: [[UInt8]], _ client: inout Client) -> Expectation {
        var positions: [Int] = []
        var isFound = true
        if spec.name == "publish" {
            positions = [1]
        } else {
            words.withBytes { argument in
                isFound = KeyPositions.append(of: spec, argumentCount: words.count, to: &positions, argument: argument)
            }
        }
        let isTied = !client.isFree
        if !isTied,
            spec.name == "publish" || spec.name == "spublish"
                || ["mget", "mset", "del", "unlink", "exists", "touch"].contains(spec.name)
        {
            return .same
        }
        guard isFound else { return refused(&client, ["ERR syntax error"]) }
        guard let first = positions.first.map({ words[$0] }) else {
            // Outside a transaction some commands without a key concern all nodes.
            if !isTied, spec.keySpecifications.isEmpty { return .same }
            return refused(&client, ["does not work through hkagent: "])
        }
        if let reason = besideKeys(spec, words) { return refused(&client, [reason]) }
        if let other = positions.map({ words[$0] }).first(where: { home($0) != home(first) }) {
            return refused(&client, [place(first, "is on"), place(other, "on")])
        }
        if isTied {
            if let anchor = client.anchor, home(anchor) != home(first) {
                return refused(&client, [place(anchor, "is on"), place(first, "on")])
            }
            client.anchor = client.anchor ?? first
        }
        return .same
    }

    private func besideKeys(_ spec: CommandSpec, _ words: [[UInt8]]) -> String? {
        let texts = words.map { String(decoding: $0, as: UTF8.self).uppercased() }
        if spec.name == "copy", let place = texts.dropFirst(3).firstIndex(of: "DB"), place + 1 < texts.count,
            (Int(texts[place + 1]) ?? 0) != 0
        {
            return "database 0 alone"
        }
        guard spec.name == "sort" || spec.name == "sort_ro" else { return nil }
        var index = 2
        while index < texts.count {
            switch texts[index] {
            case "LIMIT": index += 3
            case "STORE": index += 2
            case "BY", "GET":
                if index + 1 < texts.count, texts[index + 1].contains("*") { return "may live on other nodes" }
                index += 2
            default: index += 1
            }
        }
        return nil
    }

    private func home(_ key: [UInt8]) -> Int { key.withUnsafeBytes { topology.placement!.home($0) } }

    private func place(_ key: [UInt8], _ verb: String) -> String {
        // A line of an error has no line breaks in it.
        let shown = key.prefix(64).map { $0 == 13 || $0 == 10 ? 32 : $0 }
        return "'\(String(decoding: shown, as: UTF8.self))' \(verb) node \(topology.nodes[home(key)].name)"
    }

    // MARK: Comparing

    /// As of one node, but for numbers of listeners: the clients of an event loop count as one.
    static func comparable(_ reply: [UInt8], to words: [[UInt8]]) -> String {
        switch ReplyNormalisation.name(of: words) {
        case "publish", "spublish":
            if reply.first == UInt8(ascii: ":") { return reply == Array(":0\r\n".utf8) ? "nobody" : "somebody" }
        case "pubsub|numsub", "pubsub|shardnumsub":
            if case .array(let values)? = try? RESPValue(decoding: reply) {
                return
                    "\(values.map { if case .integer(let number) = $0 { RESPValue.integer(min(1, number)) } else { $0 } })"
            }
        default: break
        }
        return ReplyNormalisation.comparable(reply, to: words)
    }
}

extension [[UInt8]] {
    /// Runs `body` with a way to each word's bytes.
    fileprivate func withBytes(_ body: ((Int) -> UnsafeRawBufferPointer) -> Void) {
        let all = flatMap { $0 }
        var starts: [Int] = []
        var start = 0
        for word in self {
            starts.append(start)
            start += word.count
        }
        all.withUnsafeBytes { bytes in
            body { UnsafeRawBufferPointer(rebasing: bytes[starts[$0]..<starts[$0] + self[$0].count]) }
        }
    }
}
