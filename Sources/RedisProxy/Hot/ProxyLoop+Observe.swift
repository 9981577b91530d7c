import HotKeyMitigation

extension ProxyLoop {
    /// What a fleet that only observes notes of a hot key's request, which goes home.
    func observe(_ key: UnsafeRawBufferPointer, _ hash: UInt64, _ known: OneKeyCommand) {
        guard let index = observed?.table.index(of: key, hash: hash) else { return }
        if known.mayWrite {
            observed?.write(index)
            return
        }
        statistics.observedHotReads &+= 1
        guard known.isCacheable else { return }
        switch observed?.read(index, isGet: known.isGet, now: now) {
        case .byLocalCache: statistics.observedLocalSavings &+= 1
        case .byCopy: statistics.observedCopySavings &+= 1
        case .nothing, nil: break
        }
    }

    /// What is observed from now on: the hot set, where it is not acted on.
    func chooseObserved(_ snapshot: ProxySnapshot) {
        let table = snapshot.mode == .observe ? snapshot.table : .empty
        observed = table.count > 0 ? ObservedMitigation(table: table, previous: observed) : nil
    }
}
