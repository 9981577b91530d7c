import Glibc

/// The file of a Unix socket: made with its permissions, taken over only from the dead, and removed at the end.
struct UnixListener: Sendable {
    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    /// Listening already.
    let descriptor: Int32
    private let path: String
    /// Which file it made: another process may have put its own there since.
    private let file: FileNumber

    private struct FileNumber: Equatable {
        var device: UInt64
        var inode: UInt64
    }

    /// - Parameters:
    ///   - mode: of the file, whatever the process's umask is.
    ///   - group: by name; nil: as the system gives it.
    init(path: String, mode: UInt32, group: String?, backlog: Int32) throws(Failure) {
        let groupID = try group.map { name throws(Failure) in try Self.groupID(name) }
        // Two agents that start at once could both find a dead one's socket, and the second remove what the first has just made. So
        // the directory is locked from looking to listening.
        let directory = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let lock = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard lock >= 0 else { throw Self.failure("its directory \(directory) cannot be opened") }
        defer { close(lock) }
        guard flock(lock, LOCK_EX) == 0 else { throw Self.failure("its directory \(directory) cannot be locked") }
        try Self.removeStale(path)
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Self.failure("no socket") }
        var isDone = false
        defer { if !isDone { close(descriptor) } }
        // Linux gives the file the permissions that the socket has: nobody else has a moment in which to connect.
        guard fchmod(descriptor, 0o600) == 0 else { throw Self.failure("permissions cannot be set") }
        let bound = try Self.withAddress(path) { bind(descriptor, $0, $1) }
        guard bound == 0 else { throw Self.failure("it cannot be made") }
        defer { if !isDone { unlink(path) } }
        if let groupID, lchown(path, uid_t.max, groupID) != 0 {
            throw Self.failure("it cannot be given to the group \(group ?? ""); the agent's user has to be in it")
        }
        guard chmod(path, mode) == 0 else { throw Self.failure("permissions cannot be set") }
        guard listen(descriptor, backlog) == 0, let file = Self.number(path) else {
            throw Self.failure("it cannot be listened on")
        }
        self.descriptor = descriptor
        self.path = path
        self.file = file
        isDone = true
    }

    /// Takes the file away, if it is still the one that was made here.
    func remove() {
        if Self.number(path) == file { unlink(path) }
    }

    private static func number(_ path: String) -> FileNumber? {
        var status = stat()
        guard lstat(path, &status) == 0 else { return nil }
        return FileNumber(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
    }

    /// A socket that nobody listens on any more is what an agent leaves that was killed.
    private static func removeStale(_ path: String) throws(Failure) {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            guard errno == ENOENT else { throw failure("it cannot be looked at") }
            return
        }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw Failure(description: "there is something else than a socket at this path; it was left alone")
        }
        let probe = socket(
            AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard probe >= 0 else { throw failure("no socket") }
        defer { close(probe) }
        let connected = try withAddress(path) { connect(probe, $0, $1) }
        switch connected == 0 ? 0 : errno {
        case ECONNREFUSED:
            guard unlink(path) == 0 else { throw failure("a dead process's socket cannot be removed") }
        case 0, EAGAIN, EINPROGRESS:
            throw Failure(description: "another process is listening there")
        default: throw failure("whether another process is listening there cannot be found out")
        }
    }

    private static func withAddress(
        _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) throws(Failure) -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
            throw Failure(description: "the path is longer than a socket's may be")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }

    private static func groupID(_ name: String) throws(Failure) -> gid_t {
        var buffer = [CChar](repeating: 0, count: 64 << 10)
        var entry = group()
        var found: UnsafeMutablePointer<group>?
        guard getgrnam_r(name, &entry, &buffer, buffer.count, &found) == 0, found != nil else {
            throw Failure(description: "this host has no group \(name)")
        }
        return entry.gr_gid
    }

    private static func failure(_ what: String) -> Failure {
        Failure(description: "\(what): \(String(cString: strerror(errno)))")
    }
}
