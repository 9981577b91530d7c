"""script/bench proxy: the agent, with one loop, beside twemproxy, before the same three Redis nodes in the same run; and
beside them a direct connection to a Redis node of the same kind.

They take turns, and who begins changes, so that what else the machine does falls on all. CPU is that of the process that
redis-benchmark talks to, user and system, from /proc/PID/stat, divided by the requests that were sent to it. The sum is exact
to a clock tick; how the kernel splits it into user and system is an estimate. The agent is its own coordinator meanwhile: what
that costs is counted.
"""

import cluster
from bench_report import bench, median, print_table
from redis_benchmark import KEYS, ONE_KEY, REQUESTS, fill, measure

CONNECTIONS = 50
OPERATIONS = ["get", "set", "hot"]
VALUE_BYTES = sorted({value_bytes for value_bytes, _ in REQUESTS})
PIPELINES = sorted({pipeline for _, pipeline in REQUESTS})
# CPU per request: at most so much of nutcracker's, by pipeline.
NUTCRACKER_SHARE_MAX = {1: 0.9, 16: 0.4}
# A run counts as locally served when at least this share of its requests was; the rest are the fills after each staleness cap.
LOCAL_SHARE_MIN = 0.99


def cases_of(only):
    """Operation, bytes of a value and pipeline of each measurement that --only asks for."""
    words = [word for word in only.lower().split(",") if word]
    known = {*OPERATIONS, *map(str, VALUE_BYTES), *map(str, PIPELINES)}
    for word in words:
        if word not in known:
            raise cluster.Failure(f"--only: expected some of {', '.join(sorted(known))}, separated by commas, found '{word}'")

    def chosen(values):
        return [value for value in values if str(value) in words] or values
    return [(operation, value_bytes, pipeline) for value_bytes in chosen(VALUE_BYTES) for operation in chosen(OPERATIONS)
            for pipeline in chosen(PIPELINES)]


def check_placement(agent):
    """What twemproxy stored is found through the agent: otherwise the two do different work."""
    pipeline = agent.client.pipeline(transaction=False)
    for number in range(0, KEYS, 100):
        pipeline.get(f"key:{number:012d}")
    missing = sum(value is None for value in pipeline.execute())
    if missing:
        raise cluster.Failure(f"{missing} of {KEYS // 100} keys that twemproxy stored are not found through the agent")


class Subjects:
    """What is measured: the server process, and the port that redis-benchmark is pointed at."""

    def __init__(self, servers):
        self.servers = servers
        servers.start_all(["bench"], "--threads", "1")
        self.agent = servers.agents[0]
        self.nutcracker, nutcracker_port = servers.start_nutcracker()
        # Not one of the three: it holds all keys, as no node behind a proxy does, and nothing else asks it.
        direct = servers.start_node("direct")
        direct.wait_until_answering()
        self.ports = {
            "agent": (self.agent, self.agent.port), "nutcracker": (self.nutcracker, nutcracker_port),
            "direct": (direct, direct.port)}

    def fill(self, value_bytes):
        fill(self.ports["nutcracker"][1], value_bytes)
        fill(self.ports["direct"][1], value_bytes)
        check_placement(self.agent)

    def pin(self):
        """Makes the one key hot."""
        self.servers.hkctl("pin", ONE_KEY, "--copies", "0", "--reason", "script/bench proxy")

        def is_local():
            self.agent.client.get(ONE_KEY)
            return self.agent.ask("HK.ROUTE", ONE_KEY)["reading"] == "local-cache"
        cluster.wait_until(f"{ONE_KEY} to be served locally", is_local, process=self.agent)

    def measure(self, name, operation, value_bytes, pipeline):
        server, port = self.ports[name]
        if operation != "hot":
            return measure(server, port, operation, value_bytes, pipeline, CONNECTIONS)
        hits = self.agent.metric("hotkey_local_hits_total")
        requests = self.agent.metric("hotkey_requests_total")
        sample = measure(server, port, "get", value_bytes, pipeline, CONNECTIONS, keys=1)
        if name == "agent":
            share = (self.agent.metric("hotkey_local_hits_total") - hits) / max(
                1, self.agent.metric("hotkey_requests_total") - requests)
            sample["localShare"] = share
            if share < LOCAL_SHARE_MIN:
                raise cluster.Failure(f"only {share:.1%} of the requests for {ONE_KEY} were answered locally")
        return sample


def names_of(operation):
    return ["agent", "direct"] if operation == "hot" else ["agent", "nutcracker", "direct"]


def ratios(samples, name, field):
    """The agent's figure divided by the other's, round by round."""
    values = [ours[field] / theirs[field] for ours, theirs in zip(samples["agent"], samples[name])]
    return {"median": median(values), "min": min(values), "max": max(values)}


def summary(operation, value_bytes, pipeline, samples):
    others = [name for name in names_of(operation) if name != "agent"]
    return {
        "operation": operation, "valueBytes": value_bytes, "pipeline": pipeline,
        "medians": {name: {field: median([one[field] for one in samples[name]]) for field in samples[name][0]}
                    for name in samples},
        "cpuRatios": {name: ratios(samples, name, "cpuMicroseconds") for name in others},
        "p99Ratios": {name: ratios(samples, name, "p99Milliseconds") for name in others},
    }


def run(servers, options, progress):
    cases = cases_of(options.only)
    subjects = Subjects(servers)
    samples = {case: {name: [] for name in names_of(case[0])} for case in cases}
    for value_bytes in VALUE_BYTES:
        of_size = [case for case in cases if case[1] == value_bytes]
        if not of_size:
            continue
        progress(f"storing {KEYS:,} values of {value_bytes} B")
        subjects.fill(value_bytes)
        for number in range(options.rounds):
            for operation, _, pipeline in of_size:
                names = names_of(operation)
                first = number % len(names)
                if operation == "hot":
                    subjects.pin()
                for name in names[first:] + names[:first]:
                    progress(f"{value_bytes} B, round {number + 1} of {options.rounds}: {operation}, pipeline {pipeline}, {name}")
                    samples[operation, value_bytes, pipeline][name].append(
                        subjects.measure(name, operation, value_bytes, pipeline))
                if operation == "hot":
                    servers.hkctl("unpin", ONE_KEY)
    summaries = [summary(*case, samples[case]) for case in cases]
    return {"connections": CONNECTIONS, "keys": KEYS, "cases": summaries,
            "checks": [check for case in summaries for check in checks_of(case)]}


def title(case):
    what = "GET of one hot key" if case["operation"] == "hot" else case["operation"].upper()
    return f"{what}, {case['valueBytes']} B, pipeline {case['pipeline']}"


def checks_of(case):
    """What the agent has to keep to, and whether it did."""
    if case["operation"] == "hot":
        for field, what in (("cpuRatios", "CPU"), ("p99Ratios", "p99")):
            value = case[field]["direct"]["median"]
            yield {"case": title(case), "what": f"{what}, agent / direct", "bound": "below 1", "ratio": value, "holds": value < 1}
    else:
        bound, value = NUTCRACKER_SHARE_MAX[case["pipeline"]], case["cpuRatios"]["nutcracker"]["median"]
        yield {
            "case": title(case), "what": "CPU, agent / nutcracker", "bound": f"at most {bound}", "ratio": value,
            "holds": value <= bound}


def show(result):
    print(f"{result['connections']} connections, {result['keys']:,} keys, medians of {result['rounds']} rounds. CPU in µs per "
          "request is that of the process asked: the agent, nutcracker, or the Redis node itself (direct). Latencies in ms; with "
          "a pipeline, of a whole one. The last columns: the agent's CPU and p99 divided by that process's, median over the "
          "rounds and, for CPU, the range.")
    rows = [[
        "request", "value", "pipeline", "asked", "user", "system", "CPU", "requests/s", "p50", "p99", "p99.9", "agent's CPU / this",
        "agent's p99 / this"]]
    for case in result["cases"]:
        for name, one in case["medians"].items():
            ratio = case["cpuRatios"].get(name)
            rows.append([
                "hot GET" if case["operation"] == "hot" else case["operation"].upper(), f"{case['valueBytes']} B",
                str(case["pipeline"]), name, f"{one['userMicroseconds']:.2f}", f"{one['systemMicroseconds']:.2f}",
                f"{one['cpuMicroseconds']:.2f}", f"{one['requestsPerSecond']:,.0f}", f"{one['medianMilliseconds']:.3f}",
                f"{one['p99Milliseconds']:.3f}", f"{one['p999Milliseconds']:.3f}",
                f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})" if ratio else "",
                f"{case['p99Ratios'][name]['median']:.2f}" if ratio else ""])
    print_table(rows)
    print("What must hold, by the medians:")
    print_table([["case", "what", "bound", "measured", "holds"]] + [
        [check["case"], check["what"], check["bound"], f"{check['ratio']:.2f}", "yes" if check["holds"] else "no"]
        for check in result["checks"]])


if __name__ == "__main__":
    bench("proxy", 5, run, show, [("--only", {"default": ""})])
