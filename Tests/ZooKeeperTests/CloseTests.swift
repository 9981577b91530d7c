import Foundation
import HotKeyTestSupport
import Testing
import ZooKeeper

extension WithServers {
    @Suite(.timeLimit(.minutes(10))) struct Closing {
        /// The library loses the replies of some calls when it closes. A continuation that is lost hangs this test,
        /// one that is resumed twice traps. `ZOOKEEPER_CLOSE_CYCLES` makes it a soak.
        @Test func P1_P6_P7_everyCallIsResumedOnceWhenTheClientCloses() async throws {
            let address = try await SharedServer.address()
            let cycles = ProcessInfo.processInfo.environment["ZOOKEEPER_CLOSE_CYCLES"].flatMap(Int.init) ?? 200
            var outcomes: [String: Int] = [:]
            var resumed = 0
            for cycle in 0..<cycles {
                let client = ZooKeeperClient(configuration: try configuration(address), logger: testLogger())
                client.start()
                try await client.waitUntilConnected(timeoutMilliseconds: 30_000)
                try await withThrowingTaskGroup(of: String.self) { group in
                    for call in 0..<16 {
                        group.addTask {
                            do {
                                switch call % 4 {
                                case 0: _ = try await client.get("/", onEvent: { _ in })
                                case 1: _ = try await client.exists("/missing") { _ in }
                                case 2:
                                    try await client.multi([
                                        .check("/", version: -1), .check("/zookeeper", version: -1),
                                    ])
                                default: _ = try await client.children("/")
                                }
                                return "answered"
                            } catch let error as StoreError {
                                return "\(error.code)"
                            }
                        }
                    }
                    group.addTask {
                        // From "before the first call" to "after the last reply".
                        try await Task.sleep(for: .microseconds(cycle % 16 * 200))
                        await client.close()
                        return "closer"
                    }
                    for try await outcome in group {
                        outcomes[outcome, default: 0] += 1
                        resumed += 1
                    }
                }
            }
            #expect(resumed == cycles * 17)
            #expect(Set(outcomes.keys).isSubset(of: ["answered", "closed", "closer"]), "\(outcomes)")
            print("close cycles: \(cycles), outcomes: \(outcomes)")
        }

        @Test func P3_P4_closeIsIdempotentAndSafeAtAnyTime() async throws {
            let address = try await SharedServer.address()
            for delay in [0, 0, 1, 2, 5, 10, 20, 40] {
                let client = ZooKeeperClient(configuration: try configuration(address), logger: testLogger())
                client.start()
                if delay > 0 { try await Task.sleep(for: .milliseconds(delay)) }
                await withTaskGroup(of: Void.self) { group in
                    for _ in 0..<4 { group.addTask { await client.close() } }
                }
                await client.close()
                await expectError(.closed) { try await client.get("/") }
                client.start()
                #expect(client.connectionState == .lost)
            }
            let idle = ZooKeeperClient(configuration: try configuration(address), logger: testLogger())
            await idle.close()
        }

        /// P3, P5: a callback that wants to close can only begin it; joining would wait for itself.
        @Test func P3_closingFromACallbackOnlyBegins() async throws {
            let address = try await SharedServer.address()
            for _ in 0..<20 {
                let client = ZooKeeperClient(configuration: try configuration(address), logger: testLogger())
                client.start()
                let path = try await client.create("/test-\(randomToken())", mode: .ephemeral)
                let closing = Recorder<Task<Void, Never>>()
                _ = try await client.get(path) { _ in closing.record(Task { await client.close() }) }
                _ = await storeError { try await client.set(path, [1], version: nil) }
                try await closing.eventually("the event") { !$0.isEmpty }
                await closing.all.first?.value
            }
        }

        @Test func closingDuringAnOutageIsQuick() async throws {
            let proxy = try await FaultProxy.start(to: try await SharedServer.shared.server())
            let client = ZooKeeperClient(configuration: try configuration(proxy.address), logger: testLogger())
            client.start()
            try await client.waitUntilConnected(timeoutMilliseconds: 30_000)
            try await proxy.hang()
            let waiting = (0..<10).map { _ in Task { await storeError { try await client.get("/") }?.code } }
            try await Task.sleep(for: .milliseconds(50))
            let clock = ContinuousClock()
            let start = clock.now
            await client.close()
            #expect(start.duration(to: clock.now) < .seconds(8))
            for task in waiting { #expect(await task.value == .closed) }
            await proxy.stop()
        }
    }
}
