import HotKeyMitigation

/// The order in which one `SCAN` goes through several nodes, and the cursor that says how far it is.
///
/// Clients keep no state but the cursor and may go on with it on another connection, at another agent, or after the agent has been
/// restarted. So the cursor says it all: its low 20 bits are a number made of a node's address, the bits above are that node's own
/// cursor. Nodes are gone through by ascending number. A node's own cursor is below the size of its table of keys, so the whole
/// stays below 2^53 up to 2^32 keys a node: some clients read it as a floating-point number.
///
/// Redis promises that a key which is there from the beginning to the end of a scan is returned at least once. Here it holds also
/// when the topology changes in between, for every key whose home stays the same. Were nodes numbered by their place in the topology,
/// it would not:
///
///     nodes a, b, c; the scan has finished a and stands at number 1
///     a is taken out; number 1 is now c; nobody scans b
///
/// By the address, b's number is still above a's whoever else comes or goes. (Two of n nodes have the same number with a probability
/// of n²/2^21; then the later address takes the next number, and a change that parts the two may cost a scan under way one of them.)
struct ScanOrder {
    private static let numberBits: UInt64 = 20
    private static let numberMask: UInt64 = (1 << numberBits) - 1

    /// Ascending; 0 is no number, so that no cursor but that of the end is 0.
    private let numbers: [UInt64]
    /// Indices of the nodes, by ``numbers``.
    private let nodes: [Int]

    init(addresses: [String]) {
        var owners: [UInt64: Int] = [:]
        for index in addresses.indices.sorted(by: { (addresses[$0], $0) < (addresses[$1], $1) }) {
            // Every agent of every version must make the same number, which this hash is a contract for.
            let hash = UInt64(Array(addresses[index].utf8).withUnsafeBytes { KeyHash.fnv1a_64.hash($0) })
            var number = (hash ^ hash >> Self.numberBits) & Self.numberMask
            while number == 0 || owners[number] != nil { number = (number + 1) & Self.numberMask }
            owners[number] = index
        }
        numbers = owners.keys.sorted()
        nodes = numbers.map { owners[$0]! }
    }

    struct Place: Hashable {
        /// Index among the addresses that the order was made of.
        var node: Int
        /// What to ask it with.
        var cursor: UInt64
    }

    /// Where a client's cursor stands. What no agent gave out stands somewhere, too, as at Redis; behind the last node (which may have
    /// been taken out) it stands at the beginning of the last one that there is. `nil` without nodes.
    func place(of cursor: UInt64) -> Place? {
        let number = cursor & Self.numberMask
        guard let last = nodes.last else { return nil }
        guard let index = numbers.firstIndex(where: { $0 >= number }) else { return Place(node: last, cursor: 0) }
        return Place(node: nodes[index], cursor: numbers[index] == number ? cursor >> Self.numberBits : 0)
    }

    /// The client's cursor after a node has answered with its own; 0 at the end, `nil` when it cannot be expressed.
    func cursor(after node: Int, _ cursor: UInt64) -> UInt64? {
        guard let index = nodes.firstIndex(of: node) else { return nil }
        if cursor == 0 { return index + 1 < numbers.count ? numbers[index + 1] : 0 }
        guard cursor >> (64 - Self.numberBits) == 0 else { return nil }
        return cursor << Self.numberBits | numbers[index]
    }

    /// A cursor as Redis reads it (`strtoul`); `nil` is its "invalid cursor".
    static func parse(_ text: UnsafeRawBufferPointer) -> UInt64? {
        var digits = text[...]
        guard let first = digits.first else { return 0 }
        let isNegative = first == UInt8(ascii: "-")
        if isNegative || first == UInt8(ascii: "+") { digits = digits.dropFirst() }
        guard !digits.isEmpty else { return nil }
        var value: UInt64 = 0
        for digit in digits {
            guard digit >= UInt8(ascii: "0"), digit <= UInt8(ascii: "9") else { return nil }
            let (tenfold, overflows) = value.multipliedReportingOverflow(by: 10)
            let (sum, overflowsToo) = tenfold.addingReportingOverflow(UInt64(digit - UInt8(ascii: "0")))
            guard !overflows, !overflowsToo else { return nil }
            value = sum
        }
        return isNegative ? 0 &- value : value
    }
}
