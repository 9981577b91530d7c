import Foundation
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// What people use, before one node.
    @Suite struct ClientLibraries {
        @Test func redisPyFindsNoDifference() async throws {
            try await Transparency.withOneNode { rig, server in
                let result = try await SpawnedProcess.run(
                    try SystemTool.python(), ["-c", Self.script, "\(rig.port)"])
                #expect(result.standardOutput.contains("all is well"), "\(result.standardError)")
            }
        }

        private static let script = """
            import sys, threading, redis
            port = int(sys.argv[1])
            r = redis.Redis(port=port, decode_responses=True, client_name='py')
            assert r.ping() and r.client_getname() == 'py'
            r.flushall()
            # A transaction with a watched key, as the library does it.
            def bump(pipe):
                value = int(pipe.get('n') or 0)
                pipe.multi()
                pipe.set('n', value + 1)
            threads = [threading.Thread(target=lambda: [r.transaction(bump, 'n') for _ in range(25)]) for _ in range(4)]
            [t.start() for t in threads]; [t.join() for t in threads]
            assert r.get('n') == '100', r.get('n')
            p = r.pipeline()
            for i in range(100): p.set('p%d' % i, i)
            assert p.execute() == [True] * 100
            assert len(list(r.scan_iter('p*'))) == 100
            # Pub/sub.
            s = r.pubsub()
            s.subscribe('c'); s.psubscribe('d*')
            assert s.get_message(timeout=5)['type'] == 'subscribe' and s.get_message(timeout=5)['type'] == 'psubscribe'
            assert r.publish('c', 'x') == 1 and r.publish('d1', 'y') == 1
            assert s.get_message(timeout=5)['data'] == 'x' and s.get_message(timeout=5)['data'] == 'y'
            s.close()
            # Locks and scripts.
            with r.lock('l', timeout=5): assert r.exists('l')
            assert r.register_script('return ARGV[1]')(args=['a']) == 'a'
            # Blocking.
            threading.Timer(0.1, lambda: redis.Redis(port=port).rpush('q', 'e')).start()
            assert r.blpop('q', timeout=10) == ('q', 'e')
            # Streams, another database, server commands.
            r.xadd('x', {'f': 'v'}); r.xgroup_create('x', 'g', 0)
            assert r.xreadgroup('g', 'c', {'x': '>'}, block=10)[0][1][0][1] == {'f': 'v'}
            d = redis.Redis(port=port, db=3, decode_responses=True)
            d.set('n', 'other')
            assert d.get('n') == 'other' and r.get('n') == '100' and d.dbsize() == 1
            assert r.config_get('maxmemory') and r.info()['redis_version'] and r.client_list() and r.dbsize() > 1
            with r.monitor() as m: r.set('seen', 1); assert 'command' in m.next_command()
            r.swapdb(0, 3)
            assert r.get('n') == 'other'
            print('all is well')
            """

        @Test func redisCliWorksInEveryMode() async throws {
            try await Transparency.withOneNode { rig, server in
                let lines = (0..<200).map { "SET pipe:\($0) v\r\n" }.joined()
                let runs: [(arguments: String, input: String, says: String)] = [
                    ("--pipe", lines, "errors: 0, replies: 200"), ("DBSIZE", "", "200\n"),
                    ("--scan --pattern pipe:19*", "", "pipe:199\n"), ("--bigkeys", "", "200 strings with 200 bytes"),
                    ("-n 2 SET k v", "", "OK\n"), ("-n 2 DBSIZE", "", "1\n"),
                    ("", "MULTI\nSET a 1\nINCR a\nEXEC\n", "OK\nQUEUED\nQUEUED\nOK\n2\n"),
                    ("-3 CLIENT TRACKING on", "", "OK\n"), ("INFO server", "", "tcp_port:\(server.port)"),
                    ("--eval /dev/stdin key , arg", "return {KEYS[1],ARGV[1]}", "key\narg\n"),
                ]
                for run in runs {
                    let result = try await SpawnedProcess.run(
                        try SystemTool.redisCLI(),
                        ["-p", "\(rig.port)"] + run.arguments.split(separator: " ").map(String.init),
                        standardInput: Array(run.input.utf8))
                    #expect(result.standardOutput.contains(run.says), "\(run.arguments): \(result.standardOutput)")
                }
            }
        }

        @Test func redisBenchmarkRunsItsTests() async throws {
            try await Transparency.withOneNode { rig, _ in
                let result = try await SpawnedProcess.run(
                    try SystemTool.redisBenchmark(), ["-p", "\(rig.port)", "-n", "500", "-c", "20", "-P", "4", "--csv"])
                #expect(result.standardOutput.split(separator: "\n").count >= 18, "\(result.standardOutput)")
                #expect(!(result.standardOutput + result.standardError).contains("Error"))
            }
        }
    }
}
