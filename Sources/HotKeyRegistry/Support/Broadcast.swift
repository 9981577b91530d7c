import NIOConcurrencyHelpers

/// One value that changes, for any number of readers: each gets the current value first and then, at its own pace, the
/// newest one. Values in between may be skipped, their order never changes.
final class Broadcast<Value: Sendable>: Sendable {
    private struct State {
        var value: Value
        var nextReader = 0
        var readers: [Int: AsyncStream<Value>.Continuation] = [:]
    }
    private let state: NIOLockedValueBox<State>

    init(_ value: Value) { state = NIOLockedValueBox(State(value: value)) }

    var value: Value { state.withLockedValue { $0.value } }

    func send(_ value: Value) { update { $0 = value } }

    /// Changes the value and hands it out. Handing out stays inside the lock, or two changes could overtake each other on
    /// the way to a reader.
    @discardableResult
    func update<Result>(_ change: (inout Value) throws -> Result) rethrows -> Result {
        try state.withLockedValue { state in
            let result = try change(&state.value)
            for reader in state.readers.values { reader.yield(state.value) }
            return result
        }
    }

    func stream() -> AsyncStream<Value> {
        let (stream, continuation) = AsyncStream.makeStream(of: Value.self, bufferingPolicy: .bufferingNewest(1))
        let id = state.withLockedValue { state in
            state.nextReader += 1
            state.readers[state.nextReader] = continuation
            continuation.yield(state.value)
            return state.nextReader
        }
        continuation.onTermination = { [weak self] _ in
            self?.state.withLockedValue { _ = $0.readers.removeValue(forKey: id) }
        }
        return stream
    }

    /// What `select` finds in the first value in which it finds anything. Throws `CancellationError`.
    func first<Result>(_ select: (Value) -> Result?) async throws -> Result {
        for await value in stream() {
            if let result = select(value) { return result }
        }
        throw CancellationError()
    }

    /// As ``first(_:)``, but gives up with nil after `timeout`.
    func first<Result: Sendable>(
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
