import HotKeyRegistry

/// What writing a document came to.
struct DocumentEditReport: Report {
    var app: String
    /// `rules`, `topology` or `mode`.
    var document: String
    var changed: Bool
    var znode: String
    var version: Int32
    /// `3 rules`, for people.
    var summary: String

    init(_ session: Session, _ document: String, _ summary: String, _ outcome: EditOutcome) {
        app = session.app
        self.document = document
        self.summary = summary
        changed = outcome.changed
        znode = outcome.path
        version = outcome.version
    }

    func text(_ terminal: Terminal) -> String {
        changed
            ? "Applied \(summary) to \(app) (\(znode) version \(version))\n"
            : "\(app) already has \(summary): nothing changed\n"
    }
}

/// A file that could be applied.
struct ValidationReport: Report {
    var file: String
    var valid = true
    var summary: String

    func text(_ terminal: Terminal) -> String { "\(DisplayText.escaped(file)) is valid: \(summary)\n" }
}
