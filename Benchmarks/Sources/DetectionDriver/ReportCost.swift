import Foundation
import HotKeyDetection

/// What an agent's reports cost beside its event loops: judging its own traffic every 50 ms, and each slice's frame.
///
/// 200,000 accesses a second over 100,000 keys, each as likely as the other, come over two loops: about 18,000 distinct
/// keys a slice, far more than a frame can tell.
func reportCost(_ generator: inout SplitMix) throws {
    let keyCount = 100_000
    let accessesPerHalf = 10_000
    let slices = 100
    let names = KeyNames(count: keyCount)
    let loops = [SliceCounter(), SliceCounter()]
    let budget = ReportBudget()
    let detector = LocalDetector(rules: try RuleSet([DetectionRule(pattern: GlobPattern("*"))]))
    var now: UInt64 = 1_000_000_000_000
    var (judging, reporting, draining) = (0.0, 0.0, 0.0)
    var distinct = 0
    var seen = [UInt32](repeating: .max, count: keyCount)
    // The first second fills what is kept of one.
    for slice in -10..<slices {
        if slice == 0 { (judging, reporting, draining, distinct) = (0, 0, 0, 0) }
        var parts: [SliceSummary] = []
        for _ in 0..<2 {
            names.with { bytes, size in
                for _ in 0..<accessesPerHalf {
                    let number = Int.random(in: 0..<keyCount, using: &generator)
                    let key = UnsafeRawBufferPointer(rebasing: bytes[number * size..<(number + 1) * size])
                    let loop = Int(truncatingIfNeeded: generator.next() & 1)
                    _ = loops[loop].record(key: key, hash: KeyHash.hash(key, seed: 7), reads: 1, writes: 0)
                    if seen[number] != UInt32(slice + 10) {
                        seen[number] = UInt32(slice + 10)
                        distinct += 1
                    }
                }
            }
            now += UInt64(DetectionLimits.localSliceMilliseconds) * 1_000_000
            let started = processorSeconds()
            let counted = loops.map { $0.drain() }
            let drained = processorSeconds()
            _ = detector.observe(counted, nowNanoseconds: now)
            judging += processorSeconds() - drained
            draining += drained - started
            parts += counted
        }
        let started = processorSeconds()
        _ = try budget.report(of: parts, durationMilliseconds: 100).encoded()
        reporting += processorSeconds() - started
    }
    let seconds = judging + reporting
    report([
        "microsecondsPerKey": seconds * 1e6 / Double(distinct),
        "judgingMicrosecondsPerKey": judging * 1e6 / Double(distinct),
        "drainingMicrosecondsPerKey": draining * 1e6 / Double(distinct),
        "coreShare": seconds / (Double(slices) * 0.1), "distinctKeysPerSlice": Double(distinct / slices),
    ])
}
