import HotKeyRegistry

/// Times as people say them.
enum TimeText {
    /// The two largest units: `3m12s`, `2d4h`, `500ms`.
    static func span(_ milliseconds: Int64) -> String {
        if milliseconds < 1_000 { return "\(max(0, milliseconds))ms" }
        let units: [(String, Int64)] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)]
        var rest = milliseconds / 1_000
        var parts: [String] = []
        for (name, seconds) in units where rest >= seconds || !parts.isEmpty {
            if rest / seconds > 0 { parts.append("\(rest / seconds)\(name)") } else if parts.count == 1 { break }
            rest %= seconds
            if parts.count == 2 || rest == 0 { break }
        }
        return parts.joined()
    }

    static func age(_ time: Timestamp, now: Timestamp = .now) -> String {
        span(max(0, now.millisecondsSince1970 - time.millisecondsSince1970))
    }

    static func remaining(until time: Timestamp?, now: Timestamp = .now) -> String {
        guard let time else { return "never" }
        return "in \(span(max(0, time.millisecondsSince1970 - now.millisecondsSince1970)))"
    }
}

enum NumberText {
    /// Whole from 10 on, one digit behind the point below.
    static func rate(_ value: Double?) -> String {
        guard let value else { return "-" }
        if value == 0 { return "0" }
        if value >= 10 { return "\(Int64(min(value, 1e15).rounded()))" }
        let tenths = Int64((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }

    static func count(_ number: Int, _ noun: String, _ plural: String? = nil) -> String {
        "\(number) " + (number == 1 ? noun : plural ?? "\(noun)s")
    }
}
