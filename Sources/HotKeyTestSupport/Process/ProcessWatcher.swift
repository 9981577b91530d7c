import Dispatch
import Foundation
import Glibc
import NIOConcurrencyHelpers

/// What is known of a child, shared by its ``SpawnedProcess`` and the two threads that watch it.
struct ProcessState: Sendable {
    var termination: SpawnedProcess.Termination?
    /// Set last: both streams are read to their end.
    var isDrained = false
    var output = OutputTail()
    var error = OutputTail()
}

/// The last bytes of a stream.
struct OutputTail: Sendable {
    private(set) var bytes: [UInt8] = []

    mutating func append(_ more: UnsafeRawBufferPointer) {
        bytes.append(contentsOf: more)
        // Cut at twice the limit, so that appending stays cheap.
        if bytes.count > 2 * TestSupportLimits.capturedOutputBytesMax {
            bytes.removeFirst(bytes.count - TestSupportLimits.capturedOutputBytesMax)
        }
    }

    var text: String { String(decoding: bytes, as: UTF8.self) }
}

/// Reads a child's output and reaps it, on threads of its own: a test that blocks the concurrency pool must not keep a child
/// from writing.
struct ProcessWatcher: Sendable {
    let pid: pid_t
    let output: Int32
    let error: Int32
    let state: NIOLockedValueBox<ProcessState>

    func start() {
        let reaped = DispatchSemaphore(value: 0)
        let reaper = Thread {
            reap(); reaped.signal()
        }
        let reader = Thread {
            readToEnd()
            reaped.wait()
            state.withLockedValue { $0.isDrained = true }
        }
        for thread in [reaper, reader] {
            thread.stackSize = 512 << 10
            thread.start()
        }
    }

    private func reap() {
        var information = siginfo_t()
        // WNOWAIT leaves the zombie, and with it the process id, in place until the lock is held.
        while waitid(P_PID, id_t(pid), &information, WEXITED | WNOWAIT) != 0 && errno == EINTR {}
        state.withLockedValue { state in
            var status: Int32 = 0
            while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
            // The layout of a wait status on Linux; the macros for it cannot be imported.
            let signal = status & 0x7f
            state.termination = signal == 0 ? .exited((status >> 8) & 0xff) : .signaled(signal)
        }
    }

    private func readToEnd() {
        defer {
            close(output)
            close(error)
        }
        var open = [
            pollfd(fd: output, events: Int16(POLLIN), revents: 0), pollfd(fd: error, events: Int16(POLLIN), revents: 0),
        ]
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 1)
        defer { buffer.deallocate() }
        while !open.isEmpty {
            let ready = poll(&open, nfds_t(open.count), 100)
            if ready < 0 && errno == EINTR { continue }
            // A grandchild may hold the pipe open for ever: after the child's end, silence is the end.
            if ready == 0, state.withLockedValue({ $0.termination != nil }) { return }
            for entry in open where entry.revents != 0 {
                let count = read(entry.fd, buffer.baseAddress, buffer.count)
                if count > 0 {
                    let chunk = UnsafeRawBufferPointer(rebasing: buffer[..<count])
                    state.withLockedValue { state in
                        if entry.fd == output { state.output.append(chunk) } else { state.error.append(chunk) }
                    }
                } else if count == 0 || errno != EINTR {
                    open.removeAll { $0.fd == entry.fd }
                }
            }
        }
    }
}
