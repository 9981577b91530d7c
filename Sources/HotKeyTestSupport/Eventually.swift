/// Polls `value` until `condition` holds for it and returns that value.
///
/// An error that `value` throws counts as "not yet", except `CancellationError`. When the limit passes, the error says what
/// was awaited, where, and what was seen last. The limit bounds the polling, not a single call of `value`.
@discardableResult
public func eventually<Value>(
    _ awaited: String,
    timeout: Duration = TestSupportLimits.eventuallyTimeout,
    pollEvery interval: Duration = TestSupportLimits.pollInterval,
    fileID: String = #fileID,
    line: Int = #line,
    isolation: isolated (any Actor)? = #isolation,
    value: () async throws -> Value,
    until condition: (Value) throws -> Bool
) async throws -> Value {
    let clock = ContinuousClock()
    let start = clock.now
    var last = "nothing yet"
    while true {
        do {
            let seen = try await value()
            last = String(reflecting: seen)
            if try condition(seen) { return seen }
        } catch let error as CancellationError {
            throw error
        } catch {
            last = "error: \(error)"
        }
        guard clock.now - start < timeout else {
            throw TestSupportError(
                .timeout, "\(fileID):\(line): waited \(timeout) for: \(awaited). Last seen: \(last)")
        }
        try await clock.sleep(for: interval)
    }
}

/// Polls `condition` until it is true; see ``eventually(_:timeout:pollEvery:fileID:line:isolation:value:until:)``.
public func eventually(
    _ awaited: String,
    timeout: Duration = TestSupportLimits.eventuallyTimeout,
    pollEvery interval: Duration = TestSupportLimits.pollInterval,
    fileID: String = #fileID,
    line: Int = #line,
    isolation: isolated (any Actor)? = #isolation,
    _ condition: () async throws -> Bool
) async throws {
    try await eventually(
        awaited, timeout: timeout, pollEvery: interval, fileID: fileID, line: line, isolation: isolation,
        value: condition, until: { $0 })
}
