/// What is known of one command of Redis 7.0: how many arguments it takes, what it does, where its keys stand.
public final class CommandSpec: Sendable {
    public struct Flags: OptionSet, Sendable, Hashable {
        public let rawValue: UInt16
        public init(rawValue: UInt16) { self.rawValue = rawValue }
        public static let write = Flags(rawValue: 1 << 0)
        public static let readonly = Flags(rawValue: 1 << 1)
        /// May hold its connection until something happens (`BLPOP`).
        public static let blocking = Flags(rawValue: 1 << 2)
        public static let admin = Flags(rawValue: 1 << 3)
        public static let pubsub = Flags(rawValue: 1 << 4)
        /// Key positions depend on arguments.
        public static let movableKeys = Flags(rawValue: 1 << 5)
        public static let noScript = Flags(rawValue: 1 << 6)
        public static let denyOOM = Flags(rawValue: 1 << 7)
        public static let fast = Flags(rawValue: 1 << 8)
        public static let loading = Flags(rawValue: 1 << 9)
        public static let stale = Flags(rawValue: 1 << 10)
        public static let noMulti = Flags(rawValue: 1 << 11)

        static func letter(_ letter: Character) -> Flags? {
            switch letter {
            case "w": .write
            case "r": .readonly
            case "b": .blocking
            case "a": .admin
            case "p": .pubsub
            case "m": .movableKeys
            case "s": .noScript
            case "o": .denyOOM
            case "f": .fast
            case "l": .loading
            case "t": .stale
            case "x": .noMulti
            case "-": []
            default: nil
            }
        }

        /// As `COMMAND` names them, sorted by name.
        public var names: [String] {
            let all: [(Flags, String)] = [
                (.admin, "admin"), (.blocking, "blocking"), (.denyOOM, "denyoom"), (.fast, "fast"),
                (.loading, "loading"), (.movableKeys, "movablekeys"), (.noMulti, "no_multi"), (.noScript, "noscript"),
                (.pubsub, "pubsub"), (.readonly, "readonly"), (.stale, "stale"), (.write, "write"),
            ]
            return all.filter { contains($0.0) }.map(\.1)
        }
    }

    /// Position in ``CommandTable/commands``, for tables beside it.
    public let index: Int
    /// Lower case; a subcommand stands as `object|encoding`.
    public let name: String
    /// Number of arguments with the name; negative: at least so many.
    public let arity: Int
    public let flags: Flags
    public let keySpecifications: [KeySpecification]
    /// Index of the only key this command ever has, 0 when it has none, several, or they move.
    public let onlyKeyIndex: Int
    /// Whether the second argument names a subcommand with a line of its own.
    public let hasSubcommands: Bool
    /// Whether the data of its keys may be other after it. Scripts and functions count as writers of the keys they declare.
    public let mayWrite: Bool
    /// Whether its reply is one that the data alone decides, so that it may be kept and given again while the data stays. Random
    /// choices are meant to differ from call to call: one that is kept would send everyone to the same member.
    public let isRepeatableRead: Bool
    let upperName: [UInt8]

    init(
        index: Int, name: String, arity: Int, flags: Flags, keySpecifications: [KeySpecification], hasSubcommands: Bool
    ) {
        self.index = index
        self.name = name
        self.arity = arity
        self.flags = flags
        self.keySpecifications = keySpecifications
        self.hasSubcommands = hasSubcommands
        self.mayWrite = flags.contains(.write) || ["eval", "evalsha", "fcall"].contains(name)
        self.isRepeatableRead = !mayWrite && !["hrandfield", "srandmember", "zrandmember"].contains(name)
        self.upperName = Array(name.uppercased().utf8)
        if keySpecifications.count == 1, case .index(let index) = keySpecifications[0].begin,
            case .range(let last, _, _) = keySpecifications[0].find, last == 0
        {
            onlyKeyIndex = index
        } else {
            onlyKeyIndex = 0
        }
    }

    /// Whether a command of `count` arguments, the name included, has as many as it must.
    @inline(__always)
    public func accepts(argumentCount count: Int) -> Bool { arity >= 0 ? count == arity : count >= -arity }
}

/// Where keys stand among a command's arguments, as `COMMAND` tells it (Redis: "key specifications").
public struct KeySpecification: Sendable, Hashable {
    public enum Begin: Sendable, Hashable {
        case index(Int)
        /// Behind the first argument that equals the keyword, searched from `startFrom`; negative: backwards from the end.
        case keyword(String, startFrom: Int)
        case unknown
    }
    public enum Find: Sendable, Hashable {
        /// From the beginning to `last` (relative to the beginning; negative: from the last argument) in steps. `limit` n > 1
        /// with `last` -1: only the first 1/n of the arguments that are left.
        case range(last: Int, step: Int, limit: Int)
        /// An argument says how many keys there are.
        case number(index: Int, firstKey: Int, step: Int)
        case unknown
    }
    public var begin: Begin
    public var find: Find
}
