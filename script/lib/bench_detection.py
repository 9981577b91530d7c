"""script/bench detection: what counting costs an agent and merging the coordinator, and what both hold.

One core's processor time, in one process without a network:

1. Counting: `record` with 1,000,000 keys under Zipf 0.99, names in the order of the requests. `full` drains a slice every
   1,000,000 accesses (50 ms at 20 million a second, far more keys than a slice counts exactly), `busy` every 50,000.
2. Reporting: what two loops counted of 200,000 accesses a second over 100,000 keys is judged and put into frames.
3. Merging: frames of 1,000 agents, each as full as its budget allows, keys under Zipf 0.99 over 200,000.
4. `HK.TOP 1000` at a coordinator with 100,000 keys, 10,000 of them hot, and 1,000 rules; and the first decision after a change of the
   rules, which finds the rule of each hot key anew. Fails above 50 ms, because the coordinator does nothing else meanwhile.
5. Memory: an agent with two loops and a coordinator while 10,000,000 distinct keys a minute come by.
"""

import json
import os
import subprocess

import cluster
from bench_report import bench, median, print_table

# The coordinator decides every 100 ms.
TOP_MILLISECONDS_MAX = 50


def measure(servers, part, seed):
    outcome = subprocess.run(
        [os.path.join(servers.binaries, "DetectionDriver"), part, str(seed)], capture_output=True, text=True, check=False)
    if outcome.returncode != 0:
        raise cluster.Failure(f"DetectionDriver {part} ended with {outcome.returncode}: {outcome.stderr.strip()}")
    return json.loads(outcome.stdout)


def run(servers, options, progress):
    result = {}
    for part in ["record", "report", "merge", "top", "memory"]:
        rounds = []
        for number in range(options.rounds if part != "memory" else 1):
            progress(f"{part}, round {number + 1}")
            rounds.append(measure(servers, part, number + 1))
        result[part] = {key: median([each[key] for each in rounds]) for key in rounds[0]}
    judge(result)
    return result


def judge(result):
    most = max(
        result["top"][name + "Milliseconds"] for name in ["of20", "of1000", "firstOf1000", "idleOf1000", "firstDecision"])
    if most > TOP_MILLISECONDS_MAX:
        raise cluster.Failure(
            f"HK.TOP or a decision held up the coordinator for {most:.1f} ms; at most {TOP_MILLISECONDS_MAX} are allowed")


def show(result):
    record, report, merge, memory = result["record"], result["report"], result["merge"], result["memory"]
    top = result["top"]
    rows = [["", "figure", "unit"]]
    for name, label in [("full", "counting, more keys than fit"), ("busy", "counting, a busy loop")]:
        rows.append([label, f"{record[name + 'MillionPerSecond']:.1f}", "million keys a second and core"])
        rows.append([f"{label}, with the hash", f"{record[name + 'HashingMillionPerSecond']:.1f}", "million"])
        rows.append([f"{label}: allocations between drains", f"{record[name + 'Allocations']:.0f}", ""])
    rows.append(["reporting", f"{report['microsecondsPerKey']:.3f}", "µs per distinct key of a slice"])
    rows.append(["reporting at 200,000 accesses a second", f"{100 * report['coreShare']:.2f}", "% of a core"])
    rows.append(["merging", f"{merge['millionEntriesPerSecond']:.2f}", "million entries a second and core"])
    rows.append(["HK.TOP 1000 of 100,000 keys", f"{top['of1000Milliseconds']:.1f}", "ms"])
    rows.append(["HK.TOP 1000, its keys never looked at", f"{top['firstOf1000Milliseconds']:.1f}", "ms"])
    rows.append(["first decision after a change of 1,000 rules, 10,000 hot keys", f"{top['firstDecisionMilliseconds']:.1f}", "ms"])
    rows.append(["HK.TOP 1000, nothing but idle hot keys", f"{top['idleOf1000Milliseconds']:.1f}", "ms"])
    rows.append(["memory at 10 million keys a minute", f"{memory['peakMebibytes']:.1f}", "MiB"])
    print_table(rows)


bench("detection", 3, run, show)
