import HotKeyTestSupport
import RESP
import RedisProxy
import Testing

extension ProxyTests {
    @Suite struct PassThrough {
        /// Every command of one key, with data enough for a reply that says something. Keys begin with a letter for their type.
        static let script = """
            SET s:1 hello|GET s:1|APPEND s:1 !|STRLEN s:1|GETRANGE s:1 0 2|SUBSTR s:1 1 3|SETRANGE s:1 1 E|GETSET s:1 x|GETDEL s:1|GET s:1
            SETEX s:2 1000 v|PSETEX s:3 1000000 v|SETNX s:2 w|GETEX s:2 PERSIST|TTL s:2|PTTL s:2|SET n:1 10|INCR n:1|DECR n:1|INCRBY n:1 5
            DECRBY n:1 3|INCRBYFLOAT n:1 0.5|INCR s:2|SETBIT b:1 7 1|GETBIT b:1 7|BITCOUNT b:1|BITPOS b:1 1|BITFIELD b:1 SET u4 0 9 GET u4 0
            BITFIELD_RO b:1 GET u8 0|EXPIRE s:2 1000|EXPIREAT s:2 4102444800|PEXPIREAT s:2 4102444800000|PEXPIRE s:3 900000
            EXPIRETIME s:2|PEXPIRETIME s:2|PERSIST s:2|TYPE s:2|EXISTS s:2|TOUCH s:2|OBJECT ENCODING n:1|OBJECT REFCOUNT s:2
            OBJECT IDLETIME s:2|OBJECT FREQ s:2|MEMORY USAGE none|DUMP none|SORT none
            LPUSH l:1 a b c|RPUSH l:1 d|LPUSHX l:1 e|RPUSHX l:1 f|LLEN l:1|LRANGE l:1 0 -1|LINDEX l:1 1|LSET l:1 0 z|LINSERT l:1 AFTER z y
            LPOS l:1 a|LREM l:1 1 a|LTRIM l:1 0 3|LPOP l:1|RPOP l:1|SORT l:1 ALPHA|SORT_RO l:1 ALPHA DESC|LRANGE l:1 0 -1
            SADD t:1 m|SCARD t:1|SISMEMBER t:1 m|SMISMEMBER t:1 m x|SMEMBERS t:1|SRANDMEMBER t:1|SSCAN t:1 0|SREM t:1 x|SPOP t:1|SCARD t:1
            HSET h:1 f v g 2|HGET h:1 f|HGETALL h:1|HMSET h:1 i 3|HMGET h:1 f x|HEXISTS h:1 f|HKEYS h:1|HVALS h:1|HLEN h:1|HSTRLEN h:1 f
            HINCRBY h:1 g 2|HINCRBYFLOAT h:1 g 0.5|HSETNX h:1 f w|HDEL h:1 f i|HRANDFIELD h:1|HSCAN h:1 0
            ZADD z:1 1 a 2 b 3 c|ZCARD z:1|ZSCORE z:1 a|ZMSCORE z:1 a x|ZINCRBY z:1 5 a|ZRANK z:1 b|ZREVRANK z:1 b|ZCOUNT z:1 0 9
            ZLEXCOUNT z:1 - +|ZRANGE z:1 0 -1 WITHSCORES|ZREVRANGE z:1 0 -1|ZRANGEBYSCORE z:1 0 9|ZREVRANGEBYSCORE z:1 9 0
            ZRANGEBYLEX z:1 - +|ZREVRANGEBYLEX z:1 + -|ZSCAN z:1 0|ZRANDMEMBER none|ZREM z:1 a|ZPOPMIN z:1|ZPOPMAX z:1
            ZADD z:2 1 a 2 b 3 c|ZREMRANGEBYRANK z:2 0 0|ZREMRANGEBYSCORE z:2 2 2|ZREMRANGEBYLEX z:2 - +|ZCARD z:2
            GEOADD g:1 13.36 38.11 p 15.08 37.50 c|GEODIST g:1 p c|GEOHASH g:1 p|GEOPOS g:1 p|GEORADIUS g:1 15 37 200 km
            GEORADIUS_RO g:1 15 37 200 km|GEORADIUSBYMEMBER g:1 p 200 km|GEORADIUSBYMEMBER_RO g:1 p 200 km
            GEOSEARCH g:1 FROMMEMBER p BYRADIUS 200 km ASC
            PFADD p:1 a b c|PFCOUNT p:1|PFDEBUG ENCODING p:1
            XADD x:1 1-1 f v|XADD x:1 2-1 f w|XLEN x:1|XRANGE x:1 - +|XREVRANGE x:1 + -|XGROUP CREATE x:1 g 0|XGROUP SETID x:1 g 0
            XGROUP CREATECONSUMER x:1 g c|XINFO GROUPS x:1|XREADGROUP GROUP g c COUNT 1 STREAMS x:1 >|XPENDING x:1 g
            XCLAIM x:1 g d 0 1-1 JUSTID|XAUTOCLAIM x:1 g d 0 0 JUSTID|XACK x:1 g 1-1|XGROUP DELCONSUMER x:1 g d|XINFO STREAM x:1
            XGROUP DESTROY x:1 g|XINFO CONSUMERS x:1 g|XDEL x:1 1-1|XTRIM x:1 MAXLEN 0|XSETID x:1 9-1|XREAD COUNT 1 STREAMS x:1 0
            EVAL return{KEYS[1],redis.call('get',KEYS[1])} 1 n:1|EVAL_RO return{KEYS[1]} 1 n:1|EVAL return#KEYS 1 n:1
            EVALSHA 0000000000000000000000000000000000000000 1 n:1|FCALL nofunction 1 n:1
            RESTORE s:9 0 rubbish|RESTORE-ASKING s:9 0 rubbish|LPUSH s:2 wrongtype|GET l:1|SET s:2|SET s:2 v NOSUCHOPTION|DEL s:2|UNLINK s:3
            """.split { $0 == "|" || $0 == "\n" }.map { $0.split(separator: " ").map(String.init) }

        @Test(arguments: [2, 3])
        func everyCommandOfOneKeyIsAnsweredAsByRedis(_ version: Int) async throws {
            try await Rig.with { rig in
                let reference = try await SharedNodes.reference().client()
                let client = try await rig.client()
                for each in [reference, client] { try await each.command("HELLO", "\(version)") }
                // Keys of this run alone, spread over the nodes: the same command is sent with ten different keys.
                for round in 0..<10 {
                    let commands = Self.script.map { words in
                        words.enumerated().map { index, word in
                            index > 0 && Self.isKey(word) ? "\(version).\(round).\(word)" : word
                        }
                    }
                    let expected = try await reference.pipeline(commands)
                    let actual = try await client.pipeline(commands)
                    for (command, (expected, actual)) in zip(commands, zip(expected, actual)) {
                        #expect(actual == expected, "\(command.joined(separator: " "))")
                    }
                }
                await reference.close()
                await client.close()
            }
        }

        private static func isKey(_ word: String) -> Bool {
            word == "none" || word.count == 3 && word.dropFirst().hasPrefix(":") && word.last!.isNumber
        }

        @Test func theScriptHoldsEveryCommandOfOneKey() {
            let used = Set(
                Self.script.flatMap { [$0[0].lowercased(), "\($0[0])|\($0.count > 1 ? $0[1] : "")".lowercased()] })
            let missing = CommandTable.redis70.commands.filter {
                $0.onlyKeyIndex > 0 && $0.flags.isDisjoint(with: [.pubsub, .blocking]) && !used.contains($0.name)
                    && !["lcs", "move"].contains($0.name)
            }
            #expect(missing.isEmpty, "\(missing.map(\.name))")
        }

        @Test func binaryKeysAndValuesPassUnchanged() async throws {
            try await Rig.with { rig in
                let client = try await rig.client()
                var random = SeededGenerator(printing: "binary")
                for size in [0, 1, 100, 16 * 1024, 16 * 1024 + 1, 1 << 20, 5 << 20] {
                    let key = Array("bin\(size)".utf8) + [0, 13, 10, 255]
                    let start = (0..<min(size, 1000)).map { _ in UInt8.random(in: .min ... .max, using: &random) }
                    let value = start + [UInt8](repeating: 13, count: size - start.count)
                    #expect(try await client.command(bytes: [Array("SET".utf8), key, value]) == .ok)
                    #expect(try await client.command(bytes: [Array("GET".utf8), key]) == .bulk(value))
                    let dumped = try #require(try await client.command(bytes: [Array("DUMP".utf8), key]).bytes)
                    let other = key + [1]
                    #expect(
                        try await client.command(bytes: [Array("RESTORE".utf8), other, Array("0".utf8), dumped]) == .ok)
                    #expect(try await client.command(bytes: [Array("GET".utf8), other]) == .bulk(value))
                    try await client.command(bytes: [Array("DEL".utf8), key, other])
                }
                await client.close()
            }
        }

        @Test func commandsOfSeveralKeysWorkOnOneNode() async throws {
            try await Rig.with { rig in
                let reference = try await SharedNodes.reference().client()
                let client = try await rig.client()
                let commands = """
                    RPUSH {q}a 1 2 3|LMOVE {q}a {q}b LEFT RIGHT|RPOPLPUSH {q}a {q}b|LMPOP 2 {q}x {q}a LEFT|SADD {q}s 1 2|SADD {q}t 2 3
                    SINTER {q}s {q}t|SUNIONSTORE {q}u {q}s {q}t|SCARD {q}u|SDIFF {q}s {q}t|SINTERCARD 2 {q}s {q}t|SMOVE {q}s {q}t 1
                    ZADD {q}z 1 a|ZADD {q}y 2 a|ZUNION 2 {q}z {q}y WITHSCORES|ZINTERSTORE {q}w 2 {q}z {q}y|ZRANGE {q}w 0 -1 WITHSCORES
                    ZDIFF 2 {q}z {q}y|ZMPOP 1 {q}w MIN|SET {q}k v|RENAME {q}k {q}l|COPY {q}l {q}m|GET {q}m|RENAMENX {q}l {q}m|MSETNX {q}n 1 {q}o 2
                    BITOP NOT {q}p {q}m|LCS {q}m {q}l|PFADD {q}h a|PFMERGE {q}i {q}h|PFCOUNT {q}h {q}i|GEOADD {q}g 1 1 m
                    GEOSEARCHSTORE {q}v {q}g FROMMEMBER m BYRADIUS 1 m|GEORADIUS {q}g 1 1 1 km STORE {q}r|SORT {q}b STORE {q}sorted
                    LRANGE {q}sorted 0 -1|ZRANGESTORE {q}zz {q}y 0 -1|EVAL return{KEYS[2],ARGV[1]} 2 {q}a {q}b x
                    XADD {q}x1 1-1 f v|XADD {q}x2 1-1 f v|XREAD STREAMS {q}x1 {q}x2 0 0|BLPOP {q}b {q}c 1|BLMOVE {q}b {q}c LEFT LEFT 1
                    BZPOPMIN {q}y 1|BLMPOP 1 1 {q}sorted LEFT|BRPOP {q}nothing 0.01|OBJECT HELP
                    """.split { $0 == "|" || $0 == "\n" }.map(String.init)
                for command in commands where command != "OBJECT HELP" {
                    #expect(try await client.line(command) == reference.line(command), "\(command)")
                }
                await reference.close()
                await client.close()
            }
        }

        @Test func keysOnDifferentNodesAreNamedWithTheirNodes() async throws {
            try await Rig.with { rig in
                let client = try await rig.client()
                let first = rig.key(on: 0, "apart")
                let second = rig.key(on: 1, "apart")
                for command in [
                    "RENAME \(first) \(second)", "SINTER \(first) \(second)", "BLPOP \(first) \(second) 0",
                    "EVAL return 2 \(first) \(second)", "XREAD STREAMS \(first) \(second) 0 0",
                    "SORT \(first) STORE \(second)",
                    "ZUNIONSTORE \(first) 1 \(second)",
                ] {
                    let text = try #require(try await client.line(command).errorMessage, "\(command)")
                    #expect(text.contains("'\(first)' is on node a"), "\(text)")
                    #expect(text.contains("'\(second)' on node b"), "\(text)")
                    #expect(text.contains("hash tag"), "\(text)")
                }
                await client.close()
            }
        }

        @Test func whatCannotWorkSaysSo() async throws {
            try await Rig.with { rig in
                let client = try await rig.client()
                for command in [
                    "CONFIG GET maxmemory", "MONITOR", "SHUTDOWN", "DEBUG SLEEP 1", "CLUSTER INFO", "ROLE", "MOVE k 1",
                    "MIGRATE h 1 k 0 1", "SWAPDB 0 1", "EVAL return 0", "REPLICAOF NO ONE", "ACL LIST", "SAVE",
                ] {
                    let text = try #require(try await client.line(command).errorMessage, "\(command)")
                    #expect(text.hasPrefix("ERR '\(command.split(separator: " ")[0].lowercased())"), "\(text)")
                    #expect(text.contains("does not work through hkagent: "), "\(text)")
                }
                #expect(try await client.line("PING") == .simple("PONG"))
                await client.close()
            }
        }

        /// Texts that clients may match on.
        @Test func mistakesAreAnsweredAsByRedis() async throws {
            try await Rig.with { rig in
                let reference = try await SharedNodes.reference().client()
                let client = try await rig.client()
                let many = (0..<60).map { "a\($0 % 3)" }.joined(separator: " ")
                for command in [
                    "NOSUCH", "NOSUCH a b c", "nosuch \(many)", "NOSUCH \(String(repeating: "x", count: 300)) y", "GET",
                    "GET a b", "SET a",
                    "MSET a", "MSET a 1 b", "MGET", "DEL", "EXISTS", "OBJECT", "OBJECT NOSUCH k", "OBJECT ENCODING",
                    "CLIENT NOSUCH", "CLIENT",
                    "CLIENT GETNAME x", "CLIENT SETNAME", "ECHO", "PING a b", "SELECT x", "HELLO 9", "HELLO x",
                    "HELLO 3 NOSUCH",
                    "AUTH secret", "XGROUP NOSUCH", "SUBSCRIBE", "ZADD z x a", "EVALSHA x 1 k",
                    "\(String(repeating: "n", count: 200)) a",
                ] {
                    #expect(try await client.line(command) == reference.line(command), "\(command)")
                }
                for bytes in [
                    [Array("no\r\nsuch".utf8), Array("a\nb".utf8)], [[], []],
                    [Array("CLIENT".utf8), Array("SETNAME".utf8), [32]],
                ] {
                    #expect(try await client.command(bytes: bytes) == reference.command(bytes: bytes), "\(bytes)")
                }
                await reference.close()
                await client.close()
            }
        }

        @Test func oneNodeAloneServesCommandsWithoutKeys() async throws {
            let nodes = Array(try await SharedNodes.nodes()[0..<1])
            try await Rig.with(nodes: nodes) { rig in
                let client = try await rig.client()
                #expect(try await client.line("DBSIZE").integer != nil)
                #expect(try await client.line("SCAN 0 COUNT 1").elements?.count == 2)
                #expect(try await client.line("TIME").elements?.count == 2)
                #expect(try await client.line("EVAL return{1} 0") == .array([.integer(1)]))
                #expect(try await client.line("CONFIG GET port").elements?[1] == .text("\(nodes[0].port)"))
                await client.close()
            }
        }
    }
}
