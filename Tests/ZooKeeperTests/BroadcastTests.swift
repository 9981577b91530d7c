import NIOConcurrencyHelpers
import Testing
import ZooKeeper

@Suite struct BroadcastTests {
    @Test func aReaderGetsTheCurrentValueAndThenTheNewest() async {
        let number = Broadcast(1)
        var reader = number.stream().makeAsyncIterator()
        #expect(await reader.next() == 1)
        for value in 2...5 { number.send(value) }
        #expect(await reader.next() == 5)
        number.finish()
        #expect(await reader.next() == nil)
        var late = number.stream().makeAsyncIterator()
        #expect(await late.next() == 5)
        #expect(await late.next() == nil)
    }

    @Test func whatWasDecidedEarlierDoesNotReplaceWhatWasDecidedLater() {
        let number = Broadcast(0)
        number.send(2, revision: 2)
        number.send(1, revision: 1)
        #expect(number.value == 2)
        number.send(3, revision: 3)
        #expect(number.value == 3)
    }

    /// Waking a reader and cancelling its task each take a lock of the runtime's and one of ours; in the wrong order both would
    /// wait for ever.
    @Test(.timeLimit(.minutes(5))) func readersAreCancelledWhileTheValueChanges() async {
        let number = Broadcast(0)
        let isDone = NIOLockedValueBox(false)
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                while !isDone.withLockedValue({ $0 }) {
                    number.update { $0 += 1 }
                    await Task.yield()
                }
            }
            for _ in 0..<20_000 {
                let reader = Task { for await _ in number.stream() {} }
                await Task.yield()
                reader.cancel()
                await reader.value
            }
            isDone.withLockedValue { $0 = true }
        }
    }
}
