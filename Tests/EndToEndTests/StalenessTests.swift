import Foundation
import HotKeyTestSupport
import Testing

extension EndToEnd {
    /// `script/bench staleness` in its shortest form: one round of all its faults, judged by the same checker.
    @Suite struct Staleness {
        private static let judge = URL(fileURLWithPath: #filePath).resolvingSymlinksInPath().deletingLastPathComponent()
            .appending(path: "../../script/lib/bench_staleness.py").standardizedFileURL.path

        @Test func noReadIsStalerThanItsCapWhateverFails() async throws {
            let directory = URL(fileURLWithPath: try BinaryLocator.path("hkagent")).deletingLastPathComponent().path
            let outcome = try await SpawnedProcess.run(
                try SystemTool.python(), ["-B", Self.judge, "--binaries", directory, "--minutes", "1", "--json"],
                timeout: .seconds(280))
            // It says on standard error what it did and, of each violation, which read saw what when.
            try #require(outcome.status == 0, "\(outcome.termination)\n\(outcome.standardError)")
            let verdict = try JSONDecoder().decode(Verdict.self, from: Data(outcome.standardOutput.utf8))
            #expect(verdict.violations.isEmpty)
            #expect(verdict.phases.allSatisfy { $0.times > 0 && $0.reads > 0 })
            let worst = verdict.phases.map(\.worstMilliseconds).max() ?? 0
            let judged = verdict.phases.reduce(0) { $0 + $1.reads + $1.onErrorReads }
            figure("staleness: \(judged) reads in \(verdict.phases.count) phases, the worst stale by \(Int(worst)) ms")
        }

        private struct Verdict: Decodable {
            struct Phase: Decodable {
                var times: Int
                var reads: Int
                var onErrorReads: Int
                var worstMilliseconds: Double
            }
            struct Violation: Decodable { var text: String }
            var phases: [Phase]
            var violations: [Violation]
        }
    }
}
