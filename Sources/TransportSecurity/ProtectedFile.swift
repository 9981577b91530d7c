import Glibc

/// What tells one state of a file from another without reading it. A file that another is renamed over, or that a link leads
/// to elsewhere, has another inode.
struct FileIdentity: Sendable, Hashable {
    private let numbers: [Int64]

    /// nil: there is no such file, or it cannot be looked at.
    init?(path: String) {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        self.init(status)
    }

    fileprivate init(_ status: stat) {
        numbers = [
            Int64(bitPattern: UInt64(status.st_dev)), Int64(bitPattern: UInt64(status.st_ino)), Int64(status.st_size),
            Int64(status.st_mtim.tv_sec), Int64(status.st_mtim.tv_nsec),
            // A change of its mode alone can make it acceptable.
            Int64(status.st_ctim.tv_sec), Int64(status.st_ctim.tv_nsec),
        ]
    }
}

/// Reads the files that say who may connect.
enum ProtectedFile {
    /// - Parameters:
    ///   - name: what errors call it: the setting that names it.
    ///   - isSecret: users other than its owner and group must not be able to read it.
    static func read(
        _ path: String, name: String, bytesMax: Int, isSecret: Bool
    ) throws(TransportSecurityError) -> [UInt8] {
        func refusal(_ reason: String) -> TransportSecurityError { .init(.badFile, "\(name) \(path): \(reason)") }
        // Without O_NONBLOCK, opening a FIFO that nobody writes would wait for ever.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            throw refusal("expected a file that can be read: \(String(cString: strerror(errno)))")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw refusal("expected a file that can be read, found something else")
        }
        guard !isSecret || status.st_mode & (S_IROTH | S_IWOTH | S_IWGRP) == 0 else {
            let mode = String(status.st_mode & 0o777, radix: 8)
            throw refusal(
                "it holds a secret, and its mode 0\(mode) lets other users of this host read or change it: "
                    + "chmod u=rw,g=r,o= \(path)")
        }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16 << 10)
        while bytes.count <= bytesMax {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw refusal("it cannot be read: \(String(cString: strerror(errno)))") }
            if count == 0 { break }
            bytes += chunk.prefix(count)
        }
        guard bytes.count <= bytesMax else { throw refusal("expected at most \(bytesMax) bytes, found more") }
        return bytes
    }
}
