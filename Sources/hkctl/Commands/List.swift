import ArgumentParser
import HotKeyRegistry

struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The hot set: detected keys, pins and denies.",
        discussion: "Rates are those at the key's last change of state; 'get KEY --agents' shows the agents' own view.")

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        let report = try await global.withSession { session in
            async let pins = session.registry.pins().document
            let hot = try await session.registry.hotSet()
            let now = Timestamp.now
            return ListReport(
                app: session.app, epoch: hot.head.epoch, version: hot.head.version, publishedAt: hot.head.publishedAt,
                coordinator: hot.head.coordinator, keys: KeyRow.all(hot.records, try await pins, now: now),
                problems: hot.problems.map(\.description), readAt: now)
        }
        try global.print(report)
    }
}

struct ListReport: Report {
    var app: String
    var epoch: Int64
    var version: Int64
    var publishedAt: Timestamp
    var coordinator: String
    var keys: [KeyRow]
    var problems: [String]
    var readAt: Timestamp

    func text(_ terminal: Terminal) -> String {
        var table = Table(columns: [
            .key("KEY"), .text("STATE"), .text("KIND"), .number("READS/S"), .number("±"), .number("WRITES/S"),
            .number("MISSES/S"), .number("COPIES"), .number("SINCE"), .freeText("DECIDED"),
        ])
        for row in keys {
            table.add(
                row.key.description, row.stateText, row.kind?.rawValue ?? "-", NumberText.rate(row.readsPerSecond),
                NumberText.rate(row.errorPerSecond), NumberText.rate(row.writesPerSecond),
                NumberText.rate(row.missesPerSecond), row.copies.map(String.init) ?? "rule",
                row.since.map { TimeText.age($0, now: readAt) } ?? "-",
                row.decision?.summary(now: readAt) ?? "-")
        }
        var text = keys.isEmpty ? "No key is hot, pinned or denied in \(app).\n" : table.text(terminal)
        for problem in problems { text += "Unreadable: \(DisplayText.escaped(problem))\n" }
        return text
    }
}
