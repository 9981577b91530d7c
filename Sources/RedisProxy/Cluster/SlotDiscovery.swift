import Logging
import NIOCore
import RESP

/// Asks a Redis Cluster for its slots on behalf of every event loop of the process. Once for all: a thousand agents with eight loops
/// each would otherwise ask eight times, and what the loops know would differ for longer.
final class SlotDiscovery {
    private unowned let loop: ProxyLoop
    private let seeds: [ProxyNode]
    private var schedule: SlotRefresh
    /// Who is asked next when the present one does not answer.
    private var queue: [ClusterAddress] = []
    /// Answers to an older question count no more.
    private var question: UInt64 = 0
    /// The seeds are asked until one has answered: what is known from before may be another cluster's.
    private var hasAnswer = false
    private var hasComplained = false
    private var map: SlotMap?

    init(loop: ProxyLoop, seeds: [ProxyNode]) {
        self.loop = loop
        self.seeds = seeds
        schedule = SlotRefresh(now: loop.now)
    }

    func wanted() {
        loop.updateNow()
        if schedule.wanted(now: loop.now) { begin() }
    }

    func tick() {
        if schedule.isLate(now: loop.now) {
            failed("did not answer in time")
        } else if schedule.tick(now: loop.now) {
            begin()
        }
    }

    private func begin() {
        guard let cluster = loop.cluster else { return }
        let all = hasAnswer ? cluster.candidates() : seeds.map { ClusterAddress($0) }.shuffled(using: &loop.random)
        queue = Array(all.prefix(RedisProxyLimits.slotCandidatesMax).reversed())
        askNext("there is none")
    }

    /// - Parameter reason: why the one before did not do.
    private func askNext(_ reason: String) {
        question += 1
        guard let cluster = loop.cluster, !loop.isShutDown else { return }
        guard let address = queue.popLast(), let node = cluster.node(at: address) else {
            schedule.failed(now: loop.now, random: loop.nextRandom())
            guard !hasComplained else { return }
            hasComplained = true
            loop.logger.warning(
                "no node of the Redis Cluster tells its slots: what was known stays in use; look at the nodes, and at the topology's addresses",
                metadata: ["problem": "\(reason)"])
            return
        }
        schedule.asked(now: loop.now)
        let current = question
        var slots: RESPValue?
        var failure = send(["CLUSTER", "SLOTS"], to: node, current) { slots = $0 }
        if failure == nil {
            failure = send(["CLUSTER", "NODES"], to: node, current) { [weak self] nodes in
                guard let self else { return }
                guard let slots else { return failed("gave no slots", of: node.node) }
                take(slots, nodes, from: node.node)
            }
        }
        if let failure { failed(failure, of: node.node) }
    }

    private func send(
        _ words: [String], to node: NodeState, _ asked: UInt64, then: @escaping (RESPValue) -> Void
    ) -> String? {
        var command = ByteBuffer()
        RESPWriter.writeCommand(words.map { Array($0.utf8) }, to: &command)
        let request = ClosureRequest { [weak self] result in
            guard let self, asked == question, !loop.isShutDown else { return }
            switch result {
            case .reply(let view, _):
                guard view.length <= RedisProxyLimits.slotReplyBytesMax,
                    let value = try? RESPValue(decoding: Array(view.bytes))
                else { return failed("gave slots that cannot be read", of: node.node) }
                // A node without CLUSTER NODES still knows its slots; one without CLUSTER SLOTS is of no use.
                if case .error(let text) = value, words[1] == "SLOTS" { return failed(text, of: node.node) }
                then(value)
            case .failure(let failure): failed(failure.text(node.node), of: node.node)
            }
        }
        return command.withUnsafeReadableBytes { node.transmit($0, .request(request), .resp2) }?.text(node.node)
    }

    private func take(_ slots: RESPValue, _ nodes: RESPValue, from node: ProxyNode) {
        do {
            let map = try SlotMap(slots: slots, nodes: nodes, asked: node.host)
            question += 1
            hasAnswer = true
            schedule.answered(now: loop.now, random: loop.nextRandom())
            announce(map)
            hand(map)
        } catch {
            failed("\(error)", of: node)
        }
    }

    private func announce(_ new: SlotMap) {
        if hasComplained {
            hasComplained = false
            loop.logger.notice("the Redis Cluster tells its slots again")
        }
        guard new.primaries != map?.primaries else { return }
        loop.logger.notice(
            "primaries of the Redis Cluster",
            metadata: ["primaries": "\(new.primaries.map { "\($0.host):\($0.port)" })"])
        map = new
    }

    private func hand(_ map: SlotMap) {
        loop.cluster?.adopt(map)
        let seeds = seeds
        for peer in loop.peers {
            peer.eventLoop.execute {
                // The topology may have changed meanwhile.
                guard let cluster = peer.value.cluster, cluster.seeds == seeds, !peer.value.isShutDown else { return }
                peer.value.updateNow()
                cluster.adopt(map)
            }
        }
    }

    private func failed(_ what: String, of node: ProxyNode? = nil) {
        askNext(node.map { "\($0.name): \(what)" } ?? what)
    }
}
