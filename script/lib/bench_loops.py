"""script/bench loops: what an agent with two event loops carries, against one with one, where the cores are free.

On a machine whose cores are not free (redis-benchmark and the nodes need some, too) throughput cannot say it, CPU time can: a
loop is full when it uses a whole core, so what a loop can carry is the inverse of the CPU time that its thread spends on a
request. Loops share no lock, and one loop's work does not wait for the other's. With two loops the busier one is full first, so
two loops carry

    (CPU of the one loop per request) / (CPU of the busier of the two, per request that both carried)

times one loop's requests. That counts what dearer requests (smaller batches) cost, and an uneven share of the clients; it does not
count what two cores take from each other in shared caches and memory when both are full. Both agents serve the same number of
clients, and neither coordinates.
"""

import cluster
from bench_report import bench, median, print_table
from redis_benchmark import KEYS, fill, measure

# Twice what script/bench proxy takes, so that each of two loops has as many.
CONNECTIONS = 100
VALUE_BYTES = 64
OPERATIONS = ["get", "set"]
PIPELINES = [1, 16]
FACTOR_MIN = 1.8


def run(servers, options, progress):
    servers.start_all(["coordinator"], "--coordinator", "only")
    agents = {loops: servers.start_agent(f"loops-{loops}", "--threads", str(loops), "--coordinator", "never")
              for loops in (1, 2)}
    for agent in agents.values():
        cluster.wait_until(f"{agent.name} to be ready", lambda agent=agent: not agent.unreadiness(), process=agent)
    fill(agents[1].port, VALUE_BYTES)
    cases = []
    for operation in OPERATIONS:
        for pipeline in PIPELINES:
            samples = {1: [], 2: []}
            for number in range(options.rounds):
                for loops in (1, 2) if number % 2 == 0 else (2, 1):
                    progress(f"round {number + 1} of {options.rounds}: {operation}, pipeline {pipeline}, loops: {loops}")
                    samples[loops].append(
                        measure(agents[loops], agents[loops].port, operation, VALUE_BYTES, pipeline, CONNECTIONS))
            pairs = list(zip(samples[1], samples[2]))
            factors = [one["busiestThreadMicroseconds"] / two["busiestThreadMicroseconds"] for one, two in pairs]
            cases.append({
                "operation": operation, "pipeline": pipeline,
                "medians": {str(loops): {field: median([one[field] for one in samples[loops]]) for field in samples[loops][0]}
                            for loops in samples},
                "cpuRatio": median([two["cpuMicroseconds"] / one["cpuMicroseconds"] for one, two in pairs]),
                "factor": median(factors), "factorMin": min(factors), "factorMax": max(factors),
                "holds": median(factors) >= FACTOR_MIN})
    return {"connections": CONNECTIONS, "keys": KEYS, "valueBytes": VALUE_BYTES, "factorRequired": FACTOR_MIN, "cases": cases}


def show(result):
    print(f"{result['connections']} connections, {result['keys']:,} keys, {result['valueBytes']} B, medians of {result['rounds']} "
          "rounds. CPU in µs per request: of the whole process, and of its busiest thread, a loop. Two loops carry the busiest "
          "thread's CPU with one loop divided by that with two, as often as one loop's requests where each has a core to itself; "
          f"at least {result['factorRequired']} times must hold. Requests a second are those of this machine, whose cores the "
          "nodes and redis-benchmark share.")
    rows = [["request", "pipeline", "loops", "CPU", "busiest loop", "requests/s", "p99 ms", "CPU / one loop's", "two carry", "holds"]]
    for case in result["cases"]:
        for loops, one in case["medians"].items():
            last = loops == "2"
            rows.append([
                case["operation"].upper(), str(case["pipeline"]), loops, f"{one['cpuMicroseconds']:.2f}",
                f"{one['busiestThreadMicroseconds']:.2f}", f"{one['requestsPerSecond']:,.0f}", f"{one['p99Milliseconds']:.3f}",
                f"{case['cpuRatio']:.2f}" if last else "",
                f"{case['factor']:.2f} ({case['factorMin']:.2f} to {case['factorMax']:.2f})" if last else "",
                ("yes" if case["holds"] else "no") if last else ""])
    print_table(rows)


if __name__ == "__main__":
    bench("loops", 5, run, show)
