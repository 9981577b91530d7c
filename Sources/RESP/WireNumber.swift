/// Decimal integers as Redis reads them in headers: an optional minus, no plus, no leading zeros, no blanks.
enum WireNumber {
    /// `nil` where Redis's `string2ll` refuses.
    @inline(__always)
    static func parse(_ bytes: UnsafeRawBufferPointer, from start: Int, to end: Int) -> Int64? {
        var index = start
        guard index < end else { return nil }
        let negative = bytes[index] == UInt8(ascii: "-")
        if negative { index += 1 }
        guard index < end, end - index <= 19 else { return nil }
        let first = bytes[index] &- UInt8(ascii: "0")
        guard first <= 9 else { return nil }
        if first == 0 { return end - index == 1 && !negative ? 0 : nil }
        var value = UInt64(first)
        index += 1
        while index < end {
            let digit = bytes[index] &- UInt8(ascii: "0")
            guard digit <= 9 else { return nil }
            // 19 digits fit UInt64, so only the final conversion can overflow.
            value = value &* 10 &+ UInt64(digit)
            index += 1
        }
        if negative { return value <= UInt64(Int64.max) + 1 ? Int64(truncatingIfNeeded: 0 &- value) : nil }
        return Int64(exactly: value)
    }
}
