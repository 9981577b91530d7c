import NIOCore
import RESP

/// The replies the proxy gives itself. Texts that Redis has are Redis's; the others say what happened, what it means and
/// what to do.
enum ProxyReply {
    static let ok = ByteBuffer(string: "+OK\r\n")
    static let pong = ByteBuffer(string: "+PONG\r\n")
    static let reset = ByteBuffer(string: "+RESET\r\n")
    /// Redis shows at most so many characters of an unknown command's name, and of all its arguments together.
    static let argumentTextMax = 128

    static func error(_ text: String) -> ByteBuffer {
        var buffer = ByteBuffer()
        RESPWriter.writeError(text, to: &buffer)
        return buffer
    }

    static func value(_ value: RESPValue, _ version: ProtocolVersion) -> ByteBuffer {
        var buffer = ByteBuffer()
        value.write(to: &buffer, version: version)
        return buffer
    }

    static func nothing(_ version: ProtocolVersion) -> ByteBuffer { value(.null, version) }

    /// The bytes as they came, which need not be UTF-8; up to the first NUL, as Redis shows them.
    static func unknownCommand(_ name: UnsafeRawBufferPointer, _ arguments: [UnsafeRawBufferPointer]) -> ByteBuffer {
        var shown: [UInt8] = []
        for argument in arguments where shown.count < argumentTextMax {
            shown += quoted(argument, max: argumentTextMax - shown.count) + [UInt8(ascii: " ")]
        }
        return error(
            Array("ERR unknown command ".utf8) + quoted(name) + Array(", with args beginning with: ".utf8) + shown)
    }

    static func unknownSubcommand(_ name: UnsafeRawBufferPointer, of container: String) -> ByteBuffer {
        error(
            Array("ERR unknown subcommand ".utf8) + quoted(name) + Array(". Try \(container.uppercased()) HELP.".utf8))
    }

    private static func quoted(_ bytes: UnsafeRawBufferPointer, max: Int = argumentTextMax) -> [UInt8] {
        [UInt8(ascii: "'")] + bytes.prefix { $0 != 0 }.prefix(max) + [UInt8(ascii: "'")]
    }

    private static func error(_ text: [UInt8]) -> ByteBuffer {
        let line = text.map { $0 == UInt8(ascii: "\r") || $0 == UInt8(ascii: "\n") ? UInt8(ascii: " ") : $0 }
        return ByteBuffer(bytes: [UInt8(ascii: "-")] + line + [13, 10])
    }

    static func wrongArgumentCount(_ name: String) -> String {
        rejection(of: name) + "wrong number of arguments for '\(name)' command"
    }

    /// Redis calls every rejected `EXEC` the end of a transaction.
    private static func rejection(of name: String) -> String {
        name == "exec" ? "EXECABORT Transaction discarded because of: " : "ERR "
    }

    static let abortedTransaction = "EXECABORT Transaction discarded because of previous errors."

    static func notWhileSubscribed(_ name: String) -> String {
        rejection(of: name)
            + "Can't execute '\(name)': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
    }

    static func unsupported(_ name: String, _ reason: String) -> String {
        "ERR '\(name)' does not work through hkagent: \(reason)"
    }

    static func differentNodes(
        _ name: String, _ first: UnsafeRawBufferPointer, on firstNode: String, _ second: UnsafeRawBufferPointer,
        on secondNode: String
    ) -> String {
        let firstKey = text(first, max: RedisProxyLimits.keyTextMax)
        let secondKey = text(second, max: RedisProxyLimits.keyTextMax)
        return
            "ERR '\(name)' needs all keys on one node, but '\(firstKey)' is on node \(firstNode) and '\(secondKey)' on "
            + "node \(secondNode); give keys that belong together a common hash tag"
    }

    static func differentNodes(_ name: String, _ first: [UInt8], _ second: [UInt8], _ loop: ProxyLoop) -> String {
        let nodes = (loop.home(first).node.name, loop.home(second).node.name)
        return first.withUnsafeBytes { first in
            second.withUnsafeBytes { differentNodes(name, first, on: nodes.0, $0, on: nodes.1) }
        }
    }

    static func tooLargeOverNodes(_ name: String, _ bytesMax: Int) -> String {
        "ERR '\(name)' found more than \(bytesMax) bytes on the cache nodes together; ask for less, or use SCAN"
    }

    /// Nothing was done, so whoever sends it again is not wrong.
    static let uploadRedirected =
        "TRYAGAIN the slot of this key is moving to another node of the Redis Cluster; nothing was stored, send the command again"

    /// Before a Redis Cluster.
    static func differentSlots(
        _ name: String, _ first: UnsafeRawBufferPointer, in firstSlot: Int, _ second: UnsafeRawBufferPointer,
        in secondSlot: Int
    ) -> String {
        let firstKey = text(first, max: RedisProxyLimits.keyTextMax)
        let secondKey = text(second, max: RedisProxyLimits.keyTextMax)
        return
            "ERR '\(name)' needs all keys in one slot of the Redis Cluster, but '\(firstKey)' is in slot \(firstSlot) and "
            + "'\(secondKey)' in slot \(secondSlot); give keys that belong together a common hash tag"
    }

    /// The node is known to be down; nothing was sent.
    static func nodeDown(_ node: ProxyNode, retryInMilliseconds: Int64) -> String {
        "ERR cache node \(node.name) (\(node.address)) is down, nothing was sent; next try in \(retryInMilliseconds) ms"
    }

    /// - Parameter reason: as ``UpstreamFailure/notAdmitted(_:)`` gives it.
    static func nodeRefused(_ node: ProxyNode, _ reason: String) -> String {
        "ERR cache node \(node.name) (\(node.address)) cannot be used by the agent, nothing was sent: \(reason)"
    }

    /// The connection broke or could not be made while the command was under way.
    static func nodeFailed(_ node: ProxyNode, _ what: String) -> String {
        "ERR cache node \(node.name) (\(node.address)) \(what); the command may or may not have been carried out"
    }

    /// The word is Redis's own for a blocked client that has to ask again.
    static func keysMoved(_ node: ProxyNode) -> String {
        "UNBLOCKED the topology changed while this command waited on cache node \(node.name) (\(node.address)), where its keys are "
            + "no more; the command may or may not have been carried out"
    }

    static func nodeBusy(_ node: ProxyNode) -> String {
        "ERR cache node \(node.name) (\(node.address)) has too many commands waiting, nothing was sent; try again later"
    }

    static func text(_ bytes: UnsafeRawBufferPointer, max: Int) -> String {
        String(decoding: bytes.prefix(max), as: UTF8.self)
    }
}
