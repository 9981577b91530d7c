public import Logging

/// A client of a ZooKeeper ensemble that outlives its sessions.
///
/// Services call ``run()``, which is the client's lifetime. Tools call
/// ``withClient(_:logger:connectTimeoutMilliseconds:_:)``, or ``start()`` and later ``close()``. A client that was
/// started must be closed by one of them; dropping it leaves the session to its timeout.
///
/// - An operation waits for a connection, before the first one and while suspended, until its deadline
///   (``ZooKeeperConfiguration/operationTimeoutMilliseconds``). Reads that are hit by a broken connection are
///   repeated within the deadline; writes then throw ``StoreError/Code/connectionLoss``, because they may have
///   happened.
/// - `suspended` is announced as soon as the connection is gone, and when nothing was heard for two thirds of the
///   session's timeout on a connection that seems to stand; `lost` at the latest when the session's negotiated
///   timeout has passed since a request was sent that a server answered. Whoever leads anything steps down at
///   `suspended`, and guards what it writes with the election node's ``NodeStat/createdTransaction``: a message of
///   the client comes late when the process was stopped for a while.
/// - Credentials of the configuration that the server refuses make every call fail with
///   ``StoreError/Code/authenticationFailed`` at once. The client goes on trying, with pauses of up to 10 s, so that an
///   agent outlives a server that was set up wrongly for a while.
/// - Servers that refuse connections, or accept them and do not serve, are tried again after pauses with full jitter,
///   100 ms at first, 10 s at most. Within a session that is suspended the C library's own, shorter ones apply, until
///   the session is lost.
/// - `onEvent` closures of watches mostly run on the C library's thread, with no lock held: they must return quickly
///   and must not block.
/// - After `lost` the old session's ephemeral nodes may stay until the server notices too; a new session that wants the
///   same name finds a node whose ``NodeStat/ephemeralOwner`` is not its own.
public final class ZooKeeperClient: CoordinationStore, Sendable {
    let driver: SessionDriver
    /// Where the driver's milliseconds begin.
    private let origin: ContinuousClock.Instant
    var configuration: ZooKeeperConfiguration { driver.configuration }

    /// Connects to nothing yet.
    public convenience init(configuration: ZooKeeperConfiguration, logger: Logger) {
        self.init(configuration: configuration, logger: logger, random: { Double.random(in: 0..<1) })
    }

    /// - Parameter random: uniform in 0..<1; decides how long the pauses between sessions are.
    public init(configuration: ZooKeeperConfiguration, logger: Logger, random: @escaping @Sendable () -> Double) {
        let origin = ContinuousClock.now
        self.origin = origin
        driver = SessionDriver(
            configuration: configuration, logger: logger,
            now: {
                let (seconds, attoseconds) = origin.duration(to: .now).components
                return seconds * 1_000 + attoseconds / 1_000_000_000_000_000
            }, random: random)
    }

    deinit {
        // P4: closing here could happen inside a callback, and would block whoever dropped the last reference.
        assert(driver.isIdleOrFinished, "a ZooKeeperClient was dropped without close(); its session lives on")
    }

    /// Begins to connect and returns at once. Does nothing when the client was started or closed before.
    public func start() {
        driver.start()
    }

    /// Connects, and replaces lost sessions, until the task is cancelled or the client is closed. Returns after the
    /// session was ended at the server, so that its ephemeral nodes are gone.
    /// - Throws: ``StoreError/Code/closed`` when the client was closed before.
    public func run() async throws {
        if driver.isClosed {
            throw StoreError(.closed, message: "a closed client cannot run again; make a new one")
        }
        start()
        await withTaskCancellationHandler {
            await driver.untilClosed()
        } onCancel: {
            driver.beginClose()
        }
    }

    /// Ends the session at the server and fails what is under way with ``StoreError/Code/closed``. Returns when
    /// nothing of the client is left running. Any number of calls is fine; each returns when the client is closed.
    public func close() async {
        driver.beginClose()
        await driver.untilClosed()
    }

    /// Returns when a session is established.
    /// - Throws: ``StoreError/Code/deadlineExceeded`` with what went wrong, ``StoreError/Code/authenticationFailed``,
    ///   or ``StoreError/Code/closed``.
    public func waitUntilConnected(
        timeoutMilliseconds: Int = ZooKeeperLimits.connectTimeoutMillisecondsDefault
    ) async throws {
        try await driver.perform(
            "the first connection", path: nil, isRead: true, timeoutMilliseconds: timeoutMilliseconds
        ) { (_, _, reply: NativeSession.Reply<Void>) in
            reply(.success(()))
            return .accepted
        }
    }

    /// For tools: connects within a deadline, runs the body, closes in every case.
    public static func withClient<Result>(
        _ configuration: ZooKeeperConfiguration, logger: Logger,
        connectTimeoutMilliseconds: Int = ZooKeeperLimits.connectTimeoutMillisecondsDefault,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (ZooKeeperClient) async throws -> sending Result
    ) async throws -> sending Result {
        let client = ZooKeeperClient(configuration: configuration, logger: logger)
        client.start()
        do {
            try await client.waitUntilConnected(timeoutMilliseconds: connectTimeoutMilliseconds)
            let result = try await body(client)
            await client.close()
            return result
        } catch {
            await client.close()
            throw error
        }
    }

    public var connectionStates: ConnectionStates {
        let driver = driver
        return ConnectionStates { driver.listen() }
    }

    public var lease: SessionLease? {
        driver.session.map { session in
            SessionLease(
                sessionID: session.id, timeoutMilliseconds: session.timeoutMilliseconds,
                lastContact: origin + .milliseconds(session.lastContactMilliseconds),
                lastProof: session.lastProofMilliseconds.map { origin + .milliseconds($0) })
        }
    }

    /// The state now.
    public var connectionState: ConnectionState { driver.publicState }
}
