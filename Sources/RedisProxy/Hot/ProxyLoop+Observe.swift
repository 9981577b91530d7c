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

    /// A read of a hot key that looks at what home answers: whether acting would have held it. Nil for another.
    func observedMiss(_ key: UnsafeRawBufferPointer, _ hash: UInt64, _ known: OneKeyCommand, _ sink: ReplySink)
        -> ObservedMiss?
    {
        guard known.isGet, let table = observed?.table, let index = table.index(of: key, hash: hash),
            table[index].holdsMisses
        else { return nil }
        return ObservedMiss(
            loop: self, key: table[index].key, intervalNanoseconds: table[index].missIntervalNanoseconds, sink: sink)
    }

    /// What is observed from now on: the hot set, where it is not acted on.
    func chooseObserved(_ snapshot: ProxySnapshot) {
        let table = snapshot.mode == .observe ? snapshot.table : .empty
        if snapshot.mode == .observe {
            missTurns.keep { key in key.withUnsafeBytes { table.index(of: $0) } != nil }
        }
        observed = table.count > 0 ? ObservedMitigation(table: table, previous: observed) : nil
    }
}

/// A `GET` of a hot key on its way home while the fleet only observes. Each event loop gives turns of its own then.
final class ObservedMiss: ForwardedRequest {
    private let loop: ProxyLoop
    private let key: [UInt8]
    private let intervalNanoseconds: UInt64

    init(loop: ProxyLoop, key: [UInt8], intervalNanoseconds: UInt64, sink: ReplySink) {
        self.loop = loop
        self.key = key
        self.intervalNanoseconds = intervalNanoseconds
        super.init(sink)
    }

    override func receive(_ reply: ReplyView, sentAt: UInt64) {
        if reply.isNull {
            var isFirst = false
            let answer = loop.missTurns.missed(
                key, intervalNanoseconds: intervalNanoseconds, wantsTurn: true, now: loop.now, isFirst: &isFirst)
            if case .wait = answer { loop.statistics.observedMissesHeld &+= 1 }
        } else if !reply.isError {
            _ = loop.missTurns.valueSeen(key, of: key)
        }
        super.receive(reply, sentAt: sentAt)
    }
}
