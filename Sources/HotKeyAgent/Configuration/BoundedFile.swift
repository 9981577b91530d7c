// `struct stat` stands in a header without a module of its own: it belongs to whichever module the compiler met it in first,
// here libdispatch's, pulled in by the HTTP server.
import CDispatch
import Glibc

/// Reads a small file whole.
enum BoundedFile {
    struct Contents {
        var bytes: [UInt8]
    }

    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    static func read(_ path: String, bytesMax: Int) throws(Failure) -> Contents {
        // Without O_NONBLOCK, opening a FIFO that nobody writes would wait for ever.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw failure(path, errno) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure(path, errno) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw Failure(description: "\(path): expected a file that can be read, found something else")
        }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: min(bytesMax + 1, 64 << 10))
        while bytes.count <= bytesMax {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failure(path, errno) }
            if count == 0 { break }
            bytes += chunk.prefix(count)
        }
        guard bytes.count <= bytesMax else {
            throw Failure(description: "\(path): expected at most \(bytesMax) bytes, found more")
        }
        return Contents(bytes: bytes)
    }

    private static func failure(_ path: String, _ code: Int32) -> Failure {
        Failure(description: "\(path): expected a file that can be read: \(String(cString: strerror(code)))")
    }
}
