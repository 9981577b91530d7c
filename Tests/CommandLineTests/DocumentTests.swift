import HotKeyTestSupport
import Testing

/// init, rules, topology, mode and status.
@Suite struct DocumentTests {
    @Test func initialisingTwiceChangesNothing() async throws {
        let hkctl = try await HKCtl()
        let said = try await hkctl.done("init", "--nodes", "a=127.0.0.1:7001,b=[::1]:7002:3", "--hash", "md5")
        #expect(said.hasPrefix("Initialised shop: created ") && said.hasSuffix(" nodes under \(hkctl.root)/shop\n"))
        let again = try await hkctl.done("init", "--nodes", "a=127.0.0.1:7001,b=[::1]:7002:3", "--hash", "md5")
        #expect(again == "shop is initialised already (\(hkctl.root)/shop): nothing was missing\n")
        #expect(try await hkctl.done("init") == again)

        let other = try await hkctl.run("init", "--nodes", "a=127.0.0.1:7009")
        #expect(other.status == 1)
        #expect(other.standardError.contains("another topology than the one given, and keeps it"))
        #expect(try await hkctl.run("init", "--mode", "off").status == 1)
        let json = try await hkctl.json("init")
        #expect(
            json.fields == [
                "accessDiffers", "app", "created", "damaged", "modeDiffers", "restricted", "rewritten",
                "topologyDiffers", "znode",
            ])

        let topology = try await hkctl.json("topology", "show")
        #expect(topology["hash"] == "md5" && topology["distribution"] == "ketama")
        #expect(topology["nodes"]?[1]?["address"] == "[::1]:7002" && topology["nodes"]?[1]?["weight"] == 3)
    }

    @Test func rulesAreAppliedAllOrNothing() async throws {
        let hkctl = try await HKCtl.initialised()
        let directory = try TemporaryDirectory()
        let shown = try await hkctl.done("rules", "show")
        #expect(shown.hasPrefix("PATTERN  HOT FROM/S"))
        #expect(
            shown.contains(
                "\n*              1000      1s        15s  both         3           1s              1m  never held\n"))

        let good = try directory.write(
            "schema: 1\nrules:\n  - pattern: 'item:*'\n    thresholdPerSecond: 500\n    action: cache\n",
            to: "good.yaml")
        #expect(try await hkctl.done("rules", "validate", good) == "\(good) is valid: 1 rule\n")
        #expect(
            try await hkctl.done("rules", "apply", good, "--reason", "tuning")
                == "Applied 1 rule to shop (\(hkctl.root)/shop/rules version 1)\n")
        #expect(try await hkctl.done("rules", "apply", good) == "shop already has 1 rule: nothing changed\n")

        let bad = try directory.write("schema: 1\nrules:\n  - pattern: 'x'\n    treshold: 500\n", to: "bad.yaml")
        for verb in ["validate", "apply"] {
            let outcome = try await hkctl.run("rules", verb, bad)
            #expect(outcome.status == 1 && outcome.standardOutput.isEmpty)
            #expect(outcome.standardError.hasPrefix("Error: \(bad):4:5: rules[0].treshold: expected one of the fields"))
            #expect(outcome.standardError.contains("Nothing was changed."))
        }
        let json = try await hkctl.run(
            "rules", "validate", "-", input: #"{"schema":1,"rules":[{"pattern":"*","copies":99}]}"#)
        #expect(json.status == 1)
        #expect(json.standardError.contains("standard input:1:"))
        #expect(json.standardError.contains("rules[0].copies: expected a number from 0 to 64"))

        // What is shown can be applied.
        let current = try await hkctl.done("rules", "show", "--output", "json")
        #expect(try JSON(current)["rules"]?[0]?["thresholdPerSecond"] == 500)
        #expect(
            try await hkctl.done("rules", "apply", "-", input: current) == "shop already has 1 rule: nothing changed\n")
        #expect(try await hkctl.json("history")["history"]?[0]?["reason"] == "tuning")
    }

    @Test func theRuleThatAppliesIsExplained() async throws {
        let hkctl = try await HKCtl.initialised()
        let directory = try TemporaryDirectory()
        let file = try directory.write(
            """
            schema: 1
            rules:
              - pattern: "*"
              - pattern: "item:*"
                thresholdPerSecond: 500
              - pattern: "item:4?"
                action: cache
              - pattern: "user:*"
                missHoldMilliseconds: 500
                missIntervalMilliseconds: 250
            """, to: "rules.yaml")
        let json = try await hkctl.json("rules", "explain", "item:42", "--rules", file)
        #expect(json["matches"]?.items.compactMap { $0["pattern"]?.text } == ["item:4?", "item:*", "*"])
        #expect(json["matches"]?[0]?["applies"] == true && json["matches"]?[1]?["applies"] == false)
        #expect(json["rule"]?["action"] == "cache")
        let text = try await hkctl.done("rules", "explain", "item:7", "--rules", file)
        #expect(text.contains("from 500 accesses/s") && text.contains("applies"))
        #expect(text.contains("every read is told"), "\(text)")
        let users = try await hkctl.done("rules", "explain", "user:7", "--rules", file)
        #expect(users.contains("one read per 250ms is told at each agent, the others wait up to 500ms"), "\(users)")

        let weak = try directory.write(
            "schema: 1\nrules:\n  - pattern: '*'\n    thresholdPerSecond: 5000\n    thresholdShareOfNode: 0.05\n",
            to: "weak.yaml")
        let share = try await hkctl.done("rules", "explain", "k", "--rules", weak)
        #expect(share.contains("from 5% of what its node can carry, but no less than 100 accesses/s"), "\(share)")
        #expect(!share.contains("in force"))
        try await hkctl.done("rules", "apply", weak)
        #expect(try await hkctl.done("rules", "show").contains("5000 or 5% of node"))
        #expect(try await hkctl.done("rules", "show").contains("never held"))
        let unasked = try await hkctl.done("rules", "explain", "k")
        #expect(unasked.contains("not known: No agent of shop is registered"), "\(unasked)")
        let problem = try await hkctl.json("rules", "explain", "k")["threshold"]?["problem"]?.text
        #expect(problem?.hasPrefix("No agent of shop is registered") == true)
        try await hkctl.done("rules", "apply", "-", input: #"{"schema":1,"rules":[{"pattern":"*"}]}"#)

        // Of the registry's, which has the default rule alone; by nobody's rule no key is hot.
        #expect(try await hkctl.json("rules", "explain", "item:42")["matches"]?.items.count == 1)
        let narrow = try directory.write("schema: 1\nrules:\n  - pattern: 'user:*'\n", to: "narrow.yaml")
        let none = try await hkctl.done("rules", "explain", "item:42", "--rules", narrow)
        #expect(none == "No rule matches: item:42 is never hot.\n")
        let bad = try directory.write("schema: 1\nrules:\n  - patern: 'x'\n", to: "bad.yaml")
        let refused = try await hkctl.run("rules", "explain", "x", "--rules", bad)
        #expect(refused.status == 1 && refused.standardError.contains("bad.yaml"))
    }

    @Test func filesThatCannotBeRead() async throws {
        let hkctl = try await HKCtl.initialised()
        let missing = try await hkctl.run("rules", "apply", "/nowhere/rules.yaml")
        #expect(missing.status == 1)
        #expect(
            missing.standardError
                == "Error: /nowhere/rules.yaml cannot be read: No such file or directory\nNothing was changed.\n")
        let directory = try await hkctl.run("rules", "validate", "/tmp")
        #expect(directory.status == 1 && directory.standardError.contains("/tmp cannot be read: Is a directory"))
        let endless = try await hkctl.run("rules", "validate", "/dev/zero")
        #expect(endless.status == 1 && endless.standardError.contains("expected at most 65536 bytes"))
    }

    @Test func topology() async throws {
        let hkctl = try await HKCtl.initialised()
        let shown = try await hkctl.done("topology", "show")
        #expect(
            shown == """
                ketama over 2 nodes, hash fnv1a_64, hash tag {}

                NODE  ADDRESS         WEIGHT  ON THE RING
                a     127.0.0.1:7001       1  by its address
                b     127.0.0.1:7002       2  by its address

                """)
        let file = #"{"schema":1,"nodes":[{"name":"c","address":"127.0.0.1:7003","ringName":"c"}]}"#
        let said = try await hkctl.done("topology", "apply", "-", input: file)
        #expect(said == "Applied a topology of 1 node to shop (\(hkctl.root)/shop/topology version 1)\n")
        let twice = #"{"schema":1,"nodes":[{"name":"c","address":"h:1"},{"name":"c","address":"h:2"}]}"#
        let outcome = try await hkctl.run("topology", "apply", "-", input: twice)
        #expect(outcome.status == 1 && outcome.standardError.contains("nodes[1].name: expected each name once"))
        #expect(try await hkctl.json("topology", "show")["nodes"]?[0]?["ringName"] == "c")
    }

    @Test func mode() async throws {
        let hkctl = try await HKCtl.initialised()
        #expect(try await hkctl.done("mode") == "mitigate\n")
        #expect(try await hkctl.done("mode", "off").hasPrefix("Applied mode off to shop ("))
        #expect(try await hkctl.done("mode", "off") == "shop already has mode off: nothing changed\n")
        let mode = try await hkctl.json("mode")
        #expect(mode.fields == ["app", "detection", "mode", "stalenessCapMilliseconds", "version"])
        #expect(mode["mode"] == "off" && mode["version"] == 1)
        #expect(try await hkctl.json("history")["history"]?[0]?["detail"] == "mitigate to off")
    }

    @Test func statusAtAGlance() async throws {
        let hkctl = try await HKCtl.initialised()
        try await hkctl.done("pin", "a")
        try await hkctl.done("deny", "b")
        let text = try await hkctl.done("status")
        #expect(text.contains("mode           mitigate, detection embedded\n"))
        #expect(text.contains("decisions      1 pinned, 1 denied\n"))
        #expect(text.contains("topology       ketama over 2 nodes, hash fnv1a_64, hash tag {}\n"))
        let status = try await hkctl.json("status")
        #expect(status["agents"] == 0 && status["rules"] == 1 && status["pins"] == 1)
        #expect(status["hotSet"]?["version"] == 0 && status["problems"]?.items.isEmpty == true)
        #expect(status["leader"] == nil)
    }

    /// Someone wrote nonsense with another client: the rest is still shown, and one verb puts it right.
    @Test func aDamagedDocumentIsNamedAndReplaced() async throws {
        let hkctl = try await HKCtl.initialised()
        let path = "\(hkctl.root)/shop/rules"
        let write =
            "import sys; from kazoo.client import KazooClient; c = KazooClient(sys.argv[1]); c.start(); "
            + "c.set(sys.argv[2], b'{\"schema\":1,\"rulez\":[]}'); c.stop()"
        let written = try await SpawnedProcess.run("/usr/bin/python3", ["-c", write, hkctl.zookeeper, path])
        #expect(written.status == 0, "\(written)")

        let status = try await hkctl.run("status")
        #expect(status.status == 1)
        #expect(status.standardOutput.contains("mode           mitigate"))
        #expect(status.standardOutput.contains("unusable       \(path):1:"))
        let show = try await hkctl.run("rules", "show")
        #expect(show.status == 1)
        #expect(show.standardError.contains("\(path):1:13: rulez: expected one of the fields schema, rules"))
        #expect(show.standardError.contains("'hkctl --app shop rules apply FILE' replaces it."))
        #expect(try await hkctl.run("init").status == 1)
        try await hkctl.done("rules", "apply", "-", input: #"{"schema":1,"rules":[{"pattern":"*"}]}"#)
        try await hkctl.done("status")
    }

    /// Pins have no verb that replaces all of them: an import does, or beginning with none.
    @Test func damagedPinsAreNamedWithTheirRemedies() async throws {
        let hkctl = try await HKCtl.initialised()
        try await hkctl.done("pin", "item:42", "--reason", "launch")
        let saved = try await hkctl.done("export")
        let path = "\(hkctl.root)/shop/pins"
        try await Kazoo(hkctl: hkctl).run("zk.set(app + '/pins', b'{rubbish')")
        for arguments in [["pin", "k"], ["history"]] {
            let refused = try await hkctl.run(arguments)
            #expect(refused.status == 1)
            #expect(refused.standardError.contains("\(path):1:"), "\(arguments): \(refused)")
            #expect(refused.standardError.contains("'hkctl --app shop import FILE' replaces it"))
            #expect(refused.standardError.contains("zkCli.sh deleteall \(path)"))
        }
        try await hkctl.done("import", "-", "--reason", "rubbish in pins", input: saved)
        #expect(try await hkctl.done("history").contains("rubbish in pins"))
        try await Kazoo(hkctl: hkctl).run("zk.set(app + '/pins', b'{rubbish'); zk.delete(app + '/pins')")
        try await hkctl.done("init")
        try await hkctl.done("pin", "k")
    }
}
