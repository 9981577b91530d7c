import HotKeyMitigation

/// Where a node of a Redis Cluster is found.
struct ClusterAddress: Hashable, Sendable {
    var host: String
    var port: Int

    /// nil unless it can be connected to: a host of 1 to ``RedisProxyLimits/hostBytesMax`` bytes without blanks, a port from 1 to
    /// 65535. `?` is what a node says of a host that it does not know.
    init?(host: String, port: Int64) {
        guard (1...RedisProxyLimits.hostBytesMax).contains(host.utf8.count), host != "?", (1...65535).contains(port),
            host.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f })
        else { return nil }
        self.host = host
        self.port = Int(port)
    }

    init(_ node: ProxyNode) {
        host = node.host
        port = node.port
    }

    var text: String { ProxyNode(name: "", host: host, port: port).address }
}

/// What a node of a Redis Cluster answers when it does not carry a command out. In each of these cases nothing was done.
enum Redirection: Hashable {
    /// The slot is another node's, for good.
    case moved(slot: Int, host: String, port: Int64)
    /// The slot is being moved and this key is there already, or not yet anywhere: this one command goes there.
    case ask(slot: Int, host: String, port: Int64)
    /// The slot is being moved and only some of the command's keys are there already.
    case tryAgain
    /// Nobody serves the slot, or too much of the cluster is gone.
    case clusterDown

    /// Whether it names another node.
    var isElsewhere: Bool {
        switch self {
        case .moved, .ask: true
        case .tryAgain, .clusterDown: false
        }
    }

    /// nil for every other reply. Source: the Redis Cluster specification, "Redirection and resharding".
    init?(_ reply: UnsafeRawBufferPointer) {
        guard reply.count > 8, reply[0] == UInt8(ascii: "-") else { return nil }
        switch reply[1] {
        case UInt8(ascii: "M") where reply.starts(with: "-MOVED ".utf8):
            guard let (slot, host, port) = Self.place(reply, from: 7) else { return nil }
            self = .moved(slot: slot, host: host, port: port)
        case UInt8(ascii: "A") where reply.starts(with: "-ASK ".utf8):
            guard let (slot, host, port) = Self.place(reply, from: 5) else { return nil }
            self = .ask(slot: slot, host: host, port: port)
        case UInt8(ascii: "T") where reply.starts(with: "-TRYAGAIN ".utf8): self = .tryAgain
        case UInt8(ascii: "C") where reply.starts(with: "-CLUSTERDOWN ".utf8): self = .clusterDown
        default: return nil
        }
    }

    /// `3999 127.0.0.1:6381`. An IPv6 address stands without brackets, so the last colon is the port's. No host at all means the
    /// one that answers.
    private static func place(_ reply: UnsafeRawBufferPointer, from start: Int) -> (Int, String, Int64)? {
        guard reply.count < 64 + RedisProxyLimits.hostBytesMax else { return nil }
        let words = String(decoding: reply[start..<(reply.count - 2)], as: UTF8.self).split(separator: " ")
        guard words.count == 2, let slot = Int(words[0]), (0..<ClusterSlot.count).contains(slot),
            let colon = words[1].lastIndex(of: ":"), let port = Int64(words[1][words[1].index(after: colon)...])
        else { return nil }
        return (slot, String(words[1][..<colon]), port)
    }

    var slot: Int? {
        switch self {
        case .moved(let slot, _, _), .ask(let slot, _, _): slot
        case .tryAgain, .clusterDown: nil
        }
    }
}
