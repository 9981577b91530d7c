import HotKeyRegistry
import HotKeyTestSupport
import Testing
import ZooKeeper

extension WithServers {
    /// What publishing costs the ensemble and what fits, on a real server.
    @Suite(.timeLimit(.minutes(5))) struct PublishCostTests {
        /// When each transaction took effect, by the server's own clock: the head, and each bucket that is written, is looked at at
        /// every version.
        private func modifications(
            of path: String, _ store: any CoordinationStore, _ times: Guarded<[Int64: Int64]>
        ) async {
            while !Task.isCancelled {
                guard let stat = try? await store.exists(path) else { continue }
                // Version 0 is of the initialisation.
                if stat.version > 0 { times.with { $0[stat.modifiedTransaction] = stat.modifiedAtMilliseconds } }
                try? await Task.sleep(for: .milliseconds(3))
            }
        }

        /// The most of the times in any window of a second.
        private func mostInASecond(_ times: [Int64]) -> Int {
            let times = times.sorted()
            return times.indices.map { first in times[first...].prefix { $0 < times[first] + 1_000 }.count }.max() ?? 0
        }

        /// - Parameter gather: 0 leaves all of it to the bound itself.
        @Test(arguments: [RegistryLimits.gatherMilliseconds, 0])
        func constantChurnMakesLessThanTwentyTransactionsASecond(gather: Int) async throws {
            let server = try await ZooKeeperServer.start()
            try await server.use { server in
                let app = try await TestApp(address: server.address)
                try await app.with { observer in
                    try await app.with { client in
                        try await app.initialise(client)
                        try await app.lead(client) { leadership in
                            let publisher = try await HotSetPublisher.open(
                                store: client, paths: app.paths, leadership: leadership, coordinator: leadership.agent,
                                gatherMilliseconds: gather, logger: app.logger)
                            let times = Guarded<[Int64: Int64]>([:])
                            let keys = (0..<4).map { KeyName("key-\($0)") }
                            let written = [app.paths.hot] + keys.map { app.paths.bucket($0.bucket) }
                            let first = try await observer.create(app.paths.root + "/first", [], mode: .ephemeral)
                            let before = try #require(try await observer.exists(first)).createdTransaction
                            let began = ContinuousClock.now
                            let observers = written.map { path in
                                { @Sendable in await modifications(of: path, observer, times) }
                            }
                            let rounds = try await running([{ try await publisher.run() }] + observers) {
                                var round = 0
                                while .now < began + .seconds(4) {
                                    round += 1
                                    // Each round changes all of them, and never back.
                                    let changes = keys.map {
                                        HotUpdate.set(record($0, copies: round % RegistryLimits.copiesMax))
                                    }
                                    await publisher.submit(changes)
                                    try await Task.sleep(for: .milliseconds(5))
                                }
                                return round
                            }
                            let seconds = (ContinuousClock.now - began) / .seconds(1)
                            #expect(Double(rounds * 4) / seconds > 200, "or it was no churn")
                            let last = try await observer.create(app.paths.root + "/last", [], mode: .ephemeral)
                            let after = try #require(try await observer.exists(last)).createdTransaction
                            let inAll = Int(after - before) - 1
                            let seen = times.with { $0 }
                            let most = mostInASecond(Array(seen.values))
                            print(
                                "churn, gathering \(gather) ms: \(inAll) transactions in \(seconds) s, at most \(most) in a second"
                            )
                            #expect(
                                seen.count > inAll / 2, "the observer saw most of them: \(seen.count) of \(inAll)"
                            )
                            #expect(inAll > Int(seconds * 5), "and it published all the while")
                            #expect(most < 20 && Double(inAll) < 20 * (seconds + 1))
                        }
                    }
                }
            }
        }

        /// What waits for nothing else is written when it comes, not when the time for gathering is over.
        @Test func aChangeByItselfIsPublishedAtOnce() async throws {
            let server = try await ZooKeeperServer.start()
            try await server.use { server in
                let app = try await TestApp(address: server.address)
                try await app.with { client in
                    try await app.initialise(client)
                    try await app.lead(client) { leadership in
                        let publisher = try await app.openPublisher(client, leadership)
                        try await running([{ try await publisher.run() }]) {
                            var shortest = Duration.seconds(60)
                            for number in 0..<20 {
                                let key = KeyName("key-\(number)")
                                let began = ContinuousClock.now
                                await publisher.submit([.set(record(key))])
                                while await !publisher.published.contains(where: { $0.key == key }) {
                                    try await Task.sleep(for: .milliseconds(1))
                                }
                                shortest = min(shortest, .now - began)
                                try await Task.sleep(for: .milliseconds(2 * RegistryLimits.gatherMilliseconds))
                            }
                            #expect(shortest < .milliseconds(RegistryLimits.gatherMilliseconds / 2))
                        }
                    }
                }
            }
        }

        /// The size of each node of the hot set, and the transaction that wrote it last.
        private func sizes(
            _ app: TestApp, _ store: any CoordinationStore
        ) async throws -> (head: NodeStat, buckets: [NodeStat]) {
            var buckets: [NodeStat] = []
            for index in 0..<RegistryLimits.bucketCount {
                buckets.append(try #require(try await store.exists(app.paths.bucket(index))))
            }
            return (try #require(try await store.exists(app.paths.hot)), buckets)
        }

        @Test func aBurstAndTenThousandKeysReachEveryoneAndWhatDoesNotFitIsRefused() async throws {
            let server = try await ZooKeeperServer.start()
            try await server.use { server in
                let app = try await TestApp(address: server.address)
                try await app.with { writer in
                    try await app.initialise(writer)
                    try await app.with { one in
                        try await app.with { two in
                            try await app.with { three in
                                let readers = [one, two, three].map {
                                    RegistrySubscriber(store: $0, paths: app.paths, logger: app.logger)
                                }
                                try await running(readers.map { reader in { try await reader.run() } }) {
                                    try await app.lead(writer) { try await fill(app, writer, readers, $0) }
                                }
                            }
                        }
                    }
                }
            }
        }

        private func fill(
            _ app: TestApp, _ writer: ZooKeeperClient, _ readers: [RegistrySubscriber], _ leadership: Leadership
        ) async throws {
            let publisher = try await app.openPublisher(writer, leadership)
            @Sendable func expect(_ keys: Set<KeyName>, _ what: String) async throws {
                try await eventually("published: \(what)") { Set(await publisher.published.map(\.key)) == keys }
                let published = await publisher.published
                for reader in readers {
                    try await follow(reader, what) { $0.hot == published && $0.view == .fresh && $0.problems.isEmpty }
                }
                let sizes = try await sizes(app, writer)
                #expect(sizes.head.dataLengthBytes <= RegistryLimits.headBytesMax)
                #expect(sizes.buckets.allSatisfy { $0.dataLengthBytes <= RegistryLimits.bucketBytesMax })
            }
            try await running([{ try await publisher.run() }]) {
                let burst = (0..<500).map { KeyName("product:burst:\($0)") }
                let began = ContinuousClock.now
                for part in 0..<10 {
                    #expect(await publisher.submit(burst[part * 50..<(part + 1) * 50].map { .set(record($0)) }).isEmpty)
                    try await Task.sleep(for: .milliseconds(100))
                }
                try await expect(Set(burst), "the burst")
                print("500 keys in a second: everyone had them \(ContinuousClock.now - began) after the first")

                let keys = burst + (0..<9_500).map { KeyName("shop:product:detail:\(10_000_000 + $0)") }
                let changed = ContinuousClock.now
                #expect(await publisher.replaceAll(keys.map { record($0) }).isEmpty)
                try await expect(Set(keys), "ten thousand keys")
                print("10,000 keys: everyone had them after \(ContinuousClock.now - changed)")
                // Split over 512 KiB: several transactions, the head in the last.
                let sizes = try await sizes(app, writer)
                let bytes = sizes.buckets.reduce(0) { $0 + Int($1.dataLengthBytes) }
                let transactions = Set(sizes.buckets.map(\.modifiedTransaction))
                #expect(
                    bytes > RegistryLimits.multiBytesMax && transactions.count > 1, "\(bytes) bytes, \(transactions)")
                #expect(sizes.head.modifiedTransaction == transactions.max())

                let more = await publisher.submit([.set(record("one too many"))])
                #expect(more.map(\.reason) == [.tooManyKeys])
                #expect(more[0].description.contains("the hot set is full, 10000 keys"))
                try await expect(Set(keys), "the ten thousand, unchanged")
                await publisher.submit([.remove("one too many")])

                // Keys of the greatest length, until buckets are full.
                let long = String(repeating: "k", count: RegistryLimits.keyBytesMax - 5)
                let longKeys = (0..<4_000).map { KeyName("\(long)\(10_000 + $0)") }
                let refused = await publisher.replaceAll(longKeys.map { record($0) })
                let reasons = Set(refused.map(\.reason))
                #expect(reasons == [.bucketFull] && refused.allSatisfy { $0.description.contains("is full; it waits") })
                #expect(app.lines.all.contains { $0.hasPrefix("warning") && $0.contains("were refused") })
                #expect(await publisher.metrics.refused == refused.count + 1)
                let fitting = Set(longKeys).subtracting(refused.map(\.key))
                #expect(fitting.count > 2_000, "\(fitting.count)")
                try await eventually("everything that fits") { await publisher.published.count == fitting.count }
                try await expect(fitting, "what fits, whole")
                let tooLong = await publisher.submit([.set(record(KeyName(longKeys[0].bytes + [0x78])))])
                #expect(tooLong.map(\.reason) == [.keyTooLong])
            }
        }
    }
}
