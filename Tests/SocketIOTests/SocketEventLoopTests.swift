import Glibc
import HotKeyTestSupport
import NIOCore
import Testing

@testable import SocketIO

@Suite struct SocketEventLoops {
    @Test func runsWhatItIsHandedInOrder() async throws {
        try await withLoop { loop in
            let order = Guarded<[Int]>([])
            for index in 0..<1000 { loop.execute { order.update { $0.append(index) } } }
            try await loop.submit {}.get()
            #expect(order.now == Array(0..<1000))
            #expect(try await loop.submit { loop.inEventLoop }.get())
            #expect(!loop.inEventLoop)
        }
    }

    @Test func wakesForWhatComesWhileItSleeps() async throws {
        try await withLoop { loop in
            for _ in 0..<2000 { try await loop.submit {}.get() }
        }
    }

    @Test func runsTimersInTheOrderTheyAreDue() async throws {
        try await withLoop { loop in
            let order = Guarded<[Int]>([])
            let timers = [30, 10, 20, 10].enumerated().map { index, milliseconds in
                loop.scheduleTask(in: .milliseconds(Int64(milliseconds))) { order.update { $0.append(index) } }
            }
            for timer in timers { try await timer.futureResult.get() }
            #expect(order.now == [1, 3, 2, 0])
        }
    }

    @Test func aTimerRunsNoSoonerThanItIsDue() async throws {
        try await withLoop { loop in
            for milliseconds in [0, 1, 3, 17] as [Int64] {
                let start = NIODeadline.now()
                let ran = try await loop.scheduleTask(in: .milliseconds(milliseconds)) { NIODeadline.now() }
                    .futureResult.get()
                #expect(ran - start >= .milliseconds(milliseconds))
            }
        }
    }

    @Test func aTimerThatIsCancelledDoesNotRun() async throws {
        try await withLoop { loop in
            let ran = Guarded(0)
            let cancelled = loop.scheduleTask(in: .milliseconds(20)) { ran.update { $0 += 1 } }
            cancelled.cancel()
            await #expect(throws: EventLoopError.self) { try await cancelled.futureResult.get() }
            try await loop.scheduleTask(in: .milliseconds(40)) {}.futureResult.get()
            #expect(ran.now == 0)
        }
    }

    /// What asks for the end of the turn in the end of the turn gets another, before the loop sleeps.
    @Test func asksItsObserverOnceATurn() async throws {
        final class Observer: TurnObserver {
            let ends = Guarded(0)
            let loop: SocketEventLoop
            init(_ loop: SocketEventLoop) { self.loop = loop }
            func endOfTurn() {
                let count = ends.update { ends in
                    ends += 1
                    return ends
                }
                if count < 3 { loop.requestEndOfTurn() }
            }
        }
        try await withLoop { loop in
            let ends = try await loop.submit {
                let observer = Observer(loop)
                loop.setObserver(observer)
                for _ in 0..<10 { loop.requestEndOfTurn() }
                return observer.ends
            }.get()
            try await eventually("three turns have ended") { ends.now == 3 }
            try await loop.submit {}.get()
            #expect(ends.now == 3)
        }
    }

    /// Another turn is one, not two, and comes although nothing is ready: the loop would sleep for ever here.
    @Test(arguments: [0, 1_000, 200_000, 1_000_000, 1_500_000] as [UInt64])
    func anotherTurnComesInTime(nanoseconds: UInt64) async throws {
        final class Observer: TurnObserver {
            let ends = Guarded(0)
            let loop: SocketEventLoop
            let nanoseconds: UInt64
            init(_ loop: SocketEventLoop, _ nanoseconds: UInt64) {
                self.loop = loop
                self.nanoseconds = nanoseconds
            }
            func endOfTurn() {
                let count = ends.update { ends in
                    ends += 1
                    return ends
                }
                if count < 5 { loop.requestTurn(withinNanoseconds: nanoseconds) }
            }
        }
        try await withLoop { loop in
            let ends = try await loop.submit {
                let observer = Observer(loop, nanoseconds)
                loop.setObserver(observer)
                loop.requestTurn(withinNanoseconds: nanoseconds)
                return observer.ends
            }.get()
            try await eventually("five turns have ended") { ends.now == 5 }
            try await loop.submit {}.get()
            #expect(ends.now == 5)
        }
    }

    @Test func whatWasHandedOverBeforeTheEndStillRuns() async throws {
        let ran = Guarded(0)
        let group = try SocketEventLoopGroup(count: 2)
        let abandoned = Guarded(0)
        group.loops[0].scheduleTask(in: .hours(1)) {}.futureResult
            .whenFailure { _ in abandoned.update { $0 += 1 } }
        for loop in group.loops {
            for _ in 0..<100 { loop.execute { loop.execute { ran.update { $0 += 1 } } } }
        }
        try await group.shutdownGracefully()
        #expect(ran.now == 200)
        #expect(abandoned.now == 1)
        // What is handed over afterwards runs all the same, where it is handed over; timers have no time any more.
        let late = group.loops[0]
        #expect(try await late.submit { late.inEventLoop }.get())
        await #expect(throws: EventLoopError.self) {
            try await late.scheduleTask(in: .zero) {}.futureResult.get()
        }
        #expect(!late.inEventLoop)
        // A second time does no harm.
        try await group.shutdownGracefully()
    }

    @Test func manyCancelledTimersAreForgotten() {
        var queue = TimerQueue()
        let timer = TimerQueue.Timer(run: {}, abandon: {})
        queue.add(1, at: 1_000_000, timer)
        for id in 2...100_000 as ClosedRange<UInt64> {
            queue.add(id, at: 1000 + id, timer)
            queue.cancel(id)
        }
        #expect(queue.heldCount < 2 * SocketLimits.cancelledTimersMax)
        #expect(queue.next() == 1_000_000)
    }
}
