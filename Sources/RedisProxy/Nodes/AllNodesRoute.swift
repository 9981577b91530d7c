import RESP

/// What is done before several nodes with a command that names no key.
enum AllNodesRoute {
    /// To every node; the replies are made one.
    case all(NodeJoin.Kind, Way)
    case scan
    case randomKey
    /// Any node's answer is right.
    case anyNode
    /// To the node where the channel lives.
    case publish
    /// `SUBSCRIBE` and its kin; ``SubscriptionHub``.
    case subscription

    enum Way {
        case shared
        /// May take long: on connections of its own, and the client's next command waits for it.
        case own
        /// As `own`; drops every local value before the reply.
        case flush
        /// As `own`; the command's own timeout counts.
        case wait
    }

    /// nil for commands that keep the route of the table.
    init?(_ spec: CommandSpec) {
        switch spec.name {
        case "dbsize": self = .all(.sum, .shared)
        case "keys": self = .all(.keys, .shared)
        case "scan": self = .scan
        case "randomkey": self = .randomKey
        case "flushall", "flushdb": self = .all(.same, .flush)
        case "wait": self = .all(.least, .wait)
        case "script|load", "function|load", "function|delete", "function|restore": self = .all(.same, .shared)
        case "script|flush", "function|flush": self = .all(.same, .own)
        case "script|exists": self = .all(.flags, .shared)
        case "script|kill", "function|kill": self = .all(.any, .own)
        case "function|list": self = .all(.libraries, .shared)
        case "pubsub|channels", "pubsub|shardchannels": self = .all(.uniqueNames, .shared)
        case "pubsub|numsub", "pubsub|shardnumsub": self = .all(.countsByName, .shared)
        case "pubsub|numpat": self = .all(.most, .shared)
        case "time", "lolwut", "function|dump": self = .anyNode
        case "publish", "spublish": self = .publish
        case _ where spec.isSubscription && spec.name != "subscribe" && spec.name != "unsubscribe": self = .subscription
        case let name where name.hasSuffix("|help") && name != "client|help" && name != "command|help": self = .anyNode
        default: return nil
        }
    }
}
