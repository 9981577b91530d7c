import HotKeyDetection
import HotKeyPeer
import HotKeyTestSupport
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import Testing

@testable import HotKeyAgent

@Suite struct ReportStoreTests {
    private let store = ReportStore(epoch: 77)
    private let loop: any EventLoop = MultiThreadedEventLoopGroup.singleton.next()

    private func reports(after: UInt64, blockMilliseconds: Int = 0) async throws -> ReportsReply {
        try await store.reports(after: after, blockMilliseconds: blockMilliseconds, on: loop).get()
    }

    /// Whether a future has ended, as its own loop sees it.
    private func isDone(_ future: EventLoopFuture<ReportsReply>) async throws -> Bool {
        let done = NIOLockedValueBox(false)
        future.whenComplete { _ in done.withLockedValue { $0 = true } }
        // A callback that was due has run by then.
        return try await loop.submit { done.withLockedValue { $0 } }.get()
    }

    @Test func framesAboveANumberComeAtOnceOldestFirst() async throws {
        for sequence in 1...3 as ClosedRange<UInt64> {
            store.append([UInt8(sequence)], sequence: sequence, hasCounts: true)
        }
        let all = try await reports(after: 0, blockMilliseconds: 600_000)
        #expect(all == ReportsReply(epoch: 77, lastSequence: 3, frames: [[1], [2], [3]]))
        #expect(try await reports(after: 2).frames == [[3]])
        #expect(try await reports(after: 3) == ReportsReply(epoch: 77, lastSequence: 3, frames: []))
        #expect(store.lastSequence == 3)
    }

    @Test func onlyTheLastTenSecondsAreKept() async throws {
        let kept = DetectionLimits.reportRetentionMilliseconds / DetectionLimits.sliceMilliseconds
        for sequence in 1...UInt64(kept + 5) { store.append([], sequence: sequence, hasCounts: true) }
        let reply = try await reports(after: 0)
        #expect(reply.frames.count == kept)
        #expect(reply.lastSequence == UInt64(kept + 5))
    }

    @Test func aBlockedCallWakesWithTheNextFrame() async throws {
        store.append([1], sequence: 1, hasCounts: true)
        let waiting = store.reports(after: 1, blockMilliseconds: 600_000, on: loop)
        #expect(try await isDone(waiting) == false)
        store.append([2], sequence: 2, hasCounts: true)
        #expect(try await waiting.get() == ReportsReply(epoch: 77, lastSequence: 2, frames: [[2]]))
    }

    /// The end of an agent's traffic is told at once, its silence a few frames at a time.
    @Test func framesWithoutCountsAreToldTogether() async throws {
        store.append([1], sequence: 1, hasCounts: true)
        var waiting = store.reports(after: 1, blockMilliseconds: 600_000, on: loop)
        store.append([2], sequence: 2, hasCounts: false)
        #expect(try await waiting.get().frames == [[2]])
        waiting = store.reports(after: 2, blockMilliseconds: 600_000, on: loop)
        let owed = UInt64(AgentLimits.idleFramesTold)
        for sequence in 3..<2 + owed { store.append([0], sequence: sequence, hasCounts: false) }
        #expect(try await isDone(waiting) == false)
        store.append([0], sequence: 2 + owed, hasCounts: false)
        #expect(try await waiting.get().frames.count == AgentLimits.idleFramesTold)
        // Something is counted again: nothing waits for it.
        waiting = store.reports(after: 2 + owed, blockMilliseconds: 600_000, on: loop)
        store.append([0], sequence: 3 + owed, hasCounts: false)
        store.append([7], sequence: 4 + owed, hasCounts: true)
        #expect(try await waiting.get().frames == [[0], [7]])
    }

    @Test func aCallThatIsAheadSleepsOnUntilItsNumberComes() async throws {
        // As after a restart of the agent: the caller still has the old run's number.
        let waiting = store.reports(after: 2, blockMilliseconds: 600_000, on: loop)
        store.append([1], sequence: 1, hasCounts: true)
        store.append([2], sequence: 2, hasCounts: true)
        #expect(try await isDone(waiting) == false)
        store.append([3], sequence: 3, hasCounts: true)
        #expect(try await waiting.get().frames == [[3]])
    }

    /// Numbers come from the wire.
    @Test func aCallForTheLastNumberThereIsWaitsInVain() async throws {
        let waiting = store.reports(after: .max, blockMilliseconds: 600_000, on: loop)
        store.append([1], sequence: 1, hasCounts: true)
        store.append([0], sequence: 2, hasCounts: false)
        store.append([0], sequence: 3, hasCounts: false)
        #expect(try await isDone(waiting) == false)
    }

    @Test func aCallThatWaitsInVainIsAnsweredWithoutFrames() async throws {
        let start = ContinuousClock.now
        let reply = try await reports(after: 0, blockMilliseconds: 40)
        #expect(reply == ReportsReply(epoch: 77, lastSequence: 0, frames: []))
        #expect(ContinuousClock.now - start >= .milliseconds(40))
        // The timer that is left over from a call that was woken early must not answer anybody.
        let woken = store.reports(after: 0, blockMilliseconds: 20, on: loop)
        store.append([1], sequence: 1, hasCounts: true)
        #expect(try await woken.get().frames == [[1]])
        #expect(try await reports(after: 1, blockMilliseconds: 40).frames.isEmpty)
    }

    @Test func everyWaiterWakesAndThereIsABoundOnThem() async throws {
        let waiting = (0..<AgentLimits.reportWaitersMax).map { _ in
            store.reports(after: 0, blockMilliseconds: 600_000, on: loop)
        }
        // One too many does not wait for a frame, but is not answered at once either: who asks again at once would never rest.
        let start = ContinuousClock.now
        #expect(try await reports(after: 0, blockMilliseconds: 600_000).frames.isEmpty)
        #expect(ContinuousClock.now - start >= .milliseconds(AgentLimits.reportDelayMilliseconds))
        let late = store.reports(after: 0, blockMilliseconds: 600_000, on: loop)
        store.append([9], sequence: 1, hasCounts: true)
        for future in waiting { #expect(try await future.get().frames == [[9]]) }
        // It has what came meanwhile.
        #expect(try await late.get().frames == [[9]])
        // Their places are free again.
        let next = store.reports(after: 1, blockMilliseconds: 600_000, on: loop)
        store.append([10], sequence: 2, hasCounts: true)
        #expect(try await next.get().frames == [[10]])
    }

    @Test func moreCallsThanCanBeDelayedAreRefused() async throws {
        let calls = AgentLimits.reportWaitersMax + AgentLimits.reportDelayedMax
        // All within one turn of the loop, so that none of the delays can have ended.
        let (waiting, refused) = try await loop.submit { [store, loop] in
            (
                (0..<calls).map { _ in store.reports(after: 0, blockMilliseconds: 50, on: loop) },
                store.reports(after: 0, blockMilliseconds: 50, on: loop)
            )
        }.get()
        let error = try await #require(throws: AgentError.self) { try await refused.get() }
        #expect(error.code == .tooBusy)
        for future in waiting { #expect(try await future.get().frames.isEmpty) }
        #expect(try await reports(after: 0, blockMilliseconds: 10).frames.isEmpty)
    }

    @Test func aNumberThatNeverComesTellsWhereTheAgentStands() async throws {
        for sequence in 1...40 as ClosedRange<UInt64> { store.append([1], sequence: sequence, hasCounts: true) }
        let newest = try await reports(after: AgentLimits.reportSequenceNever)
        #expect(newest == ReportsReply(epoch: 77, lastSequence: 40, frames: []))
        let frames = try await reports(after: ReportMerger.start(newest: newest.lastSequence)).frames
        #expect(frames.count == MergedWindow.framesOfUse && frames.count == 14)
        #expect(ReportMerger.start(newest: 3) == 0)
    }
}
