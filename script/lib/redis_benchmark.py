"""Runs redis-benchmark, and what its runs need: keys that are there, and the CPU of the process that is asked."""

import os
import re
import socket
import subprocess

import cluster
from load import command

KEYS = 100_000
# The key that redis-benchmark asks for when it is told of one key alone.
ONE_KEY = f"key:{0:012d}"
# Requests in one run, by bytes of a value and pipeline: some seconds, so that the clock's tick of 10 ms does not count.
REQUESTS = {(64, 1): 100_000, (64, 16): 600_000, (4096, 1): 80_000, (4096, 16): 200_000}
WARM_UP_SHARE = 0.1
RUN_SECONDS_MAX = 300
FILL_BATCH = 500
TAIL_SHARE = 0.999
DISTRIBUTION_ROW = re.compile(r"<= ([\d.]+) milliseconds \(cumulative count (\d+)\)")


def fill(port, value_bytes):
    """Stores every key that redis-benchmark will ask for."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        replies = connection.makefile("rb")
        for start in range(0, KEYS, FILL_BATCH):
            connection.sendall(b"".join(
                command("SET", f"key:{number:012d}", b"x" * value_bytes) for number in range(start, start + FILL_BATCH)))
            for _ in range(FILL_BATCH):
                reply = replies.readline()
                if reply != b"+OK\r\n":
                    raise cluster.Failure(f"a SET on port {port} was answered with {reply[:200]!r}")


def drive(port, operation, value_bytes, pipeline, requests, connections, keys=KEYS):
    """One run; requests a second and latencies in milliseconds.

    The CSV form has no p99.9, so the long form is read. It prints the latency below which 99.902 % lie, and a second list in
    steps of 0.1 ms and 1 ms: p99.9 is the least latency in either that at least 99.9 % of the requests did not exceed.
    """
    done = subprocess.run([
        "redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-t", operation, "-d", str(value_bytes), "-c",
        str(connections), "-r", str(keys), "-P", str(pipeline), "-n", str(requests), "--precision", "3"],
        capture_output=True, text=True, timeout=RUN_SECONDS_MAX)
    text = done.stdout.replace("\r", "\n")
    throughput = re.search(r"throughput summary: ([\d.]+) requests per second", text)
    summary = re.search(r"avg +min +p50 +p95 +p99 +max\s+([\d. ]+)", text)
    rows = [(float(latency), int(count)) for latency, count in DISTRIBUTION_ROW.findall(text)]
    total = max((count for _, count in rows), default=0)
    if done.returncode != 0 or not throughput or not summary or total < requests or "Error" in done.stderr:
        raise cluster.Failure(f"redis-benchmark {operation} on port {port} failed:\n{text[-2_000:]}{done.stderr}")
    _, _, median, _, p99, _ = (float(field) for field in summary[1].split())
    return {
        "requestsPerSecond": float(throughput[1]),
        "medianMilliseconds": median,
        "p99Milliseconds": p99,
        "p999Milliseconds": max(p99, min(latency for latency, count in rows if count >= total * TAIL_SHARE)),
    }


def thread_seconds(pid):
    """CPU time of each thread so far, by its number."""
    ticks = os.sysconf("SC_CLK_TCK")
    seconds = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
        seconds[thread] = (int(fields[11]) + int(fields[12])) / ticks
    return seconds


def measure(server, port, operation, value_bytes, pipeline, connections, keys=KEYS):
    """Figures of one run after a short one that warms up: CPU of the server's process, throughput, latency."""
    requests = REQUESTS[value_bytes, pipeline]
    drive(port, operation, value_bytes, pipeline, int(requests * WARM_UP_SHARE), connections, keys)
    before, threads_before = server.cpu_seconds(), thread_seconds(server.pid)
    run = drive(port, operation, value_bytes, pipeline, requests, connections, keys)
    after, threads_after = server.cpu_seconds(), thread_seconds(server.pid)
    user, system = (now - then for now, then in zip(after, before))
    busiest = max(seconds - threads_before.get(thread, 0) for thread, seconds in threads_after.items())
    return {
        "userMicroseconds": user / requests * 1e6,
        "systemMicroseconds": system / requests * 1e6,
        "cpuMicroseconds": (user + system) / requests * 1e6,
        "busiestThreadMicroseconds": busiest / requests * 1e6,
        **run,
    }
