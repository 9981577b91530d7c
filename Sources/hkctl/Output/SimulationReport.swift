import HotKeyDetection
import HotKeyRegistry
import HotKeyRules
import HotKeySimulation

/// What `simulate` found. Times are seconds from the trace's first request.
struct SimulationReport: Report {
    struct Trace: Encodable, Sendable {
        var file: String
        var format: String
        var lines: Int
        /// By the trace's own clock, in seconds.
        var startSeconds: Double
        var durationSeconds: Double
        var requests: UInt64
        var reads: UInt64
        var writes: UInt64
        /// Of the reads, where the trace tells.
        var misses: UInt64
        var commandsWithoutKeys: Int
        var commandsOfScripts: Int
        var unknownCommands: Int
        /// Requests whose time was before that of the line above, by at most a second.
        var backwardRequests: UInt64
        /// The shortest time from one request to a later one.
        var timeStepSeconds: Double?
        /// Requests that came within a step count in one slice: keys look hotter than they were.
        var hasCoarseTimes: Bool
        var hasUnfinishedLine: Bool
    }
    struct Spell: Encodable, Sendable {
        var hotAtSeconds: Double
        var coolingAtSeconds: Double?
        var coldAtSeconds: Double?
        var cause: String
        var readsPerSecond: Double
        var writesPerSecond: Double
        var missesPerSecond: Double
        var errorPerSecond: Double
    }
    struct Key: Encodable, Sendable {
        var key: KeyName
        var kind: HotKind
        var action: Rule.Action
        /// In the document, from 1.
        var rule: Int
        var pattern: String
        var thresholdPerSecond: Int
        var home: String
        var hotSeconds: Double
        var times: Int
        var spells: [Spell]
        var peakPerSecond: UInt64
        var reads: UInt64
        var writes: UInt64
        var localReads: UInt64
        var copyReads: UInt64
    }
    struct Node: Encodable, Sendable {
        var name: String
        var address: String
        var requestsBefore: UInt64
        var requestsAfter: UInt64
        var peakPerSecondBefore: UInt64
        var peakPerSecondAfter: UInt64
    }
    private enum CodingKeys: String, CodingKey {
        case trace, agents, rules, nodeCapacityPerSecond, hotAtOnceMax, keysLeftOut, keys, nodes
    }

    var trace: Trace
    var agents: Int
    var rules: Int
    /// As given; nil: thresholds that are shares of it did not count.
    var nodeCapacityPerSecond: Double?
    /// Whether a rule asks for it.
    private let needsCapacity: Bool
    var hotAtOnceMax: Int
    var keysLeftOut: Int
    var keys: [Key]
    var nodes: [Node]

    init(
        _ reading: TraceReading, _ result: SimulationResult, _ book: RuleBook, _ topology: TopologyDocument,
        agents: Int,
        nodeCapacityPerSecond: Double?
    ) {
        trace = Trace(
            file: reading.name, format: reading.format?.rawValue ?? "", lines: reading.lines,
            startSeconds: Self.seconds(result.startNanoseconds),
            durationSeconds: Self.seconds(result.durationNanoseconds), requests: result.requests, reads: result.reads,
            writes: result.writes, misses: result.misses, commandsWithoutKeys: reading.withoutKeys,
            commandsOfScripts: reading.ofScripts,
            unknownCommands: reading.unknownCommands, backwardRequests: result.backwardRequests,
            timeStepSeconds: result.timeStepNanoseconds.map(Self.seconds), hasCoarseTimes: result.hasCoarseTimes,
            hasUnfinishedLine: reading.hasUnfinishedLine)
        self.agents = agents
        rules = book.document.rules.count
        self.nodeCapacityPerSecond = nodeCapacityPerSecond
        needsCapacity = book.detection.needsCapacities
        hotAtOnceMax = result.hotAtOnceMax
        keysLeftOut = result.keysLeftOut
        keys = result.keys.map { Key($0, book.document.rules[$0.rulePosition], topology.nodes[$0.home].name) }
        nodes = zip(topology.nodes, result.nodes).map { node, load in
            Node(
                name: node.name, address: node.address, requestsBefore: load.before.requests,
                requestsAfter: load.after.requests, peakPerSecondBefore: load.before.peakPerSecond,
                peakPerSecondAfter: load.after.peakPerSecond)
        }
    }

    fileprivate static func seconds(_ nanoseconds: UInt64) -> Double { Double(nanoseconds / 1_000) / 1e6 }

    func text(_ terminal: Terminal) -> String {
        fieldsText(terminal) + "\n" + keysText(terminal) + "\n" + nodesText(terminal)
    }

    private func fieldsText(_ terminal: Terminal) -> String {
        var fields = Fields()
        fields.add("trace", "\(trace.file), \(trace.format), \(NumberText.count(trace.lines, "line"))")
        fields.add("time", Self.text(trace.durationSeconds))
        fields.add(
            "requests",
            "\(trace.requests), of keys \(trace.reads) reads and \(trace.writes) writes"
                + (trace.misses > 0 ? "; \(trace.misses) misses" : ""))
        var left: [String] = []
        if trace.commandsWithoutKeys > 0 { left.append("\(trace.commandsWithoutKeys) without keys") }
        if trace.commandsOfScripts > 0 { left.append("\(trace.commandsOfScripts) of scripts") }
        if trace.unknownCommands > 0 { left.append("\(trace.unknownCommands) of commands that are not known") }
        if trace.hasUnfinishedLine { left.append("the last line, which is not whole") }
        fields.add("passed over", left.isEmpty ? nil : left.joined(separator: ", "))
        if trace.backwardRequests > 0 {
            fields.add("out of order", "\(trace.backwardRequests) counted at the time of the line above")
        }
        if trace.hasCoarseTimes, let step = trace.timeStepSeconds {
            fields.add(
                "too coarse",
                "times are \(Self.text(step)) apart at least: what came in between counts in one slice of "
                    + "\(DetectionLimits.sliceMilliseconds)ms, so keys look up to \(Self.slices(step)) times as hot as they were"
            )
        }
        fields.add("agents", "\(agents)")
        fields.add("rules", "\(rules)")
        if needsCapacity {
            fields.add(
                "node carries",
                nodeCapacityPerSecond.map { "\(NumberText.rate($0)) commands/s" }
                    ?? "not given (--node-capacity): thresholds that are a share of it do not count")
        }
        fields.add("hot at once", "at most \(NumberText.count(hotAtOnceMax, "key"))")
        return fields.text(terminal)
    }

    private func keysText(_ terminal: Terminal) -> String {
        guard !keys.isEmpty else { return "No key would have been hot.\n" }
        var table = Table(columns: [
            .key("KEY"), .number("HOT AT"), .number("FOR"), .number("TIMES"), .text("KIND"), .number("PEAK/S"),
            .number("READS"), .number("LOCAL"), .number("COPIES"), .number("WRITES"), .text("ACTION"), .key("RULE"),
            .text("HOME"),
        ])
        for key in keys {
            table.add(
                key.key.description, Self.text(key.spells[0].hotAtSeconds), Self.text(key.hotSeconds), "\(key.times)",
                key.kind.rawValue, "\(key.peakPerSecond)", "\(key.reads)", Self.share(key.localReads, of: key.reads),
                Self.share(key.copyReads, of: key.reads), "\(key.writes)", key.action.rawValue, key.pattern, key.home)
        }
        return table.text(terminal)
            + (keysLeftOut > 0 ? "and \(NumberText.count(keysLeftOut, "key")) more\n" : "")
    }

    private func nodesText(_ terminal: Terminal) -> String {
        var table = Table(columns: [
            .text("NODE"), .text("ADDRESS"), .number("REQUESTS"), .number("WITH"), .number("TAKEN OFF"),
            .number("PEAK/S"), .number("WITH"), .number("TAKEN OFF"),
        ])
        for node in nodes {
            table.add(
                node.name, node.address, "\(node.requestsBefore)", "\(node.requestsAfter)",
                Self.takenOff(node.requestsBefore, node.requestsAfter), "\(node.peakPerSecondBefore)",
                "\(node.peakPerSecondAfter)", Self.takenOff(node.peakPerSecondBefore, node.peakPerSecondAfter))
        }
        return table.text(terminal)
    }

    private static func slices(_ seconds: Double) -> Int64 {
        Int64((seconds * 1_000 / Double(DetectionLimits.sliceMilliseconds)).rounded(.up))
    }

    /// `12.3s`: to the tenth, as slices are.
    private static func text(_ seconds: Double) -> String {
        let tenths = Int64((seconds * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)s"
    }

    private static func share(_ part: UInt64, of whole: UInt64) -> String {
        whole == 0 ? "-" : "\(Int((Double(part) / Double(whole) * 100).rounded()))%"
    }

    /// Negative where copies bring a node more than it loses.
    private static func takenOff(_ before: UInt64, _ after: UInt64) -> String {
        before == 0 ? "-" : "\(Int(((Double(before) - Double(after)) / Double(before) * 100).rounded()))%"
    }
}

extension SimulationReport.Key {
    fileprivate init(_ key: SimulationResult.Key, _ rule: Rule, _ home: String) {
        let kind = HotKind(key.kind)
        self.init(
            key: KeyName(key.key), kind: kind, action: rule.action(for: kind), rule: key.rulePosition + 1,
            pattern: rule.pattern, thresholdPerSecond: key.thresholdPerSecond, home: home,
            hotSeconds: SimulationReport.seconds(key.hotNanoseconds), times: key.spellCount,
            spells: key.spells.map(SimulationReport.Spell.init), peakPerSecond: key.peakPerSecond, reads: key.reads,
            writes: key.writes, localReads: key.localReads, copyReads: key.copyReads)
    }
}

extension SimulationReport.Spell {
    fileprivate init(_ spell: SimulationResult.Spell) {
        self.init(
            hotAtSeconds: SimulationReport.seconds(spell.hotAt),
            coolingAtSeconds: spell.coolingAt.map(SimulationReport.seconds),
            coldAtSeconds: spell.coldAt.map(SimulationReport.seconds), cause: spell.cause.rawValue,
            readsPerSecond: spell.sample.readsPerSecond, writesPerSecond: spell.sample.writesPerSecond,
            missesPerSecond: spell.sample.missesPerSecond, errorPerSecond: spell.sample.errorPerSecond)
    }
}
