/// The rest of a command that is passed on while it still arrives: finds where it ends and holds nothing of it.
public struct CommandTail: Sendable {
    /// Of the argument whose header has been read, with the two bytes behind it.
    private var bulkLeft: Int
    /// Arguments whose headers are still to come.
    private var argumentsLeft: Int
    private var header: [UInt8] = []
    private var bytesLeftMax: Int
    private let bulkBytesMax: Int
    private let commandBytesMax: Int

    init(bulkLeft: Int, argumentsLeft: Int, bytesLeftMax: Int, bulkBytesMax: Int, commandBytesMax: Int) {
        self.bulkLeft = bulkLeft
        self.argumentsLeft = argumentsLeft
        self.bytesLeftMax = bytesLeftMax
        self.bulkBytesMax = bulkBytesMax
        self.commandBytesMax = commandBytesMax
    }

    public var isComplete: Bool { bulkLeft == 0 && argumentsLeft == 0 && header.isEmpty }

    /// Takes what belongs to the command.
    ///
    /// Errors: those of ``CommandParser``.
    /// - Returns: how many bytes from the beginning do; fewer than there are only when the command is complete.
    public mutating func consume(_ bytes: UnsafeRawBufferPointer) throws(RESPError) -> Int {
        var index = 0
        while index < bytes.count, !isComplete {
            if bulkLeft > 0 {
                let taken = min(bulkLeft, bytes.count - index)
                bulkLeft -= taken
                index += taken
            } else {
                header.append(bytes[index])
                index += 1
                if header.last == UInt8(ascii: "\n") { try readHeader() }
                if header.count > Self.headerBytesMax { throw RESPError(.malformedRequest, "invalid bulk length") }
            }
        }
        return index
    }

    /// `$`, a number, and what ends the line.
    private static let headerBytesMax = 32

    private mutating func readHeader() throws(RESPError) {
        guard header[0] == UInt8(ascii: "$") else {
            throw RESPError(.malformedRequest, "expected '$', got '\(Character(UnicodeScalar(header[0])))'")
        }
        let end = header.count - 2
        let length = header.withUnsafeBytes { bytes in
            end > 0 && bytes[end] == UInt8(ascii: "\r") ? WireNumber.parse(bytes, from: 1, to: end) : nil
        }
        guard let length, length >= 0, length <= bulkBytesMax else {
            throw RESPError(.malformedRequest, "invalid bulk length")
        }
        bytesLeftMax -= header.count + Int(length) + 2
        guard bytesLeftMax >= 0 else {
            throw RESPError(.malformedRequest, "command larger than \(commandBytesMax) bytes")
        }
        header.removeAll(keepingCapacity: true)
        bulkLeft = Int(length) + 2
        argumentsLeft -= 1
    }
}

extension CommandParser {
    /// Of a command that has not arrived whole: the length of the argument whose header has been read and whose data has not, and
    /// how many arguments the command has in all. ``arguments`` are those before it.
    public var unfinished: (bulkLength: Int, argumentCount: Int, bytesBefore: Int)? {
        guard argumentsLeft > 0, bulkLength >= 0 else { return nil }
        return (bulkLength, arguments.count + argumentsLeft, position)
    }

    /// Gives the command in hand up to the caller, who passes on its bytes up to the unfinished argument's data and hands everything
    /// from there on to the tail. The next bytes that this parser sees are those of the next command.
    public mutating func handOver() -> CommandTail {
        precondition(unfinished != nil, "only an unfinished command is handed over")
        let tail = CommandTail(
            bulkLeft: bulkLength + 2, argumentsLeft: argumentsLeft - 1,
            bytesLeftMax: commandBytesMax - position - bulkLength - 2, bulkBytesMax: bulkBytesMax,
            commandBytesMax: commandBytesMax)
        argumentsLeft = 0
        position = 0
        bulkLength = -1
        return tail
    }
}
