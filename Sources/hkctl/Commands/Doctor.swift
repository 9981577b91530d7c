import ArgumentParser
import HotKeyPeer
import HotKeyRegistry
import ZooKeeper

struct Doctor: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look for what is wrong: servers, nodes, access control, agents, clocks; a remedy each.",
        discussion: """
            Changes nothing. Exits 1 when there is an error among the findings; warnings alone do not count. Access control is \
            compared whole only with an operator's credential.
            """)

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        let servers = try await askServers()
        let report: DoctorReport
        do {
            report = try await global.withSession { session in try await Self.examine(session, servers) }
        } catch let failure as Failure {
            // What the servers said may be the reason, and goes first.
            let findings = ServerReport.findings(servers)
            if !findings.isEmpty {
                try global.print(DoctorReport(app: global.appName, servers: servers, agents: 0, findings: findings))
            }
            throw failure
        }
        try global.print(report)
        let errors = report.findings.filter { $0.severity == .error }.count
        if errors > 0 { throw Failure(.failed, "\(NumberText.count(errors, "error")) found.") }
    }

    private func askServers() async throws -> [ServerReport] {
        let timeout = global.timeoutMilliseconds
        let addresses = try explaining(global) { try ZooKeeperConfiguration(connectString: global.servers).servers }
        return await withTaskGroup(of: (Int, ServerReport).self) { group in
            for (index, address) in addresses.enumerated() {
                group.addTask {
                    (index, ServerReport(address, await ServerProbe.ask(address, timeoutMilliseconds: timeout)))
                }
            }
            return await group.reduce(into: [:]) { $0[$1.0] = $1.1 }.sorted { $0.key < $1.key }.map(\.value)
        }
    }

    private static func examine(_ session: Session, _ servers: [ServerReport]) async throws -> DoctorReport {
        let registry = session.registry
        var findings = ServerReport.findings(servers)
        findings += try await registry.inspect(as: session.login?.identity)
        // What cannot be read was found above; the agents are looked at all the same.
        var fleet = FleetInspection()
        let control = try? await registry.control()
        fleet.mode = control?.document.mode
        fleet.detection = control?.document.detection
        fleet.leader = (try? await registry.candidates())?.lazy.compactMap(\.agent).first
        fleet.serverOffset = try await registry.clockOffset()
        let agents = (try? await session.agents()) ?? []
        // Before the agents are asked: what is published later they need not have.
        fleet.position = (try? await registry.hotSet())?.head.position
        let rules = try? await registry.rules()
        fleet.rules = rules?.document
        fleet.documents = .init(
            control: control?.version, rules: rules?.version,
            pins: (try? await registry.pins())?.version, topology: (try? await registry.topology())?.version)
        let answers = await session.ask(agents) { client in
            let asked = Timestamp.now
            let status = try await client.status()
            return TimedStatus(status: status, asked: asked, answered: .now)
        }
        findings += fleet.findings(answers, app: session.app)
        return DoctorReport(app: session.app, servers: servers, agents: agents.count, findings: findings)
    }
}

struct TimedStatus: Sendable {
    var status: AgentStatus
    /// By this host's clock.
    var asked: Timestamp
    var answered: Timestamp
}

struct DoctorReport: Report {
    var app: String?
    var servers: [ServerReport]
    /// How many are registered.
    var agents: Int
    /// Whether no error was found.
    var healthy: Bool
    var findings: [Finding]

    init(app: String?, servers: [ServerReport], agents: Int, findings: [Finding]) {
        self.app = app
        self.servers = servers
        self.agents = agents
        self.findings = findings.filter { $0.severity == .error } + findings.filter { $0.severity == .warning }
        healthy = !findings.contains { $0.severity == .error }
    }

    func text(_ terminal: Terminal) -> String {
        var text = ""
        for server in servers {
            let state = server.mode.map { "\($0), version \(server.version ?? "unknown")" } ?? server.problem ?? ""
            text += "server \(server.address): \(state)\n"
        }
        text += "agents: \(agents)\n"
        for finding in findings {
            text +=
                DisplayText.escaped(
                    "\(finding.severity.rawValue) \(finding.code.rawValue) \(finding.subject): \(finding.message). "
                        + "Remedy: \(finding.remedy)") + "\n"
        }
        if findings.isEmpty { text += "Nothing found.\n" }
        return text
    }
}
