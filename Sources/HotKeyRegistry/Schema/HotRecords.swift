/// The records of a hot set, kept by bucket: replacing one bucket leaves the other sixty-three shared with every copy
/// taken before.
public struct HotRecords: Sendable, Hashable {
    private var buckets: [[KeyName: HotRecord]]
    public private(set) var count = 0

    public init() { buckets = Array(repeating: [:], count: RegistryLimits.bucketCount) }

    public init(_ records: some Sequence<HotRecord>) {
        self.init()
        for record in records { self[record.key] = record }
    }

    public var isEmpty: Bool { count == 0 }

    public subscript(key: KeyName) -> HotRecord? {
        get { buckets[key.bucket][key] }
        set {
            let bucket = key.bucket
            count -= buckets[bucket].count
            buckets[bucket][key] = newValue
            count += buckets[bucket].count
        }
    }

    /// The records of one bucket, by key.
    public subscript(bucket index: Int) -> [KeyName: HotRecord] { buckets[index] }

    mutating func replace(bucket index: Int, with records: [HotRecord]) {
        count -= buckets[index].count
        buckets[index] = Dictionary(uniqueKeysWithValues: records.map { ($0.key, $0) })
        count += buckets[index].count
    }
}

extension HotRecords: Sequence {
    public struct Iterator: IteratorProtocol {
        fileprivate var base: FlattenSequence<[[KeyName: HotRecord]]>.Iterator
        public mutating func next() -> HotRecord? { base.next()?.value }
    }

    /// In no particular order.
    public func makeIterator() -> Iterator { Iterator(base: buckets.joined().makeIterator()) }
}
