import Glibc
import HotKeyTestSupport
import Testing

/// top and get --explain, before agents that really run.
@Suite(.serialized) struct TopTests {
    /// Two agents before one cache node; the one that coordinates comes first.
    private func withFleet(
        _ body: (HKCtl, _ coordinator: RunningAgent, _ other: RunningAgent, _ names: [String]) async throws -> Void
    ) async throws {
        let hkctl = try await HKCtl()
        try await RedisServer.start().use { cache in
            try await hkctl.done("init", "--nodes", "a=127.0.0.1:\(cache.port)")
            try await hkctl.done("rules", "apply", "-", input: Self.rules)
            // What is not there would be hot as missing.
            let client = try await cache.client()
            #expect(try await client.command("SET", "item:42", "value") == .ok)
            await client.close()
            var agents: [String: RunningAgent] = [:]
            for id in ["host-1", "host-2"] { agents[id] = try await RunningAgent.start(hkctl, id: id) }
            var leader: String?
            try await eventually("somebody pulls both") {
                leader = try await hkctl.json("agents")["leader"]?.text
                guard let leader, let agent = agents[leader] else { return false }
                return try await agent.ask("HK.TOP")["agents"] == 2
            }
            let first = try #require(leader)
            let second = first == "host-1" ? "host-2" : "host-1"
            try await body(hkctl, try #require(agents[first]), try #require(agents[second]), [first, second])
        }
    }

    private static let rules =
        #"{"schema":1,"rules":[{"pattern":"*","thresholdPerSecond":100},{"pattern":"free:*","thresholdPerSecond":1000000}]}"#

    /// Asks for a key as fast as one connection can, until it is stopped.
    private func load(_ agent: RunningAgent, _ words: String...) async throws -> SpawnedProcess {
        try await SpawnedProcess.start(
            try SystemTool.redisBenchmark(),
            ["-p", "\(agent.appPort)", "-c", "1", "-n", "100000000", "-q"] + words)
    }

    private func number(_ value: JSON?) -> Double { if case .number(let number)? = value { number } else { -1 } }

    @Test func topShowsTheBusiestKeysAsTheCoordinatorSeesThem() async throws {
        try await withFleet { hkctl, coordinator, other, names in
            #expect(try await hkctl.done("top").contains("No key was asked for in the last second.\n"))
            // At the agent that does not coordinate, so that it went through its reports.
            let hot = try await load(other, "get", "item:42")
            let quiet = try await load(coordinator, "get", "free:1")
            let written = try await load(coordinator, "incr", "cart:7")
            try await eventually("the key is hot") {
                // Published, not only by an agent's own counts.
                let first = try await coordinator.ask("HK.GET", "item:42")
                let second = try await coordinator.ask("HK.GET", "cart:7")
                return first["sources"] == .array(["agents"]) && second["sources"] == .array(["agents"])
                    && second["kind"] == "write"
            }
            let outcome = try await hkctl.run(["top", "--count", "2", "--interval", "500ms", "--output", "json"])
            #expect(outcome.status == 0 && outcome.standardError.isEmpty, "\(outcome)")
            let turns = try outcome.standardOutput.split(separator: "\n").map { try JSON(String($0)) }
            #expect(turns.count == 2)
            for (turn, json) in turns.enumerated() {
                #expect(json["coordinator"]?.text == names[0] && json["agents"] == 2)
                let keys = try #require(json["keys"]?.items)
                let rates = keys.map { number($0["readsPerSecond"]) + number($0["writesPerSecond"]) }
                #expect(rates == rates.sorted(by: >) && keys.count == 3, "\(keys)")
                #expect(keys.allSatisfy { ($0["trend"] != nil) == (turn > 0) }, "\(keys)")
                let all = number(json["readsPerSecond"]) + number(json["writesPerSecond"])
                for (key, rate) in zip(keys, rates) { #expect(abs(number(key["share"]) - rate / all) < 0.001) }
                let item = try #require(keys.first { $0["key"] == "item:42" })
                #expect(
                    item["state"] == "hot" && item["kind"] == "read" && item["action"] == "both" && item["rule"] == 1)
                #expect(
                    abs(number(item["heat"]) * 100 - number(item["readsPerSecond"])) < 0.01 && item["writeShare"] == 0)
                let cart = try #require(keys.first { $0["key"] == "cart:7" })
                #expect(cart["kind"] == "write" && cart["action"] == "observe" && cart["writeShare"] == 1)
                let free = try #require(keys.first { $0["key"] == "free:1" })
                #expect(free["state"] == "cold" && free["action"] == "none" && free["pattern"] == "free:*")
                #expect(number(free["missShare"]) > 0 && item["missShare"] == 0, "\(free) \(item)")
                #expect(number(json["missesPerSecond"]) >= number(free["missesPerSecond"]), "\(json)")
            }
            let text = try await hkctl.done("top", "--keys", "1")
            #expect(text.contains(" accesses/s, ") && text.contains("2 agents, 2 hot keys, says \(names[0])\n"))
            #expect(text.split(separator: "\n").count == 3)

            // The load ends while it is watched: within two turns the last second has none of it.
            let top = try await hkctl.start("top", "--count", "4", "--interval", "1s", "--output", "json")
            try await top.waitForLine(containing: "\"key\":\"item:42\"")
            _ = await hot.kill()
            #expect(try await top.waitForExit() == .exited(0))
            let trends = try top.standardOutput.split(separator: "\n").map { line in
                try JSON(String(line))["keys"]?.items.first { $0["key"] == "item:42" }?["trend"]?.text ?? "-"
            }
            #expect(trends.count == 4 && trends[0] == "-" && trends.contains("falling"), "\(trends)")
            #expect(trends.last == "steady" || trends.last == "falling", "\(trends)")
            _ = await quiet.kill()
            _ = await written.kill()
        }
    }

    @Test func theCommandsAreTheCoordinatorsAlone() async throws {
        try await withFleet { _, coordinator, other, names in
            let client = try await RedisTestClient.connect(port: other.peerPort)
            for words in [["HK.TOP"], ["HK.TOP", "5"], ["HK.HEAT", "k"]] {
                let error = try await client.command(words).errorMessage
                #expect(error?.hasPrefix("ERR \(words[0]): this agent does not coordinate") == true)
            }
            let asked = try await RedisTestClient.connect(port: coordinator.appPort)
            for count in ["0", "1001", "-1", "x"] {
                #expect(
                    try await asked.command("HK.TOP", count).errorMessage == "ERR HK.TOP [count]: count is 1 to 1000")
            }
            #expect(
                try await asked.command("hk.heat").errorMessage == "ERR wrong number of arguments for 'hk.heat' command"
            )
            #expect(
                try await asked.command("HK.TOP", "1", "2").errorMessage?.contains("wrong number of arguments") == true)
            let heat = try await coordinator.ask("hk.heat", "never")
            #expect(heat["id"]?.text == names[0] && heat["keys"]?.items.count == 1)
            #expect(heat["keys"]?[0]?["state"] == "cold" && heat["keys"]?[0]?["readsPerSecond"] == 0)
        }
    }

    @Test func explainSaysWhyAndWhatEveryAgentDoes() async throws {
        try await withFleet { hkctl, coordinator, other, names in
            let load = try await load(coordinator, "get", "item:42")
            try await eventually("the key is hot, and everyone knows") {
                let first = try await coordinator.ask("HK.GET", "item:42")["state"]
                let second = try await other.ask("HK.GET", "item:42")["sources"]
                return first == "hot" && second == .array(["agents"])
            }
            let text = try await hkctl.done("get", "item:42", "--explain")
            #expect(text.contains("accesses/s (±") && text.contains(" times the 100/s of rule 1 (*)\n"), "\(text)")
            #expect(text.contains("% of all, says \(names[0])\n") && text.contains("when published  "))
            #expect(!text.contains("missing-hot: "))
            #expect(text.contains("sources         agents\n") && text.contains("mode            mitigate\n"))
            let json = try await hkctl.json("get", "item:42", "--explain")
            #expect(json["live"]?["detected"] == "hot" && json["record"]?["state"] == "hot")
            #expect(json["rules"]?["rule"]?["thresholdPerSecond"] == 100 && json["coordinator"]?.text == names[0])
            #expect(json["agents"]?.items.count == 2)
            for agent in json["agents"]?.items ?? [] {
                #expect(agent["answer"]?["action"] == "both" && agent["route"]?["home"]?["name"] == "a", "\(agent)")
                #expect(agent["problem"] == nil)
            }
            _ = await load.kill()
            try await eventually("it is under the threshold") {
                try await coordinator.ask("HK.HEAT", "item:42")["keys"]?[0]?["heat"] == 0
            }
            #expect(
                try await hkctl.done("get", "item:42", "--explain")
                    .contains("it is cold after 15s under 0.40 times the threshold, and at least 30s hot\n"))

            try await hkctl.done("pin", "launch")
            try await hkctl.done("deny", "noisy")
            try await eventually("both are in force") {
                let first = try await other.ask("HK.GET", "launch")["state"]
                let second = try await other.ask("HK.GET", "noisy")["state"]
                return first == "pinned" && second == "denied"
            }
            #expect(
                try await hkctl.done("get", "launch", "--explain").contains("pinned by ann: hot whatever its load\n"))
            #expect(try await hkctl.done("get", "noisy", "--explain").contains("denied by ann: never treated as hot"))
            #expect(try await hkctl.done("get", "cold", "--explain").contains("cold: it is under the threshold\n"))
            try await hkctl.done("mode", "observe")
            try await hkctl.done("rules", "apply", "-", input: #"{"schema":1,"rules":[{"pattern":"item:*"}]}"#)
            let free = try await hkctl.done("get", "free", "--explain")
            #expect(free.contains("no rule matches it, so detection never finds it hot\n"))
            #expect(free.contains("nothing is done with it: the mode is observe\n"))
        }
    }

    @Test func agentsThatHangAreNamedAndHoldUpNothing() async throws {
        try await withFleet { hkctl, coordinator, other, names in
            try await hkctl.done("pin", "item:42")
            other.process.suspend()
            let text = try await hkctl.done("get", "item:42", "--explain", "--timeout", "3s")
            let line = text.split(separator: "\n").first { $0.hasPrefix("\(names[1]) ") }
            #expect(line?.contains("no answer: no answer to HK.GET within 3000 ms") == true, "\(text)")
            #expect(text.contains("says \(names[0])"))

            // Both, so that nobody takes over however long this takes.
            coordinator.process.suspend()
            let alone = try await hkctl.run("top", "--timeout", "1s")
            let several = try await hkctl.run("top", "--timeout", "1s", "--count", "2", "--interval", "100ms")
            coordinator.process.resume()
            other.process.resume()
            #expect(alone.status == 1 && alone.standardOutput.isEmpty)
            // Where its session has ended meanwhile, it is missing.
            #expect(
                alone.standardError.hasPrefix("Error: \(names[0]) coordinates and gave no answer: 127.0.0.1:")
                    || alone.standardError.hasPrefix("Error: No agent of shop "), "\(alone)")
            #expect(several.status == 1 && several.standardOutput.split(separator: "\n").count == 2, "\(several)")
        }
    }

    @Test func ctrlCEndsItWithStatusZero() async throws {
        try await withFleet { hkctl, _, _, _ in
            for signal in [SIGINT, SIGTERM] {
                let top = try await hkctl.start("top", "--count", "100000", "--interval", "100ms", "--output", "json")
                try await top.waitForLine(containing: "\"coordinator\":")
                top.signal(signal)
                #expect(try await top.waitForExit() == .exited(0))
                #expect(top.standardError.isEmpty)
            }
        }
    }

    @Test func withoutAgentsNobodyCounts() async throws {
        let hkctl = try await HKCtl.initialised()
        let top = try await hkctl.run("top")
        #expect(top.status == 1 && top.standardOutput.isEmpty)
        #expect(top.standardError.hasPrefix("Error: No agent of shop is registered, so nobody counts.\n"))
        try await hkctl.done("pin", "k")
        let text = try await hkctl.done("get", "k", "--explain")
        #expect(text.contains("its load is not known: not published, and no coordinator answers\n"))
        #expect(
            text.contains("not known: No agent of shop is registered")
                && text.contains("No agent is registered: nobody does"))
    }

    @Test(arguments: [
        (["top", "--interval", "50ms"], "--interval: 100ms to 1h."), (["top", "--count", "0"], "--count: at least 1."),
        (["top", "--keys", "1001"], "--keys: 1 to 1000."), (["get", "--explain"], "Missing expected argument '<key>'"),
    ])
    func wrongUsageExits2(arguments: [String], message: String) async throws {
        let outcome = try await HKCtl().run(arguments)
        #expect(outcome.status == 2 && outcome.standardOutput.isEmpty)
        #expect(outcome.standardError.contains(message), "\(outcome.standardError)")
    }
}
