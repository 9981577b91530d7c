extension HeatTracker {
    /// Lets in the keys that the running slice shows to be hot as far as it has been counted.
    ///
    /// What has been counted is a lower bound of what will have been at the slice's end, so nothing enters that would not enter then;
    /// it enters up to a slice earlier. Nothing else is decided: what looks cold now may only not have been reported yet. Call
    /// between the ends of two slices.
    public mutating func admitEarly(_ window: MergedWindow, nowNanoseconds now: UInt64) -> [HeatChange] {
        window.advance(to: now)
        // Adopted keys are matched with the window's at the first evaluation, which has to come first.
        guard !needsHashes else { return [] }
        let moment = Moment(ending: window.keys.currentSlice, now: now, mayCool: false)
        var changes: [HeatChange] = []
        var entered: Set<[UInt8]> = []
        for key in tracked.keys where tracked[key]?.machine.kind == nil {
            guard let known = tracked[key] else { continue }
            let entry = window.keys.find(key, hash: known.hash)
            if entry >= 0 { admit(key, known, at: entry, window.keys, moment, &changes, &entered) }
        }
        var places = TrackedPlaces()
        for entry in window.keys.notedEntries {
            let key = Array(window.keys.key(at: entry))
            guard tracked[key] == nil else { continue }
            let fresh = Tracked(hash: window.keys.hash(at: entry), machine: HeatStateMachine())
            admit(key, fresh, at: entry, window.keys, moment, &changes, &entered) {
                $0.tracked.count < $0.trackedKeysMax || places.free(in: &$0, window.keys, enters: true)
            }
        }
        hotKeyCount += entered.count
        if hotKeyCount > hotKeysMax {
            let mayCool = mayCool(by: window, nowNanoseconds: now)
            enforceCapacity(&changes, entered: entered, now: now, mayCool: mayCool)
        }
        return changes
    }

    private mutating func admit(
        _ key: [UInt8], _ known: Tracked, at entry: Int, _ window: SlidingWindow, _ moment: Moment,
        _ changes: inout [HeatChange], _ entered: inout Set<[UInt8]>,
        hasPlace: (inout HeatTracker) -> Bool = { _ in true }
    ) {
        guard let number = window.ruleNumber(at: entry, in: rules, generation: ruleGeneration) else { return }
        let rule = rules[number].rule.inForce(for: window.key(at: entry), capacities)
        let sample = window.sample(at: entry, rule: rule, ending: moment.ending)
        guard known.machine.wouldEnter(sample, rule: rule, now: moment.now), hasPlace(&self) else { return }
        var entering = known
        let change = Self.step(
            key, &entering, entry, window, rules, ruleGeneration, capacities, moment, &entered)
        window.setTracked(true, entry: entry)
        tracked[key] = entering
        if let change { changes.append(change) }
    }
}
