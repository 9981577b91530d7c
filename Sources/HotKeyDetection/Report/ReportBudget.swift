/// Chooses what an agent's reports tell, so that they cost no more than a budget of bytes a second.
///
/// Each slice's counts join what the agent has not told yet about each key (its residual). A frame then takes
///
/// - the **head**: the keys of this slice with the largest residuals, up to half of the frame's bytes;
/// - the **tail**: every key has one slice in ten, given by its hash, at which its residual of the last second is told
///   or given up; the largest go first, the watched (published) keys before all others, until the frame is full;
/// - more of the head, if bytes are left.
///
/// So the hottest keys stand in every frame, what is asked for rarely but on many agents comes once a second as one sum,
/// and the tail's bytes are spread evenly over the frames instead of coming in bursts.
///
/// **Bound.** A frame's `unlistedBound` is the largest count in that slice of any key that the frame does not list,
/// be it saved for later, given up, or never in the counter's table. An entry covers the `sliceSpan` slices up to its
/// frame and its `error` holds all that may be missing from them. For any key the true count over a run of frames is
/// thus at most the sum of its listed counts and errors plus the `unlistedBound` of each frame no entry of it covers.
///
/// With no more keys than the budget holds, every frame is complete and the bound is the counter's own.
public final class ReportBudget {
    private struct Residual {
        var counted = AccessTotals()
        /// Errors of the slices in which the counter listed the key, less the counter's bounds of those slices.
        var errorBeyondBounds: Int64 = 0
        /// The first slice with a count that was not told.
        var firstSequence: UInt64 = 0
        /// The last slice that told the key.
        var toldSequence: UInt64 = 0
    }

    private let frameBytesMax: Int
    private let headBytesMax: Int
    private let table: KeyTable
    /// One place for each entry the table can hold; pages that no entry has reached yet cost nothing.
    private let residuals: UnsafeMutablePointer<Residual>
    private var watched: Set<UInt64> = []
    private var sequence: UInt64 = 0
    /// The sum of the counter's bounds up to each of the last slices, by sequence number.
    private var boundsThrough: [UInt64]
    private let selectionMax: Int

    /// - Parameters:
    ///   - bytesPerSecond: the cap, of which each slice's frame has its share.
    ///   - residualKeysMax: keys whose untold counts are remembered; what passes it is given up at once (and in the bound).
    public init(
        bytesPerSecond: Int = DetectionLimits.reportBytesPerSecond,
        residualKeysMax: Int = DetectionLimits.residualKeysMax
    ) {
        frameBytesMax = min(
            DetectionLimits.reportFrameBytesMax, bytesPerSecond * DetectionLimits.sliceMilliseconds / 1_000)
        precondition(frameBytesMax >= 2 * ReportFormat.headerBytesMax, "a frame has room for more than its header")
        headBytesMax = ReportFormat.headerBytesMax + (frameBytesMax - ReportFormat.headerBytesMax) / 2
        table = KeyTable(keyLimit: residualKeysMax, arenaByteLimit: DetectionLimits.residualArenaBytesMax)
        boundsThrough = Array(repeating: 0, count: DetectionLimits.tailSlices + 1)
        selectionMax = frameBytesMax / ReportFormat.entryBytesMin
        residuals = .allocate(capacity: residualKeysMax)
    }

    deinit { residuals.deallocate() }

    /// Keys to tell at least once a second even when they are far from the agent's largest: those with a published
    /// state, so that a key spread thinly over many agents does not look as if it had gone.
    /// - Parameter hashes: the counter's hashes of the keys.
    public func watch(hashes: Set<UInt64>) {
        watched = hashes
    }

    /// The report of one slice. Call once a slice, also when nothing was counted: the numbering counts slices.
    public func report(of summary: SliceSummary, durationMilliseconds: UInt32) -> Report {
        sequence += 1
        let ring = UInt64(boundsThrough.count)
        boundsThrough[Int(sequence % ring)] = boundsThrough[Int((sequence - 1) % ring)] &+ summary.unlistedBound

        var positions: [Int] = []
        positions.reserveCapacity(summary.entries.count)
        var headSelector = TopSelector(limit: selectionMax)
        summary.forEach { entry, key in
            let position = remember(entry, key: key, bound: summary.unlistedBound)
            positions.append(position)
            if position >= 0 { headSelector.offer(weight: weight(at: position), entry: position) }
        }
        let head = headSelector.sorted()
        let due = dueEntries()
        var tailSelector = TopSelector(limit: selectionMax)
        for position in due where residuals[position].counted.accesses > 0 {
            let isWatched = watched.contains(table.hash(at: position))
            tailSelector.offer(weight: weight(at: position) | (isWatched ? 1 << 63 : 0), entry: position)
        }
        let tail = tailSelector.sorted()

        var frame = Frame(bytes: ReportFormat.headerBytesMax)
        tell(head, in: &frame, bytesMax: headBytesMax)
        tell(tail, in: &frame, bytesMax: frameBytesMax)
        tell(head, in: &frame, bytesMax: frameBytesMax)

        var unlistedBound = summary.unlistedBound
        for (position, entry) in zip(positions, summary.entries)
        where position < 0 || residuals[position].toldSequence != sequence {
            unlistedBound = max(unlistedBound, entry.accesses &+ entry.error)
        }
        for position in due { table.remove(position) }
        return Report(
            sequence: sequence, durationMilliseconds: durationMilliseconds, totals: summary.totals,
            unlistedBound: unlistedBound, entries: frame.entries)
    }

    private struct Frame {
        var bytes: Int
        var entries: [Report.Entry] = []
    }

    /// Adds a slice's counts to the key's residual. Returns -1 when there is no room to remember the key.
    private func remember(_ entry: SliceSummary.Entry, key: UnsafeRawBufferPointer, bound: UInt64) -> Int {
        var position = table.find(key, hash: entry.hash)
        if position < 0 {
            position = table.insert(key, hash: entry.hash)
            if position < 0 { return -1 }
            residuals[position] = Residual()
        }
        let residual = residuals + position
        if residual.pointee.counted == AccessTotals() {
            residual.pointee.firstSequence = sequence
            residual.pointee.errorBeyondBounds = 0
        }
        residual.pointee.counted.reads &+= entry.reads
        residual.pointee.counted.writes &+= entry.writes
        residual.pointee.counted.replyBytes &+= entry.replyBytes
        residual.pointee.errorBeyondBounds += Int64(clamping: entry.error) - Int64(clamping: bound)
        return position
    }

    private func weight(at position: Int) -> UInt64 {
        min(residuals[position].counted.accesses, UInt64(Int64.max))
    }

    /// The entries whose second ends with this slice.
    private func dueEntries() -> [Int] {
        let turns = UInt64(DetectionLimits.tailSlices)
        let turn = sequence % turns
        var due: [Int] = []
        for position in 0..<table.highWater
        where table.hash(at: position) % turns == turn && table.isPresent(position) {
            due.append(position)
        }
        return due
    }

    private func tell(_ positions: [Int], in frame: inout Frame, bytesMax: Int) {
        for position in positions where residuals[position].toldSequence != sequence {
            let residual = residuals[position]
            let span = sequence - residual.firstSequence + 1
            let ring = UInt64(boundsThrough.count)
            let bounds =
                boundsThrough[Int(sequence % ring)] &- boundsThrough[Int((residual.firstSequence + ring - 1) % ring)]
            let error = UInt64(max(0, Int64(clamping: bounds) + residual.errorBeyondBounds))
            let key = table.key(at: position)
            let bytes = ReportFormat.encodedBytes(
                keyLength: key.count, reads: residual.counted.reads, writes: residual.counted.writes,
                replyBytes: residual.counted.replyBytes, error: error, sliceSpan: UInt32(span))
            // A smaller entry further on might still fit; taking it would let short names crowd out long ones.
            guard frame.bytes + bytes <= bytesMax else { return }
            frame.bytes += bytes
            frame.entries.append(
                Report.Entry(
                    key: Array(key), reads: residual.counted.reads, writes: residual.counted.writes,
                    replyBytes: residual.counted.replyBytes, error: error, sliceSpan: UInt32(span)))
            residuals[position] = Residual(toldSequence: sequence)
        }
    }
}

/// Keeps the entries of the largest weights out of many: a bounded binary heap with the smallest on top.
struct TopSelector {
    private let limit: Int
    private var heap: [(weight: UInt64, entry: Int)] = []

    init(limit: Int) {
        self.limit = limit
    }

    mutating func offer(weight: UInt64, entry: Int) {
        if heap.count < limit {
            heap.append((weight, entry))
            siftUp(heap.count - 1)
        } else if let least = heap.first, weight > least.weight {
            heap[0] = (weight, entry)
            siftDown()
        }
    }

    /// Largest weight first.
    func sorted() -> [Int] {
        heap.sorted { $0.weight > $1.weight || ($0.weight == $1.weight && $0.entry < $1.entry) }.map(\.entry)
    }

    private mutating func siftUp(_ start: Int) {
        var child = start
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].weight < heap[parent].weight else { return }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    private mutating func siftDown() {
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < heap.count && heap[child].weight < heap[least].weight {
                least = child
            }
            guard least != parent else { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}
