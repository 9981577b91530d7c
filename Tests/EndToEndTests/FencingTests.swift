import Foundation
import HotKeyPeer
import HotKeyTestSupport
import Testing

extension EndToEnd {
    /// A coordinator that stands still past its session's end, and wakes up.
    @Suite struct Fencing {
        private static let app = "/hotkeys/fencing"

        @Test func aCoordinatorThatWakesUpTooLatePublishesNothing() async throws {
            let zookeeper = try await ZooKeeperServer.start()
            let cache = try await RedisServer.start()
            let fleet = try Fleet(
                app: "fencing", zookeeper: zookeeper, caches: [cache], agentIDs: ["host-1", "host-2"])
            try await fleet.use { fleet in
                // One that stands still cannot end by itself.
                defer { for agent in fleet.agents { try? agent.process.resume() } }
                try await sleepAndWake(fleet)
            }
            await cache.stop()
            await zookeeper.stop()
        }

        private func sleepAndWake(_ fleet: Fleet) async throws {
            try await fleet.start()
            try await fleet.control("rules", "apply", fleet.file("rules.yaml", testRules))
            let old = try await fleet.leader()
            let next = try #require(fleet.agents.first { $0 !== old })
            let watching = try await SpawnedProcess.start(
                try SystemTool.python(), ["-u", "-c", Self.watchHead, fleet.zookeeper.connectString, Self.app])
            try await watching.waitForLine(containing: "watching")

            try await old.client().command("SET", "warm:before", "value")
            var loads = [load("warm:before", at: [old, next])]
            try await fleet.waitUntilPublished("warm:before")

            // Heat moves while the coordinator is about to publish, so that it falls asleep over its work.
            try await next.client().command("SET", "warm:asleep", "value")
            loads.append(load("warm:asleep", at: [next]))
            try old.process.suspend()
            let asleep = ContinuousClock.now
            try await eventually("agent \(next.id) leads") { try await next.status().leadership == "leader" }
            figure("coordinator stopped: another led after \((ContinuousClock.now - asleep).milliseconds) ms")
            try await next.client().command("SET", "warm:after", "value")
            loads.append(load("warm:after", at: [next]))
            try await fleet.waitUntilPublished("warm:after", at: [next])
            try await fleet.waitUntilPublished("warm:asleep", at: [next])

            try old.process.resume()
            let awake = ContinuousClock.now
            try await eventually("agent \(old.id) does not lead any more") {
                try await old.status().leadership != "leader"
            }
            figure("woken: it had stepped down after \((ContinuousClock.now - awake).milliseconds) ms")
            // It reports again, so that it has something to say; what it says goes by way of the one that leads.
            try await old.client().command("SET", "warm:woken", "value")
            loads.append(load("warm:woken", at: [old]))
            try await fleet.waitUntilPublished("warm:woken")
            try await fleet.waitUntilPublished("warm:after")
            try await eventually("both agents hold the same version") {
                let (one, other) = (try await old.status().view, try await next.status().view)
                return one.state == "fresh" && other.state == "fresh" && one.epoch == other.epoch
                    && one.version == other.version
            }
            #expect(try await next.status().leadership == "leader")
            #expect(try await old.status().coordinator == next.id)
            // The first one's client of the agent that stood still may have waited in vain.
            await loads.removeFirst().stop()
            for load in loads { #expect(await load.stop().failures == []) }

            let last = try await next.status().view.version
            try await watching.waitForLine("the head's version \(last)") { Head(line: $0)?.version ?? 0 >= last }
            expectOneWriterAfterAnother(
                watching.standardOutput.split(separator: "\n").compactMap { Head(line: String($0)) }, old, next)
            await watching.stop()
        }

        private func load(_ key: String, at agents: [Agent]) -> Load {
            Load.reading(key, expecting: "value", ports: agents.map(\.appPort), batch: 5, pauseMilliseconds: 5)
        }

        /// A head that was missed between two that were seen is told by the counts: from one head of an epoch to another the
        /// znode's version and the document's grow alike, or somebody else wrote in between.
        private func expectOneWriterAfterAnother(_ heads: [Head], _ old: Agent, _ next: Agent) {
            guard let taken = heads.firstIndex(where: { $0.coordinator == next.id }) else {
                Issue.record("no head by agent \(next.id): \(heads)")
                return
            }
            #expect(heads[..<taken].contains { $0.coordinator == old.id }, "\(heads)")
            for head in heads[taken...] {
                #expect(head.coordinator == next.id, "after \(next.id) had published: \(head)")
                #expect(head.epoch == heads[taken].epoch, "\(head)")
            }
            for (earlier, later) in zip(heads, heads.dropFirst()) {
                #expect((earlier.epoch, earlier.version) < (later.epoch, later.version), "\(earlier), then \(later)")
            }
            let (first, last) = (heads[taken], heads[heads.count - 1])
            #expect(
                last.version - first.version == last.znodeVersion - first.znodeVersion, "\(first) to \(last)")
        }

        private struct Head {
            var znodeVersion: Int64
            var epoch: Int64
            var version: Int64
            var coordinator: String

            /// As the script prints it: `head <znode's version> <epoch> <version> <coordinator>`.
            init?(line: String) {
                let words = line.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
                guard words.count == 5, words[0] == "head", let znodeVersion = Int64(words[1]),
                    let epoch = Int64(words[2]), let version = Int64(words[3])
                else { return nil }
                self.znodeVersion = znodeVersion
                self.epoch = epoch
                self.version = version
                coordinator = words[4]
            }
        }

        /// Prints every head that it sees. Arguments: servers, the app's znode.
        private static let watchHead = """
            import json, sys, threading
            from kazoo.client import KazooClient

            zk = KazooClient(hosts=sys.argv[1])
            zk.start(timeout=30)

            @zk.DataWatch(sys.argv[2] + "/hot")
            def seen(data, stat):
                if data is None:
                    return
                head = json.loads(data.decode("utf-8"))
                print("head", stat.version, head["epoch"], head["version"], head["coordinator"], flush=True)

            print("watching", flush=True)
            threading.Event().wait()
            """
    }
}
