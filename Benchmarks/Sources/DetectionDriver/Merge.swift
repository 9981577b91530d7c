import Foundation
import HotKeyDetection

func merge(_ generator: inout SplitMix) throws {
    let agents = 1_000
    let slices = 12
    let zipf = Zipf(ranks: 200_000, exponent: 0.99)
    let budget = DetectionLimits.reportBytesPerSecond / 10
    // What each agent tells: its own draws of the same distribution, as many as its frame holds.
    var frames: [[[UInt8]]] = []
    var entries = 0
    for _ in 0..<agents {
        var own: [[UInt8]] = []
        for sequence in 1...slices {
            var counts: [Int: UInt64] = [:]
            var bytes = 64
            while bytes < budget - 32 {
                let rank = zipf.rank(&generator)
                if counts[rank] == nil { bytes += 24 }
                counts[rank, default: 0] += 1
            }
            entries += counts.count
            own.append(
                try Report(
                    sequence: UInt64(sequence), totals: AccessTotals(reads: counts.values.reduce(0, +)),
                    unlistedBound: 1,
                    entries: counts.map {
                        Report.Entry(key: Array("user:session:\(100_000_000 + $0.key)".utf8), reads: $0.value)
                    }
                ).encoded())
        }
        frames.append(own)
    }
    var best = Double.infinity
    var deciding = 0.0
    for _ in 0..<5 {
        let window = MergedWindow(hashSeed: 7)
        var tracker = HeatTracker(rules: try RuleSet([DetectionRule(pattern: GlobPattern("*"))]))
        var now: UInt64 = 1_000_000_000
        var evaluating = 0.0
        let started = processorSeconds()
        for slice in 0..<slices {
            for agent in 0..<agents {
                try window.ingest(
                    agent: "agent-\(agent)", epoch: UInt64(agent + 1), frames: [frames[agent][slice]],
                    nowNanoseconds: now)
            }
            now += UInt64(DetectionLimits.sliceMilliseconds) * 1_000_000
            let before = processorSeconds()
            window.advance(to: now)
            _ = tracker.evaluate(window, nowNanoseconds: now)
            evaluating += processorSeconds() - before
        }
        let seconds = processorSeconds() - started
        if seconds < best {
            best = seconds
            deciding = evaluating / seconds
        }
    }
    report([
        "millionEntriesPerSecond": Double(entries) / best / 1e6, "entriesPerFrame": Double(entries / agents / slices),
        "decidingShare": deciding, "agents": Double(agents),
        "agentsAtOneSliceEach": Double(agents) * 0.1 * Double(slices) / best,
    ])
}
