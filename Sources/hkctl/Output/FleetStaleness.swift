import HotKeyPeer
import HotKeyRegistry

/// What the agents' comparisons of local hits with their homes come to, all agents together.
struct FleetStaleness: Encodable, Sendable {
    struct Silent: Encodable, Sendable {
        var id: String
        var problem: String
    }
    /// How many agents the figures are from.
    var agents = 0
    var localHits: UInt64 = 0
    var probes: UInt64 = 0
    var differing: UInt64 = 0
    var violations: UInt64 = 0
    var unanswered: UInt64 = 0
    /// Nil without a comparison.
    var p99Milliseconds: Double?
    var worstMilliseconds: Double?
    /// Agents that the figures lack.
    var silent: [Silent] = []

    init(_ answers: [AgentAnswer<AgentStatus>]) {
        var sum = AgentStatus.Staleness.none
        for answer in answers {
            switch answer.result {
            case .failure(let error): silent.append(Silent(id: answer.id.description, problem: error.message))
            case .success(let status):
                guard let staleness = status.staleness else {
                    silent.append(
                        Silent(id: answer.id.description, problem: "its version, \(status.version), does not say"))
                    continue
                }
                agents += 1
                sum += staleness
                let (hits, overflow) = localHits.addingReportingOverflow(status.counters.localHits)
                localHits = overflow ? .max : hits
            }
        }
        probes = sum.probes
        differing = sum.differing
        violations = sum.violations
        unanswered = sum.unanswered
        p99Milliseconds = sum.quantileMilliseconds(0.99)
        worstMilliseconds = p99Milliseconds == nil ? nil : sum.worstMilliseconds
    }

    func add(to fields: inout Fields) {
        if agents > 0 { fields.add("staleness", summary) }
        for agent in silent { fields.add("no figures", "\(agent.id): \(agent.problem)") }
    }

    private var summary: String {
        guard let p99Milliseconds, let worstMilliseconds else {
            return "none of \(localHits) local hits has been compared with home"
        }
        func span(_ milliseconds: Double) -> String { TimeText.span(Int64(min(milliseconds, 1e15).rounded(.up))) }
        return
            "\(probes) of \(localHits) local hits compared with home, \(differing) differed, \(violations) beyond the cap; "
            + "out of date at most: p99 \(span(p99Milliseconds)), worst \(span(worstMilliseconds))"
    }
}
