import HotKeyDetection
import RedisProxy

/// One event loop's counter behind the data path's seam. Belongs to its event loop.
final class LoopCounter: KeyAccessRecorder {
    private let counter: SliceCounter

    init(keysMax: Int) {
        counter = SliceCounter(keysMax: keysMax)
    }

    func record(key: UnsafeRawBufferPointer, hash: UInt64, reads: UInt32, writes: UInt32) -> UInt64 {
        counter.record(key: key, hash: hash, reads: reads, writes: writes).word
    }

    func addReplyBytes(_ slot: UInt64, _ bytes: Int) {
        counter.addReplyBytes(CounterSlot(word: slot), bytes)
    }

    func drain() -> SliceSummary { counter.drain() }
}
