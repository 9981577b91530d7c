import Testing

@testable import HotKeyAgent

@Suite struct ScheduledScanTests {
    /// A scan of a million keys at 1,000 a second takes longer than the pause between two.
    @Test func whatAScanFindsHoldsUntilTheNextButOneIsWritten() {
        for (everySeconds, took) in [(60, 1_000), (600, 0), (1, 86_400)] {
            let lifetime = ScheduledScan.lifetimeMilliseconds(everySeconds: everySeconds, took: .seconds(took))
            #expect(lifetime >= 2_000 * Int64(everySeconds + took))
            #expect(lifetime < 2_000 * Int64(everySeconds + took + 2))
        }
    }
}
