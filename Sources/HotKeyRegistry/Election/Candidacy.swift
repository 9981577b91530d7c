import ZooKeeper

/// One candidate's way to the front of the queue, in one session. Pure: told what was read, it says what to do next.
///
///     list ──▶ absent?  create ──▶ list
///          ──▶ behind?  watch the one before ──▶ wait for its end ──▶ list
///          ──▶ first?   watch the own node ──▶ of an earlier session? remove it ──▶ list
///                                          ──▶ prove the session ──▶ lead
struct Candidacy: Sendable {
    enum Action: Sendable, Hashable {
        /// Read the candidates' names, and tell ``listed(_:)``.
        case list
        /// Make an ephemeral sequential node, and list again. Whether an attempt whose answer was lost has made one, is
        /// told by the next list.
        case create(prefix: String)
        /// Read a candidate's node and leave a watch on it, and tell ``watched(_:)``.
        case watch(String)
        /// Delete a candidate's node, and list again.
        case remove(String)
        /// Until a watch has fired since the list was asked for. Then list again.
        case wait
        /// Prove the session, and tell ``proved(_:at:hasNews:)``.
        case prove
        case lead(name: String, createdTransaction: Int64)
    }

    /// In the names of the nodes that are ours, and the same in every session. With one for each session an agent could stand
    /// in its own way for ever:
    ///   1. the create is asked for while the connection is down, and waits
    ///   2. the session is lost, and the create is carried out in the next one
    ///   3. under that session's GUID no node is found, and a second one is made, behind the first
    ///   4. the first comes to the front of the queue, lives as long as the session and leads nobody
    let guid: String
    let sessionID: Int64
    private var place = ElectionQueue.Place.absent
    private var createdTransaction: Int64 = 0

    init(guid: String, sessionID: Int64) {
        self.guid = guid
        self.sessionID = sessionID
    }

    mutating func listed(_ names: [String]) -> Action {
        place = ElectionQueue.place(of: guid, among: names)
        return switch place {
        case .absent: .create(prefix: ElectionQueue.prefix(guid: guid))
        // Watched from before the leadership begins: there is no time in which its end would go unnoticed.
        case .first(let own): .watch(own)
        case .behind(_, let predecessor): .watch(predecessor)
        }
    }

    /// - Parameter stat: nil when the node is gone, and no watch left.
    mutating func watched(_ stat: NodeStat?) -> Action {
        guard let stat else { return .list }
        guard case .first(let own) = place else { return .wait }
        // Of a session that was given up, and with it all that was done in it; or made by hand. It leads nobody, and the others
        // need not wait until the ensemble ends that session too.
        guard stat.ephemeralOwner == sessionID else { return .remove(own) }
        createdTransaction = stat.createdTransaction
        return .prove
    }

    /// A server that lags may have shown a node of ours that is gone. The proof has gone by way of the ensemble's leader, and
    /// the server has caught up with it: had the node gone before, its watch would have fired by now.
    /// - Parameter hasNews: whether a watch has fired since the list was asked for.
    func proved(_ lease: SessionLease?, at now: ContinuousClock.Instant, hasNews: Bool) -> Action {
        guard case .first(let own) = place, !hasNews else { return .list }
        guard LeaderLease.allowsLeading(lease, sessionID: sessionID, at: now) else { return .prove }
        return .lead(name: own, createdTransaction: createdTransaction)
    }
}
