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

    func addReply(_ slot: UInt64, bytes: Int, isMiss: Bool) {
        counter.addReply(CounterSlot(word: slot), bytes: bytes, isMiss: isMiss)
    }

    func drain() -> SliceSummary { counter.drain() }
}
