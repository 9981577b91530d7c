import Glibc

/// The lines of a file or of standard input, one after the other: a file of any length takes the memory of one line.
final class LineFile {
    struct Line {
        /// Without its end, and no more of it than was asked for.
        var bytes: ArraySlice<UInt8>
        /// From 1.
        var number: Int
        /// Whether it was longer.
        var isCut: Bool
        /// Whether the file ended in the middle of it.
        var isUnfinished: Bool
    }

    let name: String
    private let descriptor: Int32
    private let lineBytesMax: Int
    private var buffer: [UInt8]
    private var begin = 0
    private var end = 0
    private var line: [UInt8] = []
    private var number = 0

    private static let bufferBytes = 256 << 10

    /// - Parameter file: `-` for standard input.
    init(_ file: String, lineBytesMax: Int) throws {
        name = file == "-" ? "standard input" : file
        self.lineBytesMax = lineBytesMax
        buffer = Array(repeating: 0, count: Self.bufferBytes)
        descriptor = file == "-" ? STDIN_FILENO : Glibc.open(file, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure() }
    }

    deinit {
        if descriptor > STDERR_FILENO { Glibc.close(descriptor) }
    }

    /// Nil at the end.
    func next() throws -> Line? {
        line.removeAll(keepingCapacity: true)
        var isCut = false
        var hasBytes = false
        while true {
            if begin == end {
                guard try fill() else {
                    guard hasBytes else { return nil }
                    number += 1
                    return Line(bytes: line[...], number: number, isCut: isCut, isUnfinished: true)
                }
            }
            hasBytes = true
            let newline = buffer[begin..<end].firstIndex(of: UInt8(ascii: "\n"))
            let part = buffer[begin..<(newline ?? end)]
            let room = lineBytesMax - line.count
            isCut = isCut || part.count > room
            line += part.prefix(room)
            begin = newline.map { $0 + 1 } ?? end
            if newline != nil {
                number += 1
                return Line(bytes: line[...], number: number, isCut: isCut, isUnfinished: false)
            }
        }
    }

    private func fill() throws -> Bool {
        while true {
            let count = buffer.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failure() }
            (begin, end) = (0, count)
            return count > 0
        }
    }

    private func failure() -> Failure {
        Failure(.failed, "\(name) cannot be read: \(String(cString: strerror(errno)))")
    }
}
