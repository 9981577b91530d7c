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

    /// What is different from a fleet of even agents that ask for the same keys all the time.
    struct Scenario: CustomTestStringConvertible {
        var name: String
        var exponent: Double
        var windowMilliseconds = 1_000
        var bytesPerSecond = DetectionLimits.reportBytesPerSecond
        var slow: (agents: Int, slices: Int) = (0, 1)
        /// Keys that begin with nothing and come to twice the threshold.
        var rising = 0
        var slices = 15
        /// Keys whose largest count came nearer to the threshold have no right answer: whether the window, 2 of 3 slices or the short
        /// evidence sees them first is chance. A shorter window scatters more.
        var margin = 0.05

        var testDescription: String { name }
    }

    private static let scenarios = [
        Scenario(name: "rising keys", exponent: 1.1, rising: 40, slices: 30),
        Scenario(name: "a window of 300 ms", exponent: 1.1, windowMilliseconds: 300, margin: 0.2),
        Scenario(name: "a window of 500 ms", exponent: 1.1, windowMilliseconds: 500, margin: 0.15),
        // A frame holds about a twelfth of the keys that its agent counts. Most keys have one turn a second, and may be given up then: it
        // takes some of them until what is lost of a key that is just over the threshold is little enough.
        Scenario(name: "a quarter of the usual budget", exponent: 1.0, bytesPerSecond: 16 << 10, slices: 30),
        Scenario(name: "an agent with slices of 300 ms", exponent: 1.1, slow: (1, 3), slices: 20),
        Scenario(name: "thirty agents with slices of 200 ms", exponent: 1.1, slow: (30, 2), slices: 20),
        Scenario(name: "ten agents with slices of a second", exponent: 1.1, slow: (10, 10), slices: 31),
    ]

    /// A million accesses a second, spread evenly over 100 agents whose frames hold a third of the keys they count.
    @Test(arguments: exponents)
    func findsTheTrueHotSetAndItsRates(exponent: Double) throws {
        try judge(Scenario(name: "Zipf \(exponent)", exponent: exponent, slices: Self.seeds > 0 ? 30 : 15))
    }

    @Test(arguments: scenarios)
    func findsItUnderWorseConditions(_ scenario: Scenario) throws { try judge(scenario) }

    private func judge(_ scenario: Scenario) throws {
        let zipf = Zipf(count: 100_000, exponent: scenario.exponent)
        var tally = Tally()
        for streamSeed in 1...UInt64(max(1, Self.seeds)) { try run(streamSeed, scenario, zipf, &tally) }
        let recall = Double(tally.found) / Double(tally.found + tally.missed)
        let precision = Double(tally.found) / Double(tally.found + tally.wrong)
        let summary = """
            \(scenario.name): recall \(recall), precision \(precision), found \(tally.found), missed \(tally.missed), \
            wrong \(tally.wrong), near \(tally.near), bands \(tally.bands), out of them \(tally.outOfBands.count), \
            mean half width \(tally.widths / Double(max(1, tally.bands))), widest \(tally.widest)
            """
        if Self.seeds > 0 { print(summary) }
        #expect(tally.found > 40)
        #expect(recall >= 0.99 && precision >= 0.99, "\(summary)")
        #expect(tally.bands > 200)
        #expect(tally.outOfBands.prefix(5) == [], "\(summary)")
    }

    private func run(_ streamSeed: UInt64, _ scenario: Scenario, _ zipf: Zipf, _ tally: inout Tally) throws {
        let (agents, accessesPerSlice, threshold) = (100, 1_000, 1_000)
        let windowSlices = scenario.windowMilliseconds / 100
        let atThreshold = Double(threshold * windowSlices) / 10
        var generator = SeededGenerator(seed: streamSeed)
        var fleet = try FleetSimulation(
            agents: agents, keys: 100_000,
            rules: RuleSet([.forAll(threshold: threshold) { $0.windowMilliseconds = scenario.windowMilliseconds }]),
            bytesPerSecond: scenario.bytesPerSecond, windowSlices: windowSlices, slow: scenario.slow)
        var best = [UInt32](repeating: 0, count: fleet.keys.count)
        for slice in 0..<scenario.slices {
            for agent in 0..<agents {
                for _ in 0..<accessesPerSlice { fleet.record(zipf.draw(using: &generator), agent: agent) }
            }
            if scenario.rising > 0 {
                // Up to twice the threshold within half of the time, on all agents alike.
                let rate = 2 * threshold / 10 * min(slice, scenario.slices / 2) / (scenario.slices / 2)
                for key in 50_000..<50_000 + scenario.rising {
                    for _ in 0..<rate { fleet.record(key, agent: Int.random(in: 0..<agents, using: &generator)) }
                }
            }
            _ = try fleet.endSlice()
            // What the last slice brings over the threshold cannot have been confirmed yet.
            if slice < scenario.slices - 1 {
                for key in best.indices { best[key] = max(best[key], fleet.exactInWindow(key)) }
            }
            if slice >= FleetSimulation.windowSlices {
                for hot in fleet.tracker.hotKeys {
                    check(hot, fleet, 10 / Double(windowSlices), "seed \(streamSeed), slice \(slice)", &tally)
                }
            }
        }
        let detected = Set(fleet.tracker.hotKeys.map { fleet.number(of: $0.key) })
        for key in best.indices {
            let heat = Double(best[key]) / atThreshold
            if abs(heat - 1) < scenario.margin {
                tally.near += 1
            } else if heat > 1 {
                if detected.contains(key) { tally.found += 1 } else { tally.missed += 1 }
            } else if detected.contains(key) {
                tally.wrong += 1
            }
        }
    }

    private func check(
        _ hot: HeatTracker.HotKey, _ fleet: FleetSimulation, _ windowsPerSecond: Double, _ place: String,
        _ tally: inout Tally
    ) {
        let number = fleet.number(of: hot.key)
        let truth = Double(fleet.exactInWindow(number)) * windowsPerSecond
        let lower = hot.sample.readsPerSecond - hot.sample.errorPerSecond - 1e-6
        let upper = hot.sample.readsPerSecond + hot.sample.errorPerSecond + 1e-6
        tally.bands += 1
        tally.widest = max(tally.widest, hot.sample.errorPerSecond / truth)
        tally.widths += hot.sample.errorPerSecond / truth
        if lower > truth || truth > upper {
            tally.outOfBands.append("\(place), rank \(number): \(lower) <= \(truth) <= \(upper)")
        }
    }
}
