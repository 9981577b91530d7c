import HotKeyMitigation
import Logging
import NIOCore
import RESP
import SocketIO

/// Tracking as one event loop sees it: which nodes tell of changes now, and the way there.
///
/// The agent has one tracking connection to each node, and its first event loop owns them all. The others hand it their questions
/// and are handed replies, announcements and flushes, each as a task of their own loop. What guarantee 1 rests on (a write
/// acknowledged through the agent is seen by the next read through it) is not touched by that: a reply is put into a cache only under
/// the token of a look-up of that very loop, and a write ends those tokens on every loop before it is acknowledged. ``TrackedFill``
/// tells of the one thing that loops share.
///
/// That no announcement is missed (guarantee 2 well within its cap) rests on order:
///
///     the owner hands loop 2 the reply v1; the node announces that the key has changed; the owner hands loop 2 the announcement
///
/// Tasks of one loop that another one hands it run in the order in which they were handed over, so v1 is in the cache when the
/// announcement comes. The same holds for a flush and for what was handed over before it. After a flush nothing with that
/// source's number comes any more, and a reply whose home is not the node that it came from is kept as an untracked one.
final class TrackingHub {
    private unowned let loop: ProxyLoop
    /// By node, the number of the connection over which it tracks for this agent.
    private var sources: [ProxyNode: UInt32] = [:]
    /// When the owner was last told that a node without one is wanted.
    private var wantedAt: [ProxyNode: UInt64] = [:]
    /// On the owner.
    private var trackers: [ProxyNode: NodeTracker] = [:]
    private var lastSource: UInt32 = 0

    init(loop: ProxyLoop) { self.loop = loop }

    private var isOwner: Bool { loop.index == 0 }

    // MARK: Asking

    /// Whether reads of keys that live on a node go over its tracking connection now. Where they could, and do not, one is asked for.
    func isTracking(_ home: NodeState) -> Bool {
        guard loop.configuration.tracksHotKeys, home.isUsable, !loop.isShutDown, loop.cluster?.hasMap != false else {
            return false
        }
        if sources[home.node] != nil { return true }
        want(home.node)
        return false
    }

    private func want(_ node: ProxyNode) {
        if let at = wantedAt[node], loop.now - at < RedisProxyLimits.trackingWantedNanoseconds { return }
        wantedAt[node] = loop.now
        if isOwner { return tracker(of: node)?.handle(.wanted) ?? () }
        guard let owner = loop.peers.first else { return }
        owner.eventLoop.execute {
            owner.value.updateNow()
            owner.value.tracking.tracker(of: node)?.handle(.wanted)
        }
    }

    /// Asks over the tracking connection; ``HotRead/finish(_:)`` is called with what came of it.
    func ask(_ question: TrackedQuestion, of node: ProxyNode, for read: HotRead) {
        if isOwner {
            guard let tracker = tracker(of: node) else { return read.finish(.unavailable) }
            return tracker.ask(question) { read.finish($0) }
        }
        guard let owner = loop.peers.first else { return read.finish(.unavailable) }
        let asker = NIOLoopBound(read, eventLoop: loop.eventLoop)
        let eventLoop = loop.eventLoop
        let answer: @Sendable (TrackedOutcome) -> Void = { outcome in
            eventLoop.execute { asker.value.finish(outcome, isFromElsewhere: true) }
        }
        owner.eventLoop.execute {
            owner.value.updateNow()
            guard let tracker = owner.value.tracking.tracker(of: node) else { return answer(.unavailable) }
            tracker.ask(question, answer)
        }
    }

    /// The source to keep a reply under: 0 when nobody would tell that it has changed.
    func usableSource(_ source: UInt32, of key: [UInt8]) -> UInt32 {
        sources[loop.home(key).node] == source ? source : 0
    }

    /// These keys have been written through the agent, and that is about to be acknowledged.
    func changed(_ keys: [[UInt8]]) {
        for tracker in trackers.values { tracker.changed(keys) }
    }

    /// Another table is about to be served: while a key is not in it, writes of it go unnoticed.
    func endJoining() {
        for tracker in trackers.values { tracker.endJoining() }
    }

    /// Homes may have changed. What came from another node than a key's present home is not told of any more.
    func placesChanged() {
        wantedAt = [:]
        guard !sources.isEmpty || !trackers.isEmpty else { return }
        loop.cache.expireTracked { index, source in
            self.sources[self.loop.home(self.loop.table[index].key).node] != source
        }
        for (node, tracker) in trackers where state(of: node) == nil {
            tracker.handle(.unneeded)
            trackers[node] = nil
        }
    }

    // MARK: The owner

    private func tracker(of node: ProxyNode) -> NodeTracker? {
        if let known = trackers[node] { return known }
        guard !loop.isShutDown, state(of: node) != nil else { return nil }
        let new = NodeTracker(node: node, hub: self)
        trackers[node] = new
        return new
    }

    func tick() {
        guard !trackers.isEmpty else { return }
        let isNeeded = loop.servedCount > 0
        for tracker in Array(trackers.values) { tracker.tick(isNeeded: isNeeded) }
    }

    var now: UInt64 { loop.now }
    var answerNanosecondsMax: UInt64 {
        min(
            RedisProxyLimits.trackingAnswerNanosecondsMax,
            UInt64(loop.configuration.requestTimeoutMilliseconds) * 1_000_000 / 2)
    }
    func random() -> UInt64 { loop.nextRandom() }
    func state(of node: ProxyNode) -> NodeState? { loop.nodes.first { $0.node == node } }

    func nextSource() -> UInt32 {
        lastSource = lastSource == .max ? 1 : lastSource + 1
        return lastSource
    }

    func serve(_ node: ProxyNode, _ source: UInt32) {
        loop.logger.info("the cache node tracks hot keys for this agent", metadata: ["node": "\(node.name)"])
        onEveryLoop { $0.sources[node] = source }
    }

    func flush(_ node: ProxyNode, _ source: UInt32, _ cause: TrackingFlush) {
        loop.statistics.tracking.flushes[cause, default: 0] += 1
        onEveryLoop { hub in
            // The node goes on tracking when all that happened is that its data went.
            if cause != .emptied, hub.sources[node] == source { hub.sources[node] = nil }
            hub.loop.cache.expireTracked { $1 == source }
        }
    }

    func tell(_ node: ProxyNode, _ reason: String) {
        loop.logger.warning(
            "a cache node does not track hot keys for this agent: local values of its keys live a second at most, and changes past the agents are seen that late; let the agent's user there run CLIENT, with a server of version 6 or later",
            metadata: ["node": "\(node.name)", "address": "\(node.address)", "reason": "\(reason)"])
    }

    func countInvalidation() { loop.statistics.tracking.invalidations &+= 1 }

    /// Home says that these keys have changed.
    func dropEverywhere(_ keys: [[UInt8]]) { loop.expireEverywhere(keys) }

    /// Home says that keys have changed of which this agent filled copies. Whoever filled a copy answers for it: no copy lives without an
    /// agent that heard of the change, unless that agent or its connection is gone, and then the copy's expiry remains.
    ///
    /// A fill that is still on its way comes too late: it is stored only where nothing is, and the tombstone outlives it.
    func retractCopies(of keys: [[UInt8]]) {
        for key in keys { loop.retractCopies(of: key) }
    }

    private func onEveryLoop(_ body: @escaping @Sendable (TrackingHub) -> Void) {
        body(self)
        for peer in loop.peers {
            peer.eventLoop.execute {
                peer.value.updateNow()
                body(peer.value.tracking)
            }
        }
    }

    /// On the owner; others add nothing.
    func add(to statistics: inout ProxyStatistics) {
        statistics.tracking.connections = trackers.values.count { $0.session.source != nil }
        for index in statistics.nodes.indices {
            guard let session = trackers[statistics.nodes[index].node]?.session else { continue }
            statistics.nodes[index].tracking =
                session.source != nil ? .on : session.refusal.map { .refused($0) } ?? .off
        }
    }

    func shutDown() {
        for tracker in trackers.values { tracker.close() }
        trackers = [:]
        sources = [:]
    }
}
