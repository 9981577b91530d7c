import ArgumentParser
import HotKeyDetection
import HotKeyPeer
import HotKeyRegistry
import HotKeyRules

struct RulesExplain: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain", abstract: "Which rule applies to a key, which others match, and what it says.",
        discussion: """
            Of the rules whose pattern matches, the most specific applies: more literal bytes first, then more sets ([…]), more \
            '?', fewer '*'; among equals the one that stands first. With --rules the file is asked, not the registry, and ZooKeeper \
            is not needed.
            """)

    @OptionGroup var key: KeyArgument

    @Option(
        name: .customLong("rules"),
        help: ArgumentHelp("A file of rules, JSON or YAML; '-' reads standard input.", valueName: "file"))
    var file: String?

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        let name = try key.name()
        if let file {
            let document = try explaining(global) { try InputFile.document(RulesDocument.self, in: file) }
            return try global.print(RulesExplainReport(name, try explaining(global) { try RuleBook(document) }))
        }
        let report = try await global.withSession { session in
            let book = try RuleBook(try await session.registry.rules().document)
            var report = RulesExplainReport(name, book)
            if let rule = report.rule, rule.thresholdShareOfNode > 0 {
                report.threshold = ThresholdReport(
                    rule, try await session.askCoordinator { try await $0.heat(of: name.bytes) }.map { $0.keys.first })
            }
            return report
        }
        try global.print(report)
    }
}

struct RulesExplainReport: Report {
    struct Match: Encodable, Sendable {
        /// In the document, from 1.
        var place: Int
        var pattern: String
        var literalBytes: Int
        var sets: Int
        var anyBytes: Int
        var runs: Int
        var applies: Bool
    }

    var key: KeyName
    /// The one that applies first.
    var matches: [Match]
    var rule: Rule?
    /// Where the rule has one that depends on the key's node and the coordinator was asked.
    var threshold: ThresholdReport?

    init(_ key: KeyName, _ book: RuleBook) {
        self.key = key
        let found = book.detection.allMatches(key.bytes)
        matches = found.enumerated().map { index, match in
            let specificity = match.rule.pattern.specificity
            return Match(
                place: match.position + 1, pattern: match.rule.pattern.source, literalBytes: specificity.literalBytes,
                sets: specificity.sets, anyBytes: specificity.anyBytes, runs: specificity.runs, applies: index == 0)
        }
        rule = book.rule(for: key.bytes)
    }

    func text(_ terminal: Terminal) -> String {
        guard let rule else { return "No rule matches: \(DisplayText.escaped("\(key)")) is never hot.\n" }
        var table = Table(columns: [
            .key("PATTERN"), .number("RULE"), .number("LITERAL BYTES"), .number("SETS"), .number("?"), .number("*"),
            .text(""),
        ])
        for match in matches {
            table.add(
                match.pattern, "\(match.place)", "\(match.literalBytes)", "\(match.sets)", "\(match.anyBytes)",
                "\(match.runs)", match.applies ? "applies" : "")
        }
        return table.text(terminal) + "\n" + Self.fields(of: rule, threshold).text(terminal)
    }

    /// What the rule says, in the words of docs/detection.md.
    static func fields(of rule: Rule, _ inForce: ThresholdReport? = nil) -> Fields {
        func span(_ seconds: Double) -> String { TimeText.span(Int64((seconds * 1_000).rounded())) }
        let slice = TimeText.span(Int64(RegistryLimits.sliceMilliseconds))
        let threshold = Double(inForce?.accessesPerSecond ?? rule.thresholdPerSecond)
        var fields = Fields()
        fields.add(
            "hot",
            "from \(rule.thresholdPerSecond) accesses/s or \(rule.thresholdBytesPerSecond) reply bytes/s over "
                + "\(TimeText.span(Int64(rule.windowMilliseconds))), in \(rule.confirmSlices) of \(rule.confirmOfSlices) slices of \(slice)"
        )
        if rule.thresholdShareOfNode > 0 {
            fields.add(
                "or",
                "from \(TopReport.percent(rule.thresholdShareOfNode)) of what its node can carry, but no less than "
                    + "\(rule.thresholdFloorPerSecond) accesses/s")
            fields.add("in force", inForce?.text)
        }
        // However low the threshold, a handful of accesses in one slice is no rate.
        let least = DetectionLimits.instantAccessesMin * 1_000 / Double(DetectionLimits.sliceMilliseconds)
        fields.add("at once", "from \(Int64(max(threshold * rule.instantMultiple, least))) accesses/s in one slice")
        fields.add(
            "leaves",
            "after \(span(rule.coolDownSeconds)) under \(Int64(threshold * rule.leaveRatio)) accesses/s, hot for at least "
                + span(rule.minimumHotSeconds))
        fields.add("comes back", "without confirmation within \(span(rule.reentrySeconds))")
        fields.add("write-hot", "when writes pass \(Int64((rule.writeHotRatio * 100).rounded())) % of the reads")
        fields.add("missing-hot", "when \(Int64((rule.missingHotRatio * 100).rounded())) % of the reads find nothing")
        fields.add(
            "action",
            "\(rule.action.rawValue), \(rule.copiesByHeat ? "by heat up to \(rule.copies)" : "\(rule.copies)") copies"
                + (rule.replicaReads ? ", replicas of a Redis Cluster are read" : ""))
        fields.add(
            "stale",
            "up to \(TimeText.span(Int64(rule.stalenessCapMilliseconds))), on error "
                + (rule.staleOnErrorCapSeconds == 0 ? "never" : "up to \(span(rule.staleOnErrorCapSeconds))"))
        fields.add(
            "value gone",
            rule.missHoldMilliseconds == 0 || ![.cache, .both].contains(rule.action(for: .read))
                ? "every read is told"
                : "one read per \(TimeText.span(Int64(rule.missIntervalMilliseconds))) is told at each agent, the others wait up to "
                    + TimeText.span(Int64(rule.missHoldMilliseconds)))
        return fields
    }
}
