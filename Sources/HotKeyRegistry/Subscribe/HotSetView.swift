/// Tells a head that was deleted and made again from a later version of the same. The transaction alone does not: two new
/// ensembles that were initialised alike count alike.
struct HeadIncarnation: Sendable, Hashable, Codable {
    var createdTransaction: Int64
    var createdAtMilliseconds: Int64

    static let none = HeadIncarnation(createdTransaction: 0, createdAtMilliseconds: 0)
}

/// One agent's copy of the published hot set and how it follows the head. Pure: told what was read, it says what to read
/// next; the subscriber does the reading.
///
///     head ──▶ older than applied?          refuse
///              same?                        nothing (but buckets that failed are tried again)
///              gap covered by its changes?  apply them; read only buckets that they do not explain
///              else                         read the buckets whose version differs
struct HotSetView: Sendable {
    private(set) var position: HotPosition?
    private(set) var incarnation = HeadIncarnation.none
    private(set) var headNodeVersion: Int32 = 0
    private(set) var coordinator = ""
    private(set) var publishedAt: Timestamp?
    private(set) var records = HotRecords()
    /// What the records of each bucket are: the version of the bucket read, or that the inline changes led to.
    private(set) var bucketVersions = [Int64](repeating: 0, count: RegistryLimits.bucketCount)
    private(set) var problems: [Int: String] = [:]

    enum HeadDecision: Sendable, Hashable {
        /// Older than what is applied: from a server that lags, or from a backup.
        case refused
        case unchanged
        case applied
        /// Give what these hold to ``apply(_:incarnation:nodeVersion:isSetBack:buckets:isLastRound:)``.
        case read([Int])
    }

    /// Takes a head that has been read.
    /// - Parameter isSetBack: the node was changed by an earlier transaction than the head that is applied: the ensemble's data was
    ///   set back in between.
    mutating func take(
        _ head: HotHead, incarnation: HeadIncarnation, nodeVersion: Int32, isSetBack: Bool = false
    ) -> HeadDecision {
        if let position {
            if head.position < position { return .refused }
            if head.position == position, incarnation == self.incarnation, !isSetBack {
                return problems.isEmpty ? .unchanged : .read(problems.keys.sorted())
            }
        }
        let toRead: [Int]
        if isContinuation(head, incarnation, isSetBack), let position {
            let isCovered = head.changes.last.map { $0.version <= position.version + 1 } ?? false
            if isCovered { applyChanges(of: head, after: position.version) }
            toRead = head.buckets.indices.filter { index in
                head.buckets[index] > bucketVersions[index]
                    || head.buckets[index] > 0 && (problems[index] != nil || isOfALostTime(index, head))
            }
        } else {
            // Another head under the same name: its versions say nothing about what is held here.
            toRead = head.buckets.indices.filter { head.buckets[$0] > 0 }
        }
        guard toRead.isEmpty else { return .read(toRead) }
        finish(head, incarnation: incarnation, nodeVersion: nodeVersion, isSetBack: isSetBack)
        return .applied
    }

    /// Whether the head's versions can be compared with those held here. Versions grow across epochs, so the same version in another
    /// epoch is another one's:
    ///   1. 911 is published and backed up, then 912, which agents apply
    ///   2. the data is set back to 911, and a coordinator that never saw 912 publishes 912 in the next epoch
    /// Nothing that is held under 912, nor any change that leads there, says anything about that head.
    private func isContinuation(_ head: HotHead, _ incarnation: HeadIncarnation, _ isSetBack: Bool) -> Bool {
        guard let position, incarnation == self.incarnation, !isSetBack else { return false }
        return head.version > position.version || head.position == position
    }

    /// Whether a bucket is held at a version that the head is above of and does not know: the ensemble's data was set back, and
    /// others have been published since. What is held never was, for everybody else.
    private func isOfALostTime(_ index: Int, _ head: HotHead) -> Bool {
        bucketVersions[index] > head.buckets[index] && bucketVersions[index] <= head.version
    }

    /// The changes that are newer than what is applied, the oldest first. A bucket that was read newer than its head
    /// holds them already.
    private mutating func applyChanges(of head: HotHead, after version: Int64) {
        for change in head.changes.reversed() where change.version > version {
            let bucket = change.key.bucket
            guard change.version >= bucketVersions[bucket] else { continue }
            records[change.key] = change.record
            bucketVersions[bucket] = change.version
        }
    }

    enum BucketRead: Sendable, Hashable {
        case missing
        case bad(String)
        case good(HotBucket)
    }

    enum BucketsDecision: Sendable, Hashable {
        case applied
        /// A bucket is older than the head that names it: read the head again and then what it asks for.
        case readHeadAgain
    }

    /// Takes the buckets that ``take(_:incarnation:nodeVersion:isSetBack:)`` asked for.
    /// - Parameters:
    ///   - isSetBack: as it was told then.
    ///   - isLastRound: do not ask for the head again; keep the old content of what does not fit.
    mutating func apply(
        _ head: HotHead, incarnation: HeadIncarnation, nodeVersion: Int32, isSetBack: Bool = false,
        buckets: [Int: BucketRead], isLastRound: Bool
    ) -> BucketsDecision {
        let isBehind = buckets.contains { index, read in
            switch read {
            case .missing: true
            case .bad: false
            case .good(let bucket): bucket.version < head.buckets[index]
            }
        }
        if isBehind && !isLastRound { return .readHeadAgain }
        if !isContinuation(head, incarnation, isSetBack) {
            for index in bucketVersions.indices where buckets[index] == nil { replace(index, with: [], version: 0) }
        }
        for (index, read) in buckets {
            switch read {
            case .missing: problems[index] = "the node is missing although the head names it"
            case .bad(let reason): problems[index] = reason
            case .good(let bucket) where bucket.version < head.buckets[index]:
                problems[index] = "version \(bucket.version) is older than the head's \(head.buckets[index])"
            case .good(let bucket): replace(index, with: bucket.keys, version: bucket.version)
            }
        }
        finish(head, incarnation: incarnation, nodeVersion: nodeVersion, isSetBack: isSetBack)
        return .applied
    }

    private mutating func replace(_ index: Int, with keys: [HotRecord], version: Int64) {
        records.replace(bucket: index, with: keys)
        bucketVersions[index] = version
        problems[index] = nil
    }

    private mutating func finish(_ head: HotHead, incarnation: HeadIncarnation, nodeVersion: Int32, isSetBack: Bool) {
        let isContinuation = isContinuation(head, incarnation, isSetBack)
        for index in head.buckets.indices where head.buckets[index] == 0 {
            // A bucket that was read newer than this head stays: the next head will name it.
            if bucketVersions[index] <= head.version || !isContinuation {
                replace(index, with: [], version: 0)
            }
        }
        position = head.position
        self.incarnation = incarnation
        headNodeVersion = nodeVersion
        coordinator = head.coordinator
        publishedAt = head.publishedAt
    }
}

// MARK: - On disk

extension HotSetView {
    struct Saved: Codable, Sendable, Hashable {
        var position: HotPosition
        var incarnation: HeadIncarnation
        var headNodeVersion: Int32
        var coordinator: String
        var publishedAt: Timestamp
        var bucketVersions: [Int64]
        var records: [HotRecord]
    }

    /// Nil before the first head. Buckets with a problem count as never read.
    var saved: Saved? {
        guard let position, let publishedAt else { return nil }
        return Saved(
            position: position, incarnation: incarnation, headNodeVersion: headNodeVersion, coordinator: coordinator,
            publishedAt: publishedAt,
            bucketVersions: bucketVersions.enumerated().map { problems[$0.offset] == nil ? $0.element : 0 },
            records: records.sorted { $0.key < $1.key })
    }

    init?(_ saved: Saved) {
        guard saved.bucketVersions.count == RegistryLimits.bucketCount else { return nil }
        position = saved.position
        incarnation = saved.incarnation
        headNodeVersion = saved.headNodeVersion
        coordinator = saved.coordinator
        publishedAt = saved.publishedAt
        bucketVersions = saved.bucketVersions
        records = HotRecords(saved.records)
    }
}
