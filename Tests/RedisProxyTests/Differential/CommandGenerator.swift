import HotKeyTestSupport
import RESP

/// Makes random commands. The same seed makes the same commands.
struct CommandGenerator {
    var random: SeededGenerator
    /// Payloads for `RESTORE`, as the server itself dumped them.
    private let dumps: [[UInt8]]
    /// SHA-1 of a script that `SCRIPT LOAD` is called with.
    private let scriptSHA: String

    /// Commands that no random stream can hold, with the reason. Those marked † have a test of their own.
    static let excluded: [String: String] = [
        "shutdown": "ends the server †", "debug": "switched off by the server's configuration; its refusal is compared",
        "replicaof": "changes the server's role", "slaveof": "changes the server's role",
        "failover": "changes the server's role", "sync": "refused: replication",
        "psync": "refused: replication", "replconf": "refused: replication",
        "monitor": "streams †", "save": "takes time and touches the disk †",
        "bgsave": "its reply depends on time", "bgrewriteaof": "its reply depends on time",
        "migrate": "needs another server †", "quit": "ends the connection †",
        "subscribe": "in steps of its own", "unsubscribe": "in steps of its own", "psubscribe": "in steps of its own",
        "punsubscribe": "in steps of its own", "ssubscribe": "in steps of its own",
        "sunsubscribe": "in steps of its own", "hello": "in steps of its own", "reset": "in steps of its own",
        "latency|histogram": "depends on time", "latency|graph": "depends on time", "latency|doctor": "depends on time",
        "memory|doctor": "depends on the process", "memory|stats": "depends on the process",
        "memory|malloc-stats": "depends on the process", "memory|purge": "depends on the process",
        "slowlog|get": "depends on time", "slowlog|reset": "depends on time",
        "config|rewrite": "has no file", "config|resetstat": "changes the server",
        "acl|setuser": "changes who may do what †", "acl|deluser": "changes who may do what †",
        "acl|load": "has no file", "acl|save": "has no file", "acl|log": "depends on time",
        "client|pause": "stops both servers †", "client|kill": "with ids that exist only in a test of its own †",
        "client|reply": "its silence in a test of its own †", "client|tracking": "in a test of its own †",
        "script|debug": "refused: the debugger's protocol", "script|kill": "",
        "module|load": "loads code", "module|loadex": "loads code", "module|unload": "loads code",
        "spop": "draws at random; only in the form that takes all",
        "pfselftest": "takes seconds", "command": "long; compared once †",
        "command|docs": "long; one command's is compared",
        "lolwut": "art", "function|restore": "has a test of its own †", "info": "", "client|list": "",
        "client|info": "",
    ]

    private let generic: [CommandSpec]
    /// With a random number they would make a key that ends soon, which two servers do not see at the same command, or wait for
    /// ever.
    private static let notByChance: Set = ["expire", "pexpire", "setex", "psetex", "getex", "wait"]

    init(random: SeededGenerator, dumps: [[UInt8]], scriptSHA: String) {
        self.random = random
        self.dumps = dumps
        self.scriptSHA = scriptSHA
        generic = CommandTable.redis70.commands.filter { spec in
            Self.excluded[spec.name] == nil && !Self.notByChance.contains(spec.name) && !spec.flags.contains(.blocking)
                && !spec.hasSubcommands
                && !spec.name.hasPrefix("cluster|")
        }
    }

    mutating func next() -> [[UInt8]] {
        var words: [[UInt8]]
        if chance(8) {
            words = genericCommand()
        } else {
            // What empties everything comes now and then only, or there would be nothing to look at.
            var form = CommandGrammar.forms.randomElement(using: &random)!
            if form[0].hasPrefix("FLUSH") || form[0] == "SWAPDB", !chance(20) { form = ["DBSIZE"] }
            words = expand(form[...])
        }
        // `CLIENT KILL` with another number would mean a client of one server only, a blocking command might wait for
        // ever, and SPOP without its count draws at random.
        if words[0] != Array("CLIENT".utf8), !mustStayWhole(words[0]), chance(3) { spoil(&words) }
        if chance(10) { words[0] = Array(String(decoding: words[0], as: UTF8.self).lowercased().utf8) }
        return words
    }

    private func mustStayWhole(_ name: [UInt8]) -> Bool {
        name.withUnsafeBytes { CommandTable.redis70.find($0) }.map {
            $0.flags.contains(.blocking) || ["wait", "spop"].contains($0.name)
        }
            ?? false
    }

    mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }

    // MARK: By form

    private mutating func expand(_ form: ArraySlice<String>) -> [[UInt8]] {
        var words: [[UInt8]] = []
        var index = form.startIndex
        while index < form.endIndex {
            switch form[index] {
            case "[":
                let end = form[index...].firstIndex(of: "]")!
                if chance(40) { words += expand(form[(index + 1)..<end]) }
                index = end
            case "(":
                let end = form[index...].firstIndex(of: ")")!
                for _ in 0..<Int.random(in: 1...3, using: &random) { words += expand(form[(index + 1)..<end]) }
                index = end
            case "$": words.append([UInt8(ascii: "$")])
            case let word where word.hasPrefix("$"):
                words += word == "$words" ? genericCommand() : [argument(String(word.dropFirst()))]
            case let word where word == "EVAL" || word == "EVAL_RO" || word == "LOAD":
                words.append(Array(word.utf8))
                // The script may hold any byte, the alternatives' bar too.
                let script = form[index + 1]
                if script == "REPLACE" { break }
                words.append(Array(script.utf8))
                index += 1
            case let word:
                words.append(Array(word.split(separator: "|").randomElement(using: &random)!.utf8))
            }
            index += 1
        }
        return words
    }

    private static let keyKinds = ["s", "n", "b", "l", "t", "h", "z", "g", "p", "x"]

    private mutating func argument(_ kind: String) -> [UInt8] {
        switch kind {
        case "k": return key(Self.keyKinds.randomElement(using: &random)!)
        case _ where Self.keyKinds.contains(kind):
            return key(chance(94) ? kind : Self.keyKinds.randomElement(using: &random)!)
        case "v": return value()
        case "i": return text("\(Int.random(in: -4...8, using: &random))")
        case "c": return text("\(Int.random(in: 0...9, using: &random))")
        case "d": return text("\(chance(60) ? 0 : Int.random(in: 0...3, using: &random))")
        case "f": return text(["1", "-2", "3.25", "0.1", "1e3", "-inf", "2"].randomElement(using: &random)!)
        case "m":
            return text(["a", "b", "c", "d", "e", "Palermo", "7", "-3", "x y", ""].randomElement(using: &random)!)
        case "score": return text(["-inf", "+inf", "0", "1", "(1", "3.25", "(3", "5"].randomElement(using: &random)!)
        case "lex": return text(["-", "+", "[a", "(b", "[c", "(e"].randomElement(using: &random)!)
        case "id":
            return text("\(Int.random(in: 1...9, using: &random))-\(Int.random(in: 0...3, using: &random))")
        case "pattern": return text(["*", "s*", "?1", "[lt]*", "a", ""].randomElement(using: &random)!)
        case "dump": return dumps.randomElement(using: &random)!
        case "sha": return text(chance(70) ? scriptSHA : String(repeating: "0", count: 40))
        case "library":
            return text(
                """
                #!lua name=lib
                redis.register_function('put', function(keys, args) return redis.call('set', keys[1], args[1]) end)
                redis.register_function{function_name='look', callback=function(keys) return redis.call('get', keys[1]) end,
                    flags={'no-writes'}}
                """)
        default: preconditionFailure("no kind of argument is called \(kind)")
        }
    }

    private mutating func key(_ kind: String) -> [UInt8] { text("\(kind)\(Int.random(in: 0...3, using: &random))") }

    private mutating func value() -> [UInt8] {
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<50: text(["v", "12", "hello world", "3.5", "", "zzz"].randomElement(using: &random)!)
        case 50..<80:
            (0..<Int.random(in: 0...30, using: &random)).map { _ in UInt8.random(in: .min ... .max, using: &random) }
        case 80..<98: text(String(repeating: "ab\r\n", count: Int.random(in: 1...40, using: &random)))
        default: [UInt8](repeating: UInt8.random(in: .min ... .max, using: &random), count: 20_000)
        }
    }

    private func text(_ text: String) -> [UInt8] { Array(text.utf8) }

    // MARK: By the table

    private mutating func genericCommand() -> [[UInt8]] {
        let spec = generic.randomElement(using: &random)!
        var words = spec.name.split(separator: "|").map { Array($0.utf8) }
        let least = abs(spec.arity)
        let count = spec.arity > 0 ? least : least + Int.random(in: 0...3, using: &random)
        while words.count < count {
            switch Int.random(in: 0..<6, using: &random) {
            case 0, 1, 2: words.append(argument("k"))
            case 3: words.append(argument("i"))
            case 4: words.append(argument("m"))
            default: words.append(value())
            }
        }
        return words
    }

    private mutating func spoil(_ words: inout [[UInt8]]) {
        switch Int.random(in: 0..<4, using: &random) {
        case 0 where words.count > 1: words.removeLast()
        case 1: words.append(argument("m"))
        case 2 where words.count > 2:
            words[Int.random(in: 2..<words.count, using: &random)] = text(
                ["a", "", "-3", "-inf"].randomElement(using: &random)!)
        default: words.append(value())
        }
    }
}
