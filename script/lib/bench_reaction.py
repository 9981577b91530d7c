"""script/bench reaction: how long a whole fleet takes to act on a key that is hot only in sum.

100 whole agents, each with a session of its own at one ZooKeeper, an event loop, listeners and a part in the election, all in one
process (see `start_fleet`), before three nodes; and a key of its own in each round, asked for at a multiple of the rule's threshold
in sum, an even part of it at each agent, at random times (exponential gaps). Measured is from the moment at which the round's first
request is sent to the message that the last of the agents sends its subscribers once the key is in force; and of that time, how much
had passed when the hot set was written, by the time that ZooKeeper's server gives the write (in whole milliseconds).

Fails where the 99th percentile is above what has to hold.
"""

import ctypes
import heapq
import json
import multiprocessing
import os
import random
import resource
import select
import selectors
import socket
import threading
import time

from kazoo.client import KazooClient

import children
import cluster
from bench_report import bench, print_table, quantile, spread
from load import command, value_of
from timeline import CHANNEL, publication_version

AGENTS = 100
THRESHOLD = 200
IDLE_SECONDS = 5
# The multiple of the threshold, and what has to hold at the 99th percentile.
CASES = [(5, 500), (10, 300)]
WAIT_SECONDS_MAX = 10
KEY_BYTES_MAX = 64
# Longer than the window over which rates are taken, so that rounds do not see each other; and longer by a random part of a slice,
# so that they do not keep step with the coordinator.
PAUSE_SECONDS = 1.2
SLICE_SECONDS = 0.1
# A generator that was held up for longer leaves out what it missed: a burst would be heat that nobody asked for.
LATE_SECONDS = 0.02
RECEIVE_BYTES = 1 << 16


class Requests:
    """One process that sends GETs of one key to all agents, on a connection each."""

    def __init__(self, ports):
        self.ports = ports
        self.key = multiprocessing.RawArray(ctypes.c_char, KEY_BYTES_MAX)
        self.rate = multiprocessing.RawValue(ctypes.c_double, 0)
        self.first_sent_at = multiprocessing.RawValue(ctypes.c_double, 0)
        self.sent = multiprocessing.RawValue(ctypes.c_longlong, 0)
        self.process = None

    def start(self):
        """From the main thread, before any other: the process is forked."""
        self.process = multiprocessing.get_context("fork").Process(target=self._run, args=(os.getpid(),), daemon=True)
        self.process.start()

    def stop(self):
        self.process.kill()
        self.process.join()

    def begin(self, key, rate):
        self.key.value = key.encode()
        self.first_sent_at.value = 0
        self.sent.value = 0
        self.rate.value = rate

    def _run(self, parent):
        if not children.live_with(parent):
            return
        connections = [socket.create_connection(("127.0.0.1", port), 10) for port in self.ports]
        replies = select.epoll()
        by_descriptor = {}
        for each in connections:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            by_descriptor[each.fileno()] = each
            replies.register(each.fileno(), select.EPOLLIN)
        due = []
        while True:
            rate = self.rate.value
            if not rate:
                due = []
            elif not due:
                one = rate / len(connections)
                request = command("GET", self.key.value)
                started = time.monotonic()
                due = [(started + random.expovariate(one), number) for number in range(len(connections))]
                heapq.heapify(due)
            wait = max(0, due[0][0] - time.monotonic()) if due else 0.005
            for descriptor, _ in replies.poll(wait):
                if not by_descriptor[descriptor].recv(RECEIVE_BYTES):
                    raise SystemExit("an agent closed its connection")
            now = time.monotonic()
            while due and due[0][0] <= now:
                at, number = due[0]
                heapq.heapreplace(due, (max(at, now - LATE_SECONDS) + random.expovariate(one), number))
                if not self.first_sent_at.value:
                    self.first_sent_at.value = time.monotonic()
                connections[number].sendall(request)
                self.sent.value += 1


class Fleet:
    """Hears from every agent, in one thread, what is in force there; and from ZooKeeper what is published."""

    def __init__(self, servers, agents):
        self.changed = threading.Condition()
        # By key, when each agent said that it is hot.
        self.applied = {}
        self.published = {}
        self.selector = selectors.DefaultSelector()
        for agent in agents:
            connection = socket.create_connection(("127.0.0.1", agent.port), 10)
            connection.sendall(command("SUBSCRIBE", CHANNEL))
            if not connection.recv(RECEIVE_BYTES):
                raise cluster.Failure(f"{agent.name} does not answer SUBSCRIBE {CHANNEL}")
            self.selector.register(connection, selectors.EVENT_READ, [agent.id, b""])
        threading.Thread(target=self._follow, daemon=True).start()
        self.zookeeper = KazooClient(hosts=servers.zookeeper, timeout=10)
        self.zookeeper.start(timeout=30)
        self.zookeeper.DataWatch(f"{cluster.ROOT}/{cluster.APP}/hot", self._note_head)

    def close(self):
        self.zookeeper.stop()
        self.zookeeper.close()

    def _note_head(self, data, stat):
        if data is None:
            return
        head = json.loads(data)
        at = stat.mtime / 1_000 - time.time() + time.monotonic()
        with self.changed:
            for change in head["changes"]:
                if publication_version(head, change["key"]):
                    self.published.setdefault(change["key"], at)
            self.changed.notify_all()

    def _follow(self):
        while True:
            for event, _ in self.selector.select():
                data = event.fileobj.recv(RECEIVE_BYTES)
                at = time.monotonic()
                if not data:
                    self.selector.unregister(event.fileobj)
                    continue
                agent, before = event.data
                *lines, event.data[1] = (before + data).split(b"\r\n")
                for line in lines:
                    # Of the three parts of a message only the last, the document, looks like this.
                    if line.startswith(b"{"):
                        self._note(agent, json.loads(line), at)

    def _note(self, agent, news, at):
        with self.changed:
            for change in news["changes"]:
                if change["state"] == "hot":
                    self.applied.setdefault(change["key"], {}).setdefault(agent, at)
            self.changed.notify_all()

    def wait(self, key, agents):
        """When each agent had it, and when it was published."""
        with self.changed:
            if not self.changed.wait_for(
                    lambda: len(self.applied.get(key, ())) == agents and key in self.published, WAIT_SECONDS_MAX):
                raise cluster.Failure(
                    f"{key} was hot at {len(self.applied.get(key, ()))} of {agents} agents after {WAIT_SECONDS_MAX} s")
            return self.applied[key], self.published[key]


def measure(agents, requests, fleet, multiple, threshold, rounds):
    totals, to_published, fan_out, rates = [], [], [], []
    for number in range(rounds):
        key = f"sum:{multiple}:{number}"
        agents[0].client.set(key, value_of(key))
        time.sleep(random.random() * SLICE_SECONDS)
        requests.begin(key, multiple * threshold)
        applied, published = fleet.wait(key, len(agents))
        last, first = max(applied.values()), requests.first_sent_at.value
        # To the end of a second, so that the rate that was sent can be told.
        time.sleep(max(0, first + 1 - time.monotonic()))
        rates.append(requests.sent.value / (time.monotonic() - first))
        requests.rate.value = 0
        totals.append(last - first)
        to_published.append(published - first)
        fan_out.append(max(0, last - published))
        time.sleep(PAUSE_SECONDS)
    return {
        "multiple": multiple, "asked": multiple * threshold, "sentLeast": min(rates), "sentMedian": quantile(rates, 0.5),
        "all": spread(totals), "published": spread(to_published), "fanOut": spread(fan_out)}


def start_fleet(servers, count, threshold):
    """All agents in one process: a hundred would share this machine's cores with each other's idle threads, which no fleet does."""
    for name in "abc":
        servers.start_node(name)
    servers.start_zookeeper()
    for node in servers.nodes:
        node.wait_until_answering()
    servers.hkctl("init", "--nodes", ",".join(f"{node.node_name}={node.address}" for node in servers.nodes))
    rules = os.path.join(servers.directory, "rules.yaml")
    with open(rules, "w", encoding="utf-8") as file:
        file.write(f'schema: 1\nrules:\n  - pattern: "*"\n    thresholdPerSecond: {threshold}\n')
    servers.hkctl("rules", "apply", rules)
    settings, agents = [], []
    directory, log = servers.place("fleet")
    for number in range(count):
        agent_id = f"host-{number + 1}"
        ports = [servers.free_port() for _ in range(3)]
        state = os.path.join(directory, agent_id)
        os.makedirs(state)
        agents.append(cluster.Agent(agent_id, ports, [], directory, log))
        settings.append({
            "app": cluster.APP, "root": cluster.ROOT, "id": agent_id, "zookeeper": servers.zookeeper, "threads": "1",
            "listen": f"127.0.0.1:{ports[0]}", "peer": f"127.0.0.1:{ports[1]}", "admin": f"127.0.0.1:{ports[2]}",
            "state-dir": state})
    file = os.path.join(directory, "settings.json")
    with open(file, "w", encoding="utf-8") as output:
        json.dump(settings, output)
    fleet = servers.add(cluster.Server(
        "fleet", [os.environ.get("HOTKEY_FLEET_AGENTS") or os.path.join(servers.binaries, "FleetAgents"), file], directory, log))
    for agent in agents:
        cluster.wait_until(f"{agent.name} to be ready", lambda agent=agent: not agent.unreadiness(), process=fleet)
    cluster.wait_until(
        "one agent to coordinate and to pull the reports of all",
        lambda: any(
            agent.metric("hotkey_leader") == 1 and agent.metric("hotkey_agents_pulled") == count for agent in agents),
        process=fleet)
    return fleet, agents


def run(servers, options, progress):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    started = time.monotonic()
    process, agents = start_fleet(servers, options.agents, THRESHOLD)
    progress(f"{options.agents} agents ready after {time.monotonic() - started:.1f} s")
    requests = Requests([agent.port for agent in agents])
    requests.start()
    fleet = Fleet(servers, agents)
    results, problems = [], []
    try:
        before = sum(process.cpu_seconds())
        time.sleep(IDLE_SECONDS)
        idle = (sum(process.cpu_seconds()) - before) / IDLE_SECONDS
        for multiple, most in CASES:
            progress(f"{options.rounds} keys at {multiple} times the threshold")
            result = measure(agents, requests, fleet, multiple, THRESHOLD, options.rounds)
            results.append({**result, "p99MillisecondsMax": most})
            if result["all"]["p99Milliseconds"] > most:
                problems.append(
                    f"at {multiple} times the threshold the fleet took {result['all']['p99Milliseconds']:.0f} ms (p99); "
                    f"at most {most} are allowed")
    finally:
        requests.stop()
        fleet.close()
    return {
        "agents": options.agents, "threshold": THRESHOLD, "idleCores": idle, "results": results,
        "problems": problems}


def show(result):
    print(f"{result['agents']} agents, threshold {result['threshold']} a second. Idle, they take {result['idleCores']:.2f} cores.")
    rows = [["requests a second in sum", "from the first request to", "times", "p50 ms", "p99 ms", "max ms", "has to hold"]]
    for entry in result["results"]:
        name = f"{entry['multiple']} × (sent: {entry['sentMedian']:.0f})"
        for part, label, limit in [
                ("published", "the write at ZooKeeper", ""),
                ("all", "in force at the last agent", f"p99 {entry['p99MillisecondsMax']}")]:
            figures = entry[part]
            rows.append([name, label, f"{figures['count']}", f"{figures['p50Milliseconds']:.0f}",
                         f"{figures['p99Milliseconds']:.0f}", f"{figures['maxMilliseconds']:.0f}", limit])
    print_table(rows)


bench("reaction", 100, run, show, [
    ("--agents", {"type": int, "default": AGENTS})])
