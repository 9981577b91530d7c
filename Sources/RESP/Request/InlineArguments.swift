/// Splits an inline command into arguments by the quoting rules of redis-cli and `redis.conf` (`sdssplitargs`): blanks
/// separate; `"…"` knows `\n \r \t \b \a \xHH`; `'…'` knows only `\'`; a closing quote must be followed by a blank.
enum InlineArguments {
    /// `nil` when the quotes do not balance.
    static func split(_ line: UnsafeRawBufferPointer) -> [[UInt8]]? {
        var arguments: [[UInt8]] = []
        var index = 0
        while true {
            while index < line.count, isBlank(line[index]) { index += 1 }
            guard index < line.count else { return arguments }
            guard let argument = next(line, &index) else { return nil }
            arguments.append(argument)
        }
    }

    private static func next(_ line: UnsafeRawBufferPointer, _ index: inout Int) -> [UInt8]? {
        var argument: [UInt8] = []
        while index < line.count, !isBlank(line[index]) {
            let byte = line[index]
            index += 1
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "'"):
                guard quoted(line, &index, by: byte, into: &argument) else { return nil }
                guard index == line.count || isBlank(line[index]) else { return nil }
                return argument
            default:
                argument.append(byte)
            }
        }
        return argument
    }

    /// Reads up to the closing quote; false when there is none.
    private static func quoted(
        _ line: UnsafeRawBufferPointer, _ index: inout Int, by quote: UInt8, into argument: inout [UInt8]
    ) -> Bool {
        while index < line.count {
            let byte = line[index]
            index += 1
            if byte == quote { return true }
            guard byte == UInt8(ascii: "\\"), index < line.count else {
                argument.append(byte)
                continue
            }
            if quote == UInt8(ascii: "'") {
                if line[index] == quote {
                    argument.append(quote)
                    index += 1
                } else {
                    argument.append(byte)
                }
            } else {
                escaped(line, &index, into: &argument)
            }
        }
        return false
    }

    private static func escaped(_ line: UnsafeRawBufferPointer, _ index: inout Int, into argument: inout [UInt8]) {
        let code = line[index]
        index += 1
        switch code {
        case UInt8(ascii: "n"): argument.append(0x0A)
        case UInt8(ascii: "r"): argument.append(0x0D)
        case UInt8(ascii: "t"): argument.append(0x09)
        case UInt8(ascii: "b"): argument.append(0x08)
        case UInt8(ascii: "a"): argument.append(0x07)
        case UInt8(ascii: "x"):
            if index + 1 < line.count, let high = hex(line[index]), let low = hex(line[index + 1]) {
                argument.append(high << 4 | low)
                index += 2
            } else {
                argument.append(code)
            }
        default: argument.append(code)
        }
    }

    private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) || byte == 0 }

    private static func hex(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
