import Foundation
import HotKeyTestSupport
import Logging
import Testing

@testable import ZooKeeper

/// What this process has open.
private struct ProcessCensus: CustomStringConvertible {
    let threads: Int
    let descriptors: Int
    let residentKilobytes: Int

    init() {
        func count(_ directory: String) -> Int {
            (try? FileManager.default.contentsOfDirectory(atPath: directory).count) ?? 0
        }
        threads = count("/proc/self/task")
        descriptors = count("/proc/self/fd")
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        residentKilobytes =
            status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
            .flatMap { Int($0.filter(\.isNumber)) } ?? 0
    }

    var description: String { "\(threads) threads, \(descriptors) descriptors, \(residentKilobytes) KiB" }
}

extension WithServers {
    /// The bridge to C under what breaks such bridges: connecting, calling, cancelling and closing at once. A call that
    /// is lost hangs this test, one that is resumed twice traps it.
    @Suite(.timeLimit(.minutes(30))) struct Soak {
        /// `HOTKEY_SOAK=10000` makes it long.
        private static let cycles = ProcessInfo.processInfo.environment["HOTKEY_SOAK"].flatMap(Int.init) ?? 200

        @Test func connectRaceAndClose() async throws {
            let address = try await SharedServer.address()
            var generator = SeededGenerator(printing: "soak")
            var outcomes: [String: Int] = [:]
            var warm = ProcessCensus()
            for cycle in 0..<Self.cycles {
                for outcome in try await oneCycle(address, generator.next()) { outcomes[outcome, default: 0] += 1 }
                if cycle == Self.cycles / 10 { warm = ProcessCensus() }
            }
            #expect(outcomes.values.reduce(0, +) == Self.cycles * Self.callsPerCycle, "every call came back once")
            let expected: Set = [
                "answered", "closed", "cancelled", "noNode", "nodeExists", "badVersion", "authenticationFailed",
            ]
            #expect(Set(outcomes.keys).isSubset(of: expected), "\(outcomes)")
            try await eventually(
                "nothing of the bridge is left", value: { BridgeCensus.now }, until: { $0 == BridgeCensus() })
            print("soak: \(Self.cycles) cycles; \(outcomes); \(warm) after a tenth, \(ProcessCensus()) at the end")
            // Dispatch's workers come and go by the dozen; of the library's two threads a handle, hundreds would stay.
            try await eventually(
                "threads and descriptors are back", value: { ProcessCensus() },
                until: { $0.threads <= warm.threads + 64 && $0.descriptors <= warm.descriptors + 4 })
        }

        private static let callsPerCycle = 16

        private func oneCycle(_ address: String, _ seed: UInt64) async throws -> [String] {
            var generator = SeededGenerator(seed: seed)
            // Not the tests' usual logger: it keeps every line, which would look like a leak here.
            let client = ZooKeeperClient(
                configuration: try configuration(address),
                logger: Logger(label: "soak") { _ in SwiftLogNoOpLogHandler() })
            client.start()
            // Now and then closed before it was ever connected.
            if Int.random(in: 0..<4, using: &generator) > 0 {
                try await client.waitUntilConnected(timeoutMilliseconds: 30_000)
            }
            let closeAfter = Int.random(in: 0..<3_000, using: &generator)
            let name = "/soak-\(seed)"
            return await withTaskGroup(of: String?.self) { group in
                for call in 0..<Self.callsPerCycle {
                    let cancelAfter =
                        Bool.random(using: &generator) ? Int.random(in: 0..<2_000, using: &generator) : nil
                    group.addTask {
                        let task = Task { try await Self.call(call, client, name) }
                        if let cancelAfter {
                            try? await Task.sleep(for: .microseconds(cancelAfter))
                            task.cancel()
                        }
                        do {
                            try await task.value
                            return "answered"
                        } catch let error as StoreError {
                            return "\(error.code)"
                        } catch {
                            return error is CancellationError ? "cancelled" : "\(error)"
                        }
                    }
                }
                group.addTask {
                    try? await Task.sleep(for: .microseconds(closeAfter))
                    await client.close()
                    return nil
                }
                var outcomes: [String] = []
                for await case let outcome? in group { outcomes.append(outcome) }
                return outcomes
            }
        }

        private static func call(_ number: Int, _ client: ZooKeeperClient, _ name: String) async throws {
            switch number % 8 {
            case 0: _ = try await client.get("/", onEvent: { _ in })
            case 1: _ = try await client.exists("/missing") { _ in }
            case 2: try await client.multi([.check("/", version: -1), .check("/zookeeper", version: -1)])
            case 3: _ = try await client.children("/") { _ in }
            case 4: try await client.create(name, mode: .ephemeral)
            case 5: try await client.sync("/")
            case 6: try await client.addAuthentication(.digest(user: "ann", password: "x"))
            default:
                for try await _ in client.values(of: name) { break }
            }
        }
    }
}
