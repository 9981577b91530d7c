import ArgumentParser

/// A time such as `10m`, `90s`, `1h30m` or `500ms` on the command line.
struct TimeSpan: Sendable, Hashable, ExpressibleByArgument {
    let milliseconds: Int64
    var duration: Duration { .milliseconds(milliseconds) }

    private static let units: [(name: String, milliseconds: Int64)] = [
        ("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000),
    ]

    init(milliseconds: Int64) { self.milliseconds = milliseconds }

    /// Nil for no time at all, for numbers without a unit, and for more than ten years.
    init?(argument: String) {
        var rest = argument[...]
        var sum: Int64 = 0
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            rest = rest.dropFirst(digits.count)
            let name = rest.prefix { $0.isASCII && $0.isLetter }
            rest = rest.dropFirst(name.count)
            guard let number = Int64(digits), let unit = Self.units.first(where: { $0.name == name }) else {
                return nil
            }
            let (part, overflow) = number.multipliedReportingOverflow(by: unit.milliseconds)
            guard !overflow, part <= ControlLimits.timeSpanMillisecondsMax else { return nil }
            sum += part
            guard sum <= ControlLimits.timeSpanMillisecondsMax else { return nil }
        }
        guard sum > 0 else { return nil }
        milliseconds = sum
    }

    var defaultValueDescription: String { TimeText.span(milliseconds) }
}
