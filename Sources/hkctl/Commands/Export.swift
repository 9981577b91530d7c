import ArgumentParser
import Foundation
import HotKeyRegistry
import StrictCoding

struct Export: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write control, rules, pins with their history, and topology into one file.",
        discussion: """
            The four documents as they stood at one moment, as JSON that 'import' takes. What is detected and who may do what \
            (acl) are not part of it.
            """)

    @Argument(help: "The file to write, replaced whole; without one, or with '-', standard output.")
    var file: String?

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        let export = try await global.withSession { session in try await session.registry.export() }
        let bytes = try explaining(global) { try StrictEncoder.encode(export, indented: true) + [0x0a] }
        guard let file, file != "-" else { return Console.write(String(decoding: bytes, as: UTF8.self)) }
        do {
            try Data(bytes).write(to: URL(fileURLWithPath: file), options: .atomic)
        } catch {
            throw Failure(.failed, "\(file) cannot be written: \(InputFile.reason(error))", "Nothing was exported.")
        }
        try global.print(ExportReport(app: export.app, file: file, bytes: bytes.count, export))
    }
}

struct ExportReport: Report {
    var app: String
    var file: String
    var bytes: Int
    /// What is in it, in numbers.
    var pins: Int
    var denies: Int
    var history: Int
    var rules: Int
    var nodes: Int

    init(app: String, file: String, bytes: Int, _ export: RegistryExport) {
        self.app = app
        self.file = file
        self.bytes = bytes
        pins = export.pins.pins.count
        denies = export.pins.denies.count
        history = export.pins.history.count
        rules = export.rules.rules.count
        nodes = export.topology.nodes.count
    }

    func text(_ terminal: Terminal) -> String {
        let parts = [
            NumberText.count(rules, "rule"), NumberText.count(pins, "pin"), NumberText.count(denies, "deny", "denies"),
            NumberText.count(nodes, "node"),
        ]
        return "Exported \(app) to \(DisplayText.escaped(file)): \(parts.joined(separator: ", "))\n"
    }
}

struct Import: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make control, rules, pins and topology those of an exported file, all or nothing.",
        discussion: """
            The file is checked whole before anything is written. The history becomes the file's too, with this import on \
            top. An app that is not there is initialised with them; without --app it is the file's.
            """)

    @OptionGroup var document: DocumentFile

    @Flag(help: "Show what would change and change nothing.")
    var dryRun = false

    @OptionGroup var why: ReasonOption
    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        let export = try readDocument()
        var options = global
        if options.appName == nil { options.app = export.value.app }
        let (isDryRun, reason) = (dryRun, why.reason)
        let report = try await options.withSession { session in
            ImportText(
                app: session.app, isDryRun: isDryRun,
                try await session.registry.importAll(export.value, isDryRun: isDryRun, reason: reason))
        }
        try global.print(report)
    }

    private final class Read: Sendable {
        let value: RegistryExport
        init(_ value: RegistryExport) { self.value = value }
    }

    // As in `topology apply`: with the document itself in the coroutine, Swift 6.3.1 crashes in a release build.
    @inline(never)
    private func readDocument() throws -> Read {
        Read(try explaining(global) { try document.read(RegistryExport.self) })
    }
}

struct ImportText: Report {
    struct Change: Encodable, Sendable {
        var znode: String
        /// In words.
        var details: [String]
    }
    var app: String
    var isDryRun: Bool
    /// The app was not there.
    var isNew: Bool
    var changed: Bool
    var changes: [Change]

    init(app: String, isDryRun: Bool, _ report: ImportReport) {
        self.app = app
        self.isDryRun = isDryRun
        isNew = report.isNew
        changes = report.changes.map { Change(znode: $0.path, details: $0.details) }
        changed = !isDryRun && !changes.isEmpty
    }

    func text(_ terminal: Terminal) -> String {
        guard !changes.isEmpty else { return "\(app) is as the file says already: nothing changed\n" }
        var text = isDryRun ? "Would import into \(app):\n" : "Imported into \(app):\n"
        for change in changes {
            for detail in change.details { text += "  \(change.znode): \(DisplayText.escaped(detail))\n" }
        }
        return text
    }
}
