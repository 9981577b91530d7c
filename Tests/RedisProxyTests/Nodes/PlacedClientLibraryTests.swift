import Foundation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// What people use, before three nodes; and what takes long, before one, too.
    @Suite struct PlacedClientLibraries {
        @Test func redisPyWorks() async throws {
            try await AllNodes.with { rig, _ in
                let result = try await SpawnedProcess.run(try SystemTool.python(), ["-c", Self.script, "\(rig.port)"])
                #expect(result.standardOutput.contains("all is well"), "\(result.standardError)")
            }
        }

        private static let script = """
            import hashlib, sys, threading, redis
            port = int(sys.argv[1])
            r = redis.Redis(port=port, decode_responses=True, client_name='py')
            raw = redis.Redis(port=port)
            assert r.ping() and r.client_getname() == 'py'
            # Pipelines over all nodes, not as transactions; transactions with a hash tag, watched keys among them.
            p = r.pipeline(transaction=False)
            for i in range(500): p.set('p%d' % i, i)
            assert p.execute() == [True] * 500
            assert r.mget(['p%d' % i for i in range(500)]) == [str(i) for i in range(500)]
            assert sorted(r.scan_iter('p*', count=20)) == sorted('p%d' % i for i in range(500))
            assert sorted(r.keys('p1?')) == ['p%d' % i for i in range(10, 20)] and r.dbsize() == 500
            assert r.randomkey().startswith('p') and raw.randomkey().startswith(b'p')
            def bump(pipe):
                value = int(pipe.get('{t}n') or 0)
                pipe.multi()
                pipe.set('{t}n', value + 1).incr('{t}m')
            work = lambda: [r.transaction(bump, '{t}n') for _ in range(25)]
            threads = [threading.Thread(target=work) for _ in range(4)]
            [t.start() for t in threads]; [t.join() for t in threads]
            assert r.get('{t}n') == r.get('{t}m') == '100'
            # Names that only count up may hash close together, all to one node.
            names = [hashlib.md5(b'%d' % i).hexdigest() for i in range(31)]
            for name, other in zip(names, names[1:]):
                try:
                    r.pipeline().set(name, 1).set(other, 1).execute()
                except redis.ResponseError as error:
                    assert 'hash tag' in str(error) and "'%s'" % name in str(error), error
                    break
            else: raise AssertionError('keys of several nodes in one transaction')
            # Pub/sub, in a thread of the library's own.
            heard, done = [], threading.Event()
            def hear(message):
                heard.append((message['channel'], message['data']))
                if len(heard) == 30: done.set()
            s = r.pubsub(ignore_subscribe_messages=True)
            s.subscribe(**{'c%d' % i: hear for i in range(20)})
            s.psubscribe(**{'d*': hear})
            thread = s.run_in_thread(sleep_time=0.01)
            while r.pubsub_numpat() == 0 or len(r.pubsub_channels('c*')) < 20: pass
            for i in range(20): assert r.publish('c%d' % i, i) == 1
            for i in range(10): r.publish('d%d' % i, i)
            assert done.wait(20), heard
            thread.stop(); thread.join()
            assert sorted(heard) == sorted([('c%d' % i, str(i)) for i in range(20)] + [('d%d' % i, str(i)) for i in range(10)])
            # Locks and scripts.
            with r.lock('l', timeout=5): assert r.exists('l')
            assert not r.exists('l')
            double = r.register_script('return 2 * redis.call("get", KEYS[1])')
            assert [double(keys=['p%d' % i]) for i in range(40, 60)] == [2 * i for i in range(40, 60)]
            # Blocking, streams, binary values.
            threading.Timer(0.1, lambda: redis.Redis(port=port).rpush('q', 'e')).start()
            assert r.blpop('q', timeout=10) == ('q', 'e')
            r.xadd('x', {'f': 'v'}); r.xgroup_create('x', 'g', 0)
            assert r.xreadgroup('g', 'c', {'x': '>'}, block=10)[0][1][0][1] == {'f': 'v'}
            raw.set('b', bytes(range(256)))
            assert raw.get('b') == bytes(range(256))
            assert r.flushall() and r.dbsize() == 0
            print('all is well')
            """

        /// Mass insertion and what reads it back, as `redis-cli` does it.
        @Test(arguments: [1, 3])
        func redisCliInsertsAndScans(_ nodeCount: Int) async throws {
            try await AllNodes.with(nodeCount) { rig, _ in
                let lines = (0..<100_000).map { "SET pipe:\($0) v\r\n" }.joined()
                let few = (0..<3000).map { "SET few:\($0) v\r\n" }.joined()
                let runs: [(arguments: String, input: String, says: [String])] = [
                    ("--pipe", lines, ["errors: 0, replies: 100000"]), ("DBSIZE", "", ["100000\n"]),
                    ("--scan --pattern pipe:9999*", "", ["pipe:99999\n", "pipe:9999\n", "pipe:99990\n"]),
                    ("-3 FLUSHALL", "", ["OK\n"]), ("--pipe", few, ["errors: 0, replies: 3000"]),
                    ("--bigkeys", "", ["Sampled 3000 keys", "3000 strings with 3000 bytes"]),
                    ("--memkeys", "", ["Sampled 3000 keys"]),
                    ("", "MULTI\nSET a 1\nINCR a\nEXEC\n", ["OK\nQUEUED\nQUEUED\nOK\n2\n"]),
                    ("--eval /dev/stdin key , arg", "return {KEYS[1],ARGV[1]}", ["key\narg\n"]),
                    ("-3 FLUSHALL", "", ["OK\n"]), ("DBSIZE", "", ["0\n"]),
                ]
                for run in runs {
                    let result = try await SpawnedProcess.run(
                        try SystemTool.redisCLI(),
                        ["-p", "\(rig.port)"] + run.arguments.split(separator: " ").map(String.init),
                        standardInput: Array(run.input.utf8))
                    for text in run.says {
                        #expect(
                            result.standardOutput.contains(text),
                            "\(run.arguments): \(result.standardOutput.suffix(600))")
                    }
                    if run.arguments.hasPrefix("--scan") {
                        #expect(Set(result.standardOutput.split(separator: "\n")).count == 11)
                    }
                }
            }
        }

        @Test(arguments: [[], ["-r", "1000"]])
        func redisBenchmarkRunsItsTests(_ extra: [String]) async throws {
            try await AllNodes.with { rig, _ in
                let result = try await SpawnedProcess.run(
                    try SystemTool.redisBenchmark(),
                    ["-p", "\(rig.port)", "-n", "500", "-c", "20", "-P", "4", "--csv"] + extra)
                #expect(result.standardOutput.split(separator: "\n").count >= 18, "\(result.standardOutput)")
                #expect(!(result.standardOutput + result.standardError).contains("Error"), "\(result.standardError)")
            }
        }
    }
}
