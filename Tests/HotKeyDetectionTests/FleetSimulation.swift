@testable import HotKeyDetection

/// Agents and a coordinator from the counted access to the decision, with an exact counter beside them. Simulated time.
///
/// What the coordinator has published reaches the agents' budgets two slices later, as keys to watch. The first agents may be slow:
/// each of their frames takes several slices.
struct FleetSimulation {
    private struct Agent {
        let name: String
        let counter = SliceCounter()
        let budget: ReportBudget
    }

    /// Accesses of each key, slice by slice, of agents that end their frames together.
    private struct Exact {
        private var bySlice: [[UInt32]]
        /// Of the last slices up to the last one that was told.
        private(set) var inWindow: [UInt32]

        init(keys: Int, windowSlices: Int, frameSlices: Int) {
            bySlice = Array(repeating: Array(repeating: 0, count: keys), count: windowSlices + frameSlices)
            inWindow = Array(repeating: 0, count: keys)
        }

        mutating func add(_ reads: UInt32, key: Int, slice: Int) { bySlice[slice % bySlice.count][key] += reads }

        /// The last slices that were recorded, this one included, are told.
        mutating func tell(_ slices: Int, through slice: Int, windowSlices: Int) {
            for told in slice - slices + 1...slice {
                let new = told % bySlice.count
                let old = (told - windowSlices + bySlice.count) % bySlice.count
                for key in inWindow.indices {
                    inWindow[key] += bySlice[new][key]
                    if told >= windowSlices { inWindow[key] -= bySlice[old][key] }
                }
            }
            // They are recorded anew from the next slice on.
            for next in slice + 1...slice + slices {
                let place = next % bySlice.count
                for key in inWindow.indices { bySlice[place][key] = 0 }
            }
        }
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
    private let windowSlices: Int
    private let slow: (agents: Int, slices: Int)
    private var exact: Exact
    private var exactOfSlow: Exact
    private var published: Set<Int> = []
    private var watchedAt: [(slice: Int, hashes: Set<UInt64>)] = []

    init(
        agents count: Int, keys keyCount: Int, rules: RuleSet,
        bytesPerSecond: Int = DetectionLimits.reportBytesPerSecond, windowSlices: Int = FleetSimulation.windowSlices,
        slow: (agents: Int, slices: Int) = (0, 1)
    ) throws {
        self.windowSlices = windowSlices
        self.slow = slow
        keys = (0..<keyCount).map { bytes("user:session:\(1_000_000 + $0)") }
        hashes = keys.map { KeyHash.hash($0, seed: seed) }
        numbers = Dictionary(uniqueKeysWithValues: keys.enumerated().map { ($0.element, $0.offset) })
        tracker = HeatTracker(rules: rules)
        agents = (0..<count).map { Agent(name: "agent-\($0)", budget: ReportBudget(bytesPerSecond: bytesPerSecond)) }
        exact = Exact(keys: keyCount, windowSlices: windowSlices, frameSlices: 1)
        exactOfSlow = Exact(keys: slow.agents > 0 ? keyCount : 0, windowSlices: windowSlices, frameSlices: slow.slices)
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
        if agent < slow.agents {
            exactOfSlow.add(reads, key: key, slice: slices)
        } else {
            exact.add(reads, key: key, slice: slices)
        }
    }

    /// A key's accesses within the window, of each agent up to what it has told last.
    func exactInWindow(_ key: Int) -> UInt32 { exact.inWindow[key] + (slow.agents > 0 ? exactOfSlow.inWindow[key] : 0) }

    /// Ends the slice. Returns what the coordinator makes of it.
    mutating func endSlice() throws -> [HeatChange] {
        while let watch = watchedAt.first, watch.slice <= slices {
            for agent in agents { agent.budget.watch(hashes: watch.hashes) }
            watchedAt.removeFirst()
        }
        let isSlowOnesTurn = (slices + 1) % slow.slices == 0
        for (number, agent) in agents.enumerated() {
            let isSlow = number < slow.agents
            if isSlow, !isSlowOnesTurn { continue }
            let frame = try agent.budget.report(
                of: [agent.counter.drain()], durationMilliseconds: UInt32(100 * (isSlow ? slow.slices : 1))
            ).encoded()
            try window.ingest(
                agent: agent.name, epoch: UInt64(number + 1), frames: [frame], nowNanoseconds: now + milliseconds(50))
        }
        now += milliseconds(100)
        let changes = tracker.evaluate(window, nowNanoseconds: now)
        exact.tell(1, through: slices, windowSlices: windowSlices)
        if slow.agents > 0, isSlowOnesTurn {
            exactOfSlow.tell(slow.slices, through: slices, windowSlices: windowSlices)
        }
        slices += 1
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
