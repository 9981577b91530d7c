import StrictCoding
import ZooKeeper

/// Everything that operators decided about an app, in one document: what `hkctl export` writes and `import` reads. What is
/// detected is not part of it: agents find it again within a second.
public struct RegistryExport: RegistryDocument {
    /// The four documents at their caps, and what stands around them.
    public static let bytesMax =
        RegistryLimits.controlBytesMax + RegistryLimits.rulesBytesMax + RegistryLimits.pinsBytesMax
        + RegistryLimits.topologyBytesMax + RegistryLimits.exportFrameBytesMax
    public var schema: Int
    /// The app it came from.
    public var app: String
    public var exportedAt: Timestamp
    public var control: ControlDocument
    public var rules: RulesDocument
    /// Pins, denies and the history.
    public var pins: PinsDocument
    public var topology: TopologyDocument

    public init(
        app: AppName, exportedAt: Timestamp, control: ControlDocument, rules: RulesDocument, pins: PinsDocument,
        topology: TopologyDocument
    ) {
        schema = RegistryLimits.schema
        self.app = app.description
        self.exportedAt = exportedAt
        self.control = control
        self.rules = rules
        self.pins = pins
        self.topology = topology
    }

    private enum CodingKeys: String, CodingKey, CaseIterable {
        case schema, app, exportedAt, control, rules, pins, topology
    }

    public func validate() throws {
        try requireSchema()
        try require((try? AppName(app)) != nil, "app", expected: "the name of an app")
    }
}

/// What an import changes, or would change.
public struct ImportReport: Sendable, Hashable {
    public struct Change: Sendable, Hashable {
        /// The document's znode.
        public var path: String
        /// In words: `mode observe to mitigate`. Never empty.
        public var details: [String]
    }
    /// The app had no nodes: they are created, all in one transaction.
    public var isNew: Bool
    /// Empty when the registry is as the export already.
    public var changes: [Change]
}

extension RegistryOperator {
    /// The four documents as they stood at one moment.
    public func export() async throws -> RegistryExport {
        var result: RegistryExport?
        _ = try await retrying(paths.appNode) {
            let (control, rules) = (try await control(), try await rules())
            let (pins, topology) = (try await pins(), try await topology())
            // One of them changed between the reads: badVersion, and all are read again.
            try await registry.store.multi([
                .check(paths.control, version: control.version), .check(paths.rules, version: rules.version),
                .check(paths.pins, version: pins.version), .check(paths.topology, version: topology.version),
            ])
            result = RegistryExport(
                app: paths.app, exportedAt: .now, control: control.document, rules: rules.document,
                pins: pins.document, topology: topology.document)
            return .unchanged(0)
        }
        guard let result else { throw RegistryError(.contention, "\(paths.appNode) could not be read as a whole") }
        return result
    }

    /// Makes control, rules, pins (with the history) and topology those of `export`, in one transaction that expects the
    /// versions that were compared: all of it or nothing. A document that cannot be read is replaced. An app without nodes
    /// is initialised with them. The history becomes the export's, and above it stands who imported what, and why, this time and
    /// before; what then passes the cap of the pins is left out at its old end.
    ///
    /// - Parameter isDryRun: nothing is written.
    public func importAll(
        _ export: RegistryExport, isDryRun: Bool, reason: String? = nil
    ) async throws -> ImportReport {
        let at = clock()
        func imported(_ names: [String], earlier: [HistoryEntry] = []) throws -> PinsDocument {
            let what = "\(names.joined(separator: ", ")) of \(export.app) as exported \(export.exportedAt)"
            let entry = HistoryEntry(at: at, author: author, verb: .import, reason: reason, detail: what)
            try Self.checkArgument { try entry.validate() }
            return importedPins(export.pins, [entry] + earlier.filter { $0.verb == .import })
        }
        // Each within its own cap, not just the file within the sum.
        let documents: [(path: String, data: [UInt8])] = [
            (paths.control, try registry.encode(export.control, for: paths.control)),
            (paths.rules, try registry.encode(export.rules, for: paths.rules)),
            (paths.pins, try registry.encode(export.pins, for: paths.pins)),
            (paths.topology, try registry.encode(export.topology, for: paths.topology)),
        ]
        var report = ImportReport(isNew: false, changes: [])
        if try await registry.translating(paths.appNode, { try await registry.store.exists(paths.appNode) }) == nil {
            report.isNew = true
            report.changes = documents.map { ImportReport.Change(path: $0.path, details: ["created"]) }
            if !isDryRun {
                _ = try await initialise(
                    topology: export.topology, control: export.control, rules: export.rules,
                    pins: try imported(["control", "rules", "pins", "topology"]))
            }
            return report
        }
        _ = try await retrying(paths.appNode) {
            // A first attempt whose answer was lost has left nothing to do; what it changed is reported all the same.
            let isRetry = !report.changes.isEmpty
            var operations: [StoreOperation] = []
            var changes: [ImportReport.Change] = []
            var pinsVersion: Int32 = 0
            var history: [HistoryEntry] = []
            for (path, data) in documents {
                let value = try await registry.translating(path) { try await registry.store.get(path) }
                let details = difference(path, from: value.data, to: export)
                if path == paths.pins {
                    pinsVersion = value.stat.version
                    let current = try? RegistryCodec.decode(PinsDocument.self, from: value.data, source: path)
                    history = current?.history ?? []
                    if !details.isEmpty { changes.append(ImportReport.Change(path: path, details: details)) }
                    continue
                }
                guard !details.isEmpty else {
                    // What is right already must still be so when the rest is written:
                    //   1. import A reads control: as A wants it
                    //   2. import B writes control and rules, both of them its own
                    //   3. A reads rules: not as A wants them
                    // Writing the rules alone would leave half of A and half of B.
                    operations.append(.check(path, version: value.stat.version))
                    continue
                }
                changes.append(ImportReport.Change(path: path, details: details))
                operations.append(.set(path, data: data, version: value.stat.version))
            }
            if changes.isEmpty { return isRetry ? .done(0) : .unchanged(0) }
            report.changes = changes
            guard !isDryRun else { return .done(0) }
            // Whatever is changed, the history says so.
            let names = changes.compactMap { $0.path.split(separator: "/").last.map(String.init) }
            let pins = try registry.encode(try imported(names, earlier: history), for: paths.pins)
            operations.append(.set(paths.pins, data: pins, version: pinsVersion))
            try await registry.store.multi(operations)
            return .done(0)
        }
        return report
    }

    /// The pins of an export below what else belongs into the history.
    private func importedPins(_ exported: PinsDocument, _ imports: [HistoryEntry]) -> PinsDocument {
        var pins = exported
        let history = imports.filter { !exported.history.contains($0) } + exported.history
        pins.history = Array(history.prefix(RegistryLimits.historyMax))
        // An export that fits its cap by a hair does not any more with one line of history on top.
        while pins.history.count > 1, (try? registry.encode(pins, for: paths.pins)) == nil { pins.history.removeLast() }
        return pins
    }

    private func difference(_ path: String, from data: [UInt8], to export: RegistryExport) -> [String] {
        func compare<Document: RegistryDocument>(_ new: Document, _ describe: (Document) -> [String]) -> [String] {
            guard let old = try? RegistryCodec.decode(Document.self, from: data, source: path) else {
                return ["what stands there cannot be read; replaced"]
            }
            return old == new ? [] : describe(old)
        }
        func named(_ details: [String]) -> [String] { details.isEmpty ? ["changed"] : details }
        return switch path {
        case paths.control: compare(export.control) { named(ImportDifference.control($0, export.control)) }
        case paths.rules: compare(export.rules) { named(ImportDifference.rules($0, export.rules)) }
        // Pins that differ in the import's own entry only are no difference.
        case paths.pins: compare(export.pins) { ImportDifference.pins($0, export.pins) }
        default: compare(export.topology) { named(ImportDifference.topology($0, export.topology)) }
        }
    }
}

/// From one document to another, in words. Pure.
enum ImportDifference {
    static func control(_ old: ControlDocument, _ new: ControlDocument) -> [String] {
        var details: [String] = []
        if old.mode != new.mode { details.append("mode \(old.mode.rawValue) to \(new.mode.rawValue)") }
        if old.detection != new.detection {
            details.append("detection \(old.detection.rawValue) to \(new.detection.rawValue)")
        }
        if old.stalenessCapMilliseconds != new.stalenessCapMilliseconds {
            details.append("staleness cap \(old.stalenessCapMilliseconds) ms to \(new.stalenessCapMilliseconds) ms")
        }
        return details
    }

    static func rules(_ old: RulesDocument, _ new: RulesDocument) -> [String] {
        let details = byName("rule", old.rules, new.rules) { $0.pattern }
        return details.isEmpty ? ["the order of the rules"] : details
    }

    static func pins(_ old: PinsDocument, _ new: PinsDocument) -> [String] {
        var details = byName("pin", old.pins, new.pins) { $0.key.description }
        details += byName("deny", old.denies, new.denies) { $0.key.description }
        if details.isEmpty, (old.pins, old.denies) != (new.pins, new.denies) { details.append("the order of the pins") }
        if !isImported(old.history, from: new.history) {
            details.append("history of \(old.history.count) entries to one of \(new.history.count)")
        }
        return details
    }

    /// Whether a history is what an import makes of one: the same but for the imports in it. Otherwise every import of a file
    /// would find the trace of the one before it and import the file again.
    static func isImported(_ old: [HistoryEntry], from new: [HistoryEntry]) -> Bool {
        let decisions = old.filter { $0.verb != .import }
        let room = RegistryLimits.historyMax - (old.count - decisions.count)
        return decisions.elementsEqual(new.filter { $0.verb != .import }.prefix(room))
    }

    static func topology(_ old: TopologyDocument, _ new: TopologyDocument) -> [String] {
        var details = byName("node", old.nodes, new.nodes) { $0.name }
        if old.kind != new.kind { details.append("kind \(old.kind.rawValue) to \(new.kind.rawValue)") }
        if old.hash != new.hash { details.append("hash \(old.hash.rawValue) to \(new.hash.rawValue)") }
        if old.distribution != new.distribution {
            details.append("distribution \(old.distribution.rawValue) to \(new.distribution.rawValue)")
        }
        if old.hashTag != new.hashTag { details.append("hash tag \"\(old.hashTag)\" to \"\(new.hashTag)\"") }
        return details
    }

    /// `pin added: a, b`, with at most a few names.
    private static func byName<Element: Hashable>(
        _ noun: String, _ old: [Element], _ new: [Element], name: (Element) -> String
    ) -> [String] {
        let before = Dictionary(old.map { (name($0), $0) }) { first, _ in first }
        let after = Dictionary(new.map { (name($0), $0) }) { first, _ in first }
        let kinds: [(String, [String])] = [
            ("added", new.map(name).filter { before[$0] == nil }),
            ("removed", old.map(name).filter { after[$0] == nil }),
            ("changed", new.map(name).filter { before[$0] != nil && before[$0] != after[$0] }),
        ]
        return kinds.filter { !$0.1.isEmpty }.map { verb, names in
            let shown = names.prefix(RegistryLimits.differenceNamesMax).joined(separator: ", ")
            let more = names.count - RegistryLimits.differenceNamesMax
            return "\(noun) \(verb): \(shown)" + (more > 0 ? " and \(more) more" : "")
        }
    }
}
