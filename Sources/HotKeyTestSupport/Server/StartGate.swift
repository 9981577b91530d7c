import NIOConcurrencyHelpers
import NIOCore

/// Lets a few servers at a time come up, in the order of asking.
///
/// Swift Testing begins all tests at once. Dozens of Java machines that start together on two cores would each take longer
/// than any limit; one after the other, each takes a second. Only the start is gated, never the running: a test that holds
/// one server while it waits to start another cannot lock out anybody.
final class StartGate: Sendable {
    /// For servers that take a processor for a second to start.
    static let heavy = StartGate(atOnce: TestSupportLimits.heavyStartsAtOnce)

    private struct State {
        var free: Int
        var waiting: CircularBuffer<CheckedContinuation<Void, Never>> = []
    }
    private let state: NIOLockedValueBox<State>

    init(atOnce: Int) {
        state = NIOLockedValueBox(State(free: atOnce))
    }

    func run<R>(isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> R) async rethrows -> R {
        await enter()
        defer { leave() }
        return try await body()
    }

    private func enter() async {
        await withCheckedContinuation { continuation in
            let mayEnter = state.withLockedValue { state -> Bool in
                if state.free > 0 {
                    state.free -= 1
                    return true
                }
                state.waiting.append(continuation)
                return false
            }
            if mayEnter { continuation.resume() }
        }
    }

    private func leave() {
        // The place goes straight to the one who waited longest.
        let next = state.withLockedValue { state -> CheckedContinuation<Void, Never>? in
            if state.waiting.isEmpty {
                state.free += 1
                return nil
            }
            return state.waiting.removeFirst()
        }
        next?.resume()
    }
}
