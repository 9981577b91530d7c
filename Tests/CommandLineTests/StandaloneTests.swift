import HotKeyTestSupport
import Testing

/// The built hkagent without a ZooKeeper.
@Suite struct StandaloneTests {
    private func run(_ arguments: String..., environment: [String: String] = [:]) async throws -> SpawnedProcess.Outcome
    {
        try await SpawnedProcess.run(BinaryLocator.path("hkagent"), arguments, environment: environment)
    }

    @Test func oneAgentFindsAndServesAHotKeyAndSaysThatItIsAlone() async throws {
        let redis = try await RedisServer.start()
        let directory = try TemporaryDirectory(prefix: "standalone")
        let rules = try directory.write(
            "schema: 1\nrules: [{pattern: 'item:*', thresholdPerSecond: 50, copies: 0, action: cache}]\n",
            to: "rules.yaml")
        let (app, peer, admin) = (try FreePort.next(), try FreePort.next(), try FreePort.next())
        let agent = try await SpawnedProcess.start(
            BinaryLocator.path("hkagent"),
            [
                "run", "--standalone", "--nodes", "a=\(redis.address)", "--rules", rules, "--threads", "1", "--listen",
                "127.0.0.1:\(app)", "--peer", "127.0.0.1:\(peer)", "--admin", "127.0.0.1:\(admin)",
            ])
        try await eventually("the agent is ready") {
            guard agent.isRunning else { throw Unexpected(agent.allOutput) }
            return try await http("/readyz", admin).hasPrefix("200 OK")
        }
        #expect(try await http("/readyz", admin).contains("standalone: no ZooKeeper"))
        #expect(agent.allOutput.contains("standalone: the registry is in this process's memory"))
        #expect(try await http("/metrics", admin).contains("\nhotkey_standalone 1\n"))

        let client = try await RedisTestClient.connect(port: app)
        #expect(try await client.command("SET", "item:42", "v1") == .simple("OK"))
        try await eventually("the key is hot and answered from the local cache") {
            for _ in 0..<20 { _ = try await client.command("GET", "item:42") }
            let key = try JSON(try await text(client.command("HK.GET", "item:42")))
            // Said by the coordinator that the agent elected, and not by the agent's own counts alone.
            guard key["state"] == "hot", key["isLocalDecision"] == false else { return false }
            return try await text(client.command("HK.STATUS")).contains("\"localHits\":0,") == false
        }
        let status = try JSON(try await text(client.command("HK.STATUS")))
        #expect(status["isStandalone"] == true && status["leadership"] == "leader" && status["app"] == "standalone")
        #expect(status["view"]?["state"] == "fresh")
        // A write through the agent is seen by the next read.
        #expect(try await client.command("SET", "item:42", "v2") == .simple("OK"))
        #expect(try await text(client.command("GET", "item:42")) == "v2")
        #expect(try JSON(try await text(client.command("HK.GET", "other")))["state"] == "cold")
        await client.close()
        #expect(await agent.stop() == .exited(0))
        await redis.stop()
    }

    @Test func whatContradictsIsRefused() async throws {
        for (arguments, environment, expected) in [
            (["--nodes", "a=h:1", "--zookeeper", "h:2"], [:], "--zookeeper: expected nothing beside standalone"),
            (["--nodes", "a=h:1"], ["HOTKEY_ROOT": "/x"], "HOTKEY_ROOT: expected nothing beside standalone"),
            (["--nodes", "a=h:1"], ["HOTKEY_ZOOKEEPER_AUTH": "a:b"], "HOTKEY_ZOOKEEPER_AUTH: expected nothing beside"),
            (["--nodes", "a=h:1", "--coordinator", "never"], [:], "--coordinator: expected auto beside standalone"),
            ([], [:], "nodes: expected NAME=HOST:PORT,… beside standalone, found none"),
            (["--nodes", "a=h:1", "--rules", "/no/such"], [:], "/no/such: expected a file that can be read"),
        ] as [([String], [String: String], String)] {
            let outcome = try await SpawnedProcess.run(
                BinaryLocator.path("hkagent"), ["check", "--standalone"] + arguments, environment: environment)
            #expect(outcome.status == 1, "\(outcome)")
            #expect(outcome.standardError.contains(expected), "\(outcome.standardError)")
        }
        let wrong = try await run("check", "--standalone", "--nodes", "a")
        #expect(wrong.status == 2 && wrong.standardError.contains("--nodes: expected NAME=HOST:PORT[:WEIGHT],…"))
        let alone = try await run("check", "--app", "shop", "--zookeeper", "h:1", "--nodes", "a=h:1")
        #expect(alone.status == 1 && alone.standardError.contains("--nodes: expected standalone beside it"))
        let fine = try await run("check", "--standalone", "--nodes", "a=h:1")
        #expect(fine.status == 0 && fine.standardError.isEmpty)
        let directory = try TemporaryDirectory(prefix: "standalone")
        let rules = try directory.write("schema: 1\nrules: [{pattern: '*', copeis: 1}]\n", to: "rules.yaml")
        let typo = try await run("check", "--standalone", "--nodes", "a=h:1", "--rules", rules)
        #expect(typo.status == 1 && typo.standardError.contains("\(rules):2:") && typo.standardError.contains("copeis"))
    }

    /// What a client gets, whatever kind of string it is.
    private func text(_ value: RedisTestValue) throws -> String {
        guard let text = value.string else { throw Unexpected("\(value)") }
        return text
    }

    private func http(_ path: String, _ port: Int) async throws -> String {
        let outcome = try await SpawnedProcess.run(
            "/usr/bin/python3",
            [
                "-c",
                """
                import sys, urllib.request, urllib.error
                try:
                    reply = urllib.request.urlopen(sys.argv[1], timeout=5)
                    print(reply.status, "OK"); print(reply.read().decode())
                except urllib.error.HTTPError as error:
                    print(error.code, error.read().decode())
                except OSError as error:
                    print(error)
                """, "http://127.0.0.1:\(port)\(path)",
            ])
        return outcome.standardOutput
    }
}
