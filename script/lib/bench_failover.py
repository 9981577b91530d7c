"""script/bench failover: whether a key of steady heat ever leaves the hot set because the coordinator does.

Three agents before three nodes. Three keys are asked for steadily at all agents; beside them heat moves: every second another key
becomes hot and the one before it goes cold. Every round takes the coordinator away: it is killed (SIGKILL) and started again, or,
every fifth time, stopped (SIGSTOP) until another coordinates, and woken while that one works. Every other round is given longer
than the 10 s for which a new coordinator lets nothing cool, so that what it believes shows; the others follow at once. The rules let
a key go after one second without heat, so that a gap in the counts would be seen.

Watched are the buckets of the steady keys in ZooKeeper, each version of them, and the changes that each version of the head lists:
the run fails where a steady key is absent from its bucket, or where a head says that it went cold, and also where heat did not move
or nobody took over.
"""

import functools
import json
import os
import signal
import threading
import time

from kazoo.client import KazooClient

import cluster
from bench_report import bench, print_table, spread
from load import Load, OneKey, value_of

AGENTS = ["host-1", "host-2", "host-3"]
# Threshold and rates, a second; the steady keys are over the threshold without any one agent, too.
THRESHOLD = 100
STEADY_RATE = 120
MOVING_RATE = 300
STEADY = [f"steady:{number}" for number in range(3)]
MOVE_SECONDS = 1.0
SESSION_MILLISECONDS = 2_000
# A new coordinator lets nothing cool for 10 s; then the steady keys have a second and more in which they could go.
GRACE_SECONDS = 13
SHORT_SECONDS = 1
STOP_EVERY = 5
WAIT_SECONDS_MAX = 60
RULES = {"schema": 1, "rules": [
    {"pattern": "*", "thresholdPerSecond": THRESHOLD, "coolDownSeconds": 1, "minimumHotSeconds": 1, "reentrySeconds": 1}]}


def bucket_of(key):
    """The low six bits of FNV-1a, as docs/znode-schema.md says."""
    value = 0xCBF29CE484222325
    for byte in key.encode():
        value = ((value ^ byte) * 0x100000001B3) % (1 << 64)
    return value & 63


class Watcher:
    """What stands in ZooKeeper, each version of it that a watch brings."""

    def __init__(self, servers):
        self.changed = threading.Condition()
        self.states = {}
        self.absences = []
        self.is_judging = False
        self.versions = {"buckets": 0, "heads": 0, "moved": 0, "gaps": 0}
        self.epoch = self.version = 0
        self.zookeeper = KazooClient(hosts=servers.zookeeper, timeout=10)
        self.zookeeper.start(timeout=30)
        self.hot = f"{cluster.ROOT}/{cluster.APP}/hot"
        self.zookeeper.DataWatch(self.hot, self._head)
        for bucket in {bucket_of(key) for key in STEADY}:
            self.zookeeper.DataWatch(f"{self.hot}/{bucket:02x}", functools.partial(self._bucket, bucket))

    def close(self):
        self.zookeeper.stop()
        self.zookeeper.close()

    def _bucket(self, bucket, data, _):
        keys = {entry["key"]: entry["state"] for entry in json.loads(data)["keys"]} if data else {}
        with self.changed:
            self.versions["buckets"] += 1
            for key in STEADY:
                if bucket_of(key) == bucket:
                    self.states[key] = keys.get(key, "absent")
                    if self.is_judging and key not in keys:
                        self.absences.append(f"{key} was absent from its bucket")
            self.changed.notify_all()

    def _head(self, data, _):
        if data is None:
            return
        head = json.loads(data)
        with self.changed:
            self.versions["heads"] += 1
            news = [each for each in head["changes"] if each["version"] > self.version or head["epoch"] > self.epoch]
            # What a head no longer lists, its buckets' watches have brought.
            if head["epoch"] == self.epoch and head["version"] > self.version + 1 and (
                    not news or min(each["version"] for each in news) > self.version + 1):
                self.versions["gaps"] += 1
            for change in news:
                if change["key"] not in STEADY:
                    self.versions["moved"] += change["state"] in ("hot", "cold")
                elif self.is_judging and change["state"] == "cold":
                    self.absences.append(f"version {change['version']} of epoch {head['epoch']}: {change['key']} went cold")
            self.epoch, self.version = head["epoch"], head["version"]
            self.changed.notify_all()

    def wait(self, what, condition):
        with self.changed:
            if not self.changed.wait_for(condition, WAIT_SECONDS_MAX):
                raise cluster.Failure(f"waited {WAIT_SECONDS_MAX} s for {what}; the steady keys: {self.states}")

    def moved(self):
        with self.changed:
            return self.versions["moved"]


class MovingHeat:
    """Every second another key."""

    def __init__(self, stream):
        self.stream = stream
        self.is_stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        number = 0
        while not self.is_stopping.wait(MOVE_SECONDS):
            number += 1
            self.stream.key = f"moving:{number}"

    def stop(self):
        self.is_stopping.set()
        self.thread.join()


def is_leading(agent):
    try:
        return agent.metric("hotkey_leader") == 1
    except (OSError, cluster.Failure):
        return False


def leader(agents):
    return cluster.wait_until(
        "an agent to coordinate", lambda: next((agent for agent in agents if is_leading(agent)), None), WAIT_SECONDS_MAX)


def take_over(servers, watcher, number):
    """One round: seconds without a coordinator, and how it was taken away."""
    old = leader(servers.agents)
    others = [agent for agent in servers.agents if agent is not old]
    epoch, is_stopped = watcher.epoch, number % STOP_EVERY == STOP_EVERY - 1
    began = time.monotonic()
    if is_stopped:
        os.kill(old.pid, signal.SIGSTOP)
    else:
        old.kill()
    try:
        leader(others)
        seconds = time.monotonic() - began
        # It publishes: heat has moved meanwhile.
        watcher.wait("a publication of the new coordinator", lambda: watcher.epoch > epoch)
    finally:
        if is_stopped:
            os.kill(old.pid, signal.SIGCONT)
    if not is_stopped:
        old.start()
    cluster.wait_until(f"{old.name} to be ready", lambda: not old.unreadiness(), process=old)
    time.sleep(GRACE_SECONDS if number % 2 else SHORT_SECONDS)
    return seconds, is_stopped


def run(servers, options, progress):
    servers.start_all(
        AGENTS, "--threads", "1", "--zookeeper-session-timeout-milliseconds", str(SESSION_MILLISECONDS))
    servers.apply_rules(RULES, "script/bench failover")
    for key in STEADY:
        servers.agents[0].client.set(key, value_of(key))
    steady = [OneKey(key, key) for key in STEADY]
    moving = OneKey("moving", "moving:0")
    load = Load([agent.port for agent in servers.agents], [*steady, moving])
    load.start()
    watcher = Watcher(servers)
    heat = MovingHeat(moving)
    gone, killed, stopped, moved = [], 0, 0, []
    try:
        for stream in steady:
            stream.rate.value = STEADY_RATE
        moving.rate.value = MOVING_RATE
        watcher.wait("the steady keys to be hot", lambda: all(watcher.states.get(key) == "hot" for key in STEADY))
        watcher.is_judging = True
        for number in range(options.rounds):
            before = watcher.moved()
            seconds, is_stopped = take_over(servers, watcher, number)
            gone.append(seconds)
            stopped += is_stopped
            killed += not is_stopped
            moved.append(watcher.moved() - before)
            progress(f"round {number + 1}: {'stopped' if is_stopped else 'killed'}, another led after {seconds:.1f} s; "
                     f"{moved[-1]} moves; steady keys {watcher.states}")
        # Once they are not asked for any more they go: the watch would have told.
        watcher.is_judging = False
        for stream in steady:
            stream.rate.value = 0
        watcher.wait("the steady keys to go when nobody asks for them", lambda: all(
            watcher.states[key] == "absent" for key in STEADY))
    finally:
        heat.stop()
        load.stop()
        watcher.close()
    problems = list(dict.fromkeys(watcher.absences))[:5]
    if min(moved) == 0:
        problems.append("in a round no heat moved")
    return {
        "killed": killed, "stopped": stopped, "withoutCoordinator": spread(gone), "moves": sum(moved),
        "watched": watcher.versions, "absences": len(watcher.absences), "problems": problems}


def show(result):
    watched, gone = result["watched"], result["withoutCoordinator"]
    print_table([
        ["", "figure"],
        ["coordinators killed", f"{result['killed']}"],
        ["coordinators stopped until another led, then woken", f"{result['stopped']}"],
        ["another led after, p50 and most", f"{gone['p50Milliseconds']:.0f} ms, {gone['maxMilliseconds']:.0f} ms"],
        ["times that another key became hot or went cold meanwhile", f"{result['moves']}"],
        ["versions of buckets and heads seen", f"{watched['buckets']}, {watched['heads']}"],
        ["times that a steady key was absent", f"{result['absences']}"],
    ])


bench("failover", 25, run, show)
