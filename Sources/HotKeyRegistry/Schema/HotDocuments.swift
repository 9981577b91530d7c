import StrictCoding

/// `/<app>/hot`: what is published now. The only node of the hot set that agents watch.
public struct HotHead: RegistryDocument {
    public static let bytesMax = RegistryLimits.headBytesMax
    public var schema: Int
    /// Grows with every coordinator that publishes: ``epochMin(at:)`` of its beginning, or of `hkctl init`, or one more than
    /// the last where that is more. So a registry that was made anew or set back is newer than every view kept on a disk as
    /// soon as somebody has published.
    public var epoch: Int64
    /// Grows with every publication, across epochs too.
    public var version: Int64
    public var publishedAt: Timestamp
    /// The agent that published; empty in the head that `hkctl init` writes.
    public var coordinator: String
    /// For each bucket the version that last changed it, 0 when it holds no key (and need not be read).
    public var buckets: [Int64]
    /// The latest changes, the newest first: every change whose version is at least that of the last one listed. Empty
    /// when the latest publication's changes do not fit.
    public var changes: [HotChange]

    public init(
        epoch: Int64, version: Int64 = 0, publishedAt: Timestamp, coordinator: String = "",
        buckets: [Int64] = Array(repeating: 0, count: RegistryLimits.bucketCount), changes: [HotChange] = []
    ) {
        schema = RegistryLimits.schema
        self.epoch = epoch
        self.version = version
        self.publishedAt = publishedAt
        self.coordinator = coordinator
        self.buckets = buckets
        self.changes = changes
    }

    public static func scan(_ bytes: [UInt8]) -> HotHead? { HotScanner.head(bytes) }

    /// The least epoch of whoever begins at `now`: the seconds since 1970, more than the epoch of anything that was published
    /// before, also where the registry does not know of that any more.
    static func epochMin(at now: Timestamp) -> Int64 { now.millisecondsSince1970 / 1_000 }

    /// Which of two heads of one registry is older is decided by this alone.
    public var position: HotPosition { HotPosition(epoch: epoch, version: version) }

    private enum CodingKeys: String, CodingKey, CaseIterable {
        case schema, epoch, version, publishedAt, coordinator, buckets, changes
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        schema = try fields.decode(Int.self, forKey: .schema)
        epoch = try fields.decode(Int64.self, forKey: .epoch)
        version = try fields.decode(Int64.self, forKey: .version)
        publishedAt = try fields.decode(Timestamp.self, forKey: .publishedAt)
        coordinator = try fields.decode(.coordinator, default: "")
        buckets = try fields.decode([Int64].self, forKey: .buckets)
        changes = try fields.decode(.changes, default: [])
    }

    public func validate() throws {
        try requireSchema()
        try require(epoch, in: 0...(1 << 53), "epoch")
        try require(version, in: 0...(1 << 53), "version")
        try require(
            buckets.count == RegistryLimits.bucketCount, "buckets",
            expected: "\(RegistryLimits.bucketCount) versions", found: "\(buckets.count)")
        for (index, bucket) in buckets.enumerated() {
            try require(bucket, in: 0...version, "buckets", .index(index))
        }
        var bound = version
        for (index, change) in changes.enumerated() {
            try require(
                (1...max(1, bound)).contains(change.version), "changes", .index(index), "version",
                expected: "versions from the head's downwards")
            bound = change.version
        }
    }
}

/// A point in the history of one app's hot set. An older one is never applied over a newer.
public struct HotPosition: Sendable, Hashable, Comparable, Codable, CustomStringConvertible {
    public var epoch: Int64
    public var version: Int64

    public init(epoch: Int64, version: Int64) {
        self.epoch = epoch
        self.version = version
    }

    public static func < (left: HotPosition, right: HotPosition) -> Bool {
        (left.epoch, left.version) < (right.epoch, right.version)
    }

    public var description: String { "\(epoch)/\(version)" }
}

/// `/<app>/hot/00` to `3f`: the records of the keys that hash to one bucket.
public struct HotBucket: RegistryDocument {
    public static let bytesMax = RegistryLimits.bucketBytesMax
    public var schema: Int
    /// The publication that wrote it. May be newer than the head says: the head follows.
    public var version: Int64
    /// Sorted by key.
    public var keys: [HotRecord]

    public init(version: Int64 = 0, keys: [HotRecord] = []) {
        schema = RegistryLimits.schema
        self.version = version
        self.keys = keys
    }

    public static func scan(_ bytes: [UInt8]) -> HotBucket? { HotScanner.bucket(bytes) }

    private enum CodingKeys: String, CodingKey, CaseIterable { case schema, version, keys }

    public func validate() throws {
        try requireSchema()
        try require(version, in: 0...(1 << 53), "version")
        var seen: Set<KeyName> = []
        for (index, record) in keys.enumerated() {
            try require(seen.insert(record.key).inserted, "keys", .index(index), "key", expected: "each key once")
            try require(
                record.key.bucket == keys[0].key.bucket, "keys", .index(index), "key",
                expected: "a key of the same bucket as the others (FNV-1a 64 of its bytes, low 6 bits)")
        }
    }
}
