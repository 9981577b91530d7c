/// What to do about the znode under an agent's own id, decided from what stands there.
struct PresencePlan: Sendable {
    enum Action: Sendable, Hashable {
        case create
        /// It is ours, of this session.
        case keep
        /// It is a leftover of our own: another session's node with our address. Delete this version and create anew.
        case replace(version: Int32)
        /// Another live agent has this id: wait until it is gone.
        case wait
    }

    struct Found: Sendable, Hashable {
        var ephemeralOwner: Int64
        var version: Int32
        /// Nil when the node's document cannot be read.
        var peer: String?
    }

    let peer: String
    private var formerSessions: Set<Int64> = []
    private var replacementsInARow = 0
    /// Two agents with one id and one address would delete each other's node for ever.
    private static let replacementsMax = 3

    init(peer: String) { self.peer = peer }

    mutating func decide(_ found: Found?, session: Int64) -> Action {
        guard let found else { return .create }
        if found.ephemeralOwner == session {
            formerSessions.insert(session)
            replacementsInARow = 0
            return .keep
        }
        // A node that nobody's session holds was left by hand; it would never go away by itself.
        let isOurs =
            found.ephemeralOwner == 0 || formerSessions.contains(found.ephemeralOwner) || found.peer == peer
        guard isOurs, replacementsInARow < Self.replacementsMax else {
            replacementsInARow = 0
            return .wait
        }
        replacementsInARow += 1
        return .replace(version: found.version)
    }
}
