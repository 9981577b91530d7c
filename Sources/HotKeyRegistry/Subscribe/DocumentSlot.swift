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
    mutating func take(_ value: NodeValue?, path: String) -> Outcome {
        guard let value else { return note(.missing) }
        if value.stat.modifiedTransaction < transaction { return .backward }
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

    init(_ saved: Saved?) {
        guard let saved else { return }
        document = saved.document
        nodeVersion = saved.nodeVersion
        transaction = saved.transaction
        goodTransaction = saved.transaction
    }
}
