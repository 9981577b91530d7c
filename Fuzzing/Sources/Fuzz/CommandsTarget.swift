import NIOCore
import RESP

/// ``CommandParser`` on bytes of a client: what it makes of them does not depend on the pieces in which they come, its ranges lie
/// inside the command, and a limit that is passed is an error.
enum CommandsTarget {
    enum Event: Equatable {
        case command([[UInt8]])
        case inline([[UInt8]])
        case nothing(Int)
        case error(String)
    }

    private static let commandBytesMax = 4096
    private static let bulkBytesMax = 1024

    static func run(_ bytes: UnsafeRawBufferPointer) -> CInt {
        let whole = events(bytes, pieces: [bytes.count])
        require(whole == events(bytes, pieces: (1...max(1, bytes.count)).map { $0 }), "byte by byte is as at once")
        for split in splits(bytes.count) {
            require(whole == events(bytes, pieces: [split, bytes.count]), "in two pieces at \(split) is as at once")
        }
        for event in whole {
            guard case .command(let words) = event else { continue }
            var buffer = ByteBuffer()
            RESPWriter.writeCommand(words, to: &buffer)
            let again = buffer.withUnsafeReadableBytes { events($0, pieces: [$0.count]) }
            // Written without the leading zeros that a client may use, it is never longer.
            require(again == [event], "a command that is written and read is the same")
        }
        return 0
    }

    /// Every place where short input can be cut, and some of long input.
    static func splits(_ count: Int) -> some Sequence<Int> {
        stride(from: 1, to: max(1, count), by: max(1, count / 64))
    }

    /// - Parameter pieces: how many bytes there are each time, as they come.
    private static func events(_ bytes: UnsafeRawBufferPointer, pieces: [Int]) -> [Event] {
        var parser = CommandParser(bulkBytesMax: bulkBytesMax, commandBytesMax: commandBytesMax)
        var found: [Event] = []
        var start = 0
        for end in pieces {
            while start < end {
                let rest = UnsafeRawBufferPointer(rebasing: bytes[start..<end])
                do throws(RESPError) {
                    let length: Int
                    switch try parser.parse(rest) {
                    case .needMore: length = 0
                    case .command(let taken):
                        require(taken > 0 && taken <= rest.count, "a command lies in what there is")
                        require(taken <= commandBytesMax, "a command is no longer than its limit")
                        found.append(
                            .command(
                                parser.arguments.indices.map { index in
                                    let argument = parser.arguments[index]
                                    require(
                                        argument.offset + argument.length <= taken, "an argument lies in its command")
                                    require(argument.length <= bulkBytesMax, "an argument is no longer than its limit")
                                    return Array(parser.argument(index, of: rest))
                                }))
                        length = taken
                    case .inline(let taken, let arguments):
                        require(taken > 0 && taken <= rest.count, "an inline command lies in what there is")
                        found.append(.inline(arguments))
                        length = taken
                    case .nothing(let taken):
                        require(taken > 0 && taken <= rest.count, "nothing lies in what there is")
                        found.append(.nothing(taken))
                        length = taken
                    }
                    if length == 0 { break }
                    start += length
                } catch {
                    found.append(.error(error.message))
                    return found
                }
            }
        }
        return found
    }
}
