import Foundation
import Testing

@testable import HotKeyDetection

/// How far what a hundred agents' reports say is from the truth, which an exact counter keeps.
///
/// `HOTKEY_ACCURACY` seeds for each exponent, 0.9 to 1.4; without it one seed for the two ends.
@Suite struct AccuracyTests {
    private static let seeds = ProcessInfo.processInfo.environment["HOTKEY_ACCURACY"].flatMap(Int.init) ?? 0
    private static let exponents = seeds > 0 ? [0.9, 1.0, 1.1, 1.2, 1.3, 1.4] : [0.9, 1.4]

    private struct Tally {
        var found = 0
        var missed = 0
        var wrong = 0
        /// Keys that came nearer to the threshold than `margin` and no further: either answer is right.
        var near = 0
        var bands = 0
        var outOfBands: [String] = []
        /// Half of a band's width as a share of the true rate.
        var widest = 0.0
        var widths = 0.0
    }

    private static let margin = 0.05

    /// A million accesses a second, spread evenly over 100 agents whose frames hold a third of the keys they count.
    @Test(arguments: exponents)
    func findsTheTrueHotSetAndItsRates(exponent: Double) throws {
        let zipf = Zipf(count: 100_000, exponent: exponent)
        var tally = Tally()
        for streamSeed in 1...UInt64(max(1, Self.seeds)) {
            try run(streamSeed: streamSeed, zipf: zipf, slices: Self.seeds > 0 ? 30 : 15, &tally)
        }
        let recall = Double(tally.found) / Double(tally.found + tally.missed)
        let precision = Double(tally.found) / Double(tally.found + tally.wrong)
        let summary = """
            Zipf \(exponent): recall \(recall), precision \(precision), found \(tally.found), missed \(tally.missed), \
            wrong \(tally.wrong), near \(tally.near), bands \(tally.bands), out of them \(tally.outOfBands.count), \
            mean half width \(tally.widths / Double(max(1, tally.bands))), widest \(tally.widest)
            """
        if Self.seeds > 0 { print(summary) }
        #expect(tally.found > 40)
        #expect(recall >= 0.99 && precision >= 0.99, "\(summary)")
        #expect(tally.bands > 200)
        #expect(tally.outOfBands.prefix(5) == [], "\(summary)")
    }

    private func run(streamSeed: UInt64, zipf: Zipf, slices: Int, _ tally: inout Tally) throws {
        let (agents, accessesPerSlice, threshold) = (100, 1_000, 1_000)
        var generator = SeededGenerator(seed: streamSeed)
        var fleet = try FleetSimulation(
            agents: agents, keys: 100_000, rules: RuleSet([.forAll(threshold: threshold)]))
        var best = [UInt32](repeating: 0, count: fleet.keys.count)
        for slice in 0..<slices {
            for agent in 0..<agents {
                for _ in 0..<accessesPerSlice { fleet.record(zipf.draw(using: &generator), agent: agent) }
            }
            _ = try fleet.endSlice()
            // What the last slice brings over the threshold cannot have been confirmed yet.
            if slice < slices - 1 {
                for key in best.indices { best[key] = max(best[key], fleet.exactInWindow[key]) }
            }
            if slice >= FleetSimulation.windowSlices {
                for hot in fleet.tracker.hotKeys { check(hot, fleet, "seed \(streamSeed), slice \(slice)", &tally) }
            }
        }
        let detected = Set(fleet.tracker.hotKeys.map { fleet.number(of: $0.key) })
        for key in best.indices {
            let heat = Double(best[key]) / Double(threshold)
            if abs(heat - 1) < Self.margin {
                tally.near += 1
            } else if heat > 1 {
                if detected.contains(key) { tally.found += 1 } else { tally.missed += 1 }
            } else if detected.contains(key) {
                tally.wrong += 1
            }
        }
    }

    private func check(_ hot: HeatTracker.HotKey, _ fleet: FleetSimulation, _ place: String, _ tally: inout Tally) {
        let number = fleet.number(of: hot.key)
        let truth = Double(fleet.exactInWindow[number])
        let lower = hot.sample.readsPerSecond - hot.sample.errorPerSecond
        let upper = hot.sample.readsPerSecond + hot.sample.errorPerSecond
        tally.bands += 1
        tally.widest = max(tally.widest, hot.sample.errorPerSecond / truth)
        tally.widths += hot.sample.errorPerSecond / truth
        if lower > truth || truth > upper {
            tally.outOfBands.append("\(place), rank \(number): \(lower) <= \(truth) <= \(upper)")
        }
    }
}
