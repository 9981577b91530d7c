/// Keys that commands may have changed and whose old values must be dropped before a reply goes out. Bounded: beyond
/// ``RedisProxyLimits/writtenKeyBytesMax`` it stands for every key.
struct WrittenKeys {
    private(set) var keys: [[UInt8]] = []
    /// Any key may have changed: `FLUSHALL`, a command that is not in the table.
    private(set) var isEverything = false
    private var bytes = 0

    static let everything: WrittenKeys = {
        var all = WrittenKeys()
        all.insertEverything()
        return all
    }()

    var isEmpty: Bool { keys.isEmpty && !isEverything }

    mutating func insert(_ key: [UInt8]) {
        guard !isEverything else { return }
        bytes += key.count + MemoryLayout<[UInt8]>.stride
        if bytes > RedisProxyLimits.writtenKeyBytesMax { insertEverything() } else { keys.append(key) }
    }

    mutating func insertEverything() {
        self = WrittenKeys()
        isEverything = true
    }

    mutating func formUnion(_ other: WrittenKeys) {
        if other.isEverything { insertEverything() }
        for key in other.keys { insert(key) }
    }

    /// Gives everything away.
    mutating func take() -> WrittenKeys {
        defer { self = WrittenKeys() }
        return self
    }
}
