/// Finds one command at a time in the bytes a client sent, without copying: arguments are ranges relative to the command's
/// first byte.
///
/// The parser keeps its place between calls, so that a command which arrives in many pieces is read once, not once per
/// piece. Between a `needMore` and the next call the caller may append bytes, but the first byte it passes must stay the
/// command's first byte.
///
/// Malformed input throws the error that Redis 7.0 gives (`networking.c`, `processMultibulkBuffer` and
/// `processInlineBuffer`); the parser is then unusable and the connection is to be closed.
public struct CommandParser {
    public struct Argument: Sendable {
        public var offset: Int
        public var length: Int
    }

    public enum Result: Sendable {
        case needMore
        /// A command of ``arguments`` that takes `length` bytes.
        case command(length: Int)
        /// An inline command (`SET a b\r\n`, as telnet sends it) that took `length` bytes: encode it with
        /// ``RESPWriter/writeCommand(_:)`` and parse that instead.
        case inline(length: Int, arguments: [[UInt8]])
        /// Bytes that ask for nothing: an empty line, or an array of no elements.
        case nothing(length: Int)
    }

    /// The arguments of the command just parsed, the name first. The storage is reused by the next call.
    public private(set) var arguments: [Argument] = []

    private let bulkBytesMax: Int
    private let commandBytesMax: Int
    private var argumentsLeft = 0
    private var position = 0
    /// Length of the argument whose header has been read and whose data has not; -1 when a header comes next.
    private var bulkLength = -1

    /// - Parameters:
    ///   - bulkBytesMax: largest single argument.
    ///   - commandBytesMax: largest whole command, and with it the most that a caller ever has to buffer.
    public init(bulkBytesMax: Int = RESPLimits.bulkBytesMax, commandBytesMax: Int = RESPLimits.bulkBytesMax) {
        self.bulkBytesMax = bulkBytesMax
        self.commandBytesMax = commandBytesMax
        arguments.reserveCapacity(16)
    }

    /// Reads on in `bytes`, whose first byte is the first byte of the command.
    public mutating func parse(_ bytes: UnsafeRawBufferPointer) throws(RESPError) -> Result {
        if argumentsLeft == 0 {
            guard !bytes.isEmpty else { return .needMore }
            guard bytes[0] == UInt8(ascii: "*") else { return try parseInline(bytes) }
            guard let end = try lineEnd(bytes, from: 1, tooLong: "too big mbulk count string") else { return .needMore }
            guard let count = WireNumber.parse(bytes, from: 1, to: end), count <= RESPLimits.argumentsMax else {
                throw RESPError(.malformedRequest, "invalid multibulk length")
            }
            guard count > 0 else { return .nothing(length: end + 2) }
            argumentsLeft = Int(count)
            position = end + 2
            arguments.removeAll(keepingCapacity: true)
        }
        while argumentsLeft > 0 {
            if bulkLength < 0 {
                guard position < bytes.count else { return .needMore }
                guard bytes[position] == UInt8(ascii: "$") else {
                    let found = Character(UnicodeScalar(bytes[position]))
                    throw RESPError(.malformedRequest, "expected '$', got '\(found)'")
                }
                guard let end = try lineEnd(bytes, from: position + 1, tooLong: "too big bulk count string") else {
                    return .needMore
                }
                guard let length = WireNumber.parse(bytes, from: position + 1, to: end), length >= 0,
                    length <= bulkBytesMax
                else { throw RESPError(.malformedRequest, "invalid bulk length") }
                position = end + 2
                bulkLength = Int(length)
                guard position + bulkLength + 2 <= commandBytesMax else {
                    throw RESPError(.malformedRequest, "command larger than \(commandBytesMax) bytes")
                }
            }
            guard bytes.count >= position + bulkLength + 2 else { return .needMore }
            arguments.append(Argument(offset: position, length: bulkLength))
            // As Redis, the two bytes behind the data are skipped, not compared.
            position += bulkLength + 2
            bulkLength = -1
            argumentsLeft -= 1
        }
        let length = position
        position = 0
        return .command(length: length)
    }

    /// Index of the `\r` that ends the header whose type byte stands before `start`, `nil` when it (or the byte behind it) has
    /// not arrived. The type byte counts against the limit, as at Redis.
    @inline(__always)
    private func lineEnd(
        _ bytes: UnsafeRawBufferPointer, from start: Int, tooLong: String
    ) throws(RESPError) -> Int? {
        let limit = min(bytes.count - 1, start - 1 + RESPLimits.lineBytesMax)
        var index = start
        while index < limit {
            if bytes[index] == UInt8(ascii: "\r") { return index }
            index += 1
        }
        if bytes.count - (start - 1) > RESPLimits.lineBytesMax { throw RESPError(.malformedRequest, tooLong) }
        return nil
    }

    private func parseInline(_ bytes: UnsafeRawBufferPointer) throws(RESPError) -> Result {
        guard let newline = bytes.prefix(RESPLimits.lineBytesMax + 1).firstIndex(of: UInt8(ascii: "\n")) else {
            if bytes.count > RESPLimits.lineBytesMax {
                throw RESPError(.malformedRequest, "too big inline request")
            }
            return .needMore
        }
        var end = newline
        if end > 0, bytes[end - 1] == UInt8(ascii: "\r") { end -= 1 }
        guard let arguments = InlineArguments.split(UnsafeRawBufferPointer(rebasing: bytes[0..<end])) else {
            throw RESPError(.malformedRequest, "unbalanced quotes in request")
        }
        if arguments.isEmpty { return .nothing(length: newline + 1) }
        return .inline(length: newline + 1, arguments: arguments)
    }
}
