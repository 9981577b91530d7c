/// Lets so many lines of a kind pass in a minute and counts the others: while a server is away, the library writes the
/// same few lines at every attempt, several times a second, for as long as the outage lasts.
///
/// A minute of a kind begins with its first line that passes, so that the first line of every kind passes at once,
/// whatever else floods.
struct LogThrottle {
    enum Verdict: Equatable {
        /// `suppressedBefore`: lines of this kind that were left out since the last one that passed.
        case pass(suppressedBefore: Int)
        case suppress
    }
    private struct Kind {
        var beganNanoseconds: UInt64
        var passed = 0
        var suppressed = 0
    }
    private static let minuteNanoseconds: UInt64 = 60_000_000_000
    /// Stands for all kinds beyond the bound. No statement has this name.
    private static let others = ""

    private let kindsMax: Int
    private var kinds: [String: Kind] = [:]

    init(kindsMax: Int) { self.kindsMax = kindsMax }

    mutating func admit(_ kind: String, linesPerMinuteMax: Int, nowNanoseconds: UInt64) -> Verdict {
        let name = kinds[kind] != nil || kinds.count < kindsMax ? kind : Self.others
        var state = kinds[name] ?? Kind(beganNanoseconds: nowNanoseconds)
        defer { kinds[name] = state }
        // Two threads may bring their times in the other order; an earlier time is within the minute.
        if nowNanoseconds >= state.beganNanoseconds + Self.minuteNanoseconds {
            state.beganNanoseconds = nowNanoseconds
            state.passed = 0
        }
        guard state.passed < linesPerMinuteMax else {
            state.suppressed += 1
            return .suppress
        }
        state.passed += 1
        defer { state.suppressed = 0 }
        return .pass(suppressedBefore: state.suppressed)
    }
}
