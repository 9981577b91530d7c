"""What script/bench staleness does to nodes, agents, network, ZooKeeper and decisions, one phase after the other, and what each
phase means for the judgement: whose values are lost, and which agents cannot reach which homes meanwhile."""

import contextlib
import json
import os
import signal
import time

import cluster
from fault_proxy import BOTH, REPLIES

# How long an agent waits for a node; also how long after a fault a request may still run into it.
REQUEST_TIMEOUT_SECONDS = 1.5
RECOVERY_SECONDS_MAX = 30
LOOK_SECONDS = 0.25
STEP_SECONDS = 0.05
FLAPS_PER_TURN = 4


def apply_rules(servers, rules):
    servers.apply_rules(rules, "script/bench staleness")


class Stage:
    """The servers, and what the phases do with them."""

    def __init__(self, servers, proxy, load, history, keys, rules):
        """`rules()` are those in force, `rules(random)` others that allow no more."""
        self.servers, self.proxy, self.load, self.history, self.rules = servers, proxy, load, history, rules
        # Set anew for each phase.
        self.random = None
        self.keys = list(keys)
        self.homes = {}
        # Agents that must not be asked anything.
        self.stopped = set()
        # When each agent was looked at last, and how many stale answers it had given by then.
        self.seen = {}
        self.unforced_outages = 0

    def look(self, cut_off=()):
        """An agent that gives stale answers although nothing keeps it from a home finds one out of reach all the same, on a
        machine that is so busy that replies come too late. Between two looks the stale-on-error cap is in force there."""
        for agent in self.servers.agents:
            if agent in self.stopped:
                continue
            now = time.monotonic()
            try:
                count = agent.ask("HK.STATUS")["counters"]["staleAnswers"]
            except cluster.Failure:
                continue
            then, known = self.seen.get(agent, (now, count))
            self.seen[agent] = now, count
            if count > known:
                self.history.add_outage([agent.id], self.keys, then, time.monotonic())
                self.unforced_outages += agent.id not in cut_off

    def wait(self, seconds, cut_off=()):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.look(cut_off)
            time.sleep(min(LOOK_SECONDS, left))
        self.look(cut_off)

    def agent(self):
        return self.random.choice(self.servers.agents)

    def node(self):
        return self.random.choice(self.servers.nodes)

    @property
    def agent_ids(self):
        return [agent.id for agent in self.servers.agents]

    def keys_of(self, node):
        return [key for key in self.keys if self.homes[key] == node.node_name]

    def ask_homes(self):
        """By an agent's word, which all agents share once they have applied the same topology."""
        agent = self.servers.agents[0]
        return {key: agent.ask("HK.ROUTE", key)["home"]["name"] for key in self.keys}

    def learn_homes(self):
        self.homes = self.ask_homes()
        self.load.set_homes(self.homes)

    def is_well(self):
        """Whether every agent is ready, knows the registry and finds every node in order."""
        for agent in self.servers.agents:
            if agent in self.stopped or agent.unreadiness():
                return False
            try:
                status = agent.ask("HK.STATUS")
            except cluster.Failure:
                return False
            if status["view"]["state"] != "fresh" or any(node["breaker"] != "closed" for node in status["nodes"]):
                return False
        return True

    def is_tracking(self):
        """Whether every agent has a connection to every node that the node tracks keys for, by the nodes' own word."""
        return all(
            sum("t" in client["flags"] for client in node.client.client_list()) >= len(self.servers.agents)
            for node in self.servers.nodes)


class Fault:
    """One phase: `begin`, then `step` again and again until the time is over, then `end`; what it does to nodes is noted in the
    history by the caller, from `lost` and `cut_off`."""

    # What --only says, and what the page of figures says.
    word = name = ""
    seconds = (4.0, 6.0)

    def __init__(self, stage):
        self.stage = stage
        # Keys whose values are gone, from `begin` to `end`.
        self.lost = []
        # Agents, and the keys whose home they cannot reach.
        self.cut_off = ([], [])
        self.detail = ""

    def begin(self):
        """Does it."""

    def step(self):
        """Goes on with it."""

    def end(self):
        """Takes it back, as far as that needs a hand."""


class NoFault(Fault):
    word, name = "calm", "no fault"


class NodeKilled(Fault):
    word, name = "killed", "node killed, back empty after seconds"

    def begin(self):
        self.node = self.stage.node()
        self.detail = self.node.node_name
        self.lost = self.stage.keys_of(self.node)
        self.cut_off = (self.stage.agent_ids, self.lost)
        self.stage.proxy.close(self.node.node_name)
        self.node.kill()

    def end(self):
        self.node.start()
        self.node.wait_until_answering()
        self.stage.proxy.open(self.node.node_name)


class NodeRestarted(NodeKilled):
    word, name = "restarted", "node restarted empty at once"
    seconds = (0.0, 0.1)


class NodePaused(Fault):
    word, name = "paused", "node paused (SIGSTOP)"

    def begin(self):
        self.node = self.stage.node()
        self.detail = self.node.node_name
        self.cut_off = (self.stage.agent_ids, self.stage.keys_of(self.node))
        os.kill(self.node.pid, signal.SIGSTOP)

    def end(self):
        os.kill(self.node.pid, signal.SIGCONT)


class NodePausedBriefly(NodePaused):
    word, name = "briefly", "node paused for less than a timeout"
    seconds = (0.3, 1.2)


class NodeCutOff(Fault):
    word, name = "cut", "node cut off from all agents"

    def begin(self):
        self.node = self.stage.node()
        self.detail = self.node.node_name
        self.cut_off = (self.stage.agent_ids, self.stage.keys_of(self.node))
        self.stage.proxy.cut(self.node.node_name)

    def end(self):
        self.stage.proxy.heal(self.node.node_name)


class NodeCutOffFromOne(Fault):
    word, name = "cutone", "node cut off from one agent"
    directions = BOTH

    def begin(self):
        self.node, agent = self.stage.node(), self.stage.agent()
        self.detail = f"{self.node.node_name}, {agent.id}"
        self.cut_off = ([agent.id], self.stage.keys_of(self.node))
        self.stage.proxy.cut(self.node.node_name, agent.pid, self.directions)

    def end(self):
        self.stage.proxy.heal(self.node.node_name)


class RepliesCutOff(NodeCutOffFromOne):
    word, name = "replies", "replies of a node cut off from one agent"
    directions = (REPLIES,)


class MemoryShort(Fault):
    """A node evicts what expires soon, which is what agents keep there, while replies of other nodes come late: what an agent read
    before a write arrives when nothing of the write is left."""

    word, name = "memory", "node short of memory, replies of others late"
    filler_bytes, fillers_per_turn, room_bytes = 2_000, 40, 2_000_000
    delay_seconds = (0.05, 0.5)

    def begin(self):
        self.node = self.stage.node()
        self.client = self.node.client
        self.fillers = 0
        self.evicted_before = self.client.info("stats")["evicted_keys"]
        # What apps write has no expiry here, so it is not evicted: that would be the node's loss.
        self.client.config_set("maxmemory-policy", "volatile-ttl")
        self.client.config_set("maxmemory", self.client.info("memory")["used_memory"] + self.room_bytes)

    def step(self):
        stage = self.stage
        other = stage.random.choice([node for node in stage.servers.nodes if node is not self.node])
        stage.proxy.cut(other.node_name, stage.agent().pid, (REPLIES,))
        end = time.monotonic() + stage.random.uniform(*self.delay_seconds)
        while time.monotonic() < end:
            pipeline = self.client.pipeline(transaction=False)
            for _ in range(self.fillers_per_turn):
                pipeline.set(f"filler:{self.fillers}", "x" * self.filler_bytes, ex=1_000)
                self.fillers += 1
            # The node may refuse some, having nothing that it could evict at the moment.
            pipeline.execute(raise_on_error=False)
            time.sleep(STEP_SECONDS / 5)
        stage.proxy.heal(other.node_name)

    def end(self):
        self.client.config_set("maxmemory", 0)
        for number in range(0, self.fillers, 1_000):
            self.client.delete(*(f"filler:{each}" for each in range(number, min(number + 1_000, self.fillers))))
        evicted = self.client.info("stats")["evicted_keys"] - self.evicted_before
        self.detail = f"{self.node.node_name}, {evicted} keys evicted"


class TrackingCut(Fault):
    word, name = "tracking", "tracking connections cut silently"

    def begin(self):
        node = self.stage.node()
        count = self.stage.proxy.mute_tracking(node.node_name)
        self.detail = f"{node.node_name}, {count} connections"


class AgentKilled(Fault):
    word, name = "agentkilled", "agent killed"
    seconds = (0.5, 3.0)

    def begin(self):
        self.agent = self.stage.agent()
        self.detail = self.agent.id
        self.stage.stopped.add(self.agent)
        self.agent.kill()

    def end(self):
        self.agent.start()
        self.stage.stopped.discard(self.agent)


class AgentPaused(Fault):
    word, name = "agentpaused", "agent paused (SIGSTOP) for longer than the cap"
    seconds = (1.5, 4.0)

    def begin(self):
        self.agent = self.stage.agent()
        self.detail = self.agent.id
        # It finds that every node has been silent for too long.
        self.cut_off = ([self.agent.id], self.stage.keys)
        self.stage.stopped.add(self.agent)
        os.kill(self.agent.pid, signal.SIGSTOP)

    def end(self):
        os.kill(self.agent.pid, signal.SIGCONT)
        self.stage.stopped.discard(self.agent)


class ZooKeeperGone(Fault):
    word, name = "zookeeper", "ZooKeeper gone"

    def begin(self):
        self.stage.servers.zookeeper_server.kill()

    def end(self):
        self.stage.servers.zookeeper_server.start()
        self.stage.servers.wait_for_zookeeper()


class TopologyChanged(Fault):
    """A node is taken out of the topology and put back, empty. Keys change their home with it, and leave their values behind.

    What nodes hold of keys whose home they are not any more would be found there when the keys come back, as it would before any
    consistent hashing; it is taken away first, because it is not what is judged here.
    """

    word, name = "topology", "topology changed: node out, and in again"

    def begin(self):
        stage = self.stage
        self.node = stage.node()
        self.detail = self.node.node_name
        self.document = json.loads(stage.servers.hkctl("topology", "show", "--output", "json"))
        for node in stage.servers.nodes:
            strangers = [key for key in stage.keys if stage.homes[key] != node.node_name]
            if strangers:
                node.client.delete(*strangers)
        self.apply([each for each in self.document["nodes"] if each["name"] != self.node.node_name])

    def end(self):
        self.node.client.flushall()
        self.apply(self.document["nodes"])

    def apply(self, nodes):
        stage = self.stage
        # Nobody knows yet where a request that goes past the agents has to go.
        stage.load.set_homes(dict.fromkeys(stage.keys))
        before, began = stage.homes, time.monotonic()
        stage.servers.apply_topology({**self.document, "nodes": nodes}, "script/bench staleness")
        homes = stage.ask_homes()
        moved = [key for key in stage.keys if homes[key] != before[key]]
        stage.history.add_loss(moved, began, time.monotonic())
        stage.homes = homes
        stage.load.set_homes(homes)


class HotSetFlapping(Fault):
    word, name = "flapping", "hot set flapping: pins and denies come and go"

    def step(self):
        for key in self.stage.random.sample(self.stage.keys, FLAPS_PER_TURN):
            verb = self.stage.random.choice(["pin", "unpin", "deny", "undeny"])
            options = ["--copies", str(self.stage.random.randint(0, 2))] if verb == "pin" else []
            # What was not pinned cannot be unpinned.
            with contextlib.suppress(cluster.Failure):
                self.stage.servers.hkctl(verb, key, *options, "--reason", "script/bench staleness")

    def end(self):
        for key in self.stage.keys:
            self.stage.servers.hkctl("pin", key, "--reason", "script/bench staleness")


class RulesChanged(Fault):
    """What is done with the keys, with how many copies, and for how long, changes all the time; the cap is never longer."""

    word, name = "rules", "rules changed: actions, copies, caps"

    def step(self):
        apply_rules(self.stage.servers, self.stage.rules(self.stage.random))
        time.sleep(self.stage.random.uniform(0, 1))

    def end(self):
        apply_rules(self.stage.servers, self.stage.rules())


class ModeSwitched(Fault):
    word, name = "mode", "mode switched: off, observe, mitigate"

    def step(self):
        self.stage.servers.hkctl("mode", self.stage.random.choice(["off", "observe", "mitigate"]))
        time.sleep(self.stage.random.uniform(0, 0.8))

    def end(self):
        self.stage.servers.hkctl("mode", "mitigate")


FAULTS = [
    NoFault, NodeKilled, NodeRestarted, NodePaused, NodePausedBriefly, NodeCutOff, NodeCutOffFromOne, RepliesCutOff, MemoryShort,
    TrackingCut, AgentKilled, AgentPaused, ZooKeeperGone, TopologyChanged, HotSetFlapping, RulesChanged,
    ModeSwitched]


def carry_out(fault, seconds):
    """The fault from its beginning to the moment at which all agents have found everything in order again."""
    stage, began = fault.stage, time.monotonic()
    fault.begin()
    agents, keys = fault.cut_off
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        fault.step()
        stage.wait(min(STEP_SECONDS, left), agents)
    fault.end()
    if fault.lost:
        stage.history.add_loss(fault.lost, began, time.monotonic())
    if keys:
        # What was asked while it lasted may still run into its timeout.
        stage.wait(REQUEST_TIMEOUT_SECONDS, agents)
    cluster.wait_until(f"the agents to be well after: {fault.name}", stage.is_well, RECOVERY_SECONDS_MAX, every=0.1)
    if keys:
        stage.history.add_outage(agents, keys, began, time.monotonic())

