import HotKeyMitigation
import NIOCore
import RESP

/// Which copies a read of the key's home brings its value to.
enum CopyFilling {
    case nothing
    /// The copy that was found empty. Nobody waits for it.
    case one(Int)
    /// All of them, for nobody's read: told once whether every copy whose node can be asked has been.
    case all((Bool) -> Void)

    var isAny: Bool { if case .nothing = self { false } else { true } }

    /// Whether the read was for the copies alone, which have been told what came of it.
    mutating func isOver(succeeded: Bool) -> Bool {
        guard case .all(let done) = self else { return false }
        self = .nothing
        done(succeeded)
        return true
    }
}

extension HotRead {
    func fillCopies(with reply: ReplyView, homeReadSentAt: UInt64) {
        switch filling {
        case .nothing: break
        case .one(let number): fill(number, with: reply, homeReadSentAt: homeReadSentAt) { _ in }
        case .all(let done):
            filling = .nothing
            let nodes = loop.copyNodes(of: key)
            var left = 1
            var succeeded = !nodes.isEmpty
            func one(_ isFilled: Bool) {
                succeeded = succeeded && isFilled
                left -= 1
                if left == 0 { done(succeeded) }
            }
            // Where the node does not answer nobody reads either.
            for (offset, node) in nodes.enumerated() where node.isUsable {
                left += 1
                fill(offset + 1, with: reply, homeReadSentAt: homeReadSentAt, done: one)
            }
            one(true)
        }
    }

    /// Stores the value in a copy that had none; `NX` and the expiry in the node's own time keep it from doing harm when it is late
    /// (``CopyLease``).
    /// - Parameter done: told whether the copy's node has been asked and has answered. What it holds already stays, and no copy is made
    ///   of what is no string or too large: nothing more is to be done then.
    private func fill(
        _ number: Int, with reply: ReplyView, homeReadSentAt: UInt64, done: @escaping (Bool) -> Void
    ) {
        guard let index = loop.hotIndex(of: key) else { return done(false) }
        guard let stored = StoredCopy.encode(reply.bytes), stored.count <= loop.configuration.cacheValueBytesMax else {
            return done(true)
        }
        let copies = loop.copyNodes(of: key)
        guard number <= copies.count else { return done(false) }
        let node = copies[number - 1]
        guard
            let expiry = node.lease.fillExpiryMilliseconds(
                homeReadSentAt: homeReadSentAt, copyLifetimeNanoseconds: loop.table[index].copyLifetimeNanoseconds,
                now: loop.now)
        else { return done(false) }
        guard let name = loop.copyName(key, number) else { return done(false) }
        let request = ClosureRequest { [loop] result in
            guard case .reply(let view, _) = result else { return done(false) }
            loop.noteRedirection(view, from: node)
            if view.bytes[0] == UInt8(ascii: "+") { loop.statistics.copyFills &+= 1 }
            done(!view.isError)
        }
        let words = [
            Array("SET".utf8), name, stored, Array("NX".utf8), Array("PXAT".utf8), Array(String(expiry).utf8),
        ]
        if loop.sendForCopy(words, to: node, request) != nil { done(false) }
    }
}
