import ArgumentParser
import HotKeyRegistry

struct Rules: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show, apply or check the rules: what is hot, and what is done about it.",
        subcommands: [RulesShow.self, RulesApply.self, RulesValidate.self, RulesExplain.self])

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        throw ValidationError(
            "Say what to do: rules show, rules apply FILE, rules validate FILE or rules explain KEY.")
    }
}

struct RulesShow: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "The rules in force; with --output json in the form that 'apply' takes.")

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        try global.print(
            try await global.withSession { session in RulesReport(document: try await session.registry.rules().document)
            })
    }
}

struct RulesApply: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply", abstract: "Replace the rules by those in a file, all or nothing.")

    @OptionGroup var document: DocumentFile
    @OptionGroup var why: ReasonOption
    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        let rules = try explaining(global) { try document.read(RulesDocument.self) }
        let reason = why.reason
        try global.print(
            try await global.withSession { session in
                DocumentEditReport(
                    session, "rules", NumberText.count(rules.rules.count, "rule"),
                    try await session.registry.applyRules(rules, reason: reason))
            })
    }
}

struct RulesValidate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "validate", abstract: "Check a file of rules. Needs no ZooKeeper.")

    @OptionGroup var document: DocumentFile
    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        let rules = try explaining(global) { try document.read(RulesDocument.self) }
        try global.print(
            ValidationReport(file: document.name, summary: NumberText.count(rules.rules.count, "rule")))
    }
}

/// The document itself, so that what is shown can be edited and applied; with all fields, which a stored one leaves out where they
/// have their defaults.
struct RulesReport: Report {
    var document: RulesDocument

    private enum CodingKeys: String, CodingKey { case schema, rules }

    func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: CodingKeys.self)
        try fields.encode(document.schema, forKey: .schema)
        try fields.encode(document.rules, forKey: .rules)
    }

    func text(_ terminal: Terminal) -> String {
        guard !document.rules.isEmpty else { return "There are no rules: no key is ever hot.\n" }
        var table = Table(columns: [
            .key("PATTERN"), .number("HOT FROM/S"), .number("WINDOW"), .number("COOL-DOWN"), .text("ACTION"),
            .number("COPIES"), .number("STALE UP TO"), .number("ON ERROR UP TO"), .text("MISS EVERY/HELD"),
        ])
        for rule in document.rules {
            table.add(
                rule.pattern,
                "\(rule.thresholdPerSecond)"
                    + (rule.thresholdShareOfNode > 0
                        ? " or \(TopReport.percent(rule.thresholdShareOfNode)) of node" : ""),
                TimeText.span(Int64(rule.windowMilliseconds)),
                Self.seconds(rule.coolDownSeconds), rule.action.rawValue, "\(rule.copies)",
                TimeText.span(Int64(rule.stalenessCapMilliseconds)),
                rule.staleOnErrorCapSeconds == 0 ? "never" : Self.seconds(rule.staleOnErrorCapSeconds),
                rule.missHoldMilliseconds == 0
                    ? "never held"
                    : "\(TimeText.span(Int64(rule.missIntervalMilliseconds)))/\(TimeText.span(Int64(rule.missHoldMilliseconds)))"
            )
        }
        return table.text(terminal)
    }

    private static func seconds(_ value: Double) -> String { TimeText.span(Int64((value * 1_000).rounded())) }
}
