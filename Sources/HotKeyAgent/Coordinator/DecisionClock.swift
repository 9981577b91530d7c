import NIOConcurrencyHelpers
import NIOCore

/// Wakes the one task that decides, by time or by what was reported.
final class DecisionClock: Sendable {
    private struct State {
        var turns: DecisionTurns
        /// Until when the task sleeps; nil while it is awake.
        var sleepsUntil: UInt64?
    }
    private let state: NIOLockedValueBox<State>
    private let timers: any EventLoop
    private let wakeUps: AsyncStream<Void>
    private let wakeUp: AsyncStream<Void>.Continuation

    /// - Parameter timers: an event loop for the timers.
    init(timers: any EventLoop) {
        self.timers = timers
        state = NIOLockedValueBox(State(turns: DecisionTurns(now: Self.now)))
        (wakeUps, wakeUp) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    private static var now: UInt64 { NIODeadline.now().uptimeNanoseconds }

    /// Reports came with a new key that may be hot by now.
    func note() {
        let mustWake = state.withLockedValue { state in
            state.turns.note()
            guard let until = state.sleepsUntil, state.turns.next < until else { return false }
            state.sleepsUntil = nil
            return true
        }
        if mustWake { wakeUp.yield() }
    }

    /// Takes turns until cancelled or until one throws. Call once.
    func run(_ decide: (DecisionTurns.Kind) async throws -> Void) async throws {
        var wakeUps = wakeUps.makeAsyncIterator()
        while true {
            try Task.checkCancellation()
            let began = Self.now
            let (kind, next) = state.withLockedValue { state in
                let kind = state.turns.due(at: began)
                state.sleepsUntil = kind == nil ? state.turns.next : nil
                // What is reported while this turn is taken is for the next one.
                if kind != nil { state.turns.begin() }
                return (kind, state.turns.next)
            }
            if let kind {
                try await decide(kind)
                state.withLockedValue { $0.turns.end(kind, beganAt: began, now: Self.now) }
            } else {
                let timer = timers.scheduleTask(deadline: .uptimeNanoseconds(next)) { [wakeUp] in wakeUp.yield() }
                await wakeUps.next()
                timer.cancel()
            }
        }
    }
}
