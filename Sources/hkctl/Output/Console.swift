import Glibc

/// Standard output and standard error, unbuffered: who follows `watch` through a pipe sees each line when it is written.
enum Console {
    /// Ends the process when nobody reads standard output any more, as in `hkctl list | head`.
    static func write(_ text: String) {
        if !put(text, to: STDOUT_FILENO) { Glibc.exit(ExitStatus.failed.rawValue) }
    }

    /// One line, or several, for people.
    static func complain(_ text: String) {
        _ = put(text + "\n", to: STDERR_FILENO)
    }

    private static func put(_ text: String, to descriptor: Int32) -> Bool {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let written = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if written < 0 {
                if errno == EINTR { continue }
                if errno == EAGAIN {
                    var ready = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                    _ = poll(&ready, 1, -1)
                    continue
                }
                return false
            }
            bytes = bytes.dropFirst(written)
        }
        return true
    }
}
