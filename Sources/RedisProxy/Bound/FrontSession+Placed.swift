import NIOCore
import RESP

/// A transaction before several nodes that has named no key yet, so that no node is meant yet.
struct OpenTransaction: Hashable {
    /// A command was refused: `EXEC` will carry out nothing.
    var isSpoiled = false
}

/// Transactions and watched keys before several nodes. The first key says which node they are for; a key of another node is refused
/// with both keys and both nodes named.
extension FrontSession {
    func handleWithoutTransaction(_ spec: CommandSpec) {
        if spec.name == "unwatch" {
            answer(ProxyReply.ok)
        } else {
            answer(error: "ERR \(spec.name.uppercased()) without MULTI")
        }
    }

    func handleWatch(_ spec: CommandSpec, _ command: UnsafeRawBufferPointer) {
        guard settle(), knowsSlots(), let (node, keys) = commonNode(spec, command) else { return }
        forward(place(on: node, keys[0]), spec, command)
    }

    /// A command between `MULTI` and the first key.
    func handleOpened(_ opened: OpenTransaction, _ command: UnsafeRawBufferPointer) {
        let table = CommandTable.redis70
        guard let first = table.find(argument(0, of: command)) else {
            handleUnknown(command)
            self.opened?.isSpoiled = true
            return
        }
        let sub =
            first.hasSubcommands && arguments.count > 1 ? table.find(first, subcommand: argument(1, of: command)) : nil
        let spec = sub ?? first
        guard spec.accepts(argumentCount: arguments.count) else {
            self.opened = spec.name == "exec" ? nil : OpenTransaction(isSpoiled: true)
            answer(error: ProxyReply.wrongArgumentCount(spec.name))
            return
        }
        guard !isDenied(first, spec) else {
            deny(spec)
            self.opened?.isSpoiled = true
            return
        }
        switch spec.name {
        case "multi": answer(error: "ERR MULTI calls can not be nested")
        case "watch": answer(error: "ERR WATCH inside MULTI is not allowed")
        case "discard":
            self.opened = nil
            answer(ProxyReply.ok)
        case "exec":
            self.opened = nil
            if opened.isSpoiled { answer(error: ProxyReply.abortedTransaction) } else { answer(RESPValue.array([])) }
        case "quit":
            answer(ProxyReply.ok)
            end()
        case "reset":
            self.opened = nil
            handleReset()
        default:
            guard settle() else { return }
            guard let (node, keys) = placedNode(spec, command) else {
                self.opened?.isSpoiled = true
                return
            }
            self.opened = nil
            let bound = place(on: node, keys[0])
            bound.beginTransaction(isSpoiled: opened.isSpoiled)
            forward(bound, spec, command)
        }
    }

    /// Whether a client's own connection is the right one for this command; if not, it has been answered.
    func staysOnItsNode(_ bound: BoundConnection, _ spec: CommandSpec, _ command: UnsafeRawBufferPointer) -> Bool {
        guard let anchor = bound.anchor, spec.accepts(argumentCount: arguments.count),
            !Self.needsNoKey.contains(spec.name), access == nil || spec.name != "auth"
        else { return true }
        // The node refuses it, whatever the keys; one of a Redis Cluster looks at the keys first.
        if spec.name == "watch", bound.expectsTransaction {
            guard loop.cluster != nil else { return true }
            answer(error: "ERR WATCH inside MULTI is not allowed")
            return false
        }
        guard let (node, keys) = placedNode(spec, command) else {
            bound.spoilTransaction()
            return false
        }
        if loop.cluster != nil {
            let stays = anchor.withUnsafeBytes { areInOneSlot(spec, [$0, keys[0]]) }
            if !stays { bound.spoilTransaction() }
            return stays
        }
        // Not the node that it is tied to: a topology may have moved the keys of a transaction that is finished where it began.
        let home = loop.home(anchor)
        guard node !== home else { return true }
        let text = anchor.withUnsafeBytes {
            ProxyReply.differentNodes(spec.name, $0, on: home.node.name, keys[0], on: node.node.name)
        }
        answer(error: text)
        bound.spoilTransaction()
        return false
    }

    private static let needsNoKey: Set = [
        "multi", "exec", "discard", "unwatch", "ping", "echo", "quit", "reset", "hello", "client|setname",
        "client|getname",
        "time",
    ]

    /// The node of the command's keys. `nil` when it has been answered with an error.
    private func placedNode(
        _ spec: CommandSpec, _ command: UnsafeRawBufferPointer
    ) -> (NodeState, [UnsafeRawBufferPointer])? {
        if case .refused(let reason) = CommandRoute.byIndex[spec.index] {
            answer(error: ProxyReply.unsupported(spec.name, reason))
            return nil
        }
        if spec.name == "publish" {
            let channel = argument(1, of: command)
            return (loop.home(channel), [channel])
        }
        guard !spec.keySpecifications.isEmpty else {
            answer(
                error: ProxyReply.unsupported(
                    spec.name, "it names no key, so no cache node is meant for it in a transaction"))
            return nil
        }
        return knowsSlots() ? commonNode(spec, command) : nil
    }

    private func place(on node: NodeState, _ key: UnsafeRawBufferPointer) -> BoundConnection {
        let bound = bind(to: node, keys: [Array(key)])
        bound.anchor = Array(key)
        return bound
    }
}
