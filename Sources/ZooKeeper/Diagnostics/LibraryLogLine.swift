import Logging

/// A line of the C library's log: `2026-11-22 10:00:00,123:4567(0x7f…):ZOO_WARN@function@1234: text`.
///
/// The levels are toned down by one: that a server is away is an error to the library and ordinary to a client that
/// goes on trying.
struct LibraryLogLine {
    let level: Logger.Level
    let function: String
    let text: String
    /// The statement in the library that wrote the line, as `function@line`: the same for every line of a kind,
    /// whatever server or error it names.
    let statement: String

    init(_ line: String) {
        let parts = line.split(separator: "@", maxSplits: 2)
        guard parts.count == 3, let mark = parts[0].firstRange(of: ":ZOO_"), let colon = parts[2].firstRange(of: ": ")
        else {
            level = .debug
            function = "unknown"
            text = line
            statement = function
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
        statement = "\(function)@\(parts[2][..<colon.lowerBound])"
    }
}
