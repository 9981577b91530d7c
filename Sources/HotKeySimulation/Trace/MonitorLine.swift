import RESP

/// A line of `MONITOR`: `1339518083.107412 [0 127.0.0.1:60866] "get" "item:42"`.
///
/// Its forms are those of Redis 7.0 (`replicationFeedMonitors` in `src/replication.c`, strings as `sdscatrepr` writes them): the
/// database and the client's address, `unix:PATH` or `lua` in brackets, then each argument in quotes.
enum MonitorLine {
    static let example = "1700000000.123456 [0 127.0.0.1:50000] \"get\" \"item:42\""
    /// What the server answers to `MONITOR`, as `redis-cli` prints it.
    static let status = Array("OK".utf8)

    static func looksLike(_ line: ArraySlice<UInt8>) -> Bool {
        guard let space = line.firstIndex(of: UInt8(ascii: " ")) else { return false }
        return TraceTime.nanoseconds(line[..<space]) != nil
            && line[line.index(after: space)...].first == UInt8(ascii: "[")
    }

    static func read(_ line: ArraySlice<UInt8>, isCut: Bool) throws(TraceError) -> TraceLine {
        if line.elementsEqual(status) { return .blank }
        guard let space = line.firstIndex(of: UInt8(ascii: " ")), let time = TraceTime.nanoseconds(line[..<space])
        else { throw TraceError(expected: "a line of MONITOR such as \(example)", found: line) }
        var rest = line[(space + 1)...]
        guard rest.first == UInt8(ascii: "["), let end = endOfSource(rest) else {
            throw TraceError(
                expected: "a database and a client in brackets behind the time, as in \(example)", found: rest)
        }
        let source = rest[(rest.startIndex + 1)..<end]
        rest = rest[(end + 2)...]
        if source.suffix(scriptMark.count).elementsEqual(scriptMark) { return .ofScript }
        return request(time, try arguments(rest, isCut: isCut))
    }

    private static let scriptMark = Array(" lua".utf8)

    /// The bracket before the first argument: paths of Unix sockets may have brackets and spaces of their own.
    private static func endOfSource(_ text: ArraySlice<UInt8>) -> Int? {
        var index = text.startIndex
        while index + 2 < text.endIndex {
            if text[index] == UInt8(ascii: "]"), text[index + 1] == UInt8(ascii: " "),
                text[index + 2] == UInt8(ascii: "\"")
            {
                return index
            }
            index += 1
        }
        return nil
    }

    /// The arguments of a line in one piece of memory.
    private struct Arguments {
        var bytes: [UInt8] = []
        var ends: [Int] = []

        var count: Int { ends.count }
        func range(_ index: Int) -> Range<Int> { (index == 0 ? 0 : ends[index - 1])..<ends[index] }
        subscript(index: Int) -> [UInt8] { Array(bytes[range(index)]) }
    }

    private static func request(_ time: UInt64, _ arguments: Arguments) -> TraceLine {
        guard var spec = TraceCommand.find(arguments[0]) else { return .unknownCommand }
        if spec.hasSubcommands, arguments.count > 1 {
            guard let exact = TraceCommand.find(spec, subcommand: arguments[1]) else { return .unknownCommand }
            spec = exact
        }
        var positions: [Int] = []
        let isClear = arguments.bytes.withUnsafeBytes { bytes in
            KeyPositions.append(of: spec, argumentCount: arguments.count, to: &positions) { index in
                UnsafeRawBufferPointer(rebasing: bytes[arguments.range(index)])
            }
        }
        // What Redis would refuse for its arguments is no load on a key.
        guard isClear, !positions.isEmpty else { return .withoutKeys }
        return .request(
            TraceRequest(
                nanoseconds: time,
                accesses: positions.map { position in
                    TraceCommand.access(spec, key: arguments[position], count: 1, replyBytes: 0)
                }))
    }

    private static func arguments(_ text: ArraySlice<UInt8>, isCut: Bool) throws(TraceError) -> Arguments {
        var arguments = Arguments()
        var index = text.startIndex
        while index < text.endIndex {
            guard arguments.count < SimulationLimits.argumentsMax else {
                throw TraceError(expected: "at most \(SimulationLimits.argumentsMax) arguments", found: "more")
            }
            guard text[index] == quote else {
                throw TraceError(expected: "an argument in quotes", found: text[index...])
            }
            index += 1
            let isClosed = try take(text, &index, isCut: isCut, into: &arguments.bytes)
            guard isClosed || isCut else {
                throw TraceError(expected: "a quote that closes the last argument", found: "the end of the line")
            }
            arguments.ends.append(arguments.bytes.count)
            if index < text.endIndex {
                guard text[index] == UInt8(ascii: " ") else {
                    throw TraceError(expected: "a space between two arguments", found: text[index...])
                }
                index += 1
            }
        }
        return arguments
    }

    private static let quote = UInt8(ascii: "\"")

    /// Reads up to the closing quote and behind it. Returns whether there was one.
    private static func take(
        _ text: ArraySlice<UInt8>, _ index: inout Int, isCut: Bool, into bytes: inout [UInt8]
    ) throws(TraceError) -> Bool {
        while index < text.endIndex {
            let byte = text[index]
            index += 1
            if byte == quote { return true }
            guard byte == UInt8(ascii: "\\") else {
                bytes.append(byte)
                continue
            }
            guard let (value, length) = escape(text[index...]) else {
                // The cut may have gone through it.
                if isCut, text.endIndex - index < 3 { break }
                throw TraceError(
                    expected: #"an escape of MONITOR: \\ \" \n \r \t \a \b or \xHH"#, found: text[(index - 1)...])
            }
            bytes.append(value)
            index += length
        }
        index = text.endIndex
        return false
    }

    /// The byte that an escape stands for, and how long it is without its backslash.
    private static func escape(_ text: ArraySlice<UInt8>) -> (UInt8, Int)? {
        guard let first = text.first else { return nil }
        switch first {
        case UInt8(ascii: "\\"), UInt8(ascii: "\""): return (first, 1)
        case UInt8(ascii: "n"): return (0x0a, 1)
        case UInt8(ascii: "r"): return (0x0d, 1)
        case UInt8(ascii: "t"): return (0x09, 1)
        case UInt8(ascii: "a"): return (0x07, 1)
        case UInt8(ascii: "b"): return (0x08, 1)
        case UInt8(ascii: "x"):
            guard text.count >= 3, let high = hexadecimal(text[text.startIndex + 1]),
                let low = hexadecimal(text[text.startIndex + 2])
            else { return nil }
            return (high << 4 | low, 3)
        default: return nil
        }
    }

    private static func hexadecimal(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}

/// Commands as the data path looks at them.
enum TraceCommand {
    static func find(_ name: some Collection<UInt8>) -> CommandSpec? {
        Array(name).withUnsafeBytes { CommandTable.redis70.find($0) }
    }

    static func find(_ spec: CommandSpec, subcommand: [UInt8]) -> CommandSpec? {
        subcommand.withUnsafeBytes { CommandTable.redis70.find(spec, subcommand: $0) }
    }

    static func access(_ spec: CommandSpec, key: [UInt8], count: UInt32, replyBytes: Int) -> TraceRequest.Access {
        TraceRequest.Access(
            key: key, reads: spec.mayWrite ? 0 : count, writes: spec.mayWrite ? count : 0, replyBytes: replyBytes,
            // Of the commands of several keys `MGET` alone is taken apart; each of its hot keys is read as by `GET`.
            isRepeatable: spec.isRepeatableRead && (spec.onlyKeyIndex > 0 || spec.name == "mget"),
            isCopyRead: spec.name == "get" || spec.name == "mget")
    }
}
