import Foundation
import HotKeyTestSupport
import Testing

@testable import HotKeyScan

@Suite struct LFUCounterTests {
    @Test func theBalanceOfRiseAndFall() throws {
        // M = (c − 5)·f + 1 accesses a minute; ± two deviations of √(M / 2f) steps and a step, of f accesses each.
        let defaults = LFUSettings()
        let full = try #require(defaults.estimate(counter: 255))
        #expect(abs(full.accessesPerSecond - 2_501.0 / 60) < 1e-9 && full.isFull)
        #expect(abs(full.errorPerSecond - (Double(2 * 10 * 2_501).squareRoot() + 10) / 60) < 1e-9)
        let low = try #require(defaults.estimate(counter: 5))
        #expect(abs(low.accessesPerSecond - 1.0 / 60) < 1e-9 && !low.isFull)
        #expect(defaults.estimate(counter: 0) == low)
        let fine = try #require(LFUSettings(logFactor: 240).estimate(counter: 254))
        #expect(abs(fine.accessesPerSecond - 59_761.0 / 60) < 1e-9)
    }

    @Test func whatTellsNoRateIsNotGuessed() {
        for settings in [
            LFUSettings(logFactor: 0), LFUSettings(decayMinutes: 0), LFUSettings(decayMinutes: 2),
        ] { #expect(settings.estimate(counter: 200) == nil) }
    }

    /// Redis's counter under steady traffic: the true rate lies within the error.
    @Test(arguments: [(10, 5.0), (10, 20), (10, 35), (100, 100), (240, 500)])
    func steadyTrafficLiesWithinTheError(factor: Int, rate: Double) throws {
        let settings = LFUSettings(logFactor: factor)
        var generator = SeededGenerator(printing: "LFU counter \(factor) \(rate)")
        var (inside, looks) = (0, 0)
        // So many lives that chance alone does not come near the bound.
        for _ in 0..<300 {
            // From where it settles, so that what is looked at is not the way there; long enough to have forgotten that.
            var counter = min(254, 5 + Int(rate * 60 / Double(factor)))
            for minute in 1...600 {
                counter = max(0, counter - 1)
                var left = Int(rate * 60)
                while counter < LFUSettings.counterMax {
                    // How many accesses it takes until one of them raises the counter.
                    let chance = 1 / (Double(max(0, counter - 5) * factor) + 1)
                    let wait =
                        chance == 1
                        ? 1 : Int(log(Double.random(in: 0..<1, using: &generator)) / log(1 - chance)) + 1
                    guard wait <= left else { break }
                    left -= wait
                    counter += 1
                }
                guard minute > 300, minute % 20 == 0 else { continue }
                let estimate = try #require(settings.estimate(counter: counter))
                looks += 1
                if abs(estimate.accessesPerSecond - rate) <= estimate.errorPerSecond { inside += 1 }
            }
        }
        #expect(Double(inside) >= 0.93 * Double(looks), "\(inside) of \(looks)")
    }
}
