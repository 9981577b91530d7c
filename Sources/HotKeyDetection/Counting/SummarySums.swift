/// Sums over several summaries, of the keys alone that come to a floor in all of them together.
///
/// A key whose sum comes to the floor comes to its share of it, one part's, in at least one of the parts; few keys do. Only those
/// are given a place, in an index that is small enough for the nearest cache, and only they are looked for in the parts where
/// they are below that share.
///
/// Bounds stay bounds, and errors add up to no more than the sum of the parts' bounds, which is what makes Space-Saving a
/// mergeable summary (Agarwal, Cormode, Huang, Phillips, Wei, Yi: "Mergeable Summaries", PODS 2012): a key that a part does not
/// list may have had up to that part's `unlistedBound` there, so that much is added to its error.
///
/// Keeps its memory from one use to the next. One owner.
struct SummarySums {
    struct Sum {
        /// Where the name stands.
        var part: Int
        var place: Int
        var counted = AccessTotals()
        var error: UInt64 = 0
        /// The bounds of the parts that list the key.
        var listedBounds: UInt64 = 0
    }

    /// The keys that come to the floor.
    private(set) var sums: [Sum] = []
    /// What a key that is not among them can have at most.
    private(set) var unlistedBound: UInt64 = 0
    /// Zero is empty; else 32 bits of the hash above the number of the candidate plus one.
    private var index: [UInt64] = []

    /// - Parameter parts: disjoint parts of a stream, such as the loops of one agent.
    mutating func add(_ parts: [SliceSummary], accessesFloor: Double, bytesFloor: Double) {
        sums.removeAll(keepingCapacity: true)
        unlistedBound = 0
        let shares = Double(max(1, parts.count { !$0.entries.isEmpty }))
        let (accessesShare, bytesShare) = (accessesFloor / shares, bytesFloor / shares)
        func isCandidate(_ entry: SliceSummary.Entry) -> Bool {
            Double(entry.accesses) >= accessesShare || Double(entry.replyBytes) >= bytesShare
        }
        var candidates = 0
        for part in parts { for entry in part.entries where isCandidate(entry) { candidates += 1 } }
        clearIndex(for: candidates)
        for (number, part) in parts.enumerated() where candidates > 0 {
            for (place, entry) in part.entries.enumerated() where isCandidate(entry) {
                let found = find(entry, of: part, in: parts)
                if let sum = found.sum {
                    add(entry, of: part, to: sum)
                } else {
                    index[found.cell] = Self.tag(of: entry.hash) << 32 | UInt64(sums.count + 1)
                    sums.append(Sum(part: number, place: place))
                    add(entry, of: part, to: sums.count - 1)
                }
            }
        }
        var bounds: UInt64 = 0
        for part in parts {
            var most = part.unlistedBound
            for entry in part.entries where !isCandidate(entry) {
                if candidates > 0, let sum = find(entry, of: part, in: parts).sum {
                    add(entry, of: part, to: sum)
                } else {
                    most = max(most, entry.accesses &+ entry.error)
                }
            }
            bounds &+= part.unlistedBound
            // Different keys may be the largest of each part; the sum holds for the same one too.
            unlistedBound &+= most
        }
        for place in sums.indices { sums[place].error &+= bounds &- sums[place].listedBounds }
        // In place, so that nothing is allocated.
        var kept = 0
        for sum in sums {
            guard Double(sum.counted.accesses) >= accessesFloor || Double(sum.counted.replyBytes) >= bytesFloor else {
                unlistedBound = max(unlistedBound, sum.counted.accesses &+ sum.error)
                continue
            }
            sums[kept] = sum
            kept += 1
        }
        sums.removeLast(sums.count - kept)
    }

    private mutating func add(_ entry: SliceSummary.Entry, of part: SliceSummary, to sum: Int) {
        sums[sum].counted.reads &+= entry.reads
        sums[sum].counted.writes &+= entry.writes
        sums[sum].counted.replyBytes &+= entry.replyBytes
        sums[sum].counted.misses &+= UInt64(entry.misses)
        sums[sum].error &+= entry.error
        sums[sum].listedBounds &+= part.unlistedBound
    }

    // MARK: Index

    private static func tag(of hash: UInt64) -> UInt64 { (hash &* 0x9E37_79B9_7F4A_7C15) >> 32 }

    /// A quarter full at most: most of what is looked for is not there, and one empty cell says so.
    private mutating func clearIndex(for candidates: Int) {
        var cells = 1_024
        while cells < 4 * candidates { cells *= 2 }
        if index.count < cells {
            index = Array(repeating: 0, count: cells)
        } else if candidates > 0 {
            for cell in index.indices { index[cell] = 0 }
        }
    }

    /// The sum of the entry's key, or the empty cell where it belongs.
    private func find(
        _ entry: SliceSummary.Entry, of part: SliceSummary, in parts: [SliceSummary]
    ) -> (sum: Int?, cell: Int) {
        let tag = Self.tag(of: entry.hash)
        let mask = index.count - 1
        var position = Int(truncatingIfNeeded: tag) & mask
        while index[position] != 0 {
            if index[position] >> 32 == tag {
                let number = Int(truncatingIfNeeded: index[position] & 0xFFFF_FFFF) - 1
                let other = parts[sums[number].part]
                if other.entries[sums[number].place].hash == entry.hash,
                    Self.areEqual(entry, of: part, other.entries[sums[number].place], of: other)
                {
                    return (number, position)
                }
            }
            position = (position + 1) & mask
        }
        return (nil, position)
    }

    private static func areEqual(
        _ left: SliceSummary.Entry, of leftPart: SliceSummary, _ right: SliceSummary.Entry, of rightPart: SliceSummary
    ) -> Bool {
        guard left.keyLength == right.keyLength else { return false }
        return leftPart.withKey(of: left) { leftKey in
            rightPart.withKey(of: right) { rightKey in
                guard let leftBase = leftKey.baseAddress, let rightBase = rightKey.baseAddress else { return true }
                return bytesAreEqual(leftBase, rightBase, count: leftKey.count)
            }
        }
    }
}
