import Foundation
import HotKeyTestSupport
import Testing

extension EndToEnd {
    /// `script/bench failover` in a short form: the coordinator killed four times and stopped once under moving heat.
    @Suite struct Failover {
        private static let bench = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath().deletingLastPathComponent()
            .appending(path: "../../script/lib/bench_failover.py").standardizedFileURL.path

        @Test func noKeyOfSteadyHeatLeavesWithItsCoordinator() async throws {
            let directory = URL(fileURLWithPath: try BinaryLocator.path("hkagent")).deletingLastPathComponent().path
            let outcome = try await SpawnedProcess.run(
                try SystemTool.python(), ["-B", Self.bench, "--binaries", directory, "--rounds", "5", "--json"],
                timeout: .seconds(280))
            try #require(outcome.status == 0, "\(outcome.termination)\n\(outcome.standardError)")
            let verdict = try JSONDecoder().decode(Verdict.self, from: Data(outcome.standardOutput.utf8))
            #expect(verdict.killed == 4 && verdict.stopped == 1 && verdict.absences == 0 && verdict.moves > 0)
            figure(
                "coordinator killed \(verdict.killed) times and stopped once: another led after "
                    + "\(Int(verdict.withoutCoordinator.maxMilliseconds)) ms at most, no steady key left")
        }

        private struct Verdict: Decodable {
            struct Spread: Decodable { var maxMilliseconds: Double }
            var killed: Int
            var stopped: Int
            var moves: Int
            var absences: Int
            var withoutCoordinator: Spread
        }
    }
}
