import HotKeyTestSupport
import RESP

/// The same random commands to one server and to an agent before several nodes.
extension DifferentialRun {
    func exchange(
        _ client: Client, _ commands: [[[UInt8]]], replies: Int?, _ placed: PlacedExpectations
    ) throws {
        // A scan is several commands at the agent, with nothing between them.
        if commands.count > 1, let scan = commands.firstIndex(where: { ReplyNormalisation.name(of: $0) == "scan" }) {
            for part in [commands[..<scan], commands[scan...scan], commands[(scan + 1)...]] where !part.isEmpty {
                try exchange(client, Array(part), replies: nil, placed)
            }
            return
        }
        let expectations = commands.map {
            placed.expectation(of: $0, version: version, isSubscribed: client.isSubscribed, &client.placed)
        }
        if expectations == [.scan] { return try exchangeScan(client, commands[0]) }
        try client.proxied.send(commands.flatMap { RedisTestConnection.encode($0) })
        let forServer = zip(commands, expectations).compactMap { words, expectation -> [[UInt8]]? in
            switch expectation {
            case .same: words
            case .aborted: [Array("DISCARD".utf8)]
            case .refused, .own, .scan: nil
            }
        }
        try client.direct.send(forServer.flatMap { RedisTestConnection.encode($0) })
        var expected = try onlyReplies(
            client, client.direct, replies ?? forServer.count, "the server itself", &client.directMessages)
        var actual = try onlyReplies(
            client, client.proxied, replies ?? commands.count, "the proxy", &client.proxiedMessages)
        guard replies == nil else {
            return try compare(client, commands, expected, actual, isOneReplyEach: false)
        }
        for (words, expectation) in zip(commands, expectations) {
            let reply = actual.removeFirst()
            switch expectation {
            case .own, .scan: break
            case .same:
                let other = expected.removeFirst()
                try compare(client, [words], [takeMessages(other, client)], [reply], isOneReplyEach: true)
            case .aborted:
                expected.removeFirst()
                client.isInTransaction = false
                client.queued = []
                let text = "-EXECABORT Transaction discarded because of previous errors.\r\n"
                if reply != Array(text.utf8) {
                    throw difference("EXEC of a refused command: \(ReplyNormalisation.shown(reply))")
                }
            case .refused(let parts):
                let text = String(decoding: reply, as: UTF8.self)
                guard reply[0] == UInt8(ascii: "-"), parts.allSatisfy({ text.contains($0) }) else {
                    throw difference(
                        "client \(client.number), \(shown(words)): expected an error with \(parts), not \(ReplyNormalisation.shown(reply))"
                    )
                }
            }
        }
    }

    private func shown(_ words: [[UInt8]]) -> String {
        words.map { ReplyNormalisation.shown($0) }.joined(separator: " ")
    }

    /// Replies alone; messages come over other connections at the agent, so that their place among replies is their own matter.
    private func onlyReplies(
        _ client: Client, _ from: RawReplies, _ count: Int, _ who: String, _ messages: inout [[UInt8]]
    ) throws -> [[UInt8]] {
        let all = try values(client, from, count, who)
        messages += all.filter { RawReplies.isMessage($0, isSubscribed: client.isSubscribed) }
        return all.filter { !RawReplies.isMessage($0, isSubscribed: client.isSubscribed) }
    }

    /// A server puts what a client publishes to itself in a transaction inside the reply to `EXEC`.
    private func takeMessages(_ reply: [UInt8], _ client: Client) -> [UInt8] {
        guard version == 3, client.isInTransaction, reply[0] == UInt8(ascii: "*"), let header = reply.firstIndex(of: 10)
        else { return reply }
        var rest = Array(reply[...header])
        var start = header + 1
        while start < reply.count {
            var scanner = ReplyScanner()
            let length = reply.withUnsafeBytes { try? scanner.scan(UnsafeRawBufferPointer(rebasing: $0[start...])) }
            guard let length = length ?? nil else { return reply }
            let value = Array(reply[start..<start + length])
            if value[0] == UInt8(ascii: ">") { client.directMessages.append(value) } else { rest += value }
            start += length
        }
        return rest
    }

    private func exchangeScan(_ client: Client, _ words: [[UInt8]]) throws {
        let (expected, firstExpected) = try scan(
            client, client.direct, words, "the server itself", &client.directMessages)
        let (actual, firstActual) = try scan(client, client.proxied, words, "the proxy", &client.proxiedMessages)
        guard let expected, let actual else {
            return try compare(client, [words], [firstExpected], [firstActual], isOneReplyEach: true)
        }
        if expected != actual {
            throw difference(
                "client \(client.number), \(shown(words)):\n  expected \(expected.sorted())\n  proxied  \(actual.sorted())"
            )
        }
    }

    /// - Returns: every key, when there was no error; and the first reply.
    private func scan(
        _ client: Client, _ from: RawReplies, _ words: [[UInt8]], _ who: String, _ messages: inout [[UInt8]]
    ) throws -> (keys: Set<String>?, first: [UInt8]) {
        var keys: Set<String> = []
        var first: [UInt8]?
        var words = words
        repeat {
            try from.send(RedisTestConnection.encode(words))
            let reply = try onlyReplies(client, from, 1, who, &messages)[0]
            first = first ?? reply
            guard case .array(let parts)? = try? RESPValue(decoding: reply), parts.count == 2,
                case .bulk(let cursor) = parts[0], case .array(let names) = parts[1]
            else { return (nil, first!) }
            keys.formUnion(
                names.compactMap { if case .bulk(let name) = $0 { ReplyNormalisation.shown(name) } else { nil } })
            words[1] = cursor
        } while words[1] != [UInt8(ascii: "0")]
        return (keys, first!)
    }

    /// Both sides have shown the same messages; which node's come first is not told.
    func syncMessages(_ client: Client) throws {
        // In a transaction it could not be asked without a key.
        guard !client.isInTransaction else { return }
        let ping = RedisTestConnection.encode([Array("PING".utf8), Array("sync\(commandsSent)".utf8)])
        try client.direct.send(ping)
        _ = try onlyReplies(client, client.direct, 1, "the server itself", &client.directMessages)
        while client.proxiedMessages.count < client.directMessages.count {
            do {
                client.proxiedMessages.append(try client.proxied.next())
            } catch {
                throw difference(
                    "client \(client.number) misses messages: \(client.directMessages.map(ReplyNormalisation.shown)) against "
                        + "\(client.proxiedMessages.map(ReplyNormalisation.shown)): \(error)")
            }
        }
        try client.proxied.send(ping)
        _ = try onlyReplies(client, client.proxied, 1, "the proxy", &client.proxiedMessages)
        let expected = client.directMessages.map(ReplyNormalisation.shown).sorted()
        let actual = client.proxiedMessages.map(ReplyNormalisation.shown).sorted()
        guard expected == actual else {
            throw difference("client \(client.number), messages:\n  expected \(expected)\n  proxied  \(actual)")
        }
        client.directMessages = []
        client.proxiedMessages = []
    }
}
