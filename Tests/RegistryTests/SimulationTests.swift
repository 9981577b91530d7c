import Foundation
import HotKeyTestSupport
import Testing

@testable import HotKeyRegistry

/// The registry's decisions against an ensemble that does everything ZooKeeper may do, in random orders.
@Suite struct SimulationTests {
    /// All 10,000 with `HOTKEY_SIMULATIONS=10000`.
    private static let schedules =
        ProcessInfo.processInfo.environment["HOTKEY_SIMULATIONS"].flatMap(Int.init) ?? 300

    private struct Outcome: Sendable {
        var seed: UInt64
        var violations: [String]
        var figures: SimulatedRegistry.Figures
    }

    private func run(_ seed: UInt64) throws -> Outcome {
        let registry = try SimulatedRegistry(seed: seed)
        try registry.run()
        return Outcome(seed: seed, violations: registry.violations, figures: registry.figures)
    }

    /// The first seed is the printed one, so that the seed of a schedule that failed repeats it as the first.
    @Test func whateverHappensTheFleetEndsUpWithTheRegistryAndNobodyElsePublishes() async throws {
        let printed = SeededGenerator(printing: "registry simulation")
        var generator = printed
        let seeds = [printed.seed] + (1..<max(1, Self.schedules)).map { _ in generator.next() }
        let began = ContinuousClock.now
        let lanes = 2
        let outcomes = try await withThrowingTaskGroup(of: [Outcome].self) { group in
            for lane in 0..<lanes {
                group.addTask {
                    var outcomes: [Outcome] = []
                    for index in stride(from: lane, to: seeds.count, by: lanes) {
                        outcomes.append(try run(seeds[index]))
                        if outcomes.count(where: { !$0.violations.isEmpty }) >= 3 { break }
                    }
                    return outcomes
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        var figures = SimulatedRegistry.Figures()
        for outcome in outcomes {
            figures.add(outcome.figures)
            #expect(
                outcome.violations.isEmpty,
                "HOTKEY_TEST_SEED=\(outcome.seed) repeats: \(outcome.violations.joined(separator: "; "))")
        }
        print("registry simulation: \(outcomes.count) schedules in \(ContinuousClock.now - began): \(figures)")
        guard outcomes.count >= 100 else { return }
        // The schedules are worth something only if the dangerous things happen in them.
        #expect(figures.publications > outcomes.count)
        #expect(figures.leaderships > 2 * outcomes.count)
        #expect(figures.fencedOff > 0 && figures.publicationsRefused > 0)
        #expect(figures.backwardRefused > 0 && figures.restarts > 0)
        #expect(figures.edits > outcomes.count && figures.damages > outcomes.count / 4)
        // Each node's metadata once: nothing has changed.
        #expect(figures.readsAfterReconnectMax == WatchedNode.allCases.count)
        // Metadata and content of the five, and the buckets with the head in up to three rounds. Where buckets are damaged, the head
        // may ask for them a second time while they are written anew.
        let wholeRounds = RegistryLimits.bucketRoundsMax * (Set(SimulatedRegistry.keys.map(\.bucket)).count + 1)
        #expect(figures.readsUntilFreshMax <= 2 * WatchedNode.allCases.count + wholeRounds)
        #expect(figures.readsUntilFreshDamagedMax <= 2 * WatchedNode.allCases.count + 2 * wholeRounds)
    }

    @Test func aSeedReproduces() throws {
        func trace(_ seed: UInt64) throws -> [Int] {
            let registry = try SimulatedRegistry(seed: seed)
            try registry.run()
            return registry.trace
        }
        let first = try trace(7)
        #expect(first.count > 100)
        #expect(try trace(7) == first)
        #expect(try trace(8) != first)
    }
}
