/// Who gives way when as many keys have a state as may have one. For the length of one turn.
struct TrackedPlaces {
    private var hasForgotten = false
    /// The coolest last; nil until one is asked for.
    private var candidates: [[UInt8]]?

    /// Frees a place if there is anyone to give way: first all that left lately, then, for a key that enters, the coolest candidate.
    ///
    /// The window notes an entry only as long as it is not tracked, so whoever loses its state is marked as untracked there. Else
    /// no count of the key, however large, would bring it back.
    mutating func free(in tracker: inout HeatTracker, _ window: SlidingWindow, enters: Bool) -> Bool {
        if !hasForgotten {
            hasForgotten = true
            let cold = tracker.tracked.lazy.filter { $0.value.machine.state == .cold }.map(\.key)
            for key in Array(cold) { Self.drop(key, from: &tracker, window) }
            if tracker.tracked.count < tracker.trackedKeysMax { return true }
        }
        guard enters else { return false }
        var waiting =
            candidates
            ?? tracker.tracked.lazy.filter { $0.value.machine.state == .candidate }
            .map { (key: $0.key, heat: $0.value.sample.windowHeat) }.sorted { $0.heat > $1.heat }.map(\.key)
        defer { candidates = waiting }
        while let key = waiting.popLast() {
            // It may have entered since.
            guard tracker.tracked[key]?.machine.state == .candidate else { continue }
            Self.drop(key, from: &tracker, window)
            return true
        }
        return false
    }

    private static func drop(_ key: [UInt8], from tracker: inout HeatTracker, _ window: SlidingWindow) {
        guard let dropped = tracker.tracked.removeValue(forKey: key) else { return }
        let entry = window.find(key, hash: dropped.hash)
        if entry >= 0 { window.setTracked(false, entry: entry) }
    }
}
