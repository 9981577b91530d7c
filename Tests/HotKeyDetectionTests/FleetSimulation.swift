@testable import HotKeyDetection

/// Agents and a coordinator from the counted access to the decision, with an exact counter beside them. Simulated time.
///
/// What the coordinator has published reaches the agents' budgets two slices later, as keys to watch.
struct FleetSimulation {
    private struct Agent {
        let name: String
        let counter = SliceCounter()
        let budget: ReportBudget
    }

    static let windowSlices = 10

    let keys: [[UInt8]]
    let window = MergedWindow(hashSeed: seed)
    private(set) var tracker: HeatTracker
    private let agents: [Agent]
    private let hashes: [UInt64]
    private let numbers: [[UInt8]: Int]
    private var now = Fleet.start
    private(set) var slices = 0
    /// Accesses of each key in the last slices, the running one included.
    private var exact: [[UInt32]]
    /// The same, of the last second up to the last slice that has ended.
    private(set) var exactInWindow: [UInt32]
    private var published: Set<Int> = []
    private var watchedAt: [(slice: Int, hashes: Set<UInt64>)] = []

    init(
        agents count: Int, keys keyCount: Int, rules: RuleSet,
        bytesPerSecond: Int = DetectionLimits.reportBytesPerSecond
    ) throws {
        keys = (0..<keyCount).map { bytes("user:session:\(1_000_000 + $0)") }
        hashes = keys.map { KeyHash.hash($0, seed: seed) }
        numbers = Dictionary(uniqueKeysWithValues: keys.enumerated().map { ($0.element, $0.offset) })
        tracker = HeatTracker(rules: rules)
        agents = (0..<count).map { Agent(name: "agent-\($0)", budget: ReportBudget(bytesPerSecond: bytesPerSecond)) }
        exact = Array(repeating: Array(repeating: 0, count: keyCount), count: Self.windowSlices + 1)
        exactInWindow = Array(repeating: 0, count: keyCount)
        // Agents have not started in the same slice: the turns of a key's tail are spread over them.
        for (number, agent) in agents.enumerated() {
            for _ in 0..<number % DetectionLimits.tailSlices {
                _ = agent.budget.report(of: [], durationMilliseconds: 100)
            }
        }
    }

    mutating func record(_ key: Int, agent: Int, reads: UInt32 = 1) {
        keys[key].withUnsafeBytes {
            _ = agents[agent].counter.record(key: $0, hash: hashes[key], reads: reads, writes: 0)
        }
        exact[slices % exact.count][key] += reads
    }

    /// Ends the slice. Returns what the coordinator makes of it.
    mutating func endSlice() throws -> [HeatChange] {
        while let watch = watchedAt.first, watch.slice <= slices {
            for agent in agents { agent.budget.watch(hashes: watch.hashes) }
            watchedAt.removeFirst()
        }
        for (number, agent) in agents.enumerated() {
            let frame = try agent.budget.report(of: [agent.counter.drain()], durationMilliseconds: 100).encoded()
            try window.ingest(
                agent: agent.name, epoch: UInt64(number + 1), frames: [frame], nowNanoseconds: now + milliseconds(50))
        }
        now += milliseconds(100)
        let changes = tracker.evaluate(window, nowNanoseconds: now)
        let (ended, left) = (slices % exact.count, (slices + 1) % exact.count)
        for key in exactInWindow.indices {
            exactInWindow[key] = exactInWindow[key] + exact[ended][key] - exact[left][key]
        }
        slices += 1
        for key in exact[left].indices { exact[left][key] = 0 }
        if !changes.isEmpty {
            for change in changes {
                guard let number = numbers[change.key] else { continue }
                if change.state == .cold { published.remove(number) } else { published.insert(number) }
            }
            watchedAt.append((slices + 2, Set(published.map { hashes[$0] })))
        }
        return changes
    }

    func number(of key: [UInt8]) -> Int { numbers[key] ?? -1 }
}
