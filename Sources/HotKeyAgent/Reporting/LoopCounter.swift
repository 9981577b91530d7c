import HotKeyDetection
import RedisProxy
import Synchronization

/// Whether any event loop has counted something since this was last asked, so that an idle agent's event loops need not be woken
/// twenty times a second to say no.
final class CountingNews: Sendable {
    private let hasCounts = Atomic(false)

    /// On the request path: nearly always one load of a line of the cache that all loops share.
    @inline(__always)
    func note() {
        if !hasCounts.load(ordering: .relaxed) { hasCounts.store(true, ordering: .releasing) }
    }

    /// Forgets it. What a loop counts while this runs, and finds noted already, is there when the loop is asked next: the question
    /// goes to the loop after this.
    func take() -> Bool { hasCounts.exchange(false, ordering: .acquiringAndReleasing) }
}

/// One event loop's counter behind the data path's seam. Belongs to its event loop.
final class LoopCounter: KeyAccessRecorder {
    private let counter: SliceCounter
    private let news: CountingNews

    init(keysMax: Int, news: CountingNews) {
        counter = SliceCounter(keysMax: keysMax)
        self.news = news
    }

    override func record(key: UnsafeRawBufferPointer, hash: UInt64, reads: UInt32, writes: UInt32) -> UInt64 {
        news.note()
        return counter.record(key: key, hash: hash, reads: reads, writes: writes).word
    }

    override func addReply(_ slot: UInt64, bytes: Int, isMiss: Bool) {
        news.note()
        counter.addReply(CounterSlot(word: slot), bytes: bytes, isMiss: isMiss)
    }

    func drain() -> SliceSummary { counter.drain() }
}
