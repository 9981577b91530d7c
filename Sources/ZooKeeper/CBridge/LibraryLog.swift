internal import CZooKeeper
import Dispatch
import Logging
import NIOConcurrencyHelpers

/// The library's log lines on their way to swift-log.
///
/// Level and callback of the library are global to the process and carry no context (P27): the first client's logger
/// gets the lines of all clients. A line may come from inside the library's locks, and from inside our session lock
/// (the library logs while it enqueues a call), so that a log handler, which is anyone's code, never runs on the
/// calling thread.
enum LibraryLog {
    private struct Sink {
        var logger: Logger?
        var throttle = LogThrottle(kindsMax: ZooKeeperLimits.libraryLogKindsMax)
    }
    private static let sink = NIOLockedValueBox(Sink())
    private static let queue = DispatchQueue(label: "zookeeper.library-log", qos: .utility)

    /// Set once; later calls do nothing unless they replace, which is for tests that share a process with other clients.
    static func install(_ logger: Logger, replacing: Bool = false) {
        let isSet = sink.withLockedValue { sink in
            guard sink.logger == nil || replacing else { return false }
            sink.logger = logger
            return true
        }
        guard isSet else { return }
        zoo_set_debug_level(ZooLogLevel(rawValue: libraryLevel(for: logger.logLevel)))
    }

    static func receive(_ line: String) {
        let now = DispatchTime.now().uptimeNanoseconds
        let parsed = LibraryLogLine(line)
        let linesMax =
            parsed.level >= .notice
            ? ZooKeeperLimits.libraryLogLinesPerMinuteMax : ZooKeeperLimits.libraryLogDiagnosticLinesPerMinuteMax
        let (logger, verdict) = sink.withLockedValue { sink in
            (sink.logger, sink.throttle.admit(parsed.statement, linesPerMinuteMax: linesMax, nowNanoseconds: now))
        }
        guard let logger, case .pass(let suppressed) = verdict else { return }
        queue.async {
            let remark = suppressed > 0 ? " (\(suppressed) lines like this one were left out before it)" : ""
            logger.log(
                level: parsed.level, "ZooKeeper library: \(parsed.text)\(remark)",
                metadata: ["function": "\(parsed.function)"])
        }
    }

    /// The library's levels are 1 (error) to 4 (debug); 0 is silence.
    private static func libraryLevel(for level: Logger.Level) -> UInt32 {
        switch level {
        case .trace: 4
        case .debug: 3
        case .info, .notice: 2
        case .warning, .error: 1
        case .critical: 0
        }
    }
}

/// P27: takes no session lock, only the sink's own, under which nothing is called.
nonisolated func libraryLogLine(_ message: UnsafePointer<CChar>?) {
    guard let message else { return }
    LibraryLog.receive(String(cString: message))
}
