import HotKeyMitigation
import RESP
import Testing

@testable import RedisProxy

@Suite struct SlotMapTests {
    private func range(_ first: Int64, _ last: Int64, _ nodes: (RESPValue, Int64)...) -> RESPValue {
        .array(
            [.integer(first), .integer(last)] + nodes.map { .array([$0.0, .integer($0.1), .bulk("id"), .array([])]) })
    }

    @Test func rangesAndMembersAreTaken() throws {
        let nodes = """
            i1 10.0.0.1:7001@17001,host-1 myself,master - 0 0 1 connected 0-99
            i2 10.0.0.2:7002@17002 master - 0 0 2 connected 100 200-16383 [93-<-i1]
            i3 10.0.0.3:7003@17003 slave i1 0 0 1 connected
            i4 :0@0 master,noaddr - 0 0 1 disconnected
            i5 10.0.0.5:7005@17005 handshake - 0 0 1 disconnected
            i6 ::1:7006@17006 master - 0 0 1 connected

            """
        let map = try SlotMap(
            slots: .array([
                range(0, 99, (.null, 7001), (.bulk("10.0.0.3"), 7003)), range(100, 100, (.bulk("10.0.0.2"), 7002)),
                range(200, 16383, (.bulk("10.0.0.2"), 7002)), range(150, 160, (.bulk("?"), 7009)),
            ]), nodes: .bulk(nodes), asked: "10.0.0.1")
        let first = try #require(ClusterAddress(host: "10.0.0.1", port: 7001))
        let second = try #require(ClusterAddress(host: "10.0.0.2", port: 7002))
        #expect(map.primaries == [first, second])
        #expect(map.owner(0) == first && map.owner(99) == first && map.owner(100) == second)
        #expect(map.owner(101) == nil && map.owner(155) == nil && map.owner(16383) == second)
        let names = Set(map.members.map { "\($0.host) \($0.port)" })
        #expect(names == ["10.0.0.1 7001", "host-1 7001", "10.0.0.2 7002", "10.0.0.3 7003", "::1 7006"])
        // A node that keeps CLUSTER NODES to itself.
        let without = try SlotMap(
            slots: .array([range(0, 16383, (.bulk(""), 7001))]), nodes: .error("NOPERM no"), asked: "h")
        #expect(without.members.count == 1 && without.owner(7)?.host == "h")
    }

    @Test func whatIsNoMapIsRefused() throws {
        let many = RESPValue.array(
            [.integer(0), .integer(1)]
                + (0..<5000).map { .array([.bulk("h\($0)"), .integer(1)]) })
        let bad: [RESPValue] = [
            .error("ERR This instance has cluster support disabled"), .null, .array([]), .integer(1),
            .array([.integer(1)]), .array([range(0, 16384, (.bulk("h"), 1))]), .array([range(-1, 0, (.bulk("h"), 1))]),
            .array([range(5, 4, (.bulk("h"), 1))]), .array([.array([.integer(0), .integer(1)])]),
            .array([range(0, 1, (.bulk("?"), 1))]), .array([range(0, 1, (.bulk("h"), 0))]),
            .array([range(0, 1, (.bulk("h"), 65536))]), .array([range(0, 1, (.bulk("a b"), 1))]),
            .array([range(0, 1, (.bulk(String(repeating: "h", count: 256)), 1))]), .array([many]),
            .array([RESPValue](repeating: range(0, 0, (.bulk("h"), 1)), count: 16385)),
        ]
        for value in bad {
            #expect(throws: SlotMap.Malformed.self) { try SlotMap(slots: value, nodes: .null, asked: "h") }
        }
        // So many members as ranges can name, each once.
        let wide = RESPValue.array((0..<5000).map { range(Int64($0), Int64($0), (.bulk("h\($0)"), 1)) })
        #expect(throws: SlotMap.Malformed.self) { try SlotMap(slots: wide, nodes: .null, asked: "h") }
    }

    @Test func redirectionsAreRead() {
        func read(_ text: String) -> Redirection? { Array("\(text)\r\n".utf8).withUnsafeBytes { Redirection($0) } }
        #expect(read("-MOVED 3999 127.0.0.1:6381") == .moved(slot: 3999, host: "127.0.0.1", port: 6381))
        #expect(read("-MOVED 0 ::1:7000") == .moved(slot: 0, host: "::1", port: 7000))
        #expect(read("-ASK 16383 :6381") == .ask(slot: 16383, host: "", port: 6381))
        #expect(read("-TRYAGAIN Multiple keys request during rehashing of slot") == .tryAgain)
        #expect(read("-CLUSTERDOWN The cluster is down") == .clusterDown)
        for text in [
            "-MOVED 16384 h:1", "-MOVED -1 h:1", "-MOVED x h:1", "-MOVED 1 h", "-MOVED 1 h:x", "-MOVED 1", "-MOVED",
            "-MOVED 1 h:1 more", "+MOVED 1 h:1", "-MOVEDX 1 h:1", "-ERR MOVED 1 h:1", "-A", "-TRYAGAIN",
            "-CLUSTERDOWNX ",
            "-MOVED 1 \(String(repeating: "h", count: 400)):1",
        ] { #expect(read(text) == nil, "\(text)") }
    }
}

@Suite struct SlotRefreshTests {
    private let pause = RedisProxyLimits.slotRefreshPauseNanoseconds

    /// `#expect` takes no call that changes a value.
    private final class Refresh {
        var value: SlotRefresh
        init(now: UInt64) { value = SlotRefresh(now: now) }
        var isAsking: Bool { value.isAsking }
        func tick(now: UInt64) -> Bool { value.tick(now: now) }
        func wanted(now: UInt64) -> Bool { value.wanted(now: now) }
        func answered(now: UInt64, random: UInt64) { value.answered(now: now, random: random) }
        func failed(now: UInt64, random: UInt64) { value.failed(now: now, random: random) }
        func isLate(now: UInt64) -> Bool { value.isLate(now: now) }
    }

    @Test func manyReasonsMakeOneQuestion() {
        let refresh = Refresh(now: 5)
        #expect(refresh.tick(now: 5))
        #expect(!refresh.tick(now: 6) && !refresh.wanted(now: 6) && refresh.isAsking)
        refresh.answered(now: 10, random: 0)
        // It was wanted while the answer was on its way, which may be older than the reason.
        #expect(!refresh.tick(now: 11))
        #expect(refresh.tick(now: 5 + pause))
        refresh.answered(now: 6 + pause, random: 0)
        #expect(!refresh.tick(now: 6 + 2 * pause))
        #expect(refresh.wanted(now: 6 + 3 * pause))
        refresh.answered(now: 7 + 3 * pause, random: 0)
        #expect(!refresh.wanted(now: 8 + 3 * pause))
        #expect(refresh.tick(now: 6 + 4 * pause))
    }

    @Test func nothingHappensAndItIsAskedAllTheSame() {
        for random in [0, UInt64.max] {
            let refresh = Refresh(now: 0)
            _ = refresh.tick(now: 0)
            refresh.answered(now: 0, random: random)
            let period = RedisProxyLimits.slotRefreshPeriodNanoseconds
            #expect(!refresh.tick(now: period / 4 * 3 - 1))
            #expect(refresh.tick(now: period))
        }
    }

    @Test func whoDoesNotAnswerIsAskedMoreSeldom() {
        let refresh = Refresh(now: 0)
        var now: UInt64 = 0
        var waits: [UInt64] = []
        for _ in 0..<8 {
            #expect(refresh.tick(now: now))
            refresh.failed(now: now, random: 0)
            let failedAt = now
            #expect(!refresh.wanted(now: now + pause / 2))
            while !refresh.tick(now: now) { now += 1_000_000 }
            waits.append(now - failedAt)
            refresh.failed(now: now, random: 0)
            now += 16 * pause
        }
        #expect(waits.first == 2 * pause && waits.last == 16 * pause)
        _ = refresh.tick(now: now)
        refresh.answered(now: now, random: 0)
        #expect(!refresh.isLate(now: now + .max / 2))
        _ = refresh.wanted(now: now + pause)
        #expect(!refresh.isLate(now: now + pause + RedisProxyLimits.slotAnswerNanosecondsMax))
        #expect(refresh.isLate(now: now + pause + RedisProxyLimits.slotAnswerNanosecondsMax + 1))
    }
}

@Suite struct ResendTests {
    private let second: UInt64 = 1_000_000_000

    @Test func onlyWhatWasNotCarriedOutGoesOutAgain() {
        func decide(_ refusal: ResendDecision.Refusal, isRead: Bool = false, resends: Int = 0, elapsed: UInt64 = 0)
            -> ResendDecision
        { ResendDecision(refusal, isRead: isRead, resends: resends, elapsed: elapsed, budget: second) }
        #expect(decide(.elsewhere) == .resend(afterNanoseconds: 0))
        #expect(decide(.elsewhere, resends: 4) == .resend(afterNanoseconds: 0))
        #expect(decide(.elsewhere, resends: 5) != .resend(afterNanoseconds: 0))
        for refusal in [ResendDecision.Refusal.elsewhereUnknown, .tryAgain, .clusterDown, .notSent] {
            #expect(decide(refusal) == .resend(afterNanoseconds: 10_000_000))
            #expect(decide(refusal, resends: 30) == .resend(afterNanoseconds: 200_000_000))
            #expect(decide(refusal, elapsed: second) == .giveUp)
            #expect(decide(refusal, resends: 30, elapsed: second - 200_000_000) == .giveUp)
            #expect(decide(refusal, resends: RedisProxyLimits.resendsMax) == .giveUp)
        }
        #expect(decide(.lost) == .giveUp && decide(.lost, isRead: true) == .resend(afterNanoseconds: 10_000_000))
        #expect(decide(.other) == .giveUp && decide(.other, isRead: true) == .giveUp)
    }

    private typealias Order = ResendOrder<String>

    private func wait(
        _ order: inout Order, _ number: UInt64, slot: Int?, isRead: Bool = false, to target: String = "home"
    ) {
        order.wait(.init(number: number, slot: slot, isRead: isRead, target: target))
    }

    @Test func nothingGoesOutAgainBeforeAllHasComeBack() {
        var order = Order()
        for _ in 0..<3 { order.sent() }
        wait(&order, 2, slot: 7)
        #expect(!order.isReady)
        wait(&order, 1, slot: 7)
        order.ended(3) { 9 }
        #expect(order.isReady)
        let round = order.round()
        #expect(round.resent.map(\.number) == [1, 2] && round.overtaken.isEmpty)
    }

    @Test func aWriteThatWasOvertakenIsGivenUpAndAReadIsNot() {
        var order = Order()
        for _ in 0..<5 { order.sent() }
        wait(&order, 1, slot: 7)
        wait(&order, 2, slot: 7, isRead: true)
        wait(&order, 3, slot: 8)
        order.ended(4) { 7 }
        wait(&order, 5, slot: 7)
        let round = order.round()
        #expect(round.overtaken.map(\.number) == [1])
        #expect(round.resent.map(\.number) == [2, 3, 5])
    }

    @Test func whatCameBeforeOvertakesNothing() {
        var order = Order()
        for _ in 0..<3 { order.sent() }
        wait(&order, 2, slot: 7)
        order.ended(1) { 7 }
        // Refused for good: it was not carried out.
        order.ended(3) { nil }
        #expect(order.round().resent.map(\.number) == [2])
    }

    @Test func oneSlotTakesOneWayAtATime() {
        var order = Order()
        for _ in 0..<4 { order.sent() }
        wait(&order, 1, slot: 7, to: "home")
        wait(&order, 2, slot: 7, to: "c")
        wait(&order, 3, slot: 7, to: "home")
        wait(&order, 4, slot: 8, to: "c")
        #expect(order.round().resent.map(\.number) == [1, 4])
        for _ in 0..<2 { order.sent() }
        #expect(!order.isReady && order.isWaiting)
    }

    @Test func keysAreFoundInAKeptCommand() {
        func keys(_ words: String...) -> CommandKeys {
            CommandKeys(
                Array("*\(words.count)\r\n".utf8) + words.flatMap { Array("$\($0.utf8.count)\r\n\($0)\r\n".utf8) })
        }
        #expect(keys("get", "k").slot == clusterSlot("k") && keys("GET", "k").isRead && !keys("GET", "k").mayWrite)
        #expect(keys("EVAL", "x", "2", "a{t}", "b{t}").keys.count == 2)
        #expect(keys("OBJECT", "ENCODING", "k").slot == clusterSlot("k"))
        #expect(keys("PING").slot == nil && keys("NOSUCH", "k").slot == nil && CommandKeys([]).slot == nil)
        #expect(keys("LPUSH", "k", "v").mayWrite)
    }
}
