import Foundation
import HotKeyDetection

func residentKilobytes() -> Double {
    let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
    let line = status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") } ?? ""
    return Double(line.filter(\.isNumber)) ?? 0
}

/// One agent and the coordinator in one process, a minute of it: two loops count, one report a slice, merged at once.
func memory(_ generator: inout SplitMix) throws {
    let slices = 600
    let keysPerSlice = 10_000_000 / slices
    let before = residentKilobytes()
    let loops = [SliceCounter(), SliceCounter()]
    let budget = ReportBudget()
    var ring = ReportRing(epoch: 1)
    let window = MergedWindow(hashSeed: 7)
    var tracker = HeatTracker(rules: try RuleSet([DetectionRule(pattern: GlobPattern("*"))]))
    var now: UInt64 = 1_000_000_000
    var peak = 0.0
    var number = 0
    for _ in 0..<slices {
        for _ in 0..<keysPerSlice {
            number += 1
            var name = "user:session:\(number)"
            name.withUTF8 { bytes in
                let key = UnsafeRawBufferPointer(bytes)
                _ = loops[number & 1].record(key: key, hash: KeyHash.hash(key, seed: 7), reads: 1, writes: 0)
            }
        }
        let report = budget.report(of: loops.map { $0.drain() }, durationMilliseconds: 100)
        let frame = try report.encoded()
        ring.append(frame, sequence: report.sequence)
        try window.ingest(agent: "agent-1", epoch: 1, frames: [frame], nowNanoseconds: now)
        now += UInt64(DetectionLimits.sliceMilliseconds) * 1_000_000
        window.advance(to: now)
        _ = tracker.evaluate(window, nowNanoseconds: now)
        peak = max(peak, residentKilobytes() - before)
    }
    report(["peakMebibytes": peak / 1024, "keys": Double(number)])
}
