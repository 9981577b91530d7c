"""The steps of script/bench mitigation that look at copies, at a node's death and at switching off. Each starts what it needs and returns
figures; `bench_mitigation` judges them."""

import hashlib
import json
import os
import random
import signal
import time

import cluster
from load import value_of
from mitigation_check import busiest_over_mean, last_kept_back, most_fills
from mitigation_load import ANSWERED, REJECTED, Mix, MitigationLoad, Target, past_agents, through_agent
from node_monitor import NodeMonitor, askers

AGENTS = ["host-1", "host-2", "host-3"]
REASON = "script/bench mitigation"
COPY_NAMES = "__hkcopy:*"
SETTLE_SECONDS_MAX = 60


def rule(pattern, threshold, action, **more):
    return {"pattern": pattern, "thresholdPerSecond": threshold, "action": action, "coolDownSeconds": 3, "minimumHotSeconds": 3, **more}


def store(agent, keys):
    pipeline = agent.client.pipeline(transaction=False)
    for key in keys:
        pipeline.set(key, value_of(key))
    if not all(pipeline.execute()):
        raise cluster.Failure(f"{agent.name} did not store all keys")


def homes(nodes, pattern):
    """Where keys lie, by the nodes' own word."""
    return {key.decode(): node.node_name for node in nodes for key in node.client.scan_iter(pattern, count=1_000)}


def keys_on_each(servers, prefix, count, names):
    """So many stored keys with their home on each of the nodes, by node. FNV puts names that differ in their last digits alone next to
    each other on the ring, so names are mixed."""
    drawn = [f"{prefix}:{hashlib.md5(str(number).encode()).hexdigest()[:10]}" for number in range(count * len(names) * 3)]
    store(servers.agents[0], drawn)
    found = {name: [] for name in names}
    for key, home in sorted(homes(servers.nodes, f"{prefix}:*").items()):
        found[home].append(key)
    if min(map(len, found.values())) < count:
        raise cluster.Failure(f"of {len(drawn)} keys too few lie on one of the nodes")
    return {name: keys[:count] for name, keys in found.items()}


def wait_for_copies(servers, keys, copies):
    """Until every agent reads so many copies of each key."""
    for agent in servers.agents:
        for key in keys:
            cluster.wait_until(
                f"{agent.name} to read {copies} copies of {key}",
                lambda agent=agent, key=key: len(agent.ask("HK.ROUTE", key)["readableCopies"]) == copies, SETTLE_SECONDS_MAX,
                process=agent)


def all_through_agents(servers, targets, seed):
    """A process for each agent, which asks it for all targets."""
    mixes = {"all": Mix(targets)}
    return MitigationLoad([({"agents": through_agent(agent)}, mixes) for agent in servers.agents], seed)


def node_load(nodes):
    """GETs and microseconds of processor so far, by node."""
    found = {}
    for node in nodes:
        cpu = node.client.info("cpu")
        found[node.node_name] = node.reads(), (cpu["used_cpu_user"] + cpu["used_cpu_sys"]) * 1e6
    return found


# MARK: copies

SHARE_RATE = 400
HOT_SHARES = 10
KEYS_A_NODE = 500
COPIES_SECONDS, COPIES_WARM_SECONDS = 8, 2
COPIES = [3, 8]


def copies(servers, seed, progress):
    """One key at ten times what each node has besides; one more node than copies. By what reads are spread."""
    hot, rows = "spread:hot", []
    for number in range(COPIES[0] + 1):
        servers.start_node(f"n{number}")
    servers.start_fleet(AGENTS, "--threads", "1")
    for count in COPIES:
        if len(servers.nodes) < count + 1:
            while len(servers.nodes) < count + 1:
                servers.start_node(f"n{len(servers.nodes)}").wait_until_answering()
            servers.apply_topology(
                {**json.loads(servers.hkctl("topology", "show", "--output", "json")),
                 "nodes": [{"name": node.node_name, "address": node.address} for node in servers.nodes]}, REASON)
        rows += [{"copies": count, **row} for row in copies_of(servers, hot, count, seed, progress)]
    return {"shareRate": SHARE_RATE, "hotShares": HOT_SHARES, "rows": rows}


def copies_of(servers, hot, count, seed, progress):
    names = [node.node_name for node in servers.nodes]
    for node in servers.nodes:
        node.client.flushall()
    others = [Target(key, 1 / KEYS_A_NODE, "other", home)
              for home, keys in keys_on_each(servers, "cold", KEYS_A_NODE, names).items() for key in keys]
    store(servers.agents[0], [hot])
    for node in servers.nodes:
        node.client.set("random:hot", value_of("random:hot"))
    mixes = {
        "agents": Mix([Target(hot, HOT_SHARES, "hot", None), *others]),
        "random": Mix([*(Target("random:hot", HOT_SHARES / len(names), "hot", name) for name in names), *others])}
    rate = SHARE_RATE * (len(names) + HOT_SHARES)
    load = MitigationLoad(
        [({"agents": through_agent(agent), "nodes": past_agents(servers.nodes)}, mixes) for agent in servers.agents], seed)
    try:
        for name, way, mix, action in [("copies", "agents", "agents", "copies"), ("random", "nodes", "random", "observe"),
                                       ("home", "agents", "agents", "observe")]:
            servers.apply_rules({"schema": 1, "rules": [rule(hot, SHARE_RATE, action, copies=count)]}, REASON)
            if action == "copies":
                load.begin(way, mix, rate)
                wait_for_copies(servers, [hot], count)
            else:
                wait_for_copies(servers, [hot], 0)
                load.begin(way, mix, rate)
            time.sleep(COPIES_WARM_SECONDS)
            load.forget()
            before, began = node_load(servers.nodes), time.monotonic()
            time.sleep(COPIES_SECONDS)
            after, seconds = node_load(servers.nodes), time.monotonic() - began
            load.end()
            samples, errors = load.samples()
            reads, cpu = ([after[name][part] - before[name][part] for name in names] for part in (0, 1))
            row = {
                "spread": name, "sent": len(samples), "failed": sum(sample.outcome != ANSWERED for sample in samples),
                "errors": dict(errors), "seconds": seconds, "nodeReads": reads, "readsRatio": busiest_over_mean(reads),
                "cpuRatio": busiest_over_mean(cpu)}
            progress(f"{count} copies, {name}: busiest over mean {row['readsRatio']:.2f} by GETs, {row['cpuRatio']:.2f} by processor; "
                     f"GETs of nodes {reads}")
            yield row
    finally:
        load.kill()


# MARK: a node killed

KILLS = 3
DOWN_SECONDS, BEFORE_SECONDS, AFTER_SECONDS = 4.0, 2.5, 5.0
KILL_RATE = 2_400
HOT_KEYS_A_NODE, OTHER_KEYS_A_NODE = 8, 200
HOT_SHARE = 0.5
CAP_SECONDS = 1.0
# With local cache and copies each has half of the cap, and an agent asks again for what it keeps when three quarters of its half are
# over. A fill that waited for a processor before it was executed comes closer to the next one.
INTERVAL_SECONDS = 0.75 * CAP_SECONDS / 2 - 0.025


def killed(servers, seed, progress):
    """A node killed under load, and started again with its data."""
    order = random.Random(seed)
    names = ["a", "b", "c"]
    # Comparisons with home are reads of the home, too, but no fills.
    servers.start_all(AGENTS, "--threads", "1", "--local-cache-probe-permille", "0", append_only=True)
    servers.apply_rules({"schema": 1, "rules": [
        rule("hot:*", 20, "both", copies=2, stalenessCapMilliseconds=int(CAP_SECONDS * 1_000), staleOnErrorCapSeconds=60)]}, REASON)
    hot = keys_on_each(servers, "hot", HOT_KEYS_A_NODE, names)
    other = keys_on_each(servers, "other", OTHER_KEYS_A_NODE, names)
    targets = [Target(key, weight, f"{kind} {home}", home) for kind, keys, weight in [
        ("hot", hot, HOT_SHARE / HOT_KEYS_A_NODE), ("other", other, (1 - HOT_SHARE) / OTHER_KEYS_A_NODE)]
        for home in names for key in keys[home]]
    load = all_through_agents(servers, targets, seed)
    try:
        load.begin("agents", "all", KILL_RATE)
        wait_for_copies(servers, [key for keys in hot.values() for key in keys], 2)
        rounds = []
        for number in range(KILLS):
            rounds.append(one_kill(servers, load, servers.node(order.choice(names)), hot, order))
            progress(f"kill {number + 1} of {KILLS}: {told(rounds[-1])}")
    finally:
        load.kill()
    return {"rounds": rounds, "downSeconds": DOWN_SECONDS, "rate": KILL_RATE, "intervalMilliseconds": INTERVAL_SECONDS * 1_000}


def one_kill(servers, load, node, hot, order):
    load.forget()
    monitors = [NodeMonitor(each) for each in servers.nodes]
    time.sleep(BEFORE_SECONDS)
    owners = askers(node.port, servers.agents)
    node.kill()
    # After the last moment at which it may have answered, so that nothing that it answered is expected to fail.
    down_at = time.monotonic()
    time.sleep(DOWN_SECONDS + order.uniform(0, 1))
    node.start()
    node.wait_until_answering()
    up_at = time.monotonic()
    back = NodeMonitor(node)
    time.sleep(AFTER_SECONDS)
    samples, errors = load.samples()
    reads = [(each.node, read) for each in [*monitors, back] for read in each.reads()]
    for each in servers.nodes:
        owners.update(askers(each.port, servers.agents))
    is_home = {(home, key) for home, keys in hot.items() for key in keys}
    fills = [(at, owners[client].id if client in owners else client, key) for where, (at, client, key) in reads
             if (where.node_name, key) in is_home]
    fills_back = [each for each in fills if each[2] in hot[node.node_name]]
    most, asker, key = most_fills(fills, INTERVAL_SECONDS)
    return {"node": node.node_name, "errors": dict(errors), "fills": len(fills), "fillsOfNode": len(fills_back), "mostFills": most,
            "mostFillsBy": asker, "mostFillsOf": key, **kill_figures(samples, node.node_name, down_at, up_at)}


def kill_figures(samples, name, down_at, up_at):
    """How the reads of one node's keys fared, by when they were sent."""
    hot = [sample for sample in samples if sample.group == f"hot {name}"]
    other = [sample for sample in samples if sample.group == f"other {name}"]
    # What an agent answers by itself, as it does the errors: how long that takes here and now.
    elsewhere = [sample for sample in samples if sample.group.startswith("hot ") and not sample.group.endswith(f" {name}")]
    opened = {}
    for sample in sorted(other, key=lambda each: each.sent):
        if sample.outcome == REJECTED:
            opened.setdefault(sample.process, sample.sent)
    failed = [sample for sample in other if sample.outcome != ANSWERED]
    rejected = [sample.seconds for sample in failed
                if sample.process in opened and opened[sample.process] <= sample.sent < up_at and sample.sent >= down_at]
    first = [sample.seconds for sample in failed if sample.sent < opened.get(sample.process, up_at)]
    meanwhile = [sample.seconds for sample in elsewhere if sample.outcome == ANSWERED and down_at <= sample.sent < up_at]
    return {
        "hotSent": len(hot), "hotFailed": sum(sample.outcome != ANSWERED for sample in hot),
        "breakersOpened": len(opened), "openedSeconds": max((at - down_at for at in opened.values()), default=0.0),
        "rejectedSeconds": rejected, "failedBeforeSeconds": first, "othersSeconds": meanwhile,
        "failedElsewhere": sum(sample.outcome != ANSWERED for sample in samples if not sample.group.endswith(f" {name}")),
        "normalAfterSeconds": max((sample.sent + sample.seconds - up_at for sample in failed), default=0.0)}


def told(row):
    return (f"node {row['node']}, hot {row['hotSent']:,} sent and {row['hotFailed']} not answered; rejected "
            f"{len(row['rejectedSeconds']):,}, slowest {max(row['rejectedSeconds'], default=0) * 1_000:.1f} ms; normal "
            f"{row['normalAfterSeconds']:.2f} s after its return; most fills of a key by one agent in an interval {row['mostFills']} "
            f"({row['mostFillsBy']} {row['mostFillsOf']})")


# MARK: nothing left

LEFT_ROUNDS, LEFT_KEYS, LEFT_COPIES = 2, 40, 2
# A second, of all keys together: 60 of each, and 4, where 20 are hot and 8 keep a key from cooling.
LEFT_RATE, LEFT_COOL_RATE = 2_400, 160
LEFT_SECONDS_MAX = 30
LOOK_SECONDS = 0.05


def copies_on(node):
    return list(node.client.scan_iter(COPY_NAMES, count=1_000))


def count(nodes):
    return sum(len(copies_on(node)) for node in nodes)


def longest_life(nodes):
    """In seconds, of the copies that are there."""
    lives = [node.client.pttl(key) for node in nodes for key in copies_on(node)]
    if any(life == -1 for life in lives):
        raise cluster.Failure("a copy has no expiry")
    return max(lives, default=0) / 1_000


def gone_after(nodes, since):
    """When the last copy was seen on the nodes, in seconds from `since`. They have to stay away for two lifetimes."""
    last, end = since, since + LEFT_SECONDS_MAX
    while time.monotonic() < end:
        if count(nodes):
            last = time.monotonic()
        elif time.monotonic() - last > 2 * CAP_SECONDS:
            return max(0.0, last - since)
        time.sleep(LOOK_SECONDS)
    return float(LEFT_SECONDS_MAX)


def left(servers, seed, progress):
    """Copies after their keys have cooled, and on a node that is taken out of the topology under load."""
    names = ["a", "b", "c", "d"]
    for name in names:
        servers.start_node(name)
    servers.start_fleet(AGENTS, "--threads", "1")
    servers.apply_rules({"schema": 1, "rules": [
        rule("left:*", 20, "both", copies=LEFT_COPIES, stalenessCapMilliseconds=int(CAP_SECONDS * 1_000))]}, REASON)
    keys = [f"left:{hashlib.md5(str(number).encode()).hexdigest()[:10]}" for number in range(LEFT_KEYS)]
    store(servers.agents[0], keys)
    load = all_through_agents(servers, [Target(key, 1, "hot", None) for key in keys], seed)
    rows, first = [], random.Random(seed).randrange(len(names))

    def heat():
        load.end()
        load.begin("agents", "all", LEFT_RATE)
        wait_for_copies(servers, keys, LEFT_COPIES)
        return count(servers.nodes)

    def cool():
        # Reads go on, so that copies are there until the last: a key that nobody asks for loses them while it cools.
        load.end()
        load.begin("agents", "all", LEFT_COOL_RATE)
        for agent in servers.agents:
            cluster.wait_until(
                f"{agent.name} to let all keys go", lambda agent=agent: agent.metric("hotkey_hot_keys") == 0, SETTLE_SECONDS_MAX,
                process=agent)

    def note(what, nodes, before):
        life, since = longest_life(nodes), time.monotonic()
        row = {"what": what, "before": before, "then": count(nodes), "lifeSeconds": life, "goneSeconds": gone_after(nodes, since)}
        rows.append(row)
        progress(f"{what}: {row['before']} copies before, {row['then']} then, the longest life {life:.2f} s, none after "
                 f"{row['goneSeconds']:.2f} s")
    try:
        for number in range(LEFT_ROUNDS):
            before = heat()
            cool()
            note("the keys are cold", servers.nodes, before)
            heat()
            document = json.loads(servers.hkctl("topology", "show", "--output", "json"))
            out = servers.node(names[(first + number) % len(names)])
            before = count([out])
            servers.apply_topology({**document, "nodes": [each for each in document["nodes"] if each["name"] != out.node_name]}, REASON)
            note("their node is out of the topology, under load", [out], before)
            before = count(servers.nodes)
            cool()
            note("the keys are cold, that node looked at too", servers.nodes, before)
            servers.apply_topology(document, REASON)
            store(servers.agents[0], keys)
    finally:
        load.kill()
    return {"keys": LEFT_KEYS, "rows": rows}


# MARK: switched off

OFF_ROUNDS = 6
SESSION_MILLISECONDS = 2_000
# Every other round the stopped agent's session ends, and another one coordinates.
STOPPED_SECONDS = [1.5, 4.5]
OFF_RATE_AN_AGENT = 200
OFF_SECONDS = 2.0
# Between the node's clock and ours, on one machine.
CLOCK_TOLERANCE_SECONDS = 0.002


def switched_off(servers, seed, progress):
    """`hkctl mode off` while the coordinator is stopped (SIGSTOP). Each agent's own key shows when its reads go to the node."""
    servers.start_all(AGENTS, "--threads", "1", "--zookeeper-session-timeout-milliseconds", str(SESSION_MILLISECONDS))
    servers.apply_rules({"schema": 1, "rules": [rule("off:*", 20, "cache", stalenessCapMilliseconds=int(CAP_SECONDS * 1_000))]}, REASON)
    keys = {agent.id: f"off:{agent.id}" for agent in servers.agents}
    store(servers.agents[0], keys.values())
    # Each process asks its agent for its key, and no other.
    load = MitigationLoad(
        [({"agents": through_agent(agent)}, {"all": Mix([Target(keys[agent.id], 1, "own", None)])}) for agent in servers.agents], seed)
    others, stopped = [], []
    try:
        for number in range(OFF_ROUNDS):
            load.begin("agents", "all", OFF_RATE_AN_AGENT * len(servers.agents))
            for agent in servers.agents:
                cluster.wait_until(
                    f"{agent.name} to serve its key locally",
                    lambda agent=agent: agent.ask("HK.ROUTE", keys[agent.id])["reading"] == "local-cache", SETTLE_SECONDS_MAX,
                    process=agent)
            result = one_switch(servers, load, keys, STOPPED_SECONDS[number % len(STOPPED_SECONDS)])
            others += result["others"]
            stopped.append(result["stopped"])
            progress(f"round {number + 1} of {OFF_ROUNDS}: the others plain after "
                     f"{', '.join(f'{seconds * 1_000:.0f}' for seconds in result['others'])} ms, the stopped one "
                     f"{result['stopped'] * 1_000:.0f} ms after it woke; hkctl took {result['hkctl'] * 1_000:.0f} ms")
            servers.hkctl("mode", "mitigate", "--reason", REASON)
    finally:
        load.kill()
    return {"rounds": OFF_ROUNDS, "otherSeconds": others, "stoppedSeconds": stopped}


def one_switch(servers, load, keys, stopped_seconds):
    leader = cluster.wait_until("an agent to coordinate", lambda: next(
        (agent for agent in servers.agents if agent.metric("hotkey_leader") == 1), None))
    load.forget()
    monitors = [NodeMonitor(node) for node in servers.nodes]
    time.sleep(0.5)
    os.kill(leader.pid, signal.SIGSTOP)
    try:
        time.sleep(0.2)
        asked_at = time.monotonic()
        servers.hkctl("mode", "off", "--reason", REASON)
        hkctl_seconds = time.monotonic() - asked_at
        time.sleep(stopped_seconds)
    finally:
        os.kill(leader.pid, signal.SIGCONT)
    woke_at = time.monotonic()
    time.sleep(OFF_SECONDS)
    load.end()
    samples, errors = load.samples()
    if errors:
        raise cluster.Failure(f"reads failed while the fleet was switched off: {dict(errors)}")
    ahead = time.time() - time.monotonic()
    seen = [read for monitor in monitors for read in monitor.reads()]
    plain = {}
    for number, agent in enumerate(servers.agents):
        kept_back = last_kept_back(
            [(sample.sent, sample.sent + sample.seconds) for sample in samples if sample.process == number],
            [at - ahead for at, _, key in seen if key == keys[agent.id]], CLOCK_TOLERANCE_SECONDS)
        since = woke_at if agent is leader else asked_at
        if kept_back is None or kept_back < since - 0.5 and agent is not leader:
            raise cluster.Failure(f"{agent.name} was plain before it was told to be")
        plain[agent] = max(0.0, kept_back - since)
    return {"others": [seconds for agent, seconds in plain.items() if agent is not leader], "stopped": plain[leader],
            "hkctl": hkctl_seconds}
