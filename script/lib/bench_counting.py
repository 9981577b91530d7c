"""script/bench counting: what counting every key costs the request path, as a share of the loop's CPU.

The same agent (one event loop, not the coordinator) is asked with the fleet's mode `off`, in which nothing is counted, and with
`observe`, in which every key is counted, reported every 100 ms and pulled by the coordinator, and nothing is done with what is hot. The
request path is the event loop's thread; the whole process, where a thread of its own cuts the reports, stands beside it.
"""

import cluster
from bench_report import bench, median, print_table
from redis_benchmark import KEYS, fill, measure

CONNECTIONS = 50
VALUE_BYTES = 64
OPERATIONS = ["get", "set"]
PIPELINES = [1, 16]
MODES = ["off", "observe"]
PERCENT_MAX = 3.0


def switch(servers, agent, mode):
    servers.hkctl("mode", mode, "--reason", "script/bench counting")
    cluster.wait_until(f"{agent.name} to act as {mode}", lambda: agent.ask("HK.STATUS")["mode"] == mode, process=agent)


def percent(on, off):
    return 100 * (on - off) / off


def run(servers, options, progress):
    servers.start_all(["coordinator"], "--coordinator", "only")
    agent = servers.start_agent("counting", "--threads", "1", "--coordinator", "never")
    cluster.wait_until(f"{agent.name} to be ready", lambda: not agent.unreadiness(), process=agent)
    fill(agent.port, VALUE_BYTES)
    cases = []
    for operation in OPERATIONS:
        for pipeline in PIPELINES:
            samples = {mode: [] for mode in MODES}
            for number in range(options.rounds):
                for mode in MODES if number % 2 == 0 else MODES[::-1]:
                    progress(f"round {number + 1} of {options.rounds}: {operation}, pipeline {pipeline}, mode {mode}")
                    switch(servers, agent, mode)
                    samples[mode].append(measure(agent, agent.port, operation, VALUE_BYTES, pipeline, CONNECTIONS))
            loop, process = ([percent(on[field], off[field]) for off, on in zip(samples["off"], samples["observe"])]
                             for field in ("busiestThreadMicroseconds", "cpuMicroseconds"))
            cases.append({
                "operation": operation, "pipeline": pipeline,
                "medians": {mode: {field: median([one[field] for one in samples[mode]]) for field in samples[mode][0]}
                            for mode in MODES},
                "loopPercent": median(loop), "loopPercentMin": min(loop), "loopPercentMax": max(loop),
                "processPercent": median(process), "holds": median(loop) <= PERCENT_MAX})
    return {"connections": CONNECTIONS, "keys": KEYS, "valueBytes": VALUE_BYTES, "percentMax": PERCENT_MAX, "cases": cases}


def show(result):
    print(f"{result['connections']} connections, {result['keys']:,} keys drawn evenly, {result['valueBytes']} B, medians of "
          f"{result['rounds']} rounds. CPU in µs per request: of the event loop's thread, and of the whole process. Counting may "
          f"cost the loop {result['percentMax']:.0f} %.")
    rows = [["request", "pipeline", "loop, off", "loop, counting", "loop's cost", "process, off", "process, counting",
             "process's cost", "holds"]]
    for case in result["cases"]:
        off, on = (case["medians"][mode] for mode in MODES)
        rows.append([
            case["operation"].upper(), str(case["pipeline"]), f"{off['busiestThreadMicroseconds']:.2f}",
            f"{on['busiestThreadMicroseconds']:.2f}",
            f"{case['loopPercent']:.1f} % ({case['loopPercentMin']:.1f} to {case['loopPercentMax']:.1f})",
            f"{off['cpuMicroseconds']:.2f}", f"{on['cpuMicroseconds']:.2f}", f"{case['processPercent']:.1f} %",
            "yes" if case["holds"] else "no"])
    print_table(rows)


if __name__ == "__main__":
    bench("counting", 7, run, show)
