import HotKeyRegistry

/// What a change to one key's pin or deny came to.
struct KeyEditReport: Report {
    var app: String
    var verb: HistoryEntry.Verb
    var key: KeyName
    var changed: Bool
    var znode: String
    /// Of the znode that holds the decision.
    var version: Int32

    init(_ session: Session, _ verb: HistoryEntry.Verb, _ key: KeyName, _ outcome: EditOutcome) {
        app = session.app
        self.verb = verb
        self.key = key
        changed = outcome.changed
        znode = outcome.path
        version = outcome.version
    }

    func text(_ terminal: Terminal) -> String {
        let key = DisplayText.escaped(key.description)
        let place = "(\(znode) version \(version))"
        return switch verb {
        case .pin: "Pinned \(key) \(place)\n"
        case .deny: "Denied \(key) \(place)\n"
        case .unpin where changed: "Unpinned \(key) \(place)\n"
        case .undeny where changed: "Took back the deny of \(key) \(place)\n"
        case .unpin: "\(key) was not pinned: nothing changed\n"
        default: "\(key) was not denied: nothing changed\n"
        }
    }
}
