import HotKeyMitigation
import NIOCore
import RESP

/// Commands without a key, before several nodes.
extension FrontSession {
    func handleAllNodes(_ route: AllNodesRoute, _ spec: CommandSpec, _ command: UnsafeRawBufferPointer) {
        if case .subscription = route {} else if !knowsSlots() { return }
        switch route {
        case .all(let kind, .shared): gather(kind, spec, command, .shared)
        case .all(let kind, .own): gatherAlone(kind, spec, command, .unbounded)
        case .all(let kind, .flush): gatherAlone(kind, spec, command, .unbounded, flushes: true)
        case .all(let kind, .wait):
            let wait = WaitLimit(spec, argumentCount: arguments.count) { argument($0, of: command) }
            gatherAlone(kind, spec, command, wait)
        case .scan: handleScan(command)
        case .randomKey: RandomKey(session: self, slot: reserveReply()).start()
        case .anyNode: forwardToAnyNode(command)
        case .publish: forwardKeyless(command, to: loop.home(argument(1, of: command)))
        case .subscription: handleSubscription(spec, command)
        }
    }

    /// To the first node that is well.
    func forwardToAnyNode(_ command: UnsafeRawBufferPointer) {
        forwardKeyless(command, to: loop.nodes.first(where: \.isUsable) ?? loop.nodes[0])
    }

    private func forwardKeyless(_ command: UnsafeRawBufferPointer, to node: NodeState) {
        let slot = reserveReply()
        if let failure = node.forward(command, to: self, slot, counter: 0) {
            complete(slot, ProxyReply.error(failure.text(node.node)))
        }
    }

    /// For what must come behind everything this client has sent to any node, and before everything that follows.
    private func gatherAlone(
        _ kind: NodeJoin.Kind, _ spec: CommandSpec, _ command: UnsafeRawBufferPointer, _ wait: WaitLimit,
        flushes: Bool = false
    ) {
        guard settle() else { return }
        gather(kind, spec, command, .own(wait), flushes: flushes)
        halt()
    }

    private func gather(
        _ kind: NodeJoin.Kind, _ spec: CommandSpec, _ command: UnsafeRawBufferPointer, _ way: NodeGather.Way,
        flushes: Bool = false
    ) {
        let slot = reserveReply()
        // The client may say HELLO before the replies are there.
        let version = version
        let name = spec.name
        let gather = NodeGather(loop, loop.nodes) { [self] gather in
            let hot = flushes ? loop.hotKeys(among: .everything) : []
            if kind != .any || gather.replies.isEmpty, let failed = gather.failure {
                loop.expireEverywhere(hot)
                complete(slot, ProxyReply.error(failed.failure.text(failed.node)))
            } else if gather.isTooLarge {
                complete(slot, ProxyReply.error(ProxyReply.tooLargeOverNodes(name, loop.configuration.outputBytesMax)))
            } else {
                let reply = NodeJoin.join(kind, gather.replies, version) { [loop] key, node in
                    loop.isListed(key, on: gather.nodes[node])
                }
                guard !hot.isEmpty else { return complete(slot, reply) }
                loop.statistics.hotWrites &+= 1
                loop.invalidateEverywhere(hot) { self.complete(slot, reply) }
            }
        }
        gather.send(command, way, version, client: id)
    }

    // MARK: SCAN

    private func handleScan(_ command: UnsafeRawBufferPointer) {
        guard let cursor = ScanOrder.parse(argument(1, of: command)) else {
            answer(error: "ERR invalid cursor")
            return
        }
        let order = loop.scanOrder
        guard let place = order.place(of: cursor) else {
            answer(.array([.bulk("0"), .array([])]))
            return
        }
        var words = arguments.indices.map { Array(argument($0, of: command)) }
        words[1] = Array(String(place.cursor).utf8)
        var asked = ByteBuffer()
        RESPWriter.writeCommand(words, to: &asked)
        let node = loop.nodes[place.node]
        let slot = reserveReply()
        let request = ClosureRequest { [self] result in
            switch result {
            case .failure(let failure): complete(slot, ProxyReply.error(failure.text(node.node)))
            case .reply(let view, _):
                guard !view.isError, let scanned = scanned(view.bytes, order, place.node, node) else {
                    return complete(slot, view)
                }
                complete(slot, scanned)
            }
        }
        let failure = asked.withUnsafeReadableBytes { node.send($0, .request(request), version, client: id) }
        if let failure { complete(slot, ProxyReply.error(failure.text(node.node))) }
    }

    /// A node's part of the scan, with the client's cursor in place of the node's. `nil` when it is no reply to `SCAN`.
    private func scanned(
        _ reply: UnsafeRawBufferPointer, _ order: ScanOrder, _ index: Int, _ node: NodeState
    ) -> ByteBuffer? {
        guard let parts = ReplyElements.split(reply), parts.count == 2,
            let cursor = ReplyElements.bulk(parts[0]).flatMap({ UInt64(String(decoding: $0, as: UTF8.self)) }),
            let keys = ReplyElements.split(parts[1])
        else { return nil }
        guard let next = order.cursor(after: index, cursor) else {
            return ProxyReply.error(
                "ERR cache node \(node.node.name) (\(node.node.address)) gave the cursor \(cursor), which is too large to be told apart "
                    + "from other nodes' cursors; scan the cache nodes themselves")
        }
        let listed = keys.filter { key in ReplyElements.bulk(key).map { loop.isListed($0, on: node) } ?? true }
        var whole = ByteBuffer()
        RESPWriter.writeHeader(UInt8(ascii: "*"), 2, to: &whole)
        RESPWriter.writeBulk(Array(String(next).utf8), to: &whole)
        RESPWriter.writeHeader(UInt8(ascii: "*"), listed.count, to: &whole)
        for key in listed { whole.writeBytes(key) }
        return whole
    }
}

/// What only one node can carry out although its keys lie on one.
extension FrontSession {
    /// - Parameter home: the node of the command's first key.
    func refusalBesideKeys(_ spec: CommandSpec, _ home: NodeState, _ command: UnsafeRawBufferPointer) -> String? {
        guard loop.nodes.count > 1 else { return nil }
        switch spec.name {
        case "sort", "sort_ro": return patternElsewhere(home, command)
        case "copy":
            for index in 3..<max(3, arguments.count - 1)
            where CommandTable.equalsIgnoringCase(argument(index, of: command), "DB") {
                let number = Int(String(decoding: argument(index + 1, of: command), as: UTF8.self)) ?? 0
                if number != 0 { return "before several cache nodes there is database 0 alone; leave DB out" }
            }
            return nil
        default: return nil
        }
    }

    /// `BY` and `GET` make names of keys that may live anywhere; the node would take those for missing that it does not have.
    private func patternElsewhere(_ home: NodeState, _ command: UnsafeRawBufferPointer) -> String? {
        var index = 2
        while index < arguments.count {
            let word = argument(index, of: command)
            if CommandTable.equalsIgnoringCase(word, "LIMIT") {
                index += 2
            } else if CommandTable.equalsIgnoringCase(word, "STORE") {
                index += 1
            } else if CommandTable.equalsIgnoringCase(word, "BY") || CommandTable.equalsIgnoringCase(word, "GET"),
                index + 1 < arguments.count
            {
                index += 1
                let pattern = argument(index, of: command)
                // Without an asterisk it names no key.
                if let asterisk = pattern.firstIndex(of: UInt8(ascii: "*")),
                    loop.placement?.hasTag(UnsafeRawBufferPointer(rebasing: pattern[..<asterisk])) != true
                        || loop.home(pattern) !== home
                {
                    let text = ProxyReply.text(pattern, max: RedisProxyLimits.keyTextMax)
                    return
                        "the keys that '\(text)' stands for may live on other nodes; put the hash tag of the sorted key before the *"
                }
            }
            index += 1
        }
        return nil
    }
}

extension ProxyLoop {
    /// Whether a name found on a node is a key of the app. Copies of hot keys are none; nor is what an earlier topology left behind on
    /// a node that is no longer its home, where no command finds it. A node of a Redis Cluster keeps nothing of the kind, and while a
    /// slot moves it has keys that its new home has not.
    func isListed(_ name: UnsafeRawBufferPointer, on node: NodeState) -> Bool {
        !CopyCodec.isCopyName(name) && (cluster != nil || home(name) === node)
    }
}

/// `RANDOMKEY`: a node by chance, weighted by how many keys each has, and a random key of it. As evenly as Redis draws, as far as no
/// node holds names that are no keys of the app; those are drawn again.
private final class RandomKey {
    private let session: FrontSession
    private let slot: UInt32
    private let version: ProtocolVersion
    private var draws = 0
    private var loop: ProxyLoop { session.loop }

    init(session: FrontSession, slot: UInt32) {
        self.session = session
        self.slot = slot
        version = session.version
    }

    func start() {
        let gather = NodeGather(loop, loop.nodes) { [self] gather in
            if let failed = gather.failure {
                return session.complete(slot, ProxyReply.error(failed.failure.text(failed.node)))
            }
            if let error = gather.replies.first(where: NodeJoin.isError) { return session.complete(slot, error) }
            draw(
                gather.nodes,
                gather.replies.map { $0.withUnsafeReadableBytes { UInt64(max(0, ReplyElements.integer($0) ?? 0)) } })
        }
        dbsize.withUnsafeReadableBytes { gather.send($0, .shared, version, client: session.id) }
    }

    private func draw(_ nodes: [NodeState], _ sizes: [UInt64]) {
        let total = sizes.reduce(0, &+)
        draws += 1
        guard total > 0, draws <= RedisProxyLimits.randomKeyDrawsMax else {
            return session.complete(slot, ProxyReply.nothing(version))
        }
        var rest = loop.nextRandom() % total
        var index = 0
        while rest >= sizes[index] {
            rest -= sizes[index]
            index += 1
        }
        let node = nodes[index]
        let request = ClosureRequest { [self] result in
            switch result {
            case .failure(let failure): session.complete(slot, ProxyReply.error(failure.text(node.node)))
            case .reply(let view, _):
                if view.isError { return session.complete(slot, view) }
                guard let name = ReplyElements.bulk(view.bytes), loop.isListed(name, on: node) else {
                    return draw(nodes, sizes)
                }
                session.complete(slot, view)
            }
        }
        let failure = randomKey.withUnsafeReadableBytes {
            node.send($0, .request(request), version, client: session.id)
        }
        if let failure { session.complete(slot, ProxyReply.error(failure.text(node.node))) }
    }
}

private let dbsize = ByteBuffer(string: "*1\r\n$6\r\nDBSIZE\r\n")
private let randomKey = ByteBuffer(string: "*1\r\n$9\r\nRANDOMKEY\r\n")
