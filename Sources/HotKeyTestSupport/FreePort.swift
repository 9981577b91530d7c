import Foundation
import Glibc
import NIOConcurrencyHelpers

/// Ports on 127.0.0.1 for servers.
public enum FreePort {
    private struct State {
        var lockFile: Int32?
        var handedOut: Set<Int> = []
    }
    private static let state = NIOLockedValueBox(State())

    /// A port that is free now and that no other test gets while this process lives, so that a server which is stopped and
    /// started again finds its port free.
    ///
    /// Test processes of one user agree through record locks on one file, which the kernel releases when a process ends.
    /// A stranger may still take the port: who starts a server on it tries again with the next one.
    public static func next() throws -> Int {
        try state.withLockedValue { state in
            let file = try state.lockFile ?? openLockFile()
            state.lockFile = file
            for _ in 0..<10_000 {
                let port = Int.random(in: TestSupportLimits.ports)
                guard !state.handedOut.contains(port), lock(file, at: port), try isFree(port) else { continue }
                state.handedOut.insert(port)
                return port
            }
            throw TestSupportError(.system, "no free port in \(TestSupportLimits.ports) after 10,000 tries")
        }
    }

    private static func openLockFile() throws -> Int32 {
        let path = "/tmp/hotkey-test-ports-\(getuid()).lock"
        let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard file >= 0 else {
            throw TestSupportError(.system, "open \(path): \(String(cString: strerror(errno)))")
        }
        return file
    }

    private static func lock(_ file: Int32, at port: Int) -> Bool {
        var range = flock()
        range.l_type = Int16(F_WRLCK)
        range.l_whence = Int16(SEEK_SET)
        range.l_start = port
        range.l_len = 1
        return fcntl(file, F_SETLK, &range) == 0
    }

    private static func isFree(_ port: Int) throws -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else {
            throw TestSupportError(.system, "socket: \(String(cString: strerror(errno)))")
        }
        defer { close(descriptor) }
        return withLoopbackAddress(port: port) { bind(descriptor, $0, $1) } == 0
    }
}

/// Calls `body` with the address 127.0.0.1:`port`.
func withLoopbackAddress<R>(port: Int, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    return withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
}
