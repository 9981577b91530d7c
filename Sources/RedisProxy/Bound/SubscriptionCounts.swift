import RESP

/// How many channels, patterns and sharded channels a connection listens to, by what its node acknowledges. It tells how many
/// acknowledgements a command still has to get, and whether what comes unasked can be a message.
struct SubscriptionCounts: Hashable {
    enum Kind: Hashable {
        case channel, pattern, shard
    }

    private(set) var channels = 0
    private(set) var patterns = 0
    private(set) var shards = 0

    var total: Int { channels + patterns + shards }
    /// What the acknowledgements of channels and patterns count.
    var ordinary: Int { channels + patterns }

    /// How many acknowledgements a command of `names` names gets. Without names it leaves everything of its kind.
    func acknowledgements(_ kind: Kind, names: Int) -> Int {
        if names > 0 { return names }
        let left =
            switch kind {
            case .channel: channels
            case .pattern: patterns
            case .shard: shards
            }
        return max(1, left)
    }

    /// - Parameter count: the number in the acknowledgement: of channels and patterns together, or of sharded channels.
    mutating func acknowledged(_ kind: Kind, count: Int) {
        let count = max(0, count)
        switch kind {
        case .channel: channels = max(0, count - patterns)
        case .pattern: patterns = max(0, count - channels)
        case .shard: shards = count
        }
    }
}

extension SubscriptionCounts.Kind {
    init(_ spec: CommandSpec) {
        self =
            spec.name.hasPrefix("p")
            ? .pattern : spec.name.hasPrefix("s") && spec.name != "subscribe" ? .shard : .channel
    }
}

/// What a node sends to one client beside replies: RESP2 arrays or RESP3 pushes that begin with a word.
enum Announcement {
    case message
    case acknowledgement(count: Int)
    case other

    /// nil when the value is neither an array nor a push that begins with a bulk string.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes[0] == UInt8(ascii: ">") || bytes[0] == UInt8(ascii: "*"), let word = Self.firstWord(bytes) else {
            return nil
        }
        if Self.messages.contains(where: { word.elementsEqual($0.utf8) }) {
            self = .message
        } else if Self.acknowledgements.contains(where: { word.elementsEqual($0.utf8) }),
            let count = Self.lastInteger(bytes)
        {
            self = .acknowledgement(count: count)
        } else {
            self = .other
        }
    }

    private static let messages = ["message", "pmessage", "smessage"]
    private static let acknowledgements = [
        "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe",
    ]

    private static func firstWord(_ bytes: UnsafeRawBufferPointer) -> Slice<UnsafeRawBufferPointer>? {
        guard let header = bytes.firstIndex(of: 10), header + 1 < bytes.count, bytes[header + 1] == UInt8(ascii: "$"),
            let length = bytes[(header + 2)...].firstIndex(of: 10),
            let end = bytes[(length + 1)...].firstIndex(of: 13)
        else { return nil }
        return bytes[(length + 1)..<end]
    }

    /// The number of `…:n\r\n` at the end.
    private static func lastInteger(_ bytes: UnsafeRawBufferPointer) -> Int? {
        guard let colon = bytes.lastIndex(of: UInt8(ascii: ":")), bytes.count - colon < 24 else { return nil }
        return Int(String(decoding: bytes[(colon + 1)..<(bytes.count - 2)], as: UTF8.self))
    }
}
