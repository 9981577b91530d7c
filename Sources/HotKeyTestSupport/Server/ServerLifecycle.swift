import NIOConcurrencyHelpers

/// Starts and stops one server process, again and again, always with the same arguments.
public final class ServerLifecycle: Sendable {
    private struct State {
        var process: SpawnedProcess?
        var isSuspended = false
        /// Output of the processes that were replaced.
        var earlierOutput = ""
    }

    let name: String
    private let executable: String
    private let arguments: [String]
    private let workingDirectory: String
    private let gate: StartGate?
    private let isReady: @Sendable () async throws -> Bool
    private let state = NIOLockedValueBox(State())

    /// - Parameters:
    ///   - gate: passed before each start.
    ///   - isReady: whether the server answers; an error counts as no.
    init(
        name: String, executable: String, arguments: [String], workingDirectory: String, gate: StartGate? = nil,
        isReady: @escaping @Sendable () async throws -> Bool
    ) {
        self.name = name
        self.executable = executable
        self.arguments = arguments
        self.workingDirectory = workingDirectory
        self.gate = gate
        self.isReady = isReady
    }

    var process: SpawnedProcess? { state.withLockedValue { $0.process } }

    var output: String {
        state.withLockedValue { $0.earlierOutput + ($0.process?.allOutput ?? "") }
    }

    /// Starts the process and waits until it is ready.
    func start() async throws {
        guard let gate else {
            try await launch()
            return try await waitUntilReady()
        }
        try await gate.run {
            try await launch()
            try await waitUntilReady()
        }
    }

    /// Starts the process, without waiting until it is ready.
    func launch() async throws {
        if let process, process.isRunning {
            throw TestSupportError(.misuse, "\(name) is running already (pid \(process.processIdentifier))")
        }
        let process = try await SpawnedProcess.start(executable, arguments, workingDirectory: workingDirectory)
        state.withLockedValue { state in
            state.earlierOutput += state.process?.allOutput ?? ""
            state.process = process
            state.isSuspended = false
        }
    }

    /// Waits until the server answers. Throws `portTaken` when it ended for that reason, `notReady` otherwise.
    func waitUntilReady(timeout: Duration = TestSupportLimits.serverReadyTimeout) async throws {
        guard let process else { throw TestSupportError(.misuse, "\(name) was never started") }
        let deadline = ContinuousClock.now + timeout
        while true {
            if let termination = process.termination {
                let output = process.allOutput
                let taken = output.contains("Address already in use") || output.contains("BindException")
                throw TestSupportError(
                    taken ? .portTaken : .notReady,
                    "\(name) ended before it was ready (\(termination)). Output:\n\(output)")
            }
            if (try? await isReady()) == true { return }
            guard ContinuousClock.now < deadline else {
                throw TestSupportError(
                    .notReady, "\(name) did not answer within \(timeout). Output:\n\(process.allOutput)")
            }
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    func stop() async {
        await process?.stop()
    }

    func kill() async {
        await process?.kill()
    }

    func suspend() {
        state.withLockedValue { state in
            state.process?.suspend()
            state.isSuspended = true
        }
    }

    func resume() {
        state.withLockedValue { state in
            state.process?.resume()
            state.isSuspended = false
        }
    }
}

/// A real server on 127.0.0.1 that a test may stop, kill, suspend and start again on the same port.
///
/// It dies with this object: hold it for as long as the test needs it, best with ``use(_:)``.
public protocol ManagedServer: Stoppable {
    var lifecycle: ServerLifecycle { get }
    /// The port that clients use.
    var port: Int { get }
}

extension ManagedServer {
    public var host: String { "127.0.0.1" }
    /// `127.0.0.1:PORT`
    public var address: String { "\(host):\(port)" }
    public var isRunning: Bool { lifecycle.process?.isRunning ?? false }
    /// The id of the running, or the last, process.
    public var processIdentifier: Int32? { lifecycle.process?.processIdentifier }
    /// Everything the server said, on both streams, restarts included.
    public var log: String { lifecycle.output }

    /// SIGTERM, and waits for the end. Nothing happens when the server is not running.
    public func stop() async { await lifecycle.stop() }
    /// SIGKILL, and waits for the end.
    public func kill() async { await lifecycle.kill() }
    /// SIGSTOP: connections stay, nothing is answered, new connections hang once accepted by the kernel.
    public func suspend() { lifecycle.suspend() }
    /// Undoes ``suspend()``.
    public func resume() { lifecycle.resume() }

    /// Starts a stopped server again, same port, same data, and waits until it answers.
    public func start() async throws {
        try await lifecycle.start()
    }

    /// ``stop()`` and ``start()``.
    public func restart() async throws {
        await stop()
        try await start()
    }
}

/// Makes a server with fresh ports, again with others as long as somebody else takes one of them first.
func startWithFreePorts<Server>(_ attempt: () async throws -> Server) async throws -> Server {
    for _ in 1..<TestSupportLimits.portAttemptsMax {
        do { return try await attempt() } catch let error as TestSupportError where error.code == .portTaken {}
    }
    return try await attempt()
}
