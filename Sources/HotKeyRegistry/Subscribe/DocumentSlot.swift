import StrictCoding
import ZooKeeper

/// One operator's document as a subscriber holds it: the last good content, and what is wrong with the latest. Pure.
struct DocumentSlot<Document: RegistryDocument>: Sendable {
    private(set) var document: Document?
    /// Of the znode when ``document`` was read.
    private(set) var nodeVersion: Int32?
    /// The znode's last change (mzxid) that was looked at, good or bad.
    private(set) var transaction: Int64 = 0
    /// The same for ``document`` itself.
    private var goodTransaction: Int64 = 0
    /// The newest epoch of the hot set that was known when ``transaction`` was seen last, be it by the metadata alone.
    private var epoch: Int64 = 0
    private var badness: Badness?

    private enum Badness: Sendable, Hashable {
        case missing
        case invalid(String)
    }

    var problem: String? {
        switch badness {
        case nil: nil
        case .missing: "the node does not exist"
        case .invalid(let reason): reason
        }
    }

    enum Outcome: Sendable, Hashable {
        case unchanged
        case applied
        /// Not valid: the last good content stays in force.
        case refused(String)
        /// Older than what was seen before, from a server that lags.
        case backward
    }

    /// Takes what a read returned, nil for a node that does not exist.
    ///
    /// An ensemble whose data was set back to an older state shows old documents too, and they are what counts by then. It is told
    /// from a server that lags by two things together: the server has caught up with its leader, and a coordinator
    /// has published in an epoch that is newer than any that was known when the newer document was seen.
    ///
    /// - Parameters:
    ///   - epoch: of the hot set that is applied.
    ///   - isCaughtUp: the server had caught up with its leader before it was asked.
    mutating func take(_ value: NodeValue?, path: String, epoch newest: Int64 = 0, isCaughtUp: Bool = false) -> Outcome
    {
        guard let value else { return note(.missing) }
        if value.stat.modifiedTransaction < transaction {
            guard isCaughtUp, newest > epoch else { return .backward }
            forgetTransaction()
        }
        epoch = max(epoch, newest)
        if value.stat.modifiedTransaction == transaction, badness != .missing { return .unchanged }
        transaction = value.stat.modifiedTransaction
        do {
            let next = try RegistryCodec.decode(Document.self, from: value.data, source: path)
            let isNew = next != document || nodeVersion != value.stat.version || badness != nil
            document = next
            nodeVersion = value.stat.version
            goodTransaction = transaction
            badness = nil
            return isNew ? .applied : .unchanged
        } catch {
            return note(.invalid("\(error)"))
        }
    }

    /// The node has been looked at and is as it was.
    mutating func stillThere(epoch newest: Int64) { epoch = max(epoch, newest) }

    private mutating func note(_ next: Badness) -> Outcome {
        guard badness != next else { return .unchanged }
        badness = next
        return .refused(problem ?? "")
    }

    /// Another ensemble counts its transactions anew.
    mutating func forgetTransaction() { transaction = 0 }

    struct Saved: Codable, Sendable, Hashable {
        var document: Document
        var nodeVersion: Int32
        var transaction: Int64
    }

    var saved: Saved? {
        guard let document, let nodeVersion else { return nil }
        return Saved(document: document, nodeVersion: nodeVersion, transaction: goodTransaction)
    }

    init() {}

    init(_ saved: Saved?, epoch: Int64 = 0) {
        guard let saved else { return }
        self.epoch = epoch
        document = saved.document
        nodeVersion = saved.nodeVersion
        transaction = saved.transaction
        goodTransaction = saved.transaction
    }
}
