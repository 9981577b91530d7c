import HotKeyDetection
import HotKeyPeer
import NIOConcurrencyHelpers
import NIOCore

/// The agent's last reports, and who waits for the next one.
final class ReportStore: Sendable {
    private struct Waiter {
        var id: UInt64
        var after: UInt64
        var promise: EventLoopPromise<ReportsReply>
    }
    private struct State {
        var ring: ReportRing
        var totals = AccessTotals()
        var waiters: [Waiter] = []
        var nextID: UInt64 = 0
        /// The last frame in which something was counted; the one behind it says that this is over.
        var lastCounts: UInt64 = 0
    }
    private let state: NIOLockedValueBox<State>

    /// - Parameter epoch: drawn anew at each start of the agent.
    init(epoch: UInt64) {
        state = NIOLockedValueBox(State(ring: ReportRing(epoch: epoch)))
    }

    var epoch: UInt64 { state.withLockedValue { $0.ring.epoch } }
    var lastSequence: UInt64 { state.withLockedValue { $0.ring.lastSequence } }
    /// What was counted since the start.
    var totals: AccessTotals { state.withLockedValue { $0.totals } }

    func count(_ slice: AccessTotals) { state.withLockedValue { $0.totals.add(slice) } }

    /// Keeps a frame, and tells those who wait for it. Of frames in which nothing was counted, all but the first are told a few at
    /// a time: an idle agent has nothing to say, and many of them would have the coordinator listen to it all the time.
    func append(_ frame: [UInt8], sequence: UInt64, hasCounts: Bool) {
        let (reply, waiters) = state.withLockedValue { state in
            state.ring.append(frame, sequence: sequence)
            if hasCounts { state.lastCounts = sequence }
            let isNews = sequence <= state.lastCounts + 1
            let owed = isNews ? 1 : UInt64(AgentLimits.idleFramesTold)
            // The number is a client's: nothing is added to it.
            let ready = state.waiters.filter { $0.after < sequence && sequence - $0.after >= owed }
            state.waiters.removeAll { $0.after < sequence && sequence - $0.after >= owed }
            return (state.ring, ready)
        }
        for waiter in waiters { waiter.promise.succeed(ReportsReply(reply, after: waiter.after)) }
    }

    /// The frames above `after`; when there are none, waits up to `blockMilliseconds` as ``append(_:sequence:hasCounts:)`` says.
    func reports(after: UInt64, blockMilliseconds: Int, on eventLoop: any EventLoop) -> EventLoopFuture<ReportsReply> {
        let promise = eventLoop.makePromise(of: ReportsReply.self)
        let id: UInt64? = state.withLockedValue { state in
            guard state.ring.lastSequence <= after, blockMilliseconds > 0,
                state.waiters.count < AgentLimits.reportWaitersMax
            else {
                promise.succeed(ReportsReply(state.ring, after: after))
                return nil
            }
            state.nextID += 1
            state.waiters.append(Waiter(id: state.nextID, after: after, promise: promise))
            return state.nextID
        }
        if let id {
            let limit = eventLoop.scheduleTask(in: .milliseconds(Int64(blockMilliseconds))) { self.giveUp(id) }
            promise.futureResult.whenComplete { _ in limit.cancel() }
        }
        return promise.futureResult
    }

    private func giveUp(_ id: UInt64) {
        let found = state.withLockedValue { state -> (Waiter, ReportRing)? in
            guard let index = state.waiters.firstIndex(where: { $0.id == id }) else { return nil }
            return (state.waiters.remove(at: index), state.ring)
        }
        if let (waiter, ring) = found { waiter.promise.succeed(ReportsReply(ring, after: waiter.after)) }
    }
}

extension ReportsReply {
    fileprivate init(_ ring: ReportRing, after: UInt64) {
        self.init(
            epoch: ring.epoch, lastSequence: ring.lastSequence, frames: ring.frames(after: after).map(\.bytes))
    }
}
