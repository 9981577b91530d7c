import RESP

/// What a node's connection remembers of its client, as far as it keeps the client from sharing a connection with others.
///
/// Commands go in with their outcome, and ``mustStay`` comes out. What cannot be followed exactly (a `SELECT` inside a
/// transaction) counts as carried until the connection ends or is reset: a client that stays too long on a connection of its own
/// misses the local cache, one that leaves too early loses its state.
struct CarriedState {
    struct Reasons: OptionSet, Hashable {
        let rawValue: UInt16
        static let transaction = Reasons(rawValue: 1 << 0)
        static let watch = Reasons(rawValue: 1 << 1)
        static let database = Reasons(rawValue: 1 << 2)
        static let subscription = Reasons(rawValue: 1 << 3)
        static let tracking = Reasons(rawValue: 1 << 4)
        /// Replies were switched off: what has been carried out is known only with the next reply.
        static let silence = Reasons(rawValue: 1 << 5)
        static let monitor = Reasons(rawValue: 1 << 6)
        static let noEvict = Reasons(rawValue: 1 << 7)
        /// The client gave a name and password of its own.
        static let user = Reasons(rawValue: 1 << 8)
        /// The client knows the id of this connection.
        static let identity = Reasons(rawValue: 1 << 9)
        static let unclear = Reasons(rawValue: 1 << 10)
    }

    /// What a command asks the connection to remember.
    enum Change: Hashable {
        case none
        case multi, exec, discard, watch, unwatch
        /// An `EXEC` with too many words: Redis discards the transaction and what is watched, without one, too.
        case abort
        /// `nil`: a number that Redis may or may not take.
        case select(Int?)
        case user, identity, monitor, reset
        case tracking(Bool)
        case noEvict(Bool)
        /// Known at once from its own reply, and only then.
        case name
        /// Something that has no case of its own.
        case unclear
    }

    enum Outcome: Hashable {
        case error, queued, done
    }

    private(set) var reasons: Reasons = []
    /// The selected database; `nil` when that is not known.
    private(set) var database: Int? = 0
    /// Whether another client may use the connection once nothing is carried: no trace is left on it.
    private(set) var isReusable = true
    /// A queued command will change what is carried when `EXEC` comes.
    private var hasQueuedChange = false

    var mustStay: Bool { !reasons.isEmpty }

    mutating func answered(_ change: Change, _ outcome: Outcome, repliesAreOff: Bool = false) {
        if !repliesAreOff { reasons.remove(.silence) }
        if outcome == .queued {
            // A name is taken note of by whoever knows what it is.
            if change != .none, change != .unwatch, change != .name { hasQueuedChange = true }
            return
        }
        switch change {
        case .exec:
            // Outside a transaction it is a mistake that leaves watched keys watched; inside, an error ends the transaction, too.
            guard reasons.contains(.transaction) else { return }
            if outcome == .done, hasQueuedChange { becomeUnclear() }
            hasQueuedChange = false
            reasons.subtract([.transaction, .watch])
            return
        case .abort:
            hasQueuedChange = false
            reasons.subtract([.transaction, .watch])
            return
        case _ where outcome == .error: return
        case .none, .name: break
        case .multi: reasons.insert(.transaction)
        case .discard:
            hasQueuedChange = false
            reasons.subtract([.transaction, .watch])
        case .watch: reasons.insert(.watch)
        case .unwatch: reasons.remove(.watch)
        case .select(let number):
            database = number
            set(.database, number != 0)
        case .user:
            reasons.insert(.user)
            isReusable = false
        case .identity:
            reasons.insert(.identity)
            isReusable = false
        case .monitor:
            reasons.insert(.monitor)
            isReusable = false
        case .tracking(let isOn):
            set(.tracking, isOn)
            isReusable = false
        case .noEvict(let isOn): set(.noEvict, isOn)
        case .unclear: becomeUnclear()
        case .reset:
            // The id stays, and so does what RESET does not know of.
            reasons.formIntersection([.identity, .noEvict])
            database = 0
            hasQueuedChange = false
        }
    }

    /// A command left whose reply was switched off.
    mutating func sentSilently(_ change: Change) {
        reasons.insert(.silence)
        isReusable = false
        if change != .none { becomeUnclear() }
    }

    mutating func subscribed(to count: Int) {
        set(.subscription, count > 0)
        isReusable = false
    }

    private mutating func becomeUnclear() {
        reasons.insert(.unclear)
        database = nil
        isReusable = false
    }

    private mutating func set(_ reason: Reasons, _ isOn: Bool) {
        if isOn { reasons.insert(reason) } else { reasons.remove(reason) }
    }
}

extension CarriedState.Change {
    /// What a command asks for by its name and arguments; a command with too few or too many asks for nothing.
    init(_ spec: CommandSpec?, argumentCount count: Int, argument: (Int) -> UnsafeRawBufferPointer) {
        guard let spec, spec.accepts(argumentCount: count) else {
            self = spec?.name == "exec" ? .abort : .none
            return
        }
        switch spec.name {
        case "multi": self = .multi
        case "exec": self = .exec
        case "discard": self = .discard
        case "watch": self = .watch
        case "unwatch": self = .unwatch
        case "select": self = .select(Int(String(decoding: argument(1), as: UTF8.self)))
        case "auth": self = .user
        case "client|id", "client|info": self = .identity
        case "monitor": self = .monitor
        case "client|setname": self = .name
        case "reset": self = .reset
        case "client|tracking": self = .tracking(CommandTable.equalsIgnoringCase(argument(2), "ON"))
        case "client|no-evict": self = .noEvict(CommandTable.equalsIgnoringCase(argument(2), "ON"))
        case "readonly", "readwrite", "asking", "hello", "client|reply": self = .unclear
        default: self = spec.isSubscription ? .unclear : .none
        }
    }
}

extension CommandSpec {
    /// Whether it changes which channels a client listens to.
    var isSubscription: Bool { flags.contains(.pubsub) && name.hasSuffix("subscribe") }
}
