"""Real servers on loopback for script/demo and script/bench: one ZooKeeper, Redis nodes, twemproxy, agents.

Everything runs in a temporary directory, on ports of its own, and is stopped by the process that started it. Should
that process be killed, the kernel kills the servers (PR_SET_PDEATHSIG, which counts from the *thread* that started
them: start servers from the main thread only).
"""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import redis

APP = "demo"
ROOT = "/hotkeys"
READY_SECONDS = 60
STOP_SECONDS = 10
COMMAND_SECONDS = 30
# Below Linux's range for outgoing connections (32768 and up), so that a server which is stopped for a while finds its
# port free, and below the ports that the tests take.
PORTS = range(12_000, 15_000)
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
JARS = ["/usr/share/java/zookeeper.jar", "/usr/share/java/slf4j-simple.jar"]


class Failure(Exception):
    """Something that a user should read as it stands."""


class Interrupted(BaseException):
    """A signal asked to stop. No `except Exception` may swallow it."""

    def __init__(self, number):
        super().__init__(number)
        self.number = number


def stop_on_signals():
    """Turns the signals that end a program into `Interrupted`, so that `finally` runs."""
    def interrupt(number, _):
        # Once is enough: another Ctrl-C must not interrupt the clearing up.
        for each in STOP_SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)
    for number in STOP_SIGNALS:
        signal.signal(number, interrupt)


def wait_until(what, condition, seconds=READY_SECONDS, every=0.02, process=None):
    """Polls until `condition()` is true and returns what it returned."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if process is not None and process.has_ended:
            raise Failure(f"{process.name} ended while this waited for: {what}\n{process.log_tail()}")
        if time.monotonic() > end:
            tail = "" if process is None else "\n" + process.log_tail()
            raise Failure(f"waited {seconds} s for: {what}{tail}")
        time.sleep(every)


# The server ends with this program, and a session of its own keeps Ctrl-C in a terminal for this program alone, which stops
# things in order.
ENDS_WITH_US = ["setpriv", "--pdeathsig", "KILL", "--"]


class Server:
    """One process of the cluster."""

    def __init__(self, name, arguments, directory, log):
        self.name = name
        self.arguments = arguments
        self.directory = directory
        self.log = log
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*ENDS_WITH_US, *self.arguments], cwd=self.directory, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, env=clean_environment())

    @property
    def pid(self):
        return self.process.pid

    @property
    def has_ended(self):
        return self.process is None or self.process.poll() is not None

    def kill(self):
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def ask_to_stop(self):
        if not self.has_ended:
            self.process.terminate()

    def stop(self):
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        if not self.has_ended:
            self.kill()

    def cpu_seconds(self):
        """User and system time so far."""
        with open(f"/proc/{self.pid}/stat", encoding="utf-8") as file:
            # The second field, the program's name in brackets, may hold anything.
            fields = file.read().rpartition(")")[2].split()
        ticks = os.sysconf("SC_CLK_TCK")
        return int(fields[11]) / ticks, int(fields[12]) / ticks

    def log_tail(self, lines=15):
        with contextlib.suppress(OSError), open(self.log, encoding="utf-8", errors="replace") as file:
            return "".join(f"  {self.name}: {line}" for line in file.readlines()[-lines:])
        return ""


class Node(Server):
    """A cache node."""

    def __init__(self, name, port, arguments, directory, log):
        super().__init__(f"node {name}", arguments, directory, log)
        self.node_name = name
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.client = redis_client(port)

    def is_answering(self):
        try:
            return self.client.ping()
        except redis.exceptions.RedisError:
            return False

    def wait_until_answering(self):
        wait_until(f"{self.name} to answer on port {self.port}", self.is_answering, every=0.005, process=self)

    def reads(self):
        """GETs that the node has executed so far, copies' included."""
        return self.client.info("commandstats").get("cmdstat_get", {}).get("calls", 0)


class Agent(Server):
    """An hkagent."""

    def __init__(self, agent_id, ports, arguments, directory, log):
        super().__init__(f"agent {agent_id}", arguments, directory, log)
        self.id = agent_id
        self.port, self.peer_port, self.admin_port = ports
        self.client = redis_client(self.port)

    def ask(self, *command):
        """An `HK.` command's reply."""
        try:
            return json.loads(self.client.execute_command(*command))
        except redis.exceptions.RedisError as error:
            raise Failure(f"{self.name} does not answer {' '.join(command)}: {error}\n{self.log_tail()}") from error

    def unreadiness(self):
        """Why it is not ready; empty when it is."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/readyz", timeout=2):
                return ""
        except urllib.error.HTTPError as error:
            return error.read().decode(errors="replace").strip()
        except OSError as error:
            return str(error)

    def metric(self, name):
        """One metric without labels, as a number."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=5) as reply:
            for line in reply.read().decode().splitlines():
                if line.startswith(name + " "):
                    return float(line.split()[1])
        raise Failure(f"{self.name} has no metric {name}")


class Cluster:
    """A temporary directory and the servers in it. Use with `with`; what was started last is stopped first."""

    def __init__(self, binaries, prefix):
        self.binaries = os.path.abspath(binaries)
        self.directory = tempfile.mkdtemp(prefix=prefix)
        self.keep_directory = False
        self.servers = []
        self.nodes = []
        self.agents = []
        self.zookeeper_port = self.zookeeper_server = None
        self.taken_ports = set()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self.stop()
        failed = kind is not None and issubclass(kind, Exception) and not issubclass(kind, BrokenPipeError)
        if self.keep_directory or failed:
            print(f"The logs are kept in {self.directory}", file=sys.stderr)
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    def stop(self):
        # Agents all at once, while ZooKeeper and the nodes are still there to say goodbye to.
        for agent in self.agents:
            agent.ask_to_stop()
        for server in reversed(self.servers):
            if server.process is not None:
                server.stop()

    @property
    def zookeeper(self):
        return f"127.0.0.1:{self.zookeeper_port}"

    def free_port(self):
        """A port that is free now, and that this cluster has not handed out before."""
        for port in random.sample(PORTS, len(PORTS)):
            if port in self.taken_ports:
                continue
            with contextlib.suppress(OSError), socket.socket() as listener:
                # As the servers do, so that connections which lie in TIME_WAIT do not count.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", port))
                self.taken_ports.add(port)
                return port
        raise Failure(f"no free port from {PORTS.start} to {PORTS.stop - 1}")

    def place(self, name):
        """A directory and a log file for one server."""
        directory = os.path.join(self.directory, name)
        os.makedirs(directory)
        return directory, os.path.join(self.directory, f"{name}.log")

    def add(self, server):
        self.servers.append(server)
        server.start()
        return server

    def start_zookeeper(self):
        for jar in JARS:
            if not os.path.exists(jar):
                raise Failure(f"{jar} is missing: run script/bootstrap")
        directory, log = self.place("zookeeper")
        self.zookeeper_port = port = self.free_port()
        file = os.path.join(directory, "zoo.cfg")
        with open(file, "w", encoding="utf-8") as config:
            config.write(
                f"dataDir={directory}\nclientPort={port}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n"
                "tickTime=500\nminSessionTimeout=1000\nmaxSessionTimeout=60000\n"
                "4lw.commands.whitelist=srvr\nadmin.enableServer=false\n")
        server = self.add(Server("zookeeper", [
            "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx256m", "-XX:-UsePerfData",
            "-Djava.awt.headless=true", "-Dzookeeper.preAllocSize=1024", "-cp", ":".join(JARS),
            "org.apache.zookeeper.server.quorum.QuorumPeerMain", file], directory, log))

        self.zookeeper_server = server
        self.wait_for_zookeeper()

    def wait_for_zookeeper(self):
        def is_serving():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.zookeeper_port), 0.5) as connection:
                connection.settimeout(0.5)
                connection.sendall(b"srvr")
                return b"Mode: " in connection.recv(4096)
        wait_until(
            f"ZooKeeper to serve on port {self.zookeeper_port}", is_serving, every=0.05, process=self.zookeeper_server)

    def start_node(self, name, append_only=False):
        """A Redis node; with `append_only` what it held survives its death."""
        directory, log = self.place(f"node-{name}")
        port = self.free_port()
        node = self.add(Node(name, port, [
            "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly",
            "yes" if append_only else "no", "--dir", directory, "--daemonize", "no"], directory, log))
        self.nodes.append(node)
        return node

    def start_nutcracker(self):
        """A twemproxy before the nodes that are there, placing keys as `hkctl init` does. Returns it and its port."""
        directory, log = self.place("nutcracker")
        port, statistics_port = self.free_port(), self.free_port()
        file = os.path.join(directory, "nutcracker.yml")
        with open(file, "w", encoding="utf-8") as config:
            config.write(
                f"pool:\n  listen: 127.0.0.1:{port}\n  redis: true\n"
                "  hash: fnv1a_64\n  distribution: ketama\n  servers:\n")
            config.writelines(f"    - {node.address}:1\n" for node in self.nodes)
        server = self.add(Server("nutcracker", [
            "nutcracker", f"--conf-file={file}", "--stats-addr=127.0.0.1", f"--stats-port={statistics_port}",
            f"--output={log}", f"--pid-file={os.path.join(directory, 'pid')}"], directory, log))

        def is_answering():
            with contextlib.suppress(redis.exceptions.RedisError):
                return redis_client(port).get("x") is None
        wait_until(f"nutcracker to answer on port {port}", is_answering, process=server)
        return server, port

    def start_agent(self, agent_id, *options):
        directory, log = self.place(f"agent-{agent_id}")
        ports = [self.free_port() for _ in range(3)]
        listen, peer, admin = (f"127.0.0.1:{port}" for port in ports)
        agent = self.add(Agent(agent_id, ports, [
            os.path.join(self.binaries, "hkagent"), "run", "--app", APP, "--root", ROOT, "--id", agent_id,
            "--zookeeper", self.zookeeper, "--listen", listen, "--peer", peer, "--admin", admin,
            "--state-dir", directory, *options], directory, log))
        self.agents.append(agent)
        return agent

    def start_all(self, agent_ids, *agent_options, append_only=False):
        """ZooKeeper, the nodes a, b and c, `hkctl init`, and agents; returns when all of them work together."""
        for name in "abc":
            self.start_node(name, append_only)
        self.start_fleet(agent_ids, *agent_options)

    def start_fleet(self, agent_ids, *agent_options, init_options=()):
        """The same with the nodes that have been started. Their addresses may have been replaced by those of something before
        them."""
        self.start_zookeeper()
        for node in self.nodes:
            node.wait_until_answering()
        self.hkctl("init", "--nodes", ",".join(f"{node.node_name}={node.address}" for node in self.nodes), *init_options)
        for agent_id in agent_ids:
            self.start_agent(agent_id, *agent_options)
        for agent in self.agents:
            wait_until(f"{agent.name} to be ready", lambda agent=agent: not agent.unreadiness(), process=agent)
        wait_until(
            "one agent to coordinate and to pull the reports of all",
            lambda: any(
                agent.metric("hotkey_leader") == 1 and agent.metric("hotkey_agents_pulled") == len(self.agents)
                for agent in self.agents),
            process=self.agents[0])

    def hkctl(self, *arguments):
        """Runs hkctl and returns what it printed."""
        command = [
            os.path.join(self.binaries, "hkctl"), "--zookeeper", self.zookeeper, "--root", ROOT, "--app", APP,
            *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=COMMAND_SECONDS, stdin=subprocess.DEVNULL,
                env=clean_environment())
        except subprocess.TimeoutExpired as error:
            raise Failure(f"hkctl {' '.join(arguments)} has not ended after {COMMAND_SECONDS} s") from error
        if done.returncode != 0:
            raise Failure(
                f"hkctl {' '.join(arguments)} ended with status {done.returncode}:\n{done.stderr or done.stdout}")
        return done.stdout

    def apply_rules(self, rules, reason):
        """Puts rules in force, as the document is written."""
        file = os.path.join(self.directory, "rules.json")
        with open(file, "w", encoding="utf-8") as output:
            json.dump(rules, output)
        self.hkctl("rules", "apply", file, "--reason", reason)

    def apply_topology(self, document, reason):
        """Puts a topology in force at all agents, on all their event loops."""
        def version_at(agent):
            return agent.ask("HK.STATUS")["documents"]["topology"]
        file = os.path.join(self.directory, "topology.json")
        with open(file, "w", encoding="utf-8") as output:
            json.dump(document, output)
        versions = {agent: version_at(agent) for agent in self.agents}
        self.hkctl("topology", "apply", file, "--reason", reason)
        for agent, version in versions.items():
            wait_until(
                f"{agent.name} to apply the topology",
                lambda agent=agent, version=version: version_at(agent) > version, process=agent)

    def node(self, name):
        return next(node for node in self.nodes if node.node_name == name)


def redis_client(port):
    """redis-py's ordinary client; errors are not retried, so that they are seen."""
    return redis.Redis(host="127.0.0.1", port=port, socket_timeout=10, socket_connect_timeout=2)


def clean_environment():
    """The environment without the settings of hkagent and hkctl that the user may have there."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HOTKEY_")}


@contextlib.contextmanager
def reporting(program):
    """Ends the program with the exit status that fits: 1 for failures, 128 and the signal's number for signals."""
    try:
        yield
    except BrokenPipeError:
        # Nobody reads any more (script/demo | head): nothing can be said about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(1) from None
    except (Failure, redis.exceptions.RedisError, OSError) as failure:
        raise SystemExit(f"{program}: {failure}") from None
    except Interrupted as interruption:
        print(f"{program}: interrupted; everything it started is stopped", file=sys.stderr)
        raise SystemExit(128 + interruption.number) from None
