import StrictCoding
public import ZooKeeper

/// The hot set as it stands in the registry: the head and the records of every bucket.
public struct PublishedHotSet: Sendable {
    public var head: HotHead
    public var headStat: NodeStat
    public var records: HotRecords
    /// Buckets that could not be read or are older than the head says; their keys are missing from ``records``.
    public var problems: [DocumentProblem]
    var buckets: [BucketRead]
    /// The head could not be read: ``head`` stands for it, and names nothing.
    var isHeadBad = false

    enum BucketRead: Sendable, Hashable {
        case missing
        case bad(DocumentError, NodeStat)
        case good(HotBucket, NodeStat)

        var stat: NodeStat? {
            switch self {
            case .missing: nil
            case .bad(_, let stat), .good(_, let stat): stat
            }
        }
    }

    /// Reads the head, then every bucket.
    /// - Parameter isBadHeadTaken: a head that cannot be read is no error but a problem; the buckets say what is published.
    ///
    /// A publication may come in between:
    ///   1. the head is read at version 7
    ///   2. a coordinator publishes version 8: buckets and head
    ///   3. bucket 5 is read at version 8
    /// The bucket is newer than the head and is taken as it is. The other way round cannot be: a bucket that the head
    /// names was written in the same transaction or before it.
    static func read(_ registry: RegistryStore, isBadHeadTaken: Bool = false) async throws -> PublishedHotSet {
        let paths = registry.paths
        let value = try await registry.translating(paths.hot) { try await registry.store.get(paths.hot) }
        let head: HotHead
        var headProblem: DocumentError?
        do {
            head = try RegistryCodec.decode(HotHead.self, from: value.data, source: paths.hot)
        } catch {
            guard isBadHeadTaken else { throw RegistryError(.badDocument, "", path: paths.hot, document: error) }
            headProblem = error
            head = HotHead(epoch: 0, publishedAt: .now)
        }
        let buckets = try await withThrowingTaskGroup(of: (Int, BucketRead).self) { group in
            for index in 0..<RegistryLimits.bucketCount {
                group.addTask { (index, try await Self.read(bucket: index, registry)) }
            }
            return try await group.reduce(into: Array(repeating: .missing, count: RegistryLimits.bucketCount)) {
                $0[$1.0] = $1.1
            }
        }
        var published = PublishedHotSet(head: head, headStat: value.stat, buckets: buckets, paths: paths)
        if let headProblem {
            published.isHeadBad = true
            published.problems.insert(DocumentProblem(path: paths.hot, reason: "\(headProblem)"), at: 0)
        }
        return published
    }

    private static func read(bucket index: Int, _ registry: RegistryStore) async throws -> BucketRead {
        let path = registry.paths.bucket(index)
        let value: NodeValue
        do {
            value = try await registry.store.get(path)
        } catch let error as StoreError where error.code == .noNode {
            return .missing
        } catch let error as StoreError {
            throw RegistryStore.translate(error, path: path, app: registry.paths)
        }
        return decode(value, bucket: index, path: path)
    }

    static func decode(_ value: NodeValue, bucket index: Int, path: String) -> BucketRead {
        do {
            let bucket = try RegistryCodec.decode(HotBucket.self, from: value.data, source: path)
            if let first = bucket.keys.first, first.key.bucket != index {
                return .bad(
                    DocumentError(
                        .invalidValue, source: path, path: "keys[0].key",
                        expected: "a key of this bucket (FNV-1a 64 of its bytes, low 6 bits)",
                        found: "a key of bucket \(first.key.bucket)"), value.stat)
            }
            return .good(bucket, value.stat)
        } catch {
            return .bad(error, value.stat)
        }
    }
}

extension PublishedHotSet {
    /// What a head and the buckets read after it say together.
    init(head: HotHead, headStat: NodeStat, buckets: [BucketRead], paths: RegistryPaths) {
        self.init(head: head, headStat: headStat, records: HotRecords(), problems: [], buckets: buckets)
        for (index, read) in buckets.enumerated() {
            let path = paths.bucket(index)
            let named = head.buckets[index]
            switch read {
            case .missing where named > 0:
                problems.append(
                    DocumentProblem(path: path, reason: "the node is missing although the head names it"))
            case .missing: break
            case .bad(let error, _): problems.append(DocumentProblem(path: path, reason: "\(error)"))
            case .good(let bucket, _) where bucket.version < named:
                problems.append(
                    DocumentProblem(path: path, reason: "version \(bucket.version) is older than the head's \(named)"))
            case .good(let bucket, _):
                // The head says it is empty, and nothing newer has been written since: what stands there is a leftover.
                if named == 0, bucket.version <= head.version { continue }
                records.replace(bucket: index, with: bucket.keys)
            }
        }
    }
}

/// A document that was refused, or is missing. What was applied before it stays in force.
public struct DocumentProblem: Sendable, Hashable, CustomStringConvertible {
    public var path: String
    public var reason: String

    public init(path: String, reason: String) {
        self.path = path
        self.reason = reason
    }

    public var description: String { reason.hasPrefix(path) ? reason : "\(path): \(reason)" }
}
