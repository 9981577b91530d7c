"""The show behind script/demo, which documents it."""

import argparse
import json
import os
import sys
import time

import cluster
from cluster import Failure
from demo_report import Report, milliseconds
from load import Load, OneKey, Zipf, value_of
from timeline import Timeline, publication_version

KEYS = [f"item:{number}" for number in range(1, 2_001)]
HOT_KEY = "item:42"
CRAWLED_KEY = "feed:home"
# What `hkctl init` writes as the rule for every key.
THRESHOLD_PER_SECOND = 1_000
# At each of three agents: hot only in sum.
HOT_RATE = 600
CRAWL_RATE = 450
BACKGROUND_RATE = 400
WRITE_SHARE = 0.05
AGENTS = ["host-1", "host-2", "host-3"]

# What the show claims.
APPLIED_SECONDS_MAX = 1.0
LOCAL_SHARE_MIN = 0.9
NODE_SHARE_MAX = 0.1
CLOSED_SECONDS_MAX = 15
# How long it waits for something that ought to come much sooner.
PATIENCE_SECONDS = 10

MEASURE_SECONDS = 3
OUTAGE_SECONDS = 6


class Show:
    def __init__(self, servers, report):
        self.servers = servers
        self.report = report
        self.hot = OneKey("hot", HOT_KEY)
        self.crawl = OneKey("crawl", CRAWLED_KEY)
        self.load = self.timeline = self.background = self.home = self.pinned_key = None
        self.outage_failures = 0

    @property
    def agents(self):
        return self.servers.agents

    def seconds(self, started):
        return time.monotonic() - started

    # Getting ready

    def start(self):
        say = self.report.say
        say("Starting one ZooKeeper, three Redis nodes, three agents …")
        self.servers.start_all(AGENTS, append_only=True)
        say(f"ZooKeeper at {self.servers.zookeeper}; nodes " + ", ".join(
            f"{node.node_name} at {node.address}" for node in self.servers.nodes))
        say("agents " + ", ".join(f"{agent.id} at 127.0.0.1:{agent.port}" for agent in self.agents))
        placed = self.fill()
        homes = [placed[key] for key in KEYS]
        self.home = self.servers.node(placed[HOT_KEY])
        # The operator pins a key of the same node, so that its death shows what a pin is good for.
        self.pinned_key = next(key for key in KEYS if placed[key] == self.home.node_name and key != HOT_KEY)
        special = {HOT_KEY: "hot", self.pinned_key: "pinned"}
        reads = [special.get(key, f"read {home}") for key, home in zip(KEYS, homes)]
        writes = [None if key in special else f"write {home}" for key, home in zip(KEYS, homes)]
        self.background = Zipf("background", KEYS, reads, writes, WRITE_SHARE)
        self.load = Load([agent.port for agent in self.agents], [self.background, self.hot, self.crawl])
        self.load.start()
        self.timeline = Timeline(self.servers)
        self.timeline.watch(self.head_path)
        self.timeline.watch(f"{cluster.ROOT}/{cluster.APP}/pins")
        self.background.rate.value = BACKGROUND_RATE
        say(f"{len(KEYS):,} keys stored through {self.agents[0].id}; load: {BACKGROUND_RATE:,} requests a second at "
            f"each agent, Zipf-distributed, {WRITE_SHARE:.0%} of them writes")

    def fill(self):
        """Stores every key through an agent, and asks it for each key's home."""
        pipeline = self.agents[0].client.pipeline(transaction=False)
        for key in [*KEYS, CRAWLED_KEY]:
            pipeline.set(key, value_of(key))
        pipeline.execute()
        placed = {}
        for start in range(0, len(KEYS), 200):
            pipeline = self.agents[0].client.pipeline(transaction=False)
            for key in KEYS[start:start + 200]:
                pipeline.execute_command("HK.ROUTE", key)
            for key, route in zip(KEYS[start:], pipeline.execute()):
                placed[key] = json.loads(route)["home"]["name"]
        return placed

    @property
    def head_path(self):
        return f"{cluster.ROOT}/{cluster.APP}/hot"

    # Measuring

    def node_rates(self, seconds=MEASURE_SECONDS):
        """Reads a second at each node, counted by the nodes, and the load's hot requests a second meanwhile."""
        started, nodes, hot = time.monotonic(), [node.reads() for node in self.servers.nodes], self.load.counts("hot")
        self.sleep(seconds)
        passed = self.seconds(started)
        rates = {node.node_name: (node.reads() - before) / passed
                 for node, before in zip(self.servers.nodes, nodes)}
        return rates, (self.load.counts("hot")["answered"] - hot["answered"]) / passed

    def sleep(self, seconds):
        """Lets the show go on, and looks whether all of it is still there."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.25))
            self.look_after()

    def look_after(self):
        if not self.load.is_running():
            raise Failure("a process of the load has ended")
        for agent in self.agents:
            if agent.has_ended:
                raise Failure(f"{agent.name} has ended\n{agent.log_tail()}")

    def counters(self):
        """The agents' own counters, summed up."""
        total = {}
        for agent in self.agents:
            for name, count in agent.ask("HK.STATUS")["counters"].items():
                total[name] = total.get(name, 0) + count
        total["fillWaits"] = sum(agent.metric("hotkey_fill_waits_total") for agent in self.agents)
        return total

    def rates_text(self, rates):
        return ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())

    # The acts

    def without(self):
        """The hot key with the agents being plain proxies."""
        report = self.report
        report.title("Without: the agents are plain proxies (hkctl mode off)")
        self.set_mode("off")
        quiet, _ = self.node_rates()
        report.say(f"reads a second at the nodes: {self.rates_text(quiet)}")
        self.hot.rate.value = HOT_RATE
        report.say(f"{HOT_KEY} is asked for {HOT_RATE:,} times a second more at each agent; its home is node "
                   f"{self.home.node_name}")
        self.sleep(0.5)
        loaded, hot_rate = self.node_rates()
        report.say(f"reads a second at the nodes: {self.rates_text(loaded)}")
        self.hot.rate.value = 0
        report.reads["quiet"], report.reads["off"], report.hot_rate = quiet, loaded, hot_rate
        self.set_mode("mitigate")
        # Longer than the window over which heat is measured.
        self.sleep(1.5)

    def set_mode(self, mode):
        started = time.monotonic()
        self.servers.hkctl("mode", mode)
        cluster.wait_until(
            f"the mode {mode} at every agent",
            lambda: all(agent.ask("HK.STATUS")["mode"] == mode for agent in self.agents), PATIENCE_SECONDS)
        self.report.say(f"hkctl mode {mode}: in force at all agents {milliseconds(self.seconds(started))} later")

    def heats_up(self):
        """The hot key again, found this time."""
        report, load = self.report, self.load
        report.title(f"{HOT_KEY} becomes hot")
        load.forget_times("hot")
        before = load.counts("hot")["sent"]
        self.hot.rate.value = HOT_RATE
        first = cluster.wait_until("the first hot request", lambda: load.first_sent_at("hot"), 5, every=0.001)
        report.say(f"first request of {HOT_KEY}: {HOT_RATE:,} a second at each agent, {3 * HOT_RATE:,} in sum", first)
        time.sleep(max(0, first + 0.1 - time.monotonic()))
        passed, sent = self.seconds(first), load.counts("hot")["sent"] - before
        report.say(f"in its first {milliseconds(passed)} it was asked for {sent} times, {sent / passed:,.0f} a second: "
                   f"over the threshold of {THRESHOLD_PER_SECOND:,} in sum, at no agent alone")
        report.check("the key is over the threshold in sum", sent / passed >= THRESHOLD_PER_SECOND,
                     f"{sent / passed:,.0f} a second; each agent sees {sent / passed / 3:,.0f}")

        applied = self.timeline.applied_everywhere(HOT_KEY, "hot", first, PATIENCE_SECONDS)
        published = self.timeline.publication(self.head_path, HOT_KEY, first, 2)
        if published is None:
            report.check("it is published in ZooKeeper", False, f"not within {PATIENCE_SECONDS} s")
        else:
            version = publication_version(published.document, HOT_KEY)
            passed = f"{milliseconds(published.at - first)} after the first request"
            report.say(f"{published.document['coordinator']} publishes it: {self.head_path}, version {version} (znode "
                       f"version {published.node_version}), {passed}", published.at)
            report.check("it is published in ZooKeeper", True, f"version {version}, {passed}")
        for event in sorted(applied.values(), key=lambda event: event.at):
            alone = published is not None and event.version < publication_version(published.document, HOT_KEY)
            report.say(f"{event.agent} applies it{' by its own counts' if alone else ''}, "
                       f"{milliseconds(event.at - first)} after the first request", event.at)
        report.check_applied("every agent applies it", applied, first, AGENTS, APPLIED_SECONDS_MAX)
        for agent in self.agents:
            key = agent.ask("HK.GET", HOT_KEY)
            if key["state"] != "hot":
                report.check(f"{agent.id} holds {HOT_KEY} for hot", False, f"HK.GET says {key['state']}")
        route = self.agents[0].ask("HK.ROUTE", HOT_KEY)
        copies = ", ".join(f"node {place['name']}" for place in route["copies"]) or "none"
        report.say(f"home: node {route['home']['name']}; copies: {copies}; read from: {route['reading']}")
        # Copies may be read once every value from before the agents knew has expired.
        self.sleep(1.5)
        before, hot_before = self.counters(), load.counts("hot")["answered"]
        rates, _ = self.node_rates()
        after, hot_reads = self.counters(), load.counts("hot")["answered"] - hot_before
        report.say(f"reads a second at the nodes: {self.rates_text(rates)}")
        local = after["localHits"] - before["localHits"]
        # Reads that came while another one fetched the value, and got the same answer.
        waited = int(after["fillWaits"] - before["fillWaits"])
        report.say(f"in these {MEASURE_SECONDS} s: {hot_reads:,} reads of {HOT_KEY}, {local:,} answers from the "
                   f"agents' memory, {waited:,} shared another read's answer, "
                   f"{after['copyReads'] - before['copyReads']:,} from copies, "
                   f"{after['hotHomeReads'] - before['hotHomeReads']:,} from its home")
        report.reads["mitigate"] = rates
        reached = sum(after[name] - before[name] for name in ("copyReads", "hotHomeReads"))
        report.check(f"its reads leave the nodes (at most {NODE_SHARE_MAX:.0%} of them get there)",
                     hot_reads > 0 and reached <= NODE_SHARE_MAX * hot_reads,
                     f"{reached:,} of {hot_reads:,}")
        report.check(f"the agents answer themselves (at least {LOCAL_SHARE_MIN:.0%})",
                     hot_reads > 0 and local + waited >= LOCAL_SHARE_MIN * hot_reads,
                     # Agents and load are not read at the same instant, so a little more than all may be counted.
                     f"about {min(1, (local + waited) / max(1, hot_reads)):.1%} of {hot_reads:,}")

    def operator(self):
        """A pin, and a deny of a key that detection has found."""
        report = self.report
        report.title("The operator overrides: pin and deny")
        self.decide("pin", self.pinned_key, "pinned", "--reason", "launch at noon")
        report.say(f"{CRAWLED_KEY} is asked for {CRAWL_RATE:,} times a second at each agent, by a crawler")
        started = time.monotonic()
        self.crawl.rate.value = CRAWL_RATE
        found = self.timeline.applied_everywhere(CRAWLED_KEY, "hot", started, PATIENCE_SECONDS)
        report.check_applied("a second hot key is found", found, started, AGENTS, APPLIED_SECONDS_MAX)
        if found:
            report.say(f"detection finds it: hot at {len(found)} agents after "
                       f"{milliseconds(max(event.at for event in found.values()) - started)}")
        self.decide("deny", CRAWLED_KEY, "denied", "--reason", "a crawler")
        self.sleep(2)
        states = [agent.ask("HK.GET", CRAWLED_KEY)["state"] for agent in self.agents]
        report.say(f"2 s later, the crawler going on, it is at the agents: {', '.join(states)}")
        report.check("a denied key stays denied under load", states == ["denied"] * len(states), ", ".join(states))
        self.crawl.rate.value = 0

    def decide(self, verb, key, state, *options):
        report = self.report
        started = time.monotonic()
        self.servers.hkctl(verb, key, *options)
        ended = time.monotonic()
        applied = self.timeline.applied_everywhere(key, state, started, PATIENCE_SECONDS)
        written = self.timeline.wait(
            lambda events: next((event for event in events if getattr(event, "path", "").endswith("/pins")), None),
            started - 0.001, 2)
        report.say(f"hkctl {verb} {key} (the command took {milliseconds(ended - started)})", started)
        for event in sorted(applied.values(), key=lambda event: event.at):
            since_write = f", {milliseconds(max(0, event.at - written.at))} after the write" if written else ""
            report.say(f"{event.agent} applies it {milliseconds(event.at - started)} after the command's start"
                       f"{since_write}", event.at)
        # How long a command takes to start is no part of the pipeline.
        since = written.at if written else started
        report.check_applied(
            f"hkctl {verb} reaches every agent after its write", applied, since, AGENTS, APPLIED_SECONDS_MAX)

    def outage(self):
        """The hot key's home dies under load, and comes back."""
        report, load, home = self.report, self.load, self.home
        name = home.node_name
        report.title(f"Node {name}, the home of {HOT_KEY}, is killed")
        others = [f"read {node.node_name}" for node in self.servers.nodes if node is not home]
        own = [f"read {name}", f"write {name}"]
        for kind in ("hot", "pinned", *own):
            load.forget_times(kind)
        before = {kind: load.counts(kind) for kind in ("hot", "pinned", *own, *others)}
        counters = self.counters()
        home.kill()
        killed = time.monotonic()
        report.say(f"SIGKILL to node {name} at {home.address}; reads go on through all agents", killed)
        opened = self.wait_for_breakers(lambda state: state != "closed", "open", killed)
        report.check("every agent's breaker opens", len(opened) == len(AGENTS), f"{len(opened)} of {len(AGENTS)}")
        self.sleep(max(0, killed + OUTAGE_SECONDS - time.monotonic()))

        def during(kind):
            return {field: count - before[kind][field] for field, count in load.counts(kind).items()}
        hot, pinned, lost = during("hot"), during("pinned"), during(own[0])
        after = self.counters()
        slowest = load.slowest_seconds("hot")
        report.say(f"after {self.seconds(killed):.1f} s: {hot['answered']:,} reads of {HOT_KEY} answered, "
                   f"{hot['failed'] + hot['empty']} failed (the slowest took {milliseconds(slowest)}); "
                   f"{after['staleAnswers'] - counters['staleAnswers']:,} answers with the last known value, "
                   f"{after['localHits'] - counters['localHits']:,} from memory, "
                   f"{after['copyReads'] - counters['copyReads']:,} from copies")
        report.say(f"the pinned key {self.pinned_key} of the same node: {pinned['answered']:,} answered, "
                   f"{pinned['failed'] + pinned['empty']} failed")
        report.say(f"other keys of node {name}: {lost['answered']:,} answered (before the kill was noticed), "
                   f"{lost['failed']:,} failed, the slowest after {milliseconds(load.slowest_seconds(own[0]))}")
        if error := load.last_error(own[0]):
            report.say(f'  what their clients read: "{error}"')

        report.title(f"Node {name} comes back")
        home.start()
        home.wait_until_answering()
        back = time.monotonic()
        report.say(f"node {name} answers again, with what it held", back)
        closed = self.wait_for_breakers(lambda state: state == "closed", "closed", back)
        report.check(f"every breaker closes within {CLOSED_SECONDS_MAX} s",
                     len(closed) == len(AGENTS) and max(closed.values()) <= CLOSED_SECONDS_MAX,
                     f"after {milliseconds(max(closed.values()))}" if closed else "none")
        self.sleep(0.5)
        hot, pinned = during("hot"), during("pinned")
        elsewhere = [during(kind) for kind in others]
        report.check(f"not one read of {HOT_KEY} fails", hot["failed"] + hot["empty"] == 0 and hot["answered"] > 0,
                     f"{hot['answered']:,} answered, {hot['failed'] + hot['empty']} failed")
        report.check("nor of the pinned key", pinned["failed"] + pinned["empty"] == 0 and pinned["answered"] > 0,
                     f"{pinned['answered']:,} answered, {pinned['failed'] + pinned['empty']} failed")
        report.check("keys of the other nodes are not touched",
                     sum(one["failed"] + one["empty"] for one in elsewhere) == 0,
                     f"{sum(one['answered'] for one in elsewhere):,} answered, "
                     f"{sum(one['failed'] + one['empty'] for one in elsewhere)} failed")
        for kind in own:
            self.outage_failures += during(kind)["failed"]

    def wait_for_breakers(self, is_wanted, word, since):
        """Says as each agent's breaker of the hot key's home gets there; seconds by agent."""
        seconds = {}
        end = time.monotonic() + CLOSED_SECONDS_MAX + PATIENCE_SECONDS
        while len(seconds) < len(AGENTS) and time.monotonic() < end:
            for agent in self.agents:
                states = {node["name"]: node["breaker"] for node in agent.ask("HK.STATUS")["nodes"]}
                if agent.id not in seconds and is_wanted(states.get(self.home.node_name)):
                    seconds[agent.id] = self.seconds(since)
                    self.report.say(f"{agent.id}: breaker of node {self.home.node_name} {word} after "
                                    f"{milliseconds(seconds[agent.id])}")
            time.sleep(0.01)
        return seconds

    def normal_again(self):
        report, load = self.report, self.load
        rates, _ = self.node_rates()
        report.reads["after"] = rates
        report.say(f"reads a second at the nodes: {self.rates_text(rates)}")
        kinds = sorted(load.tallies[0])
        total = load.counts(*kinds)
        unexpected = total["failed"] + total["empty"] - self.outage_failures
        report.check("nothing else fails in the whole show", unexpected == 0,
                     f"{total['answered']:,} answered, {unexpected} failed"
                     + ("" if unexpected == 0 else f" ({next(filter(None, map(load.last_error, kinds)), 'empty')})"))
        views = {agent.id: agent.ask("HK.STATUS")["view"] for agent in self.agents}
        versions = {(view["epoch"], view["version"]) for view in views.values()}
        fresh = all(view["state"] == "fresh" for view in views.values())
        report.check("all agents agree on the hot set", len(versions) == 1 and fresh,
                     "; ".join(sorted(f"version {version}" for _, version in versions)) + (", fresh" if fresh else ""))

    def run(self):
        self.start()
        self.without()
        self.heats_up()
        self.operator()
        self.outage()
        self.normal_again()

    def leave_running(self):
        say = self.report.say
        self.report.title("Everything is left running, with the load")
        say(f"ZooKeeper      {self.servers.zookeeper}, root {cluster.ROOT}, app {cluster.APP}")
        for node in self.servers.nodes:
            say(f"node {node.node_name}         redis-cli -p {node.port}")
        for agent in self.agents:
            say(f"agent {agent.id}   redis-cli -p {agent.port} (HK.LIST, HK.GET {HOT_KEY}, any Redis command); "
                f"http://127.0.0.1:{agent.admin_port}/metrics")
        say(f"hkctl          {self.servers.binaries}/hkctl --zookeeper {self.servers.zookeeper} --root {cluster.ROOT} "
            f"--app {cluster.APP} status")
        say(f"files and logs {self.servers.directory}")
        say(f"Ctrl-C (or kill {os.getpid()}) stops it all.")
        try:
            while True:
                self.sleep(1)
        except cluster.Interrupted:
            say("stopping")

    def close(self):
        if self.load is not None:
            self.load.stop()
        if self.timeline is not None:
            self.timeline.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binaries", required=True)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    sys.stdout.reconfigure(encoding="utf-8", errors="replace", line_buffering=True)
    cluster.stop_on_signals()
    report = Report()
    with cluster.reporting("script/demo"), cluster.Cluster(options.binaries, "hotkey-demo-") as servers:
        show = Show(servers, report)
        try:
            show.run()
            report.summarise([node.node_name for node in servers.nodes], show.home.node_name)
            servers.keep_directory = bool(report.broken)
            if options.keep:
                show.leave_running()
        finally:
            show.close()
    if report.broken:
        raise SystemExit("script/demo: did not hold: " + "; ".join(report.broken))


main()
