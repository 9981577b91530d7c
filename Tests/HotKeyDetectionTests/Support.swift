@testable import HotKeyDetection

/// SplitMix64: the same numbers for the same seed everywhere.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// Ranks 0..<count drawn with probability proportional to 1/(rank+1)^exponent.
struct Zipf {
    private let cumulative: [Double]

    init(count: Int, exponent: Double) {
        var sum = 0.0
        cumulative = (1...count).map { rank in
            sum += 1 / power(Double(rank), exponent)
            return sum
        }
    }

    func draw(using generator: inout SeededGenerator) -> Int {
        let wanted = Double.random(in: 0..<cumulative[cumulative.count - 1], using: &generator)
        var (low, high) = (0, cumulative.count - 1)
        while low < high {
            let middle = (low + high) / 2
            if cumulative[middle] > wanted { high = middle } else { low = middle + 1 }
        }
        return low
    }
}

/// The standard library has no `pow`: e^(exponent·ln base) by repeated square roots, exact enough for weights.
private func power(_ base: Double, _ exponent: Double) -> Double {
    var result = 1.0
    for _ in 0..<Int(exponent) { result *= base }
    var (fraction, root) = (exponent - Double(Int(exponent)), base)
    for _ in 0..<40 where fraction > 0 {
        root = root.squareRoot()
        fraction *= 2
        if fraction >= 1 {
            result *= root
            fraction -= 1
        }
    }
    return result
}

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

func key(_ number: Int) -> [UInt8] { bytes("key:\(number)") }

let seed: UInt64 = 0x5EED

extension SliceCounter {
    @discardableResult
    func record(_ key: [UInt8], reads: UInt32 = 1, writes: UInt32 = 0) -> CounterSlot {
        key.withUnsafeBytes {
            record(key: $0, hash: KeyHash.hash($0, seed: seed), reads: reads, writes: writes)
        }
    }
}

extension ReportBudget {
    func report(of part: SliceSummary, durationMilliseconds: UInt32) -> Report {
        report(of: [part], durationMilliseconds: durationMilliseconds)
    }
}

extension SliceSummary {
    var byKey: [[UInt8]: Entry] {
        Dictionary(uniqueKeysWithValues: entries.map { (key(of: $0), $0) })
    }
}

extension DetectionRule {
    static func forAll(
        threshold: Int = 1_000, _ change: (inout DetectionRule) -> Void = { _ in }
    ) throws -> DetectionRule {
        var rule = DetectionRule(pattern: try GlobPattern("*"), thresholdPerSecond: threshold)
        change(&rule)
        return rule
    }
}

func milliseconds(_ count: Int) -> UInt64 { UInt64(count) * 1_000_000 }

/// Agents that each send one frame a slice to one window, driven slice by slice.
struct Fleet {
    /// Far from zero, as an uptime is.
    static let start = milliseconds(5_000_000)

    var now = Fleet.start
    let window: MergedWindow
    let agents: Int
    private var sequence: UInt64 = 0

    init(agents: Int, keysMax: Int = DetectionLimits.mergedKeysMax) {
        self.agents = agents
        window = MergedWindow(hashSeed: seed, keysMax: keysMax)
    }

    /// A slice passes in which every agent reports the same entries.
    mutating func slice(_ entries: [Report.Entry], unlistedBound: UInt64 = 0) throws {
        sequence += 1
        let frame = try Report(sequence: sequence, unlistedBound: unlistedBound, entries: entries).encoded()
        for agent in 0..<agents {
            try window.ingest(
                agent: "agent-\(agent)", epoch: 1, frames: [frame], nowNanoseconds: now + milliseconds(agent % 90))
        }
        now += milliseconds(100)
        window.advance(to: now)
    }

    /// A slice passes without reports.
    mutating func silence() {
        now += milliseconds(100)
        window.advance(to: now)
    }
}
