"""script/bench proxy: the agent, with one thread, beside twemproxy, before the same three Redis nodes in the same run.

The two take turns, and who begins alternates, so that what else the machine does falls on both. CPU is the proxy
process's own, user and system, from /proc/PID/stat, divided by the requests that redis-benchmark sent through it. The
sum is exact to a clock tick; how the kernel splits it into user and system is an estimate.
"""

import csv
import io
import subprocess

import cluster
from bench_report import bench, median, print_table

KEYS = 100_000
VALUE_BYTES = 64
CONNECTIONS = 50
OPERATIONS = ["get", "set"]
# Requests in one run, by pipeline: some seconds, so that the clock's tick of 10 ms does not count.
REQUESTS = {1: 120_000, 16: 800_000}
WARM_UP_SHARE = 0.1
RUN_SECONDS_MAX = 300


def fill(port):
    """Stores every key that redis-benchmark will ask for, through twemproxy: the agent must find them."""
    client = cluster.redis_client(port)
    value = b"x" * VALUE_BYTES
    for start in range(0, KEYS, 1_000):
        pipeline = client.pipeline(transaction=False)
        for number in range(start, start + 1_000):
            pipeline.set(f"key:{number:012d}", value)
        pipeline.execute()


def drive(port, operation, pipeline, requests):
    """One run of redis-benchmark; its one line of results."""
    done = subprocess.run([
        "redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-t", operation, "-d", str(VALUE_BYTES), "-c",
        str(CONNECTIONS), "-r", str(KEYS), "-P", str(pipeline), "-n", str(requests), "--csv"],
        capture_output=True, text=True, timeout=RUN_SECONDS_MAX)
    rows = [row for row in csv.DictReader(io.StringIO(done.stdout)) if (row.get("test") or "").lower() == operation]
    if done.returncode != 0 or len(rows) != 1:
        raise cluster.Failure(f"redis-benchmark {operation} on port {port} failed:\n{done.stdout}{done.stderr}")
    return rows[0]


def measure(server, port, operation, pipeline):
    """Figures of one run."""
    requests = REQUESTS[pipeline]
    drive(port, operation, pipeline, int(requests * WARM_UP_SHARE))
    user, system = server.cpu_seconds()
    row = drive(port, operation, pipeline, requests)
    user, system = (after - before for after, before in zip(server.cpu_seconds(), (user, system)))
    return {
        "userMicroseconds": user / requests * 1e6,
        "systemMicroseconds": system / requests * 1e6,
        "cpuMicroseconds": (user + system) / requests * 1e6,
        "requestsPerSecond": float(row["rps"]),
        "medianMilliseconds": float(row["p50_latency_ms"]),
        "p99Milliseconds": float(row["p99_latency_ms"]),
    }


def check_placement(agent):
    """What twemproxy stored is found through the agent: otherwise the two do different work."""
    pipeline = agent.client.pipeline(transaction=False)
    for number in range(0, KEYS, 100):
        pipeline.get(f"key:{number:012d}")
    missing = sum(value is None for value in pipeline.execute())
    if missing:
        raise cluster.Failure(f"{missing} of {KEYS // 100} keys that twemproxy stored are not found through the agent")


def run(servers, options, progress):
    servers.start_all(["bench"], "--threads", "1")
    agent = servers.agents[0]
    nutcracker, nutcracker_port = servers.start_nutcracker()
    fill(nutcracker_port)
    check_placement(agent)
    proxies = {"agent": (agent, agent.port), "nutcracker": (nutcracker, nutcracker_port)}
    samples = {}
    for number in range(options.rounds):
        for operation in OPERATIONS:
            for pipeline in REQUESTS:
                names = list(proxies) if number % 2 == 0 else list(reversed(proxies))
                for name in names:
                    progress(
                        f"round {number + 1} of {options.rounds}: {operation.upper()}, pipeline {pipeline}, {name}")
                    samples.setdefault((operation, pipeline, name), []).append(
                        measure(*proxies[name], operation, pipeline))
    cases = []
    for operation in OPERATIONS:
        for pipeline in REQUESTS:
            medians = {name: {field: median([sample[field] for sample in samples[operation, pipeline, name]])
                              for field in samples[operation, pipeline, name][0]} for name in proxies}
            ratios = [ours["cpuMicroseconds"] / theirs["cpuMicroseconds"] for ours, theirs in zip(
                samples[operation, pipeline, "agent"], samples[operation, pipeline, "nutcracker"])]
            cases.append({
                "operation": operation.upper(), "pipeline": pipeline, **medians, "cpuRatio": median(ratios),
                "cpuRatioMin": min(ratios), "cpuRatioMax": max(ratios)})
    return {"connections": CONNECTIONS, "keys": KEYS, "valueBytes": VALUE_BYTES, "cases": cases}


def show(result):
    print(f"{result['connections']} connections, {result['keys']:,} keys, {result['valueBytes']} B, medians of "
          f"{result['rounds']} rounds; CPU of the proxy process in µs per request; last the ratio of the CPUs, median "
          "and range over the rounds")
    rows = [["", "pipeline", "proxy", "user", "system", "CPU", "requests/s", "p50 ms", "p99 ms", "agent/nutcracker"]]
    for case in result["cases"]:
        for name in ("agent", "nutcracker"):
            one = case[name]
            rows.append([
                case["operation"], str(case["pipeline"]), name, f"{one['userMicroseconds']:.2f}",
                f"{one['systemMicroseconds']:.2f}", f"{one['cpuMicroseconds']:.2f}", f"{one['requestsPerSecond']:,.0f}",
                f"{one['medianMilliseconds']:.3f}", f"{one['p99Milliseconds']:.3f}",
                f"{case['cpuRatio']:.2f} ({case['cpuRatioMin']:.2f} to {case['cpuRatioMax']:.2f})"
                if name == "agent" else ""])
    print_table(rows)


bench("proxy", 5, run, show)
