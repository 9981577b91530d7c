import Foundation
import HotKeyTestSupport
import Testing

@Suite struct WatchTests {
    @Test func oneLineAChangeUntilInterrupted() async throws {
        let hkctl = try await HKCtl.initialised()
        let watch = try await hkctl.start("watch")
        try await watch.waitForLine(containing: "Watching shop at \(hkctl.zookeeper): mode mitigate")
        try await hkctl.done("pin", "item:42", "--copies", "2", "--reason", "launch")
        try await watch.waitForLine("the change") { $0.contains("  pinned     item:42  by ann: launch, copies: 2") }
        try await hkctl.done("unpin", "item:42")
        try await watch.waitForLine("the change") { $0.hasSuffix("  unpinned   item:42") }
        try await hkctl.done("mode", "observe")
        try await watch.waitForLine("the change") { $0.contains("  mode       observe, detection embedded") }
        // Long enough for a busy machine to show it before it is over.
        try await hkctl.done("deny", "k", "--ttl", "6s")
        try await watch.waitForLine("the change") { $0.contains("  denied     k") }
        try await watch.waitForLine("the change") { $0.hasSuffix("  undenied   k  expired") }
        watch.signal(SIGINT)
        #expect(try await watch.waitForExit() == .exited(0))
        let lines = watch.standardOutput.split(separator: "\n")
        #expect(lines.map { $0.split(separator: " ")[1] } == ["pinned", "unpinned", "mode", "denied", "undenied"])
    }

    @Test func objectsByLineUntilTerminated() async throws {
        let hkctl = try await HKCtl.initialised()
        let watch = try await hkctl.start("watch", "--output", "json")
        try await watch.waitForLine(containing: "Watching shop")
        try await hkctl.done("rules", "apply", "-", input: #"{"schema":1,"rules":[{"pattern":"a*"},{"pattern":"*"}]}"#)
        try await hkctl.done("pin", "k")
        try await watch.waitForLine(containing: #""event":"pinned""#)
        watch.signal(SIGTERM)
        #expect(try await watch.waitForExit() == .exited(0))
        let objects = try watch.standardOutput.split(separator: "\n").map { try JSON(String($0)) }
        #expect(objects.map { $0["event"] } == ["rules", "pinned"])
        #expect(objects[0]["detail"] == "2 rules")
        #expect(objects[1]["key"] == "k" && objects[1]["decision"]?["author"] == "ann")
    }

    /// What the coordinator publishes, written here by the documented schema.
    @Test func statesOfDetectedKeys() async throws {
        let hkctl = try await HKCtl.initialised()
        let watch = try await hkctl.start("watch")
        try await watch.waitForLine(containing: "Watching shop")
        let publish = """
            import json, sys
            from kazoo.client import KazooClient
            client = KazooClient(sys.argv[1])
            client.start()
            app, state, version = sys.argv[2], sys.argv[3], int(sys.argv[4])
            head = json.loads(client.get(app + "/hot")[0])
            record = {"key": "item:42", "state": state, "kind": "read", "readsPerSecond": 5230.0, "errorPerSecond": 12.0,
                      "sources": sys.argv[5].split(), "since": "2026-11-22T10:00:00Z"}
            value = 0xcbf29ce484222325
            for byte in b"item:42":
                value = ((value ^ byte) * 0x100000001b3) % 2**64
            bucket = value % 64
            head["version"] = version
            head["buckets"][bucket] = 0 if state == "cold" else version
            head["coordinator"] = "host-1"
            keys = [] if state == "cold" else [record]
            transaction = client.transaction()
            transaction.set_data(app + "/hot/%02x" % bucket,
                                 json.dumps({"schema": 1, "version": version, "keys": keys}).encode())
            transaction.set_data(app + "/hot", json.dumps(head).encode())
            for result in transaction.commit():
                if isinstance(result, Exception):
                    raise result
            client.stop()
            """
        for (version, state) in ["hot", "sources", "cooling", "cold"].enumerated() {
            // News that only a source has made: the state is the same.
            let sources = state == "sources" ? "agents scan" : "agents"
            let published = state == "sources" ? "hot" : state
            let outcome = try await SpawnedProcess.run(
                "/usr/bin/python3",
                ["-c", publish, hkctl.zookeeper, "\(hkctl.root)/shop", published, "\(version + 1)", sources])
            #expect(outcome.status == 0, "\(outcome)")
            let line = try await watch.waitForLine("the change") {
                $0.split(separator: " ").dropFirst().first == Substring(state)
            }
            #expect(line.contains("item:42"))
            if state == "sources" {
                #expect(line.hasSuffix("  sources    item:42  read, 5230 reads/s, from agents and scan"))
            }
            if state == "hot" {
                #expect(line.hasSuffix("  hot        item:42  read, 5230 reads/s, from agents"))
                let table = try await hkctl.done("list")
                #expect(table.contains("item:42  hot    read     5230  12         0         0    rule"))
                let row = try await hkctl.json("list")["keys"]?[0]
                #expect(row?["detected"] == "hot" && row?["errorPerSecond"] == 12 && row?["sources"]?[0] == "agents")
            }
        }
        await watch.stop()
    }

    /// It goes on when ZooKeeper is back, and says what it missed.
    @Test func outlivesARestartOfZooKeeper() async throws {
        try await ZooKeeperServer.start().use { server in
            var hkctl = try await HKCtl()
            hkctl.environment["HOTKEY_ZOOKEEPER"] = server.connectString
            try await hkctl.done("init", "--nodes", "a=127.0.0.1:7001")
            let watch = try await hkctl.start("watch")
            try await watch.waitForLine(containing: "Watching shop")
            await server.stop()
            try await watch.waitForLine(containing: "stale: the connection to ZooKeeper is lost")
            try await server.start()
            try await hkctl.done("pin", "k", "--timeout", "30s")
            try await watch.waitForLine("the change") { $0.contains("  pinned     k") }
            try await watch.waitForLine(containing: "fresh: ZooKeeper is back")
            watch.signal(SIGINT)
            #expect(try await watch.waitForExit() == .exited(0))
        }
    }

    @Test func anAppThatIsNotThereIsNoReasonToWait() async throws {
        let hkctl = try await HKCtl()
        let outcome = try await hkctl.run("watch")
        #expect(outcome.status == 1)
        #expect(outcome.standardError.contains("The app \"shop\" is not initialised"))
    }
}
