import ArgumentParser
import HotKeyRegistry
import StrictCoding

struct Init: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Create what an app needs in ZooKeeper.",
        discussion: """
            Creates what is missing and keeps what is there: running it again, or two of it at once, does no harm. A \
            topology that is there already is kept; 'topology apply' replaces it.

            On the ring a node stands as twemproxy would name it (HOST:PORT:WEIGHT, or HOST on port 11211), so that the \
            keys of an existing twemproxy cluster are found; 'topology apply' also takes names of their own ("ringName").
            """)

    @Option(
        help: ArgumentHelp(
            "The cache nodes; needed the first time.", valueName: "name=host:port[:weight],…"))
    var nodes: [String] = []

    @Option(help: ArgumentHelp("How keys are hashed. (default: fnv1a_64)", valueName: "name"))
    var hash: TopologyDocument.Hash?

    @Option(help: ArgumentHelp("How hashes are spread over the nodes. (default: ketama)", valueName: "name"))
    var distribution: TopologyDocument.Distribution?

    @Option(help: ArgumentHelp("Two characters, as {}: only what stands between them is hashed.", valueName: "xy"))
    var hashTag: String?

    @Option(help: ArgumentHelp("What the fleet does at first. (default: mitigate)", valueName: "name"))
    var mode: ControlDocument.Mode?

    @Option(
        help: ArgumentHelp(
            "Who may do what, as 'acl apply' takes it; every node is given its access control list.",
            valueName: "file"))
    var acl: String?

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func validate() throws { _ = try topology() }

    private func topology() throws -> TopologyDocument? {
        guard !nodes.isEmpty else {
            if hash != nil || distribution != nil || hashTag != nil {
                throw ValidationError("--hash, --distribution and --hash-tag need --nodes.")
            }
            return nil
        }
        var document = TopologyDocument(nodes: try NodeList.parse(nodes.joined(separator: ",")))
        document.hash = hash ?? document.hash
        document.distribution = distribution ?? document.distribution
        document.hashTag = hashTag ?? document.hashTag
        try NodeList.validate(document)
        return document
    }

    func run() async throws {
        guard global.appName != nil else {
            throw ValidationError("Name the app to initialise: --app NAME or HOTKEY_APP.")
        }
        let topology = try topology()
        let mode = mode
        let access = try explaining(global) { try acl.map { try AccessFile.read($0, as: global.security.login()) } }
        let report = try await global.withSession { session in
            let control = mode.map { ControlDocument(mode: $0) } ?? ControlDocument()
            var report = InitReport(
                session, try await session.registry.initialise(topology: topology, control: control, access: access))
            if let access {
                // What another set before is theirs; 'acl apply' replaces it.
                report.accessDiffers = try await session.registry.access() != access
                if !report.accessDiffers {
                    report.restricted = try await session.registry.applyAccess(access).rewritten
                }
            }
            // A damaged one stands in the report already.
            if let mode, let stored = try? await session.registry.control() {
                report.modeDiffers = stored.document.mode != mode
            }
            return report
        }
        try global.print(report)
        if let failure = report.failure(global.place) { throw failure }
    }
}

struct InitReport: Report {
    var app: String
    var znode: String
    var created: [String]
    var rewritten: [String]
    var damaged: [String]
    /// Something else was there already, and was kept.
    var topologyDiffers: Bool
    var modeDiffers = false
    var accessDiffers = false
    /// Nodes that were there and were given another access control list.
    var restricted: [String] = []

    init(_ session: Session, _ report: InitialiseReport) {
        app = session.app
        znode = session.paths.appNode
        created = report.created
        rewritten = report.rewritten
        damaged = report.damaged.map(\.description)
        topologyDiffers = report.topologyDiffers
    }

    func text(_ terminal: Terminal) -> String {
        var text =
            created.isEmpty
            ? "\(app) is initialised already (\(znode)): nothing was missing\n"
            : "Initialised \(app): created \(NumberText.count(created.count, "node")) under \(znode)\n"
        if !rewritten.isEmpty {
            text += "Wrote anew what could not be read: \(rewritten.joined(separator: ", "))\n"
        }
        if !restricted.isEmpty {
            text += "Set the access control of \(NumberText.count(restricted.count, "node")) that were there\n"
        }
        return text
    }

    /// What was asked for and is not so.
    func failure(_ place: Place) -> Failure? {
        if !damaged.isEmpty {
            return Failure(
                .failed, "What stands in ZooKeeper cannot be used: \(damaged.joined(separator: "; "))",
                "It was left as it is.",
                "'\(place.hkctl) rules apply', 'topology apply' and 'mode' replace such documents.")
        }
        if topologyDiffers {
            return Failure(
                .failed, "\(app) has another topology than the one given, and keeps it.",
                "Look at it with '\(place.hkctl) topology show'; '\(place.hkctl) topology apply FILE' replaces it.")
        }
        if accessDiffers {
            return Failure(
                .failed, "\(app) has other roles than the ones given, and keeps them.",
                "Look at them with '\(place.hkctl) acl show'; '\(place.hkctl) acl apply FILE' replaces them.")
        }
        guard modeDiffers else { return nil }
        return Failure(
            .failed, "\(app) is in another mode than the one given, and stays in it.",
            "'\(place.hkctl) mode off|observe|mitigate' changes it.")
    }
}
