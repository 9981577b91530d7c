import Foundation
import HotKeyTestSupport
import Testing

/// simulate: traces in, without any ZooKeeper but where the registry is asked.
@Suite struct SimulateTests {
    private static let nodes = ["--nodes", "a=10.0.0.1:6379,b=10.0.0.2:6379"]

    /// An `hkctl` that has no registry to ask.
    private func offline() async throws -> HKCtl {
        var hkctl = try await HKCtl()
        hkctl.environment["HOTKEY_ZOOKEEPER"] = "127.0.0.1:\(try FreePort.next())"
        return hkctl
    }

    private func rules(_ fields: String) -> String { #"{"schema":1,"rules":[{"pattern":"*",\#(fields)}]}"# }

    /// The node's clock, in microseconds.
    private func time(_ node: RedisTestClient) async throws -> Int {
        guard case .array(let parts) = try await node.command("TIME"), parts.count == 2,
            case .bulk(let seconds) = parts[0], case .bulk(let microseconds) = parts[1]
        else { throw TestSupportError(.malformedReply, "TIME") }
        func number(_ digits: [UInt8]) throws -> Int { try #require(Int(String(decoding: digits, as: UTF8.self))) }
        return try number(seconds) * 1_000_000 + number(microseconds)
    }

    /// 2,000 reads a second of one key from second 2 to 8, in lines of 20, and ten a second of another all along.
    private static let steady: String = {
        var lines = ["time,key,op,count"]
        for hundredth in 0..<2_000 {
            let time = "\(hundredth / 100).\(hundredth % 100 / 10)\(hundredth % 10)"
            if hundredth % 10 == 0 { lines.append("\(time),quiet,write,1") }
            if (200..<800).contains(hundredth) { lines.append("\(time),item:42,get,20") }
        }
        return lines.joined(separator: "\n") + "\n"
    }()

    /// 60 requests in a minute that stand in one line look like 600 a second: it is said.
    @Test func timesThatAreTooCoarseAreTold() async throws {
        let directory = try TemporaryDirectory()
        let hkctl = try await offline()
        let file = try directory.write(rules(#""thresholdPerSecond":1000"#), to: "rules.json")
        let coarse = try directory.write("time,key,count\n60,k,60\n120,k,60\n", to: "coarse.csv")
        let fine = try directory.write("time,key\n0.1,k\n0.1,k\n0.2,k\n", to: "fine.csv")
        // Far apart, but each by itself: nothing is counted together.
        let few = try directory.write("time,key\n1,k\n2,k\n9,k\n", to: "few.csv")
        for (trace, isCoarse) in [(coarse, true), (fine, false), (few, false)] {
            let arguments = ["simulate", "--rules", file, "--trace", trace] + Self.nodes
            let json = try JSON(try await hkctl.run(arguments + ["--output", "json"]).standardOutput)
            #expect(json["trace"]?["hasCoarseTimes"] == .bool(isCoarse), "\(json)")
            let text = try await hkctl.run(arguments).standardOutput
            #expect(text.contains("keys look up to 600 times as hot as they were") == isCoarse, "\(text)")
        }
    }

    @Test func aKeyOfAKnownRateIsHotWhenItMustBeAndCools() async throws {
        let directory = try TemporaryDirectory()
        let hkctl = try await offline()
        let trace = try directory.write(Self.steady, to: "trace.csv")
        let file = try directory.write(
            rules(#""action":"cache","coolDownSeconds":3,"minimumHotSeconds":1"#), to: "rules.json")
        let arguments = ["simulate", "--rules", file, "--trace", trace] + Self.nodes
        let outcome = try await hkctl.run(arguments + ["--output", "json"])
        #expect(outcome.status == 0 && outcome.standardError.isEmpty, "\(outcome)")
        let json = try JSON(outcome.standardOutput)
        #expect(json["trace"]?["format"] == "csv" && json["trace"]?["lines"] == 801)
        #expect(
            json["trace"]?["requests"] == 800 && json["trace"]?["reads"] == 12_000 && json["trace"]?["writes"] == 200)
        #expect(json["keys"]?.items.count == 1)
        let key = try #require(json["keys"]?[0])
        #expect(key["key"] == "item:42" && key["pattern"] == "*" && key["rule"] == 1 && key["times"] == 1)
        #expect(key["action"] == "cache" && key["kind"] == "read" && key["peakPerSecond"] == 2_000)
        let spell = try #require(key["spells"]?[0])
        func seconds(_ field: String) -> Double { if case .number(let value)? = spell[field] { value } else { -1 } }
        #expect(abs(seconds("hotAtSeconds") - 2.2) < 0.11, "\(spell)")
        #expect(abs(seconds("coolingAtSeconds") - 9.8) < 0.31, "\(spell)")
        #expect(abs(seconds("coldAtSeconds") - 11.8) < 0.31, "\(spell)")
        // 400 reads before it was hot, then one fill a second for six seconds.
        let homes = try #require(json["nodes"]?.items.filter { $0["name"] == key["home"] })
        guard case .number(let after)? = homes[0]["peakPerSecondAfter"],
            case .number(let before)? = homes[0]["peakPerSecondBefore"]
        else { throw Unexpected("\(homes)") }
        #expect(before >= 2_000 && after < before / 3, "\(homes)")

        let text = try await hkctl.run(arguments)
        #expect(text.status == 0)
        let lines = text.standardOutput.split(separator: "\n").map(String.init)
        #expect(lines.contains { $0.hasPrefix("trace        \(trace), csv, 801 lines") }, "\(text.standardOutput)")
        #expect(lines.contains { $0.hasPrefix("KEY      HOT AT") && $0.hasSuffix("RULE  HOME") })
        #expect(lines.contains { $0.hasPrefix("item:42    2.2s") || $0.hasPrefix("item:42    2.3s") }, "\(lines)")
        #expect(lines.contains { $0.hasPrefix("NODE  ADDRESS") && $0.contains("TAKEN OFF") })
        // The same trace gives the same answer.
        #expect(try await hkctl.run(arguments).standardOutput == text.standardOutput)
        // From standard input, shared by a fleet.
        let fleet = try await hkctl.run(
            ["simulate", "--rules", file, "--trace", "-", "--agents", "50"] + Self.nodes, input: Self.steady)
        #expect(fleet.status == 0 && fleet.standardOutput.contains("trace        standard input, csv"))
        #expect(fleet.standardOutput.contains("item:42 "))
    }

    @Test func whatMonitorPrintsIsReplayed() async throws {
        let directory = try TemporaryDirectory()
        let hkctl = try await offline()
        let trace = directory.file("monitor.log")
        try await RedisServer.start().use { redis in
            let monitor = try await SpawnedProcess.start(
                "/bin/sh", ["-c", "exec \(try SystemTool.redisCLI()) -p \(redis.port) monitor > \(trace)"])
            let client = try await redis.client()
            try await eventually("the monitor listens") {
                guard case .bulk(let list) = try await client.command("CLIENT", "LIST") else { return false }
                return String(decoding: list, as: UTF8.self).contains("cmd=monitor")
            }
            let burst = Array(repeating: ["GET", "item \"42\"\n"], count: 200)
            _ = try await client.pipeline(burst)
            // By the trace's clock, which is the node's, the key is hot then.
            let firstBurst = try await time(client)
            try await eventually("the node's clock has gone on") {
                try await time(client) > firstBurst + 300_000
            }
            _ = try await client.pipeline(burst)
            _ = try await client.command("SET", "other", String(repeating: "v", count: 2 << 20))
            _ = try await client.command("EVAL", "return redis.call('GET', KEYS[1])", "1", "scripted")
            _ = try await client.command("SET", "the last", "1")
            try await eventually("all is written down") {
                try String(contentsOfFile: trace, encoding: .utf8).contains(#""the last" "1""#)
            }
            _ = await monitor.stop()
        }
        let file = try directory.write(
            rules(#""thresholdPerSecond":50,"instantMultiple":1,"action":"cache","stalenessCapMilliseconds":5000"#),
            to: "r.json")
        let arguments = ["simulate", "--rules", file, "--trace", trace] + Self.nodes
        let outcome = try await hkctl.run(arguments + ["--output", "json"])
        #expect(outcome.status == 0, "\(outcome)")
        let json = try JSON(outcome.standardOutput)
        #expect(json["trace"]?["format"] == "monitor")
        #expect(json["trace"]?["requests"] == 403 && json["trace"]?["reads"] == 400 && json["trace"]?["writes"] == 3)
        #expect(json["trace"]?["commandsOfScripts"] == 1 && json["trace"]?["unknownCommands"] == 0)
        #expect(json["keys"]?.items.count == 1)
        #expect(json["keys"]?[0]?["key"] == "item \"42\"\n")
        // The second burst: one fill, the others from memory.
        #expect(json["keys"]?[0]?["localReads"] == 199, "\(json)")
        #expect(try await hkctl.run(arguments).standardOutput.contains(#"item "42"\x0a"#))
    }

    @Test func whatIsNotGivenIsTheRegistrys() async throws {
        let directory = try TemporaryDirectory()
        let hkctl = try await HKCtl.initialised()
        let trace = try directory.write(Self.steady, to: "trace.csv")
        let text = try await hkctl.done("simulate", "--trace", trace)
        #expect(text.contains("127.0.0.1:7001") && text.contains("127.0.0.1:7002") && text.contains("item:42"))
        try await hkctl.done(
            "rules", "apply", "-", input: rules(#""thresholdPerSecond":5000"#))
        #expect(try await hkctl.done("simulate", "--trace", trace).contains("No key would have been hot."))
        let cluster = try directory.write(
            #"{"schema":1,"kind":"cluster","nodes":[{"name":"a","address":"127.0.0.1:7001","weight":1}]}"#, to: "t.json"
        )
        let refused = try await hkctl.run("simulate", "--trace", trace, "--topology", cluster)
        #expect(refused.status == 1 && refused.standardError.contains("The topology is a Redis Cluster"))
    }

    @Test(arguments: [
        ("time,key\n1.5,k\n1.6\n", ":3: expected 2 fields as in the first line, found 1."),
        (
            "OK\n1.5 [0 h:1] \"get\" \"k\"\n1.6 [0 h:1] get\n1.7 [0 h:1] \"get\" \"k\"\n",
            ":3: expected a database and a client in brackets"
        ),
        ("time,key\n10,k\n5,k\n", ":3: expected a trace sorted by time (sort -n FILE…), found a step back by 5000 ms."),
        ("{\"time\":1}\n", ":1: expected a line of MONITOR"), ("", ": expected a trace, found nothing."),
        ("time,key\n1700000000000000,k\n", ":2: expected time: seconds such as"),
    ])
    func aBadLineIsNamedWithFileAndNumber(trace: String, message: String) async throws {
        let directory = try TemporaryDirectory()
        let file = try directory.write(trace, to: "bad.trace")
        let rules = try directory.write(rules(#""copies":1"#), to: "rules.json")
        let outcome = try await offline().run(["simulate", "--rules", rules, "--trace", file] + Self.nodes)
        #expect(outcome.status == 1 && outcome.standardOutput.isEmpty)
        #expect(outcome.standardError.hasPrefix("Error: \(file)\(message)"), "\(outcome.standardError)")
        #expect(outcome.standardError.hasSuffix("Nothing was simulated.\n"))
    }

    @Test func anEndInTheMiddleOfALineIsPassedOver() async throws {
        let directory = try TemporaryDirectory()
        let file = try directory.write("OK\n1.5 [0 h:1] \"get\" \"k\"\n1.6 [0 h:1] \"ge", to: "cut.trace")
        let rules = try directory.write(rules(#""copies":1"#), to: "rules.json")
        let outcome = try await offline().run(["simulate", "--rules", rules, "--trace", file] + Self.nodes)
        #expect(
            outcome.status == 0 && outcome.standardOutput.contains("passed over  the last line, which is not whole"),
            "\(outcome)")
    }

    @Test(arguments: [
        (["simulate"], "Missing expected argument '--trace <file>'"),
        (["simulate", "--trace", "t", "--agents", "0"], "--agents: 1 to 1000."),
        (["simulate", "--trace", "t", "--format", "pcap"], "The value 'pcap' is invalid for '--format <form>'"),
        (
            ["simulate", "--trace", "-", "--rules", "-"],
            "Standard input can be one of --trace, --rules and --topology only."
        ),
        (
            ["simulate", "--trace", "t", "--nodes", "a=h:1", "--topology", "f"],
            "--nodes and --topology: give one of them."
        ),
        (["simulate", "--trace", "t", "--nodes", "a"], "is not NAME=HOST:PORT"),
    ])
    func wrongUsageExits2(arguments: [String], message: String) async throws {
        let outcome = try await HKCtl().run(arguments)
        #expect(outcome.status == 2 && outcome.standardOutput.isEmpty)
        #expect(outcome.standardError.contains(message), "\(outcome.standardError)")
    }

    @Test func filesThatAreNotThereAreNamed() async throws {
        let directory = try TemporaryDirectory()
        let rules = try directory.write(rules(#""copies":1"#), to: "rules.json")
        let missing = directory.file("missing")
        let trace = try await offline().run(["simulate", "--rules", rules, "--trace", missing] + Self.nodes)
        #expect(
            trace.status == 1 && trace.standardError == "Error: \(missing) cannot be read: No such file or directory\n")
        let typo = try directory.write(#"{"schema":1,"rules":[{"pattern":"*","treshold":1}]}"#, to: "typo.json")
        let refused = try await offline().run(["simulate", "--rules", typo, "--trace", missing] + Self.nodes)
        #expect(refused.status == 1 && refused.standardError.contains("rules[0].treshold"), "\(refused.standardError)")
    }
}
