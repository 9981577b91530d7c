extension SlidingWindow {
    /// The entries with the most accesses over the slices that end with `ending`, the busiest first.
    ///
    /// Looks at every entry's state, and at the cells of those alone that may be among the busiest. Whatever the order of the
    /// entries, each costs at most the logarithm of `count`.
    func busiest(_ count: Int, ending: UInt64, slices: Int) -> [Int] {
        guard count > 0 else { return [] }
        var heap = LeastHeap<Busy>()
        heap.reserveCapacity(count)
        for entry in 0..<table.highWater where table.isPresent(entry) {
            let isFull = heap.count == count
            if isFull, accessesAtMost(in: entry) <= heap.least.weight { continue }
            let accesses = accesses(in: entry, ending: ending, slices: slices)
            guard accesses > (isFull ? heap.least.weight : 0) else { continue }
            let busy = Busy(weight: accesses, number: entry)
            if isFull { heap.replaceLeast(with: busy) } else { heap.insert(busy) }
        }
        var entries: [Int] = []
        heap.takeSorted { entries.append($0.number) }
        return entries
    }

    /// An entry by its accesses.
    private struct Busy: Weighted {
        var weight: UInt64
        var number: Int
    }

    private func accesses(in entry: Int, ending: UInt64, slices: Int) -> UInt64 {
        let last = states[entry].lastSlice
        var sum: UInt64 = 0
        for age in 0..<UInt64(slices) {
            let slice = ending &- age
            guard slice <= last, slice &+ UInt64(ringSlices) > last else { continue }
            sum &+= cells[entry * ringSlices + Int(slice % UInt64(ringSlices))].accesses
        }
        return sum
    }

    // MARK: Samples

    /// What holds for every key of the window that ends with one slice, whatever was counted of it.
    struct Outlook {
        /// Slices before the window that count for the upper bound.
        var lead = 0
        /// The bounds for unlisted keys.
        var open: UInt64 = 0
        /// What was given up for lack of room since the window began.
        var overflow: UInt64 = 0
        /// What those may have who have not been heard of.
        var silent: UInt64 = 0
    }

    /// Asked for each key, and made once for all of them.
    private func outlook(ending: UInt64, slices: Int) -> Outlook {
        if let last = lastOutlook, last.ending == ending, last.slices == slices, last.revision == revision {
            return last.outlook
        }
        let outlook = makeOutlook(ending: ending, slices: slices)
        lastOutlook = (ending, slices, revision, outlook)
        return outlook
    }

    /// A reporter's slices arrive up to `lateSlices` late, and while a slice is under way it has told of none of it: its last slices
    /// are then earlier ones than the window's. The window's first slices therefore are those of whoever is latest. Who is later than
    /// that is taken to have, in every slice since, what it had in its last one.
    private func makeOutlook(ending: UInt64, slices: Int) -> Outlook {
        let late = min(UInt64(DetectionLimits.lateSlices), UInt64(ringSlices - slices - 1))
        func missing(_ slice: UInt64) -> UInt64 { isOpen(slice) ? expected &- reported[place(of: slice)] : 0 }
        let ended = min(ending, currentSlice - 1)
        let silentAccesses = missing(ended &- late)
        var outlook = Outlook()
        outlook.lead = Int(ending - ended)
        for age in 0..<late where missing(ended &- age) > silentAccesses { outlook.lead += 1 }
        outlook.lead = min(outlook.lead, ringSlices - slices)
        for age in 0..<UInt64(slices + outlook.lead) where isOpen(ending &- age) {
            outlook.open &+= bounds[place(of: ending &- age)]
        }
        for age in 0..<UInt64(slices) {
            outlook.silent &+= min(silentAccesses, missing(ending &- age))
        }
        // What is given up in the running slice may have been counted in earlier ones, as may what comes with long frames.
        let first = ending &- UInt64(slices + outlook.lead - 1)
        for age in 0..<UInt64(ringSlices) where currentSlice &- age >= first {
            outlook.overflow &+= overflows[place(of: currentSlice &- age)]
        }
        if ending < currentSlice { outlook.open &+= longBounds[place(of: currentSlice)] }
        return outlook
    }

    /// The sample of an entry, or of a key without one (-1), over the rule's window that ends with `ending`: the running slice or the
    /// one before it.
    ///
    /// Sums of several slices are means over a second (`tailSlices`), whatever the window. The bounds are those of the key's true
    /// count over the window: at least what came for the window's slices alone, and sums that tell of no earlier slice; at most what
    /// came in the window at all, and in the running slice as sums, with what may be missing.
    func sample(at entry: Int, rule: DetectionRule, ending: UInt64) -> HeatSample {
        let slices = rule.windowMilliseconds / sliceMilliseconds
        let outlook = outlook(ending: ending, slices: slices)
        guard entry >= 0 else {
            return HeatSample(
                rule: rule, sliceMilliseconds: sliceMilliseconds, least: 0,
                most: Double(outlook.open &+ outlook.silent &+ outlook.overflow), counts: { _ in SliceCounts() })
        }
        let ring = cells + entry * ringSlices
        let ringLength = UInt64(ringSlices)
        let last = states[entry].lastSlice
        func cell(of slice: UInt64) -> Cell {
            // Beyond the last touch nothing was counted; before the ring's length cells hold other slices.
            guard slice <= last, slice &+ ringLength > last else { return Cell() }
            return ring[place(of: slice)]
        }
        var least: UInt64 = 0
        var sumsWithin: UInt64 = 0
        var most: UInt64 = 0
        var credit: UInt64 = 0
        for age in 0..<slices + outlook.lead {
            let cell = cell(of: ending &- UInt64(age))
            most &+= cell.accesses &+ UInt64(cell.error)
            credit &+= UInt64(cell.credit)
            if age < slices {
                least &+= cell.accesses &- min(cell.accesses, UInt64(cell.sums))
                sumsWithin &+= UInt64(cell.sumsFrom)
            }
        }
        if ending < currentSlice {
            // Sums that have come since tell of the window's slices too, and of this one.
            let running = cell(of: ending &+ 1)
            most &+= UInt64(running.sums) &+ UInt64(running.error)
            sumsWithin &-= min(sumsWithin, UInt64(running.sums) &+ UInt64(running.error))
        }
        least &+= sumsWithin
        most &+= outlook.silent &+ (outlook.open > credit ? outlook.open &- credit : 0)
        if states[entry].insertedSlice &+ UInt64(slices + outlook.lead) > ending { most &+= outlook.overflow }
        return HeatSample(
            rule: rule, sliceMilliseconds: sliceMilliseconds, least: Double(least), most: Double(max(least, most))
        ) { age in
            let cell = cell(of: ending &- UInt64(age))
            return SliceCounts(
                reads: Double(cell.reads), writes: Double(cell.writes), sums: Double(cell.sums),
                bytes: Double(cell.replyBytes), misses: Double(cell.misses))
        }
    }
}
