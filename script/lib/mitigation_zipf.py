"""The step of script/bench mitigation that looks at what reaches the nodes, and how long clients wait, when keys are asked for as a
Zipf distribution has it."""

import json
import os
import random
import time

import cluster
from bench_report import median, quantile
from load import zipf_weights
from mitigation_check import cut
from mitigation_load import ANSWERED, Mix, MitigationLoad, Target, past_agents, through_agent
from mitigation_steps import AGENTS, REASON, homes
from node_monitor import NodeMonitor
from redis_benchmark import KEYS, fill

EXPONENT = 1.2
VALUE_BYTES = 64
# The hot set is found at the higher rate and stays through the cool-down; latencies are those of the lower one, which leaves the cores idle
# for most of the time.
RATE, WARM_RATE = 4_000, 30_000
THRESHOLD = 2
# The nodes tell of changes within milliseconds: the cap bounds what happens when they do not, and how often each agent reads each key anew.
CAP_SECONDS = COOL_DOWN_SECONDS = 300
# At a threshold of a few accesses a second single writes pass the usual tenth of the reads.
WRITE_HOT_RATIO = 1
MIXES = {"reads": 0.0, "writes": 0.01}
ROUNDS, ROUND_SECONDS, ROUND_WARM_SECONDS = 4, 4, 1.5
COUNT_SECONDS = 10
# The hot set has settled when it grows by less than this part in as many seconds.
SETTLED_SHARE, SETTLED_SECONDS, SETTLE_SECONDS_MAX = 0.01, 5, 75


def rules():
    return {"schema": 1, "rules": [{
        "pattern": "key:*", "thresholdPerSecond": THRESHOLD, "action": "cache", "stalenessCapMilliseconds": CAP_SECONDS * 1_000,
        "coolDownSeconds": COOL_DOWN_SECONDS, "minimumHotSeconds": COOL_DOWN_SECONDS, "writeHotRatio": WRITE_HOT_RATIO}]}


def raise_cap(servers):
    """The fleet's cap stands in the control document, which no verb of hkctl sets by itself."""
    file = os.path.join(servers.directory, "export.json")
    servers.hkctl("export", file)
    with open(file, encoding="utf-8") as exported:
        document = json.load(exported)
    document["control"]["stalenessCapMilliseconds"] = CAP_SECONDS * 1_000
    with open(file, "w", encoding="utf-8") as output:
        json.dump(document, output)
    servers.hkctl("import", file, "--reason", REASON)


def hot_keys(servers):
    """The keys that every agent acts on."""
    found = [{each["key"] for each in agent.ask("HK.LIST")["keys"] if each["action"] == "cache"} for agent in servers.agents]
    return set.intersection(*found)


def settle(servers, progress):
    """Waits until the hot set grows no more; how many keys it has."""
    end, count = time.monotonic() + SETTLE_SECONDS_MAX, 0
    while time.monotonic() < end:
        time.sleep(SETTLED_SECONDS)
        before, count = count, int(min(agent.metric("hotkey_hot_keys") for agent in servers.agents))
        progress(f"{count:,} hot keys")
        if before and abs(count - before) <= SETTLED_SHARE * before:
            break
    return count


def reads_of(nodes):
    return sum(node.reads() for node in nodes)


def one_round(servers, load, way, mix, keys):
    """Latencies and what reached the nodes, for so many seconds after a warm-up."""
    hot = hot_keys(servers)
    load.begin(way, mix, RATE)
    time.sleep(ROUND_WARM_SECONDS)
    load.forget()
    before = reads_of(servers.nodes)
    time.sleep(ROUND_SECONDS)
    load.end()
    reached = reads_of(servers.nodes) - before
    samples, errors = load.samples()
    reads = [sample for sample in samples if not sample.is_write and sample.outcome == ANSWERED]
    every, hot_reads = ([sample.seconds for sample in some] for some in (
        reads, [sample for sample in reads if keys[sample.group] in hot]))
    return {
        "way": way, "sent": len(samples), "reads": len(reads), "reached": reached, "errors": dict(errors),
        "failed": sum(sample.outcome != ANSWERED for sample in samples),
        **{name: quantile(values, share) * 1_000 for name, values, share in [
            ("p50Milliseconds", every, 0.5), ("p99Milliseconds", every, 0.99), ("p999Milliseconds", every, 0.999),
            ("hotP99Milliseconds", hot_reads, 0.99)]}}


def agents_say(servers):
    """Fills so far whose changes no node would tell of, and the version of the hot set."""
    return (sum(agent.metric('hotkey_fills_total{tracked="no"}') for agent in servers.agents),
            max(agent.metric("hotkey_hot_version") for agent in servers.agents))


def count(servers, load, mix, keys):
    """Which reads reached the nodes, key by key."""
    load.begin("agents", mix, RATE)
    time.sleep(ROUND_WARM_SECONDS)
    hot = hot_keys(servers)
    load.forget()
    monitors = [NodeMonitor(node) for node in servers.nodes]
    before = agents_say(servers)
    time.sleep(COUNT_SECONDS)
    after = agents_say(servers)
    reached = [key for monitor in monitors for _, _, key in monitor.reads()]
    load.end()
    samples, _ = load.samples()
    hot &= hot_keys(servers)
    sent = [keys[sample.group] for sample in samples if not sample.is_write]
    hot_sent, hot_reached = sum(key in hot for key in sent), sum(key in hot for key in reached)
    return {
        "hotKeys": len(hot), "sent": len(sent), "reached": len(reached), "cut": cut(len(sent), len(reached)),
        "hotSent": hot_sent, "hotReached": hot_reached, "hotCut": cut(hot_sent, hot_reached),
        "hotWrites": sum(sample.is_write and keys[sample.group] in hot for sample in samples),
        "fillsUntracked": after[0] - before[0], "publications": (after[1] - before[1]) / COUNT_SECONDS}


def zipf(servers, seed, progress):
    """Reads alone, and with one write in a hundred requests, in turns through the agents and past them."""
    servers.start_all(AGENTS, "--threads", "1")
    raise_cap(servers)
    servers.apply_rules(rules(), REASON)
    fill(servers.agents[0].port, VALUE_BYTES)
    where = homes(servers.nodes, "key:*")
    if len(where) != KEYS:
        raise cluster.Failure(f"{len(where)} of {KEYS} keys are found on the nodes")
    # Names that follow one another lie together on the ring; how hot they are must not.
    keys = sorted(where)
    random.Random(seed).shuffle(keys)
    targets = [Target(key, weight, rank, where[key]) for rank, (key, weight) in enumerate(zip(keys, zipf_weights(KEYS, EXPONENT)))]
    mixes = {name: Mix(targets, share) for name, share in MIXES.items()}
    load = MitigationLoad(
        [({"agents": through_agent(agent), "nodes": past_agents(servers.nodes)}, mixes) for agent in servers.agents], seed)
    cases = []
    try:
        load.begin("agents", "reads", WARM_RATE)
        settle(servers, progress)
        for name, share in MIXES.items():
            # Before the rounds: what is written past the agents in these costs the agents reads of their homes later.
            counted = count(servers, load, name, keys)
            progress(f"{name}: GETs at nodes cut by {counted['cut']:.1%}, those of {counted['hotKeys']:,} hot keys by "
                     f"{counted['hotCut']:.1%}")
            rounds = []
            for number in range(ROUNDS):
                for way in ("agents", "nodes") if number % 2 == 0 else ("nodes", "agents"):
                    rounds.append(one_round(servers, load, way, name, keys))
                    one = rounds[-1]
                    progress(f"{name}, round {number + 1} of {ROUNDS}, {way}: {one['reads']:,} GETs, {one['reached']:,} reached the "
                             f"nodes; p50 {one['p50Milliseconds']:.2f}, p99 {one['p99Milliseconds']:.2f} ms")
            cases.append(summary(name, share, rounds, counted))
    finally:
        load.kill()
    return {"rate": RATE, "rule": rules()["rules"][0], "exponent": EXPONENT, "agents": len(AGENTS), "keys": KEYS, "rounds": ROUNDS,
            "cases": cases}


def summary(name, share, rounds, counted):
    ways = {way: [one for one in rounds if one["way"] == way] for way in ("agents", "nodes")}
    fields = ["p50Milliseconds", "p99Milliseconds", "p999Milliseconds", "hotP99Milliseconds"]
    through = ways["agents"]
    return {
        "mix": name, "writeShare": share, "failed": sum(one["failed"] for one in rounds),
        "errors": [one["errors"] for one in rounds if one["errors"]],
        "cut": cut(sum(one["reads"] for one in through), sum(one["reached"] for one in through)), "counted": counted,
        "latencies": {way: {field: median([one[field] for one in some]) for field in fields} for way, some in ways.items()},
        "p99Ratios": [ours["p99Milliseconds"] / theirs["p99Milliseconds"] for ours, theirs in zip(through, ways["nodes"])]}
