/// Who leads and who waits for whom, from the names of the candidates' nodes alone.
///
/// Each candidate watches only the one before it, so that a leader's end wakes one candidate and not all.
enum ElectionQueue {
    enum Place: Sendable, Hashable {
        /// Not among the candidates: the node is gone, or was never made.
        case absent
        case first(own: String)
        case behind(own: String, predecessor: String)
    }

    /// Candidates are named `candidate-<GUID>-<sequence>`: the GUID tells a candidate whose create was answered by a broken
    /// connection that the node was made all the same.
    static func prefix(guid: String) -> String { "candidate-\(guid)-" }

    /// By the sequence number that the server gave out, whatever stands before it. Names without one are not candidates.
    static func sorted(_ names: [String]) -> [String] {
        names.compactMap { name in sequence(name).map { (sequence: $0, name: name) } }
            .sorted { ($0.sequence, $0.name) < ($1.sequence, $1.name) }
            .map(\.name)
    }

    static func place(of guid: String, among names: [String]) -> Place {
        let queue = sorted(names)
        let prefix = prefix(guid: guid)
        guard let index = queue.firstIndex(where: { $0.hasPrefix(prefix) }) else { return .absent }
        return index == 0 ? .first(own: queue[0]) : .behind(own: queue[index], predecessor: queue[index - 1])
    }

    static func isCandidate(_ name: String) -> Bool { sequence(name) != nil }

    private static func sequence(_ name: String) -> Int? {
        let digits = name.suffix(10)
        guard digits.utf8.count == 10, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        return Int(digits)
    }
}
