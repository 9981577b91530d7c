import Foundation
import HotKeyRegistry
import HotKeyTestSupport
import Testing
import ZooKeeper

extension WithServers {
    /// What the documentation promises to those who do not use this library: docs/znode-schema.md.
    @Suite struct KazooTests {
        /// Follows the documentation only: reads every document, compares every key's bucket, and pins a key.
        private static let script = #"""
            import base64, json, sys
            from kazoo.client import KazooClient
            from kazoo.exceptions import BadVersionError

            address, app = sys.argv[1:3]

            def name(key):
                return base64.b64decode(key["b64"]) if isinstance(key, dict) else key.encode()

            def bucket(key):
                value = 0xcbf29ce484222325
                for byte in key:
                    value = ((value ^ byte) * 0x100000001b3) & (2 ** 64 - 1)
                return value & 63

            client = KazooClient(hosts=address)
            client.start(timeout=20)
            try:
                documents = {}
                for node in ["", "/control", "/rules", "/pins", "/topology", "/hot"]:
                    data, stat = client.get(app + node)
                    documents[node] = json.loads(data)
                    assert documents[node]["schema"] == 1, node
                head = documents["/hot"]
                assert len(head["buckets"]) == 64
                keys = {}
                for index, version in enumerate(head["buckets"]):
                    if version == 0:
                        continue
                    document = json.loads(client.get("%s/hot/%02x" % (app, index))[0])
                    assert document["version"] >= version
                    for record in document["keys"]:
                        key = name(record["key"])
                        assert bucket(key) == index, (key, index)
                        keys[key] = record["state"]
                agents = {agent: json.loads(client.get(app + "/agents/" + agent)[0])
                          for agent in client.get_children(app + "/agents")}
                leaders = sorted(client.get_children(app + "/leader"), key=lambda n: n[-10:])
                leader = json.loads(client.get(app + "/leader/" + leaders[0])[0])["agent"]

                while True:
                    data, stat = client.get(app + "/pins")
                    pins = json.loads(data)
                    entry = {"key": "from kazoo \U0001f600", "author": "kazoo", "reason": "by hand",
                             "copies": 2, "at": "2026-11-22T10:00:00Z"}
                    pins["pins"] = [p for p in pins["pins"] if p["key"] != entry["key"]] + [entry]
                    pins["history"].insert(0, {"at": entry["at"], "author": "kazoo", "verb": "pin", "key": entry["key"]})
                    pins["history"] = pins["history"][:200]
                    try:
                        client.set(app + "/pins", json.dumps(pins).encode(), version=stat.version)
                        break
                    except BadVersionError:
                        pass
                print(json.dumps({"keys": sorted(repr(k) for k in keys), "agents": sorted(agents), "leader": leader,
                                  "mode": documents["/control"]["mode"]}, sort_keys=True))
            finally:
                client.stop()
                client.close()
            """#

        @Test func kazooReadsEveryDocumentAndItsPinIsApplied() async throws {
            let app = try await TestApp()
            let directory = try TemporaryDirectory()
            let script = try directory.write(Self.script, to: "read.py")
            try await app.with { client in
                try await app.initialise(client)
                let subscriber = RegistrySubscriber(store: client, paths: app.paths, logger: app.logger)
                let presence = AgentPresence(
                    store: client, paths: app.paths, id: try AgentID("host-1"),
                    document: AgentDocument(peer: "127.0.0.1:7380", version: "0.1.0", startedAt: start),
                    logger: app.logger)
                try await running([{ try await subscriber.run() }, { try await presence.run() }]) {
                    try await eventually("the agent") { presence.isRegistered }
                    try await app.lead(client) { leadership in
                        let publisher = try await app.openPublisher(client, leadership)
                        let keys: [KeyName] = ["item:42", "ключ", KeyName([0xff, 0x00])]
                        await publisher.submit(keys.map { .set(record($0)) })
                        try await publisher.flush()
                        let outcome = try await SpawnedProcess.run(
                            try SystemTool.python(), [script, app.address, app.paths.appNode])
                        #expect(outcome.status == 0, "\(outcome)")
                        let expected =
                            #"{"agents": ["host-1"], "keys": ["b'\\xd0\\xba\\xd0\\xbb\\xd1\\x8e\\xd1\\x87'", "b'\\xff\\x00'", "b'item:42'"], "leader": "host-1", "mode": "mitigate"}"#
                        #expect(outcome.standardOutput.trimmingCharacters(in: .whitespacesAndNewlines) == expected)
                    }
                    try await eventually("the pin") {
                        subscriber.current.effectiveHotSet()["from kazoo 😀"]?.copies == 2
                    }
                    #expect(subscriber.current.problems.isEmpty)
                    // And it survives our own edits.
                    try await app.makeOperator(client).pin("ours")
                    #expect(try await app.makeOperator(client).history().map(\.author) == ["ann", "kazoo"])
                }
            }
        }
    }
}
