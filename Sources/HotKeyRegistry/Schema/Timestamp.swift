/// A point in time as the documents hold it: RFC 3339 in UTC, to the millisecond.
///
/// Written `2026-11-22T10:00:00Z`, with `.123` where there are milliseconds. Read with any number of fractional digits and
/// any offset. Two hosts' clocks need not agree: what depends on a time is decided by one host.
public struct Timestamp: Sendable, Hashable, Comparable {
    /// From 1970-01-01T00:00:00Z, leap seconds not counted. Between the years 0 and 9999.
    public var millisecondsSince1970: Int64

    public init(millisecondsSince1970: Int64) {
        self.millisecondsSince1970 = min(max(millisecondsSince1970, Self.earliest), Self.latest)
    }

    private static let earliest: Int64 = -62_167_219_200_000
    private static let latest: Int64 = 253_402_300_799_999

    public static func < (left: Timestamp, right: Timestamp) -> Bool {
        left.millisecondsSince1970 < right.millisecondsSince1970
    }

    /// Saturates at the years 0 and 9999.
    public func advanced(byMilliseconds milliseconds: Int64) -> Timestamp {
        let (sum, overflow) = millisecondsSince1970.addingReportingOverflow(milliseconds)
        return Timestamp(millisecondsSince1970: overflow ? (milliseconds < 0 ? .min : .max) : sum)
    }

    public func advanced(by duration: Duration) -> Timestamp {
        advanced(byMilliseconds: duration.wholeMilliseconds)
    }
}

extension Duration {
    /// Rounded towards zero, saturating.
    var wholeMilliseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000)
        guard !overflow else { return seconds < 0 ? .min : .max }
        let (sum, sumOverflow) = product.addingReportingOverflow(attoseconds / 1_000_000_000_000_000)
        return sumOverflow ? (seconds < 0 ? .min : .max) : sum
    }
}

// MARK: - RFC 3339

// Days from civil dates and back: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms". Years here are
// proleptic Gregorian; an era is 400 years, 146,097 days.
extension Timestamp: CustomStringConvertible {
    public var description: String {
        let day = millisecondsSince1970.floorDivided(by: 86_400_000)
        let inDay = millisecondsSince1970 - day * 86_400_000
        let (year, month, dayOfMonth) = Self.civil(fromDay: day)
        func pad(_ value: Int64, _ width: Int) -> String {
            let digits = "\(value)"
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        let date = "\(pad(year, 4))-\(pad(month, 2))-\(pad(dayOfMonth, 2))"
        let seconds = inDay / 1_000
        let time = "\(pad(seconds / 3_600, 2)):\(pad(seconds / 60 % 60, 2)):\(pad(seconds % 60, 2))"
        let fraction = inDay % 1_000
        return fraction == 0 ? "\(date)T\(time)Z" : "\(date)T\(time).\(pad(fraction, 3))Z"
    }

    /// Nil for anything that is not RFC 3339. Digits below the millisecond are cut off; a leap second counts as the
    /// second before it.
    public init?(_ text: String) {
        var text = text
        guard let parsed = text.withUTF8({ Timestamp(utf8: $0[...]) }) else { return nil }
        self = parsed
    }

    init?(utf8 text: Slice<UnsafeBufferPointer<UInt8>>) {
        var reader = DateReader(rest: text)
        guard let year = reader.number(4, 0...9_999), reader.take("-"), let month = reader.number(2, 1...12),
            reader.take("-"), let day = reader.number(2, 1...Self.days(inMonth: month, of: year)),
            reader.take("T") || reader.take("t"), let hour = reader.number(2, 0...23), reader.take(":"),
            let minute = reader.number(2, 0...59), reader.take(":"), let second = reader.number(2, 0...60)
        else { return nil }
        var milliseconds: Int64 = 0
        if reader.take(".") {
            var scale: Int64 = 100
            var count = 0
            while let digit = reader.number(1, 0...9) {
                milliseconds += digit * scale
                scale /= 10
                count += 1
            }
            guard count > 0 else { return nil }
        }
        var offsetMinutes: Int64 = 0
        if !reader.take("Z"), !reader.take("z") {
            let sign: Int64
            if reader.take("+") { sign = 1 } else if reader.take("-") { sign = -1 } else { return nil }
            guard let hours = reader.number(2, 0...23), reader.take(":"), let minutes = reader.number(2, 0...59) else {
                return nil
            }
            offsetMinutes = sign * (hours * 60 + minutes)
        }
        guard reader.rest.isEmpty else { return nil }
        let seconds =
            Self.day(fromCivil: year, month, day) * 86_400 + hour * 3_600 + minute * 60 + min(second, 59)
            - offsetMinutes * 60
        self.init(millisecondsSince1970: seconds * 1_000 + milliseconds)
    }

    private static func days(inMonth month: Int64, of year: Int64) -> Int64 {
        let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
        switch month {
        case 2: return isLeap ? 29 : 28
        case 4, 6, 9, 11: return 30
        default: return 31
        }
    }

    private static func day(fromCivil year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
        let year = month <= 2 ? year - 1 : year
        let era = year.floorDivided(by: 400)
        let yearOfEra = year - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        return era * 146_097 + dayOfEra - 719_468
    }

    private static func civil(fromDay day: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let shifted = day + 719_468
        let era = shifted.floorDivided(by: 146_097)
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
    }
}

extension Int64 {
    fileprivate func floorDivided(by divisor: Int64) -> Int64 {
        let quotient = self / divisor
        return self % divisor < 0 ? quotient - 1 : quotient
    }
}

/// Takes a date apart from its front.
private struct DateReader {
    var rest: Slice<UnsafeBufferPointer<UInt8>>

    mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard rest.first == UInt8(ascii: character) else { return false }
        rest.removeFirst()
        return true
    }

    mutating func number(_ digits: Int, _ range: ClosedRange<Int64>) -> Int64? {
        guard rest.count >= digits else { return nil }
        var value: Int64 = 0
        for byte in rest.prefix(digits) {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            value = value * 10 + Int64(byte - UInt8(ascii: "0"))
        }
        rest = rest.dropFirst(digits)
        return range.contains(value) ? value : nil
    }
}
