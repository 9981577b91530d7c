import Dispatch
import Foundation
import Glibc
import NIOConcurrencyHelpers

/// The thread that starts every child process and lives as long as this process.
///
/// A child asks the kernel (through `setpriv --pdeathsig`) to be killed when its parent goes, so that no server outlives a
/// test run, however that ends. For the kernel "parent" is the *thread* that started the child (prctl(2), PR_SET_PDEATHSIG).
/// Started from a thread of the concurrency pool the child would die when the pool retires that thread.
final class SpawnThread: Sendable {
    static let shared = SpawnThread()

    private let jobs = NIOLockedValueBox<[@Sendable () -> Void]>([])
    private let available = DispatchSemaphore(value: 0)

    private init() {
        let thread = Thread { [jobs, available] in
            while true {
                available.wait()
                let job = jobs.withLockedValue { $0.removeFirst() }
                job()
            }
        }
        thread.name = "spawn"
        thread.start()
    }

    func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            jobs.withLockedValue { $0.append { continuation.resume(with: Result(catching: body)) } }
            available.signal()
        }
    }
}

/// What `posix_spawn` needs to start one child.
struct SpawnRequest: Sendable {
    var executable: String
    var arguments: [String]
    var environment: [String: String]
    var workingDirectory: String?
    /// Becomes the child's standard input; nil: `/dev/null`.
    var input: [UInt8]?

    struct Spawned: Sendable {
        let pid: pid_t
        let output: Int32
        let error: Int32
    }

    /// Starts the child with nothing inherited but its three standard streams, all signals at their defaults and unblocked,
    /// and in a process group of its own (Ctrl-C in a terminal reaches the test run, which then takes the children along).
    func spawn() throws -> Spawned {
        let setpriv = try SystemTool.setpriv()
        let output = try Pipe()
        let error: Pipe
        do { error = try Pipe() } catch let failure {
            output.closeBoth()
            throw failure
        }
        let inputDescriptor: Int32
        do { inputDescriptor = try openInput() } catch let failure {
            output.closeBoth()
            error.closeBoth()
            throw failure
        }
        defer {
            close(inputDescriptor)
            close(output.writeEnd)
            close(error.writeEnd)
        }

        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, inputDescriptor, 0)
        posix_spawn_file_actions_adddup2(&actions, output.writeEnd, 1)
        posix_spawn_file_actions_adddup2(&actions, error.writeEnd, 2)
        _ = try GlibcSpawnExtensions.addCloseFrom.get()(&actions, 3)
        if let workingDirectory { _ = try GlibcSpawnExtensions.addChangeDirectory.get()(&actions, workingDirectory) }

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        var defaults = sigset_t()
        sigemptyset(&defaults)
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGALRM, SIGTERM, SIGUSR1, SIGUSR2, SIGCHLD] {
            sigaddset(&defaults, signal)
        }
        posix_spawnattr_setsigdefault(&attributes, &defaults)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP))

        let words = [setpriv, "--pdeathsig", "KILL", "--", executable] + arguments
        let variables = environment.map { "\($0.key)=\($0.value)" }
        var pid: pid_t = 0
        let code = withCStrings(words) { argv in
            withCStrings(variables) { envp in
                posix_spawn(&pid, setpriv, &actions, &attributes, argv, envp)
            }
        }
        guard code == 0 else {
            close(output.readEnd)
            close(error.readEnd)
            throw TestSupportError(.process, "start \(executable): \(String(cString: strerror(code)))")
        }
        return Spawned(pid: pid, output: output.readEnd, error: error.readEnd)
    }

    private func openInput() throws -> Int32 {
        guard let input else {
            let descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 else { throw Pipe.failure("open /dev/null") }
            return descriptor
        }
        // A file without a name: unlike a pipe it takes any amount without a writer that has to keep up.
        var template = Array("/tmp/hotkey-input-XXXXXX".utf8CString)
        let descriptor = mkstemp(&template)
        guard descriptor >= 0 else { throw Pipe.failure("mkstemp") }
        unlink(template)
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        var written = 0
        while written < input.count {
            let count = input.withUnsafeBytes {
                write(descriptor, $0.baseAddress! + written, $0.count - written)
            }
            guard count > 0 else {
                let failure = Pipe.failure("write input")
                close(descriptor)
                throw failure
            }
            written += count
        }
        lseek(descriptor, 0, SEEK_SET)
        return descriptor
    }
}

/// Two functions of glibc (2.34 and later) that its header declares for `_GNU_SOURCE` only, which Swift's import of C does
/// not define.
private enum GlibcSpawnExtensions {
    typealias AddCloseFrom = @convention(c) (UnsafeMutablePointer<posix_spawn_file_actions_t>, Int32) -> Int32
    typealias AddChangeDirectory =
        @convention(c) (UnsafeMutablePointer<posix_spawn_file_actions_t>, UnsafePointer<CChar>) -> Int32

    // The casts are sound because both types repeat the prototypes in <spawn.h>.
    static let addCloseFrom = lookUp("posix_spawn_file_actions_addclosefrom_np").map {
        unsafeBitCast($0, to: AddCloseFrom.self)
    }
    static let addChangeDirectory = lookUp("posix_spawn_file_actions_addchdir_np").map {
        unsafeBitCast($0, to: AddChangeDirectory.self)
    }

    private static func lookUp(_ name: String) -> Result<UnsafeMutableRawPointer, TestSupportError> {
        guard let symbol = dlsym(nil, name) else {
            return .failure(TestSupportError(.system, "the C library has no \(name); glibc 2.34 or later is needed"))
        }
        return .success(symbol)
    }
}

private struct Pipe {
    let readEnd: Int32
    let writeEnd: Int32

    init() throws {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw Pipe.failure("pipe") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        readEnd = ends[0]
        writeEnd = ends[1]
    }

    func closeBoth() {
        close(readEnd)
        close(writeEnd)
    }

    static func failure(_ what: String) -> TestSupportError {
        TestSupportError(.system, "\(what): \(String(cString: strerror(errno)))")
    }
}

private func withCStrings<R>(
    _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> R
) -> R {
    var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) }
    pointers.append(nil)
    defer { for pointer in pointers { free(pointer) } }
    return body(&pointers)
}
