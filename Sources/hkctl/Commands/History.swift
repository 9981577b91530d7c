import ArgumentParser
import HotKeyRegistry

struct History: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Who changed what, when and why; the newest first.",
        discussion: "The last \(RegistryLimits.historyMax) changes are kept.")

    @Option(help: ArgumentHelp("Show only the newest.", valueName: "n"))
    var limit: Int?

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func validate() throws {
        if let limit, limit < 1 { throw ValidationError("--limit: at least 1.") }
    }

    func run() async throws {
        let limit = limit ?? .max
        try global.print(
            try await global.withSession { session in
                HistoryReport(app: session.app, history: Array(try await session.registry.history().prefix(limit)))
            })
    }
}

struct HistoryReport: Report {
    var app: String
    var history: [HistoryEntry]

    func text(_ terminal: Terminal) -> String {
        guard !history.isEmpty else { return "Nothing has been changed in \(app) yet.\n" }
        var table = Table(columns: [
            .text("TIME"), .text("AUTHOR"), .text("VERB"), .key("KEY"), .text("DETAIL"), .freeText("REASON"),
        ])
        for entry in history {
            table.add(
                "\(entry.at)", entry.author, entry.verb.rawValue, entry.key?.description ?? "-", entry.detail ?? "-",
                entry.reason ?? "-")
        }
        return table.text(terminal)
    }
}
