import Foundation
import HotKeyTestSupport
import Testing

/// Agents that replace each other on sockets which their parent process keeps open, as systemd does.
@Suite struct TakeoverTests {
    /// An agent that shares its listeners with another one may find that the other was faster to accept, which an assertion in
    /// debug builds of SwiftNIO (`BaseSocketChannel.readable0`) takes for impossible. So the agents overlap where `HOTKEY_BIN_DIR`
    /// names release builds.
    private static let manners =
        ProcessInfo.processInfo.environment["HOTKEY_BIN_DIR"] == nil ? ["restart"] : ["restart", "overlap"]

    /// Clients connect, ask and leave all the time. The next agent starts before the one before it is told
    /// to stop, or only when that has ended: in neither case is a connection refused, reset or left without its reply.
    @Test(arguments: manners)
    func noConnectionIsLostWhileAgentsReplaceEachOther(_ manner: String) async throws {
        let redis = try await RedisServer.start()
        let directory = try TemporaryDirectory(prefix: "takeover")
        let ports = [try FreePort.next(), try FreePort.next(), try FreePort.next()]
        let outcome = try await SpawnedProcess.run(
            SystemTool.python(),
            ["-", BinaryLocator.path("hkagent"), redis.address, directory.path, manner] + ports.map(String.init),
            standardInput: Array(Self.script.utf8), timeout: .seconds(180))
        #expect(outcome.status == 0, "\(outcome)")
        let result = try JSON(outcome.standardOutput)
        #expect(result["failures"] == .array([]), "\(outcome)")
        // Every agent had its share of them.
        #expect(result["answered"]?.items.count == 5)
        for count in result["answered"]?.items ?? [] {
            guard case .number(let count) = count else { throw Unexpected(outcome.standardOutput) }
            #expect(count >= 100, "\(outcome.standardOutput)")
        }
        #expect(result["exits"] == .array([0, 0, 0, 0, 0]))
        await redis.stop()
    }

    @Test func aSocketThatNothingIsConfiguredForIsRefused() async throws {
        let ports = [try FreePort.next(), try FreePort.next(), try FreePort.next()]
        for (listen, environment, expected) in [
            ("127.0.0.1:\(ports[2])", "LISTEN_FDS=1", "descriptor 3 is bound to 127.0.0.1:\(ports[0]), expected"),
            ("127.0.0.1:\(ports[0])", "LISTEN_FDS=2", "descriptor 4 is no socket; expected a listening stream socket"),
            (
                "127.0.0.1:\(ports[0])", "LISTEN_FDS=x",
                "LISTEN_FDS: expected a number of sockets from 0 to 16, found 'x'"
            ),
        ] {
            let outcome = try await SpawnedProcess.run(
                SystemTool.python(),
                [
                    "-", "\(ports[0])", "env", environment, BinaryLocator.path("hkagent"), "run", "--standalone",
                    "--nodes",
                    "a=127.0.0.1:1", "--listen", listen, "--peer", "127.0.0.1:\(ports[1])", "--admin", "127.0.0.1:0",
                ], standardInput: Array(Self.oneSocket.utf8))
            #expect(outcome.status == 1, "\(outcome)")
            #expect(outcome.standardError.contains(expected), "\(outcome)")
        }
    }

    /// Becomes a program that has a listening socket as descriptor 3. Arguments: its port, the program.
    private static let oneSocket = """
        import os, socket, sys
        os.closerange(3, 64)
        listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
        assert listener.fileno() == 3
        listener.set_inheritable(True)
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.execvp(sys.argv[2], sys.argv[2:])
        """

    private static let script = """
        import json, os, socket, subprocess, sys, threading, time

        program, node, directory, manner = sys.argv[1:5]
        app, peer, admin = map(int, sys.argv[5:8])
        os.closerange(3, 64)
        listeners = [socket.create_server(("127.0.0.1", app), backlog=4096),
                     socket.create_server(("127.0.0.1", peer), backlog=128)]
        assert [each.fileno() for each in listeners] == [3, 4]
        for each in listeners:
            each.set_inheritable(True)

        class Agent:
            def __init__(self, number):
                self.log = f"{directory}/{number}.log"
                with open(self.log, "wb") as log:
                    self.process = subprocess.Popen(
                        ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", 'exec env LISTEN_PID=$$ LISTEN_FDS=2 "$@"', "sh",
                         program, "run", "--standalone", "--nodes", "a=" + node, "--threads", "2",
                         "--listen", f"127.0.0.1:{app}", "--peer", f"127.0.0.1:{peer}", "--admin", f"127.0.0.1:{admin}"],
                        pass_fds=(3, 4), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

            def wait(self):
                end = time.monotonic() + 60
                while "serving apps" not in open(self.log).read():
                    if self.process.poll() is not None or time.monotonic() > end:
                        sys.exit("the agent does not serve:\\n" + open(self.log).read())
                    time.sleep(0.01)

            def stop(self):
                self.process.terminate()
                return self.process.wait(60)

        failures, counts, lock, stop = [], [0], threading.Lock(), threading.Event()

        def ask(number):
            turn = 0
            while not stop.is_set():
                turn += 1
                try:
                    with socket.create_connection(("127.0.0.1", app), timeout=60) as client:
                        word = f"{number}.{turn}".encode()
                        client.sendall(b"PING\\r\\n*2\\r\\n$4\\r\\nECHO\\r\\n$%d\\r\\n%s\\r\\n" % (len(word), word))
                        wanted, got = b"+PONG\\r\\n$%d\\r\\n%s\\r\\n" % (len(word), word), b""
                        while len(got) < len(wanted):
                            more = client.recv(4096)
                            if not more:
                                raise EOFError(f"closed after {got}")
                            got += more
                        assert got == wanted, got
                    with lock:
                        counts[-1] += 1
                except Exception as error:
                    with lock:
                        failures.append(f"{type(error).__name__}: {error}")

        exits = []
        agent = Agent(0)
        agent.wait()
        threads = [threading.Thread(target=ask, args=(each,)) for each in range(6)]
        for each in threads:
            each.start()

        def some_more():
            with lock:
                goal = counts[-1] + 100
            end = time.monotonic() + 60
            while counts[-1] < goal and time.monotonic() < end:
                time.sleep(0.01)

        some_more()
        for number in range(1, 5):
            if manner == "overlap":
                following = Agent(number)
                following.wait()
                exits.append(agent.stop())
            else:
                exits.append(agent.stop())
                following = Agent(number)
                following.wait()
            agent = following
            with lock:
                counts.append(0)
            some_more()
        stop.set()
        for each in threads:
            each.join()
        exits.append(agent.stop())
        print(json.dumps({"failures": failures[:20], "answered": counts, "exits": exits}))
        """
}
