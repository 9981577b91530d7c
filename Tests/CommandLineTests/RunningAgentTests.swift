import Glibc
import HotKeyTestSupport
import Testing

/// One `hkagent` of a test, on ports of its own.
struct RunningAgent: Sendable {
    let process: SpawnedProcess
    let appPort: Int
    let peerPort: Int
    let adminPort: Int

    static func start(
        _ hkctl: HKCtl, id: String, advertising peer: Int? = nil, settings: [String] = [],
        environment: [String: String] = [:]
    ) async throws -> RunningAgent {
        let (appPort, peerPort, adminPort) = (try FreePort.next(), try FreePort.next(), try FreePort.next())
        let advertised = peer.map { ["--advertise-peer", "127.0.0.1:\($0)"] } ?? []
        let process = try await SpawnedProcess.start(
            try BinaryLocator.path("hkagent"),
            [
                "run", "--id", id, "--threads", "1", "--listen", "127.0.0.1:\(appPort)", "--peer",
                "127.0.0.1:\(peerPort)",
                "--admin", "127.0.0.1:\(adminPort)",
            ] + advertised + settings, environment: hkctl.environment.merging(environment) { $1 })
        let agent = RunningAgent(process: process, appPort: appPort, peerPort: peerPort, adminPort: adminPort)
        try await eventually("agent \(id) is ready") {
            guard process.isRunning else { throw Unexpected("agent \(id) ended: \(process.allOutput)") }
            return try await agent.http("/readyz").hasPrefix("HTTP/1.1 200")
        }
        return agent
    }

    /// The whole answer; empty while nobody listens.
    func http(_ path: String) async throws -> String {
        do {
            let client = try await RedisTestClient.connect(port: adminPort)
            try await client.send(raw: "GET \(path) HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            let bytes = try await client.receiveRawToEnd()
            await client.close()
            return String(decoding: bytes, as: UTF8.self)
        } catch let error as TestSupportError where error.code == .connectionRefused {
            return ""
        }
    }

    func metric(_ name: String) async throws -> Int? {
        let line = try await http("/metrics").split(separator: "\n").first { $0.hasPrefix("\(name) ") }
        return line.flatMap { Int($0.dropFirst(name.count + 1)) }
    }

    func ask(_ words: String...) async throws -> JSON {
        let client = try await RedisTestClient.connect(port: peerPort)
        let reply = try await client.command(words)
        await client.close()
        guard case .bulk(let bytes) = reply else { throw Unexpected("\(words): \(reply)") }
        return try JSON(String(decoding: bytes, as: UTF8.self))
    }

    func client() async throws -> RedisTestClient { try await RedisTestClient.connect(port: appPort) }
    func lines(containing text: String) -> Int {
        process.allOutput.split(separator: "\n").filter { $0.contains(text) }.count
    }
}

/// What operators see of agents that really run.
@Suite(.serialized) struct RunningAgentTests {
    /// An app with one real cache node.
    private func withApp(_ body: (HKCtl, RedisServer) async throws -> Void) async throws {
        let hkctl = try await HKCtl()
        try await RedisServer.start().use { cache in
            try await hkctl.done("init", "--nodes", "a=127.0.0.1:\(cache.port)")
            try await body(hkctl, cache)
        }
    }

    /// From the hit in an agent's memory to what an operator and Prometheus see of it.
    @Test func theStalenessServedIsMeasuredAndShown() async throws {
        try await withApp { hkctl, cache in
            // The node is not asked to tell of changes: a write past the agent is one that nobody hears of.
            let agent = try await RunningAgent.start(
                hkctl, id: "host-1",
                settings: ["--local-cache-probe-permille", "1000"],
                environment: ["HOTKEY_UPSTREAM_TRACK_HOT_KEYS": "false"])
            try await hkctl.done("pin", "item:42")
            let client = try await agent.client()
            try await client.command("SET", "item:42", "1")
            try await eventually("hits are compared") {
                try await client.command("GET", "item:42")
                return try await agent.ask("HK.STATUS")["staleness"]?["probes"] != 0
            }
            #expect(try await agent.metric("hotkey_staleness_differing_total") == 0)
            let direct = try await cache.client()
            var value = 1
            try await eventually("an old value was served and found out") {
                value += 1
                try await client.command("GET", "item:42")
                try await direct.command("SET", "item:42", "\(value)")
                try await client.command("GET", "item:42")
                return try await agent.metric("hotkey_staleness_differing_total") ?? 0 > 0
            }
            let metrics = try await agent.http("/metrics")
            #expect(metrics.contains("# TYPE hotkey_observed_staleness_seconds histogram\n"))
            #expect(metrics.contains("hotkey_observed_staleness_seconds_bucket{le=\"0.0\"} "))
            #expect(metrics.contains("hotkey_staleness_violations_total 0\n"))
            let text = try await hkctl.done("status")
            #expect(text.contains(" local hits compared with home, ") && text.contains(" differed, 0 beyond the cap; "))
            let staleness = try #require(try await hkctl.json("status")["staleness"])
            #expect(staleness["agents"] == 1 && staleness["violations"] == 0 && staleness["differing"] != 0)
            // No value lives for longer than a second where nobody tells of changes.
            let status = try await agent.ask("HK.STATUS")["staleness"]
            #expect(status?["histogram"]?[0]?["upToMilliseconds"] == 0, "\(String(describing: status))")
            await direct.close()
            await client.close()
            await agent.process.stop()
        }
    }

    @Test func anAddressThatOnlyThisHostReachesIsRefusedBeforeAnythingStarts() async throws {
        for verb in ["check", "run"] {
            let outcome = try await SpawnedProcess.run(
                try BinaryLocator.path("hkagent"), [verb, "--app", "shop", "--zookeeper", "zk1.example:2181"])
            #expect(outcome.status == 1)
            #expect(
                outcome.standardError.hasPrefix(
                    "error: peer (default): expected an address that other hosts can connect to"))
            #expect(outcome.standardError.contains("Set peer to an address that the other hosts reach"))
        }
        let outcome = try await SpawnedProcess.run(
            try BinaryLocator.path("hkagent"),
            ["check", "--app", "shop", "--zookeeper", "zk1.example:2181", "--advertise-peer", "127.0.0.1:7380"])
        #expect(outcome.status == 0 && outcome.standardError.contains("warning: advertisePeer is 127.0.0.1:7380"))
    }

    @Test func twoAgentsUnderOneAddressAreCountedOnceAndToldOf() async throws {
        try await withApp { hkctl, _ in
            let first = try await RunningAgent.start(hkctl, id: "host-1")
            // As where every host's agent names its own loopback.
            let second = try await RunningAgent.start(hkctl, id: "host-2", advertising: first.peerPort)
            func sum(_ metric: String) async throws -> Int {
                try await (first.metric(metric) ?? 0) + (second.metric(metric) ?? 0)
            }
            try await eventually("both are pulled, one as the other") {
                let (pulled, duplicates) = (
                    try await sum("hotkey_agents_pulled"), try await sum("hotkey_agents_duplicate")
                )
                return (pulled, duplicates) == (2, 1)
            }
            let text = "two agents of the registry answer as one"
            try await eventually("it is told") { first.lines(containing: text) + second.lines(containing: text) == 1 }
            let line = try #require(
                (first.process.allOutput + second.process.allOutput).split(separator: "\n").first { $0.contains(text) })
            #expect(line.contains(" error ") && line.contains("host-1") && line.contains("host-2"))
            #expect(line.contains("127.0.0.1:\(first.peerPort)"))
            // The pulls wait for the next report as before, and it is not told with each of them.
            let merged = try await sum("hotkey_frames_merged_total")
            try await eventually("two seconds of reports") {
                try await sum("hotkey_frames_merged_total") >= merged + 20
            }
            #expect(first.lines(containing: text) + second.lines(containing: text) == 1)
            // Put right: the registry names the agent that is meant.
            _ = await second.process.stop()
            let right = try await RunningAgent.start(hkctl, id: "host-2")
            try await eventually("two agents") {
                let both =
                    try await (first.metric("hotkey_agents_pulled") ?? 0) + (right.metric("hotkey_agents_pulled") ?? 0)
                let duplicates =
                    try await (first.metric("hotkey_agents_duplicate") ?? 0)
                    + (right.metric("hotkey_agents_duplicate") ?? 0)
                return both == 2 && duplicates == 0
            }
        }
    }

    /// A key becomes hot on a node that hangs, which that change has to wait for; switching off does not.
    @Test func switchingOffIsNotHeldUpByANodeThatHangs() async throws {
        try await withApp { hkctl, cache in
            let agent = try await RunningAgent.start(
                hkctl, id: "host-1", settings: ["--upstream-request-timeout-milliseconds", "60000"])
            let client = try await agent.client()
            #expect(try await client.command("SET", "item:42", "v") == .ok)
            cache.suspend()
            try await client.send(["SET", "item:42", "w"])
            try await eventually("the write is under way") {
                try await agent.http("/metrics").contains("hotkey_node_in_flight{node=\"a\"} 0\n") == false
            }
            try await hkctl.done("pin", "item:42")
            try await hkctl.done("mode", "off")
            try await eventually("it is off", timeout: .seconds(30)) {
                try await agent.ask("HK.STATUS")["mode"] == "off"
            }
            // The pin's change is still waiting for this, or was overruled while it did.
            #expect(try await agent.http("/metrics").contains("hotkey_node_timeouts_total{node=\"a\"} 0\n"))
            cache.resume()
            #expect(try await client.receive() == .ok)
            await client.close()
        }
    }

    @Test func withExternalDetectionNobodyDecidesAndItIsToldEverywhere() async throws {
        try await withApp { hkctl, _ in
            try await hkctl.done(
                "rules", "apply", "-", input: #"{"schema":1,"rules":[{"pattern":"*","thresholdPerSecond":100}]}"#)
            let agent = try await RunningAgent.start(hkctl, id: "host-1")
            let client = try await agent.client()
            /// Far over the threshold until `isDone`.
            func load(_ key: String, until isDone: () async throws -> Bool) async throws {
                try await eventually("load on \(key)") {
                    _ = try await client.pipeline(Array(repeating: ["GET", key], count: 100))
                    return try await isDone()
                }
            }
            try await load("before") {
                let key = try await agent.ask("HK.GET", "before")
                return key["state"] == "hot" && key["isLocalDecision"] == false
            }
            #expect(try await agent.ask("HK.STATUS")["detection"] == "embedded")
            #expect(try await agent.metric("hotkey_detection_external") == 0)
            #expect(try await agent.http("/readyz").hasSuffix("\r\n\r\nready\n"))

            try await setDetection("external", hkctl)
            try await eventually("it is in force") { try await agent.ask("HK.STATUS")["detection"] == "external" }
            #expect(try await agent.metric("hotkey_detection_external") == 1)
            let ready = try await agent.http("/readyz")
            #expect(
                ready.hasPrefix("HTTP/1.1 200")
                    && ready.contains("ready\nwarning: detection is external: no agent decides"))
            #expect(agent.lines(containing: "warning hkagent: detection is external") == 1)
            #expect(try await hkctl.done("status").contains("detection is external: no agent decides"))
            // Ten reports long, several times what either the agent or the coordinator takes to decide.
            let reports = try await agent.metric("hotkey_reports_total") ?? 0
            try await load("during") { try await agent.metric("hotkey_reports_total") ?? 0 > reports + 10 }
            #expect(try await agent.ask("HK.GET", "during")["state"] == "cold")
            #expect(try await agent.ask("HK.STATUS")["localHotKeys"] == 0)
            // What was published stays, and operators' decisions count.
            #expect(try await agent.ask("HK.GET", "before")["state"] == "hot")
            try await hkctl.done("pin", "pinned")
            try await eventually("the pin") { try await agent.ask("HK.GET", "pinned")["state"] == "pinned" }
            // Another mode does not change who decides.
            try await hkctl.done("mode", "observe")
            #expect(try await hkctl.json("mode")["detection"] == "external")

            try await setDetection("embedded", hkctl)
            try await load("after") { try await agent.ask("HK.GET", "after")["state"] == "hot" }
            #expect(agent.lines(containing: "detection is embedded again") == 1)
            #expect(try await agent.http("/readyz").hasSuffix("\r\n\r\nready\n"))
        }
    }

    /// No verb of `hkctl` sets it: written as any ZooKeeper client can.
    private func setDetection(_ detection: String, _ hkctl: HKCtl) async throws {
        let program = """
            import json, sys
            from kazoo.client import KazooClient
            client = KazooClient(sys.argv[1])
            client.start()
            data, stat = client.get(sys.argv[2])
            control = json.loads(data)
            control["detection"] = sys.argv[3]
            client.set(sys.argv[2], json.dumps(control).encode(), version=stat.version)
            client.stop()
            """
        let outcome = try await SpawnedProcess.run(
            "/usr/bin/python3", ["-c", program, hkctl.zookeeper, "\(hkctl.root)/shop/control", detection])
        guard outcome.status == 0 else { throw Unexpected("\(outcome)") }
    }

    @Test func readinessSaysThatTheAgentIsDrainingUntilItIsDone() async throws {
        try await withApp { hkctl, cache in
            let agent = try await RunningAgent.start(
                hkctl, id: "host-1",
                settings: [
                    "--shutdown-grace-milliseconds", "60000", "--upstream-request-timeout-milliseconds", "60000",
                ])
            let client = try await agent.client()
            #expect(try await client.command("SET", "k", "value") == .ok)
            cache.suspend()
            try await client.send(["GET", "k"])
            try await eventually("the request waits for the node") {
                try await agent.ask("HK.STATUS")["nodes"]?[0]?["inFlight"] == 1
            }
            agent.process.signal(SIGTERM)
            try await eventually("not ready") { try await agent.http("/readyz").hasPrefix("HTTP/1.1 503") }
            #expect(try await agent.http("/readyz").hasSuffix("not ready: the agent is shutting down\n"))
            #expect(try await agent.http("/healthz").hasPrefix("HTTP/1.1 200"))
            #expect(agent.process.isRunning)
            cache.resume()
            #expect(try await client.receive() == .text("value"))
            #expect(try await agent.process.waitForExit() == .exited(0))
            #expect(try await agent.http("/readyz") == "")
            #expect(agent.lines(containing: " error ") == 0, "an ordinary end is no error: \(agent.process.allOutput)")
        }
    }
}
