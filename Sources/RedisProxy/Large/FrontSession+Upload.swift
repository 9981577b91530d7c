import HotKeyMitigation
import NIOCore
import RESP

/// A command with a large value, passed on while it still arrives: over a connection of the client's own, because on a shared one
/// everybody would wait for this client to finish.
struct Upload {
    var tail: CommandTail
    /// `nil`: nothing was sent, and what comes is dropped up to the command's end.
    let request: BoundRequest?
}

extension FrontSession {
    /// Begins to pass on a command of one key whose large argument has been announced and stands behind the key. All of `bytes`
    /// belongs to it.
    /// - Returns: whether it does; if not, the command is gathered as others are.
    func beginUpload(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let unfinished, unfinished.bulkLength >= RedisProxyLimits.streamBytesMin, isPlain else { return false }
        let index = CommandTable.redis70.shortIndex(of: argument(0, of: bytes))
        guard index >= 0 else { return false }
        let known = loop.oneKeyCommands[index]
        guard known.keyIndex > 0, known.keyIndex < arguments.count,
            known.accepts(argumentCount: unfinished.argumentCount)
        else { return false }
        let key = argument(Int(known.keyIndex), of: bytes)
        // What is passed on is not kept, so it cannot follow its slot. Where that is about to be needed it is gathered instead, if that
        // much may be held.
        if let cluster = loop.cluster,
            unfinished.bytesBefore + unfinished.bulkLength <= loop.configuration.heldRequestBytesMax,
            !cluster.hasMap || cluster.isMoving(slot: ClusterSlot.of(key)) || !loop.home(key).isUsable
        {
            return false
        }
        // What this client asked before went over a shared connection and could be overtaken.
        guard owesNothing else {
            halt()
            return false
        }
        loop.statistics.requests &+= 1
        _ = count(key, FastHash.hash(key, seed: loop.configuration.hashSeed), mayWrite: known.mayWrite)
        let node = loop.home(key)
        var request: BoundRequest?
        if let rejection = node.rejection() {
            answer(error: rejection.text(node.node))
        } else {
            var written = WrittenKeys()
            if known.mayWrite { written.insert(Array(key)) }
            let bound = bind(to: node, keys: loop.hasOneNode ? nil : [Array(key)])
            let new = BoundRequest(
                bound: bound, slot: reserveReply(), change: .none, wait: .none, isBlocking: false, written: written)
            new.uploads(at: loop.now)
            bound.send(bytes, new)
            request = new
        }
        var tail = handOver()
        // Not all of the announced argument is there, so nothing of it can be malformed yet.
        _ = try? tail.consume(UnsafeRawBufferPointer(rebasing: bytes[unfinished.bytesBefore...]))
        upload = Upload(tail: tail, request: request)
        return true
    }

    /// Passes on more of the command that is under way.
    /// - Returns: how many of the bytes belong to it.
    func continueUpload(_ bytes: UnsafeRawBufferPointer) throws(RESPError) -> Int {
        guard var current = upload else { return 0 }
        let length: Int
        do throws(RESPError) {
            length = try current.tail.consume(bytes)
        } catch {
            // The node waits for the rest of a command that will not come.
            upload = nil
            bound?.connection.close(.connectionLost)
            throw error
        }
        if let request = current.request, bound === request.bound {
            bound?.sendPart(UnsafeRawBufferPointer(rebasing: bytes[0..<length]))
            request.uploads(at: loop.now)
        }
        guard current.tail.isComplete else {
            upload = current
            return length
        }
        upload = nil
        current.request?.uploaded(at: loop.now)
        halt()
        return length
    }
}
