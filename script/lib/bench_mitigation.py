"""script/bench mitigation: what acting on hot keys does for the nodes and for clients, and whether it does what it has to.

Five steps, each with servers of its own: what reaches the nodes under a Zipf distribution (zipf), how evenly copies spread one key
(copies), a node killed under load (killed), what is left of copies (left), and switching off (off).
"""

import random

import cluster
from bench_report import bench, print_table, quantile
from mitigation_steps import copies, killed, left, switched_off
from mitigation_zipf import zipf

STEPS = {"zipf": zipf, "copies": copies, "killed": killed, "left": left, "off": switched_off}
CUT_MIN = {"reads": ("all keys", "cut", 0.90), "writes": ("hot keys", "hotCut", 0.99)}
MIX_NAMES = {"reads": "reads only", "writes": "99 % reads, 1 % writes"}
P99_RATIO_MAX = 1.0
BUSIEST_OVER_MEAN_MAX = 1.25
REJECTED_MILLISECONDS_MAX = 5
NORMAL_SECONDS_MAX = 2
FILLS_MAX = 1
# Between an expiry and the look at the node that finds nothing.
LEFT_TOLERANCE_SECONDS = 0.3
OFF_SECONDS_MAX = 1
SPREADS = {"copies": "the agents' choice", "random": "random choice", "home": "single home"}


def check(what, bound, measured, holds):
    return {"what": what, "bound": bound, "measured": measured, "holds": bool(holds)}


def checks_of_zipf(result):
    for case in result["cases"]:
        keys, field, least = CUT_MIN[case["mix"]]
        value = case["counted"][field]
        name = MIX_NAMES[case["mix"]]
        yield check(f"{name}: GETs at nodes cut, {keys}", f"at least {least:.0%}", f"{value:.1%}", value >= least)
        p99 = {way: case["latencies"][way]["p99Milliseconds"] for way in ("agents", "nodes")}
        ratio = p99["agents"] / p99["nodes"]
        yield check(f"{name}: clients' p99, through agents / direct", f"at most {P99_RATIO_MAX:g}",
                    f"{ratio:.2f}", ratio <= P99_RATIO_MAX)
        yield check(f"{name}: requests that failed", "0", f"{case['failed']}", case["failed"] == 0)


def checks_of_copies(result):
    for row in result["rows"]:
        if row["spread"] == "copies":
            yield check(f"{row['copies']} copies: busiest node / mean, GETs", f"at most {BUSIEST_OVER_MEAN_MAX}",
                        f"{row['readsRatio']:.2f}", row["readsRatio"] <= BUSIEST_OVER_MEAN_MAX)
            yield check(f"{row['copies']} copies: requests that failed", "0", f"{row['failed']}", row["failed"] == 0)


def checks_of_killed(result):
    rounds = result["rounds"]
    failed = sum(row["hotFailed"] for row in rounds)
    yield check("hot keys of the node: reads not answered", "0", f"{failed} of {sum(row['hotSent'] for row in rounds):,}", failed == 0)
    slowest = max((seconds for row in rounds for seconds in row["rejectedSeconds"]), default=0) * 1_000
    agents = min(row["breakersOpened"] for row in rounds)
    yield check("its breaker opened at all agents", "3", f"{agents}", agents == 3)
    yield check("its other keys, breaker open: slowest error", f"at most {REJECTED_MILLISECONDS_MAX} ms", f"{slowest:.1f} ms",
                slowest <= REJECTED_MILLISECONDS_MAX)
    normal = max(row["normalAfterSeconds"] for row in rounds)
    yield check("its other keys: last error after its return", f"at most {NORMAL_SECONDS_MAX} s", f"{normal:.2f} s",
                normal <= NORMAL_SECONDS_MAX)
    elsewhere = sum(row["failedElsewhere"] for row in rounds)
    yield check("keys of other nodes: reads not answered", "0", f"{elsewhere}", elsewhere == 0)
    most = max(row["mostFills"] for row in rounds)
    yield check(f"most fills of a key by one agent within {result['intervalMilliseconds']:.0f} ms", f"{FILLS_MAX}", f"{most}",
                most <= FILLS_MAX)


def checks_of_left(result):
    for what in dict.fromkeys(row["what"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["what"] == what]
        late = max(row["goneSeconds"] - row["lifeSeconds"] for row in rows)
        yield check(f"{what}: the last copy gone", f"at most {LEFT_TOLERANCE_SECONDS:g} s after the longest life", f"{late:.2f} s",
                    late <= LEFT_TOLERANCE_SECONDS)
        before = min(row["before"] for row in rows)
        yield check(f"{what}: copies before", "above 0", f"{before}", before > 0)


def checks_of_off(result):
    for field, what in [("otherSeconds", "the others plain, from the start of hkctl"),
                        ("stoppedSeconds", "the stopped one plain, from its waking")]:
        slowest = max(result[field])
        yield check(f"coordinator stopped: {what}", f"at most {OFF_SECONDS_MAX} s", f"{slowest:.2f} s", slowest <= OFF_SECONDS_MAX)


CHECKS = {"zipf": checks_of_zipf, "copies": checks_of_copies, "killed": checks_of_killed, "left": checks_of_left, "off": checks_of_off}


def run(_, options, progress):
    seed = options.seed or random.randrange(1, 1_000_000_000)
    progress(f"seed {seed}")
    words = options.only.split(",") if options.only else list(STEPS)
    if set(words) - set(STEPS):
        raise cluster.Failure("--only takes some of: " + ", ".join(STEPS))
    steps, checks = {}, []
    for name in [name for name in STEPS if name in words]:
        progress(name)
        with cluster.Cluster(options.binaries, f"hotkey-bench-{name}-") as servers:
            steps[name] = STEPS[name](servers, seed, progress)
            found = [{"step": name, **each} for each in CHECKS[name](steps[name])]
            servers.keep_directory = not all(each["holds"] for each in found)
        # A cluster that ends leaves signals ignored.
        cluster.stop_on_signals()
        checks += found
    return {
        "seed": seed, "steps": steps, "checks": checks,
        "problems": [f"{each['what']}: {each['measured']}, but {each['bound']} is allowed" for each in checks if not each["holds"]]}


def show_zipf(result):
    rule = result["rule"]
    print(f"{result['keys']:,} keys, Zipf {result['exponent']}, {result['rate']:,} requests a second from three processes with 8 "
          f"connections to each server. Rule: hot from {rule['thresholdPerSecond']} a second, action {rule['action']}, staleness cap "
          f"{rule['stalenessCapMilliseconds'] // 1_000} s, cool-down {rule['coolDownSeconds']} s, write-hot ratio "
          f"{rule['writeHotRatio']}.\n")
    print_table([["requests", "hot keys", "their part of GETs", "GETs at nodes cut, all keys", "hot keys alone",
                  "taken by writes and read anew, at most", "fills not told of changes", "publications a second"]] + [
        [MIX_NAMES[case["mix"]], f"{counted['hotKeys']:,}", f"{counted['hotSent'] / counted['sent']:.1%}", f"{counted['cut']:.1%}",
         f"{counted['hotCut']:.1%}", f"{counted['hotWrites'] * result['agents'] / counted['hotSent']:.1%} of GETs of hot keys",
         f"{counted['fillsUntracked']:.0f}", f"{counted['publications']:.1f}"]
        for case in result["cases"] for counted in [case["counted"]]])
    print(f"Latencies of GETs in ms, medians of {result['rounds']} rounds in turns:\n")
    print_table([["requests", "asked", "p50", "p99", "p99.9", "p99 of hot keys"]] + [
        [MIX_NAMES[case["mix"]], name, *(f"{case['latencies'][way][field]:.2f}" for field in (
            "p50Milliseconds", "p99Milliseconds", "p999Milliseconds", "hotP99Milliseconds"))]
        for case in result["cases"] for way, name in [("agents", "through agents"), ("nodes", "direct")]])


def show_copies(result):
    print(f"One key at {result['hotShares']} times the {result['shareRate']} reads a second that each node has besides; one node more "
          "than copies. Busiest node over the mean of all.\n")
    print_table([["copies", "nodes", "spread by", "GETs, busiest / mean", "processor, busiest / mean", "GETs a second of the busiest"]] + [
        [str(row["copies"]), str(len(row["nodeReads"])), SPREADS[row["spread"]], f"{row['readsRatio']:.2f}", f"{row['cpuRatio']:.2f}",
         f"{max(row['nodeReads']) / row['seconds']:,.0f}"] for row in result["rows"]])


def milliseconds(seconds, share):
    return f"{quantile(seconds, share) * 1_000:.2f}" if seconds else ""


def show_killed(result):
    print(f"{result['rate']:,} requests a second, half of them for hot keys; a node killed {len(result['rounds'])} times for "
          f"{result['downSeconds']:.0f} to {result['downSeconds'] + 1:.0f} s, back with its data.\n")
    print_table([["node", "its hot keys: reads", "not answered", "breakers open after ms", "errors before", "errors after",
                  "p50 ms", "p99 ms", "most ms", "hot keys elsewhere: most ms", "normal after s", "fills of hot keys",
                  "most by an agent in an interval"]] + [
        [row["node"], f"{row['hotSent']:,}", str(row["hotFailed"]), f"{row['openedSeconds'] * 1_000:.0f}",
         f"{len(row['failedBeforeSeconds']):,}", f"{len(row['rejectedSeconds']):,}", milliseconds(row["rejectedSeconds"], 0.5),
         milliseconds(row["rejectedSeconds"], 0.99), milliseconds(row["rejectedSeconds"], 1), milliseconds(row["othersSeconds"], 1),
         f"{row['normalAfterSeconds']:.2f}", f"{row['fills']:,}", str(row["mostFills"])] for row in result["rounds"]])


def show_left(result):
    print(f"{result['keys']} hot keys with 2 copies each on four nodes; looked at by SCAN. They cool under reads that go on.\n")
    print_table([["when", "copies before", "copies then", "the longest of them lives s", "the last one gone after s"]] + [
        [row["what"], str(row["before"]), str(row["then"]), f"{row['lifeSeconds']:.2f}", f"{row['goneSeconds']:.2f}"]
        for row in result["rows"]])


def show_off(result):
    print(f"`hkctl mode off` {result['rounds']} times while the coordinator is stopped (SIGSTOP), every other time until its session has "
          "ended: the last read that an agent answered without its node.\n")
    print_table([["agents", "times", "p50 ms", "most ms"]] + [
        [name, str(len(result[field])), milliseconds(result[field], 0.5), milliseconds(result[field], 1)]
        for field, name in [
            ("otherSeconds", "the others, from the start of hkctl"), ("stoppedSeconds", "the stopped one, from its waking")]])


SHOWS = {"zipf": show_zipf, "copies": show_copies, "killed": show_killed, "left": show_left, "off": show_off}


def show(result):
    print(f"Seed {result['seed']}.\n")
    for name, step in result["steps"].items():
        SHOWS[name](step)
    print("What must hold:")
    print_table([["step", "what", "bound", "measured", "holds"]] + [
        [each["step"], each["what"], each["bound"], each["measured"], "yes" if each["holds"] else "**no**"]
        for each in result["checks"]])


if __name__ == "__main__":
    bench("mitigation", None, run, show, [("--seed", {"type": int, "default": None}), ("--only", {"default": ""})])
