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
        /// Calls that wait for a while and not for a frame.
        var delayed = 0
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
    ///
    /// Each frame wakes at most `reportWaitersMax` calls. One more is answered after `reportDelayMilliseconds` with what there is by then:
    /// at once and without a frame, it would be asked again at once, and never rest. Fails with ``AgentError/Code/tooBusy`` when
    /// `reportDelayedMax` wait like that.
    func reports(after: UInt64, blockMilliseconds: Int, on eventLoop: any EventLoop) -> EventLoopFuture<ReportsReply> {
        enum Wait {
            case forFrame(UInt64)
            case forTime
            case none
        }
        let promise = eventLoop.makePromise(of: ReportsReply.self)
        let wait = state.withLockedValue { state -> Wait in
            guard state.ring.lastSequence <= after, blockMilliseconds > 0 else {
                promise.succeed(ReportsReply(state.ring, after: after))
                return .none
            }
            guard state.waiters.count < AgentLimits.reportWaitersMax else {
                guard state.delayed < AgentLimits.reportDelayedMax else {
                    promise.fail(
                        AgentError(
                            .tooBusy,
                            "HK.REPORTS: \(state.waiters.count + state.delayed) calls wait already, the most that may; ask again later, "
                                + "and one call at a time"))
                    return .none
                }
                state.delayed += 1
                return .forTime
            }
            state.nextID += 1
            state.waiters.append(Waiter(id: state.nextID, after: after, promise: promise))
            return .forFrame(state.nextID)
        }
        switch wait {
        case .forFrame(let id):
            let limit = eventLoop.scheduleTask(in: .milliseconds(Int64(blockMilliseconds))) { self.giveUp(id) }
            promise.futureResult.whenComplete { _ in limit.cancel() }
        case .forTime:
            let delay = min(blockMilliseconds, AgentLimits.reportDelayMilliseconds)
            eventLoop.scheduleTask(in: .milliseconds(Int64(delay))) {
                let ring = self.state.withLockedValue { state in
                    state.delayed -= 1
                    return state.ring
                }
                promise.succeed(ReportsReply(ring, after: after))
            }
        case .none: break
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
