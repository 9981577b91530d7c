import Dispatch
import Foundation
import HotKeyTestSupport
import NIOConcurrencyHelpers

/// Clients that repeat a batch of commands, each on a thread and a connection of its own, until they are stopped.
final class Load: Sendable {
    struct Tally: Sendable {
        var replies = 0
        var failureCount = 0
        /// The first of them, in words.
        var failures: [String] = []

        mutating func fail(_ what: String) {
            failureCount += 1
            if failures.count < 10 { failures.append(what) }
        }
    }

    private let tally = NIOLockedValueBox(Tally())
    private let isStopping = NIOLockedValueBox(false)
    private let threads = DispatchGroup()
    private let firstRequest = NIOLockedValueBox<ContinuousClock.Instant?>(nil)

    private init() {}

    /// - Parameters:
    ///   - ports: one client for each.
    ///   - batch: what each sends at once.
    ///   - pauseMilliseconds: between a batch's last reply and the next batch. A client that was held up does not catch
    ///     up, so it never sends faster than that.
    ///   - isGood: whether a reply is the right one; every other one counts as a failure, as does a lost connection.
    static func start(
        ports: [Int], batch: [[String]], pauseMilliseconds: Int,
        isGood: @escaping @Sendable (RedisTestValue) -> Bool = { $0.errorMessage == nil }
    ) -> Load {
        start(ports: ports, pauseMilliseconds: pauseMilliseconds, isGood: isGood) { _ in batch }
    }

    /// As above.
    ///
    /// - Parameter batch: what is sent at once, by a batch's number from 0.
    static func start(
        ports: [Int], pauseMilliseconds: Int,
        isGood: @escaping @Sendable (RedisTestValue) -> Bool = { $0.errorMessage == nil },
        batch: @escaping @Sendable (Int) -> [[String]]
    ) -> Load {
        let load = Load()
        for (index, port) in ports.enumerated() {
            DispatchQueue(label: "load-\(index)").async(group: load.threads) {
                load.run(port: port, batch, pauseMilliseconds: pauseMilliseconds, isGood)
            }
        }
        return load
    }

    /// `GET key` at each port, which must give `value`.
    static func reading(
        _ key: String, expecting value: String, ports: [Int], batch: Int = 1, pauseMilliseconds: Int
    ) -> Load {
        start(
            ports: ports, batch: Array(repeating: ["GET", key], count: batch), pauseMilliseconds: pauseMilliseconds,
            isGood: { $0 == .text(value) })
    }

    private func run(
        port: Int, _ batch: (Int) -> [[String]], pauseMilliseconds: Int, _ isGood: (RedisTestValue) -> Bool
    ) {
        do {
            let connection = try RedisTestConnection(port: port)
            firstRequest.withLockedValue { $0 = $0 ?? .now }
            var number = 0
            while !isStopping.withLockedValue({ $0 }) {
                let batch = batch(number)
                number += 1
                for (command, reply) in zip(batch, try connection.pipeline(batch)) {
                    tally.withLockedValue { tally in
                        tally.replies += 1
                        if !isGood(reply) {
                            tally.fail("port \(port): \(command.joined(separator: " ")): \(reply)")
                        }
                    }
                }
                Thread.sleep(forTimeInterval: Double(pauseMilliseconds) / 1000)
            }
        } catch {
            tally.withLockedValue { $0.fail("port \(port): \(error)") }
        }
    }

    var current: Tally { tally.withLockedValue { $0 } }

    /// When the first client was connected and sent its first batch.
    func began() async throws -> ContinuousClock.Instant {
        try await eventually("a first request") {
            firstRequest.withLockedValue { $0 }
        } until: {
            $0 != nil
        }!
    }

    /// Waits until every client has ended.
    @discardableResult
    func stop() async -> Tally {
        isStopping.withLockedValue { $0 = true }
        await withCheckedContinuation { continuation in
            threads.notify(queue: .global()) { continuation.resume() }
        }
        return current
    }
}

extension Duration {
    var milliseconds: Int { Int(components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000) }
}

/// What the tests print for people: measured figures, which depend on the machine and are not judged.
func figure(_ text: String) { print("figure: \(text)") }
