import HotKeyTestSupport

/// Clients of other people: Debian's Python with `kazoo` and `redis`.
enum Python {
    /// Runs a script with arguments and returns what it printed. Throws with its traceback when it fails.
    @discardableResult
    static func run(_ script: String, _ arguments: String...) async throws -> String {
        let outcome = try await SpawnedProcess.run(
            try SystemTool.python(), ["-"] + arguments, standardInput: Array(script.utf8))
        guard outcome.status == 0 else { throw TestSupportError(.process, "a Python script failed: \(outcome)") }
        return outcome.standardOutput
    }

    /// Reads every znode of an app and checks it against the documented schema. Arguments: servers, the app's znode, the
    /// agents' ids with commas. Prints how many documents it read.
    static let readEveryDocument = """
        import json, re, sys
        from kazoo.client import KazooClient

        servers, app, agents = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
        zk = KazooClient(hosts=servers)
        zk.start(timeout=30)
        TIME = re.compile(r"^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d+)?Z$")
        count = 0

        def sorted_object(pairs):
            names = [name for name, _ in pairs]
            assert names == sorted(names), f"fields are not sorted: {names}"
            assert len(names) == len(set(names)), f"a field stands twice: {names}"
            return dict(pairs)

        def document(path, required, optional=(), bytes_max=1 << 20):
            global count
            data, stat = zk.get(path)
            assert len(data) <= bytes_max, f"{path}: {len(data)} bytes"
            found = json.loads(data.decode("utf-8"), object_pairs_hook=sorted_object)
            assert found["schema"] == 1, f"{path}: {found}"
            fields(path, found, ("schema",) + required, optional)
            count += 1
            return found, stat

        def fields(where, found, required, optional=()):
            missing = set(required) - set(found)
            unknown = set(found) - set(required) - set(optional)
            assert not missing and not unknown, f"{where}: missing {missing}, unknown {unknown}"

        def key(value):
            assert isinstance(value, str) or set(value) == {"b64"}, value

        document(app, (), bytes_max=1 << 10)
        control, _ = document(app + "/control", ("mode", "detection", "stalenessCapMilliseconds"), bytes_max=1 << 10)
        assert control["mode"] in ("off", "observe", "mitigate") and control["detection"] in ("embedded", "external")
        rules, _ = document(app + "/rules", ("rules",), bytes_max=64 << 10)
        assert any(rule["pattern"] == "*" for rule in rules["rules"])
        pins, _ = document(app + "/pins", ("pins", "denies", "history"), bytes_max=512 << 10)
        for entry in pins["pins"] + pins["denies"]:
            fields("pin", entry, ("key", "author", "at"), ("copies", "reason", "expiresAt"))
            key(entry["key"])
            assert TIME.match(entry["at"])
        assert any(entry["key"] == "read:pinned" and entry["reason"] == "for kazoo" for entry in pins["pins"])
        assert any(entry["key"] == "read:denied" for entry in pins["denies"])
        for entry in pins["history"]:
            fields("history", entry, ("at", "author", "verb"), ("key", "reason", "detail"))
        assert [e["verb"] for e in pins["history"] if e.get("key") == "read:pinned"] == ["pin"]
        topology, _ = document(
            app + "/topology", ("kind", "nodes", "hash", "distribution", "hashTag"), bytes_max=64 << 10)
        assert len(topology["nodes"]) == 3
        for node in topology["nodes"]:
            fields("node", node, ("name", "address", "weight"), ("ringName",))

        RECORD = ("key", "state", "readsPerSecond", "since")
        RECORD_OPTIONAL = (
            "kind", "writesPerSecond", "bytesPerSecond", "missesPerSecond", "errorPerSecond", "copies", "copyState",
            "sources")
        # A bucket may be newer than the head that was read before it: then the head is read again.
        for attempt in range(20):
            head, head_stat = document(
                app + "/hot", ("epoch", "version", "publishedAt", "coordinator", "buckets", "changes"),
                bytes_max=16 << 10)
            names = sorted(name for name in zk.get_children(app + "/hot"))
            assert names == ["%02x" % number for number in range(64)], names
            records, newest = {}, 0
            for name, version in zip(names, head["buckets"]):
                bucket, _ = document(app + "/hot/" + name, ("version", "keys"), bytes_max=64 << 10)
                newest = max(newest, bucket["version"])
                for record in bucket["keys"]:
                    fields("record", record, RECORD, RECORD_OPTIONAL)
                    key(record["key"])
                    assert TIME.match(record["since"])
                    records[str(record["key"])] = record
                if version and newest <= head["version"]:
                    assert bucket["version"] == version, (name, bucket["version"], version)
            if newest <= head["version"]:
                break
        assert newest <= head["version"]
        assert head["coordinator"] in agents, head["coordinator"]
        assert TIME.match(head["publishedAt"])
        for change in head["changes"]:
            fields("change", change, ("version", "key", "state"), RECORD + RECORD_OPTIONAL)
        hot = records["warm:read"]
        assert hot["state"] == "hot" and hot["sources"] == ["agents"] and hot["readsPerSecond"] > 0, hot

        assert zk.get_children(app + "/sources") == []
        candidates = zk.get_children(app + "/leader")
        assert len(candidates) == len(agents), candidates
        for name in candidates:
            data, stat = zk.get(app + "/leader/" + name)
            assert stat.ephemeralOwner != 0
        assert sorted(zk.get_children(app + "/agents")) == agents
        for agent in agents:
            found, stat = document(
                app + "/agents/" + agent, ("peer", "version", "startedAt"), bytes_max=1 << 10)
            assert stat.ephemeralOwner != 0 and re.match(r"^127\\.0\\.0\\.1:\\d+$", found["peer"]), found
        zk.stop()
        print(count)
        """

    /// Pins a text key and a key that is no text, as the documented schema says, by compare-and-set. Arguments: servers, the
    /// app's znode, the text key.
    static let pin = """
        import base64, json, sys
        from datetime import datetime, timezone
        from kazoo.client import KazooClient
        from kazoo.exceptions import BadVersionError

        servers, app, key = sys.argv[1:4]
        zk = KazooClient(hosts=servers)
        zk.start(timeout=30)
        at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        binary = {"b64": base64.b64encode(b"\\xff\\x00" + key.encode()).decode()}
        while True:
            data, stat = zk.get(app + "/pins")
            pins = json.loads(data)
            for name in (key, binary):
                pins["pins"].append({"key": name, "copies": 2, "author": "kazoo", "reason": "by kazoo", "at": at})
            try:
                zk.set(app + "/pins", json.dumps(pins, sort_keys=True).encode(), version=stat.version)
                break
            except BadVersionError:
                pass
        zk.stop()
        """

    /// What an ordinary application does with redis-py, unchanged. Arguments: the port.
    static let redisClient = """
        import sys, time, redis

        r = redis.Redis(host="127.0.0.1", port=int(sys.argv[1]), decode_responses=True)
        assert r.ping() is True
        assert r.set("py:s", "grüße") is True and r.get("py:s") == "grüße"
        assert r.set("py:s", "other", nx=True) is None and r.getset("py:s", "new") == "grüße"
        assert r.get("py:missing") is None and r.exists("py:s", "py:missing") == 1
        assert r.strlen("py:s") == 3 and r.append("py:s", "!") == 4 and r.type("py:s") == "string"
        assert r.incr("py:n") == 1 and r.incrby("py:n", 41) == 42 and r.incrbyfloat("py:f", 0.5) == 0.5
        assert r.decr("py:n") == 41
        assert r.expire("py:n", 100) is True and 0 < r.ttl("py:n") <= 100 and r.persist("py:n") is True
        assert r.set("py:short", "x", px=20) is True
        deadline = time.time() + 10
        while r.get("py:short") is not None:
            assert time.time() < deadline, "the key did not expire"
        assert r.hset("py:h", mapping={"a": "1", "b": "2"}) == 2 and r.hset("py:h", "c", "3") == 1
        assert r.hgetall("py:h") == {"a": "1", "b": "2", "c": "3"} and r.hmget("py:h", "a", "x") == ["1", None]
        assert r.hincrby("py:h", "a", 4) == 5 and r.hdel("py:h", "b") == 1 and r.hlen("py:h") == 2
        assert r.zadd("py:z", {"one": 1, "two": 2, "three": 3}) == 3
        assert r.zrange("py:z", 0, -1, withscores=True) == [("one", 1.0), ("two", 2.0), ("three", 3.0)]
        assert r.zrevrange("py:z", 0, 0) == ["three"] and r.zscore("py:z", "two") == 2.0
        assert r.zrangebyscore("py:z", "(1", "+inf") == ["two", "three"] and r.zincrby("py:z", 5, "one") == 6.0
        assert r.lpush("py:l", "a", "b", "c") == 3 and r.lrange("py:l", 0, -1) == ["c", "b", "a"]
        assert r.rpop("py:l") == "a" and r.llen("py:l") == 2 and r.blpop("py:l", timeout=1) == ("py:l", "c")
        assert r.sadd("py:set", "x", "y") == 2 and r.smembers("py:set") == {"x", "y"} and r.sismember("py:set", "x")
        many = {f"py:m{i}": str(i) for i in range(60)}
        assert r.mset(many) is True and r.mget(list(many) + ["py:missing"]) == list(many.values()) + [None]
        assert r.delete(*many) == 60 and r.exists(*many) == 0
        with r.pipeline(transaction=False) as pipe:
            for i in range(200):
                pipe.set(f"py:p{i}", i)
            for i in range(200):
                pipe.get(f"py:p{i}")
            pipe.hset("py:s", "not", "a hash")
            pipe.incr("py:p0")
            replies = pipe.execute(raise_on_error=False)
        assert replies[:200] == [True] * 200 and replies[200:400] == [str(i) for i in range(200)]
        assert isinstance(replies[400], redis.ResponseError) and "WRONGTYPE" in str(replies[400])
        assert replies[401] == 1
        assert r.eval("return redis.call('get', KEYS[1])", 1, "py:p7") == "7"
        try:
            r.execute_command("NOSUCHCOMMAND", "x")
            raise AssertionError("an unknown command was accepted")
        except redis.ResponseError as error:
            assert "unknown command" in str(error), error
        raw = redis.Redis(host="127.0.0.1", port=int(sys.argv[1]))
        value = bytes(range(256)) * 4000
        assert raw.set(b"py:\\xff\\x00", value) is True and raw.get(b"py:\\xff\\x00") == value
        # What was written is what is read next, on this and on other connections, also of a key that is hot.
        clients = [redis.Redis(host="127.0.0.1", port=int(sys.argv[1]), decode_responses=True) for _ in range(4)]
        for i in range(200):
            clients[i % 4].set("py:hot", i)
            for client in clients:
                assert client.get("py:hot") == str(i), i
        for client in clients + [r, raw]:
            client.close()
        print("done")
        """
}
