/// All commands of Redis 7.0, found by name whatever the case.
public struct CommandTable: Sendable {
    public static let redis70 = CommandTable(lines: CommandTableData.lines)
    /// The version whose commands these are.
    public static var redisVersion: String { CommandTableData.redisVersion }

    /// Sorted by name, subcommands behind their command.
    public let commands: [CommandSpec]
    private let slots: [CommandSpec?]
    /// Names of up to seven letters, packed and in capitals, with ``CommandSpec/index``: what nearly every command is found by.
    private let shortNames: [UInt64]
    private let shortIndices: [Int16]

    /// Longest name that is looked up; longer ones are unknown without being read.
    private static let nameBytesMax = 32
    /// Slots for each command: the table stays a quarter full, so that most look-ups end at the first slot.
    private static let slotsPerCommand = 4

    init(lines: String) {
        let rows = lines.split(separator: "\n").map { $0.split(separator: " ") }
        let containers = Set(
            rows.compactMap { row in row[0].firstIndex(of: "|").map { row[0][..<$0] } })
        commands = rows.enumerated().map { index, row in
            CommandSpec(
                index: index, name: String(row[0]), arity: Int(row[1])!,
                flags: CommandSpec.Flags(row[2].map { CommandSpec.Flags.letter($0)! }),
                keySpecifications: row[3] == "-" ? [] : row[3].split(separator: ";").map { KeySpecification(line: $0) },
                hasSubcommands: containers.contains(row[0]))
        }
        var size = 1
        while size < commands.count * Self.slotsPerCommand { size *= 2 }
        var slots = [CommandSpec?](repeating: nil, count: size)
        for command in commands {
            var slot = command.upperName.withUnsafeBytes { Self.hash($0) } & (size - 1)
            while slots[slot] != nil { slot = (slot + 1) & (size - 1) }
            slots[slot] = command
        }
        self.slots = slots
        (shortNames, shortIndices) = Self.shortNames(commands)
    }

    /// Only names of letters alone: clearing one bit makes the two cases of a letter one, and would make other pairs of bytes one.
    private static func shortNames(_ commands: [CommandSpec]) -> ([UInt64], [Int16]) {
        let count = commands.count.nextPowerOfTwo * slotsPerCommand
        var names = [UInt64](repeating: 0, count: count)
        var indices = [Int16](repeating: -1, count: count)
        for command in commands
        where command.upperName.count <= packedBytes && command.upperName.allSatisfy({ (0x41...0x5A).contains($0) }) {
            let name = command.upperName.withUnsafeBytes { packed($0) }
            var slot = shortSlot(name, count)
            while indices[slot] >= 0 { slot = (slot + 1) & (count - 1) }
            names[slot] = name
            indices[slot] = Int16(command.index)
        }
        return (names, indices)
    }

    /// One byte less than fits, for the mark before the name that tells its length.
    private static let packedBytes = 7

    @inline(__always)
    private static func packed(_ name: UnsafeRawBufferPointer) -> UInt64 {
        var packed: UInt64 = 1
        for byte in name { packed = packed << 8 | UInt64(byte & 0xDF) }
        return packed
    }

    @inline(__always)
    private static func shortSlot(_ name: UInt64, _ count: Int) -> Int {
        Int(truncatingIfNeeded: (name &* 0x9E37_79B9_7F4A_7C15) >> 40) & (count - 1)
    }

    /// ``CommandSpec/index`` of a command whose name is short and of letters alone, -1 for every other. Quick, and retains
    /// nothing.
    @inline(__always)
    public func shortIndex(of name: UnsafeRawBufferPointer) -> Int {
        guard name.count <= Self.packedBytes else { return -1 }
        let packed = Self.packed(name)
        var slot = Self.shortSlot(packed, shortNames.count)
        while shortNames[slot] != packed {
            if shortIndices[slot] < 0 { return -1 }
            slot = (slot + 1) & (shortNames.count - 1)
        }
        return Int(shortIndices[slot])
    }

    /// The command of that name; for one with subcommands ask again with ``find(_:subcommand:)``.
    public func find(_ name: UnsafeRawBufferPointer) -> CommandSpec? {
        guard name.count <= Self.nameBytesMax else { return nil }
        var slot = Self.hash(name) & (slots.count - 1)
        while let command = slots[slot] {
            if Self.equalsIgnoringCase(name, upper: command.upperName) { return command }
            slot = (slot + 1) & (slots.count - 1)
        }
        return nil
    }

    public func find(_ command: CommandSpec, subcommand: UnsafeRawBufferPointer) -> CommandSpec? {
        guard command.name.utf8.count + 1 + subcommand.count <= Self.nameBytesMax else { return nil }
        let name = Array(command.name.utf8) + [UInt8(ascii: "|")] + Array(subcommand)
        return name.withUnsafeBytes { find($0) }
    }

    /// `word` in capitals.
    public static func equalsIgnoringCase(_ bytes: UnsafeRawBufferPointer, _ word: String) -> Bool {
        guard bytes.count == word.utf8.count else { return false }
        return zip(bytes, word.utf8).allSatisfy { upper($0) == $1 }
    }

    @inline(__always)
    private static func equalsIgnoringCase(_ bytes: UnsafeRawBufferPointer, upper other: [UInt8]) -> Bool {
        guard bytes.count == other.count else { return false }
        for index in 0..<bytes.count where Self.upper(bytes[index]) != other[index] { return false }
        return true
    }

    @inline(__always)
    private static func upper(_ byte: UInt8) -> UInt8 {
        byte >= UInt8(ascii: "a") && byte <= UInt8(ascii: "z") ? byte & 0xDF : byte
    }

    /// FNV-1a over the name in capitals: names are a few bytes long and known, so nothing stronger is needed.
    @inline(__always)
    private static func hash(_ bytes: UnsafeRawBufferPointer) -> Int {
        var hash: UInt32 = 2_166_136_261
        for byte in bytes { hash = (hash ^ UInt32(upper(byte))) &* 16_777_619 }
        return Int(hash ^ hash >> 15)
    }
}

extension Int {
    fileprivate var nextPowerOfTwo: Int { 1 << (Int.bitWidth - (self - 1).leadingZeroBitCount) }
}

extension KeySpecification {
    /// Reads the form that `script/generate-command-table` writes. The data is ours: what does not parse is a bug.
    init(line: Substring) {
        if line == "u" {
            self.init(begin: .unknown, find: .unknown)
            return
        }
        let findStart = line.dropFirst().firstIndex { $0 == "r" || $0 == "n" }!
        let beginText = line[line.index(after: line.startIndex)..<findStart]
        let begin: Begin
        if line.first == "i" {
            begin = .index(Int(beginText)!)
        } else {
            let parts = beginText.split(separator: ",")
            begin = .keyword(String(parts[0]), startFrom: Int(parts[1])!)
        }
        let numbers = line[line.index(after: findStart)...].split(separator: ",").map { Int($0)! }
        if line[findStart] == "r" {
            self.init(begin: begin, find: .range(last: numbers[0], step: numbers[1], limit: numbers[2]))
        } else {
            self.init(begin: begin, find: .number(index: numbers[0], firstKey: numbers[1], step: numbers[2]))
        }
    }
}
