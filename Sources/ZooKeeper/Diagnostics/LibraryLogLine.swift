import Logging

/// A line of the C library's log: `2026-11-22 10:00:00,123:4567(0x7f…):ZOO_WARN@function@1234: text`.
///
/// The levels are toned down by one: that a server is away is an error to the library and ordinary to a client that
/// goes on trying.
struct LibraryLogLine {
    let level: Logger.Level
    let function: String
    let text: String

    init(_ line: String) {
        let parts = line.split(separator: "@", maxSplits: 2)
        guard parts.count == 3, let mark = parts[0].firstRange(of: ":ZOO_"), let colon = parts[2].firstRange(of: ": ")
        else {
            level = .debug
            function = "unknown"
            text = line
            return
        }
        level =
            switch parts[0][mark.upperBound...] {
            case "ERROR": .warning
            case "WARN": .notice
            case "INFO": .debug
            default: .trace
            }
        function = String(parts[1])
        text = parts[2][colon.upperBound...].filter { $0 != "\n" }
    }
}

/// Lets so many lines pass in a second and counts the others: a server that is away makes the library write several
/// lines at every attempt.
struct LogThrottle {
    enum Verdict: Equatable {
        case pass(suppressedBefore: Int)
        case suppress
    }
    private let linesPerSecondMax: Int
    private var second: UInt64 = 0
    private var passed = 0
    private var suppressed = 0

    init(linesPerSecondMax: Int) { self.linesPerSecondMax = linesPerSecondMax }

    mutating func admit(nowNanoseconds: UInt64) -> Verdict {
        let current = nowNanoseconds / 1_000_000_000
        if current != second {
            second = current
            passed = 0
        }
        guard passed < linesPerSecondMax else {
            suppressed += 1
            return .suppress
        }
        passed += 1
        defer { suppressed = 0 }
        return .pass(suppressedBefore: suppressed)
    }
}
