import Foundation
import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Counters that many clients raise and read through two agents while the hot set changes under them.
    ///
    /// A counter's value says when it was read: `INCR` answers n, so whoever is answered n knows that every value below is
    /// overwritten. Checked for each read:
    ///  - guarantee 1: it is not below the highest value that was acknowledged through the same agent before the read was sent;
    ///  - guarantee 2: it was not overwritten longer ago than the staleness cap when the read was sent.
    @Suite struct Hammer {
        static let cap: UInt64 = 120

        /// What is known of one counter.
        private struct Counter {
            /// The highest value acknowledged, by agent.
            var acknowledged = [Int64](repeating: 0, count: 2)
            /// When the value `index + 1` was known to be there, so that `index` was overwritten.
            var overwrittenAt: [Int64: ContinuousClock.Instant] = [:]
            /// For the quiet ones: not to be written before.
            var quietUntil = ContinuousClock.now
        }

        /// The first counters are written all the time, so that their copies hold nothing but tombstones; the others seldom enough
        /// for copies to be filled and read between two writes.
        private static let busy = 3
        private static let quiet = 12

        private struct Outcome {
            var reads = 0
            var writes = 0
            var failures = 0
            var oldValues = 0
        }

        @Test(arguments: [false, true])
        func withoutFaults(isTracking: Bool) async throws {
            try await run(seconds: 4, withFaults: false, isTracking)
        }
        @Test(arguments: [false, true])
        func whileNodesHang(isTracking: Bool) async throws { try await run(seconds: 5, withFaults: true, isTracking) }

        private func run(seconds: Int, withFaults: Bool, _ isTracking: Bool) async throws {
            let random = SeededGenerator(
                printing: "hammer\(withFaults ? " with faults" : "")\(isTracking ? ", tracking" : "")")
            let nodes = try await Rig.startNodes(3)
            let proxies = try await Self.proxies(before: nodes)
            // The second agent's bytes are late: its fills arrive after the first agent's writes.
            let late = try await Self.proxies(before: nodes)
            for proxy in late { try await proxy.delay(milliseconds: 7) }
            let configure: (inout ProxyConfiguration) -> Void = { configuration in
                configuration.requestTimeoutMilliseconds = withFaults ? 150 : 10_000
                configuration.breaker.openNanoseconds = 50_000_000
                configuration.breaker.openNanosecondsMax = 100_000_000
            }
            try await Rig.with(
                nodes: nodes, ports: proxies.map(\.port), isTracking: isTracking, configure: configure
            ) { first in
                try await Rig.with(
                    nodes: nodes, ports: late.map(\.port), isTracking: isTracking, configure: configure
                ) { second in
                    let keys = (0..<Self.busy + Self.quiet).map { first.key(on: $0 % 3, "hammer\($0)") }
                    let counters = keys.map { _ in Guarded(Counter()) }
                    let end = ContinuousClock.now + .seconds(seconds)
                    let outcome = try await withThrowingTaskGroup(of: Outcome.self) { group in
                        for worker in 0..<8 {
                            let agent = worker < 6 ? 0 : 1
                            group.addTask {
                                try await Self.work(
                                    worker, agent, agent == 0 ? first : second, keys, counters, until: end,
                                    SeededGenerator(seed: random.seed &+ UInt64(worker)))
                            }
                        }
                        group.addTask {
                            try await Self.flip(
                                [first, second], keys, until: end, SeededGenerator(seed: random.seed &+ 100))
                            return Outcome()
                        }
                        if withFaults {
                            group.addTask {
                                try await Self.disturb(proxies, until: end, SeededGenerator(seed: random.seed &+ 101))
                                return Outcome()
                            }
                        }
                        return try await group.reduce(into: Outcome()) {
                            $0.reads += $1.reads
                            $0.writes += $1.writes
                            $0.failures += $1.failures
                            $0.oldValues += $1.oldValues
                        }
                    }
                    let statistics = try await first.server.statistics()
                    print(
                        "hammer: \(outcome), local hits \(statistics.localHits), copy reads \(statistics.copyReads), fills "
                            + "\(statistics.copyFills), hot writes \(statistics.hotWrites), tombstone failures "
                            + "\(statistics.tombstoneFailures)")
                    // That it was a test of anything.
                    #expect(outcome.reads > 500 && outcome.writes > 100)
                    #expect(statistics.localHits > 50 && statistics.hotWrites > 50)
                    #expect(statistics.copyFills > 10 && statistics.copyReads > 10)
                    #expect(withFaults || outcome.failures == 0)
                }
            }
            for proxy in proxies + late { await proxy.stop() }
            for node in nodes { await node.stop() }
        }

        private static func work(
            _ worker: Int, _ agent: Int, _ rig: Rig, _ keys: [String], _ counters: [Guarded<Counter>],
            until end: ContinuousClock.Instant, _ seeded: SeededGenerator
        ) async throws -> Outcome {
            var random = seeded
            var outcome = Outcome()
            let client = try await rig.client(onLoop: worker % 2, version: 2 + worker / 2 % 2)
            while ContinuousClock.now < end {
                let isBusy = Int.random(in: 0..<3, using: &random) == 0
                let index =
                    isBusy
                    ? Int.random(in: 0..<busy, using: &random) : Int.random(in: busy..<keys.count, using: &random)
                let (key, counter) = (keys[index], counters[index])
                let quietFor = Int.random(in: 300...900, using: &random)
                let writes = counter.with { counter in
                    if isBusy { return Int.random(in: 0..<3, using: &random) == 0 }
                    guard counter.quietUntil < .now else { return false }
                    counter.quietUntil = .now + .milliseconds(quietFor)
                    return true
                }
                if writes {
                    let command: [String] =
                        switch Int.random(in: 0..<3, using: &random) {
                        case 0: ["INCR", key]
                        case 1: ["INCRBY", key, "1"]
                        default: ["EVAL", "return redis.call('incr',KEYS[1])", "1", key]
                        }
                    let reply = try await client.command(command)
                    let now = ContinuousClock.now
                    guard let value = reply.integer else {
                        outcome.failures += 1
                        continue
                    }
                    outcome.writes += 1
                    counter.with {
                        $0.acknowledged[agent] = max($0.acknowledged[agent], value)
                        $0.overwrittenAt[value - 1] = min($0.overwrittenAt[value - 1] ?? now, now)
                    }
                } else {
                    let sent = ContinuousClock.now
                    let least = counter.with { $0.acknowledged[agent] }
                    let reply: RedisTestValue =
                        switch Int.random(in: 0..<6, using: &random) {
                        case 0: try await Self.mget(client, keys, index)
                        case 1: try await client.command("GETRANGE", key, "0", "-1")
                        default: try await client.command("GET", key)
                        }
                    // A counter that nobody has raised yet reads as nothing, which is 0.
                    guard reply.errorMessage == nil, let value = reply.isNull ? 0 : Int64("0" + (reply.string ?? ""))
                    else {
                        outcome.failures += 1
                        continue
                    }
                    outcome.reads += 1
                    guard value >= least else {
                        throw TestSupportError(
                            .malformedReply,
                            "guarantee 1, worker \(worker), seed \(seeded.seed): read \(value) of \(key) after \(least) was acknowledged"
                        )
                    }
                    guard let overwritten = counter.with({ $0.overwrittenAt[value] }) else { continue }
                    if overwritten < sent { outcome.oldValues += 1 }
                    guard sent - overwritten <= .milliseconds(Self.cap) else {
                        throw TestSupportError(
                            .malformedReply,
                            "guarantee 2, worker \(worker), seed \(seeded.seed): read \(value) of \(key) \(sent - overwritten) after it was "
                                + "overwritten")
                    }
                }
            }
            await client.close()
            return outcome
        }

        private static func proxies(before nodes: [RedisServer]) async throws -> [FaultProxy] {
            var proxies: [FaultProxy] = []
            for node in nodes { proxies.append(try await FaultProxy.start(to: node)) }
            return proxies
        }

        private static func mget(_ client: RedisTestClient, _ keys: [String], _ index: Int) async throws
            -> RedisTestValue
        {
            let reply = try await client.command(["MGET"] + keys)
            return reply.elements?[index] ?? reply
        }

        /// Every key goes hot and cold, by every kind, at each agent for itself.
        private static func flip(
            _ rigs: [Rig], _ keys: [String], until end: ContinuousClock.Instant, _ seeded: SeededGenerator
        ) async throws {
            var random = seeded
            func policy(_ key: String) -> HotKeyPolicy? {
                guard Int.random(in: 0..<5, using: &random) > 0 else { return nil }
                let kind = [MitigationKind.cache, .copies, .copies, .both].randomElement(using: &random)!
                return hot(key, kind, copies: Int.random(in: 1...2, using: &random), capMilliseconds: Self.cap)
            }
            var policies = rigs.map { _ in keys.map { policy($0) } }
            while ContinuousClock.now < end {
                for (agent, rig) in rigs.enumerated() {
                    for index in 0..<busy { policies[agent][index] = policy(keys[index]) }
                    // A copy is read only a lifetime after its key became hot: most of these are left as they are.
                    if Int.random(in: 0..<4, using: &random) == 0 {
                        let index = Int.random(in: busy..<keys.count, using: &random)
                        policies[agent][index] = policy(keys[index])
                    }
                    let isOff = Int.random(in: 0..<60, using: &random) == 0
                    try await rig.apply(isOff ? .off : .mitigate, policies[agent].compactMap { $0 })
                }
                try await Task.sleep(for: .milliseconds(Int.random(in: 1...60, using: &random)))
            }
        }

        /// One node after the other does not answer for a while.
        private static func disturb(
            _ proxies: [FaultProxy], until end: ContinuousClock.Instant, _ seeded: SeededGenerator
        ) async throws {
            var random = seeded
            while ContinuousClock.now < end {
                let proxy = proxies.randomElement(using: &random)!
                switch Int.random(in: 0..<3, using: &random) {
                case 0: try await proxy.hang()
                case 1: try await proxy.stop(.serverToClient)
                default: try await proxy.resetConnections()
                }
                try await Task.sleep(for: .milliseconds(Int.random(in: 50...300, using: &random)))
                try await proxy.heal()
                try await Task.sleep(for: .milliseconds(Int.random(in: 200...600, using: &random)))
            }
        }
    }
}
