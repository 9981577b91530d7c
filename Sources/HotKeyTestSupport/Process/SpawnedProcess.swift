import Foundation
public import Glibc
import NIOConcurrencyHelpers

/// A child process that cannot be lost: it is reaped when it ends, killed when this object goes, and killed by the kernel
/// when the test process dies. Signals go to the process id only while the process is not reaped, so never to a stranger.
public final class SpawnedProcess: Sendable {
    public enum Termination: Sendable, Equatable {
        case exited(Int32)
        case signaled(Int32)

        /// Whether the process ended by itself with status 0.
        public var isSuccess: Bool { self == .exited(0) }
    }

    /// A process that ran to its end.
    public struct Outcome: Sendable, CustomStringConvertible {
        public let termination: Termination
        public let standardOutput: String
        public let standardError: String

        /// The exit status, nil when a signal ended the process.
        public var status: Int32? { if case .exited(let status) = termination { status } else { nil } }
        public var description: String { "\(termination)\nstdout: \(standardOutput)\nstderr: \(standardError)" }
    }

    public let processIdentifier: pid_t
    public let executable: String
    public let arguments: [String]
    let state: NIOLockedValueBox<ProcessState>

    private init(request: SpawnRequest, spawned: SpawnRequest.Spawned) {
        processIdentifier = spawned.pid
        executable = request.executable
        arguments = request.arguments
        let state = NIOLockedValueBox(ProcessState())
        self.state = state
        ProcessWatcher(pid: spawned.pid, output: spawned.output, error: spawned.error, state: state).start()
    }

    deinit {
        Self.send(SIGKILL, to: processIdentifier, state: state)
    }

    /// Starts a program.
    ///
    /// - Parameters:
    ///   - executable: its absolute path.
    ///   - environment: added to this process's environment, from which every `HOTKEY_…` variable is taken first.
    ///   - workingDirectory: nil: this process's.
    ///   - standardInput: bytes that the program reads; nil: none.
    ///
    /// Throws `missingProgram` or `process`.
    public static func start(
        _ executable: String,
        _ arguments: [String] = [],
        environment: [String: String] = [:],
        workingDirectory: String? = nil,
        standardInput: [UInt8]? = nil
    ) async throws -> SpawnedProcess {
        guard FileManager.default.isExecutableFile(atPath: executable) else {
            throw TestSupportError(.missingProgram, "\(executable) is not an executable file")
        }
        let inherited = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("HOTKEY_") }
        let request = SpawnRequest(
            executable: executable, arguments: arguments,
            environment: inherited.merging(environment) { _, new in new },
            workingDirectory: workingDirectory, input: standardInput)
        let spawned = try await SpawnThread.shared.run { try request.spawn() }
        return SpawnedProcess(request: request, spawned: spawned)
    }

    /// Runs a program to its end and returns what it said. One that takes longer than `timeout` is killed and throws `timeout`.
    public static func run(
        _ executable: String,
        _ arguments: [String] = [],
        environment: [String: String] = [:],
        workingDirectory: String? = nil,
        standardInput: [UInt8]? = nil,
        timeout: Duration = TestSupportLimits.commandTimeout
    ) async throws -> Outcome {
        let process = try await start(
            executable, arguments, environment: environment, workingDirectory: workingDirectory,
            standardInput: standardInput)
        let termination = try await process.waitForExit(timeout: timeout)
        return Outcome(
            termination: termination, standardOutput: process.standardOutput, standardError: process.standardError)
    }

    // MARK: Output

    /// What the process wrote, at most the last ``TestSupportLimits/capturedOutputBytesMax`` bytes.
    public var standardOutput: String { state.withLockedValue { $0.output.text } }
    public var standardError: String { state.withLockedValue { $0.error.text } }
    /// Standard output followed by standard error.
    public var allOutput: String { state.withLockedValue { $0.output.text + $0.error.text } }

    /// Waits for a line that contains `text` on either stream, also one written before the call, and returns it.
    ///
    /// Throws `process` when the process ends without it, `timeout` when the limit passes.
    @discardableResult
    public func waitForLine(
        containing text: String, timeout: Duration = TestSupportLimits.eventuallyTimeout
    ) async throws -> String {
        try await waitForLine("a line containing \"\(text)\"", timeout: timeout) { $0.contains(text) }
    }

    /// As ``waitForLine(containing:timeout:)`` with a condition of the caller's.
    @discardableResult
    public func waitForLine(
        _ awaited: String, timeout: Duration = TestSupportLimits.eventuallyTimeout,
        where matches: (String) -> Bool
    ) async throws -> String {
        let deadline = ContinuousClock.now + timeout
        while true {
            // First whether it ended, then its output: the other order misses a line written in between.
            let ended = termination
            if let line = completeLines(ended: ended != nil).first(where: matches) { return line }
            if let ended {
                throw TestSupportError(
                    .process, "\(executable) ended (\(ended)) without \(awaited). Output:\n\(allOutput)")
            }
            guard ContinuousClock.now < deadline else {
                throw TestSupportError(
                    .timeout, "waited \(timeout) for \(awaited) from \(executable). Output:\n\(allOutput)")
            }
            try await Task.sleep(for: TestSupportLimits.pollInterval)
        }
    }

    /// Lines of standard output, then of standard error. The last one of a running process counts once it has its newline.
    private func completeLines(ended: Bool) -> [String] {
        state.withLockedValue { state in
            [state.output.text, state.error.text].flatMap { text -> [String] in
                var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
                if !ended || lines.last == "" { lines.removeLast() }
                return lines
            }
        }
    }

    // MARK: Signals and the end

    public var isRunning: Bool { termination == nil }
    /// How the process ended, nil while it runs. Once this is set, its output is complete.
    public var termination: Termination? { state.withLockedValue { $0.isDrained ? $0.termination : nil } }

    /// Sends a signal; false when the process has ended.
    @discardableResult
    public func signal(_ number: Int32) -> Bool {
        Self.send(number, to: processIdentifier, state: state)
    }

    @discardableResult
    private static func send(_ number: Int32, to pid: pid_t, state: NIOLockedValueBox<ProcessState>) -> Bool {
        // Reaping happens under the same lock, so the id still is the child's.
        state.withLockedValue { $0.termination == nil && Glibc.kill(pid, number) == 0 }
    }

    /// SIGSTOP: the process keeps its sockets and answers nothing.
    public func suspend() { signal(SIGSTOP) }
    public func resume() { signal(SIGCONT) }

    /// Waits for the end. When `timeout` passes, the process is killed and `timeout` is thrown.
    @discardableResult
    public func waitForExit(timeout: Duration = TestSupportLimits.commandTimeout) async throws -> Termination {
        let deadline = ContinuousClock.now + timeout
        while true {
            if let termination { return termination }
            guard ContinuousClock.now < deadline else {
                await kill()
                throw TestSupportError(
                    .timeout,
                    "\(executable) \(arguments.joined(separator: " ")) did not end within \(timeout). Output:\n\(allOutput)"
                )
            }
            try await Task.sleep(for: TestSupportLimits.pollInterval)
        }
    }

    /// Asks the process to end (SIGTERM), kills it when it has not within `grace`, and returns how it ended. Ends a suspended
    /// process too. Does its work also in a cancelled task.
    @discardableResult
    public func stop(signal number: Int32 = SIGTERM, grace: Duration = TestSupportLimits.stopGrace) async -> Termination
    {
        signal(number)
        // A stopped process takes no signal but SIGKILL until it continues.
        signal(SIGCONT)
        let deadline = ContinuousClock.now + grace
        while true {
            if let termination { return termination }
            if ContinuousClock.now >= deadline { return await kill() }
            await pauseRegardlessOfCancellation()
        }
    }

    /// SIGKILL, and waits for the end.
    @discardableResult
    public func kill() async -> Termination {
        signal(SIGKILL)
        while true {
            if let termination { return termination }
            await pauseRegardlessOfCancellation()
        }
    }

    private func pauseRegardlessOfCancellation() async {
        // `Task.sleep` returns at once in a cancelled task, which would spin.
        await Task.detached { try? await Task.sleep(for: TestSupportLimits.pollInterval) }.value
    }
}
