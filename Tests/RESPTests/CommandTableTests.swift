import HotKeyTestSupport
import RESP
import Testing

@Suite struct CommandTableTests {
    private static func find(_ name: String) -> CommandSpec? {
        name.bytes.withUnsafeBytes { CommandTable.redis70.find($0) }
    }

    /// Name, arity, flags and position of the first key of every command, as the server the table was made from tells it.
    @Test func holdsWhatRedisKnows() async throws {
        let client = try await SharedRedis.client()
        let info = try await client.command("INFO", "server").string ?? ""
        try #require(info.contains("redis_version:7.0."), "this test compares with Redis 7.0")
        let rows = try await client.command("COMMAND").elements ?? []
        await client.close()
        var seen: Set<String> = []
        func compare(_ row: RedisTestValue) throws {
            let columns = try #require(row.elements)
            let name = try #require(columns[0].string)
            seen.insert(name)
            let spec = try #require(Self.find(name), "\(name)")
            #expect(spec.name == name)
            #expect(Int64(spec.arity) == columns[1].integer, "\(name)")
            let theirs = Set(columns[2].elements?.compactMap(\.string) ?? [])
            let known: Set = [
                "write", "readonly", "blocking", "admin", "pubsub", "movablekeys", "noscript", "denyoom", "fast",
                "loading",
                "stale", "no_multi",
            ]
            #expect(Set(spec.flags.names) == theirs.intersection(known), "\(name)")
            if spec.onlyKeyIndex > 0 { #expect(Int64(spec.onlyKeyIndex) == columns[3].integer, "\(name)") }
            let subcommands = columns[9].elements ?? []
            #expect(spec.hasSubcommands == !subcommands.isEmpty, "\(name)")
            for subcommand in subcommands { try compare(subcommand) }
        }
        for row in rows { try compare(row) }
        #expect(seen == Set(CommandTable.redis70.commands.map(\.name)))
    }

    @Test func findsEveryNameWhateverItsCase() throws {
        for spec in CommandTable.redis70.commands {
            #expect(Self.find(spec.name) === spec)
            #expect(Self.find(spec.name.uppercased()) === spec)
            let mixed = String(
                spec.name.enumerated().map { $0.offset % 2 == 0 ? Character($0.element.uppercased()) : $0.element })
            #expect(Self.find(mixed) === spec)
            #expect(Self.find(spec.name + "\u{1}") == nil)
            #expect(CommandTable.redis70.commands[spec.index] === spec)
        }
        for name in ["", "g", "GETT", "get\0", "Ğet", "set ", String(repeating: "a", count: 10_000)] {
            #expect(Self.find(name) == nil, "\(name.prefix(20))")
        }
    }

    @Test func findsSubcommands() throws {
        let client = try #require(Self.find("client"))
        let table = CommandTable.redis70
        #expect("iNfO".bytes.withUnsafeBytes { table.find(client, subcommand: $0) }?.name == "client|info")
        #expect("nothing".bytes.withUnsafeBytes { table.find(client, subcommand: $0) } == nil)
        #expect("".bytes.withUnsafeBytes { table.find(client, subcommand: $0) } == nil)
    }

    @Test func countsArguments() throws {
        let get = try #require(Self.find("get"))
        #expect([1, 2, 3].map { get.accepts(argumentCount: $0) } == [false, true, false])
        let set = try #require(Self.find("set"))
        #expect([2, 3, 9].map { set.accepts(argumentCount: $0) } == [false, true, true])
    }

    // MARK: Keys

    static let samples = """
        append k v|bitcount k|bitfield k GET u4 0|bitfield_ro k GET u4 0|bitop AND d a b|bitpos k 1|blmove a b LEFT RIGHT 0
        blmpop 0 2 a b LEFT|blpop a b 0|brpop a 0|brpoplpush a b 0|bzmpop 0 1 a MIN|bzpopmax a b 0|bzpopmin a 0|copy a b
        copy a b DB 1 REPLACE|decr k|decrby k 1|del a|del a b c|dump k|eval s 2 a b x|eval s 0 x|eval s 5 a|eval s x a|eval_ro s 1 a
        evalsha s 2 a b|evalsha_ro s 1 a|exists a b|expire k 1|expireat k 1|expiretime k|fcall f 2 a b x|fcall_ro f 1 a
        geoadd k 1 1 m|geodist k a b|geohash k a|geopos k a|georadius k 1 1 1 m|georadius k 1 1 1 m STORE d
        georadius k 1 1 1 m COUNT 1 STOREDIST d|georadius_ro k 1 1 1 m|georadiusbymember k m 1 km STORE d
        georadiusbymember k m 1 km|georadiusbymember_ro k m 1 km|geosearch k FROMMEMBER m BYRADIUS 1 m
        geosearchstore d s FROMMEMBER m BYRADIUS 1 m|get k|getbit k 0|getdel k|getex k EX 1|getrange k 0 1|getset k v|hdel k f
        hexists k f|hget k f|hgetall k|hincrby k f 1|hincrbyfloat k f 1|hkeys k|hlen k|hmget k f|hmset k f v|hrandfield k
        hscan k 0|hset k f v|hsetnx k f v|hstrlen k f|hvals k|incr k|incrby k 1|incrbyfloat k 1|lcs a b|lindex k 0
        linsert k BEFORE a b|llen k|lmove a b LEFT LEFT|lmpop 2 a b LEFT|lpop k|lpos k a|lpush k a|lpushx k a|lrange k 0 1|lrem k 0 a
        lset k 0 a|ltrim k 0 1|memory usage k|mget a b c|migrate h 1 k 0 10|migrate h 1 "" 0 10 KEYS a b
        migrate h 1 "" 0 10 AUTH p KEYS a|move k 1|mset a 1 b 2|msetnx a 1 b 2|object encoding k|object freq k|object idletime k
        object refcount k|persist k|pexpire k 1|pexpireat k 1|pexpiretime k|pfadd k a|pfcount a b|pfdebug encoding k|pfmerge d a b
        psetex k 1 v|pttl k|rename a b|renamenx a b|restore k 0 x|restore-asking k 0 x|rpop k|rpoplpush a b|rpush k a|rpushx k a
        sadd k a|scard k|sdiff a b|sdiffstore d a b|setbit k 0 1|set k v|setex k 1 v|setnx k v|setrange k 0 v|sinter a b
        sintercard 2 a b LIMIT 1|sintercard 9 a b|sinterstore d a b|sismember k a|smembers k|smismember k a|smove a b m|sort k
        sort k BY w LIMIT 0 1 GET p STORE d|sort k STORE a STORE b|sort k BY store ASC|sort k GET store DESC|sort_ro k BY w|spop k
        srandmember k|srem k a|sscan k 0|strlen k|substr k 0 1|sunion a b|sunionstore d a b|touch a b|ttl k|type k|unlink a b|watch a b
        xack k g 0-1|xadd k * f v|xautoclaim k g c 0 0|xclaim k g c 0 0-1|xdel k 0-1|xgroup create k g 0|xgroup createconsumer k g c
        xgroup delconsumer k g c|xgroup destroy k g|xgroup setid k g 0|xinfo consumers k g|xinfo groups k|xinfo stream k|xlen k
        xpending k g|xrange k - +|xread COUNT 1 STREAMS a b 0 0|xread BLOCK 0 STREAMS a 0|xread streams a 0
        xreadgroup GROUP g c STREAMS a b 0 0|xreadgroup GROUP STREAMS STREAMS STREAMS a 0|xreadgroup GROUP g c COUNT 1 STREAMS a >
        xrevrange k + -|xsetid k 0-1|xtrim k MAXLEN 1|zadd k 1 a|zcard k|zcount k 0 1|zdiff 2 a b|zdiffstore d 2 a b|zincrby k 1 a
        zinter 2 a b WEIGHTS 1 2|zintercard 2 a b|zinterstore d 2 a b|zlexcount k - +|zmpop 2 a b MIN|zmscore k a|zpopmax k|zpopmin k
        zrandmember k|zrange k 0 1|zrangebylex k - +|zrangebyscore k 0 1|zrangestore d s 0 1|zrank k a|zrem k a
        zremrangebylex k - +|zremrangebyrank k 0 1|zremrangebyscore k 0 1|zrevrange k 0 1|zrevrangebylex k + -
        zrevrangebyscore k 1 0|zrevrank k a|zscan k 0|zscore k a|zunion 2 a b|zunionstore d 2 a b|zunionstore d 9 a b
        """.split { $0 == "|" || $0 == "\n" }.map {
            $0.split(separator: " ").map { $0 == "\"\"" ? "" : String($0) }
        }

    /// The keys that the table finds; nil when it says that the arguments do not tell.
    private static func keys(_ words: [String]) -> [String]? {
        let arguments = words.map(\.bytes)
        guard var spec = find(words[0]) else { return nil }
        if spec.hasSubcommands, words.count > 1,
            let inner = arguments[1].withUnsafeBytes({ CommandTable.redis70.find(spec, subcommand: $0) })
        {
            spec = inner
        }
        var positions: [Int] = []
        let found = withPointers(arguments) { pointers in
            KeyPositions.append(of: spec, argumentCount: words.count, to: &positions) { pointers[$0] }
        }
        return found ? positions.map { words[$0] } : nil
    }

    private static func withPointers<R>(_ arguments: [[UInt8]], _ body: ([UnsafeRawBufferPointer]) -> R) -> R {
        let copies = arguments.map { argument in
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: argument.count, alignment: 1)
            copy.copyBytes(from: argument)
            return copy
        }
        defer { for copy in copies { copy.deallocate() } }
        return body(copies.map { UnsafeRawBufferPointer($0) })
    }

    @Test func findsTheKeysThatRedisFinds() async throws {
        let client = try await SharedRedis.client()
        for words in Self.samples {
            let reply = try await client.command(["COMMAND", "GETKEYS"] + words)
            let ours = Self.keys(words)
            if let theirs = reply.elements?.compactMap(\.string) {
                // The order is of no use to anyone here.
                #expect(
                    (ours ?? []).filter { !$0.isEmpty }.sorted() == theirs.filter { !$0.isEmpty }.sorted(), "\(words)")
            } else {
                #expect(ours?.isEmpty ?? true, "\(words): Redis says \(reply), the table \(ours ?? [])")
            }
        }
        await client.close()
    }

    @Test func everyCommandWithKeysHasASample() {
        let sampled = Set(Self.samples.flatMap { [$0[0], $0.count > 1 ? "\($0[0])|\($0[1])" : $0[0]] })
        let missing = CommandTable.redis70.commands.filter {
            !$0.keySpecifications.isEmpty && !$0.flags.contains(.pubsub) && !sampled.contains($0.name)
        }
        #expect(missing.isEmpty, "\(missing.map(\.name))")
    }

    /// Arguments are a client's: no order or number of them may lead outside the command.
    @Test func survivesAnyArguments() {
        var random = SeededGenerator(printing: "key positions")
        let words = [
            "STORE", "STREAMS", "KEYS", "0", "1", "2", "-1", "999999999999", "a", "", "GROUP", "LIMIT", "BY", "GET",
        ]
        for spec in CommandTable.redis70.commands {
            for _ in 0..<60 {
                let count = Int.random(in: 1...10, using: &random)
                let arguments = [spec.name] + (1..<max(2, count)).map { _ in words.randomElement(using: &random)! }
                var positions: [Int] = []
                Self.withPointers(arguments.map(\.bytes)) { pointers in
                    _ = KeyPositions.append(of: spec, argumentCount: pointers.count, to: &positions) { pointers[$0] }
                }
                #expect(positions.allSatisfy { $0 > 0 && $0 < arguments.count }, "\(arguments): \(positions)")
            }
        }
    }

    @Test func knowsWhoWrites() throws {
        for name in [
            "set", "del", "eval", "evalsha", "fcall", "getex", "sort", "xreadgroup", "blpop", "copy", "georadius",
        ] {
            #expect(try #require(Self.find(name)).mayWrite, "\(name)")
        }
        for name in ["get", "eval_ro", "fcall_ro", "sort_ro", "xread", "georadius_ro", "exists", "touch"] {
            #expect(try !#require(Self.find(name)).mayWrite, "\(name)")
        }
    }

    @Test func whatTheDataAloneDecidesIsARepeatableRead() throws {
        for name in ["get", "mget", "hgetall", "zrange", "ttl", "object|encoding"] {
            #expect(try #require(Self.find(name)).isRepeatableRead, "\(name)")
        }
        for name in ["set", "eval", "srandmember", "hrandfield", "zrandmember", "getdel"] {
            #expect(try !#require(Self.find(name)).isRepeatableRead, "\(name)")
        }
    }
}
