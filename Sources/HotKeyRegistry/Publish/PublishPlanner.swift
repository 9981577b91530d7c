import StrictCoding
import ZooKeeper

/// One key's change as the coordinator decides it.
public enum HotUpdate: Sendable, Hashable {
    /// The key is hot, cooling or a candidate from now on, as the record says.
    case set(HotRecord)
    case remove(KeyName)

    public var key: KeyName {
        switch self {
        case .set(let record): record.key
        case .remove(let key): key
        }
    }
}

/// A change that is not published, and why. Everything else that was submitted with it is.
///
/// What there is no room for waits, and is published when others have left; see ``Reason/isForLackOfRoom``.
public struct RefusedUpdate: Sendable, Hashable, CustomStringConvertible {
    public enum Reason: Sendable, Hashable {
        /// Over 1 KiB.
        case keyTooLong
        /// The app has 10,000 keys in its hot set.
        case tooManyKeys
        /// The key's bucket would pass 64 KiB.
        case bucketFull
        /// The record makes no sense.
        case invalid(String)

        /// The change waits for room, unless the key is changed again before. Any other can never be published.
        public var isForLackOfRoom: Bool { self == .tooManyKeys || self == .bucketFull }
    }
    public var key: KeyName
    public var reason: Reason

    public var description: String {
        switch reason {
        case .keyTooLong: "the key of \(key.bytes.count) bytes is longer than \(RegistryLimits.keyBytesMax)"
        case .tooManyKeys: "\(key): the hot set is full, \(RegistryLimits.hotKeysMax) keys; it waits for room"
        case .bucketFull:
            "\(key): its bucket \(key.bucket) of \(RegistryLimits.bucketBytesMax) bytes is full; it waits for room"
        case .invalid(let problem): "\(key): \(problem)"
        }
    }
}

/// What goes into the registry when changes are published: which buckets, which inline changes, in which transactions.
/// Pure: the publisher does the I/O and tells what became of it.
struct PublishPlanner: Sendable {
    /// Parts of a publication, each one transaction. The head is in the last.
    struct Step: Sendable {
        /// Without the fence, which the publisher puts in front.
        var operations: [StoreOperation]
        var buckets: [Int]

        /// About how large the request is.
        var requestBytes: Int {
            operations.reduce(0) { bytes, operation in
                switch operation {
                case .set(let path, let data, _), .create(let path, let data, _, _):
                    bytes + path.utf8.count + data.count + Self.operationBytes
                case .check, .delete: bytes
                }
            }
        }

        /// Of an operation beside its path and its data.
        private static let operationBytes = 24
    }

    struct Publication: Sendable {
        var head: HotHead
        var steps: [Step]
        fileprivate var changes: [KeyName: HotRecord?]
    }

    /// What one transaction and one head may hold.
    struct Bounds: Sendable {
        var multiBytesMax = RegistryLimits.multiBytesMax
        var headBytesMax = RegistryLimits.headBytesMax

        init(multiBytesMax: Int = RegistryLimits.multiBytesMax, headBytesMax: Int = RegistryLimits.headBytesMax) {
            self.multiBytesMax = multiBytesMax
            // The buckets are given half of a transaction at least.
            self.headBytesMax = min(headBytesMax, multiBytesMax / 2)
        }
    }

    private let paths: RegistryPaths
    private let bounds: Bounds
    /// Of buckets that are missing and are created.
    private let acl: [AccessControl]
    private(set) var head: HotHead
    /// Version of the head's znode, to be expected by the next write.
    private var headNodeVersion: Int32
    /// Version of each bucket's znode, nil where there is none.
    private var bucketNodeVersions: [Int32?]
    /// As published.
    private(set) var records: HotRecords
    /// What the next publication changes; nil for keys that go.
    private var pending: [KeyName: HotRecord?] = [:]
    /// What the publication under way changes.
    private var inFlight: [KeyName: HotRecord?] = [:]
    /// Bytes that each bucket's document will have with what is pending.
    private var bucketBytes: [Int]
    private var keyCount: Int
    /// What there was no room for, by key, with the bytes that it takes: the newest word on each of these keys.
    private var waiting: [KeyName: (record: HotRecord, bytes: Int)] = [:]
    /// A key went or became smaller since what waits was offered last.
    private var isThereNewRoom = false
    /// Buckets that do not say what the head says and must be written although no key in them changed.
    private var torn: Set<Int> = []
    /// The head itself has to be written.
    private var isHeadDue = false
    private let epoch: Int64
    /// The newest version found anywhere. A coordinator that died between two transactions leaves buckets that are newer
    /// than its head; the next version must be newer than those.
    private var newestVersion: Int64

    /// Takes over what stands in the registry.
    ///
    /// - Parameters:
    ///   - fence: the transaction that made this coordinator's election node. It is larger for each coordinator than for the one
    ///     before, by more than that one has published.
    ///   - epochMin: the first that may be published.
    ///   - seen: what this agent has seen published before it read `published`. When that is newer, the ensemble was set back
    ///     to an older state. Agents hold buckets of the lost time under versions that will be given out again, so everything is
    ///     written under versions that never were.
    init(
        _ published: PublishedHotSet, paths: RegistryPaths, acl: [AccessControl] = AccessControl.openUnsafe,
        bounds: Bounds = Bounds(), fence: Int64 = 0, epochMin: Int64 = 0, seen: HotPosition? = nil
    ) {
        self.paths = paths
        self.bounds = bounds
        self.acl = acl
        head = published.head
        headNodeVersion = published.headStat.version
        records = published.records
        epoch = max(
            max(published.head.epoch, seen?.epoch ?? 0) + 1,
            epochMin + (published.isHeadBad ? RegistryLimits.epochLeap : 0))
        newestVersion = published.head.version
        bucketNodeVersions = published.buckets.map { $0.stat?.version }
        keyCount = published.records.count
        bucketBytes = (0..<RegistryLimits.bucketCount).map { index in
            published.records[bucket: index].values.reduce(Self.emptyBucketBytes) { $0 + Self.bytes(of: $1) }
        }
        var isAnyLost = false
        for (index, read) in published.buckets.enumerated() {
            let named = head.buckets[index]
            switch read {
            case .missing where named == 0: break
            case .missing, .bad:
                torn.insert(index)
                isAnyLost = true
            case .good(let bucket, let stat):
                newestVersion = max(newestVersion, bucket.version)
                // Named, of that version and not written since, or empty and not named: as it should be. What somebody else wrote
                // over a bucket may say the version that the head names; agents that hold that version do not read it again.
                let isWrittenSince = stat.modifiedTransaction > published.headStat.modifiedTransaction && named > 0
                let isNamed = bucket.version == named && !isWrittenSince
                let isEmpty = bucket.keys.isEmpty && named == 0
                // No publication writes version 0 over anything.
                let isEmptied = bucket.version == 0 && stat.version > 0
                if !isNamed && !isEmpty || isEmptied { torn.insert(index) }
                isAnyLost = isAnyLost || bucket.version < named || isEmptied
            }
        }
        // What was lost may have been newer than its head, left by a coordinator that died between two transactions, and agents may
        // hold it under that version. The fence keeps two leaps apart: what a first one was for may be lost again before any head
        // tells of it.
        func leap(over version: Int64) -> Int64 { max(version, fence) + RegistryLimits.versionLeap }
        if isAnyLost { newestVersion = leap(over: newestVersion) }
        let isSetBack = seen.map { published.head.position < $0 } ?? false
        guard published.isHeadBad || isSetBack else { return }
        isHeadDue = true
        newestVersion = leap(over: max(newestVersion, seen?.version ?? 0))
        torn = Set(published.buckets.indices.filter { published.buckets[$0] != .missing || head.buckets[$0] > 0 })
    }

    /// Publishes in this planner's epoch although nothing may have changed, unless it has published already.
    mutating func beginEpoch() { if head.epoch < epoch { isHeadDue = true } }

    /// The version of each node of the hot set as it was read or written last, nil where there is none.
    var nodeVersions: [(path: String, version: Int32?)] {
        [(paths.hot, headNodeVersion)] + bucketNodeVersions.enumerated().map { (paths.bucket($0.offset), $0.element) }
    }

    /// Also false when room has been made for what waits although nothing is published of that: a key that was taken and
    /// given up before it was published.
    var isIdle: Bool { pending.isEmpty && torn.isEmpty && !isHeadDue && !(isThereNewRoom && !waiting.isEmpty) }

    /// Keys that there is no room for.
    var waitingCount: Int { waiting.count }

    var waitingKeys: WaitingKeys {
        var keys = WaitingKeys()
        var crowded: [HotRecord] = []
        for (key, (record, bytes)) in waiting {
            let before = prospective(key)
            if before == nil { keys.absent.insert(key) }
            // One that fits by now is taken by the next publication.
            if bucketBytes[key.bucket] + bytes - Self.bytes(of: before) > RegistryLimits.bucketBytesMax {
                crowded.append(record)
            }
        }
        keys.crowded = Self.hottestFirst(crowded).map(\.key)
        return keys
    }

    private static func hottestFirst(_ records: [HotRecord]) -> [HotRecord] {
        func heat(_ record: HotRecord) -> Double { record.readsPerSecond + record.writesPerSecond }
        return records.sorted { (heat($1), $0.key) < (heat($0), $1.key) }
    }

    // MARK: - Gathering

    mutating func submit(_ updates: [HotUpdate]) -> [RefusedUpdate] {
        updates.compactMap { update in take(update).map { RefusedUpdate(key: update.key, reason: $0) } }
    }

    /// The updates that make the hot set exactly `wanted`.
    func updates(towards wanted: [HotRecord]) -> [HotUpdate] {
        let keys = Set(wanted.map(\.key))
        let known = Set(records.map(\.key)).union(inFlight.keys).union(pending.keys)
        let present = known.filter { prospective($0) != nil }.union(waiting.keys)
        return present.subtracting(keys).sorted().map(HotUpdate.remove) + wanted.map(HotUpdate.set)
    }

    /// The record that a key will have once everything pending is published.
    private func prospective(_ key: KeyName) -> HotRecord? {
        if let change = pending[key] { return change }
        return withoutPending(key)
    }

    private func withoutPending(_ key: KeyName) -> HotRecord? {
        if let change = inFlight[key] { return change }
        return records[key]
    }

    private mutating func take(_ update: HotUpdate) -> RefusedUpdate.Reason? {
        let key = update.key
        waiting[key] = nil
        let before = prospective(key)
        var after: HotRecord?
        if case .set(let record) = update {
            guard key.bytes.count <= RegistryLimits.keyBytesMax else { return .keyTooLong }
            do {
                try record.validate()
            } catch {
                return .invalid("\(error)")
            }
            if let before, !record.isNews(after: before) { return nil }
            after = record
        }
        if before == nil && after == nil { return nil }
        let ownBytes = Self.bytes(of: after)
        let bytes = bucketBytes[key.bucket] + ownBytes - Self.bytes(of: before)
        let count = keyCount + (after == nil ? 0 : 1) - (before == nil ? 0 : 1)
        if let after {
            let isTooMany = count > RegistryLimits.hotKeysMax
            if isTooMany || bytes > RegistryLimits.bucketBytesMax {
                if waiting.count < RegistryLimits.waitingKeysMax { waiting[key] = (after, ownBytes) }
                return isTooMany ? .tooManyKeys : .bucketFull
            }
        }
        if bytes < bucketBytes[key.bucket] { isThereNewRoom = true }
        bucketBytes[key.bucket] = bytes
        keyCount = count
        if after == withoutPending(key) {
            pending.removeValue(forKey: key)
        } else {
            pending.updateValue(after, forKey: key)
        }
        return nil
    }

    /// Takes what waits and fits by now, the hottest first. Looks at all that waits, but only after a key has gone or become
    /// smaller, and encodes nothing that does not fit.
    private mutating func offerWaiting() {
        guard isThereNewRoom, !waiting.isEmpty else { return }
        isThereNewRoom = false
        let fitting = waiting.values.filter { record, bytes in
            let before = prospective(record.key)
            return (before != nil || keyCount < RegistryLimits.hotKeysMax)
                && bucketBytes[record.key.bucket] + bytes - Self.bytes(of: before) <= RegistryLimits.bucketBytesMax
        }.map(\.record)
        for record in Self.hottestFirst(fitting) {
            // Those before it may have used the room up: then it waits on.
            _ = take(.set(record))
        }
    }

    // MARK: - Planning

    /// The publication of everything pending, and of what waits and has room by now; nil when there is nothing to write. What
    /// is submitted from now on goes into the next one. Tell ``committed(_:of:)`` of every step before planning again; a
    /// planner whose publication failed does not know the registry any more and is of no further use.
    mutating func plan(now: Timestamp, coordinator: AgentID) throws -> Publication? {
        offerWaiting()
        guard !pending.isEmpty || !torn.isEmpty || isHeadDue else { return nil }
        let version = newestVersion + 1
        let changed = Set(pending.keys.map(\.bucket)).union(torn).sorted()
        var next = records
        for (key, record) in pending { next[key] = record }
        var steps: [Step] = []
        var step = Step(operations: [], buckets: [])
        var stepBytes = 0
        var head = HotHead(
            epoch: epoch, version: version, publishedAt: now, coordinator: coordinator.description,
            buckets: self.head.buckets)
        for index in changed {
            let keys = next[bucket: index].values.sorted { $0.key < $1.key }
            let path = paths.bucket(index)
            let data = try StrictEncoder.encode(HotBucket(version: version, keys: keys), source: path)
            guard data.count <= RegistryLimits.bucketBytesMax else {
                throw RegistryError(
                    .tooLarge, "\(path) would have \(data.count) bytes, more than \(RegistryLimits.bucketBytesMax)",
                    path: path)
            }
            if stepBytes > 0, stepBytes + data.count > bounds.multiBytesMax - bounds.headBytesMax {
                steps.append(step)
                step = Step(operations: [], buckets: [])
                stepBytes = 0
            }
            stepBytes += data.count
            step.buckets.append(index)
            if let expected = bucketNodeVersions[index] {
                step.operations.append(.set(path, data: data, version: expected))
            } else {
                step.operations.append(.create(path, data: data, mode: .persistent, acl: acl))
            }
            head.buckets[index] = keys.isEmpty ? 0 : version
        }
        head.changes = try inlineChanges(version: version, base: head)
        step.operations.append(
            .set(
                paths.hot, data: try RegistryCodec.encode(head, source: paths.hot), version: headNodeVersion))
        steps.append(step)
        let publication = Publication(head: head, steps: steps, changes: pending)
        inFlight = pending
        pending = [:]
        return publication
    }

    /// As many of the latest changes as fit the head's cap, by whole versions: a reader concludes from the oldest version
    /// listed that every change since is there.
    private func inlineChanges(version: Int64, base: HotHead) throws -> [HotChange] {
        // Without changes of its own, or with versions missing in between, this version ends the list of what came before.
        guard !pending.isEmpty else { return [] }
        // What a torn bucket is written with is no change of a key, and no list of changes tells of it:
        //   1. agents hold {a, b} of a bucket at version 9; it becomes rubbish, and a coordinator that begins finds it empty
        //   2. version 10 writes {k} into it, with k as its change
        //   3. an agent at 9 is covered by that list: it applies k, holds {a, b, k} under version 10, and never reads the bucket
        guard torn.isEmpty else { return [] }
        var left = bounds.headBytesMax - (try StrictEncoder.encode(base).count)
        guard pending.count * Self.changeBytesMin <= left else { return [] }
        let latest = pending.sorted { $0.key < $1.key }
            .map { HotChange(version: version, key: $0.key, record: $0.value) }
        let earlier = newestVersion == head.version && head.version > 0 ? head.changes : []
        var result: [HotChange] = []
        var group: [HotChange] = []
        var groupBytes = 0
        for change in latest + earlier {
            if let current = group.first?.version, current != change.version {
                left -= groupBytes
                result += group
                group = []
                groupBytes = 0
            }
            group.append(change)
            groupBytes += try StrictEncoder.encode(change).count + 1
            if groupBytes > left { return result }
        }
        return result + group
    }

    // MARK: - Outcome

    /// Step `index` of the publication stands in the registry.
    mutating func committed(_ index: Int, of publication: Publication) {
        for bucket in publication.steps[index].buckets {
            bucketNodeVersions[bucket] = bucketNodeVersions[bucket].map { $0 + 1 } ?? 0
        }
        guard index == publication.steps.count - 1 else { return }
        headNodeVersion += 1
        head = publication.head
        newestVersion = head.version
        torn = []
        isHeadDue = false
        for (key, record) in publication.changes { records[key] = record }
        inFlight = [:]
    }

    // MARK: - Sizes

    /// Of `{"keys":[],"schema":1,"version":…}` with the longest version there can be.
    private static let emptyBucketBytes = 64

    /// Of `{"key":"","state":"cold","version":1}` with the comma.
    private static let changeBytesMin = 39

    /// With the comma.
    private static func bytes(of record: HotRecord?) -> Int {
        guard let record else { return 0 }
        // A record that cannot be encoded has been refused by its validation before.
        return ((try? StrictEncoder.encode(record).count) ?? RegistryLimits.bucketBytesMax) + 1
    }
}
