import ArgumentParser
import HotKeyPeer
import HotKeyRegistry

struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The app at a glance: mode, hot set, decisions, topology, agents, staleness.",
        discussion: """
            Exits 1 when a document in ZooKeeper cannot be used. The staleness served is what the agents have found by comparing a sample of \
            local hits with home, since each started; those that do not answer within --timeout are named.
            """)

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        let report = try await global.withSession { session in try await StatusReport.read(session) }
        try global.print(report)
        if !report.problems.isEmpty {
            throw Failure(
                .failed, "\(NumberText.count(report.problems.count, "document")) cannot be used.",
                "Agents keep the last good one in force; 'rules apply', 'topology apply' and 'mode' replace a bad one.")
        }
    }
}

struct StatusReport: Report {
    struct HotSet: Encodable, Sendable {
        var epoch: Int64
        var version: Int64
        var publishedAt: Timestamp
        var coordinator: String
        var hot: Int
        var cooling: Int
        var candidates: Int
    }
    var app: String
    var root: String
    var zookeeper: String
    var mode: ControlDocument.Mode?
    var detection: ControlDocument.Detection?
    var stalenessCapMilliseconds: Int?
    var hotSet: HotSet?
    var pins: Int?
    var denies: Int?
    var rules: Int?
    var topology: String?
    var leader: String?
    var agents: Int
    var staleness: FleetStaleness
    var problems: [String] = []
    var readAt: Timestamp

    /// Each document by itself: a damaged one does not hide the others.
    static func read(_ session: Session) async throws -> StatusReport {
        let registry = session.registry
        async let control = usable { try await registry.control().document }
        async let hot = usable { try await registry.hotSet() }
        async let decisions = usable { try await registry.pins().document }
        async let rules = usable { try await registry.rules().document }
        async let topology = usable { try await registry.topology().document }
        async let candidates = registry.candidates()
        async let answers = session.ask(session.agents()) { try await $0.status() }

        let now = Timestamp.now
        var report = StatusReport(
            app: session.app, root: session.paths.root, zookeeper: session.options.servers,
            leader: try await candidates.first?.agent, agents: try await answers.count,
            staleness: FleetStaleness(try await answers), readAt: now)
        if let control = report.take(try await control) {
            report.mode = control.mode
            report.detection = control.detection
            report.stalenessCapMilliseconds = control.stalenessCapMilliseconds
        }
        if let hot = report.take(try await hot) {
            func count(_ state: HotState) -> Int {
                hot.records.lazy.filter { $0.state == state && !$0.isOnlyOfCopies }.count
            }
            report.hotSet = HotSet(
                epoch: hot.head.epoch, version: hot.head.version, publishedAt: hot.head.publishedAt,
                coordinator: hot.head.coordinator, hot: count(.hot), cooling: count(.cooling),
                candidates: count(.candidate))
            report.problems += hot.problems.map(\.description)
        }
        if let decisions = report.take(try await decisions) {
            report.pins = KeyRow.active(decisions.pins, now).count
            report.denies = KeyRow.active(decisions.denies, now).count
        }
        report.rules = report.take(try await rules)?.rules.count
        report.topology = report.take(try await topology)?.summary
        return report
    }

    /// A document that cannot be used is a finding; everything else ends the verb.
    private static func usable<Value: Sendable>(
        _ read: @Sendable () async throws -> Value
    ) async throws -> Result<Value, RegistryError> {
        do {
            return .success(try await read())
        } catch let error as RegistryError where error.code == .badDocument {
            return .failure(error)
        }
    }

    private mutating func take<Value>(_ result: Result<Value, RegistryError>) -> Value? {
        switch result {
        case .success(let value): return value
        case .failure(let error):
            problems.append(error.description)
            return nil
        }
    }

    func text(_ terminal: Terminal) -> String {
        var fields = Fields()
        fields.add("app", "\(app) (\(root)/\(app) at \(zookeeper))")
        fields.add("mode", mode.map { "\($0.rawValue), detection \(detection?.rawValue ?? "?")" })
        fields.add("staleness cap", stalenessCapMilliseconds.map { TimeText.span(Int64($0)) })
        if let hotSet {
            let by = hotSet.coordinator.isEmpty ? "" : " by \(hotSet.coordinator)"
            fields.add(
                "hot set",
                "\(hotSet.epoch)/\(hotSet.version), published \(TimeText.age(hotSet.publishedAt, now: readAt)) ago\(by)"
            )
            fields.add("keys", "\(hotSet.hot) hot, \(hotSet.cooling) cooling, \(hotSet.candidates) candidates")
        }
        if let pins, let denies { fields.add("decisions", "\(pins) pinned, \(denies) denied") }
        fields.add("rules", rules.map(String.init))
        fields.add("topology", topology)
        fields.add("agents", "\(agents)")
        fields.add("leader", leader ?? "none")
        staleness.add(to: &fields)
        if detection == .external {
            fields.add(
                "warning",
                "detection is external: no agent decides what is hot, the hot set only follows pins and denies")
        }
        for problem in problems { fields.add("unusable", problem) }
        return fields.text(terminal)
    }
}
