/// How copies are named and what is stored in them.
///
/// A copy's name is `__hkcopy:<number>:<key>`, the number counting from 1 (number 0 is the original under its own name), so
/// that no two copies share a name and `SCAN … MATCH __hkcopy:*` finds them all. What is stored starts with one byte: `v`
/// and then the value; `n` alone, home has no such key; or `t` alone, a tombstone that says "ask home".
public enum CopyCodec {
    /// The first byte of a stored value.
    public static let valueHeader = UInt8(ascii: "v")
    /// All that a tombstone holds.
    public static let tombstone: [UInt8] = [UInt8(ascii: "t")]
    /// All that is stored of a key that home does not have. Without it each read of a missing key would ask a copy in vain and
    /// then home, which is twice the load of no copies at all.
    public static let missing: [UInt8] = [UInt8(ascii: "n")]
    /// What every copy's name starts with.
    public static let namePrefix: [UInt8] = Array("__hkcopy:".utf8)

    /// What a copy holds.
    public enum Content: Sendable, Hashable {
        /// The value is what follows the first `headerBytes` bytes.
        case value(headerBytes: Int)
        /// Home had no such key.
        case missing
        /// A write passed: ask home.
        case tombstone
        /// Not written by an agent: ask home.
        case foreign
    }

    /// The name of a copy; the key itself for copy 0.
    public static func name(key: UnsafeRawBufferPointer, copy: Int) -> [UInt8] {
        precondition(copy >= 0, "copies are numbered from 0")
        if copy == 0 { return Array(key) }
        var name = namePrefix
        name.reserveCapacity(namePrefix.count + 4 + key.count)
        name += String(copy).utf8
        name.append(UInt8(ascii: ":"))
        name += key
        return name
    }

    /// The name of a copy; the key itself for copy 0.
    public static func name(key: [UInt8], copy: Int) -> [UInt8] {
        key.withUnsafeBytes { name(key: $0, copy: copy) }
    }

    /// Whether a key is a copy's name: such a key is no key of an app, and is neither counted nor copied again.
    public static func isCopyName(_ key: UnsafeRawBufferPointer) -> Bool {
        // Nearly every key is told by its first byte, which every request looks at.
        key.first == UInt8(ascii: "_") && key.count > namePrefix.count
            && namePrefix.withUnsafeBytes {
                bytesEqual($0, UnsafeRawBufferPointer(rebasing: key[..<namePrefix.count]))
            }
    }

    /// What to store for a value. Where the value already lies in a buffer, write `valueHeader` before it instead.
    public static func encode(value: UnsafeRawBufferPointer) -> [UInt8] {
        var stored = [valueHeader]
        stored.reserveCapacity(1 + value.count)
        stored += value
        return stored
    }

    /// Reads what a copy holds. Allocates nothing.
    public static func decode(_ stored: UnsafeRawBufferPointer) -> Content {
        guard let header = stored.first else { return .foreign }
        if header == valueHeader { return .value(headerBytes: 1) }
        guard stored.count == 1 else { return .foreign }
        return header == tombstone[0] ? .tombstone : header == missing[0] ? .missing : .foreign
    }
}
