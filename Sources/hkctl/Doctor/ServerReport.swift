import HotKeyRegistry

/// One server of the ensemble, from its answer to `srvr`. Pure.
struct ServerReport: Encodable, Sendable {
    var address: String
    /// `leader`, `follower`, `observer`, `standalone` or `read-only`; nil when it does not say.
    var mode: String?
    var version: String?
    /// Why it does not say.
    var problem: String?

    private enum State { case fine, unreachable, notServing, silent }
    private var state = State.fine

    private enum CodingKeys: String, CodingKey { case address, mode, version, problem }

    init(_ address: String, _ answer: ServerProbe.Answer) {
        self.address = address
        switch answer {
        case .unreachable(let why):
            problem = why
            state = .unreachable
        case .text(let text):
            let lines = text.split(separator: "\n")
            func value(_ name: String) -> String? {
                lines.first { $0.hasPrefix("\(name): ") }.map { String($0.dropFirst(name.count + 2)) }
            }
            mode = value("Mode")
            version = value("Zookeeper version").map { String($0.prefix { $0 != "," && $0 != "-" }) }
            guard mode == nil else { return }
            if text.contains("not currently serving requests") {
                problem = "it serves no requests"
                state = .notServing
            } else {
                problem =
                    text.contains("whitelist") ? "the word srvr is not allowed there" : "it gave no answer to srvr"
                state = .silent
            }
        }
    }

    private var finding: Finding? {
        switch state {
        case .fine: nil
        case .unreachable:
            Finding(
                .error, .serverUnreachable, address, "the server cannot be reached: \(problem ?? "")",
                remedy: "see that it runs and that this host reaches it, or take it out of --zookeeper")
        case .notServing:
            Finding(
                .error, .serverNotServing, address, "the server runs and serves no requests: it has found no leader",
                remedy: "see that a majority of the servers runs and that they reach one another")
        case .silent:
            Finding(
                .warning, .serverSilent, address, "the server does not tell its mode and version: \(problem ?? "")",
                remedy: "4lw.commands.whitelist=srvr in its zoo.cfg")
        }
    }

    static func findings(_ servers: [ServerReport]) -> [Finding] {
        var findings = servers.compactMap(\.finding)
        let alone = servers.filter { $0.mode == "standalone" }
        let leaders = servers.filter { $0.mode == "leader" }
        if servers.count > 1, !alone.isEmpty || leaders.count > 1 {
            let names = (alone.isEmpty ? leaders : alone).map(\.address).joined(separator: ", ")
            findings.append(
                Finding(
                    .error, .serversSeparate, names,
                    alone.isEmpty
                        ? "several servers lead: they are not one ensemble, and clients see different registries"
                        : "they stand alone beside others: they are not one ensemble, and clients see different registries",
                    remedy: "name the servers of one ensemble only in --zookeeper and in every agent's configuration"))
        }
        let versions = Set(servers.compactMap(\.version))
        if versions.count > 1 {
            findings.append(
                Finding(
                    .warning, .serverVersionsDiffer, servers.map(\.address).joined(separator: ", "),
                    "the servers are of different versions: \(versions.sorted().joined(separator: ", "))",
                    remedy: "finish the upgrade"))
        }
        return findings
    }
}
