import NIOConcurrencyHelpers

/// The way of an operation:
///
/// ```
///   admitted ──▶ connected? ──▶ handed to the session ──▶ reply ──▶ caller
///      │             │ no            │ refused: nothing was sent      ▲
///      │             ▼               ▼                                │ reads only: connection or session lost
///      │          waiting for the next connection ◀──────────────────┘
///      └─ deadline, cancellation, close: the caller goes; a call that the library has stays counted until its reply
/// ```
extension SessionDriver {
    /// - Parameters:
    ///   - path: as the caller gave it; stands in errors.
    ///   - isRead: repeating it is harmless, so that a broken connection only makes it wait for the next one.
    ///   - submit: hands the call to a session.
    func perform<Value: Sendable>(
        _ name: String, path: String?, isRead: Bool, timeoutMilliseconds: Int? = nil,
        submit:
            @escaping @Sendable (NativeSession, PendingOperation<Value>, @escaping NativeSession.Reply<Value>) ->
            Submission
    ) async throws -> Value {
        let pending = PendingOperation<Value>()
        let id = state.withLockedValue { state in
            defer { state.nextOperation += 1 }
            return state.nextOperation
        }
        let reply: NativeSession.Reply<Value> = { [weak self] result in
            guard let self else { return pending.abandon(StoreError(.closed, path: path)) }
            self.answered(id, path: path, isRead: isRead, result, pending)
        }
        let operation = ActiveOperation(
            name: name, path: path, abandon: { pending.abandon($0) }, submit: { submit($0, pending, reply) },
            isWaiting: true)
        let timeout = timeoutMilliseconds ?? configuration.operationTimeoutMilliseconds
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                pending.install(continuation)
                admit(id, operation, timeoutMilliseconds: timeout) { pending.isFinished }
            }
        } onCancel: {
            // In this order: whoever is admitted after the first line is seen to be finished, whoever was before it is
            // found by the second.
            pending.abandon(CancellationError())
            withdraw(id)
        }
    }

    private func admit(
        _ id: UInt64, _ operation: ActiveOperation, timeoutMilliseconds: Int, isFinished: () -> Bool
    ) {
        let effects = state.withLockedValue { state -> [Effect] in
            if state.machine.isClosed { return [.fail([operation], .closed)] }
            guard state.inFlight < configuration.maxInFlight else { return [.fail([operation], .tooManyInFlight)] }
            guard !isFinished() else { return [] }
            // Waiting for the next refusal would tell the caller nothing more.
            if state.machine.areCredentialsRefused { return [.fail([operation], .authenticationFailed)] }
            var operation = operation
            state.inFlight += 1
            state.deadlines.insert(id, atMilliseconds: now() + Int64(timeoutMilliseconds))
            operation.isWaiting = !state.machine.isConnected
            operation.epoch = state.epoch
            state.operations[id] = operation
            schedule(&state)
            guard !operation.isWaiting, let session = state.session else { return [] }
            return [.submit(id, operation, session, epoch: state.epoch)]
        }
        run(effects)
    }

    /// Hands an operation to a session. A refusal means that nothing was sent, so that even a write may wait and be
    /// handed to the next connection.
    func hand(_ id: UInt64, _ operation: ActiveOperation, to session: NativeSession, epoch: UInt64) {
        guard operation.submit(session) == .refused else { return }
        run(state.withLockedValue { putBack(id, epoch: epoch, &$0) })
    }

    /// Lets an operation wait for a connection that is newer than the one it was given to.
    ///
    /// The connection may have come back in between: refused on connection 1, [lost, connection 2, waiting ones handed
    /// over], put back. Without the comparison it would wait for a third one.
    private func putBack(_ id: UInt64, epoch: UInt64, _ state: inout State) -> [Effect] {
        guard var operation = state.operations[id] else {
            // The caller has gone, and the library does not have it: nobody else would count it down.
            state.inFlight -= 1
            return []
        }
        if state.machine.isConnected, state.epoch != epoch, let session = state.session {
            operation.epoch = state.epoch
            state.operations[id] = operation
            return [.submit(id, operation, session, epoch: state.epoch)]
        }
        guard !state.machine.isClosed else {
            state.operations[id] = nil
            state.inFlight -= 1
            return [.fail([operation], .closed)]
        }
        operation.isWaiting = true
        state.operations[id] = operation
        return []
    }

    /// The one place where a reply reaches its caller.
    private func answered<Value: Sendable>(
        _ id: UInt64, path: String?, isRead: Bool, _ result: Result<Value, CallFailure>,
        _ pending: PendingOperation<Value>
    ) {
        let (effects, isClosed, isDone) = state.withLockedValue { state -> ([Effect], Bool, Bool) in
            let isClosed = state.machine.isClosed
            if isRead, !isClosed, case .failure(let failure) = result,
                failure.code == .connectionLoss || failure.code == .sessionExpired,
                let operation = state.operations[id]
            {
                return (putBack(id, epoch: operation.epoch, &state), isClosed, false)
            }
            state.inFlight -= 1
            state.operations[id] = nil
            return ([], isClosed, true)
        }
        run(effects)
        guard isDone else { return }
        switch result {
        case .success(let value): pending.finish(.success(value))
        case .failure(let failure):
            let isEndOfClient = isClosed && (failure.code == .sessionExpired || failure.code == .connectionLoss)
            pending.finish(
                .failure(
                    StoreError(
                        isEndOfClient ? .closed : failure.code, path: path, rawCode: failure.rawCode,
                        operationIndex: failure.operationIndex,
                        message: isEndOfClient ? Self.closedMessage : failure.message)))
        }
    }

    /// The caller has gone. A call that the library has stays counted until its reply comes (P32).
    private func withdraw(_ id: UInt64) {
        state.withLockedValue { state in
            guard let operation = state.operations.removeValue(forKey: id) else { return }
            if operation.isWaiting { state.inFlight -= 1 }
        }
    }

    private static var closedMessage: String {
        "the client was closed; a write that was under way may have happened"
    }

    func failure(_ operation: ActiveOperation, _ code: StoreError.Code) -> StoreError {
        let message =
            switch code {
            case .closed: Self.closedMessage
            case .tooManyInFlight:
                "\(configuration.maxInFlight) calls are under way; nothing was sent. Wait for some or raise maxInFlight"
            case .deadlineExceeded:
                operation.isWaiting
                    ? "\(operation.name) found no connection to \(serverList) in time; "
                        + "nothing was sent. \(connectionAdvice)"
                    : "\(operation.name) got no answer in time; a write may still happen: read before repeating it"
            case .authenticationFailed:
                "the server refused the credentials; check the authentication settings. Nothing was sent"
            default: ""
            }
        return StoreError(code, path: operation.path, message: message)
    }

    private var connectionAdvice: String {
        state.withLockedValue { state in
            if state.machine.phase == .idle { return "The client was not started: call start() or run()" }
            if let reason = state.machine.lastFailure { return "Last failure: \(reason)" }
            return "Is the ensemble up and reachable?"
        }
    }
}
