import RESP

/// What is done with a command, by its name alone. Worked out once for the whole table.
enum CommandRoute {
    /// One key at a fixed place.
    case oneKey
    /// Keys that must all live on one node.
    case keysOfOneNode
    /// May wait on its connection: gets one of its own.
    case blocking
    case split(SplitJoin.Kind)
    /// The second argument says which command it is.
    case container
    /// Has no key; any node's answer is right where there is only one node.
    case keyless
    /// Goes over a connection of the client's own, where there is only one node.
    case bound
    /// Before several nodes: waits for the first key.
    case multi
    case watch
    /// `EXEC` and its kin, where there is no transaction.
    case withoutTransaction
    case ping, echo, hello, auth, select, client, command, info, quit, reset, subscribe, unsubscribe
    /// Names no key, before several nodes.
    case allNodes(AllNodesRoute)
    case refused(String)
    /// The configuration denies it.
    case denied
    /// The configuration denies some of its subcommands.
    case screened

    /// By ``CommandSpec/index``.
    static let byIndex: [CommandRoute] = CommandTable.redis70.commands.map(CommandRoute.init(of:))

    /// By ``CommandSpec/index``, where the agent stands before one node alone.
    static let ofOneNode: [CommandRoute] = CommandTable.redis70.commands.map(CommandRoute.init(beforeOneNode:))

    /// What even the only node is not sent, with the reason.
    static let neverPassed: [String: String] = {
        let replication = "replicas connect to their primary themselves; it is no command for clients"
        return [
            "sync": replication, "psync": replication, "replconf": replication,
            "script|debug": "the debugger takes the connection over; connect to the cache node itself",
        ]
    }()

    private init(beforeOneNode spec: CommandSpec) {
        let local: Set = [
            "ping", "echo", "hello", "auth", "select", "client", "quit", "reset", "subscribe", "unsubscribe",
        ]
        // They carry state, they wait, or they may take long: the shared connections are not for them.
        let own: Set = [
            "multi", "watch", "wait", "monitor", "migrate", "flushall", "flushdb", "swapdb", "script|kill",
            "function|kill",
            "readonly", "readwrite", "asking",
        ]
        if let reason = Self.neverPassed[spec.name] {
            self = .refused(reason)
        } else if local.contains(spec.name) || spec.flags.contains(.blocking) {
            self = Self.byIndex[spec.index]
        } else if own.contains(spec.name) || spec.isSubscription || spec.flags.contains(.admin) {
            self = .bound
        } else if spec.name == "command" {
            self = .keyless
        } else if spec.hasSubcommands {
            self = .container
        } else if spec.keySpecifications.isEmpty || spec.flags.contains(.pubsub) {
            self = .keyless
        } else if spec.name == "move" {
            self = .oneKey
        } else {
            self = Self.byIndex[spec.index]
        }
    }

    private init(of spec: CommandSpec) {
        let local: [String: CommandRoute] = [
            "ping": .ping, "echo": .echo, "hello": .hello, "auth": .auth, "select": .select, "client": .client,
            "command": .command, "info": .info, "quit": .quit, "reset": .reset, "subscribe": .subscribe,
            "unsubscribe": .unsubscribe,
            "multi": .multi, "watch": .watch, "exec": .withoutTransaction, "discard": .withoutTransaction,
            "unwatch": .withoutTransaction,
            "mget": .split(.values), "mset": .split(.allOK), "del": .split(.sum), "unlink": .split(.sum),
            "exists": .split(.sum), "touch": .split(.sum),
        ]
        if let route = local[spec.name] {
            self = route
        } else if let all = AllNodesRoute(spec) {
            self = .allNodes(all)
        } else if let reason = Self.refusal(spec) {
            self = .refused(reason)
        } else if spec.hasSubcommands {
            self = .container
        } else if spec.flags.contains(.blocking) {
            self = .blocking
        } else if spec.onlyKeyIndex > 0 {
            self = .oneKey
        } else if !spec.keySpecifications.isEmpty {
            self = .keysOfOneNode
        } else {
            self = .refused("it concerns one server as a whole; send it to the cache nodes themselves")
        }
    }

    private static func refusal(_ spec: CommandSpec) -> String? {
        switch spec.name {
        case "migrate":
            "it moves keys between servers behind the placement's back; send it to the cache nodes themselves"
        case "move", "swapdb":
            "before several cache nodes there is database 0 alone, as with twemproxy and Redis Cluster"
        case "monitor", "sync", "psync", "replconf", "asking", "readonly", "readwrite", "failover":
            "it concerns one server's connection; connect to the cache node itself"
        default:
            nil
        }
    }
}

/// What the quick way of a command needs to know of it. Plain values: nothing is retained for a request.
struct OneKeyCommand {
    /// 0 for commands that go another way.
    let keyIndex: UInt8
    private let arity: Int16
    let mayWrite: Bool
    /// A copy can answer `GET` alone: it holds a string.
    let isGet: Bool
    /// Whether it may be answered by anything but the key's home.
    let isCacheable: Bool

    init(_ spec: CommandSpec, _ route: CommandRoute) {
        if case .oneKey = route { keyIndex = UInt8(spec.onlyKeyIndex) } else { keyIndex = 0 }
        arity = Int16(spec.arity)
        mayWrite = spec.mayWrite
        isGet = spec.name == "get"
        isCacheable = spec.isRepeatableRead
    }

    @inline(__always)
    func accepts(argumentCount count: Int) -> Bool { arity >= 0 ? count == Int(arity) : count >= -Int(arity) }
}
