import HotKeyPeer
import RESP
import Testing

@testable import HotKeyScan

@Suite struct ClusterReplyTests {
    private let seed = ScanNode(name: "seed", address: .tcp(host: "10.0.0.9", port: 6379))

    private func range(
        _ host: String, _ port: Int64, replica: String = "10.0.0.5", from: Int64 = 0, through: Int64 = 100
    ) -> RESPValue {
        .array([
            .integer(from), .integer(through), .array([.bulk(host), .integer(port), .bulk("id")]),
            .array([.bulk(replica), .integer(7_000), .bulk("id2")]),
        ])
    }

    @Test func eachMasterOnce() throws {
        let slots = try ClusterReply.slots(
            .array([range("10.0.0.1", 6379), range("::1", 6380), range("10.0.0.1", 6379), range("", 6381)]),
            askedAt: seed)
        #expect(slots.count == 4 && slots.allSatisfy { $0.slots == 0...100 })
        let masters = ClusterReply.masters(slots)
        #expect(masters.map(\.name) == ["10.0.0.1:6379", "[::1]:6380", "10.0.0.9:6381"])
        #expect(masters[1].address == .tcp(host: "::1", port: 6380))
    }

    @Test func whatIsNoAnswerIsRefused() {
        for reply: RESPValue in [
            .null, .array([.integer(1)]), .array([range("a", 0)]), .array([range("a", 70_000)]), .array([]),
            .array([range("a", 1, from: -1)]), .array([range("a", 1, from: 101)]),
            .array([range("a", 1, from: 0, through: 16_384)]),
        ] {
            #expect(throws: ScanProblem.self) { try ClusterReply.slots(reply, askedAt: seed) }
        }
    }
}
