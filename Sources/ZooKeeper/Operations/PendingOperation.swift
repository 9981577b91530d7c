import NIOConcurrencyHelpers

/// One wait, resumed exactly once. The answer, the deadline, a cancellation and the close of the client race for it;
/// the first one wins and the others do nothing.
///
/// Its lock is a leaf: nothing is called while it is held, so that it may be taken on any thread, the library's
/// included.
final class PendingOperation<Value: Sendable>: Sendable {
    private enum State {
        case created
        case waiting(CheckedContinuation<Value, any Error>)
        /// Finished before anyone waited; the result is handed over by ``install(_:)``.
        case early(Result<Value, any Error>)
        case finished
    }
    private struct Box {
        var state = State.created
        var wasAbandoned = false
    }
    private let box = NIOLockedValueBox(Box())

    /// Whether the wait ended without the store's answer.
    var wasAbandoned: Bool { box.withLockedValue { $0.wasAbandoned } }

    var isFinished: Bool {
        box.withLockedValue {
            switch $0.state {
            case .created, .waiting: false
            case .early, .finished: true
            }
        }
    }

    func install(_ continuation: CheckedContinuation<Value, any Error>) {
        let early: Result<Value, any Error>? = box.withLockedValue { box in
            switch box.state {
            case .created:
                box.state = .waiting(continuation)
                return nil
            case .early(let result):
                box.state = .finished
                return result
            case .waiting, .finished:
                preconditionFailure("an operation is waited for once")
            }
        }
        if let early { continuation.resume(with: early) }
    }

    func finish(_ result: Result<Value, any Error>) {
        resume(with: result, abandoned: false)
    }

    func abandon(_ error: any Error) {
        resume(with: .failure(error), abandoned: true)
    }

    private func resume(with result: Result<Value, any Error>, abandoned: Bool) {
        let continuation: CheckedContinuation<Value, any Error>? = box.withLockedValue { box in
            switch box.state {
            case .created:
                box.state = .early(result)
                box.wasAbandoned = abandoned
                return nil
            case .waiting(let continuation):
                box.state = .finished
                box.wasAbandoned = abandoned
                return continuation
            case .early, .finished:
                return nil
            }
        }
        continuation?.resume(with: result)
    }
}
