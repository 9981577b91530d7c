import Foundation
import HotKeyMitigation
import HotKeyTestSupport
import RESP
import RedisProxy
import Testing

/// Sends the same random commands to one plain server and to an agent before a Redis Cluster, and compares what comes back.
///
/// The agent is asked first. What it refuses must be what `docs/redis-commands.md` says it refuses; the server does not get that
/// command, so that both sides hold the same data, and inside a transaction it gets a mistake in its place, so that both are
/// aborted. Keys of a command share a hash tag more often than not: what is served and what is refused both come up.
struct ClusterDifferential {
    struct Difference: Error, CustomStringConvertible {
        let description: String
    }

    private final class Client {
        let number: Int
        let direct: RawReplies
        let proxied: RawReplies
        var isInTransaction = false
        var queued: [[[UInt8]]] = []
        /// The tag of its transaction's keys, most of the time.
        var tag = "{a}"
        /// Slots of the keys that it watches or has queued, of which there may be one.
        var slots: Set<Int> = []

        init(_ number: Int, direct: Int, proxied: Int) throws {
            self.number = number
            self.direct = try RawReplies(port: direct)
            self.proxied = try RawReplies(port: proxied)
        }
    }

    private static let tags = ["{a}", "{b}", "{c}"]
    /// Commands without keys that concern the client alone. The rest of what has no key is compared elsewhere.
    private static let keyless: Set = ["multi", "exec", "discard", "unwatch", "ping", "echo"]
    private static let split: Set = ["mget", "mset", "del", "unlink", "exists", "touch"]
    private static let mistake = [Array("HK.MISTAKE".utf8)]

    let version: Int
    let isPipelined: Bool
    private var generator: CommandGenerator
    private var clients: [Client] = []
    private var history: [String] = []
    private(set) var commandsSent = 0
    private(set) var refused = 0
    private(set) var seen: Set<String> = []
    private let seed: UInt64

    init(random: SeededGenerator, version: Int, isPipelined: Bool, direct: Int, proxied: Int, clients count: Int) throws
    {
        self.version = version
        self.isPipelined = isPipelined
        seed = random.seed
        let helper = try RedisTestConnection(port: direct)
        var dumps: [[UInt8]] = []
        for words in [["SET", "s", "dumped"], ["RPUSH", "l", "a", "b"], ["ZADD", "z", "1", "a"]] {
            try helper.command(words)
            if let dump = try helper.command(["DUMP", words[1]]).bytes { dumps.append(dump) }
            try helper.command(["DEL", words[1]])
        }
        helper.close()
        generator = CommandGenerator(random: random, dumps: dumps, scriptSHA: String(repeating: "1", count: 40))
        for number in 0..<count {
            let client = try Client(number, direct: direct, proxied: proxied)
            for side in [client.direct, client.proxied] {
                try side.send(RedisTestConnection.encode(["HELLO", "\(version)"].map { Array($0.utf8) }))
                _ = try side.next()
            }
            clients.append(client)
        }
    }

    mutating func run(commands: Int) throws {
        while commandsSent < commands {
            let client = clients.randomElement(using: &generator.random)!
            let count = isPipelined ? Int.random(in: 1...12, using: &generator.random) : 1
            try exchange(client, (0..<count).map { _ in next(client) })
        }
        for client in clients {
            client.direct.close()
            client.proxied.close()
        }
    }

    // MARK: Commands

    private mutating func next(_ client: Client) -> [[UInt8]] {
        while true {
            var words = generator.next()
            guard let spec = Self.spec(words) else {
                // A subcommand that 7.0 does not have may be one that a newer client library sends.
                let isUnknown = words[0].withUnsafeBytes { CommandTable.redis70.find($0) } == nil
                let isText = words.allSatisfy { Array(String(decoding: $0, as: UTF8.self).utf8) == $0 }
                if isUnknown, isText, generator.chance(20) { return words }
                continue
            }
            let isKeyless = spec.keySpecifications.isEmpty && spec.name != "sort"
            guard isKeyless ? Self.keyless.contains(spec.name) : !spec.flags.contains(.pubsub) else { continue }
            // Queued, they would be refused only by EXEC, and the two sides would part.
            if spec.name == "move" || spec.name == "copy" && words.count > 4 { continue }
            let positions = Self.positions(spec, words) ?? []
            // One command in eight is left with keys that belong together by chance alone.
            let tag = generator.chance(90) ? client.tag : Self.tags.randomElement(using: &generator.random)!
            if spec.name == "multi" || spec.name == "watch", !client.isInTransaction {
                client.tag = Self.tags.randomElement(using: &generator.random)!
            }
            guard generator.chance(88) else { return words }
            for position in Set(positions) { words[position] += Array(tag.utf8) }
            return words
        }
    }

    private static func spec(_ words: [[UInt8]]) -> CommandSpec? {
        let table = CommandTable.redis70
        guard let first = words[0].withUnsafeBytes({ table.find($0) }) else { return nil }
        guard first.hasSubcommands, words.count > 1 else { return first }
        return words[1].withUnsafeBytes { table.find(first, subcommand: $0) }
    }

    /// nil where the command does not say which its keys are.
    private static func positions(_ spec: CommandSpec, _ words: [[UInt8]]) -> [Int]? {
        var positions: [Int] = []
        let bytes = words.flatMap { $0 }
        let starts = words.reduce(into: [0]) { $0.append($0.last! + $1.count) }
        let isFound = bytes.withUnsafeBytes { all in
            KeyPositions.append(of: spec, argumentCount: words.count, to: &positions) {
                UnsafeRawBufferPointer(rebasing: all[starts[$0]..<starts[$0 + 1]])
            }
        }
        return isFound ? positions : nil
    }

    // MARK: Comparing

    private mutating func exchange(_ client: Client, _ commands: [[[UInt8]]]) throws {
        for words in commands {
            history.append("\(client.number): " + words.map { shown(Array($0.prefix(60))) }.joined(separator: " "))
            seen.insert(ReplyNormalisation.name(of: words))
        }
        if history.count > 60 { history.removeFirst(history.count - 60) }
        commandsSent += commands.count
        let actual = try values(client, client.proxied, commands, "the agent")
        let forServer = try zip(commands, actual).map { words, reply in try passedOn(client, words, reply) }
        let expected = try values(client, client.direct, forServer.map { $0 ?? Self.mistake }, "the server itself")
        for ((words, sent), (expected, actual)) in zip(zip(commands, forServer), zip(expected, actual))
        where sent != nil {
            try compare(client, words, expected, actual)
        }
    }

    private func values(_ client: Client, _ from: RawReplies, _ commands: [[[UInt8]]], _ who: String) throws
        -> [[UInt8]]
    {
        do {
            try from.send(commands.flatMap { RedisTestConnection.encode($0) })
            return try from.next(count: commands.count, isSubscribed: false)
        } catch {
            throw difference("\(who) did not give \(commands.count) replies to client \(client.number): \(error)")
        }
    }

    /// What the server is sent; nil for what the agent has refused as it should.
    private mutating func passedOn(_ client: Client, _ words: [[UInt8]], _ reply: [UInt8]) throws -> [[UInt8]]? {
        let spec = Self.spec(words)
        let positions = spec.map { Self.positions($0, words) } ?? []
        let slots = Set((positions ?? []).map { words[$0].withUnsafeBytes { ClusterSlot.of($0) } })
        let name = spec?.name ?? ""
        let isError = reply.first == UInt8(ascii: "-")
        let text = isError ? shown(reply) : ""
        let isCarrying = client.isInTransaction || !client.slots.isEmpty
        let isRefused: Bool
        let isRight: Bool
        if text.contains("needs all keys in one slot of the Redis Cluster") {
            isRefused = true
            isRight = client.slots.union(slots).count > 1 && (isCarrying || !Self.split.contains(name))
        } else if text.contains("does not work through hkagent") {
            isRefused = true
            isRight = spec.map { positions != nil && slots.isEmpty && $0.accepts(argumentCount: words.count) } ?? true
        } else if text.lowercased().contains("in cluster mode") {
            isRefused = true
            isRight = ["sort", "sort_ro"].contains(name)
        } else if positions == nil, text.hasPrefix("-ERR syntax error") {
            isRefused = true
            isRight = true
        } else {
            isRefused = false
            isRight = true
        }
        guard isRight else {
            throw difference("client \(client.number), \(line(words)): refused without reason: \(text)")
        }
        if isRefused { refused += 1 }
        follow(client, name, words, reply, slots, isRefused)
        // In a transaction a mistake takes its place, so that EXEC is refused by both.
        return isRefused ? nil : words
    }

    /// Keeps in mind what the client carries.
    private func follow(
        _ client: Client, _ name: String, _ words: [[UInt8]], _ reply: [UInt8], _ slots: Set<Int>, _ isRefused: Bool
    ) {
        switch name {
        case "multi" where reply == Array("+OK\r\n".utf8): client.isInTransaction = true
        // An EXEC with too many words ends the transaction, too.
        case "exec" where client.isInTransaction, "discard" where client.isInTransaction && words.count == 1:
            client.isInTransaction = false
            client.slots = []
        case "unwatch" where !client.isInTransaction && words.count == 1: client.slots = []
        case "watch" where reply == Array("+OK\r\n".utf8): client.slots.formUnion(slots)
        default:
            // Whether it was queued or was a mistake, its keys have chosen the slot.
            if client.isInTransaction, !isRefused, reply == Array("+QUEUED\r\n".utf8) { client.slots.formUnion(slots) }
        }
    }

    private func compare(_ client: Client, _ words: [[UInt8]], _ expected: [UInt8], _ actual: [UInt8]) throws {
        let name = ReplyNormalisation.name(of: words)
        defer { if name == "exec" || name == "discard" && words.count == 1 { client.queued = [] } }
        if expected == Array("+QUEUED\r\n".utf8) { client.queued.append(words) }
        var parts = [(words, expected, actual)]
        if name == "exec", let left = elements(expected), let right = elements(actual), left.count == right.count,
            left.count == client.queued.count
        {
            parts = zip(client.queued, zip(left, right)).map { ($0, $1.0, $1.1) }
        }
        for (words, expected, actual) in parts where expected != actual {
            let (left, right) = (
                ReplyNormalisation.comparable(expected, to: words), ReplyNormalisation.comparable(actual, to: words)
            )
            // SORT with patterns, queued: the refusal comes with EXEC.
            if right.lowercased().contains("in cluster mode"), parts.count > 1 || name == "exec" { continue }
            if left != right {
                throw difference("client \(client.number), \(line(words)):\n  expected \(left)\n  proxied  \(right)")
            }
        }
    }

    private func elements(_ array: [UInt8]) -> [[UInt8]]? {
        guard array[0] == UInt8(ascii: "*"), let end = array.firstIndex(of: 10) else { return nil }
        var found: [[UInt8]] = []
        var start = end + 1
        while start < array.count {
            var scanner = ReplyScanner()
            let length = array.withUnsafeBytes { try? scanner.scan(UnsafeRawBufferPointer(rebasing: $0[start...])) }
            guard let length = length ?? nil else { return nil }
            found.append(Array(array[start..<start + length]))
            start += length
        }
        return found
    }

    private func line(_ words: [[UInt8]]) -> String { words.map { shown($0) }.joined(separator: " ") }
    private func shown(_ bytes: [UInt8]) -> String { ReplyNormalisation.shown(bytes) }

    private func difference(_ what: String) -> Difference {
        Difference(
            description: """
                RESP\(version)\(isPipelined ? ", pipelined" : ""), HOTKEY_TEST_SEED=\(seed), after \(commandsSent) commands: \(what)
                the last commands, with their client's number:
                \(history.suffix(40).joined(separator: "\n"))
                """)
    }
}

extension ProxyTests.Differential {
    @Test(arguments: [2, 3], [false, true])
    func aClusterAnswersAsOneServer(_ version: Int, _ isPipelined: Bool) async throws {
        let commands = ProcessInfo.processInfo.environment["HOTKEY_DIFFERENTIAL"].flatMap(Int.init) ?? 2000
        let cluster = try await SharedCluster.cluster()
        for node in cluster.nodes.prefix(3) {
            let client = try await node.client()
            try await client.command("FLUSHALL")
            await client.close()
        }
        let server = try await RedisServer.start()
        for each in cluster.nodes + [server] { try await Self.keepListpacks(each) }
        try await Rig.with(cluster: cluster) { rig in
            try await rig.knowsSlots()
            let keys = ["s0", "h1", "z2", "k"].flatMap { key in ["", "{a}", "{b}"].map { key + $0 } }
            try await rig.apply(.mitigate, keys.map { hot($0, .both) })
            let random = SeededGenerator(
                printing: "differential of a cluster RESP\(version)\(isPipelined ? " pipelined" : "")")
            let (direct, proxied) = (server.port, rig.port)
            let run = try await onThread {
                var run = try ClusterDifferential(
                    random: random, version: version, isPipelined: isPipelined, direct: direct, proxied: proxied,
                    clients: 4)
                try run.run(commands: commands)
                return run.summary
            }
            print(
                "differential of a cluster RESP\(version): \(run.seen) commands of the table were used, \(run.refused) of \(run.sent) refused"
            )
            // Far from that is a fault of the generator.
            #expect(run.seen > (commands >= 2000 ? 120 : 10))
            #expect(run.refused > run.sent / 50 && run.refused < run.sent / 2)
        }
        await server.stop()
    }
}

extension ClusterDifferential {
    var summary: (seen: Int, refused: Int, sent: Int) { (seen.count, refused, commandsSent) }
}
