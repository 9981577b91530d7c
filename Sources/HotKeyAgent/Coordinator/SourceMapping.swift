import HotKeyDetection
import HotKeyRegistry
import HotKeyRules

extension SourceProposals {
    init(_ document: SourceDocument) {
        let grade: SourceGrade =
            switch document.grade {
            case .exact: .exact
            case .estimate: .estimate
            }
        self.init(
            grade: grade,
            candidates: document.candidates.map { candidate in
                SourceCandidate(
                    key: candidate.key.bytes, readsPerSecond: candidate.readsPerSecond,
                    writesPerSecond: candidate.writesPerSecond, bytesPerSecond: candidate.bytesPerSecond,
                    missesPerSecond: candidate.missesPerSecond, errorPerSecond: candidate.errorPerSecond,
                    expiresAtMilliseconds: candidate.expiresAt.millisecondsSince1970)
            })
    }

    /// By name. A document under the name that stands for the reports themselves is passed over: a record could not tell the two apart.
    static func all(_ documents: [AgentID: SourceDocument]) -> [String: SourceProposals] {
        var proposals: [String: SourceProposals] = [:]
        for (id, document) in documents where id.description != SourceFusion.agentsName {
            proposals[id.description] = SourceProposals(document)
        }
        return proposals
    }
}

extension PinsDocument {
    /// Until when each key is denied. Of a key that is pinned too the sources need not speak: the pin makes it hot.
    var deniedUntilMilliseconds: [[UInt8]: Int64] {
        Dictionary(
            denies.map { ($0.key.bytes, $0.expiresAt?.millisecondsSince1970 ?? .max) }, uniquingKeysWith: max)
    }
}

extension FusedHeat {
    /// What another coordinator has published. Nil for a record that nobody can have.
    init?(_ record: HotRecord, sinceNanoseconds: UInt64) {
        let state: HeatState
        switch record.state {
        case .hot: state = .hot
        case .cooling: state = .cooling
        case .candidate: state = .candidate
        case .cold: return nil
        }
        // A record that only says what becomes of copies names no key that is hot.
        guard !record.isOnlyOfCopies else { return nil }
        self.init(
            key: record.key.bytes, state: state, kind: HeatKind(record.kind), readsPerSecond: record.readsPerSecond,
            writesPerSecond: record.writesPerSecond, bytesPerSecond: record.bytesPerSecond,
            missesPerSecond: record.missesPerSecond, errorPerSecond: record.errorPerSecond, sources: record.sources,
            sinceNanoseconds: sinceNanoseconds)
    }
}

extension HotRecord {
    init(_ heat: FusedHeat, since: Timestamp) {
        let (reads, writes) = (heat.readsPerSecond.rounded(), heat.writesPerSecond.rounded())
        // What rounding the rates takes or adds is in the error too.
        let rounding = abs(reads - heat.readsPerSecond) + abs(writes - heat.writesPerSecond)
        let state: HotState =
            switch heat.state {
            case .cooling: .cooling
            case .candidate: .candidate
            case .hot, .cold: .hot
            }
        self.init(
            key: KeyName(heat.key), state: state, kind: HotKind(heat.kind), readsPerSecond: reads,
            writesPerSecond: writes, bytesPerSecond: heat.bytesPerSecond.rounded(),
            missesPerSecond: heat.missesPerSecond.rounded(),
            errorPerSecond: (heat.errorPerSecond + rounding).rounded(.up), sources: heat.sources, since: since)
    }
}
