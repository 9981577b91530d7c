import Foundation
import HotKeyTestSupport
import Testing

/// Sources beside the agents' own counts, up to what an agent acts on.
@Suite(.serialized) struct SourceTests {
    /// An app with one real cache node and one agent, whose hot keys cool within seconds.
    private func withAgent(_ body: (HKCtl, RedisServer, RunningAgent) async throws -> Void) async throws {
        let hkctl = try await HKCtl()
        try await RedisServer.start().use { cache in
            try await hkctl.done("init", "--nodes", "a=127.0.0.1:\(cache.port)")
            let rules = """
                {"schema":1,"rules":[{"pattern":"*","thresholdPerSecond":500,"coolDownSeconds":6,"minimumHotSeconds":1}]}
                """
            try await hkctl.done("rules", "apply", "-", input: rules)
            let agent = try await RunningAgent.start(hkctl, id: "host-1")
            try await body(hkctl, cache, agent)
            _ = await agent.process.stop()
        }
    }

    private func listed(_ key: JSON, _ agent: RunningAgent) async throws -> JSON? {
        try await agent.ask("HK.LIST")["keys"]?.items.first { $0["key"] == key }
    }

    /// A document whose candidates count so many seconds from now.
    private func put(_ name: String, grade: String, _ key: String, reads: Int, seconds: Int) -> String {
        """
        from datetime import datetime, timedelta, timezone
        at = (datetime.now(timezone.utc) + timedelta(seconds=\(seconds))).strftime("%Y-%m-%dT%H:%M:%SZ")
        document = {"schema": 1, "grade": "\(grade)",
                    "candidates": [{"key": "\(key)", "readsPerSecond": \(reads), "expiresAt": at}]}
        data = json.dumps(document).encode()
        zk.ensure_path(app + "/sources/\(name)")
        zk.set(app + "/sources/\(name)", data)
        """
    }

    @Test func aKeyIsHotBecauseASourceSaysSoAndCoolsWhenThatExpires() async throws {
        try await withAgent { hkctl, _, agent in
            let kazoo = Kazoo(hkctl: hkctl)
            try await kazoo.run(put("stream-1", grade: "exact", "item:7", reads: 2_100, seconds: 3_600))
            try await eventually("item:7 is hot on the agent") { try await listed("item:7", agent) != nil }
            let key = try #require(try await listed("item:7", agent))
            #expect(key["state"] == "hot" && key["sources"] == .array(["stream-1"]) && key["readsPerSecond"] == 2_100)
            #expect(key["isLocalDecision"] == false)
            // The agents count nothing of it, and that is not why it is what it is.
            let why = try #require(try await hkctl.json("get", "item:7", "--explain")["why"]?.items)
            #expect(
                why.first
                    == "stream-1 names it: 2100 accesses/s are 4.20 times the 500/s of rule 1 (*), when it was published"
            )
            #expect(!why.contains { "\($0)".contains("cold after") })
            #expect(try await agent.metric("hotkey_sources") == 1)

            // An estimate names it too, and proposes another one, which no agent acts on.
            try await kazoo.run(put("guess", grade: "estimate", "item:8", reads: 5_000, seconds: 3_600))
            try await eventually("item:8 is a candidate") {
                try await hkctl.json("list")["keys"]?.items.contains {
                    $0["key"] == "item:8" && $0["state"] == "candidate"
                }
                    == true
            }
            #expect(try await listed("item:8", agent) == nil)

            // Rubbish leaves the last good document in force, until its candidates end.
            try await kazoo.run(put("stream-1", grade: "exact", "item:7", reads: 2_100, seconds: 20))
            try await kazoo.run(#"zk.set(app + "/sources/stream-1", b"rubbish")"#)
            try await eventually("the rubbish is told") { agent.lines(containing: "a document was refused") >= 1 }
            #expect(try await listed("item:7", agent)?["state"] == "hot")
            try await eventually("item:7 is cold") { try await listed("item:7", agent) == nil }
            // On the way there it was cooling, which a look may miss.
            #expect(agent.states(of: "item:7") == ["hot", "cooling", "cold"])
        }
    }

    @Test func theCoordinatorScansTheNodesFromTimeToTime() async throws {
        let hkctl = try await HKCtl()
        try await RedisServer.start(extraArguments: ["--maxmemory-policy", "noeviction"]).use { cache in
            try await hkctl.done("init", "--nodes", "a=127.0.0.1:\(cache.port)")
            let agent = try await RunningAgent.start(hkctl, id: "host-1", settings: ["--scan-every-seconds", "1"])
            try await eventually("it is told that there are no counters") {
                agent.lines(containing: "its maxmemory-policy is noeviction") == 1
            }
            let client = try await cache.client()
            _ = try await client.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
            _ = try await client.command("SET", "item:42", "v")
            _ = try await client.pipeline(Array(repeating: ["GET", "item:42"], count: 2_000))
            try await eventually("a scan stands in the registry and is read") {
                try await agent.metric("hotkey_source_candidates") == 1
            }
            let document = try await JSON(
                Kazoo(hkctl: hkctl).run(#"print(zk.get(app + "/sources/scan")[0].decode())"#))
            #expect(document["grade"] == "estimate" && document["candidates"]?[0]?["key"] == "item:42")
            #expect(agent.lines(containing: "its maxmemory-policy is noeviction") == 1)
            // An operator's look at one node asks the same code.
            #expect(try await hkctl.done("scan").contains("item:42"))
            await client.close()
            _ = await agent.process.stop()
        }
    }

    @Test func aDeniedKeyIsNotTakenFromASource() async throws {
        try await withAgent { hkctl, _, agent in
            try await hkctl.done("deny", "item:9")
            let kazoo = Kazoo(hkctl: hkctl)
            try await kazoo.run(put("a", grade: "exact", "item:9", reads: 9_000, seconds: 3_600))
            try await kazoo.run(put("b", grade: "exact", "item:10", reads: 9_000, seconds: 3_600))
            try await eventually("item:10 is hot") { try await listed("item:10", agent) != nil }
            #expect(try await hkctl.json("get", "item:9")["record"]?["detected"] == nil)
            try await hkctl.done("undeny", "item:9")
            try await eventually("item:9 is hot") { try await listed("item:9", agent)?["sources"] == .array(["a"]) }
        }
    }

    /// What gathers while an agent hangs would all count in the moment in which it answers again, and pass for heat.
    @Test func aClientGivesUpWhatGatheredWhileItsAgentDidNotAnswer() async throws {
        let examples = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appending(path: "../../examples/python").standardizedFileURL.path
        let script = """
            import sys, time
            sys.path.insert(0, sys.argv[1])
            import report_accesses as example
            class Agent:
                calls = 0
                told = 0
                def pipeline(self, transaction): return Pipeline(self)
            class Pipeline:
                def __init__(self, agent): self.agent, self.reads = agent, 0
                def execute_command(self, name, key, reads, writes): self.reads += reads
                def execute(self):
                    self.agent.calls += 1
                    if self.agent.calls == 1: time.sleep(1.5)
                    self.agent.told += self.reads
            agent = Agent()
            counter = example.AccessCounter(agent)
            counter.count("k", reads=1)
            while not agent.calls: time.sleep(0.01)
            for _ in range(1000): counter.count("k", reads=1)
            while counter.lost != 1000: time.sleep(0.01)
            counter.count("k", reads=7)
            counter.close()
            assert (agent.told, counter.reported, counter.lost) == (8, 8, 1000), (agent.told, counter.reported, counter.lost)
            """
        let outcome = try await SpawnedProcess.run("/usr/bin/python3", ["-B", "-c", script, examples])
        #expect(outcome.status == 0, "\(outcome)")
    }

    /// The very file that the documentation shows.
    @Test func aClientThatReportsItsOwnAccessesMakesAKeyHot() async throws {
        let example = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appending(path: "../../examples/python/report_accesses.py").standardizedFileURL.path
        try await withAgent { hkctl, cache, agent in
            let outcome = try await SpawnedProcess.run(
                "/usr/bin/python3",
                [
                    example, "--agent", "127.0.0.1:\(agent.appPort)", "--cache", "127.0.0.1:\(cache.port)", "--key",
                    "item:42", "--rate", "1500", "--seconds", "4",
                ])
            #expect(outcome.status == 0, "\(outcome)")
            let lines = outcome.standardOutput.split(separator: "\n").map(String.init)
            #expect(lines.first?.contains("0 lost") == true && !lines[0].hasPrefix("0 reads"), "\(outcome)")
            // No read went through the agent: what it knows came by HK.RECORD.
            let state = try JSON(lines.last ?? "")
            #expect(state["state"] == "hot" && state["key"] == "item:42", "\(outcome)")
            try await eventually("the coordinator has it from the reports") {
                try await hkctl.json("list")["keys"]?.items.contains {
                    $0["key"] == "item:42" && $0["sources"] == .array(["agents"])
                } == true
            }
        }
    }
}

extension RunningAgent {
    /// What its log says became of a key, in that order.
    fileprivate func states(of key: String) -> [String] {
        process.allOutput.split(separator: "\n").filter { $0.contains("hot set changed") && $0.contains("key=\(key) ") }
            .compactMap { $0.split(separator: "state=").last.map { String($0.prefix { $0.isLetter }) } }
    }
}
