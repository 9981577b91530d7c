import RESP
import Testing

@testable import RedisProxy

extension ProxyTests {
    @Suite struct Carried {
        private typealias Change = CarriedState.Change

        /// Commands of one line, each with how it ended (`!` an error, `?` queued) and, behind `=>`, whether the client must stay.
        private static let stories = """
            PING => free
            MULTI => stays, SET k v? => stays, EXEC => free
            MULTI => stays, SET? , NOSUCH! , EXEC! => free
            MULTI => stays, EXEC x! => free
            MULTI => stays, DISCARD => free
            EXEC! => free
            WATCH k => stays, EXEC! => stays, UNWATCH => free
            WATCH k => stays, MULTI => stays, EXEC => free
            WATCH k => stays, DISCARD! => stays
            MULTI, WATCH k! => stays, MULTI! => stays, EXEC => free
            SELECT 1 => stays, SELECT 99! => stays, SELECT 0 => free
            SELECT x! => free
            MULTI, SELECT 1?, EXEC => stays, SELECT 0 => stays, RESET => free
            MULTI, SELECT 1?, EXEC! => free
            MULTI, CLIENT ID?, DISCARD => free
            MULTI, UNWATCH?, EXEC => free
            AUTH u p! => free
            AUTH u p => stays, RESET => free
            CLIENT ID => stays, RESET => stays
            CLIENT NO-EVICT on => stays, RESET => stays, CLIENT NO-EVICT off => free
            CLIENT TRACKING on => stays, CLIENT TRACKING off => free
            CLIENT TRACKING on! => free
            MONITOR => stays, PING => stays, RESET => free
            CLIENT GETNAME => free
            CLIENT SETNAME x => free
            MULTI, CLIENT SETNAME x?, EXEC => free
            MULTI, CLIENT SETNAME x?, DISCARD => free
            READONLY! => free
            READONLY => stays
            """

        @Test func aClientStaysAsLongAsItCarriesSomething() throws {
            for story in Self.stories.split(separator: "\n") {
                var state = CarriedState()
                for step in story.split(separator: ",") {
                    let halves = step.split(separator: ">").map { $0.replacing("=", with: "") }
                    var words = halves[0].split(separator: " ").map(String.init)
                    var outcome = CarriedState.Outcome.done
                    if words.last == "!" || words.last == "?" { words.removeLast() }
                    if halves[0].contains("!") { outcome = .error }
                    if halves[0].contains("?") { outcome = .queued }
                    words[words.count - 1] = words.last!.trimmingSuffix { "!?".contains($0) }
                    state.answered(Self.change(words), outcome)
                    if halves.count > 1 {
                        #expect(state.mustStay == halves[1].contains("stays"), "\(story): \(step)")
                    }
                }
            }
        }

        @Test func theDatabaseIsKnownOrKnownToBeUnknown() {
            var state = CarriedState()
            #expect(state.database == 0)
            state.answered(.select(3), .done)
            #expect(state.database == 3)
            state.answered(.select(99), .error)
            #expect(state.database == 3)
            state.answered(.multi, .done)
            state.answered(.select(0), .queued)
            state.answered(.exec, .done)
            #expect(state.database == nil)
            state.answered(.reset, .done)
            #expect(state.database == 0)
        }

        /// What a connection has seen decides who may have it next.
        @Test func onlyAConnectionWithoutATraceIsUsedAgain() {
            for (change, isReusable) in [
                (Change.multi, true), (.watch, true), (.select(1), true), (.none, true), (.user, false),
                (.identity, false),
                (.monitor, false), (.tracking(true), false), (.unclear, false),
            ] {
                var state = CarriedState()
                state.answered(change, .done)
                state.answered(.reset, .done)
                #expect(state.isReusable == isReusable, "\(change)")
            }
            var silent = CarriedState()
            silent.sentSilently(.none)
            #expect(silent.mustStay)
            silent.answered(.none, .done, repliesAreOff: true)
            #expect(silent.mustStay)
            silent.answered(.none, .done)
            #expect(!silent.mustStay && !silent.isReusable)
        }

        @Test func acknowledgementsAreCountedByKind() {
            var counts = SubscriptionCounts()
            #expect(counts.acknowledgements(.channel, names: 3) == 3)
            #expect(counts.acknowledgements(.pattern, names: 0) == 1)
            counts.acknowledged(.channel, count: 1)
            counts.acknowledged(.channel, count: 2)
            counts.acknowledged(.pattern, count: 3)
            counts.acknowledged(.shard, count: 1)
            #expect(counts.channels == 2 && counts.patterns == 1 && counts.shards == 1)
            #expect(counts.acknowledgements(.channel, names: 0) == 2)
            counts.acknowledged(.channel, count: 2)
            counts.acknowledged(.channel, count: 1)
            #expect(counts.total == 2 && counts.ordinary == 1)
        }

        @Test func announcementsAreToldFromReplies() {
            func kind(_ text: String) -> String {
                Array(text.utf8).withUnsafeBytes { bytes in
                    switch Announcement(bytes) {
                    case .message: "message"
                    case .acknowledgement(let count): "\(count)"
                    case .other: "other"
                    case nil: "no"
                    }
                }
            }
            #expect(kind("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n") == "message")
            #expect(kind(">4\r\n$8\r\npmessage\r\n$1\r\nc\r\n$1\r\nc\r\n$1\r\nm\r\n") == "message")
            #expect(kind("*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:12\r\n") == "12")
            #expect(kind("*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n") == "0")
            #expect(kind(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n") == "other")
            for text in ["*0\r\n", "+OK\r\n", "*1\r\n:1\r\n", "*-1\r\n", ">0\r\n", "$1\r\nx\r\n"] {
                #expect(kind(text) == "no")
            }
        }

        @Test func waitLimitsAreReadFromTheCommand() {
            func limit(_ line: String) -> WaitLimit {
                let words = line.split(separator: " ").map { Array($0.utf8) }
                let spec = words[0].withUnsafeBytes { CommandTable.redis70.find($0) }!
                return Self.withArguments(words) { WaitLimit(spec, argumentCount: words.count, argument: $0) }
            }
            #expect(limit("BLPOP k 0") == .unbounded)
            #expect(limit("BLPOP k l 1.5") == .milliseconds(1500))
            #expect(limit("BLMPOP 0.1 1 k LEFT") == .milliseconds(100))
            #expect(limit("XREAD COUNT 1 BLOCK 20 STREAMS s 0") == .milliseconds(20))
            #expect(limit("XREAD BLOCK 0 STREAMS s 0") == .unbounded)
            #expect(limit("XREAD STREAMS BLOCK 0") == .none)
            #expect(limit("WAIT 1 250") == .milliseconds(250))
            #expect(limit("BLPOP k x") == .none)
            #expect(limit("BLPOP k -1") == .none)
            #expect(limit("BLPOP k inf") == .unbounded)
            #expect(WaitLimit.milliseconds(2).nanoseconds(5) == 2_000_005)
            #expect(WaitLimit.unbounded.nanoseconds(5) == nil)
        }

        @Test func writtenKeysAreBounded() {
            var keys = WrittenKeys()
            keys.insert([1])
            #expect(keys.keys == [[1]] && !keys.isEverything)
            for _ in 0..<64 { keys.insert([UInt8](repeating: 7, count: 32 << 10)) }
            #expect(keys.isEverything && keys.keys.isEmpty && !keys.isEmpty)
            var other = WrittenKeys()
            other.insert([2])
            #expect(other.take().keys == [[2]] && other.isEmpty)
            other.formUnion(keys)
            #expect(other.isEverything)
        }

        private static func change(_ words: [String]) -> Change {
            let words = words.map { Array($0.utf8) }
            let table = CommandTable.redis70
            var spec = words[0].withUnsafeBytes { table.find($0) }
            if let container = spec, container.hasSubcommands, words.count > 1 {
                spec = words[1].withUnsafeBytes { table.find(container, subcommand: $0) }
            }
            return withArguments(words) { Change(spec, argumentCount: words.count, argument: $0) }
        }

        private static func withArguments<T>(_ words: [[UInt8]], _ body: ((Int) -> UnsafeRawBufferPointer) -> T) -> T {
            let all = words.flatMap { $0 }
            return all.withUnsafeBytes { bytes in
                body { index in
                    let start = words[..<index].reduce(0) { $0 + $1.count }
                    return UnsafeRawBufferPointer(rebasing: bytes[start..<start + words[index].count])
                }
            }
        }
    }
}

extension String {
    fileprivate func trimmingSuffix(while condition: (Character) -> Bool) -> String {
        var end = endIndex
        while end > startIndex, condition(self[index(before: end)]) { end = index(before: end) }
        return String(self[..<end])
    }
}
