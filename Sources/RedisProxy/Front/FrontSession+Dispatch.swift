import HotKeyMitigation
import NIOCore
import RESP

extension FrontSession {
    /// Does what one command asks for. `command` holds exactly the command; its arguments are in ``arguments``.
    func handle(_ command: UnsafeRawBufferPointer) {
        loop.statistics.requests &+= 1
        guard isOrdinary else {
            if !isAuthenticated {
                handleUnauthenticated(command)
            } else if let bound {
                handleBound(bound, command)
            } else if let opened {
                handleOpened(opened, command)
            }
            return
        }
        let name = argument(0, of: command)
        let index = CommandTable.redis70.shortIndex(of: name)
        if index >= 0, isPlain {
            let quick = loop.oneKeyCommands[index]
            if quick.keyIndex > 0, quick.accepts(argumentCount: arguments.count) {
                handleOneKey(quick, command)
                return
            }
        }
        guard let spec = index >= 0 ? CommandTable.redis70.commands[index] : CommandTable.redis70.find(name) else {
            handleUnknown(command)
            return
        }
        guard spec.accepts(argumentCount: arguments.count) else {
            answer(error: ProxyReply.wrongArgumentCount(spec.name))
            return
        }
        dispatch(spec, route(spec), command)
    }

    /// The peer listener passes nothing on, so the number of nodes makes no difference there.
    @inline(__always)
    private func route(_ spec: CommandSpec) -> CommandRoute {
        role == .app ? loop.routes[spec.index] : CommandRoute.byIndex[spec.index]
    }

    func dispatch(_ spec: CommandSpec, _ route: CommandRoute, _ command: UnsafeRawBufferPointer) {
        if isListening, version == .resp2, !worksWhileSubscribed(spec) {
            answer(rejectionWhileSubscribed(spec, command))
            return
        }
        if role == .peer, !worksForPeers(route) {
            answer(
                error: ProxyReply.unsupported(
                    spec.name, "this is the agent's peer listener, which serves HK. commands only"))
            return
        }
        switch route {
        case .oneKey: handleOneKey(loop.oneKeyCommands[spec.index], command)
        case .keysOfOneNode: handleKeysOfOneNode(spec, command)
        case .blocking: handleBlocking(spec, command)
        case .split(let kind): handleSplit(kind, spec, command)
        case .container: handleSubcommand(spec, command)
        case .keyless: handleKeyless(spec, command)
        case .bound: bindAndHandle(spec, command)
        case .multi:
            opened = OpenTransaction()
            answer(ProxyReply.ok)
        case .watch: handleWatch(spec, command)
        case .withoutTransaction: handleWithoutTransaction(spec)
        case .allNodes(let route): handleAllNodes(route, spec, command)
        case .refused(let reason):
            answer(error: clusterDisabled(spec) ?? ProxyReply.unsupported(spec.name, reason))
        case .denied: deny(spec)
        case .screened: handleScreened(spec, command)
        case .ping: handlePing(command)
        case .echo: answer(.bulk(Array(argument(1, of: command))))
        case .hello: handleHello(command)
        case .auth: handleAuth(command)
        case .select: handleSelect(command)
        case .client: handleClient(command)
        case .command: handleCommand(command)
        case .info: handleInfo()
        case .quit:
            answer(ProxyReply.ok)
            end()
        case .reset: handleReset()
        case .subscribe: handleSubscribe(command)
        case .unsubscribe: handleUnsubscribe(command)
        }
    }

    private func worksForPeers(_ route: CommandRoute) -> Bool {
        switch route {
        case .ping, .echo, .hello, .auth, .select, .client, .command, .info, .quit, .reset, .subscribe, .unsubscribe:
            true
        default: false
        }
    }

    /// Other mistakes come first, as at Redis.
    private func rejectionWhileSubscribed(_ spec: CommandSpec, _ command: UnsafeRawBufferPointer) -> ByteBuffer {
        var spec = spec
        if spec.hasSubcommands, arguments.count > 1 {
            let word = argument(1, of: command)
            guard let sub = CommandTable.redis70.find(spec, subcommand: word) else {
                return ProxyReply.unknownSubcommand(word, of: spec.name)
            }
            guard sub.accepts(argumentCount: arguments.count) else {
                return ProxyReply.error(ProxyReply.wrongArgumentCount(sub.name))
            }
            spec = sub
        }
        return ProxyReply.error(ProxyReply.notWhileSubscribed(spec.name))
    }

    func worksWhileSubscribed(_ spec: CommandSpec) -> Bool {
        spec.isSubscription || ["ping", "quit", "reset"].contains(spec.name)
    }

    // MARK: One key

    @inline(__always)
    private func handleOneKey(_ known: OneKeyCommand, _ command: UnsafeRawBufferPointer) {
        let loop = loop
        let key = argument(Int(known.keyIndex), of: command)
        let hash = FastHash.hash(key, seed: loop.configuration.hashSeed)
        if known.mayWrite, readsAstray > 0, isOvertaking([key]) { return }
        let counter = count(key, hash, mayWrite: known.mayWrite)
        let slot = reserveReply()
        if known.mayWrite {
            if !loop.fences.isEmpty, loop.isFenced(key, hash) {
                HotWrite(session: self, keys: [Array(key)], sink: .slot(self, slot))
                    .send(command, to: loop.home(key), version, counter: counter)
                return
            }
        } else if loop.servedCount > 0, known.isCacheable, hotWritesUnderWay == 0,
            let index = loop.table.index(of: key, hash: hash)
        {
            withNameInCapitals(command) {
                loop.readHot(
                    index, $0, isGet: known.isGet, version, counter: counter, sink: .slot(self, slot))
            }
            return
        }
        if loop.isObserving {
            loop.observe(key, hash, known)
            if let read = loop.observedMiss(key, hash, known, .slot(self, slot)) {
                let node = loop.home(key)
                if let failure = node.send(command, .request(read), version, client: id, counter: counter) {
                    complete(slot, ProxyReply.error(failure.text(node.node)))
                }
                return
            }
        }
        loop.withHome(of: key) { node in
            if let failure = node.forward(command, to: self, slot, counter: counter) {
                complete(slot, ProxyReply.error(failure.text(node.node)))
            }
        }
    }

    /// Whether a write of these keys could be carried out before a read of them that this client sent earlier and that may come back
    /// from another node to ask home. Then it has been put off until that read is answered.
    func isOvertaking(_ keys: [UnsafeRawBufferPointer]) -> Bool {
        let isHot = keys.contains { loop.isFenced($0, FastHash.hash($0, seed: loop.configuration.hashSeed)) }
        return isHot && !settle()
    }

    /// Replies are cached by the bytes of their command, and some clients write `get` where others write `GET`: told apart, the
    /// two would not share a value, and one would have none when the home is down.
    @inline(__always)
    func withNameInCapitals(_ command: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) {
        let name = arguments[0]
        let range = name.offset..<name.offset + name.length
        guard command[range].contains(where: { $0 >= UInt8(ascii: "a") }) else { return body(command) }
        var scratch = loop.takeScratch()
        scratch.writeBytes(command)
        scratch.withUnsafeMutableReadableBytes { bytes in
            for index in range where bytes[index] >= UInt8(ascii: "a") { bytes[index] &= 0xDF }
        }
        scratch.withUnsafeReadableBytes { body($0) }
        loop.giveBack(scratch)
    }

    /// Whether a read may be answered by anything but the key's home.
    func mayReadLocally(_ spec: CommandSpec) -> Bool {
        hotWritesUnderWay == 0 && loop.oneKeyCommands[spec.index].isCacheable
    }

    @inline(__always)
    func count(_ key: UnsafeRawBufferPointer, _ hash: UInt64, mayWrite: Bool) -> UInt64 {
        guard loop.isCounting, let recorder = loop.borrowedRecorder, !CopyCodec.isCopyName(key) else { return 0 }
        return recorder.with { $0.record(key: key, hash: hash, reads: mayWrite ? 0 : 1, writes: mayWrite ? 1 : 0) }
    }

    func count(_ key: UnsafeRawBufferPointer, _ hash: UInt64, _ spec: CommandSpec) -> UInt64 {
        count(key, hash, mayWrite: spec.mayWrite)
    }

    // MARK: Several keys

    private func handleKeysOfOneNode(_ spec: CommandSpec, _ command: UnsafeRawBufferPointer) {
        guard let (node, keys) = commonNode(spec, command) else { return }
        forwardCounted(spec, command, to: node, keys: keys)
    }

    /// Sends a command whose keys are counted to one node, and invalidates those of its keys that are hot if it may write.
    func forwardCounted(
        _ spec: CommandSpec, _ command: UnsafeRawBufferPointer, to node: NodeState, keys: [UnsafeRawBufferPointer]
    ) {
        if spec.mayWrite, readsAstray > 0, isOvertaking(keys) { return }
        var fenced: [[UInt8]] = []
        for key in keys {
            let hash = FastHash.hash(key, seed: loop.configuration.hashSeed)
            _ = count(key, hash, spec)
            if spec.mayWrite, loop.isFenced(key, hash) { fenced.append(Array(key)) }
        }
        let slot = reserveReply()
        if fenced.isEmpty {
            if let failure = node.forward(command, to: self, slot, counter: 0) {
                complete(slot, ProxyReply.error(failure.text(node.node)))
            }
        } else {
            HotWrite(session: self, keys: fenced, sink: .slot(self, slot)).send(command, to: node, version, counter: 0)
        }
    }

    /// The node of all keys, with the keys. `nil` when there is none: the command has been answered with an error.
    func commonNode(
        _ spec: CommandSpec, _ command: UnsafeRawBufferPointer
    ) -> (NodeState, [UnsafeRawBufferPointer])? {
        var positions: [Int] = []
        let found = KeyPositions.append(of: spec, argumentCount: arguments.count, to: &positions) {
            argument($0, of: command)
        }
        guard found else {
            // It will be refused; by the only node itself, in its own words.
            if loop.hasOneNode { return (loop.nodes[0], []) }
            answer(error: "ERR syntax error")
            return nil
        }
        let keys = positions.map { argument($0, of: command) }
        guard let first = keys.first else {
            // A script without keys, or a keyword that did not come: no key says which node is meant.
            if loop.hasOneNode { return (loop.nodes[0], []) }
            answer(error: ProxyReply.unsupported(spec.name, "it names no key, so no cache node is meant"))
            return nil
        }
        let home = loop.home(first)
        if loop.cluster != nil { return areInOneSlot(spec, keys) ? (home, keys) : nil }
        if let reason = refusalBesideKeys(spec, home, command) {
            answer(error: ProxyReply.unsupported(spec.name, reason))
            return nil
        }
        for key in keys.dropFirst() {
            let other = loop.home(key)
            if other !== home {
                answer(
                    error: ProxyReply.differentNodes(
                        spec.name, first, on: home.node.name, key, on: other.node.name))
                return nil
            }
        }
        return (home, keys)
    }

    private func handleSubcommand(_ container: CommandSpec, _ command: UnsafeRawBufferPointer) {
        let word = argument(1, of: command)
        guard let spec = CommandTable.redis70.find(container, subcommand: word) else {
            if isTransparent { return handleKeyless(container, command) }
            answer(ProxyReply.unknownSubcommand(word, of: container.name))
            return
        }
        guard spec.accepts(argumentCount: arguments.count) else {
            answer(error: ProxyReply.wrongArgumentCount(spec.name))
            return
        }
        dispatch(spec, route(spec), command)
    }

    private func handleKeyless(_ spec: CommandSpec, _ command: UnsafeRawBufferPointer) {
        guard loop.hasOneNode else {
            answer(
                error: ProxyReply.unsupported(
                    spec.name, "it names no key, so no cache node is meant; send it to the cache nodes themselves"))
            return
        }
        forwardCounted(spec, command, to: loop.nodes[0], keys: [])
    }

    /// A command that may wait goes over a connection of its own, or it would hold up everyone's replies on a shared one.
    /// What the client sends behind it waits, as it would at Redis.
    private func handleBlocking(_ spec: CommandSpec, _ command: UnsafeRawBufferPointer) {
        if loop.hasOneNode {
            if mayWait(spec, command) { bindAndHandle(spec, command) } else { handleKeysOfOneNode(spec, command) }
            return
        }
        guard mayWait(spec, command) else {
            handleKeysOfOneNode(spec, command)
            return
        }
        guard settle(), knowsSlots(), let (node, keys) = commonNode(spec, command) else { return }
        let bound = bind(to: node, keys: keys.map { Array($0) })
        forward(
            bound, spec, command, wait: WaitLimit(spec, argumentCount: arguments.count) { argument($0, of: command) })
        halt()
    }

    /// `XREAD` and `XREADGROUP` wait only when they say so.
    private func mayWait(_ spec: CommandSpec, _ command: UnsafeRawBufferPointer) -> Bool {
        guard spec.name == "xread" || spec.name == "xreadgroup" else { return true }
        for index in 1..<arguments.count {
            let word = argument(index, of: command)
            if CommandTable.equalsIgnoringCase(word, "BLOCK") { return true }
            if CommandTable.equalsIgnoringCase(word, "STREAMS") { return false }
        }
        return true
    }

    // MARK: The agent's own

    func handleUnknown(_ command: UnsafeRawBufferPointer) {
        let name = argument(0, of: command)
        guard isForAgentOrNobody(command) else {
            if isTransparent {
                // A newer server or one with modules may know it. It may wait, and what it changes is not known.
                bindAndHandle(nil, command)
            } else {
                let rest = (1..<arguments.count).prefix(ProxyReply.argumentTextMax).map { argument($0, of: command) }
                answer(ProxyReply.unknownCommand(name, rest))
            }
            return
        }
        if isFromBrowser(name) {
            loop.statistics.protocolErrors += 1
            close()
            return
        }
        let upper = String(decoding: name, as: UTF8.self).uppercased()
        if upper == "HK.RECORD" { handleRecord(command) } else { forwardToAgent(upper, command) }
    }

    /// Whether a command that is not in the table is one of the agent's own, or is not to reach anybody.
    func isForAgentOrNobody(_ command: UnsafeRawBufferPointer) -> Bool {
        let name = argument(0, of: command)
        if isFromBrowser(name) { return true }
        return name.count > 3 && CommandTable.equalsIgnoringCase(UnsafeRawBufferPointer(rebasing: name[..<3]), "HK.")
    }

    /// As Redis: a browser that a web page makes send HTTP to this port must not have the rest of it carried out.
    func isFromBrowser(_ name: UnsafeRawBufferPointer) -> Bool {
        CommandTable.equalsIgnoringCase(name, "POST") || CommandTable.equalsIgnoringCase(name, "HOST:")
    }

    private func forwardToAgent(_ name: String, _ command: UnsafeRawBufferPointer) {
        let words = [Array(name.utf8)] + (1..<arguments.count).map { Array(argument($0, of: command)) }
        let slot = reserveReply()
        // The client may say HELLO before the reply is there.
        let version = version
        loop.agentCommands.reply(to: words, on: loop.eventLoop)
            .assumeIsolated()
            .whenComplete { [self] result in
                switch result {
                case .success(let value): complete(slot, ProxyReply.value(value, version))
                case .failure(let error): complete(slot, ProxyReply.error("ERR \(error)"))
                }
            }
    }

    /// `HK.RECORD key [reads [writes]]`: accesses that did not come through this agent.
    private func handleRecord(_ command: UnsafeRawBufferPointer) {
        guard (2...4).contains(arguments.count) else {
            answer(error: ProxyReply.wrongArgumentCount("hk.record"))
            return
        }
        var counts: [UInt32] = [1, 0]
        for index in 2..<max(2, arguments.count) {
            let text = String(decoding: argument(index, of: command), as: UTF8.self)
            guard let count = UInt32(text) else {
                answer(error: "ERR HK.RECORD: reads and writes are whole numbers from 0 to \(UInt32.max)")
                return
            }
            counts[index - 2] = count
        }
        let key = argument(1, of: command)
        if loop.isCounting {
            let hash = FastHash.hash(key, seed: loop.configuration.hashSeed)
            _ = loop.recorder?.record(key: key, hash: hash, reads: counts[0], writes: counts[1])
        }
        answer(ProxyReply.ok)
    }
}
