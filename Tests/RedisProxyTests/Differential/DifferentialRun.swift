import Foundation
import HotKeyTestSupport
import RESP

/// Sends the same random commands to two servers, one of them behind the proxy, and compares what comes back.
///
/// Commands of one client go in batches, and a batch is answered before another client's turn comes: so both servers carry
/// out the same commands in the same order.
struct DifferentialRun {
    struct Difference: Error, CustomStringConvertible {
        let description: String
    }

    final class Client {
        let number: Int
        let direct: RawReplies
        let proxied: RawReplies
        var isInTransaction = false
        var queued: [[[UInt8]]] = []
        var channels: [String: Set<String>] = ["": [], "p": [], "s": []]
        var isSubscribed: Bool { channels.values.contains { !$0.isEmpty } }
        /// Before several nodes: what the agent makes of its commands, and messages that the other side has not shown yet.
        var placed = PlacedExpectations.Client()
        var directMessages: [[UInt8]] = []
        var proxiedMessages: [[UInt8]] = []

        init(_ number: Int, direct: Int, proxied: Int) throws {
            self.number = number
            self.direct = try RawReplies(port: direct)
            self.proxied = try RawReplies(port: proxied)
        }
    }

    let version: Int
    let isPipelined: Bool
    /// Where keys live behind the proxy, when on several nodes.
    let placed: PlacedExpectations?
    private var generator: CommandGenerator
    private var clients: [Client] = []
    private var history: [String] = []
    private(set) var commandsSent = 0
    private(set) var seen: Set<String> = []
    private let seed: UInt64

    init(
        random: SeededGenerator, version: Int, isPipelined: Bool, direct: Int, proxied: Int, clients count: Int,
        placed: PlacedExpectations? = nil
    ) throws {
        self.placed = placed
        self.version = version
        self.isPipelined = isPipelined
        seed = random.seed
        let helper = try RedisTestConnection(port: direct)
        var dumps: [[UInt8]] = []
        for words in [
            ["SET", "s", "dumped"], ["RPUSH", "l", "a", "b"], ["ZADD", "z", "1", "a"], ["SADD", "t", "1", "2"],
        ] {
            try helper.command(words)
            if let dump = try helper.command(["DUMP", words[1]]).bytes { dumps.append(dump) }
            try helper.command(["DEL", words[1]])
        }
        let sha = try helper.command(["SCRIPT", "LOAD", "return{ARGV[1]}"]).string ?? ""
        try helper.command(["SCRIPT", "FLUSH"])
        helper.close()
        generator = CommandGenerator(random: random, dumps: dumps, scriptSHA: sha)
        for number in 0..<count { clients.append(try Client(number, direct: direct, proxied: proxied)) }
        for client in clients { try hello(client) }
    }

    mutating func run(commands: Int) throws {
        while commandsSent < commands {
            let client = clients.randomElement(using: &generator.random)!
            if client.isSubscribed, !client.isInTransaction, generator.chance(25) {
                try subscription(client)
            } else if !client.isInTransaction, generator.chance(2) {
                switch Int.random(in: 0..<4, using: &generator.random) {
                case 0, 1: try subscription(client)
                case 2: try hello(client)
                default: try reset(client)
                }
            } else {
                let count = isPipelined ? Int.random(in: 1...12, using: &generator.random) : 1
                try exchange(client, (0..<count).map { _ in generator.next() })
            }
        }
        for client in clients {
            client.direct.close()
            client.proxied.close()
        }
    }

    // MARK: Steps

    private mutating func exchange(_ client: Client, _ commands: [[[UInt8]]], replies: Int? = nil) throws {
        note(client, commands)
        if let placed {
            try exchange(client, commands, replies: replies, placed)
        } else {
            try exchangeWithOneNode(client, commands, replies: replies)
        }
        if commands.contains(where: { isPublishing($0) }) {
            for other in clients where other.isSubscribed { try sync(other) }
        }
    }

    private mutating func note(_ client: Client, _ commands: [[[UInt8]]]) {
        for command in commands {
            history.append(
                "\(client.number): "
                    + command.map { ReplyNormalisation.shown(Array($0.prefix(60))) }.joined(separator: " "))
            seen.insert(ReplyNormalisation.name(of: command))
        }
        if history.count > 60 { history.removeFirst(history.count - 60) }
        commandsSent += commands.count
    }

    private func exchangeWithOneNode(_ client: Client, _ commands: [[[UInt8]]], replies: Int?) throws {
        let bytes = commands.flatMap { RedisTestConnection.encode($0) }
        try client.direct.send(bytes)
        try client.proxied.send(bytes)
        let count = replies ?? commands.count
        let expected = try values(client, client.direct, count, "the server itself")
        let actual = try values(client, client.proxied, count, "the proxy")
        try compare(client, commands, expected, actual, isOneReplyEach: replies == nil)
    }

    private func isPublishing(_ command: [[UInt8]]) -> Bool {
        ["publish", "spublish", "exec"].contains(ReplyNormalisation.name(of: command))
    }

    func values(_ client: Client, _ from: RawReplies, _ count: Int, _ who: String) throws -> [[UInt8]] {
        do {
            return try from.next(count: count, isSubscribed: client.isSubscribed)
        } catch {
            throw difference("\(who) did not give \(count) replies to client \(client.number): \(error)")
        }
    }

    /// Messages for a client came before this reply, or they do not come.
    private mutating func sync(_ client: Client) throws {
        if placed != nil { return try syncMessages(client) }
        let ping = RedisTestConnection.encode([Array("PING".utf8), Array("sync\(commandsSent)".utf8)])
        try client.direct.send(ping)
        try client.proxied.send(ping)
        if client.isInTransaction { client.queued.append([Array("PING".utf8)]) }
        let expected = try values(client, client.direct, 1, "the server itself")
        let actual = try values(client, client.proxied, 1, "the proxy")
        try compare(client, [], expected, actual, isOneReplyEach: false)
    }

    func compare(
        _ client: Client, _ commands: [[[UInt8]]], _ expected: [[UInt8]], _ actual: [[UInt8]], isOneReplyEach: Bool
    ) throws {
        guard expected.count == actual.count else {
            throw difference(
                "client \(client.number): \(actual.count) values, not \(expected.count):\n  "
                    + expected.map(ReplyNormalisation.shown).joined(separator: "\n  ") + "\nproxied\n  "
                    + actual.map(ReplyNormalisation.shown).joined(separator: "\n  "))
        }
        if !isOneReplyEach, commands.count == 1, commands[0].count == 1 {
            let both = (ReplyNormalisation.withoutNames(expected), ReplyNormalisation.withoutNames(actual))
            if both.0 != both.1 {
                throw difference("client \(client.number), leaving all:\n  expected \(both.0)\n  proxied  \(both.1)")
            }
            return
        }
        var next = commands.startIndex
        for (expected, actual) in zip(expected, actual) {
            var parts: [(words: [[UInt8]], expected: [UInt8], actual: [UInt8])] = []
            if isOneReplyEach, !RawReplies.isMessage(expected, isSubscribed: client.isSubscribed) {
                let words = commands[next]
                next += 1
                if let queued = follow(client, words, expected), let pairs = split(queued, expected, actual) {
                    parts = pairs
                } else {
                    parts = [(words, expected, actual)]
                }
            } else {
                parts = [([Array("message".utf8)], expected, actual)]
            }
            for part in parts where part.expected != part.actual {
                let comparable = placed == nil ? ReplyNormalisation.comparable : PlacedExpectations.comparable
                let (left, right) = (comparable(part.expected, part.words), comparable(part.actual, part.words))
                if left != right {
                    let words = part.words.map { ReplyNormalisation.shown($0) }.joined(separator: " ")
                    throw difference("client \(client.number), \(words):\n  expected \(left)\n  proxied  \(right)")
                }
            }
        }
    }

    /// Keeps in mind whether the client is in a transaction.
    /// - Returns: what `EXEC` has carried out.
    func follow(_ client: Client, _ words: [[UInt8]], _ reply: [UInt8]) -> [[[UInt8]]]? {
        let name = ReplyNormalisation.name(of: words)
        if reply.starts(with: "+QUEUED".utf8), client.isInTransaction {
            client.queued.append(words)
            return nil
        }
        if name == "multi", reply == Array("+OK\r\n".utf8) { client.isInTransaction = true }
        // An EXEC with too many words ends the transaction, too.
        let hasEnded = client.isInTransaction && (name == "exec" || name == "discard" && words.count == 1)
        guard hasEnded else { return nil }
        defer { client.queued = [] }
        client.isInTransaction = false
        return name == "exec" ? client.queued : nil
    }

    /// The replies inside that of an `EXEC`, each beside its command.
    private func split(
        _ commands: [[[UInt8]]], _ expected: [UInt8], _ actual: [UInt8]
    ) -> [(words: [[UInt8]], expected: [UInt8], actual: [UInt8])]? {
        guard let left = elements(expected), let right = elements(actual), left.count == commands.count,
            right.count == commands.count
        else { return nil }
        return zip(commands, zip(left, right)).map { ($0, $1.0, $1.1) }
    }

    private func elements(_ array: [UInt8]) -> [[UInt8]]? {
        guard array[0] == UInt8(ascii: "*"), let end = array.firstIndex(of: 10) else { return nil }
        var found: [[UInt8]] = []
        var start = end + 1
        while start < array.count {
            var scanner = ReplyScanner()
            guard
                let length = array.withUnsafeBytes({ try? scanner.scan(UnsafeRawBufferPointer(rebasing: $0[start...])) }
                )
            else { return nil }
            let value = Array(array[start..<start + length])
            if value[0] != UInt8(ascii: ">") { found.append(value) }
            start += length
        }
        return found
    }

    private mutating func hello(_ client: Client) throws {
        let forms = [["HELLO", "\(version)"], ["HELLO"], ["HELLO", "\(version)", "SETNAME", "me"], ["HELLO", "9"]]
        let isFirst = commandsSent < clients.count
        let words = isFirst ? forms[0] : forms.randomElement(using: &generator.random)!
        try exchange(client, [words.map { Array($0.utf8) }])
    }

    private mutating func reset(_ client: Client) throws {
        client.placed = PlacedExpectations.Client()
        client.channels = ["": [], "p": [], "s": []]
        try exchange(client, [[Array("RESET".utf8)]])
        try exchange(client, [["HELLO", "\(version)"].map { Array($0.utf8) }])
    }

    private mutating func subscription(_ client: Client) throws {
        // Keys that are watched tie a client to their node.
        guard client.placed.isFree else { return }
        let kind = ["", "p", "s"].randomElement(using: &generator.random)!
        let isLeaving = client.isSubscribed && generator.chance(70)
        var names = kind == "p" ? ["c1*", "?2", "c[3-9]"] : ["c1", "c2", "c3"]
        // No two patterns meet: a server goes through them in the order of a table.
        names.shuffle(using: &generator.random)
        names = Array(names.prefix(Int.random(in: (isLeaving ? 0 : 1)...3, using: &generator.random)))
        let replies = names.isEmpty ? max(1, client.channels[kind]!.count) : names.count
        let words = [(kind + (isLeaving ? "unsubscribe" : "subscribe")).uppercased()] + names
        // While the acknowledgements come, messages may not: nobody publishes.
        try exchange(client, [words.map { Array($0.utf8) }], replies: replies)
        if isLeaving {
            client.channels[kind] = names.isEmpty ? [] : client.channels[kind]!.subtracting(names)
        } else {
            client.channels[kind]!.formUnion(names)
        }
    }

    func difference(_ what: String) -> Difference {
        Difference(
            description: """
                RESP\(version)\(isPipelined ? ", pipelined" : ""), HOTKEY_TEST_SEED=\(seed), after \(commandsSent) commands: \(what)
                the last commands, with their client's number:
                \(history.suffix(40).joined(separator: "\n"))
                """)
    }
}
