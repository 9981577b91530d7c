import NIOCore

/// Letting clients go.
extension ProxyLoop {
    func drainClients() {
        updateNow()
        for session in Array(sessions.values) { session.drain() }
    }

    func closeIdleClientsIfDue() {
        guard configuration.clientIdleSeconds > 0 else { return }
        ticksUntilIdleCheck -= 1
        guard ticksUntilIdleCheck <= 0 else { return }
        ticksUntilIdleCheck = RedisProxyLimits.idleCheckTicks
        let limit = UInt64(configuration.clientIdleSeconds) * 1_000_000_000
        for session in Array(sessions.values)
        where session.activeAt + limit <= now && session.isIdle && !session.waitsForOthers
            && session.waitingOutputBytes == 0
        {
            session.close()
        }
    }
}

extension FrontSession {
    /// Answers what has been read and closes then. A client that has only just connected is served on for a moment: its first
    /// commands are on their way or in the socket, and closing now would answer them with a reset.
    fileprivate func drain() {
        let age = loop.now - connectedAt
        guard age < RedisProxyLimits.newClientNanoseconds, !loop.isShutDown else { return drainNow() }
        loop.eventLoop.assumeIsolated().scheduleTask(
            in: .nanoseconds(Int64(RedisProxyLimits.newClientNanoseconds - age))
        ) { [self] in drainNow() }
    }

    /// Whether it waits for what others say.
    fileprivate var waitsForOthers: Bool {
        !channels.isEmpty || listening != nil
            || bound?.state.reasons.isDisjoint(with: [.subscription, .monitor]) == false
    }
}
