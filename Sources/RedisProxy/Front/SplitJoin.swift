import HotKeyMitigation
import NIOCore
import RESP

/// A command over several keys whose keys live on several nodes: one command goes to each node, and the replies are joined to
/// the one that a single server would give.
///
/// What is lost is atomicity: another client can see `MSET` done on one node and not yet on the next. When one node fails, the
/// reply is that node's error although others may have done their part.
final class SplitJoin {
    enum Kind {
        /// `MGET`: the values in the order of the keys.
        case values
        /// `MSET`: OK.
        case allOK
        /// `DEL` and its kin: the sum of the counts.
        case sum
    }

    private let kind: Kind
    let session: FrontSession
    private let slot: UInt32
    var client: UInt64 { session.id }
    /// What the client spoke when it asked.
    private let version: ProtocolVersion
    /// Which keys, by position in the command, each part answers for.
    private var parts: [(positions: [Int], isSingleValue: Bool)] = []
    private var values: [ByteBuffer?]
    private var sum: Int64 = 0
    private var error: ByteBuffer?
    private var left = 0

    init(kind: Kind, keyCount: Int, session: FrontSession, slot: UInt32) {
        self.kind = kind
        self.session = session
        self.slot = slot
        self.version = session.version
        self.values = kind == .values ? Array(repeating: nil, count: keyCount) : []
    }

    /// Announces a part; all are announced before the first is sent.
    /// - Parameter isSingleValue: the part is a `GET` whose reply is the value itself, not an array of one.
    func addPart(positions: [Int], isSingleValue: Bool = false) -> ReplySink {
        parts.append((positions, isSingleValue))
        left += 1
        return .part(self, parts.count - 1)
    }

    func complete(_ part: Int, _ reply: UnsafeRawBufferPointer) {
        if !take(parts[part], reply), error == nil { error = ByteBuffer(bytes: reply) }
        left -= 1
        if left == 0 { session.complete(slot, error ?? joined()) }
    }

    /// False when the reply is not what the command asked for: it is the answer then.
    private func take(_ part: (positions: [Int], isSingleValue: Bool), _ reply: UnsafeRawBufferPointer) -> Bool {
        switch kind {
        case .allOK:
            return reply[0] == UInt8(ascii: "+")
        case .sum:
            guard case .integer(let count)? = try? RESPValue(decoding: Array(reply)) else { return false }
            // A node that is not what it should be may send any number: it must not end the agent.
            let (total, overflows) = sum.addingReportingOverflow(count)
            if !overflows { sum = total }
            return !overflows
        case .values:
            if part.isSingleValue {
                // MGET says nil where GET says WRONGTYPE.
                let isWrongType = reply.starts(with: "-WRONGTYPE".utf8)
                guard isWrongType || reply[0] != UInt8(ascii: "-") else { return false }
                values[part.positions[0]] = isWrongType ? ProxyReply.nothing(version) : ByteBuffer(bytes: reply)
                return true
            }
            return takeArray(part.positions, reply)
        }
    }

    private func takeArray(_ positions: [Int], _ reply: UnsafeRawBufferPointer) -> Bool {
        guard reply[0] == UInt8(ascii: "*"), let headerEnd = reply.firstIndex(of: UInt8(ascii: "\n")) else {
            return false
        }
        var start = headerEnd + 1
        for position in positions {
            var scanner = ReplyScanner()
            let rest = UnsafeRawBufferPointer(rebasing: reply[start...])
            guard let length = try? scanner.scan(rest) else { return false }
            values[position] = ByteBuffer(bytes: rest[0..<length])
            start += length
        }
        return true
    }

    private func joined() -> ByteBuffer {
        switch kind {
        case .allOK: return ProxyReply.ok
        case .sum: return ProxyReply.value(.integer(sum), version)
        case .values:
            var reply = ByteBuffer()
            RESPWriter.writeHeader(UInt8(ascii: "*"), values.count, to: &reply)
            for value in values {
                if let value { reply.writeImmutableBuffer(value) }
            }
            return reply
        }
    }
}

extension FrontSession {
    func handleSplit(_ kind: SplitJoin.Kind, _ spec: CommandSpec, _ command: UnsafeRawBufferPointer) {
        let step = kind == .allOK ? 2 : 1
        guard (arguments.count - 1) % step == 0 else {
            answer(error: ProxyReply.wrongArgumentCount(spec.name))
            return
        }
        let keyCount = (arguments.count - 1) / step
        let keys = (0..<keyCount).map { argument(1 + $0 * step, of: command) }
        if keyCount == 1 {
            handleUnsplit(spec, keys[0], command)
            return
        }
        if spec.mayWrite, readsAstray > 0, isOvertaking(keys) { return }
        var positionsByPlace: [UInt: (node: NodeState, positions: [Int], isFenced: Bool)] = [:]
        var hot: [(position: Int, index: Int)] = []
        for (position, key) in keys.enumerated() {
            let hash = FastHash.hash(key, seed: loop.configuration.hashSeed)
            _ = count(key, hash, spec)
            if kind == .values, loop.table.count > 0, let index = loop.table.index(of: key, hash: hash),
                mayReadLocally(spec)
            {
                hot.append((position, index))
                continue
            }
            let node = loop.home(key)
            // A node of a Redis Cluster refuses keys of two slots even when both are its own.
            let place = loop.cluster == nil ? UInt(bitPattern: ObjectIdentifier(node)) : UInt(ClusterSlot.of(key))
            positionsByPlace[place, default: (node, [], false)].positions.append(position)
            if spec.mayWrite, loop.isFenced(key, hash) { positionsByPlace[place]!.isFenced = true }
        }
        let groups = Array(positionsByPlace.values)
        if hot.isEmpty, groups.count == 1, !groups[0].isFenced {
            let slot = reserveReply()
            if let failure = groups[0].node.forward(command, to: self, slot, counter: 0) {
                complete(slot, ProxyReply.error(failure.text(groups[0].node.node)))
            }
            return
        }
        let join = SplitJoin(kind: kind, keyCount: keyCount, session: self, slot: reserveReply())
        let groupSinks = groups.map { join.addPart(positions: $0.positions) }
        let hotSinks = hot.map { join.addPart(positions: [$0.position], isSingleValue: true) }
        for (group, sink) in zip(groups, groupSinks) {
            send(spec, group.positions, step, of: command, to: group.node, isFenced: group.isFenced, sink)
        }
        for (read, sink) in zip(hot, hotSinks) {
            var get = ByteBuffer()
            RESPWriter.writeCommand([Array("GET".utf8), Array(keys[read.position])], to: &get)
            get.withUnsafeReadableBytes {
                loop.readHot(read.index, $0, isGet: true, version, counter: 0, sink: sink)
            }
        }
    }

    private func handleUnsplit(_ spec: CommandSpec, _ key: UnsafeRawBufferPointer, _ command: UnsafeRawBufferPointer) {
        let hash = FastHash.hash(key, seed: loop.configuration.hashSeed)
        if !spec.mayWrite, loop.table.count > 0, let index = loop.table.index(of: key, hash: hash), mayReadLocally(spec)
        {
            let counter = count(key, hash, spec)
            let slot = reserveReply()
            withNameInCapitals(command) {
                loop.readHot(index, $0, isGet: false, version, counter: counter, sink: .slot(self, slot))
            }
        } else {
            forwardCounted(spec, command, to: loop.home(key), keys: [key])
        }
    }

    private func send(
        _ spec: CommandSpec, _ positions: [Int], _ step: Int, of command: UnsafeRawBufferPointer, to node: NodeState,
        isFenced: Bool, _ sink: ReplySink
    ) {
        var words = [Array(spec.name.uppercased().utf8)]
        var keys: [[UInt8]] = []
        for position in positions {
            for offset in 0..<step { words.append(Array(argument(1 + position * step + offset, of: command))) }
            if isFenced { keys.append(Array(argument(1 + position * step, of: command))) }
        }
        var part = ByteBuffer()
        RESPWriter.writeCommand(words, to: &part)
        part.withUnsafeReadableBytes { bytes in
            if isFenced {
                HotWrite(session: self, keys: keys, sink: sink).send(bytes, to: node, version, counter: 0)
            } else if let failure = node.send(bytes, .request(ForwardedRequest(sink)), version, client: id) {
                sink.fail(failure.text(node.node))
            }
        }
    }
}
