/// One request of a trace, with all keys that it names.
public struct TraceRequest: Sendable, Hashable {
    public struct Access: Sendable, Hashable {
        public var key: [UInt8]
        public var reads: UInt32
        public var writes: UInt32
        /// Of the replies; 0 where the trace does not tell.
        public var replyBytes: Int
        /// Of the reads: those that found nothing; 0 where the trace does not tell.
        public var misses: UInt32
        /// Whether an agent may answer it from its memory.
        public var isRepeatable: Bool
        /// Whether a copy can answer it: `GET` alone.
        public var isCopyRead: Bool

        public init(
            key: [UInt8], reads: UInt32, writes: UInt32 = 0, replyBytes: Int = 0, misses: UInt32 = 0,
            isRepeatable: Bool = true, isCopyRead: Bool = true
        ) {
            self.key = key
            self.reads = reads
            self.writes = writes
            self.replyBytes = replyBytes
            self.misses = misses
            self.isRepeatable = isRepeatable
            self.isCopyRead = isCopyRead
        }
    }
    /// By the clock of the trace, since whatever it counts from.
    public var nanoseconds: UInt64
    public var accesses: [Access]

    public init(nanoseconds: UInt64, accesses: [Access]) {
        self.nanoseconds = nanoseconds
        self.accesses = accesses
    }
}

/// What a line of a trace is.
public enum TraceLine: Sendable, Hashable {
    case request(TraceRequest)
    /// Empty, a head, or what `redis-cli` says by itself.
    case blank
    /// A command that names no key.
    case withoutKeys
    /// What a script did at the server: an agent sees the script's own command instead, with its keys.
    case ofScript
    /// A command that Redis 7.0 does not have, such as a module's: where its keys stand is not known.
    case unknownCommand
}

public enum TraceFormat: String, Sendable, Hashable, CaseIterable {
    /// What `redis-cli MONITOR` prints.
    case monitor
    /// Comma-separated values with a line of column names.
    case csv
}

/// A line that cannot be used: what was expected and what was found, without the place, which who reads the file knows.
public struct TraceError: Error, Sendable, Hashable, CustomStringConvertible {
    public var expected: String
    public var found: String?

    init(expected: String, found: String? = nil) {
        self.expected = expected
        self.found = found
    }

    init(expected: String, found: some Collection<UInt8>) {
        let shown = String(decoding: found.prefix(Self.shownBytes), as: UTF8.self)
        self.init(expected: expected, found: "\"\(shown)\(found.count > Self.shownBytes ? "…" : "")\"")
    }

    public var description: String { "expected \(expected)" + (found.map { ", found \($0)" } ?? "") }

    private static let shownBytes = 60
}

/// A moment as traces write it: seconds with up to nine digits behind the point.
enum TraceTime {
    static func nanoseconds(_ text: ArraySlice<UInt8>) -> UInt64? {
        let parts = text.split(separator: UInt8(ascii: "."), maxSplits: 1, omittingEmptySubsequences: false)
        guard let whole = parts.first, (1...11).contains(whole.count), whole.allSatisfy(isDigit) else { return nil }
        var seconds: UInt64 = 0
        for digit in whole { seconds = seconds * 10 + UInt64(digit - UInt8(ascii: "0")) }
        // About year 2500, far below where nanoseconds overflow.
        guard seconds < 18_000_000_000 else { return nil }
        var fraction: UInt64 = 0
        if parts.count == 2 {
            guard (1...9).contains(parts[1].count), parts[1].allSatisfy(isDigit) else { return nil }
            for digit in parts[1] { fraction = fraction * 10 + UInt64(digit - UInt8(ascii: "0")) }
            for _ in parts[1].count..<9 { fraction *= 10 }
        }
        return seconds * 1_000_000_000 + fraction
    }

    static func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }
}
