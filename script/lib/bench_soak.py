"""script/bench soak: mixed load through two agents before three nodes that fail at random, for an hour.

It fails when a reply is not the one to its request, when an error comes that no fault excuses, when an agent ends, or when one
keeps memory, descriptors, threads or clients. Errors while a node is away are counted by kind.
"""

import collections
import json
import os
import random
import time

import cluster
from bench_report import bench, print_table
from soak_faults import GRACE_SECONDS, MIB, SAMPLE_SECONDS, Faults, Samples, readings
from soak_load import SoakLoad

AGENTS = ["host-1", "host-2"]
LOOPS = 2
PROCESSES = 3
# Longer than the defaults, so that a machine that is busy with something else does not look like a node that hangs.
TIMEOUTS = ["--upstream-request-timeout-milliseconds", "2000", "--upstream-connect-timeout-milliseconds", "2000"]
PROGRESS_SECONDS = 30
TICK_SECONDS = 0.05
# No fault begins so shortly before the end.
CALM_END_SECONDS = 12
WARM_UP_SHARE = 0.25
# What counts as a leak. Memory: growth from the first fifth after the warm-up to the last fifth of the load.
MEMORY_GROWTH_BYTES_MAX = 48 * MIB
MEMORY_GROWTH_SHARE_MAX = 0.25
# More than before the load, when all clients are gone: connections to nodes that are kept for the next client, threads of pools.
DESCRIPTORS_KEPT_MAX = 8 * LOOPS * 3
THREADS_KEPT_MAX = 4
SETTLE_SECONDS_MAX = 90
# Low enough for the keys under load to become hot, and short enough for them to cool and become hot again.
RULES = {"schema": 1, "rules": [
    {"pattern": "soak:hot:*", "thresholdPerSecond": 60, "windowMilliseconds": 1_000, "action": "both", "copies": 2,
     "stalenessCapMilliseconds": 1_000, "staleOnErrorCapSeconds": 60, "coolDownSeconds": 3, "minimumHotSeconds": 5},
]}
PINNED = ["soak:hot:0", "soak:hot:1"]
COUNTERS = {
    "localHits": "hotkey_local_hits_total", "copyReads": "hotkey_copy_reads_total", "staleAnswers": "hotkey_stale_answers_total",
    "hotWrites": "hotkey_hot_writes_total", "breakerRejections": "hotkey_breaker_rejections_total"}


def start(servers):
    servers.start_all(AGENTS, "--threads", str(LOOPS), *TIMEOUTS)
    file = os.path.join(servers.directory, "rules.json")
    with open(file, "w", encoding="utf-8") as output:
        json.dump(RULES, output)
    servers.hkctl("rules", "apply", file, "--reason", "script/bench soak")
    for key in PINNED:
        servers.hkctl("pin", key, "--copies", "2", "--reason", "script/bench soak")
    for agent in servers.agents:
        cluster.wait_until(
            f"{agent.name} to apply the pins", lambda agent=agent: agent.metric("hotkey_hot_keys") >= len(PINNED), process=agent)
        # Opens its connections to the nodes.
        for number in range(1_000):
            agent.client.get(f"soak:k:{number}")


def drive(servers, load, faults, samples, seconds, progress):
    """The load's time. Returns when the agents counted as warm."""
    begun = time.monotonic()
    end, next_sample, next_progress = begun + seconds, begun, begun + PROGRESS_SECONDS
    while (now := time.monotonic()) < end:
        faults.tick(now)
        if now >= end - CALM_END_SECONDS:
            faults.finish()
        if now >= next_sample:
            next_sample += SAMPLE_SECONDS
            for agent in servers.agents:
                if agent.has_ended:
                    raise cluster.Failure(f"{agent.name} ended with status {agent.process.poll()}\n{agent.log_tail()}")
            for each in samples:
                each.take(now)
        if now >= next_progress:
            next_progress += PROGRESS_SECONDS
            progress("; ".join(
                "{name}: {memory:.0f} MiB, {descriptors} descriptors, {threads} threads".format(
                    name=agent.name, memory=reading["memoryBytes"] / MIB, **reading)
                for agent, reading in ((agent, readings(agent)) for agent in servers.agents)))
        if not load.is_running():
            raise cluster.Failure("a process of the load ended; what it said stands above")
        time.sleep(TICK_SECONDS)
    return begun + seconds * WARM_UP_SHARE


def settle(servers, samples):
    """Waits until the agents are idle and hold what they held before; remembers what they hold then, or at last."""
    end = time.monotonic() + SETTLE_SECONDS_MAX
    for each in samples:
        while True:
            each.idle_after = readings(each.agent)
            each.clients_after = int(each.agent.metric("hotkey_clients"))
            each.in_flight_after = sum(node["inFlight"] for node in each.agent.ask("HK.STATUS")["nodes"])
            if not list(kept_by(each)) or time.monotonic() > end:
                break
            time.sleep(0.5)


def kept_by(one):
    """What an agent holds although nobody asks it any more."""
    name = one.agent.name
    more = one.idle_after["descriptors"] - one.idle_before["descriptors"]
    if more > DESCRIPTORS_KEPT_MAX:
        yield f"{name} keeps {more} descriptors"
    more = one.idle_after["threads"] - one.idle_before["threads"]
    if more > THREADS_KEPT_MAX:
        yield f"{name} keeps {more} threads"
    if one.clients_after > one.clients_before:
        yield f"{name} keeps {one.clients_after - one.clients_before} clients that are gone"
    if one.in_flight_after > 0:
        yield f"{name} still waits for {one.in_flight_after} replies of nodes"


def growth_of(name, memory):
    grown, allowed = memory["end"] - memory["warm"], max(MEMORY_GROWTH_BYTES_MAX, MEMORY_GROWTH_SHARE_MAX * memory["warm"])
    if grown > allowed:
        yield f"{name} grew by {grown / MIB:.0f} MiB after its warm-up, more than {allowed / MIB:.0f} MiB"


def merged(findings):
    """The findings of all processes, as one."""
    total = {"wrong": 0, "messages": 0, "bytesReceived": 0, "details": []}
    for name in ("requests", "excused", "unexcused", "connections"):
        total[name] = dict(sum((getattr(one, name) for one in findings), collections.Counter()).most_common())
    for one in findings:
        total["wrong"] += one.wrong
        total["messages"] += one.messages
        total["bytesReceived"] += one.bytes_received
        total["details"] += one.details
    return total


def problems_of(found, counters, agents, samples):
    if found["wrong"]:
        yield f"{found['wrong']} replies were wrong"
    if found["unexcused"]:
        yield f"{sum(found['unexcused'].values())} errors came without a fault"
    for name in ("localHits", "copyReads", "hotWrites"):
        if not counters[name]:
            yield f"the load was not what it should be: {name} is 0"
    for one in samples:
        yield from growth_of(one.agent.name, agents[one.agent.name]["memoryBytes"])
        yield from kept_by(one)


def run(servers, options, progress):
    seed = options.seed or random.randrange(1, 1_000_000_000)
    seconds = options.minutes * 60
    progress(f"seed {seed}")
    start(servers)
    load = SoakLoad([agent.port for agent in servers.agents], PROCESSES, options.rate, seed)
    samples = [Samples(agent) for agent in servers.agents]
    faults = Faults(servers.nodes, load.shared, random.Random(seed), progress)
    load.start()
    try:
        warm_up_ends = drive(servers, load, faults, samples, seconds, progress)
        findings = load.stop()
    finally:
        load.kill()
    if None in findings:
        raise cluster.Failure("a process of the load did not end in order; what it said stands above")
    # A fault may still be under way.
    cluster.wait_until("the last fault to be over", lambda: faults.tick(time.monotonic()) or faults.under_way is None)
    progress("the load is over; waiting for the agents to be idle")
    settle(servers, samples)
    found = merged(findings)
    for text in found["details"]:
        progress(text)
    agents = {one.agent.name: one.summary(warm_up_ends) for one in samples}
    counters = {name: int(sum(agent.metric(metric) for agent in servers.agents)) for name, metric in COUNTERS.items()}
    return {
        "seed": seed, "minutes": options.minutes, "requestsPerSecondAsked": options.rate, "faults": faults.counts, **found,
        "agents": agents, "counters": counters, "problems": list(problems_of(found, counters, agents, samples))}


def figure(field, value):
    return f"{value / MIB:,.1f}" if field == "memoryBytes" else f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"


def show(result):
    connections = result["connections"]
    print(f"{result['minutes']} minutes, seed {result['seed']}: {sum(result['requests'].values()):,} requests "
          f"({result['requestsPerSecondAsked']:,} a second were asked for) of {connections.get('opened', 0):,} connections, of "
          f"which {connections.get('left in the middle', 0):,} left in the middle and {connections.get('read slowly', 0):,} times "
          f"one read slowly; {result['messages']:,} messages; {result['bytesReceived'] / MIB:,.0f} MiB of replies, all of them "
          f"checked. {sum(result['faults'].values())} faults. {result['wrong']} wrong replies.\n")
    print("Requests: " + "; ".join(f"{kind} {count:,}" for kind, count in result["requests"].items()) + ".")
    print_table([["fault", "number"]] + [[kind, str(count)] for kind, count in result["faults"].items()])
    print(f"Errors, by whether a fault was under way or had ended less than {GRACE_SECONDS} s before the request was sent:")
    kinds = sorted({*result["excused"], *result["unexcused"]}, key=lambda kind: -result["excused"].get(kind, 0))
    print_table([["error", "with a fault", "without"]] + [
        [kind.replace("|", "\\|"), f"{result['excused'].get(kind, 0):,}", f"{result['unexcused'].get(kind, 0):,}"]
        for kind in kinds])
    print("What the agents hold: before the load and after it, when all clients are gone; when warm and at the end of the load, "
          "means of a fifth of the time after the warm-up (a quarter of the whole); and the slope of a straight line through that "
          "time.")
    titles = {"memoryBytes": "memory, MiB", "descriptors": "descriptors", "threads": "threads"}
    rows = [["agent", "what", "idle before", "warm", "end", "slope an hour", "most", "idle after"]]
    for name, fields in result["agents"].items():
        for field, title in titles.items():
            one = fields[field]
            rows.append([name, title] + [
                figure(field, one[column]) for column in ("idleBefore", "warm", "end", "perHour", "max", "idleAfter")])
    print_table(rows)
    print("Both agents: " + ", ".join(f"{name} {count:,}" for name, count in result["counters"].items()) + ".")
    print("What must not happen, and did: " + "; ".join(result["problems"]) + "." if result["problems"] else
          "No reply was wrong, no error came without a fault, and no agent kept memory "
          f"({MEMORY_GROWTH_BYTES_MAX // MIB} MiB or {MEMORY_GROWTH_SHARE_MAX:.0%} more at the end than when warm), descriptors "
          f"({DESCRIPTORS_KEPT_MAX} more), threads ({THREADS_KEPT_MAX} more), clients or requests.")


if __name__ == "__main__":
    bench("soak", None, run, show, [
        ("--minutes", {"type": int, "default": 60}), ("--rate", {"type": int, "default": 4_000}),
        ("--seed", {"type": int, "default": None})])
