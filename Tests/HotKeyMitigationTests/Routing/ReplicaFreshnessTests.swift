import HotKeyMitigation
import Testing

@Suite struct ReplicaFreshnessTests {
    private let history = Array("h".utf8)

    @Test func provesNothingBeforeTheReplicaHasCaughtUp() {
        var freshness = ReplicaFreshness()
        freshness.replicaSaid(offset: 100, history: history)
        #expect(freshness.heldUntil == nil)
        freshness.primarySaid(offset: 100, history: history, askedAt: 10)
        freshness.replicaSaid(offset: 99, history: history)
        #expect(freshness.heldUntil == nil)
        freshness.primarySaid(offset: 120, history: history, askedAt: 20)
        freshness.replicaSaid(offset: 110, history: history)
        #expect(freshness.heldUntil == 10)
        freshness.replicaSaid(offset: 120, history: history)
        #expect(freshness.heldUntil == 20)
    }

    @Test func anotherHistoryProvesNothing() {
        var freshness = ReplicaFreshness()
        freshness.primarySaid(offset: 100, history: history, askedAt: 10)
        freshness.replicaSaid(offset: 500, history: Array("other".utf8))
        #expect(freshness.heldUntil == nil)
        freshness.replicaSaid(offset: 100, history: history)
        #expect(freshness.heldUntil == 10)
        // A primary that began anew counts from another beginning.
        freshness.primarySaid(offset: 5, history: Array("other".utf8), askedAt: 20)
        #expect(freshness.heldUntil == nil)
    }

    @Test func coversWhatIsAfterTheFenceAndWithinTheAge() {
        #expect(ReplicaFreshness.covers(heldUntil: 50, fencedAt: 49, ageMax: 50, now: 100))
        #expect(!ReplicaFreshness.covers(heldUntil: 50, fencedAt: 50, ageMax: 50, now: 100))
        #expect(!ReplicaFreshness.covers(heldUntil: 50, fencedAt: 49, ageMax: 49, now: 100))
    }

    /// Writes, a stream that stops and goes, answers that are late or lost: every write that was acknowledged before the proven moment
    /// is among those that the replica has carried out.
    @Test func neverProvesMoreThanIsTrue() {
        for seed in 1...200 as ClosedRange<UInt64> {
            var random = SeededRandom(seed: seed)
            var freshness = ReplicaFreshness()
            var acknowledged: [(at: UInt64, offset: Int64)] = []
            var offset: Int64 = 0
            var carriedOut: Int64 = 0
            var asked: UInt64?
            var answered: (offset: Int64, askedAt: UInt64)?
            var replicaAnswer: Int64?
            var proofs = 0
            for now in 1...UInt64(400) {
                switch Int.random(in: 0..<8, using: &random) {
                case 0, 1:
                    offset += Int64.random(in: 1...50, using: &random)
                    acknowledged.append((now, offset))
                case 2, 3: carriedOut = .random(in: carriedOut...offset, using: &random)
                case 4: asked = now
                case 5: if let question = asked { answered = (offset, question) }
                case 6:
                    if let (offset, askedAt) = answered {
                        freshness.primarySaid(offset: offset, history: history, askedAt: askedAt)
                        (asked, answered) = (nil, nil)
                    }
                    replicaAnswer = carriedOut
                default:
                    guard let said = replicaAnswer else { continue }
                    freshness.replicaSaid(offset: said, history: history)
                    replicaAnswer = nil
                }
                guard let heldUntil = freshness.heldUntil else { continue }
                proofs += 1
                #expect(acknowledged.allSatisfy { $0.at >= heldUntil || $0.offset <= carriedOut }, "seed \(seed)")
            }
            #expect(proofs > 0, "seed \(seed)")
        }
    }
}
