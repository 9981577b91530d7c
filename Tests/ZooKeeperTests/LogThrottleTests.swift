import Testing

@testable import ZooKeeper

@Suite struct LogThrottleTests {
    private static let second: UInt64 = 1_000_000_000

    @Test func linesOfAKindAreCountedByTheMinute() {
        var throttle = LogThrottle(kindsMax: 8)
        func admit(_ seconds: UInt64) -> LogThrottle.Verdict {
            throttle.admit("refused", linesPerMinuteMax: 2, nowNanoseconds: seconds * Self.second)
        }
        #expect(admit(7) == .pass(suppressedBefore: 0))
        #expect(admit(8) == .pass(suppressedBefore: 0))
        #expect(admit(9) == .suppress)
        #expect(admit(66) == .suppress)
        // An older time, from a thread that was slow, neither traps nor begins a minute.
        #expect(admit(6) == .suppress)
        #expect(admit(67) == .pass(suppressedBefore: 3))
        #expect(admit(68) == .pass(suppressedBefore: 0))
        #expect(admit(69) == .suppress)
        #expect(admit(10_000) == .pass(suppressedBefore: 1))
    }

    /// An hour without servers: the library tries six times a second and writes two lines at each.
    @Test func aLongOutageCostsAHandfulOfLinesAMinute() {
        var throttle = LogThrottle(kindsMax: ZooKeeperLimits.libraryLogKindsMax)
        var passed: [String: [UInt64]] = [:]
        var reported = 0
        var written = 0
        let kinds = ["handle_socket_error_msg@2507", "zookeeper_interest@2373"]
        for attempt in 0..<UInt64(3_600 * 6) {
            let now = attempt * Self.second / 6
            for kind in kinds {
                written += 1
                let verdict = throttle.admit(
                    kind, linesPerMinuteMax: ZooKeeperLimits.libraryLogLinesPerMinuteMax, nowNanoseconds: now)
                guard case .pass(let suppressed) = verdict else { continue }
                passed[kind, default: []].append(now)
                reported += 1 + suppressed
            }
        }
        for kind in kinds {
            let times = passed[kind, default: []]
            #expect(times.first == 0, "the first line of a kind passes")
            #expect(times.count == 60 * ZooKeeperLimits.libraryLogLinesPerMinuteMax)
        }
        // What is not yet reported is the rest of the last minute.
        #expect(reported <= written && reported > written - 2 * 60 * 6, "\(reported) of \(written)")
        #expect(
            throttle.admit("check_events@2632", linesPerMinuteMax: 5, nowNanoseconds: 3_600 * Self.second)
                == .pass(suppressedBefore: 0), "what is new passes at once, whatever floods")
    }

    @Test func kindsBeyondTheBoundShareOneCount() {
        var throttle = LogThrottle(kindsMax: 2)
        func admit(_ kind: String) -> LogThrottle.Verdict {
            throttle.admit(kind, linesPerMinuteMax: 1, nowNanoseconds: 0)
        }
        #expect(admit("a") == .pass(suppressedBefore: 0))
        #expect(admit("b") == .pass(suppressedBefore: 0))
        #expect(admit("c") == .pass(suppressedBefore: 0))
        #expect(admit("d") == .suppress)
        #expect(admit("a") == .suppress)
    }
}
