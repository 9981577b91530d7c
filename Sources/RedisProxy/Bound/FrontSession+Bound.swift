import HotKeyMitigation
import NIOCore
import RESP

/// What is done with a command of a client that has a connection of its own. By the name alone; everything not told apart here
/// goes to the node as it is, so that the node answers as it would directly.
enum BoundRoute {
    case plain
    /// May wait for something to happen.
    case waiting
    case subscription, hello, auth, reset, monitor, quit, replies, named
    case refused(String)

    /// By ``CommandSpec/index``.
    static let byIndex: [BoundRoute] = CommandTable.redis70.commands.map { spec in
        switch spec.name {
        case "hello": .hello
        case "auth": .auth
        case "reset": .reset
        case "monitor": .monitor
        case "quit": .quit
        case "client|reply": .replies
        case "client|setname": .named
        case _ where CommandRoute.neverPassed[spec.name] != nil: .refused(CommandRoute.neverPassed[spec.name]!)
        case _ where spec.isSubscription: .subscription
        case _ where spec.flags.contains(.blocking) || spec.name == "wait": .waiting
        default: .plain
        }
    }

    /// They change more than they name.
    static let writesEverything = Set(
        CommandTable.redis70.commands.filter { ["flushall", "flushdb", "swapdb", "debug"].contains($0.name) }.map(
            \.index))
    /// Redis takes these while a script holds it up, and they may take long.
    static let isPatient = Set(
        CommandTable.redis70.commands.filter {
            $0.flags.contains(.admin)
                || ["script|kill", "function|kill", "shutdown", "migrate", "flushall", "flushdb"].contains($0.name)
        }.map(\.index))
}

extension FrontSession {
    /// Whether this client is to see the one node there is as if it were connected to it.
    var isTransparent: Bool { role == .app && loop.hasOneNode }

    /// Gives the client a connection of its own, and the command in hand to it. Puts the command off when older ones are
    /// unanswered.
    func bindAndHandle(_ spec: CommandSpec?, _ command: UnsafeRawBufferPointer) {
        guard settle() else { return }
        let node = loop.nodes[0]
        let isPatient = spec.map { BoundRoute.isPatient.contains($0.index) } ?? false
        if !isPatient, let rejection = node.rejection() {
            answer(error: rejection.text(node.node))
            return
        }
        handleBound(bind(to: node, keys: nil), command)
    }

    /// - Parameter keys: what a blocking command or a transaction is for, where keys live on several nodes.
    func bind(to node: NodeState, keys: [[UInt8]]?) -> BoundConnection {
        let connection = node.takeBound(version, for: keys)
        let new = BoundConnection(session: self, node: node, connection: connection)
        bound = new
        if connection.clientName != name {
            var setName = ByteBuffer()
            RESPWriter.writeCommand([Array("CLIENT".utf8), Array("SETNAME".utf8), name], to: &setName)
            setName.withUnsafeReadableBytes { new.sendAside($0) }
            connection.clientName = name
        }
        return new
    }

    func handleBound(_ bound: BoundConnection, _ command: UnsafeRawBufferPointer) {
        // Before several nodes a transaction ties its client to one node. Once it has ended, what follows may mean another node: it
        // waits until the client is free again.
        if bound.anchor != nil, !bound.expectsTransaction, !bound.expectsWatch {
            guard settle() else { return }
            if bound.mayLeave {
                bound.release()
                // It has been counted.
                loop.statistics.requests &-= 1
                return handle(command)
            }
        }
        let table = CommandTable.redis70
        guard let first = table.find(argument(0, of: command)) else {
            if isForAgentOrNobody(command), !bound.expectsTransaction {
                handleUnknown(command)
            } else if bound.anchor != nil {
                handleUnknown(command)
                bound.spoilTransaction()
            } else {
                forward(bound, nil, command)
            }
            return
        }
        var spec = first
        if first.hasSubcommands, arguments.count > 1, let sub = table.find(first, subcommand: argument(1, of: command))
        {
            spec = sub
        }
        guard !isListening || version == .resp3 || worksWhileSubscribed(spec) else {
            answer(error: ProxyReply.notWhileSubscribed(spec.name))
            return
        }
        guard !isDenied(first, spec) else {
            deny(spec, bound)
            return
        }
        guard staysOnItsNode(bound, spec, command) else { return }
        let isComplete = spec.accepts(argumentCount: arguments.count)
        switch BoundRoute.byIndex[spec.index] {
        case .plain: forward(bound, spec, command)
        case .waiting:
            let wait =
                bound.expectsTransaction || !isComplete
                ? .none : WaitLimit(spec, argumentCount: arguments.count) { argument($0, of: command) }
            forward(bound, spec, command, wait: wait)
        case .refused(let reason): refuse(bound, spec, reason)
        // A node that asks for a password takes the connection for an unknown client's from RESET on, and closes an unknown client's
        // when more than 1 KiB waits for it: a large reply must be here before, or it would be lost with the connection.
        case .reset where bound.connection.login != nil && !settle(): return
        case .reset, .monitor:
            forward(bound, spec, command)
            halt()
        case .quit:
            if !bound.isSilent { answer(ProxyReply.ok) }
            end()
        case .auth where access == nil: forward(bound, spec, command)
        case .subscription, .hello, .auth, .replies, .named:
            let switchesOff = ["OFF", "SKIP"].contains { hasOption($0, command) }
            if spec.name == "client|reply", bound.expectsTransaction, !switchesOff {
                return forward(bound, spec, command)
            }
            guard isComplete else { return forward(bound, spec, command) }
            handleBoundSpecial(bound, spec, command)
        }
    }

    private func handleBoundSpecial(_ bound: BoundConnection, _ spec: CommandSpec, _ command: UnsafeRawBufferPointer) {
        guard settle() else { return }
        switch BoundRoute.byIndex[spec.index] {
        case .named:
            forward(bound, spec, command, hello: (nil, Array(argument(2, of: command))))
        case _ where bound.state.reasons.contains(.transaction):
            refuse(
                bound, spec, "inside a transaction its replies cannot be told apart; send it before MULTI or after EXEC"
            )
        case .subscription:
            handleBoundSubscription(bound, spec, command)
        case .auth:
            handleOwnAuth(command)
        case .hello:
            if access != nil, handleHelloOfOwnUser(command) { break }
            forward(bound, spec, command, hello: helloAsked(command))
        default:
            let word = argument(2, of: command)
            if CommandTable.equalsIgnoringCase(word, "OFF") {
                bound.switchReplies(off: true)
                bound.sendSilently(command, .none, WrittenKeys())
            } else if CommandTable.equalsIgnoringCase(word, "SKIP") {
                _ = bound.takeSilence()
                bound.skipNextReply()
                bound.sendSilently(command, .none, WrittenKeys())
            } else {
                if CommandTable.equalsIgnoringCase(word, "ON") { bound.switchReplies(off: false) }
                forward(bound, spec, command, isRemembered: false)
            }
        }
        halt()
    }

    /// Version and name that hold after a `HELLO`, where it gives them.
    private func helloAsked(_ command: UnsafeRawBufferPointer) -> (version: ProtocolVersion?, name: [UInt8]?) {
        guard arguments.count > 1 else { return (nil, nil) }
        let version = UInt8(String(decoding: argument(1, of: command), as: UTF8.self)).flatMap(
            ProtocolVersion.init(rawValue:))
        var name: [UInt8]?
        var index = 2
        while index < arguments.count {
            let option = argument(index, of: command)
            if CommandTable.equalsIgnoringCase(option, "AUTH") {
                index += 3
            } else {
                if CommandTable.equalsIgnoringCase(option, "SETNAME"), index + 1 < arguments.count {
                    name = Array(argument(index + 1, of: command))
                }
                index += 2
            }
        }
        return (version, name)
    }

    /// Sends a command over the client's own connection.
    func forward(
        _ bound: BoundConnection, _ spec: CommandSpec?, _ command: UnsafeRawBufferPointer, wait: WaitLimit = .none,
        isRemembered: Bool = true, subscription: (kind: SubscriptionCounts.Kind, names: Int)? = nil,
        hello: (version: ProtocolVersion?, name: [UInt8]?)? = nil
    ) {
        var change = CarriedState.Change(spec, argumentCount: arguments.count) { argument($0, of: command) }
        if !isRemembered { change = .none }
        if hello != nil, spec?.name == "hello" { change = hasOption("AUTH", command) ? .user : .unclear }
        let written = count(spec, bound.expectedDatabase == 0, command)
        let isSilent = bound.takeSilence()
        if isSilent, subscription == nil, change != .reset {
            bound.sendSilently(command, change, written)
            return
        }
        // A client that will send no more may have gone: nothing must be taken from a list for it.
        if wait != .none, hasClosedItsSide {
            close()
            return
        }
        // `WAIT` asks for the writes of its own connection; those before went over a shared one. Any command makes the
        // connection's place in the replication stream the present one, which is behind them.
        if spec?.name == "wait", !bound.expectsTransaction { waitsFrom.withUnsafeReadableBytes { bound.sendAside($0) } }
        let isPatient = spec.map { BoundRoute.isPatient.contains($0.index) } ?? true
        let request = BoundRequest(
            bound: bound, slot: reserveReply(), change: change, wait: isPatient ? .unbounded : wait,
            isBlocking: wait != .none,
            written: written,
            subscription: subscription, hello: hello, endsServer: spec?.name == "shutdown")
        if loop.cluster != nil { request.keepForResend(command) }
        bound.send(command, request)
        if request.wait != .none { halt() }
    }

    private func hasOption(_ word: String, _ command: UnsafeRawBufferPointer) -> Bool {
        (2..<max(2, arguments.count)).contains { CommandTable.equalsIgnoringCase(argument($0, of: command), word) }
    }

    /// Counts a command's keys, and tells which of them it may change.
    private func count(
        _ spec: CommandSpec?, _ isCounted: Bool, _ command: UnsafeRawBufferPointer
    ) -> WrittenKeys {
        guard let spec, !BoundRoute.writesEverything.contains(spec.index) else { return .everything }
        guard !spec.keySpecifications.isEmpty, !spec.flags.contains(.pubsub),
            spec.accepts(argumentCount: arguments.count)
        else { return WrittenKeys() }
        var positions: [Int] = []
        let found = KeyPositions.append(of: spec, argumentCount: arguments.count, to: &positions) {
            argument($0, of: command)
        }
        var written = WrittenKeys()
        guard found else { return written }
        for position in positions {
            let key = argument(position, of: command)
            if isCounted { _ = count(key, FastHash.hash(key, seed: loop.configuration.hashSeed), spec) }
            if spec.mayWrite { written.insert(Array(key)) }
        }
        return written
    }

    private func refuse(_ bound: BoundConnection, _ spec: CommandSpec, _ reason: String) {
        answer(error: ProxyReply.unsupported(spec.name, reason))
        bound.spoilTransaction()
    }

    // MARK: Subscriptions

    /// The agent's own channel stands beside the node's.
    private func handleBoundSubscription(
        _ bound: BoundConnection, _ spec: CommandSpec, _ command: UnsafeRawBufferPointer
    ) {
        let kind = SubscriptionCounts.Kind(spec)
        let isLeaving = spec.name == "unsubscribe"
        var names = arguments.count - 1
        guard kind == .channel else {
            forward(bound, spec, command, subscription: (kind, names))
            return
        }
        var others = [Array(argument(0, of: command))]
        var namesOwn = false
        for index in 1..<max(1, arguments.count) {
            let name = argument(index, of: command)
            if isHotKeyChannel(name) { namesOwn = true } else { others.append(Array(name)) }
        }
        if namesOwn || isLeaving && names == 0 && !channels.isEmpty {
            changeOwnChannel(isLeaving: isLeaving)
            names = others.count - 1
            // Nothing is left for the node, or nothing of this client's is there.
            if namesOwn && names == 0 || !namesOwn && bound.counts.channels == 0 { return }
            var rest = ByteBuffer()
            RESPWriter.writeCommand(others, to: &rest)
            rest.withUnsafeReadableBytes { forward(bound, spec, $0, subscription: (kind, names)) }
        } else {
            forward(bound, spec, command, subscription: (kind, names))
        }
    }
}

private let waitsFrom = ByteBuffer(string: "*1\r\n$4\r\nPING\r\n")
