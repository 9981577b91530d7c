import HotKeyTestSupport
import Testing

/// agents, route and get --agents.
@Suite struct AgentTests {
    @Test func nobodyIsThere() async throws {
        let hkctl = try await HKCtl.initialised()
        #expect(try await hkctl.done("agents").hasPrefix("No agent of shop is registered."))
        #expect(try await hkctl.json("agents")["agents"]?.items.isEmpty == true)
        let route = try await hkctl.run("route", "item:42")
        #expect(route.status == 1)
        #expect(route.standardError.contains("No agent of shop is registered, so nobody can say where the key goes."))
    }

    @Test func answersAndSilenceSideBySide() async throws {
        let hkctl = try await HKCtl.initialised()
        let good = try await StandInAgent.start(
            hkctl, id: "host-1",
            answers: [
                "HK.STATUS": StandInAgent.status(id: "host-1", version: 7, view: "stale"),
                "HK.ROUTE": StandInAgent.route, "HK.GET": StandInAgent.key,
            ])
        let silent = try await StandInAgent.start(hkctl, id: "host-2", answers: nil)
        let foreign = try await StandInAgent.start(hkctl, id: "host-3", answers: [:])

        let start = ContinuousClock.now
        let text = try await hkctl.done("agents", "--timeout", "5s")
        #expect(ContinuousClock.now - start < .seconds(60))
        let lines = text.split(separator: "\n").map(String.init)
        #expect(lines[0].hasPrefix("AGENT   ADDRESS"))
        #expect(lines[1].hasPrefix("host-1  \(good.address)"))
        // The head that `init` writes has a newer epoch than this agent.
        #expect(lines[1].contains("1/7 (behind)  stale 1m5s"))
        #expect(lines[1].contains("1h2m"))
        #expect(lines[2].hasPrefix("host-2  \(silent.address)") && lines[2].contains("no answer"))
        #expect(text.contains("host-2 at \(silent.address) gave no answer: no answer to HK.STATUS within 5000 ms"))
        #expect(
            text.contains(
                "host-3 at \(foreign.address) gave no answer: HK.STATUS was answered with: ERR unknown command"))

        let json = try await hkctl.json("agents", "--timeout", "5s")
        #expect(json.fields == ["agents", "app", "epoch", "readAt", "version"])
        let agents = try #require(json["agents"])
        #expect(agents[0]?.fields == ["address", "id", "isReachable", "startedAt", "status", "version"])
        #expect(agents[0]?["status"]?["view"]?["version"] == 7 && agents[0]?["isReachable"] == true)
        #expect(agents[1]?["isReachable"] == false && agents[1]?["status"] == nil)

        let route = try await hkctl.done("route", "item:42", "--timeout", "5s")
        #expect(
            route.contains("home            a (127.0.0.1:7001)\n")
                && route.contains("copies          b (127.0.0.1:7002)\n"))
        #expect(try await hkctl.json("route", "item:42")["route"]?["home"]?["name"] == "a")
        let asked = try await hkctl.run("route", "item:42", "--agent", "host-3")
        #expect(
            asked.status == 1 && asked.standardError.contains("No agent could say where the key goes (asked 1 of 1)"))
        #expect(
            try await hkctl.run("route", "item:42", "--agent", "host-9").standardError.contains("No agent \"host-9\""))

        let get = try await hkctl.done("get", "item:42", "--agents", "--timeout", "5s")
        #expect(get.contains("host-1  hot    both         3     5230            -  by its own counts\n"))
        #expect(get.contains("no answer: no answer to HK.GET within 5000 ms"))
        #expect(
            try await hkctl.json("get", "item:42", "--agents", "--timeout", "5s")["agents"]?[0]?["answer"]?["action"]
                == "both")

        await silent.stop()
        await foreign.stop()
        await good.stop()
    }

    @Test func theStalenessServedIsTheWholeFleets() async throws {
        let hkctl = try await HKCtl.initialised()
        func start(_ id: String, _ staleness: String?) async throws -> StandInAgent {
            try await StandInAgent.start(
                hkctl, id: id, answers: ["HK.STATUS": StandInAgent.status(id: id, version: 7, staleness: staleness)])
        }
        let none =
            #"{"probes":0,"differing":0,"violations":0,"unanswered":0,"worstMilliseconds":0,"histogram":[]}"#
        let idle = try await start("host-0", none)
        #expect(
            try await hkctl.done("status").contains("staleness      none of 1 local hits has been compared with home\n")
        )
        #expect(try await hkctl.json("status")["staleness"]?["p99Milliseconds"] == nil)
        // 989 of 1000 were the same, 9 were out of date for up to 5 ms, one for up to 2.5 s.
        let agents = [
            try await start(
                "host-1",
                #"{"probes":600,"differing":10,"violations":1,"unanswered":2,"worstMilliseconds":2500.2,"histogram":"#
                    + #"[{"upToMilliseconds":0,"probes":590},{"upToMilliseconds":5,"probes":9},{"upToMilliseconds":5000,"probes":1}]}"#
            ),
            try await start(
                "host-2",
                #"{"probes":400,"differing":1,"violations":0,"unanswered":0,"worstMilliseconds":90000,"histogram":"#
                    + #"[{"upToMilliseconds":0,"probes":399},{"probes":1}]}"#),
            try await start("host-3", nil),
        ]
        let silent = try await StandInAgent.start(hkctl, id: "host-4", answers: nil)
        let text = try await hkctl.done("status", "--timeout", "5s")
        #expect(
            text.contains(
                "staleness      1000 of 3 local hits compared with home, 11 differed, 1 beyond the cap; "
                    + "out of date at most: p99 5ms, worst 1m30s\n"), "\(text)")
        #expect(text.contains("no figures     host-3: its version, 0.1.0, does not say\n"))
        #expect(text.contains("no figures     host-4: no answer to HK.STATUS within 5000 ms"))
        let staleness = try #require(try await hkctl.json("status", "--timeout", "5s")["staleness"])
        #expect(
            staleness["agents"] == 3 && staleness["probes"] == 1000 && staleness["differing"] == 11
                && staleness["violations"] == 1 && staleness["unanswered"] == 2)
        #expect(staleness["p99Milliseconds"] == 5 && staleness["worstMilliseconds"] == 90000)
        #expect(staleness["silent"]?.items.count == 2 && staleness["silent"]?[1]?["id"] == "host-4")
        await silent.stop()
        for agent in agents + [idle] { await agent.stop() }
    }

    /// Its node stands until its session ends; meanwhile nobody listens there.
    @Test func anAgentThatJustDied() async throws {
        let hkctl = try await HKCtl.initialised()
        let agent = try await StandInAgent.start(hkctl, id: "host-1", answers: [:])
        await agent.process.kill()
        let text = try await hkctl.done("agents")
        #expect(text.contains("host-1 at \(agent.address) gave no answer: connection refused"))
    }
}
