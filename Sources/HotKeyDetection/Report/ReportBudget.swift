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
    private let frameBytesMax: Int
    private let headBytesMax: Int
    private let table: ResidualTable
    private var residuals: UnsafeMutablePointer<Residual> { table.records }
    /// The records of the keys counted in the running slice.
    private let touched: UnsafeMutablePointer<UInt32>
    /// Hashes of the watched keys by the turn of their tail.
    private var watched: [[UInt64]]
    private var sequence: UInt64 = 0
    /// The sum of the counter's bounds up to each of the last slices, by sequence number.
    private var boundsThrough: [UInt64]
    private var selector: TopSelector
    private var head: [Int] = []
    private var tail: [Int] = []

    /// - Parameters:
    ///   - bytesPerSecond: the cap, of which each slice's frame has its share.
    ///   - residualKeysMax: keys whose untold counts are remembered; what passes it is told in its own slice or given up
    ///     (and in the bound).
    ///   - sliceKeysMax: further keys that can be told in their own slice.
    public init(
        bytesPerSecond: Int = DetectionLimits.reportBytesPerSecond,
        residualKeysMax: Int = DetectionLimits.residualKeysMax,
        sliceKeysMax: Int = DetectionLimits.counterKeysMax
    ) {
        frameBytesMax = min(
            DetectionLimits.reportFrameBytesMax, bytesPerSecond * DetectionLimits.sliceMilliseconds / 1_000)
        precondition(frameBytesMax >= 2 * ReportFormat.headerBytesMax, "a frame has room for more than its header")
        headBytesMax = ReportFormat.headerBytesMax + (frameBytesMax - ReportFormat.headerBytesMax) / 2
        table = ResidualTable(
            keysMax: residualKeysMax, namesBytesMax: DetectionLimits.residualArenaBytesMax,
            sliceKeysMax: sliceKeysMax, sliceNamesBytesMax: DetectionLimits.counterArenaBytesMax)
        touched = .allocate(capacity: table.recordsMax)
        watched = Array(repeating: [], count: ResidualTable.turns)
        boundsThrough = Array(repeating: 0, count: DetectionLimits.tailSlices + 1)
        selector = TopSelector(bytesMax: frameBytesMax)
    }

    deinit { touched.deallocate() }

    /// Keys to tell at least once a second even when they are far from the agent's largest: those with a published
    /// state, so that a key spread thinly over many agents does not look as if it had gone.
    /// - Parameter hashes: the counter's hashes of the keys.
    public func watch(hashes: Set<UInt64>) {
        watched = Array(repeating: [], count: ResidualTable.turns)
        for hash in hashes { watched[ResidualTable.turn(of: hash)].append(hash) }
    }

    /// The report of one slice. Call once a slice, also when nothing was counted: the numbering counts slices.
    ///
    /// - Parameter parts: what was counted in the slice, by several loops or in several stretches of time; no access stands in
    ///   two of them.
    public func report(of parts: [SliceSummary], durationMilliseconds: UInt32) -> Report {
        sequence += 1
        let counted = count(parts)
        let ring = UInt64(boundsThrough.count)
        boundsThrough[Int(sequence % ring)] = boundsThrough[Int((sequence - 1) % ring)] &+ counted.bounds

        for place in 0..<counted.touched { offer(Int(touched[place])) }
        selector.takeSorted(into: &head)
        for hash in watched[Int(sequence % UInt64(ResidualTable.turns))] { table.watch(hash: hash, sequence: sequence) }
        table.forEachDue(sequence: sequence) { record in
            if residuals[record].accesses > 0 { offer(record) }
        }
        selector.takeSorted(into: &tail)

        var frame = Frame(bytes: ReportFormat.headerBytesMax)
        tell(head, in: &frame, bytesMax: headBytesMax)
        tell(tail, in: &frame, bytesMax: frameBytesMax)
        tell(head, in: &frame, bytesMax: frameBytesMax)

        let bound = max(counted.bounds &+ untoldBeyondBounds(counted.touched), counted.refusedBound)
        table.endSlice(sequence: sequence)
        return Report(
            sequence: sequence, durationMilliseconds: durationMilliseconds, totals: counted.totals,
            unlistedBound: bound, entries: frame.entries)
    }

    // MARK: Counting

    private struct Counted {
        var totals = AccessTotals()
        /// The sum of the parts' bounds for keys that they do not list.
        var bounds: UInt64 = 0
        /// The most that a key for which there is no record can have.
        var refusedBound: UInt64 = 0
        /// Keys with a record that were counted in this slice.
        var touched = 0
    }

    /// Adds the parts' counts to the keys' residuals.
    ///
    /// The parts need no merging first: a key's error is the sum of its errors where it is listed and of the bounds of the
    /// parts where it is not, which is all bounds plus what the listed errors are above the bounds of their parts.
    private func count(_ parts: [SliceSummary]) -> Counted {
        var counted = Counted()
        for part in parts {
            counted.totals.reads &+= part.totals.reads
            counted.totals.writes &+= part.totals.writes
            counted.totals.replyBytes &+= part.totals.replyBytes
            counted.totals.misses &+= part.totals.misses
            counted.bounds &+= part.unlistedBound
            let bound = Int64(clamping: part.unlistedBound)
            var refused: UInt64 = 0
            table.forEachRecord(of: part, sequence: sequence) { entry, record in
                guard record >= 0 else {
                    refused = max(refused, entry.accesses &+ entry.error)
                    return
                }
                if touch(record) {
                    touched[counted.touched] = UInt32(truncatingIfNeeded: record)
                    counted.touched &+= 1
                }
                let residual = residuals + record
                residual.pointee.add(entry)
                let beyond = Int64(clamping: entry.error) &- bound
                residual.pointee.errorBeyondBounds &+= beyond
                residual.pointee.sliceBeyondBounds &+= Int64(clamping: entry.accesses) &+ beyond
            }
            // Different keys may have been refused in each part; the sum holds for the same one too.
            counted.refusedBound &+= max(refused, part.unlistedBound)
        }
        return counted
    }

    /// Readies a record for this slice's counts. Returns whether it had none of this slice yet.
    @inline(__always)
    private func touch(_ record: Int) -> Bool {
        let residual = residuals + record
        let slice = UInt16(truncatingIfNeeded: sequence)
        guard residual.pointee.touchedSlice != slice else { return false }
        residual.pointee.touchedSlice = slice
        residual.pointee.sliceBeyondBounds = 0
        if residual.pointee.isTold {
            residual.pointee.firstSlice = slice
            residual.pointee.errorBeyondBounds = 0
        }
        return true
    }

    /// The most that a key with a record can have had in this slice without being told, above the sum of the bounds.
    private func untoldBeyondBounds(_ touchedCount: Int) -> UInt64 {
        let slice = UInt16(truncatingIfNeeded: sequence)
        var most: Int64 = 0
        for place in 0..<touchedCount {
            let residual = residuals + Int(touched[place])
            if residual.pointee.sliceBeyondBounds > most, residual.pointee.toldSlice != slice {
                most = residual.pointee.sliceBeyondBounds
            }
        }
        return UInt64(most)
    }

    // MARK: Telling

    private struct Frame {
        var bytes: Int
        var entries: [Report.Entry] = []
    }

    @inline(__always)
    private func offer(_ record: Int) {
        let residual = residuals + record
        selector.offer(
            weight: min(residual.pointee.accesses, UInt64(Int64.max))
                | (residual.pointee.isWatched ? 1 << 63 : 0),
            bytes: ReportFormat.entryBytesMin &+ Int(residual.pointee.nameLength), record: record)
    }

    private func tell(_ records: [Int], in frame: inout Frame, bytesMax: Int) {
        let slice = UInt16(truncatingIfNeeded: sequence)
        let ring = UInt64(boundsThrough.count)
        for record in records where residuals[record].toldSlice != slice {
            let residual = residuals[record]
            let span = UInt64(slice &- residual.firstSlice) + 1
            let bounds = boundsThrough[Int(sequence % ring)] &- boundsThrough[Int((sequence - span) % ring)]
            let error = UInt64(max(0, Int64(clamping: bounds) &+ residual.errorBeyondBounds))
            let key = table.key(of: record)
            let bytes = ReportFormat.encodedBytes(
                keyLength: key.count, reads: residual.reads, writes: residual.writes, replyBytes: residual.replyBytes,
                misses: UInt64(residual.misses), error: error, sliceSpan: UInt32(span))
            // A smaller entry further on might still fit; taking it would let short names crowd out long ones.
            guard frame.bytes + bytes <= bytesMax else { return }
            frame.bytes += bytes
            frame.entries.append(
                Report.Entry(
                    key: Array(key), reads: residual.reads, writes: residual.writes, replyBytes: residual.replyBytes,
                    misses: UInt64(residual.misses), error: error, sliceSpan: UInt32(span)))
            residuals[record].clearCounts()
            residuals[record].errorBeyondBounds = 0
            residuals[record].toldSlice = slice
        }
    }
}
