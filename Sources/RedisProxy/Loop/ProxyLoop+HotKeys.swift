import HotKeyMitigation
import NIOCore
import RESP
import SocketIO

extension ProxyLoop {
    @inline(__always)
    func home(_ key: UnsafeRawBufferPointer) -> NodeState {
        if cluster != nil { return cluster!.home(ofSlot: ClusterSlot.of(key)) }
        return nodes[placement!.home(key)]
    }

    /// Hands the key's home to `body`.
    @inline(__always)
    func withHome<Result>(of key: UnsafeRawBufferPointer, _ body: (NodeState) -> Result) -> Result {
        if cluster != nil { return body(home(key)) }
        // Both are kept by properties that change with a snapshot, which is a task of the event loop's own and no part of a request.
        let index = borrowedPlacement!.with { $0.home(key) }
        return borrowedNodes[index].with(body)
    }

    func home(_ key: [UInt8]) -> NodeState { key.withUnsafeBytes { home($0) } }

    func hotIndex(of key: [UInt8]) -> Int? { key.withUnsafeBytes { table.index(of: $0) } }

    /// Whether a write of this key must invalidate.
    @inline(__always)
    func isFenced(_ key: UnsafeRawBufferPointer, _ hash: UInt64) -> Bool {
        for fence in fences where fence.index(of: key, hash: hash) != nil { return true }
        return false
    }

    /// Where the copies of a key lie, copy 1 first: the nodes behind its home; in a Redis Cluster other primaries (``CopySlots``), unless
    /// its replicas are read instead (``ReplicaReads``).
    func copyNodes(of key: [UInt8]) -> [NodeState] {
        let wanted =
            fences.compactMap { fence -> Int? in
                guard let index = key.withUnsafeBytes({ fence.index(of: $0) }), fence[index].kind.usesCopies else {
                    return nil
                }
                return cluster != nil && fence[index].readsReplicas ? nil : fence[index].copies
            }.max() ?? 0
        guard wanted > 0, nodes.count > 1 else { return [] }
        if let cluster { return cluster.copySlots.nodes(of: key, count: wanted) }
        guard let placement else { return [] }
        let places = key.withUnsafeBytes { placement.successors($0, count: min(wanted + 1, nodes.count)) }
        return places.dropFirst().map { nodes[$0] }
    }

    /// nil when there is no such copy any more.
    func copyName(_ key: [UInt8], _ number: Int) -> [UInt8]? {
        cluster == nil ? CopyCodec.name(key: key, copy: number) : cluster?.copySlots.name(of: key, copy: number)
    }

    /// Sends a command for a copy to its node and nowhere else: one that is redirected counts as failed, and its copy as missing.
    func sendForCopy(
        _ words: [[UInt8]], to node: NodeState, _ request: UpstreamRequest,
        _ version: ProtocolVersion = .resp2, client: UInt64 = 0, counter: UInt64 = 0
    ) -> UpstreamFailure? {
        var command = ByteBuffer()
        RESPWriter.writeCommand(words, to: &command)
        return command.withUnsafeReadableBytes {
            node.transmit($0, .request(request), version, client: client, counter: counter)
        }
    }

    /// What a node of a Redis Cluster says of a copy's slot, if that is what it says.
    func noteRedirection(_ reply: ReplyView, from node: NodeState) {
        guard let cluster, reply.isError, let redirection = Redirection(reply.bytes) else { return }
        _ = cluster.note(redirection, from: node)
    }

    func nextRandom() -> UInt64 { random.next() }

    // MARK: Reading

    func readHot(
        _ index: Int, _ command: UnsafeRawBufferPointer, isGet: Bool, _ version: ProtocolVersion, counter: UInt64,
        sink: ReplySink, standing: MissStanding = .fresh
    ) {
        guard table.usesLocalCache(at: index) else {
            fetch(index, command, isGet: isGet, version, counter: counter, sink: sink, token: nil)
            return
        }
        switch cache.lookup(index: index, command: command, protocolVersion: version.rawValue, now: now) {
        case .hit(let reply):
            countHit(index, reply, counter)
            sink.deliver(reply)
            if hitSampler.isDue() { probeStaleness(index, command, version, served: reply) }
        case .refresh(let reply, let token):
            countHit(index, reply, counter)
            sink.deliver(reply)
            if hitSampler.isDue() { probeStaleness(index, command, version, served: reply) }
            fetch(index, command, isGet: isGet, version, counter: 0, sink: .none, token: token)
        case .fill(let token):
            if !missHold.isEmpty,
                holdBehindOthers(
                    index, command, isGet: isGet, version,
                    WaitingRead(sink: sink, counter: counter, standing: standing))
            {
                cache.fillFailed(token)
                return
            }
            fetch(
                index, command, isGet: isGet, version, counter: counter, sink: sink, token: token, standing: standing)
        case .wait(let token):
            statistics.fillWaits &+= 1
            readsHeld[index] &+= 1
            waiting[token, default: []].append(WaitingRead(sink: sink, counter: counter, standing: standing))
            // The read that it waits for may go astray.
            sink.session?.readsAstray += 1
        case .bypass:
            fetch(index, command, isGet: isGet, version, counter: counter, sink: sink, token: nil)
        }
    }

    /// Those who wait for a fill, to be answered now.
    func takeWaiting(_ token: FillToken) -> [WaitingRead] {
        let reads = waiting.removeValue(forKey: token) ?? []
        for read in reads { read.sink.session?.readsAstray -= 1 }
        return reads
    }

    /// Those of them that are meant; the others wait on.
    func takeWaiting(_ token: FillToken, where isMeant: (WaitingRead) -> Bool) -> [WaitingRead] {
        guard let reads = waiting[token], reads.contains(where: isMeant) else { return [] }
        waiting[token] = reads.filter { !isMeant($0) }
        let taken = reads.filter(isMeant)
        for read in taken { read.sink.session?.readsAstray -= 1 }
        return taken
    }

    @inline(__always)
    func count(_ reply: ReplyView, _ counter: UInt64, isMiss: Bool) {
        borrowedRecorder?.with { $0.addReply(counter, bytes: reply.length, isMiss: isMiss) }
    }

    private func countHit(_ index: Int, _ reply: ByteBuffer, _ counter: UInt64) {
        statistics.localHits &+= 1
        if reply.isNullReply {
            statistics.localMissingHits &+= 1
            readsHeld[index] &+= 1
        }
        countLocal(reply, counter)
    }

    /// A reply that no node has sent for this read.
    func countLocal(_ reply: ByteBuffer, _ counter: UInt64) {
        guard counter != 0 else { return }
        recorder?.addReply(counter, bytes: reply.readableBytes, isMiss: reply.isNullReply)
    }

    private func fetch(
        _ index: Int, _ command: UnsafeRawBufferPointer, isGet: Bool, _ version: ProtocolVersion, counter: UInt64,
        sink: ReplySink, token: FillToken?, standing: MissStanding = .fresh
    ) {
        HotRead(
            loop: self,
            question: HotQuestion(key: table[index].key, command: Array(command), isGet: isGet, version: version),
            counter: counter, sink: sink, token: token, standing: standing,
            localLifetimeNanoseconds: table[index].localLifetimeNanoseconds,
            copyLifetimeNanoseconds: table[index].copyLifetimeNanoseconds
        ).start()
    }

    /// The last known reply to a read whose places have all failed.
    func staleValue(of key: [UInt8], _ command: [UInt8], _ version: ProtocolVersion) -> ByteBuffer? {
        guard let index = hotIndex(of: key) else { return nil }
        return command.withUnsafeBytes {
            cache.staleValue(index: index, command: $0, protocolVersion: version.rawValue, now: now)
        }
    }

    // MARK: Writing

    /// Drops every value of these keys that this agent could still read: first in the copies, then on every event loop. `then`
    /// is called on this loop when no read that starts from now on can find an older value.
    func invalidateEverywhere(_ keys: [[UInt8]], then: @escaping () -> Void) {
        guard !keys.isEmpty else { return then() }
        var left = 1
        func tombstoneDone() {
            left -= 1
            if left == 0 { dropEverywhere(keys, then: then) }
        }
        for key in keys {
            let lifetime =
                hotIndex(of: key).map { gates[$0].protectedLifetimeNanoseconds(now: now) }
                ?? longestCopyLifetime(of: key)
            for (offset, node) in copyNodes(of: key).enumerated() {
                left += 1
                sendTombstone(key, offset + 1, to: node, lifetime) { [self] succeeded in
                    if !succeeded { statistics.tombstoneFailures &+= 1 }
                    tombstoneDone()
                }
            }
        }
        tombstoneDone()
    }

    private func longestCopyLifetime(of key: [UInt8]) -> UInt64 {
        fences.compactMap { fence in
            key.withUnsafeBytes { fence.index(of: $0) }.map { fence[$0].copyLifetimeNanoseconds }
        }.max() ?? 0
    }

    func sendTombstone(
        _ key: [UInt8], _ copy: Int, to node: NodeState, _ copyLifetimeNanoseconds: UInt64,
        done: @escaping (Bool) -> Void
    ) {
        let milliseconds = CopyLease.tombstoneLifetimeMilliseconds(copyLifetimeNanoseconds: copyLifetimeNanoseconds)
        guard let name = copyName(key, copy) else { return done(true) }
        let request = ClosureRequest { [self] result in
            guard case .reply(let view, _) = result else { return done(false) }
            noteRedirection(view, from: node)
            done(!view.isError)
        }
        let words = [
            Array("SET".utf8), name, CopyCodec.tombstone, Array("PX".utf8), Array(String(milliseconds).utf8),
        ]
        if sendForCopy(words, to: node, request) != nil { done(false) }
    }

    /// Held reads are carried out anew only when the drop is on its way to the owner of the tracking connections. Before,
    ///
    ///     the owner has asked home for k, and home has said that there is nothing; a write of v is carried out, and k dropped here; a
    ///     held read of k is carried out anew and handed to the owner, who has not dropped k, and joins the one that is under way;
    ///     the write is acknowledged; a client reads k here, and waits for that one: "nothing"
    ///
    /// The owner is the first of the ``peers``, so what a peer hands it from its own drop on is behind the owner's drop, too.
    private func dropEverywhere(_ keys: [[UInt8]], then: @escaping () -> Void) {
        drop(keys)
        guard !peers.isEmpty else {
            readMissesAgain(keys: keys)
            return then()
        }
        // Non-Sendable state stays on this loop; only the keys travel.
        let answer = NIOLoopBound(CrossLoopAnswer(left: peers.count, then: then), eventLoop: eventLoop)
        let eventLoop = eventLoop
        for peer in peers {
            peer.eventLoop.execute {
                peer.value.updateNow()
                peer.value.drop(keys)
                peer.value.readMissesAgain(keys: keys)
                eventLoop.execute { answer.value.one() }
            }
        }
        readMissesAgain(keys: keys)
    }

    private func drop(_ keys: [[UInt8]]) {
        tracking.changed(keys)
        for key in keys {
            guard let index = hotIndex(of: key) else { continue }
            gates[index].written(at: now)
            cache.invalidate(index: index)
        }
        cluster?.replicaReads.written(keys)
    }

    /// As ``invalidateEverywhere(_:then:)`` for writes of unknown outcome: values are served no more while home can be asked, but
    /// stay for when it cannot.
    func expireEverywhere(_ keys: [[UInt8]]) {
        expire(keys)
        for peer in peers {
            peer.eventLoop.execute {
                peer.value.updateNow()
                peer.value.expire(keys)
                peer.value.readMissesAgain(keys: keys)
            }
        }
        readMissesAgain(keys: keys)
    }

    private func expire(_ keys: [[UInt8]]) {
        tracking.changed(keys)
        for key in keys {
            if let index = hotIndex(of: key) { cache.expire(index: index) }
        }
        cluster?.replicaReads.written(keys)
    }

    /// Whether this agent may read copy `number` of the key at `index`, which lies on `node`.
    func mayRead(copy number: Int, of index: Int, on node: NodeState) -> Bool {
        table[index].readsCopies && node.isUsable
            && gates[index].readable(copy: number, nodeQuarantinedAt: node.copiesQuarantinedAt, now: now)
    }

    /// A node's clock was set. Set back, it lets the copies that it holds live on past the staleness cap, for every agent; so
    /// they are overwritten. Walks the whole hot set, which such an event is rare enough for.
    func retractCopies(on node: NodeState) {
        for index in gates.indices { retractCopies(of: index) { $0 === node } }
    }

    func retractCopies(of key: [UInt8]) {
        if let index = hotIndex(of: key) { retractCopies(of: index) { _ in true } }
    }

    private func retractCopies(of index: Int, where isMeant: (NodeState) -> Bool) {
        let key = table[index].key
        for (offset, copy) in copyNodes(of: key).enumerated() where isMeant(copy) {
            retractCopy(offset + 1, of: key, at: index, on: copy)
        }
    }

    func retractCopy(_ number: Int, of key: [UInt8]) {
        let copies = copyNodes(of: key)
        guard let index = hotIndex(of: key), copies.indices.contains(number - 1) else { return }
        retractCopy(number, of: key, at: index, on: copies[number - 1])
    }

    private func retractCopy(_ number: Int, of key: [UInt8], at index: Int, on copy: NodeState) {
        let lifetime = gates[index].protectedLifetimeNanoseconds(now: now)
        sendTombstone(key, number, to: copy, lifetime) { [self] succeeded in
            if !succeeded { statistics.tombstoneFailures &+= 1 }
        }
    }
}

/// A read that another one's fill will answer.
struct WaitingRead {
    let sink: ReplySink
    let counter: UInt64
    let standing: MissStanding
}

/// Counts the other loops' answers; on the loop that asked.
private final class CrossLoopAnswer {
    private var left: Int
    private let then: () -> Void

    init(left: Int, then: @escaping () -> Void) {
        self.left = left
        self.then = then
    }

    func one() {
        left -= 1
        if left == 0 { then() }
    }
}
