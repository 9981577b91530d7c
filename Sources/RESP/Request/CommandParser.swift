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

        @usableFromInline
        init(offset: Int, length: Int) {
            self.offset = offset
            self.length = length
        }
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

    /// Arguments whose storage is used again by the next command.
    public struct Arguments: RandomAccessCollection, Sendable {
        @usableFromInline var storage: [Argument] = []
        public private(set) var count = 0
        public var startIndex: Int { 0 }
        public var endIndex: Int { count }

        init() { storage.reserveCapacity(16) }

        @inlinable
        public subscript(index: Int) -> Argument {
            precondition(index < count, "a command has only so many arguments")
            return storage[index]
        }

        @inline(__always)
        mutating func append(_ argument: Argument) {
            if count < storage.count { storage[count] = argument } else { storage.append(argument) }
            count += 1
        }

        /// Forgets the arguments; the storage of a command with very many of them goes, too.
        @inline(__always)
        mutating func removeAll() {
            count = 0
            if storage.count > RESPLimits.keptArgumentsMax { storage = [] }
        }
    }

    /// The arguments of the command just parsed, the name first.
    public private(set) var arguments = Arguments()

    /// The bytes of one of them in `command`, which must begin where the command did.
    @inlinable
    public func argument(_ index: Int, of command: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        let argument = arguments[index]
        return UnsafeRawBufferPointer(rebasing: command[argument.offset..<argument.offset &+ argument.length])
    }

    let bulkBytesMax: Int
    let commandBytesMax: Int
    var argumentsLeft = 0
    var position = 0
    /// Length of the argument whose header has been read and whose data has not; -1 when a header comes next.
    var bulkLength = -1

    /// - Parameters:
    ///   - bulkBytesMax: largest single argument.
    ///   - commandBytesMax: largest whole command, and with it the most that a caller ever has to buffer.
    public init(bulkBytesMax: Int = RESPLimits.bulkBytesMax, commandBytesMax: Int = RESPLimits.bulkBytesMax) {
        self.bulkBytesMax = bulkBytesMax
        self.commandBytesMax = commandBytesMax
    }

    /// Reads on in `bytes`, whose first byte is the first byte of the command.
    public mutating func parse(_ bytes: UnsafeRawBufferPointer) throws(RESPError) -> Result {
        if argumentsLeft == 0 {
            guard !bytes.isEmpty else { return .needMore }
            guard bytes[0] == UInt8(ascii: "*") else { return try parseInline(bytes) }
            if let (count, end) = shortHeader(bytes, at: 0), count > 0 {
                argumentsLeft = count
                position = end
            } else {
                guard let end = try lineEnd(bytes, from: 1, tooLong: "too big mbulk count string") else {
                    return .needMore
                }
                guard let count = WireNumber.parse(bytes, from: 1, to: end), count <= RESPLimits.argumentsMax else {
                    throw RESPError(.malformedRequest, "invalid multibulk length")
                }
                guard count > 0 else { return .nothing(length: end + 2) }
                argumentsLeft = Int(count)
                position = end + 2
            }
            arguments.removeAll()
        }
        while argumentsLeft > 0 {
            if bulkLength < 0 {
                guard position < bytes.count else { return .needMore }
                guard bytes[position] == UInt8(ascii: "$") else {
                    let found = Character(UnicodeScalar(bytes[position]))
                    throw RESPError(.malformedRequest, "expected '$', got '\(found)'")
                }
                if let (length, end) = shortHeader(bytes, at: position), length <= bulkBytesMax {
                    position = end
                    bulkLength = length
                } else {
                    guard let end = try lineEnd(bytes, from: position + 1, tooLong: "too big bulk count string") else {
                        return .needMore
                    }
                    guard let length = WireNumber.parse(bytes, from: position + 1, to: end), length >= 0,
                        length <= bulkBytesMax
                    else { throw RESPError(.malformedRequest, "invalid bulk length") }
                    position = end + 2
                    bulkLength = Int(length)
                }
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

    /// A header as nearly all are, of one to four digits and all there: its number, and the index behind it. `nil` says nothing:
    /// the long way decides.
    @inline(__always)
    private func shortHeader(_ bytes: UnsafeRawBufferPointer, at start: Int) -> (number: Int, end: Int)? {
        guard start + 7 <= bytes.count else { return nil }
        var number = Int(bytes[start + 1] &- UInt8(ascii: "0"))
        guard number <= 9 else { return nil }
        var index = start + 2
        while true {
            let digit = bytes[index] &- UInt8(ascii: "0")
            guard digit <= 9 else { break }
            // Redis takes no leading zeros.
            guard number > 0, index < start + 5 else { return nil }
            number = number * 10 + Int(digit)
            index += 1
        }
        return bytes[index] == UInt8(ascii: "\r") ? (number, index + 2) : nil
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
