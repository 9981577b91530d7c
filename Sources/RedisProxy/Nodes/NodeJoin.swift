import HotKeyMitigation
import NIOCore
import RESP

/// Makes one reply of what all nodes answered to the same command. An error of any node is the reply: a part is never passed off as
/// the whole.
enum NodeJoin {
    enum Kind: Hashable {
        /// Numbers: all together, the smallest, the largest.
        case sum, least, most
        /// `KEYS`: the names that ``Listing`` takes.
        case keys
        /// Names that several nodes may have.
        case uniqueNames
        /// Names and numbers in turn: the numbers are added.
        case countsByName
        /// Ones and noughts: one where all nodes say one.
        case flags
        /// They all say the same; else it is an error.
        case same
        /// One that did it is enough.
        case any
        /// `FUNCTION LIST`: the libraries that every node has.
        case libraries
    }

    /// Which names of a node's keys are keys of the app.
    typealias Listing = (_ name: UnsafeRawBufferPointer, _ node: Int) -> Bool

    /// - Parameter replies: one of each node, in their order.
    static func join(
        _ kind: Kind, _ replies: [ByteBuffer], _ version: ProtocolVersion, isListed: Listing
    ) -> ByteBuffer {
        if kind == .any { return replies.first { !isError($0) } ?? replies[0] }
        if let error = replies.first(where: isError) { return error }
        switch kind {
        case .same, .any: return replies[0]
        case .sum, .least, .most:
            let numbers = replies.map { reply -> Int64 in
                reply.withUnsafeReadableBytes { ReplyElements.integer($0) } ?? 0
            }
            let total: Int64 =
                switch kind {
                case .sum: numbers.reduce(0, &+)
                case .least: numbers.min() ?? 0
                default: numbers.max() ?? 0
                }
            return ProxyReply.value(.integer(total), version)
        case .keys, .uniqueNames:
            var seen: Set<[UInt8]> = []
            return list(replies) { element, node in
                guard let name = ReplyElements.bulk(element) else { return false }
                return kind == .keys ? isListed(name, node) : seen.insert(Array(name)).inserted
            }
        case .flags, .countsByName: return byPosition(kind, replies, version)
        case .libraries:
            let names = replies.map(libraryNames)
            return list([replies[0]]) { element, _ in
                guard let name = libraryName(element) else { return false }
                return names.allSatisfy { $0.contains(name) }
            }
        }
    }

    static func isError(_ reply: ByteBuffer) -> Bool {
        let first = reply.readableBytesView.first
        return first == UInt8(ascii: "-") || first == UInt8(ascii: "!")
    }

    /// One array of those elements that are wanted.
    private static func list(
        _ replies: [ByteBuffer], where isWanted: (UnsafeRawBufferPointer, Int) -> Bool
    ) -> ByteBuffer {
        var body = ByteBuffer()
        var count = 0
        for (node, reply) in replies.enumerated() {
            reply.withUnsafeReadableBytes { bytes in
                for element in ReplyElements.split(bytes) ?? [] where isWanted(element, node) {
                    body.writeBytes(element)
                    count += 1
                }
            }
        }
        var whole = ByteBuffer()
        RESPWriter.writeHeader(UInt8(ascii: "*"), count, to: &whole)
        whole.writeImmutableBuffer(body)
        return whole
    }

    private static func byPosition(_ kind: Kind, _ replies: [ByteBuffer], _ version: ProtocolVersion) -> ByteBuffer {
        let all = replies.compactMap { reply -> [RESPValue]? in
            if case .array(let values)? = try? RESPValue(decoding: reply) { values } else { nil }
        }
        guard all.count == replies.count, Set(all.map(\.count)).count == 1 else { return replies[0] }
        let values = all[0].indices.map { position -> RESPValue in
            let numbers = all.compactMap { if case .integer(let number) = $0[position] { number } else { nil } }
            guard numbers.count == all.count else { return all[0][position] }
            return .integer(kind == .flags ? numbers.min()! : numbers.reduce(0, &+))
        }
        return ProxyReply.value(.array(values), version)
    }

    private static func libraryNames(_ reply: ByteBuffer) -> Set<[UInt8]> {
        reply.withUnsafeReadableBytes { Set((ReplyElements.split($0) ?? []).compactMap(libraryName)) }
    }

    /// A library is a map (in RESP2 an array of names and values in turn), one of whose names is `library_name`.
    private static func libraryName(_ library: UnsafeRawBufferPointer) -> [UInt8]? {
        switch try? RESPValue(decoding: Array(library)) {
        case .map(let pairs):
            if case .bulk(let name)? = pairs.first(where: { $0.key.string == "library_name" })?.value { return name }
        case .array(let values):
            if let at = values.firstIndex(where: { $0.string == "library_name" }), at + 1 < values.count,
                case .bulk(let name) = values[at + 1]
            {
                return name
            }
        default: break
        }
        return nil
    }
}
