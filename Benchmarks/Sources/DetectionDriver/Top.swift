import Foundation
import HotKeyDetection

/// What HK.TOP costs the coordinator while its window is full: as many keys as it holds, each one busier than the one before it, as
/// many of them hot as may be, and as many rules as there can be, none of which the first look knows.
func top() throws {
    let keys = DetectionLimits.mergedKeysMax
    let perFrame = 2_000
    // A quarter of them each: by a beginning, by an end, by the same beginning as all keys and something after it, by what may stand
    // anywhere.
    let forms: [(Int) -> String] = [
        { "user:session:9\($0):*" }, { "*:\($0):cart" }, { "user:session:*\($0):*" }, { "*:s*\($0)x*" },
    ]
    let rules = try (0..<DetectionLimits.rulesMax - 1).map {
        DetectionRule(pattern: try GlobPattern(forms[$0 % forms.count]($0)), thresholdPerSecond: 1_000_000_000)
    }
    let any = DetectionRule(pattern: try GlobPattern("*"), thresholdPerSecond: keys - DetectionLimits.hotKeysMax)
    let window = MergedWindow(hashSeed: 7)
    var tracker = HeatTracker(rules: try RuleSet(rules + [any]))
    var now: UInt64 = 1_000_000_000
    _ = tracker.evaluate(window, nowNanoseconds: now)
    for slice in 1...12 {
        for agent in 0..<keys / perFrame {
            let entries = (0..<perFrame).map { place -> Report.Entry in
                let number = agent * perFrame + place
                return Report.Entry(key: Array("user:session:\(100_000_000 + number)".utf8), reads: UInt64(number / 10))
            }
            let frame = try Report(sequence: UInt64(slice), unlistedBound: 1, entries: entries).encoded()
            try window.ingest(agent: "\(agent)", epoch: UInt64(agent + 1), frames: [frame], nowNanoseconds: now)
        }
        now += UInt64(DetectionLimits.sliceMilliseconds) * 1_000_000
        _ = tracker.evaluate(window, nowNanoseconds: now)
    }
    var values: [String: Double] = ["keys": Double(window.keyCount), "hotKeys": Double(tracker.hotKeyCount)]
    func measure(_ name: String, _ count: Int, times: Int) {
        var most = 0.0
        for _ in 0..<times {
            let before = processorSeconds()
            precondition(tracker.top(count, in: window).count == count, "as many keys as were asked for")
            most = max(most, processorSeconds() - before)
        }
        values[name + "Milliseconds"] = most * 1_000
    }
    // As after a change of the rules: which one covers a key is not known of any.
    tracker.update(rules: tracker.rules)
    measure("firstOf1000", 1_000, times: 1)
    tracker.update(rules: tracker.rules)
    let before = processorSeconds()
    _ = tracker.evaluate(window, nowNanoseconds: now)
    values["firstDecisionMilliseconds"] = (processorSeconds() - before) * 1_000
    measure("of1000", 1_000, times: 20)
    measure("of20", 20, times: 20)
    // All of it is idle by now, and the hot keys are shown all the same.
    now += 3_000_000_000
    _ = tracker.evaluate(window, nowNanoseconds: now)
    measure("idleOf1000", 1_000, times: 20)
    report(values)
}
