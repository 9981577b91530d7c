"""script/bench staleness: how old what agents serve can be, while everything fails that can, and whether the guarantees hold.

Readers and writers go through three agents and past them. What they saw is judged by staleness_check.py. It fails when a read
through an agent breaks guarantee 1 or is staler than the cap that guarantee 2 names for it.
"""

import collections
import hashlib
import random
import time

import cluster
from bench_report import bench, print_table, quantile
from fault_proxy import FaultProxy
from staleness_check import GUARANTEE_1, GUARANTEE_2, HISTORY, History, Limits, judge_all
from staleness_faults import FAULTS, REQUEST_TIMEOUT_SECONDS, NoFault, Stage, apply_rules, carry_out
from staleness_load import STIR_SECONDS, StalenessLoad

AGENTS = ["host-1", "host-2", "host-3"]
LOOPS = 2
MILLISECONDS = 1_000
CAP_SECONDS, ON_ERROR_SECONDS = 1.0, 4
# Of each family of keys: what is done with them, the rule's copies, and the stale-on-error cap. All have the same staleness cap.
FAMILIES = {
    "both": ("both", 2, 0), "local": ("cache", 0, 0), "copies": ("copies", 2, 0), "kept": ("both", 1, ON_ERROR_SECONDS)}
# With their homes on each of the nodes. Of every two one takes guarded writes.
KEYS_PER_NODE = 2
NODES = ["a", "b", "c"]
KEYS_TRIED_MAX = 1_000
# With tracking and without a fault.
P99_TRACKED_MILLISECONDS_MAX = 10
# Before a fault, and after all is well again; the latter longer than the cap, so that what a fault left behind is seen.
CALM_SECONDS = (0.3, 0.8)
AFTERMATH_SECONDS = CAP_SECONDS + 0.5
VIOLATIONS_SHOWN = 5
COUNTERS = ["localHits", "copyReads", "hotWrites", "staleAnswers"]


def family_of(key):
    return key.split(":")[1]


def rules(random_source=None):
    """The rules of all families; with a source of random numbers others, none of which allows more."""
    def rule(family, action, copies, on_error):
        cap = CAP_SECONDS * MILLISECONDS
        if random_source:
            action, copies = random_source.choice(["observe", "cache", "copies", "both"]), random_source.randint(0, 2)
            cap *= random_source.uniform(0.2, 1)
        return {
            "pattern": f"judge:{family}:*", "thresholdPerSecond": 20, "windowMilliseconds": 1_000, "action": action, "copies": copies,
            "stalenessCapMilliseconds": int(cap), "staleOnErrorCapSeconds": on_error, "coolDownSeconds": 3, "minimumHotSeconds": 3}
    return {"schema": 1, "rules": [rule(family, *details) for family, details in FAMILIES.items()]}


def choose_keys(agent):
    """Keys of every family on every node, and whether their writes are guarded. Where a key lies depends on the nodes' ports.

    twemproxy's FNV puts names that differ in their last digits alone next to each other on the ring, mostly on one node.
    """
    keys = {}
    for family in FAMILIES:
        wanted = dict.fromkeys(NODES, KEYS_PER_NODE)
        for number in range(KEYS_TRIED_MAX):
            key = f"judge:{family}:{hashlib.md5(str(number).encode()).hexdigest()[:8]}"
            home = agent.ask("HK.ROUTE", key)["home"]["name"]
            if wanted[home]:
                wanted[home] -= 1
                keys[key] = wanted[home] % 2 == 0
            if not any(wanted.values()):
                break
        else:
            raise cluster.Failure(f"of {KEYS_TRIED_MAX} keys too few lie on one of the nodes: {wanted}")
    return keys


def start(servers):
    """The servers with a proxy before each node, and keys that are pinned. Returns both."""
    for name in NODES:
        servers.start_node(name)
    ports = {node.node_name: (servers.free_port(), node.port) for node in servers.nodes}
    proxy = FaultProxy(ports)
    try:
        for node in servers.nodes:
            node.address = f"127.0.0.1:{ports[node.node_name][0]}"
        timeout = str(int(REQUEST_TIMEOUT_SECONDS * MILLISECONDS))
        servers.start_fleet(
            AGENTS, "--threads", str(LOOPS), "--upstream-request-timeout-milliseconds", timeout, init_options=["--hash-tag", "{}"])
        apply_rules(servers, rules())
        keys = choose_keys(servers.agents[0])
        for key in keys:
            servers.hkctl("pin", key, "--reason", "script/bench staleness")
        for agent in servers.agents:
            cluster.wait_until(
                f"{agent.name} to apply the pins", lambda agent=agent: agent.metric("hotkey_hot_keys") >= len(keys), process=agent)
    except BaseException:
        proxy.kill()
        raise
    return proxy, keys


def counters_of(servers):
    """Of all agents. One that was killed counts from 0 again."""
    counts = collections.Counter()
    for agent in servers.agents:
        counts.update({name: agent.ask("HK.STATUS")["counters"][name] for name in COUNTERS})
    return counts


def run_phase(stage, kind, progress):
    """What the phase came to."""
    fault = kind(stage)
    seconds = stage.random.uniform(*kind.seconds)
    is_tracking = stage.is_tracking() if kind is NoFault else False
    before = counters_of(stage.servers)
    stage.wait(stage.random.uniform(*CALM_SECONDS))
    stage.load.stir()
    stage.wait(stage.random.uniform(0, STIR_SECONDS))
    carry_out(fault, seconds)
    stage.wait(AFTERMATH_SECONDS)
    after = counters_of(stage.servers)
    settled = time.monotonic()
    writes, reads, deletes, unknown_writes, failed_reads = stage.load.history()
    stage.history.settle(settled)
    stage.history.set_deletes_under_way(deletes)
    for key, write in writes:
        stage.history.add_write(key, write)
    tally = judge_all(stage.history, reads)
    result = {
        "phase": kind.name, "detail": fault.detail, "seconds": seconds, "isTracking": is_tracking,
        "writes": len(writes) - unknown_writes, "unknownWrites": unknown_writes, "failedReads": failed_reads,
        "directReads": tally.direct, "staleness": tally.under_cap, "onError": tally.on_error,
        "counters": {name: max(0, after[name] - before[name]) for name in COUNTERS}, "violations": tally.violations}
    progress(f"{kind.name}{f' ({fault.detail})' if fault.detail else ''}: {len(reads):,} reads, "
             f"worst {worst(tally.under_cap):.0f} ms" + (f", out of reach {worst(tally.on_error):.0f} ms" if tally.on_error else "")
             + (f", {len(tally.violations)} violations" if tally.violations else ""))
    for violation in tally.violations[:VIOLATIONS_SHOWN]:
        progress(f"  {violation}")
    return result


def worst(staleness):
    return max(staleness, default=0) * MILLISECONDS


def p99(staleness):
    return quantile(staleness, 0.99) * MILLISECONDS if staleness else 0


def row_of(name, phases):
    """All phases of one kind as one."""
    under_cap = [each for phase in phases for each in phase["staleness"]]
    on_error = [each for phase in phases for each in phase["onError"]]
    violations = [violation for phase in phases for violation in phase["violations"]]
    return {
        "phase": name, "times": len(phases), "reads": len(under_cap), "stale": sum(each > 0 for each in under_cap),
        "p99Milliseconds": p99(under_cap), "worstMilliseconds": worst(under_cap), "capMilliseconds": CAP_SECONDS * MILLISECONDS,
        "onErrorReads": len(on_error), "onErrorWorstMilliseconds": worst(on_error),
        "onErrorCapMilliseconds": ON_ERROR_SECONDS * MILLISECONDS,
        **{name: sum(phase[name] for phase in phases)
           for name in ("writes", "unknownWrites", "failedReads", "directReads")},
        "counters": {name: sum(phase["counters"][name] for phase in phases) for name in COUNTERS},
        "violations": len(violations)}


def problems_of(rows, violations, is_tracking, is_whole):
    for guarantee, what in ((GUARANTEE_1, "guarantee 1 was broken"), (GUARANTEE_2, "reads were staler than their cap"),
                            (HISTORY, "what was recorded cannot be")):
        count = sum(violation["guarantee"] == guarantee for violation in violations)
        if count:
            yield f"{what}: {count} times"
    calm = calm_row(rows)
    if is_tracking and calm["p99Milliseconds"] > P99_TRACKED_MILLISECONDS_MAX:
        yield (f"with tracking and without a fault, p99 is {calm['p99Milliseconds']:.1f} ms, above "
               f"{P99_TRACKED_MILLISECONDS_MAX} ms")
    if is_whole and not is_tracking:
        yield "the load was not what it should be: some node did not track what the agents held"
    for name in COUNTERS if is_whole else ():
        if not any(row["counters"][name] for row in rows):
            yield f"the load was not what it should be: {name} is 0"


def calm_row(rows):
    return next((row for row in rows if row["phase"] == NoFault.name), None)


def as_json(phase, violation):
    read = violation.read
    return {
        "phase": phase, "guarantee": violation.guarantee, "key": read.key, "agent": read.path, "reader": read.client,
        "sequence": read.sequence, "sent": read.sent, "received": read.received,
        "stalenessMilliseconds": violation.staleness * MILLISECONDS, "capMilliseconds": violation.cap * MILLISECONDS,
        "missed": violation.missed and violation.missed._asdict(), "returned": violation.returned and violation.returned._asdict(),
        "text": str(violation)}


def run(servers, options, progress):
    seed = options.seed or random.randrange(1, 1_000_000_000)
    progress(f"seed {seed}")
    order = random.Random(seed)
    words = options.only.split(",") if options.only else [kind.word for kind in FAULTS]
    kinds = [kind for kind in FAULTS if kind.word in words]
    if len(kinds) < len(words):
        raise cluster.Failure("--only takes some of: " + ", ".join(kind.word for kind in FAULTS))
    proxy, keys = start(servers)
    load = None
    try:
        history = History({key: Limits(CAP_SECONDS, FAMILIES[family_of(key)][2]) for key in keys})
        load = StalenessLoad(
            {agent.id: agent.port for agent in servers.agents}, {node.node_name: node.port for node in servers.nodes}, keys,
            options.rate, seed)
        stage = Stage(servers, proxy, load, history, keys, rules)
        stage.learn_homes()
        phases, began = [], time.monotonic()
        # Each phase at least once, and no round is broken off.
        while not phases or time.monotonic() < began + options.minutes * 60:
            for kind in order.sample(kinds, len(kinds)):
                # A phase of its own: how often others drew depends on time.
                stage.random = random.Random(f"{seed} {len(phases)}")
                phases.append(run_phase(stage, kind, progress))
        seconds = time.monotonic() - began
    finally:
        proxy.kill()
        if load:
            load.kill()
    is_tracking = any(phase["isTracking"] for phase in phases)
    rows = [row_of(kind.name, [phase for phase in phases if phase["phase"] == kind.name]) for kind in kinds]
    violations = [as_json(phase["phase"], each) for phase in phases for each in phase["violations"]]
    return {
        "seed": seed, "minutes": seconds / 60, "requestsPerSecondAsked": options.rate, "isTracking": is_tracking,
        "unforcedOutages": stage.unforced_outages, "phases": rows,
        "violations": violations, "problems": list(problems_of(rows, violations, is_tracking, not options.only))}


def show(result):
    rows = result["phases"]

    def total(name):
        return f"{sum(row[name] for row in rows):,}"
    tracking = (
        "The nodes tracked what the agents held." if result["isTracking"] else
        "The nodes did not track what the agents held, so there were no tracking connections to cut.")
    judged = sum(row["reads"] + row["onErrorReads"] for row in rows)
    print(f"{result['minutes']:.1f} minutes, seed {result['seed']}: {judged:,} reads through three agents judged, "
          f"{total('directReads')} past them; {total('writes')} writes, {total('unknownWrites')} more with an unknown outcome; "
          f"{total('failedReads')} reads were answered with an error or not at all. Staleness cap {CAP_SECONDS * MILLISECONDS:.0f} "
          f"ms; stale-on-error cap {ON_ERROR_SECONDS} s for a quarter of the keys and 0 for the others. {tracking}\n")
    print_table([
        ["phase", "times", "reads", "stale", "p99 ms", "worst ms", "cap ms", "home out of reach: reads", "worst ms", "cap ms",
         "violations"]] + [
        [row["phase"], str(row["times"]), f"{row['reads']:,}", f"{row['stale']:,}", f"{row['p99Milliseconds']:.1f}",
         f"{row['worstMilliseconds']:.1f}", f"{row['capMilliseconds']:.0f}"]
        + ([f"{row['onErrorReads']:,}", f"{row['onErrorWorstMilliseconds']:.1f}", f"{row['onErrorCapMilliseconds']:.0f}"]
           if row["onErrorReads"] else ["", "", ""])
        + [str(row["violations"])] for row in rows])
    counts = collections.Counter()
    for row in rows:
        counts.update(row["counters"])
    if result["unforcedOutages"]:
        print(f"{result['unforcedOutages']} times an agent found a home out of reach that nothing kept it from.")
    print("The agents: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()) + ".")
    for violation in result["violations"][:VIOLATIONS_SHOWN * len(rows)]:
        print(f"{violation['phase']}: {violation['text']}")
    calm = calm_row(rows)
    if calm:
        print(f"Without a fault p99 is {calm['p99Milliseconds']:.1f} ms; with tracking it has to be at most "
              f"{P99_TRACKED_MILLISECONDS_MAX} ms{'' if result['isTracking'] else ', which does not apply here'}.")
    print("What must not happen, and did: " + "; ".join(result["problems"]) + "." if result["problems"] else
          "No read missed a write that its agent had acknowledged, and none was staler than its cap.")


if __name__ == "__main__":
    bench("staleness", None, run, show, [
        ("--minutes", {"type": int, "default": 30}), ("--rate", {"type": int, "default": 1_500}),
        ("--seed", {"type": int, "default": None}), ("--only", {"default": ""})])
