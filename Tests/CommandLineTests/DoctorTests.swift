import Foundation
import HotKeyTestSupport
import Testing

/// What doctor found: code and subject of each finding.
private struct Found {
    let outcome: SpawnedProcess.Outcome
    let json: JSON

    init(_ hkctl: HKCtl, _ arguments: String...) async throws {
        outcome = try await hkctl.run(["doctor", "--output", "json"] + arguments)
        json = try JSON(outcome.standardOutput)
        // Every finding says what to do.
        for finding in json["findings"]?.items ?? [] {
            #expect(finding.fields == ["code", "message", "remedy", "severity", "subject"])
            #expect(finding["remedy"]?.text?.isEmpty == false)
        }
        let errors = (json["findings"]?.items ?? []).filter { $0["severity"] == "error" }
        #expect(json["healthy"] == .bool(errors.isEmpty))
        #expect(outcome.status == (errors.isEmpty ? 0 : 1))
    }

    func has(_ code: String, _ subject: String, _ severity: String, saying text: String = "") -> Bool {
        (json["findings"]?.items ?? []).contains { finding in
            finding["code"]?.text == code && finding["severity"]?.text == severity
                && finding["subject"]?.text?.hasSuffix(subject) == true
                && (text.isEmpty || finding["message"]?.text?.contains(text) == true)
        }
    }

    var codes: [String] { (json["findings"]?.items ?? []).compactMap { $0["code"]?.text } }
}

@Suite struct DoctorTests {
    @Test func aRegistryThatIsRightIsSaidToBe() async throws {
        let hkctl = try await HKCtl.initialised()
        let found = try await Found(hkctl)
        #expect(found.codes == ["access-open", "agents-none"] && found.outcome.standardError.isEmpty)
        #expect(found.json.fields == ["agents", "app", "findings", "healthy", "servers"])
        #expect(found.json["servers"]?[0]?["mode"] == "standalone")
        #expect(found.json["servers"]?[0]?["version"] == "3.8.0")
        let text = try await hkctl.done("doctor")
        #expect(text.contains("warning access-open \(hkctl.root)/shop: ") && text.contains(". Remedy: "))
    }

    @Test func anAppThatIsNotThereOrAServerThatIsNot() async throws {
        let hkctl = try await HKCtl()
        let outcome = try await hkctl.run("doctor")
        #expect(outcome.status == 1 && outcome.standardError.contains("is not initialised"))
        var lost = hkctl
        lost.environment["HOTKEY_ZOOKEEPER"] = "127.0.0.1:\(try FreePort.next())"
        let nobody = try await lost.run("doctor", "--timeout", "1s")
        #expect(nobody.status == 1 && nobody.standardOutput.contains("error server-unreachable 127.0.0.1:"))
        #expect(nobody.standardError.contains("ZooKeeper does not answer"))
    }

    @Test func nodesThatAreMissingUnknownOrOfTheWrongOwner() async throws {
        let hkctl = try await HKCtl.initialised()
        let kazoo = Kazoo(hkctl: hkctl)
        try await kazoo.run(
            """
            zk.delete(app + "/hot/05"); zk.delete(app + "/rules")
            zk.create(app + "/notes", b""); zk.create(app + "/hot/zz", b"")
            agent = json.dumps({"schema": 1, "peer": "127.0.0.1:1", "version": "1", "startedAt": "2026-11-22T10:00:00Z"})
            zk.create(app + "/agents/ghost", agent.encode())
            zk.create(app + "/leader/candidate-0-0000000000", b'{"agent":"ghost","schema":1}')
            """)
        let holder = try await kazoo.hold(
            """
            data = zk.get(app + "/topology")[0]
            zk.delete(app + "/topology"); zk.create(app + "/topology", data, ephemeral=True); print("ready", flush=True)
            """)
        let found = try await Found(hkctl)
        #expect(found.has("node-missing", "/shop/hot/05", "error") && found.has("node-missing", "/shop/rules", "error"))
        #expect(
            found.has("node-unknown", "/shop/notes", "warning") && found.has("node-unknown", "/shop/hot/zz", "warning"))
        #expect(found.has("owner-wrong", "/agents/ghost", "error", saying: "no session holds it"))
        #expect(found.has("owner-wrong", "/leader/candidate-0-0000000000", "error", saying: "nobody may lead"))
        #expect(found.has("owner-wrong", "/shop/topology", "error", saying: "holds it, and it goes when"))
        await holder.stop()
    }

    @Test func documentsThatAreRubbishTooLargeOrNearTheirCap() async throws {
        let hkctl = try await HKCtl.initialised()
        try await Kazoo(hkctl: hkctl).run(
            """
            zk.set(app + "/rules", b"rubbish")
            zk.set(app + "/pins", b'{"schema":1,"pins":' + b" " * 600000 + b"[]}")
            zk.set(app + "/control", b'{"schema":1,"mode":' + b" " * 900 + b'"mitigate"}')
            zk.set(app + "/hot/07", b'{"schema":1,"version":0,"keys":[],"more":1}')
            head = json.loads(zk.get(app + "/hot")[0])
            head["version"] = 5; head["buckets"][3] = 5
            zk.set(app + "/hot", json.dumps(head).encode())
            zk.create(app + "/sources/flink", b"{}")
            """)
        let found = try await Found(hkctl)
        #expect(found.has("document-invalid", "/shop/rules", "error", saying: "last good one in force"))
        #expect(found.has("document-too-large", "/shop/pins", "error", saying: "its cap is 524288"))
        #expect(found.has("document-near-cap", "/shop/control", "warning", saying: "of at most 1024 bytes"))
        #expect(found.has("document-invalid", "/shop/hot/07", "error", saying: "more"))
        #expect(found.has("document-invalid", "/sources/flink", "error"))
        #expect(found.has("hot-set-torn", "/shop/hot/03", "error", saying: "which the head names"))
        // The remedies work.
        #expect(try await hkctl.run("init").status == 1)
        // The history cannot be kept in a document that is too large, and that is said.
        #expect(try await hkctl.run("rules", "apply", "-", input: "schema: 1\nrules: []\n").status == 0)
        let after = try await Found(hkctl)
        #expect(!after.codes.contains("hot-set-torn") && !after.has("document-invalid", "/shop/hot/07", "error"))
        #expect(!after.has("document-invalid", "/shop/rules", "error"))
    }

    @Test func accessControlThatIsNotAsTheRolesAskFor() async throws {
        let roles = try await Roles()
        let ann = roles.by("ann")
        try await ann.done("init", "--nodes", AccessTests.nodes, "--acl", roles.file)
        #expect(try await Found(ann).codes == ["agents-none"])
        try await Kazoo(hkctl: roles.hkctl, login: Roles.passwords["ann"]).run(
            """
            zk.set_acls(app + "/pins", [make_acl("world", "anyone", all=True)])
            roles = zk.get_acls(app + "/rules")[0]
            zk.set_acls(app + "/rules", [make_digest_acl("ann", "operator-secret", all=True)])
            zk.set_acls(app + "/hot/01", roles); zk.set_acls(app + "/hot/02", roles)
            other = make_digest_acl("bob", "another password", read=True)
            zk.set_acls(app + "/control", [other if acl.id.id.startswith("bob:") else acl for acl in roles])
            """)
        let found = try await Found(ann)
        #expect(
            found.has(
                "access-wrong", "/shop/pins", "error", saying: "world:anyone cdrwa, expected ann cdrwa, agent r, bob r")
        )
        #expect(found.has("access-wrong", "/shop/rules", "error"))
        #expect(found.has("access-wrong", "/shop/hot/01", "error", saying: "so it is for 1 more, the last"))
        #expect(found.has("access-wrong", "/shop/control", "error", saying: "of other passwords"))
        // A reader sees users, but no hashes, and not the roles; nobody sees nothing.
        let reader = try await Found(roles.by("bob"))
        #expect(reader.has("access-unverified", "/shop/access", "warning"))
        #expect(reader.has("clock-unknown", "servers", "warning"))
        let agent = try await Found(roles.by("agent"))
        #expect(agent.has("access-unverified", "/shop", "warning") && agent.has("access-wrong", "/shop/pins", "error"))
        #expect(agent.has("node-refused", "/shop/rules", "error"))
        #expect(try await Found(roles.by(nil)).has("node-refused", roles.hkctl.root, "error", saying: "more, the last"))
        // The remedy, in the words of the finding.
        let shown = try await ann.done("acl", "show", "--output", "json")
        try await ann.done("acl", "apply", "-", input: shown)
        #expect(try await Found(ann).codes == ["agents-none"])
    }

    @Test func agentsThatAreSilentBehindStaleOrOfAnotherTime() async throws {
        let hkctl = try await HKCtl.initialised()
        try await hkctl.done("mode", "observe")
        let untracked = """
            [{"name":"a","address":"10.0.0.1:6379","breaker":"closed","requests":1,"failures":0,"timeouts":0,"inFlight":0,\
            "tracking":"refused: NOPERM"},{"name":"b","address":"10.0.0.2:6379","breaker":"closed","requests":1,\
            "failures":0,"timeouts":0,"inFlight":0,"tracking":"on"},{"name":"c","address":"10.0.0.3:6379",\
            "breaker":"closed","requests":1,"failures":0,"timeouts":0,"inFlight":0}]
            """
        let stale = try await StandInAgent.start(
            hkctl, id: "host-1",
            answers: [
                "HK.STATUS": StandInAgent.status(id: "host-1", version: 7, view: "stale", nodes: untracked).dropLast()
                    + ",\"now\":\"2026-01-01T00:00:00Z\",\"documents\":{\"control\":0},\"cacheCapacityBytes\":0,\"staleness\":"
                    + "{\"probes\":900,\"differing\":3,\"violations\":2,\"unanswered\":0,\"worstMilliseconds\":1234.5,\"histogram\":[]}}"
            ])
        let dead = try await StandInAgent.start(hkctl, id: "host-2", answers: [:])
        await dead.process.kill()
        let found = try await Found(hkctl)
        #expect(found.has("agent-stale", "host-1", "error", saying: "stale since 1m5s"))
        #expect(found.has("agent-behind", "host-1", "warning", saying: "1/7, published is"))
        #expect(found.has("agent-behind", "host-1", "warning", saying: "version 0 of control, stored is 1"))
        #expect(found.has("agent-mode-differs", "host-1", "warning", saying: "mitigate, the fleet's is observe"))
        #expect(found.has("clock-skew", "host-1", "error", saying: "behind this host's"))
        #expect(found.has("agent-untracked", "host-1", "warning", saying: "node a (10.0.0.1:6379)"))
        #expect(!found.has("agent-untracked", "host-1", "warning", saying: "node b"))
        #expect(!found.has("agent-untracked", "host-1", "warning", saying: "node c"))
        #expect(
            found.has("agent-serves-stale", "host-1", "warning", saying: "of 900 local hits that it compared with home")
        )
        #expect(found.has("agent-uncached", "host-1", "warning", saying: "rule * has action both"))
        #expect(found.has("agent-silent", "host-2", "error", saying: "connection refused"))
        #expect(found.has("leader-none", "shop", "error", saying: "nobody coordinates"))
        await stale.stop()
    }

    @Test func serversThatAreNotOneEnsemble() async throws {
        let hkctl = try await HKCtl.initialised()
        let other = try await ZooKeeperServer.start()
        var both = hkctl
        both.environment["HOTKEY_ZOOKEEPER"] = "\(hkctl.zookeeper),\(other.connectString)"
        let outcome = try await both.run("doctor", "--output", "json", "--timeout", "10s")
        #expect(outcome.status == 1 && outcome.standardOutput.contains("servers-separate"))
        await other.stop()
        // One of them is gone: the session is with the other.
        let found = try await Found(both, "--timeout", "10s")
        #expect(found.has("server-unreachable", other.connectString, "error"))
    }

    @Test func anEnsembleSaysItsModesAndThatItHasNoMajority() async throws {
        try await ZooKeeperEnsemble.start(servers: 3).use { ensemble in
            var hkctl = try await HKCtl()
            hkctl.environment["HOTKEY_ZOOKEEPER"] = ensemble.connectString
            try await hkctl.done("init", "--nodes", AccessTests.nodes)
            let found = try await Found(hkctl)
            let modes = (found.json["servers"]?.items ?? []).compactMap { $0["mode"]?.text }.sorted()
            #expect(modes == ["follower", "follower", "leader"] && found.json["healthy"] == true)
            await ensemble.servers[0].kill()
            await ensemble.servers[1].kill()
            try await eventually("the last server has noticed") { await ensemble.servers[2].mode() == nil }
            let outcome = try await hkctl.run("doctor", "--timeout", "1s")
            #expect(outcome.status == 1)
            #expect(outcome.standardOutput.contains("error server-not-serving \(ensemble.servers[2].connectString): "))
            #expect(outcome.standardOutput.contains("error server-unreachable \(ensemble.servers[0].connectString): "))
        }
    }

    /// A server may be told to answer no words, and a real one is only ever of one version here: a listener that gives both
    /// answers stands beside the real server.
    @Test(arguments: [
        ("srvr is not executed because it is not in the whitelist.\n", "server-silent"),
        (
            "Zookeeper version: 3.4.14-4c25d480e66aadd371de8bd2fd8da255ac140bcf, built on 03/06/2019\nMode: follower\n",
            "server-versions-differ"
        ),
    ])
    func serversThatTellNothingOrAnotherVersion(answer: String, code: String) async throws {
        let hkctl = try await HKCtl.initialised()
        let listener = try await SpawnedProcess.start(
            "/usr/bin/python3",
            [
                "-c",
                """
                import socket, sys
                server = socket.create_server(("127.0.0.1", 0))
                print("listening %d" % server.getsockname()[1], flush=True)
                while True:
                    connection = server.accept()[0]
                    if connection.recv(4) == b"srvr":
                        connection.sendall(sys.argv[1].encode())
                    connection.close()
                """, answer,
            ])
        let port = try await listener.waitForLine(containing: "listening ").dropFirst("listening ".count)
        var both = hkctl
        both.environment["HOTKEY_ZOOKEEPER"] = "\(hkctl.zookeeper),127.0.0.1:\(port)"
        let outcome = try await both.run("doctor", "--output", "json", "--timeout", "20s")
        let json = try JSON(outcome.standardOutput)
        #expect((json["findings"]?.items ?? []).contains { $0["code"]?.text == code }, "\(outcome)")
        await listener.stop()
    }
}
