import NIOConcurrencyHelpers

/// One value that changes, for any number of readers: each gets the current value first and then, at its own pace, the
/// newest one. Values in between may be skipped, their order never changes.
///
/// Its lock is held while readers are woken, so it must not be taken by whatever runs when a task is cancelled:
///   1. ``update(_:)`` takes this lock
///   2. a reader's task is cancelled: the runtime takes that task's own lock and tells the stream that it ends
///   3. waking the reader waits for the task's lock, and what is told of the end would wait for this one
/// So a reader that ends is only noted, under a lock inside which nothing is called, and is dropped at the next chance. For the
/// same reason nobody may call this inside a lock that a cancellation handler takes.
package final class Broadcast<Value: Sendable>: Sendable {
    private struct State {
        var value: Value
        var revision: UInt64 = 0
        var isFinished = false
        var nextReader = 0
        var readers: [Int: AsyncStream<Value>.Continuation] = [:]
    }
    private let state: NIOLockedValueBox<State>
    private let ended = NIOLockedValueBox<[Int]>([])

    package init(_ value: Value) { state = NIOLockedValueBox(State(value: value)) }

    package var value: Value { state.withLockedValue { $0.value } }

    package func send(_ value: Value) { update { $0 = value } }

    /// For who decides inside a lock of its own, in what order, and sends outside of it: does nothing when a later revision has
    /// been sent. The first one is 1.
    package func send(_ value: Value, revision: UInt64) {
        state.withLockedValue { state in
            guard revision > state.revision else { return }
            state.revision = revision
            state.value = value
            wake(&state)
        }
    }

    /// Changes the value and hands it out. Handing out stays inside the lock, or two changes could overtake each other on
    /// the way to a reader.
    @discardableResult
    package func update<Result>(_ change: (inout Value) throws -> Result) rethrows -> Result {
        try state.withLockedValue { state in
            let result = try change(&state.value)
            wake(&state)
            return result
        }
    }

    /// Ends every reader after the value that it has not seen yet, and each later one after the last value.
    package func finish() {
        state.withLockedValue { state in
            state.isFinished = true
            for reader in state.readers.values { reader.finish() }
            state.readers = [:]
        }
    }

    package func stream() -> AsyncStream<Value> {
        let (stream, continuation) = AsyncStream.makeStream(of: Value.self, bufferingPolicy: .bufferingNewest(1))
        state.withLockedValue { state in
            dropEnded(&state)
            continuation.yield(state.value)
            guard !state.isFinished else { return continuation.finish() }
            state.nextReader += 1
            let id = state.nextReader
            state.readers[id] = continuation
            continuation.onTermination = { [ended] _ in ended.withLockedValue { $0.append(id) } }
        }
        return stream
    }

    private func wake(_ state: inout State) {
        dropEnded(&state)
        for reader in state.readers.values { reader.yield(state.value) }
    }

    private func dropEnded(_ state: inout State) {
        let ended = ended.withLockedValue { ended in
            defer { ended = [] }
            return ended
        }
        for id in ended { state.readers[id] = nil }
    }

    /// What `select` finds in the first value in which it finds anything. Throws `CancellationError`.
    package func first<Result>(_ select: (Value) -> Result?) async throws -> Result {
        for await value in stream() {
            if let result = select(value) { return result }
        }
        throw CancellationError()
    }

    /// As ``first(_:)``, but gives up with nil after `timeout`.
    package func first<Result: Sendable>(
        within timeout: Duration, _ select: @escaping @Sendable (Value) -> Result?
    ) async throws -> Result? {
        try await withThrowingTaskGroup(of: Result?.self) { group in
            group.addTask { try await self.first(select) }
            group.addTask {
                try await Task.sleep(for: timeout)
                return nil
            }
            defer { group.cancelAll() }
            return try await group.next() ?? nil
        }
    }
}
